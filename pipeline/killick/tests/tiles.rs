//! `killick log tiles` and `killick monitor` as their users meet them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use killick_contract::catalog::Maker;
use killick_embedded::{EmbeddedCatalog, Folder};
use killick_proof::trust::{LogKey, TrustFile};
use killick_stages::ports::Catalog as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const ORIGIN: &str = "plant.example/1/sha256/0";
const OTHER: &str = "plant.example/1/sha256/1";

/// A site with logs, and where they are published.
struct World {
    place: TempDir,
    makers: Vec<Maker>,
    time: i64,
}

impl World {
    fn new(origins: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let makers: Vec<_> = origins.iter().map(|origin| Maker::new(origin)).collect();
        let logs = makers.iter().map(|maker| LogKey { key: maker.verifier(), until: None }).collect();
        let trust = TrustFile { logs, ..TrustFile::default() };
        fs::write(place.path().join("trust.json"), trust.to_json()).unwrap();
        Self { place, makers, time: 0 }
    }

    /// The same logs, with other batches from now on.
    fn forked(mut self) -> Self {
        self.time += 1;
        self
    }

    fn at(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }

    /// So many more batches in each log.
    fn grow(&mut self, batches: u64) {
        let folder = Folder::open(Path::new(&self.at("site"))).unwrap();
        let catalog = EmbeddedCatalog::open(&Arc::new(folder)).unwrap();
        for maker in &mut self.makers {
            (0..batches).for_each(|_| catalog.put_batch(&maker.batch(self.time, &["t"], 1)).unwrap());
        }
    }

    fn publish(&self, more: &[&str]) -> Output {
        let (site, out, trust) = (self.at("site"), self.at("public"), self.at("trust.json"));
        let args =
            ["log", "tiles", "--embedded", &site, "--out", &out, "--trust", &trust, "--output", "json"];
        program(&[&args, more].concat()).output().unwrap()
    }

    /// What a monitor says of each log, and its status.
    fn monitor(&self, more: &[&str]) -> (Vec<Value>, i32) {
        let (public, trust, state) = (self.at("public"), self.at("trust.json"), self.at("seen"));
        let args = ["monitor", &public, "--trust", &trust, "--state", &state, "--output", "json"];
        let output = program(&[&args, more].concat()).output().unwrap();
        (objects(&output), output.status.code().unwrap())
    }

    fn file(&self, path: &str) -> PathBuf {
        self.place.path().join("public").join(ORIGIN).join(path)
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KILLICK_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn objects(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn succeeds(output: Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    objects(&output)
}

#[test]
fn logs_that_grow_are_published_and_followed() {
    let mut world = World::new(&[ORIGIN, OTHER]);
    world.grow(3);
    for (batches, before) in [(3, 0), (5, 3)] {
        let published = succeeds(world.publish(&[]));
        assert_eq!(published.len(), 2);
        let of = |object: &Value| (object["batches"].as_u64(), object["before"].as_u64());
        assert!(published.iter().all(|object| of(object) == (Some(batches), Some(before))), "{published:?}");
        let (seen, status) = world.monitor(&[]);
        assert_eq!(status, 0, "{seen:?}");
        for (object, origin) in seen.iter().zip([ORIGIN, OTHER]) {
            assert_eq!(object["origin"], origin);
            assert_eq!(object["verdict"], "consistent");
            assert_eq!((&object["size"], &object["entries"]), (&batches.into(), &(batches - before).into()));
        }
        world.grow(2);
    }
    // One of them, by number and by origin, and by its key.
    assert_eq!(succeeds(world.publish(&["--origin", "1"]))[0]["origin"], OTHER);
    assert_eq!(succeeds(world.publish(&["--origin", ORIGIN])).len(), 1);
    let (seen, status) = world.monitor(&["--origin", OTHER, "--also", &world.at("public")]);
    assert_eq!((seen.len(), status, &seen[0]["also"]), (1, 0, &seen[0]["size"]));
    let (public, key) = (world.at("public"), world.makers[0].verifier().to_string());
    let output = program(&["monitor", &public, "--key", &key, "--once"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, format!("{ORIGIN}  7 batches, 7 more; 7 entries checked: consistent\n"));
}

#[test]
fn what_is_not_right_has_a_verdict_and_a_status() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(5);
    succeeds(world.publish(&[]));
    let tile = world.file("tile/0/000.p/5");
    let good = fs::read(&tile).unwrap();
    let mut bad = good.clone();
    bad[7] ^= 1;
    fs::write(&tile, bad).unwrap();
    let verdict =
        |(seen, status): (Vec<Value>, i32)| (seen[0]["verdict"].as_str().unwrap().to_owned(), status);
    assert_eq!(verdict(world.monitor(&[])), ("damaged".to_owned(), 1));
    assert_eq!(world.publish(&[]).status.code(), Some(3));
    fs::remove_file(&tile).unwrap();
    assert_eq!(verdict(world.monitor(&[])), ("missing".to_owned(), 4));
    fs::write(&tile, good).unwrap();
    assert_eq!(verdict(world.monitor(&[])), ("consistent".to_owned(), 0));
    let checkpoint = fs::read(world.file("checkpoint")).unwrap();
    fs::remove_file(world.file("checkpoint")).unwrap();
    assert_eq!(verdict(world.monitor(&[])), ("missing".to_owned(), 4));
    fs::write(world.file("checkpoint"), checkpoint).unwrap();
    // Two at once on one state, or one folder, would undo each other's work.
    let _hold = hold(&world.at("seen"));
    let (seen, status) = world.monitor(&[]);
    assert_eq!((seen.len(), status), (0, 1));
    let _hold = hold(&world.at("public"));
    assert_eq!(world.publish(&[]).status.code(), Some(1));
}

fn hold(folder: &str) -> fs::File {
    let lock = fs::File::open(Path::new(folder).join(".lock")).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_fork_under_the_same_key_is_a_split_view_with_evidence() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(4);
    succeeds(world.publish(&[]));
    assert_eq!(world.monitor(&[]).1, 0);
    let mut fork = World::new(&[ORIGIN]).forked();
    fork.grow(6);
    succeeds(fork.publish(&[]));
    // Its publisher cannot be made to overwrite what others have seen.
    let (site, out) = (fork.at("site"), world.at("public"));
    let trust = world.at("trust.json");
    let over =
        program(&["log", "tiles", "--embedded", &site, "--out", &out, "--trust", &trust]).output().unwrap();
    assert_eq!(over.status.code(), Some(3), "{over:?}");
    assert!(String::from_utf8_lossy(&over.stderr).contains("two histories"), "{over:?}");

    let state = world.at("seen");
    let public = fork.at("public");
    let args = ["monitor", &public, "--trust", &trust, "--state", &state];
    let output = program(&[&args[..], &["--output", "json"]].concat()).output().unwrap();
    let found = &objects(&output)[0];
    assert_eq!((output.status.code(), &found["verdict"]), (Some(3), &"split view".into()));
    let evidence = Path::new(found["evidence"].as_str().unwrap());
    for (file, note) in ["first.note", "second.note"].iter().zip(found["notes"].as_array().unwrap()) {
        assert_eq!(fs::read_to_string(evidence.join(file)).unwrap(), note.as_str().unwrap());
    }
    let about: Value = serde_json::from_slice(&fs::read(evidence.join("about.json")).unwrap()).unwrap();
    assert_eq!(about["why"], found["why"]);
    // For people; and with --every it ends there, for a supervisor to see.
    let output = program(&[&args[..], &["--every", "1s"]].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text.contains("SPLIT VIEW") && text.contains("\n    4\n") && text.contains("\n    6\n"),
        "{text}"
    );
    // Nobody who remembers nothing sees it in one place; held against each other both do.
    assert_eq!(fork.monitor(&[]).1, 0);
    let (found, status) = fork.monitor(&["--also", &out]);
    assert_eq!((status, &found[0]["verdict"]), (3, &"split view".into()));
}

#[test]
fn a_log_that_is_restored_from_an_old_copy_is_a_rollback() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(4);
    succeeds(world.publish(&[]));
    let old = fs::read(world.file("checkpoint")).unwrap();
    world.grow(1);
    succeeds(world.publish(&[]));
    assert_eq!(world.monitor(&[]).1, 0);
    fs::write(world.file("checkpoint"), old).unwrap();
    let (found, status) = world.monitor(&[]);
    assert_eq!((status, &found[0]["verdict"]), (3, &"rollback".into()));
}

#[test]
fn logs_of_a_trust_file_that_are_not_there_yet_are_no_trouble_unless_asked_for() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(1);
    succeeds(world.publish(&[]));
    let mut trust = TrustFile::parse(&fs::read(world.at("trust.json")).unwrap()).unwrap();
    let later = "plant.example/2/keccak256/0";
    for origin in [OTHER, later] {
        trust.logs.push(LogKey { key: Maker::new(origin).verifier(), until: None });
    }
    fs::write(world.at("trust.json"), trust.to_json()).unwrap();
    let (found, status) = world.monitor(&[]);
    assert_eq!((status, found.len(), &found[1]["verdict"]), (0, 2, &"absent".into()));
    assert_eq!(world.monitor(&["--origin", OTHER]).1, 4);
    assert_eq!(world.monitor(&["--origin", later]).1, 2);
    // A key that counts until a time does not count for what is signed now.
    trust.logs.iter_mut().for_each(|log| log.until = Some(0));
    fs::write(world.at("trust.json"), trust.to_json()).unwrap();
    assert_eq!(world.monitor(&[]).1, 2);
}

#[test]
fn calls_that_make_no_sense_are_usage_errors() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(1);
    let status = |args: &[&str]| program(args).output().unwrap().status.code().unwrap();
    let key = world.makers[0].verifier().to_string();
    let cases: [&[&str]; 8] = [
        &["monitor", "public"],
        &["monitor", "--key", &key],
        &["monitor", "public", "--key", "nonsense"],
        &["monitor", "http://", "--key", &key],
        &["monitor", "public", "--key", &key, "--origin", OTHER],
        &["monitor", "public", "--key", &key, "--every", "1ms"],
        &["monitor", "public", "--key", &key, "--every", "1s", "--once"],
        &["monitor", "public", "--key", &key, "--timeout", "6m"],
    ];
    for args in cases {
        assert_eq!(status(args), 2, "{args:?}");
    }
    assert_eq!(world.publish(&["--origin", "7"]).status.code(), Some(1));
    assert_eq!(world.publish(&["--every", "10ms"]).status.code(), Some(2));
}

#[test]
fn a_log_of_another_hash_is_refused() {
    let site = tempfile::tempdir().unwrap();
    let folder = site.path().join("site");
    fs::write(site.path().join("in.csv"), "id,value\na,1\n").unwrap();
    fs::write(site.path().join("k.toml"), "[deployment]\nhash = \"keccak256\"\n").unwrap();
    let [folder, input, config, out] =
        [folder, site.path().join("in.csv"), site.path().join("k.toml"), site.path().join("public")]
            .map(|path| path.to_str().unwrap().to_owned());
    let run = [
        "run",
        "--embedded",
        &folder,
        "-c",
        &config,
        "--input",
        &input,
        "--id-column",
        "id",
        "--log",
        "error",
    ];
    let output = program(&run).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let tiles = ["log", "tiles", "--embedded", &folder, "--out", &out];
    let listed =
        succeeds(program(&["logs", "list", "--embedded", &folder, "--output", "json"]).output().unwrap());
    let named = program(&[&tiles[..], &["--origin", listed[0]["origin"].as_str().unwrap()]].concat())
        .output()
        .unwrap();
    assert_eq!(named.status.code(), Some(2), "{named:?}");
    assert!(String::from_utf8_lossy(&named.stderr).contains("SHA-256 and nothing else"), "{named:?}");
    let all = program(&tiles).output().unwrap();
    assert_eq!((all.status.code(), all.stdout.as_slice()), (Some(0), &[][..]));
    assert!(String::from_utf8_lossy(&all.stderr).contains("left out"), "{all:?}");
}

/// A publisher and a monitor that go on until they are told to end.
#[test]
fn publisher_and_monitor_that_go_on_see_what_is_new_and_end_when_told() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(2);
    let (site, public, trust, seen) =
        (world.at("site"), world.at("public"), world.at("trust.json"), world.at("seen"));
    let publish = ["log", "tiles", "--embedded", &site, "--out", &public, "--trust", &trust, "--every", "1s"];
    let publisher = program(&publish).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait(|| world.file("checkpoint").exists());
    let monitor = ["monitor", &public, "--trust", &trust, "--state", &seen, "--every", "1s"];
    let monitor = program(&monitor).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let state = world.place.path().join("seen").join(ORIGIN).join("state.json");
    let knows =
        |size: u64| fs::read_to_string(&state).is_ok_and(|state| state.contains(&format!("\\n{size}\\n")));
    wait(|| knows(2));
    // The publisher has let go of the folder, between its rounds.
    wait(|| Folder::open_existing(Path::new(&site)).is_ok());
    world.grow(3);
    wait(|| knows(5));
    for child in [publisher, monitor] {
        ends(child);
    }
}

fn wait(is_there: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing came in 30 s");
}

fn ends(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_publisher_that_is_killed_at_any_time_leaves_a_whole_log() {
    let mut world = World::new(&[ORIGIN]);
    world.grow(600);
    let (site, public, trust) = (world.at("site"), world.at("public"), world.at("trust.json"));
    let args = ["log", "tiles", "--embedded", &site, "--out", &public, "--trust", &trust];
    let mut killed = 0;
    for after in (0..).map(|step| Duration::from_millis(10 + 7 * step)) {
        let mut child = program(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        if child.wait().unwrap().code().is_some() {
            break;
        }
        killed += 1;
        let (found, status) = world.monitor(&[]);
        assert!([0, 4].contains(&status), "{found:?}");
        assert_eq!(status == 0, world.file("checkpoint").exists());
    }
    assert!(killed > 1);
    succeeds(world.publish(&[]));
    let (found, status) = world.monitor(&[]);
    assert_eq!((status, &found[0]["size"]), (0, &600.into()));
}
