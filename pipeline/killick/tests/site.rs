//! What the commands say of a folder's catalog and log, which are filled here as the stages fill them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use killick_embedded::{Cleanup, EmbeddedCatalog, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_proof::Algorithm;
use killick_proof::batch::BatchHeader;
use killick_proof::origin::Origin;
use killick_proof::statement::{Attestation, Event, Statement};
use killick_proof::tree::Tree;
use killick_stages::ports::{BatchRecord, Catalog as _, Producer as _};
use killick_stages::record::{Partition, Record};
use killick_stages::rejected::{self, Code};
use serde_json::{Value, json};

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

fn killick(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_killick")).args(args).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A batch of events (tenant, source, id), logged at `time`.
fn batch(origin: &str, number: u64, time: i64, events: &[(&str, &str, &str)]) -> BatchRecord {
    let algorithm = Algorithm::Sha256;
    let statements: Vec<Bytes> = events
        .iter()
        .map(|(tenant, source, id)| {
            let event =
                Event { tenant, source, id, time, kind: "reading", digest: algorithm.digest(b"payload") };
            let attestation = Attestation::Unsigned { salt: &[7; 16] };
            Statement { event, attestation }.encode().unwrap().into()
        })
        .collect();
    let leaves = statements.iter().map(|statement| algorithm.leaf(statement)).collect();
    let header = BatchHeader {
        origin: Origin::parse(origin).unwrap(),
        number,
        first_offset: number,
        last_offset: number,
        first_time: time,
        last_time: time,
        leaf_count: events.len() as u64,
        root: Tree::new(algorithm, leaves).root(),
        duplicates: 0,
        conflicts: 0,
    };
    BatchRecord {
        header: header.encode().unwrap().into(),
        statements,
        edge: Bytes::new(),
        checkpoint: "no checkpoint is looked at here".into(),
    }
}

/// Two logs; tenants a and b; days 0 and 1.
fn fill(folder: &Path) {
    let catalog = EmbeddedCatalog::open(&Arc::new(Folder::open(folder).unwrap())).unwrap();
    let (one, two) = ("plant.example/1/sha256/0", "plant.example/1/sha256/1");
    for batch in [
        batch(one, 0, 5, &[("a", "s", "1"), ("b", "s", "2"), ("a", "s", "3")]),
        batch(one, 1, DAY + 5, &[("a", "s", "4"), ("a", "s", "5")]),
        batch(two, 0, 6, &[("a", "t\u{202e}", "6"), ("b", "s", "7")]),
    ] {
        catalog.put_batch(&batch).unwrap();
    }
}

/// The ids listed page by page, each page with at most `limit` events.
fn listed(folder: &str, limit: usize, filter: &[&str]) -> Vec<String> {
    let limit = limit.to_string();
    let mut ids = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut args = vec!["receipts", "list", "--embedded", folder, "--output", "json", "--limit", &limit];
        args.extend(filter);
        if let Some(cursor) = &cursor {
            args.extend(["--after", cursor]);
        }
        let mut page = objects(&killick(&args));
        let next = page.pop_if(|last| last.get("next").is_some());
        assert!(page.len() <= limit.parse().unwrap());
        ids.extend(page.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        match next {
            Some(next) => cursor = Some(next["next"].as_str().unwrap().to_owned()),
            None => return ids,
        }
    }
}

#[test]
fn pages_of_every_size_list_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let folder = folder.path().to_str().unwrap();
    for limit in 1..9 {
        assert_eq!(listed(folder, limit, &[]), ["1", "2", "3", "4", "5", "6", "7"], "{limit}");
        assert_eq!(listed(folder, limit, &["--tenant", "a"]), ["1", "3", "4", "5", "6"], "{limit}");
        assert_eq!(listed(folder, limit, &["--day", "1970-01-01"]), ["1", "2", "3", "6", "7"], "{limit}");
        let both = ["--tenant", "a", "--day", "1970-01-01"];
        assert_eq!(listed(folder, limit, &both), ["1", "3", "6"], "{limit}");
        assert!(listed(folder, limit, &["--tenant", "c"]).is_empty());
        assert!(listed(folder, limit, &["--day", "1970-01-03"]).is_empty());
    }
}

#[test]
fn a_listed_event_has_its_names_place_and_state() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let site = folder.path().to_str().unwrap();
    let events = objects(&killick(&["receipts", "list", "--embedded", site, "--output", "json"]));
    assert_eq!(
        events[3],
        json!({
            "tenant": "a", "source": "s", "id": "4", "type": "reading", "state": "waiting",
            "time": "1970-01-02T00:00:00.000005Z", "name": events[3]["name"],
            "place": {"origin": "plant.example/1/sha256/0", "number": 1, "index": 0},
        })
    );
    let output = killick(&["receipts", "list", "--embedded", site, "--limit", "6"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() == 6 && text.contains("t\\u{202e}") && !text.contains('\u{202e}'), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--after plant.example/1/sha256/1:0:0"));
}

#[test]
fn an_event_that_has_no_receipt_yet_or_is_not_known_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let site = folder.path().to_str().unwrap();
    for (id, why) in [("4", "not anchored yet"), ("8", "no event")] {
        let output = killick(&["receipts", "get", "--embedded", site, "a", "s", id]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8(output.stderr).unwrap().contains(why));
    }
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let held = Folder::open(folder.path()).unwrap();
    let output = killick(&["receipts", "list", "--embedded", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains(&format!("in use by process {}", std::process::id())), "{why}");
    drop(held);
}

#[test]
fn rejected_events_are_listed_with_code_reason_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().to_str().unwrap();
    {
        let log = Arc::new(Folder::open(folder.path()).unwrap());
        let topic = TopicSpec {
            name: "rejected".into(),
            partitions: 2,
            cleanup: Cleanup::Delete(std::time::Duration::from_secs(3_600)),
            readers: Vec::new(),
        };
        let log = EmbeddedLog::open(&log, &[topic], Settings::default()).unwrap();
        let record = |offset, value: &'static [u8]| Record {
            partition: Partition::new("events", 3),
            offset,
            append_time: 0,
            key: Bytes::new(),
            value: Bytes::from_static(value),
            headers: Vec::new(),
        };
        let stale = rejected::record(&record(41, b"old\x1b[2J"), "ingest", Code::Stale, "a day old", 0);
        let weak = rejected::record(&record(42, b"weak"), "ingest", Code::WeakKey, "small order", 1);
        log.produce(&[stale, weak]).unwrap();
    }
    let events = objects(&killick(&["rejected", "--embedded", site, "--output", "json"]));
    assert_eq!(events.len(), 2);
    assert_eq!((&events[0]["code"], &events[1]["code"]), (&json!("stale"), &json!("weak-key")));
    let about = ["reason", "stage", "topic", "partition", "offset", "bytes", "start"]
        .map(|name| events[0][name].clone());
    assert_eq!(
        about,
        [
            json!("a day old"),
            json!("ingest"),
            json!("events"),
            json!(3),
            json!(41),
            json!(7),
            json!("old\\x1b[2J")
        ]
    );

    let output = killick(&["rejected", "--embedded", site]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("stale             events/3/41: a day old\n") && !text.contains('\x1b'), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("2 rejected"));
}
