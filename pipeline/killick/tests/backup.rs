//! Backups of a folder at work, with kills in the middle of them, and what goes on from them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::Value;

use support::{command, ends, files};

/// So many events there are in the end.
const EVENTS: usize = 6_000;
/// Times that something is killed.
const KILLS: usize = 8;

fn line(number: usize) -> String {
    format!("{{\"id\":\"{number}\",\"value\":{}}}\n", number * number)
}

/// Anchors and blocks quicker than a person would want them, so that an instant meets every state of them.
const QUICK: &str = "[anchor]\ninterval = \"300ms\"\ndepth = 3\npoll = \"50ms\"\n[prove]\npoll = \"50ms\"\n\
                     [devnet]\nblock_interval = \"100ms\"\n";

/// The whole input, in a file.
fn input(place: &Path) -> PathBuf {
    let path = place.join("all.ndjson");
    std::fs::write(&path, (0..EVENTS).map(line).collect::<String>()).unwrap();
    path
}

fn quick(place: &Path) -> PathBuf {
    let path = place.join("quick.toml");
    std::fs::write(&path, QUICK).unwrap();
    path
}

const FORM: [&str; 6] = ["--format", "ndjson", "--id-column", "id", "--source", "machine/1"];

/// `killick run` on a pipe that is fed as long as the process lives, from an event on that no earlier one has sent.
struct Load {
    run: Child,
    stop: Arc<AtomicBool>,
    feed: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(site: &Path, sent: &Arc<AtomicUsize>) -> Self {
        let args = [
            "run",
            "--input",
            "-",
            "--output",
            "json",
            "--log",
            "error",
            "--embedded",
            site.to_str().unwrap(),
        ];
        let mut run = command(&args);
        run.args(FORM).env("KILLICK_CONFIG", quick(site.parent().unwrap()));
        run.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = run.spawn().unwrap();
        let (pipe, stop) = (run.stdin.take().unwrap(), Arc::new(AtomicBool::new(false)));
        let (sent, halt) = (Arc::clone(sent), Arc::clone(&stop));
        let feed = std::thread::spawn(move || feed(pipe, &sent, &halt));
        wait_for(|| site.join("backup.sock").exists());
        Self { run, stop, feed }
    }

    fn kill(mut self) {
        self.run.kill().unwrap();
        self.run.wait().unwrap();
        self.stop.store(true, Ordering::Relaxed);
        self.feed.join().unwrap();
    }
}

fn feed(mut pipe: ChildStdin, sent: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        if number < EVENTS {
            if pipe.write_all(line(number).as_bytes()).is_err() {
                return;
            }
            sent.store(number + 1, Ordering::Relaxed);
        }
        if number.is_multiple_of(10) {
            std::thread::sleep(Duration::from_millis(12));
        }
    }
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn backing_up(site: &Path, out: &Path) -> Command {
    let mut backup = command(&["backup", "--embedded"]);
    backup.arg(site).arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    backup
}

/// What a restored folder has to be, and what becomes of it; gives how many of its events had a receipt.
fn goes_on(place: &Path, backup: &Path, all: &Path) -> usize {
    let site = place.join(format!("restored-{}", backup.file_name().unwrap().to_str().unwrap()));
    let said = ends(0, "restore --from", &[backup, Path::new("--embedded"), &site]);
    assert!(said.contains("--confirm-restored"), "{said}");
    // Nothing that signs begins by accident.
    for line in ["run --embedded", "reanchor none --embedded"] {
        let refused = command(&line.split_whitespace().chain([site.to_str().unwrap()]).collect::<Vec<_>>())
            .output()
            .unwrap();
        assert!(!refused.status.success(), "{line}");
    }
    let refused = ends(1, "run --embedded", &[&site]);
    assert!(refused.contains("two histories under one key"), "{refused}");
    let audit = ends(0, "audit --output json --embedded", &[&site]);
    let told = serde_json::from_str::<Value>(audit.lines().last().unwrap()).unwrap();
    let told = usize::try_from(told["events"]["proven"].as_u64().unwrap()).unwrap();
    ends(0, "fsck --full --embedded", &[&site]);
    let [before, after] = ["before", "after"].map(|name| site.with_extension(name));
    ends(0, "receipts export --embedded", &[&site, Path::new("--out"), &before]);
    let proven = files(&before);
    // Receipts come first, and are told of next: the instant may lie between.
    assert!(told <= proven.len(), "{told} were told of, {} can be had", proven.len());

    let mut run = command(&["run", "--confirm-restored", "--output", "json", "--log", "error", "--embedded"]);
    let run = run.arg(&site).args(FORM).arg("--input").arg(all).arg("-c").arg(quick(place)).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let said: Value =
        serde_json::from_slice(run.stdout.split(|byte| *byte == b'\n').rev().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&said["rejected"], &said["conflicts"], &said["unfinished"]),
        (&0.into(), &0.into(), &Value::Null),
        "{said}"
    );
    ends(0, "audit --embedded", &[&site]);
    ends(0, "fsck --full --embedded", &[&site]);
    ends(0, "receipts export --embedded", &[&site, Path::new("--out"), &after]);
    let all = files(&after);
    assert_eq!(all.len(), EVENTS, "each event has one receipt");
    for (name, receipt) in &proven {
        assert_eq!(all.get(name), Some(receipt), "{name}: what was proven stays what it was");
    }
    // Nothing is told of that was, and each of the others is, once.
    assert_eq!(said["proven"], EVENTS - told, "{said}");
    ends(0, "verify --trust", &[&site.join("trust.json"), &after]);
    proven.len()
}

#[test]
fn a_backup_of_a_folder_at_work_is_whole_or_none_and_goes_on_from_its_instant() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    // Longer than the address of a socket may be.
    let site = place.join("a-folder-whose-name-is-long").join("x".repeat(100)).join("site");
    std::fs::create_dir_all(site.parent().unwrap()).unwrap();
    let all = input(place);
    let sent = Arc::new(AtomicUsize::new(0));

    // Under load, one after another.
    let load = Load::start(&site, &sent);
    std::thread::sleep(Duration::from_secs(3));
    for number in 0..2 {
        let backup = place.join(format!("quiet-{number}"));
        ends(0, "backup --embedded", &[&site, Path::new("--out"), &backup]);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(sent.load(Ordering::Relaxed) < EVENTS, "it is under load");
    let refused = ends(1, "backup --embedded", &[&site, Path::new("--out"), &place.join("quiet-0")]);
    assert!(refused.contains("not empty"), "{refused}");
    load.kill();

    // Killed in the middle: who makes the backup, or who has the folder.
    let (mut whole, mut cut) = (Vec::new(), 0);
    for number in 0..KILLS {
        let load = Load::start(&site, &sent);
        std::thread::sleep(Duration::from_millis(300));
        let out = place.join(format!("killed-{number}"));
        let mut backup = backing_up(&site, &out).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(5..250)));
        if number % 2 == 0 {
            backup.kill().unwrap();
            backup.wait().unwrap();
            // The one that has the folder goes on, and lets go of what it held.
            wait_for(|| !site.join("backup").exists());
            ends(
                0,
                "backup --embedded",
                &[&site, Path::new("--out"), &place.join(format!("after-{number}"))],
            );
            load.kill();
        } else {
            load.kill();
            let output = backup.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.success(), out.join("backup.json").exists(), "{said}");
            assert!(output.status.success() || !out.exists(), "{said}");
        }
        if out.join("backup.json").exists() {
            whole.push(out);
        } else {
            cut += 1;
            let refused = ends(1, "restore --from", &[&out, Path::new("--embedded"), &place.join("nothing")]);
            assert!(refused.contains("no whole backup"), "{refused}");
            assert!(!place.join("nothing").exists());
        }
    }
    println!("{} backups were whole, {cut} were cut off", whole.len());

    let proven = goes_on(place, &place.join("quiet-0"), &all);
    assert!((1..EVENTS).contains(&proven), "{proven} were proven at that instant");
    goes_on(place, whole.last().unwrap_or(&place.join(format!("after-{}", KILLS - 2))), &all);

    // And of a folder that nobody has.
    let last = place.join("last");
    ends(0, "backup --embedded", &[&site, Path::new("--out"), &last]);
    goes_on(place, &last, &all);
}

#[test]
fn what_is_not_a_backup_is_not_restored() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (site, backup) = (path("site"), path("backup"));
    std::fs::write(path("some.ndjson"), (0..20).map(line).collect::<String>()).unwrap();
    ends(0, "run --log error --input", &[&path("some.ndjson"), Path::new("--embedded"), &site]);
    ends(0, "backup --embedded", &[&site, Path::new("--out"), &backup]);
    let mode = |file: &Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&backup), mode(&backup.join("keys/log-0.key"))), (0o700, 0o600));
    let list = std::fs::read_to_string(backup.join("backup.json")).unwrap();
    let refused = |to: &str| ends(1, "restore --from", &[&backup, Path::new("--embedded"), &path(to)]);

    // Every byte counts, and a list can name nothing elsewhere.
    let key = backup.join("keys/log-0.key");
    let kept = std::fs::read(&key).unwrap();
    let mut changed = kept.clone();
    changed[10] ^= 1;
    std::fs::write(&key, changed).unwrap();
    assert!(refused("first").contains("log-0.key is not what was backed up"));
    let started = ends(1, "run --confirm-restored --embedded", &[&path("first")]);
    assert!(started.contains("not restored to the end"), "{started}");
    std::fs::write(&key, kept).unwrap();
    for (from, to) in [
        ("keys/log-0.key", "keys/../../escaped"),
        ("keys/log-0.key", "/tmp/escaped"),
        ("\"format\": 1", "\"format\": 2"),
        ("catalog.redb", "trust.json"),
        ("\"files\"", "\"other\""),
    ] {
        std::fs::write(backup.join("backup.json"), list.replace(from, to)).unwrap();
        let said = refused("second");
        assert!(said.contains("backup.json"), "{to}: {said}");
        assert!(!path("second").exists() && !path("escaped").exists(), "{to}");
    }
    std::fs::write(backup.join("backup.json"), &list).unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/file"), "").unwrap();
    assert!(refused("full").contains("not empty"));
    ends(0, "restore --from", &[&backup, Path::new("--embedded"), &path("third")]);
    let looked = ends(0, "doctor --embedded", &[&path("third")]);
    assert!(looked.contains("restored from a backup"), "{looked}");
    ends(
        0,
        "run --confirm-restored --log error --input",
        &[&path("some.ndjson"), Path::new("--embedded"), &path("third")],
    );
    ends(0, "run --log error --input", &[&path("some.ndjson"), Path::new("--embedded"), &path("third")]);
    assert!(ends(1, "backup --out x --embedded", &[&path("nowhere")]).contains("nowhere"));
}
