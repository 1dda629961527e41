//! What programs of others get out of the topics `proofs` and `receipts` of a pipeline that ran.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use killick_embedded::{Cleanup, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_stages::ready::{HEADERS, MAX_MESSAGE, ProofReady, ReceiptReady};
use killick_stages::record::Record;
use killick_stages::route::{PROOFS, RECEIPTS};

const EVENTS: usize = 40;
const CONFIG: &str = r#"
[deployment]
name = "plant.example"
logs = 2

[anchor]
interval = "300ms"
depth = 3
poll = "50ms"

[prove]
poll = "50ms"
receipts = true
schema_ids = { proof_ready = 41, receipt = 42 }

[devnet]
block_interval = "100ms"
"#;

fn killick(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_killick")).args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeeds(args: &[&str]) -> String {
    let output = killick(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs a pipeline over some events to its end; returns what stands in the two topics.
fn run(folder: &Path) -> (Vec<Record>, Vec<Record>) {
    let (site, config, input) =
        (folder.join("site"), folder.join("killick.toml"), folder.join("events.ndjson"));
    std::fs::write(&config, CONFIG).unwrap();
    let lines = (0..EVENTS).map(|id| format!("{{\"machine\":\"press/{}\",\"reading\":\"{id}\"}}\n", id % 3));
    std::fs::write(&input, lines.collect::<String>()).unwrap();
    let places = ["--embedded", text(&site), "-c", text(&config), "--input", text(&input)];
    let columns = ["--source-column", "machine", "--id-column", "reading"];
    succeeds(&[&["run"], &places[..], &columns[..]].concat());

    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: 2,
        cleanup: Cleanup::Delete(Duration::from_secs(3_600)),
        readers: Vec::new(),
    };
    let folder = Arc::new(Folder::open(&site).unwrap());
    let log = EmbeddedLog::open(&folder, &[spec(PROOFS), spec(RECEIPTS)], Settings::default()).unwrap();
    let all = |topic| {
        let partitions = log.partitions(topic).into_iter();
        partitions.flat_map(|partition| log.read(&partition, 0, usize::MAX).unwrap()).collect()
    };
    (all(PROOFS), all(RECEIPTS))
}

#[test]
fn receipts_out_of_both_topics_verify_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (proofs, receipts) = run(folder.path());
    let trust = folder.path().join("site/trust.json");
    let verify = |folder: &Path| {
        let files = files(folder);
        let files: Vec<_> = files.iter().map(|file| text(file)).collect();
        succeeds(&[&["verify", "--trust", text(&trust)], &files[..]].concat());
        files.len()
    };

    // One message a batch.
    let (derived, message) = (folder.path().join("derived"), folder.path().join("message"));
    for record in &proofs {
        std::fs::write(&message, &record.value).unwrap();
        succeeds(&["receipts", "derive", text(&message), "--out", text(&derived)]);
    }
    assert_eq!(verify(&derived), EVENTS);

    // One message an event.
    let published = folder.path().join("published");
    std::fs::create_dir(&published).unwrap();
    for (number, record) in receipts.iter().enumerate() {
        let ready = ReceiptReady::decode(&record.value).unwrap();
        assert_eq!(record.value[..5], [0, 0, 0, 0, 42]);
        std::fs::write(published.join(format!("{number}.json")), &*ready.receipt).unwrap();
    }
    assert_eq!(verify(&published), EVENTS);

    // Both are CloudEvents that no other shares its id with.
    let mut ids: Vec<_> =
        proofs.iter().chain(&receipts).map(|record| record.header("ce_id").unwrap().to_vec()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), proofs.len() + receipts.len());
    for record in proofs.iter().chain(&receipts) {
        assert!(record.headers.iter().map(|header| &*header.name).eq(HEADERS));
    }

    derives_in_other_ways(folder.path(), &proofs[0]);
    refuses_what_is_no_message(folder.path(), &proofs[0]);
}

/// From standard input to standard output, and in CBOR.
fn derives_in_other_ways(folder: &Path, record: &Record) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_killick"))
        .args(["receipts", "derive", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&record.value).unwrap();
    let output = child.wait_with_output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let found = serde_json::Deserializer::from_str(&found).into_iter::<serde_json::Value>();
    let leaves = ProofReady::decode(&record.value).unwrap().leaves;
    let found = found.filter(|receipt| receipt.as_ref().unwrap()["format"] == "killick-receipt/1");
    assert_eq!(found.count() as u64, leaves);

    let (message, cbor) = (folder.join("message"), folder.join("cbor"));
    std::fs::write(&message, &record.value).unwrap();
    succeeds(&["receipts", "derive", text(&message), "--out", text(&cbor), "--as", "cbor"]);
    let trust = folder.join("site/trust.json");
    let files = files(&cbor);
    assert_eq!(files.len() as u64, leaves);
    succeeds(&["verify", "--trust", text(&trust), text(&files[0])]);
}

/// A message with anything wrong in it gives no receipt at all.
fn refuses_what_is_no_message(folder: &Path, record: &Record) {
    let (message, out) = (folder.join("wrong"), folder.join("none"));
    let refuses = |value: &[u8], reason: &str| {
        std::fs::write(&message, value).unwrap();
        let output = killick(&["receipts", "derive", text(&message), "--out", text(&out)]);
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty() && !out.exists(), "{why}");
        assert!(why.contains(reason), "{why}");
    };
    refuses(b"", "schema id");
    refuses(&record.value[5..], "this is no message of `proofs`");
    refuses(&record.value[..record.value.len() - 1], "ends early");
    refuses(&[&record.value[..], b"\n"].concat(), "1 bytes follow");
    refuses(&vec![0; MAX_MESSAGE + 2], "1000001 bytes");
    let ready = ProofReady::decode(&record.value).unwrap();
    let mut other = ready.clone();
    other.number += 1;
    refuses(&other.encode(0), "not what its parts say");
    // A signature and a proof that are well formed and wrong.
    let mut other = ready.clone();
    other.path = vec![[7; 32]; ready.path.len() + 1];
    refuses(&other.encode(0), "log.path");
    let mut other = ready.clone();
    let anchor: serde_json::Value = serde_json::from_str(&ready.anchors[0]).unwrap();
    let input = anchor["spv"]["subject"]["input"].as_str().unwrap();
    let (start, end) = input.split_at(input.len() / 2);
    let changed = if end.starts_with('A') { "B" } else { "A" };
    let changed = format!("{start}{changed}{}", &end[1..]);
    other.anchors[0] = ready.anchors[0].replace(input, &changed).into();
    refuses(&other.encode(0), "anchors[0]");
    // Up to the checkpoint, whose signature only those can check who know the log's key, every byte counts.
    let checkpoint = ready.checkpoint.as_bytes();
    let end = record.value.windows(checkpoint.len()).position(|bytes| bytes == checkpoint).unwrap();
    for at in (5..end).step_by(end / 40) {
        let mut value = record.value.to_vec();
        value[at] ^= 1;
        refuses(&value, "error: ");
    }
}
