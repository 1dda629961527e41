//! What is in `deploy`, as far as it can be tried without systemd at work and without a container engine: units do what they
//! say, and the program works in the root of the image.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{ends, files};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_killick");

/// A unit, with the program and folders of this test in place of a machine's.
fn unit(name: &str, place: &Path) -> String {
    let text = fs::read_to_string(deploy().join("systemd").join(name)).unwrap();
    let here = |name: &str| place.join(name).display().to_string();
    text.replace("/usr/local/bin/killick", PROGRAM)
        .replace("/var/lib/killick", &here("site"))
        .replace("/var/backups/killick", &here("backups"))
        .replace("/etc/killick/killick.toml", &here("killick.toml"))
}

fn setting<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// Quick blocks and anchors, above the configuration.
const QUICK: [(&str, &str); 5] = [
    ("KILLICK_ANCHOR__INTERVAL", "300ms"),
    ("KILLICK_ANCHOR__DEPTH", "3"),
    ("KILLICK_ANCHOR__POLL", "50ms"),
    ("KILLICK_PROVE__POLL", "50ms"),
    ("KILLICK_DEVNET__BLOCK_INTERVAL", "100ms"),
];

#[test]
fn the_service_takes_events_from_its_pipe_and_is_backed_up_and_stopped_as_its_units_say() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::copy(deploy().join("killick.example.toml"), path("killick.toml")).unwrap();
    fs::create_dir(path("backups")).unwrap();
    let service = unit("killick.service", place.path());
    assert!(Command::new("mkfifo").arg(path("input")).status().unwrap().success());
    // As systemd opens it: for both, so it has no end.
    let pipe = || OpenOptions::new().read(true).write(true).open(path("input")).unwrap();
    let exec = setting(&service, "ExecStart")[0].split_whitespace().collect::<Vec<_>>();
    let start = || {
        let mut run = Command::new(exec[0]);
        run.args(&exec[1..]).envs(QUICK).stdin(pipe()).stdout(Stdio::null());
        run.envs(
            setting(&service, "Environment").into_iter().map(|variable| variable.split_once('=').unwrap()),
        );
        run.stderr(File::create(path("journal")).unwrap()).spawn().unwrap()
    };
    let mut run = start();
    let mut writer = pipe();
    for id in 0..50 {
        writeln!(writer, "{{\"id\":\"{id}\",\"value\":{}}}", id * id).unwrap();
    }
    let begun = Instant::now();
    while !fs::read_to_string(path("journal")).unwrap().contains("proven")
        && !path("site/backup.sock").exists()
    {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    let backup = unit("killick-backup.service", place.path());
    let shell =
        setting(&backup, "ExecStart")[0].strip_prefix("/bin/sh -c '").unwrap().strip_suffix('\'').unwrap();
    let made = Command::new("/bin/sh").arg("-c").arg(shell.replace("%%", "%")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let backups: Vec<_> = fs::read_dir(path("backups")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(backups.len() == 1 && backups[0].join("backup.json").exists(), "{backups:?}");

    let stop = |run: &mut std::process::Child| {
        let begun = Instant::now();
        let pid = rustix::process::Pid::from_child(run);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(0), "{}", fs::read_to_string(path("journal")).unwrap());
        let most: u64 = setting(&service, "TimeoutStopSec")[0].parse().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(most));
    };
    // What waits in the pipe is there for the next one.
    std::thread::sleep(Duration::from_secs(2));
    stop(&mut run);
    writeln!(writer, "{{\"id\":\"late\",\"value\":1}}").unwrap();
    let mut run = start();
    std::thread::sleep(Duration::from_secs(2));
    stop(&mut run);
    let site = path("site");
    assert!(!site.join("backup.sock").exists(), "it listens no more");
    ends(0, "receipts export --embedded", &[&site, Path::new("--out"), &path("receipts")]);
    assert_eq!(files(&path("receipts")).len(), 51);
    assert_eq!(fs::metadata(site.join("keys/log-0.key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return; // nobody to ask: the other test runs what they say
    }
    let place = tempfile::tempdir().unwrap();
    let names = ["killick.service", "killick.socket", "killick-backup.service", "killick-backup.timer"];
    for name in names {
        fs::write(place.path().join(name), unit(name, place.path())).unwrap();
    }
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(args)
            .args(names)
            .current_dir(place.path())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (is_well, said) = analyze(&["verify", "--man=no"]);
    assert!(is_well, "{said}");
    for name in ["killick.service", "killick-backup.service"] {
        let args = ["security", "--offline=true", "--threshold=15", name];
        let output = Command::new("systemd-analyze").args(args).current_dir(place.path()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_program_works_in_the_root_of_the_image_and_there_is_nothing_else_in_it() {
    let place = tempfile::tempdir().unwrap();
    let [root, again] = ["image", "again"].map(|name| place.path().join(name));
    for root in [&root, &again] {
        let made = Command::new(deploy().join("image-root")).arg(PROGRAM).arg(root).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let [all, same] = [&root, &again].map(|root| {
        let find = ["-printf", "%P %y %m %s %T@\\n"];
        let output = Command::new("find").arg(root).args(find).output().unwrap();
        let mut lines: Vec<_> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    });
    assert_eq!(all, same, "the same files make the same root");
    for line in &all {
        let mut fields = line.split(' ').skip(1);
        let (kind, mode) = (fields.next().unwrap(), u32::from_str_radix(fields.next().unwrap(), 8).unwrap());
        assert!(kind == "d" || kind == "f" && mode & 0o222 == 0 && mode & 0o7000 == 0, "{line}");
        assert!(!line.contains("bin/") || line.starts_with("usr/bin/killick "), "{line}");
    }
    // As the image does it: the user of the image, a root that it cannot write, nothing of this machine.
    let inside = |args: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot
            .env_clear()
            .arg("--userspec=65532:65532")
            .arg(&root)
            .arg("/usr/bin/killick")
            .args(args)
            .output()
    };
    let Some(version) = inside(&["--version"]).ok().filter(|output| {
        // Only root may enter another root.
        !String::from_utf8_lossy(&output.stderr).contains("cannot change root directory")
    }) else {
        return;
    };
    assert!(version.status.success(), "{version:?}");
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("killick "), "{version:?}");
    let trust = inside(&["trust", "known"]).unwrap();
    assert!(
        trust.status.success() && String::from_utf8_lossy(&trust.stdout).contains("mainnet01"),
        "{trust:?}"
    );
    // Names are looked up, and TLS finds its authorities.
    let asked = inside(&[
        "trust",
        "fetch",
        "--node",
        "https://localhost:1",
        "--node",
        "https://127.0.0.1:1",
        "--out",
        "/tmp/t",
    ])
    .unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(
        !asked.status.success() && !said.contains("certificate") && said.contains("localhost:1"),
        "{said}"
    );
    assert!(!root.join("bin/sh").exists() && !root.join("usr/bin/sh").exists());
}
