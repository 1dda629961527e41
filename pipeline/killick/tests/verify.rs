//! `killick verify` as its users meet it: files in, text or JSON and an exit status out.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts")
}

/// Runs `killick verify` in the folder of the shared receipts.
fn verify(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    command.arg("verify").args(args).current_dir(vectors()).stdin(Stdio::null()).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

/// The objects that `--output json` prints.
fn objects(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_shared_receipt_has_its_exit_status_level_device_and_field() {
    let rows: Vec<Value> =
        serde_json::from_slice(&std::fs::read(vectors().join("expected.json")).unwrap()).unwrap();
    for row in rows {
        let files = match &row["files"] {
            Value::Array(files) => files.clone(),
            _ => vec![row["file"].clone()],
        };
        let files: Vec<&str> = files.iter().map(|file| file.as_str().unwrap()).collect();
        let options = ["--trust", row["trust"].as_str().unwrap(), "--output", "json"];
        let output = verify(files.iter().chain(&options));
        let objects = objects(&output);
        let said = format!("{row}\n{objects:#?}");
        assert!(row["exit"].as_array().unwrap().contains(&status(&output).into()), "{said}");
        assert_eq!(objects.iter().map(|object| object["file"].as_str().unwrap()).collect::<Vec<_>>(), files);
        for member in ["level", "device"] {
            assert!(row[member].is_null() || row[member] == objects[0][member], "{said}");
        }
        if let (3, Some(fields)) = (status(&output), row["field"].as_array()) {
            let field = objects[0]["error"]["field"].as_str().unwrap();
            assert!(fields.iter().any(|prefix| field.starts_with(prefix.as_str().unwrap())), "{said}");
        }
        let said_text = text(&verify(files.iter().chain(&options[..2])));
        assert!(!said_text.is_empty() && !said_text.chars().any(|char| char.is_control() && char != '\n'));
    }
}

#[test]
fn the_object_of_a_trusted_receipt_has_every_member() {
    let output = verify(["good/plain.json", "--trust", "trust.json", "--output", "json"]);
    let expected = serde_json::json!({
        "file": "good/plain.json", "level": "trusted", "device": "valid", "payload": null,
        "time": {
            "claimed": "2026-09-21T14:13:20Z",
            "logged": ["2026-09-21T14:13:20Z", "2026-09-21T14:13:20.480000Z"],
            "notAfter": "2026-09-22T06:53:50.000011Z"
        },
        "block": {
            "network": "development", "chain": 11, "height": 2001,
            "hash": "zTHfbEiT2tAldfwPsnZYn8XuaxpWhIEbMTX6ca22hDQ"
        }
    });
    assert_eq!(objects(&output), [expected]);
    assert!(
        text(&output).starts_with("{\"file\":\"good/plain.json\",\"level\":"),
        "members stand in their order"
    );
}

#[test]
fn members_that_are_not_reached_are_left_out() {
    let output =
        verify(["short/no-batch.json", "short/format-2.json", "--trust", "trust.json", "--output", "json"]);
    let [stated, none] = &objects(&output)[..] else { panic!("{output:?}") };
    assert_eq!(stated["time"], serde_json::json!({ "claimed": "2026-09-21T14:13:20Z" }));
    assert_eq!((&stated["missing"], &stated["block"]), (&"batch: is absent".into(), &Value::Null));
    assert_eq!(
        (&none["level"], &none["device"], &none["time"]),
        (&"none".into(), &Value::Null, &serde_json::json!({}))
    );
    assert_eq!(status(&output), 4);
}

#[test]
fn a_lower_level_may_be_enough() {
    for (level, expected) in [("stated", 0), ("batched", 0), ("logged", 0), ("anchored", 0), ("trusted", 4)] {
        let output = verify(["short/block-not-trusted.json", "--trust", "trust.json", "--level", level]);
        assert_eq!(status(&output), expected, "{level}");
    }
    assert_eq!(status(&verify(["bad/tree-path-cut.json", "--trust", "trust.json", "--level", "stated"])), 3);
}

#[test]
fn without_a_trust_file_it_says_how_far_one_can_get() {
    let output = verify(["good/plain.json"]);
    assert_eq!(status(&output), 4);
    assert!(complaint(&output).contains("without --trust") && complaint(&output).contains("batched"));
    assert_eq!(status(&verify(["good/plain.json", "--level", "batched"])), 0);
}

#[test]
fn the_text_says_what_a_receipt_proves_and_what_not() {
    let trusted = text(&verify(["good/plain.json", "--trust", "trust.json"]));
    assert!(trusted.contains("existed no later than 2026-09-22T06:53:50.000011Z"), "{trusted}");
    assert!(trusted.contains("Not proven") && trusted.contains("no other receipt"), "{trusted}");
    let anchored = text(&verify(["short/block-not-trusted.json", "--trust", "trust.json"]));
    assert!(anchored.contains("Only the level `trusted` says something about time"), "{anchored}");
    assert!(!anchored.contains("existed no later"), "{anchored}");
    let wrong = text(&verify(["bad/batch-path-cut.json", "--trust", "trust.json"]));
    assert!(wrong.contains("WRONG: batch.path") && wrong.contains("proves nothing"), "{wrong}");
}

#[test]
fn of_several_receipts_the_worst_counts() {
    let run = |files: &[&str]| status(&verify(files.iter().chain(&["--trust", "trust.json"])));
    let (good, short, wrong) = ("together/event-1.json", "short/no-batch.json", "bad/array.json");
    assert_eq!(run(&[good, short]), 4);
    assert_eq!(run(&[short, good, wrong]), 3);
    assert_eq!(run(&["no-such-file.json", short]), 1);
    assert_eq!(run(&["no-such-file.json", wrong]), 3);
}

#[test]
fn receipts_in_conflict_are_both_named() {
    let output = verify([
        "together/batch-a.json",
        "together/batch-b.json",
        "--trust",
        "trust.json",
        "--output",
        "json",
    ]);
    let [first, second] = &objects(&output)[..] else { panic!("{output:?}") };
    assert_eq!((&first["error"], status(&output)), (&Value::Null, 3));
    let why = second["error"]["why"].as_str().unwrap();
    assert!(why.contains("together/batch-a.json") && why.contains("together/batch-b.json"), "{why}");
}

/// A folder with two receipts and their payloads' folder, both receipts with the name of the payload.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for inner in ["receipts", "payloads"] {
        std::fs::create_dir(folder.path().join(inner)).unwrap();
    }
    for name in ["event-1", "event-2"] {
        let receipt = std::fs::read(vectors().join(format!("together/{name}.json"))).unwrap();
        let cbor = killick_proof::receipt::Receipt::parse(&receipt).unwrap().to_cbor();
        std::fs::write(folder.path().join(format!("receipts/{name}.json")), receipt).unwrap();
        std::fs::write(folder.path().join(format!("receipts/{name}.cbor")), cbor).unwrap();
    }
    std::fs::write(folder.path().join("receipts/notes.txt"), "not a receipt").unwrap();
    folder
}

#[test]
fn a_folder_stands_for_the_receipts_in_it() {
    let folder = folder();
    let receipts = folder.path().join("receipts");
    let output = verify([
        receipts.as_os_str(),
        "--trust".as_ref(),
        "trust.json".as_ref(),
        "--output".as_ref(),
        "json".as_ref(),
    ]);
    let files: Vec<_> =
        objects(&output).iter().map(|object| object["file"].as_str().unwrap().to_owned()).collect();
    let expected = ["event-1.cbor", "event-1.json", "event-2.cbor", "event-2.json"];
    assert_eq!(files, expected.map(|name| receipts.join(name).display().to_string()));
    assert_eq!(status(&output), 0);
    assert_eq!(status(&verify([folder.path().join("payloads")])), 2, "a folder without receipts");
}

#[test]
fn payloads_are_found_by_name_and_have_to_match() {
    let folder = folder();
    let (receipts, payloads) = (folder.path().join("receipts"), folder.path().join("payloads"));
    let run = || {
        let options = ["--trust", "trust.json", "--output", "json", "--payload"];
        let paths = [receipts.as_os_str()];
        verify(paths.into_iter().chain(options.map(OsStr::new)).chain([payloads.as_os_str()]))
    };
    let output = run();
    assert_eq!(status(&output), 4, "no payload can be compared");
    assert!(objects(&output)[0]["missing"].as_str().unwrap().starts_with("payload: "));
    for name in ["event-1", "event-2"] {
        std::fs::write(payloads.join(name), "something else").unwrap();
    }
    let output = run();
    assert_eq!((status(&output), &objects(&output)[0]["error"]["field"]), (3, &"statement".into()));
}

#[test]
fn one_payload_belongs_to_one_receipt() {
    let output = verify([
        "good/plain.json",
        "good/two-anchors.json",
        "--payload",
        "trust.json",
        "--trust",
        "trust.json",
    ]);
    assert_eq!(status(&output), 2);
    let output = verify(["good/plain.json", "--payload", "trust.json", "--trust", "trust.json"]);
    assert_eq!(status(&output), 3);
    let output = verify(["good/plain.json", "--payload", "no-such-file", "--trust", "trust.json"]);
    assert_eq!(status(&output), 1);
}

#[test]
fn a_malformed_trust_file_is_a_usage_error_that_names_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("trust.json");
    std::fs::write(&trust, "{\"logs\":[\"x\"]}").unwrap();
    let run = || verify([OsStr::new("good/plain.json"), "--trust".as_ref(), trust.as_os_str()]);
    assert_eq!(status(&run()), 2);
    assert!(complaint(&run()).contains("logs[0]"), "{}", complaint(&run()));
    std::fs::write(&trust, "{\"logg\":[]}").unwrap();
    assert_eq!(status(&run()), 4);
    assert!(complaint(&run()).contains("nobody knows the member logg"), "{}", complaint(&run()));
    assert_eq!(status(&verify(["good/plain.json", "--trust", "no-such-file"])), 1);
}

#[test]
fn usage_errors_end_with_2() {
    assert_eq!(status(&verify([] as [&str; 0])), 2);
    assert_eq!(status(&verify(["good/plain.json", "--level", "proven"])), 2);
    assert_eq!(status(&verify(["good/plain.json", "--outputs", "json"])), 2);
}

#[test]
fn files_that_are_no_receipts_get_an_answer_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let huge = folder.path().join("huge");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let started = Instant::now();
    let wrong = [
        write("empty", b""),
        write("deep", "[".repeat(1 << 20).as_bytes()),
        write("deeper", &[0x81; 1 << 20]),
        write("zeros", &[0; 1 << 20]),
        write("many", format!("[{}0]", "0,".repeat(500_000)).as_bytes()),
        huge,
    ];
    for path in wrong {
        let output = verify([&path]);
        assert_eq!(status(&output), 3, "{path:?}: {output:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let output = verify([&fifo]);
    assert_eq!(status(&output), 1);
    assert!(text(&output).contains("not a regular file"), "{output:?}");
}

#[test]
fn a_receipt_can_come_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_killick"))
        .args(["verify", "-", "--trust", "trust.json"])
        .current_dir(vectors())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let receipt = std::fs::read(vectors().join("good/plain.json")).unwrap();
    child.stdin.take().unwrap().write_all(&receipt).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 0);
    assert!(text(&output).starts_with("-: trusted"), "{output:?}");
}
