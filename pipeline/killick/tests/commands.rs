//! The commands around the pipeline as their users meet them: keys, produce, config, receipts, rejected, help.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KILLICK_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn killick(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    program().args(args).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What it prints when it succeeds.
fn succeeds(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = killick(args);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

/// What it complains about, ending with this status and printing nothing.
fn fails(expected: i32, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = killick(args);
    assert_eq!(status(&output), expected, "{output:?}");
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn readings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/machine_temperature.csv")
}

// --- the command line --------------------------------------------------------------------------------------------

#[test]
fn the_version_names_the_commit() {
    let version = succeeds(["--version"]);
    let (version, commit) = version.trim().strip_prefix("killick ").unwrap().split_once(' ').unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let commit = commit.strip_prefix('(').and_then(|commit| commit.strip_suffix(')')).unwrap();
    assert!(commit == "unknown" || commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn a_call_that_makes_no_sense_is_a_usage_error() {
    for args in [
        &["nonsense"][..],
        &[],
        &["keys"],
        &["demo", "--duplicates", "101"],
        &["run"],
        &["--log", "=,=", "config", "check"],
    ] {
        let output = killick(args);
        assert_eq!(status(&output), 2, "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(["completions", shell]);
        assert!(script.contains("killick") && script.contains("receipts"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_complain() {
    let mut child = program()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
}

// --- keys --------------------------------------------------------------------------------------------------------

#[test]
fn a_log_key_is_made_once_for_its_owner_and_shown_by_its_public_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.key");
    let make = ["keys", "new", "log", "--origin", "plant.example/1/sha256/0", "--out", text(&path)];
    let made = succeeds(make);
    assert!(made.contains("\nplant.example/1/sha256/0+"), "{made}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&path).unwrap();
    assert!(secret.starts_with("PRIVATE+KEY+plant.example/1/sha256/0+"), "the form of signed notes");
    assert_eq!(succeeds(["keys", "show", text(&path)]), made);
    let shown: Value =
        serde_json::from_str(&succeeds(["keys", "show", text(&path), "--output", "json"])).unwrap();
    assert_eq!((&shown["kind"], &shown["origin"]), (&"log".into(), &"plant.example/1/sha256/0".into()));
    assert!(!shown.to_string().contains("PRIVATE"));

    fails(1, make);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), secret, "a key is never overwritten");
    let wrong = fails(2, ["keys", "new", "log", "--origin", "Plant", "--out", text(&path)]);
    assert!(wrong.contains("--origin"), "{wrong}");
}

#[test]
fn the_keys_of_a_deployment_are_made_once_and_the_accounts_that_pay_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("killick.toml");
    std::fs::write(&config, "[deployment]\nlogs = 2\n[keys]\nfolder = \"keys\"\n").unwrap();
    let init = |more: &[&str]| succeeds(["keys", "init", "-c", text(&config)].iter().chain(more));
    let accounts = |said: &str| {
        let words = said.split_whitespace().filter(|word| word.starts_with("k:"));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let one = accounts(&init(&[]));
    assert_eq!(one.len(), 1);
    let three = accounts(&init(&["--anchor-keys", "3"]));
    assert!(three.len() == 3 && three[0] == one[0], "{three:?}");
    assert_eq!(accounts(&init(&[])), three, "they are there");
    assert!(folder.path().join("keys/anchor-2.key").exists());
    // One account for all: its guard has to know their keys.
    std::fs::write(&config, "[anchor]\nsender = \"plant\"\n[keys]\nfolder = \"keys\"\n").unwrap();
    let said = init(&[]);
    assert!(said.contains("paid by plant; its guard is a keyset of"), "{said}");
    assert!(three.iter().all(|account| said.contains(account.strip_prefix("k:").unwrap())), "{said}");
    assert!(fails(2, ["keys", "init", "-c", text(&config), "--anchor-keys", "17"]).contains("17"));
}

#[test]
fn a_device_key_comes_with_its_entries_for_trust_file_and_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("press.key");
    let make = |path: &Path| {
        succeeds([
            "keys",
            "new",
            "device",
            "--tenant",
            "plant",
            "--source",
            "press \"1\"",
            "--out",
            text(path),
        ])
    };
    let printed = make(&path);
    let entry = printed.lines().find(|line| line.starts_with('{')).unwrap();
    let entry: Value = serde_json::from_str(entry).unwrap();
    assert_eq!((&entry["tenant"], &entry["source"]), (&"plant".into(), &"press \"1\"".into()));
    let trust = format!("{{\"devices\":[{entry}]}}");
    killick_proof::trust::TrustFile::parse(trust.as_bytes()).unwrap();

    let config = folder.path().join("killick.toml");
    std::fs::write(&config, &printed[printed.find("[[device]]").unwrap()..]).unwrap();
    let effective = succeeds(["config", "check", "-c", text(&config)]);
    assert!(effective.contains(entry["key"].as_str().unwrap()), "{effective}");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = killick(["keys", "show", text(&path)]);
    assert_eq!(stdout(&output), printed);
    assert!(stderr(&output).contains("chmod 600"), "{output:?}");
    let secret: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(!format!("{output:?}").contains(secret["secret"].as_str().unwrap()));

    let other = folder.path().join("other.key");
    assert_ne!(make(&other), printed, "each key is another");
    for (tenant, source) in [("Plant", "a"), ("plant", ""), ("plant", "a\u{1b}")] {
        let args = ["keys", "new", "device", "--tenant", tenant, "--source", source, "--out", "x"];
        fails(2, args);
    }
}

#[test]
fn what_is_no_key_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.key");
    std::fs::write(&path, "hunter2").unwrap();
    let why = fails(1, ["keys", "show", text(&path)]);
    assert!(why.contains("no.key") && !why.contains("hunter2"), "{why}");
    assert!(fails(1, ["keys", "show", "/nowhere/at.all"]).contains("/nowhere/at.all"));
}

// --- produce -----------------------------------------------------------------------------------------------------

fn device(folder: &Path) -> PathBuf {
    let path = folder.join("device.key");
    succeeds(["keys", "new", "device", "--tenant", "plant", "--source", "machine", "--out", text(&path)]);
    path
}

#[test]
fn real_readings_become_signed_events_and_the_same_ones_again() {
    let folder = tempfile::tempdir().unwrap();
    let key = device(folder.path());
    let args = ["produce", "--key", text(&key), "--input"].map(str::to_owned);
    let args = args.into_iter().chain([text(&readings()).to_owned()]);
    let produced = succeeds(args.clone());
    assert_eq!(produced.lines().count(), 12);
    for (row, line) in (1..).zip(produced.lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], row.to_string());
        assert_eq!((&event["specversion"], &event["source"]), (&"1.0".into(), &"machine".into()));
        assert_eq!((&event["killicktenant"], &event["type"]), (&"plant".into(), &"record".into()));
    }
    assert!(produced.contains("\"time\":\"2013-12-02T21:15:00Z\""));
    assert_eq!(succeeds(args.clone()), produced, "signatures and ids are functions of the file");

    let out = folder.path().join("events.ndjson");
    let to_file = args.chain(["--output", text(&out)].map(str::to_owned));
    assert_eq!(succeeds(to_file), "");
    assert_eq!(std::fs::read_to_string(out).unwrap(), produced);
}

#[test]
fn lines_that_are_no_events_are_reported_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let key = device(folder.path());
    let input = folder.path().join("rows.csv");
    std::fs::write(&input, "time,id\n1,a\nsoon,b\n2\n3,c\n").unwrap();
    let output = killick(["produce", "--key", text(&key), "--input", text(&input), "--id-column", "id"]);
    assert_eq!(status(&output), 1);
    assert_eq!(stdout(&output).lines().count(), 2);
    let said = stderr(&output);
    for part in ["2 events signed, 2 lines left out", "line=3", "line=4", "soon"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_wrong_call_of_produce_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (key, rows) = (device(folder.path()), readings());
    let base = ["produce", "--key", text(&key), "--input", text(&rows)];
    let with = |more: &[&'static str]| {
        base.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
    };
    let why = fails(2, with(&["--id-column", "nr"]));
    assert!(why.contains("no column `nr`; the columns are: timestamp, value"), "{why}");
    assert!(fails(2, with(&["--format", "cloudevents"])).contains("signed already"));
    assert!(fails(2, ["produce", "--key", text(&key), "--input", "-"]).contains("--format"));
    assert!(fails(1, ["produce", "--key", text(&key), "--input", "/nowhere.csv"]).contains("/nowhere.csv"));
    assert!(fails(1, ["produce", "--key", text(&rows), "--input", text(&rows)]).contains("no device key"));
}

// --- config ------------------------------------------------------------------------------------------------------

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killick.toml");
    std::fs::write(&path, "[tenant.plant]\nsecret = \"the secret of plant\"\n[batch]\nwidth = \"1s\"\n")
        .unwrap();
    let output = program()
        .args(["config", "check"])
        .env("KILLICK_CONFIG", &path)
        .env("KILLICK_BATCH__MAX_LEAVES", "9")
        .output()
        .unwrap();
    assert_eq!(status(&output), 0, "{output:?}");
    let shown: toml::Table = stdout(&output).parse().unwrap();
    assert_eq!(shown["batch"]["width"].as_str(), Some("1s"));
    assert_eq!(shown["batch"]["max_leaves"].as_integer(), Some(9));
    assert!(!format!("{output:?}").contains("the secret of plant"));
}

#[test]
fn a_configuration_that_cannot_work_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("killick.toml");
    std::fs::write(&path, "[batch]\nwidht = \"1s\"\n").unwrap();
    let why = fails(2, ["config", "check", "-c", text(&path)]);
    assert!(why.contains("line 2") && why.contains("did you mean `width`?"), "{why}");
    assert!(fails(2, ["config", "check", "-c", "/nowhere.toml"]).contains("/nowhere.toml"));
    let output = program().args(["config", "check"]).env("KILLICK_BATCH__X", "1").output().unwrap();
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("KILLICK_BATCH__X"));
}

// --- what a site holds -------------------------------------------------------------------------------------------

#[test]
fn a_folder_that_is_no_site_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let site = text(folder.path());
    for args in [
        &["receipts", "list", "--embedded", site][..],
        &["receipts", "get", "--embedded", site, "a", "b", "c"],
        &["receipts", "export", "--embedded", site, "--out", "out"],
        &["rejected", "--embedded", site],
    ] {
        let why = fails(1, args);
        assert!(why.contains(site) && why.contains("not a Killick folder"), "{why}");
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "asking leaves nothing behind");
    fails(2, ["receipts", "list", "--embedded", site, "--day", "yesterday"]);
    fails(2, ["receipts", "list", "--embedded", site, "--after", "x"]);
}

#[test]
fn intervals_are_listed_and_shown_with_their_commands_and_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let (site, input) = (folder.path().join("site"), folder.path().join("rows.csv"));
    std::fs::write(&input, "time,id\n1,a\n2,b\n3,c\n").unwrap();
    let args =
        ["run", "--embedded", text(&site), "--input", text(&input), "--id-column", "id", "--log", "error"];
    assert_eq!(status(&killick(args)), 0);
    let listed = succeeds(["anchors", "list", "--embedded", text(&site), "--output", "json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // All is proven, so each stands in a deep block, and is looked after for a while.
    assert!(!listed.is_empty());
    for interval in &listed {
        assert_eq!((&interval["state"], &interval["told"]), (&"deep".into(), &1.into()), "{interval}");
        assert_eq!(interval["attempts"][0]["key"], interval["block"]["key"], "{interval}");
        let covers = interval["checkpoints"].as_array().unwrap();
        assert!(covers.iter().all(|covered| covered["size"].as_u64() >= Some(1)), "{interval}");
    }
    let name = listed[0]["interval"].as_str().unwrap();
    let shown = succeeds(["anchors", "show", "--embedded", text(&site), name]);
    let key = listed[0]["block"]["key"].as_str().unwrap();
    for part in [name, "deep on chain 0", "told of 1 times", key, "at height", "killick.local/1/sha256/"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(succeeds(["anchors", "list", "--embedded", text(&site)]).lines().count(), listed.len());
    let why = fails(1, ["anchors", "show", "--embedded", text(&site), "9/9"]);
    assert!(why.contains("9/9") && why.contains(name), "{why}");
    assert!(fails(2, ["anchors", "retry", "--embedded", text(&site), name]).contains("no node to send to"));
}
