//! What `audit` and `fsck` say of a folder that the pipeline filled, and of the same folder with something changed in it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use killick_embedded::{EmbeddedLog, Folder, Settings};
use killick_stages::manifest::Manifest;
use killick_stages::ports::Producer as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::Value;
use tempfile::TempDir;

const EVENTS: usize = 600;

fn killick(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_killick")).args(args).env_remove("KILLICK_EMBEDDED").output().unwrap()
}

/// The objects that a command printed, and whether it ended with 0 or, having found something, with 1.
fn objects(args: &[&str]) -> (Vec<Value>, bool) {
    let output = killick(args);
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let status = output.status.code().unwrap();
    assert!(status < 2 && !text.is_empty(), "{output:?}");
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), status == 0)
}

/// Lets the pipeline take so many events into a folder, from a file of its own.
fn fill(site: &Path, from: usize, to: usize) {
    let mut rows = "id,value\n".to_owned();
    for number in from..to {
        // Every seventh is there before.
        let id = if number % 7 == 6 { number - 3 } else { number };
        writeln!(rows, "{id},{}", number * number).unwrap();
    }
    let input = site.with_extension(format!("{from}.csv"));
    fs::write(&input, rows).unwrap();
    let (site, input) = (site.to_str().unwrap(), input.to_str().unwrap());
    let output =
        killick(&["run", "--embedded", site, "--input", input, "--id-column", "id", "--log", "error"]);
    assert!(output.status.success(), "{output:?}");
}

/// A folder that the pipeline filled once for all tests, copied for this one.
struct Site {
    _place: TempDir,
    path: PathBuf,
}

impl Site {
    fn new() -> Self {
        static FILLED: OnceLock<TempDir> = OnceLock::new();
        let filled = FILLED.get_or_init(|| {
            let place = tempfile::tempdir().unwrap();
            fill(&place.path().join("site"), 0, EVENTS);
            place
        });
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("site");
        copy(&filled.path().join("site"), &path);
        Self { _place: place, path }
    }

    fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Findings by kind, and the whole.
    fn audit(&self, more: &[&str]) -> (Vec<Value>, Value) {
        let args = ["audit", "--embedded", self.text(), "--output", "json", "--objective", "1ms"];
        let (mut objects, is_clean) = objects(&[&args, more].concat());
        let whole = objects.pop().unwrap();
        assert_eq!(whole["clean"], is_clean, "{whole}");
        (objects, whole)
    }

    fn fsck(&self, more: &[&str]) -> (Vec<Value>, Value) {
        let args = ["fsck", "--embedded", self.text(), "--output", "json"];
        let (mut objects, is_clean) = objects(&[&args, more].concat());
        let whole = objects.pop().unwrap();
        assert_eq!(whole["clean"], is_clean, "{whole}");
        (objects, whole)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_folder_that_the_pipeline_filled_is_clean_and_all_of_it_is_counted() {
    let site = Site::new();
    let (findings, whole) = site.audit(&[]);
    assert!(findings.is_empty());
    let events = &whole["events"];
    let copies = EVENTS / 7;
    assert_eq!(events["accepted"], EVENTS);
    assert_eq!(events["proven"], EVENTS - copies);
    assert_eq!(
        (&events["conflicts"], &events["lost"], &events["late"]),
        (&copies.into(), &0.into(), &0.into())
    );
    assert_eq!(whole["notCovered"], serde_json::json!([]));
    let hop =
        |stage: &str| whole["hops"].as_array().unwrap().iter().find(|hop| hop["stage"] == stage).unwrap();
    assert_eq!(hop("ingest")["passedSum"], hop("dedup")["takenSum"]);
    assert_eq!(hop("dedup")["passedSum"], hop("batch")["takenSum"]);
    assert_eq!(hop("batch")["passedSum"], hop("prove")["takenSum"]);

    let text = killick(&["audit", "--embedded", site.text()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.lines().count() == 9 && text.ends_with("clean\n"), "{text}");

    let (faults, whole) = site.fsck(&["--full"]);
    assert!(faults.is_empty());
    assert_eq!((&whole["leaves"], &whole["events"]), (&whole["leaves"], &whole["leaves"]));
    assert_eq!(whole["leaves"], EVENTS - copies);
    assert_eq!(whole["compared"], whole["batches"]);
    assert!(whole["anchors"].as_u64() > Some(0) && whole["anchors"] == whole["trusted"], "{whole}");
}

#[test]
fn a_manifest_too_many_and_a_record_too_many_are_told_of() {
    let site = Site::new();
    {
        let folder = Arc::new(Folder::open_existing(&site.path).unwrap());
        let log = EmbeddedLog::open(&folder, &[], Settings::default()).unwrap();
        let again = |topic: &str| {
            let partitions = log.partitions(topic);
            let records = partitions.iter().map(|partition| log.read(partition, 0, usize::MAX).unwrap());
            let record = records.flatten().find(|record| {
                let manifest = Manifest::decode(&record.value);
                !record.is_tick()
                    && manifest.is_ok_and(|manifest| &*manifest.stage == "batch") == (topic == "audit")
            });
            let record = record.unwrap();
            let mut output = killick_stages::record::Output::new(record.partition, record.key, record.value);
            output.headers = record.headers;
            output
        };
        log.produce(&[again("audit"), again("batches")]).unwrap();
    }
    let (findings, whole) = site.audit(&[]);
    let kinds: Vec<_> = findings.iter().map(|finding| finding["finding"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"overlap") && kinds.contains(&"twice"), "{kinds:?}");
    let overlaps = findings.iter().filter(|finding| finding["finding"] == "overlap");
    let topics: Vec<_> = overlaps.map(|finding| (&finding["stage"], &finding["topic"])).collect();
    // Of the manifest, and of the batch.
    assert_eq!(topics, [(&"batch".into(), &"unique".into()), (&"batch".into(), &"batches".into())]);
    // Findings are limited; counts are not.
    let (fewer, counted) = site.audit(&["--limit", "1"]);
    assert_eq!((fewer.len(), &counted["findings"]), (1, &whole["findings"]));
    let text =
        String::from_utf8(killick(&["audit", "--embedded", site.text(), "--limit", "1"]).stdout).unwrap();
    assert!(text.contains(" more; --limit 1 prints no more"), "{text}");
    let (alone, _) = {
        let args = ["audit", "--embedded", site.text(), "--output", "json", "--manifests-only"];
        objects(&args)
    };
    assert_eq!(alone[0]["finding"], "overlap");
}

const TABLES: [&str; 7] = ["batches", "logs", "nodes", "anchors", "runs", "places", "days"];

type Bytewise = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Changes one byte of a row of a table of the catalog: of its key, or of its value.
fn damage(site: &Site, table: &'static str, row: usize, is_key: bool, at: usize) -> Option<String> {
    let table_of: Bytewise = TableDefinition::new(table);
    let database = Database::open(site.path.join("catalog.redb")).unwrap();
    let read = database.begin_read().unwrap().open_table(table_of).unwrap();
    let rows: Vec<_> = read
        .iter()
        .unwrap()
        .map(|row| row.unwrap())
        .map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
        .collect();
    drop(read);
    let (key, value) = &rows[row % rows.len()];
    let (mut new_key, mut new_value) = (key.clone(), value.clone());
    let bytes = if is_key { &mut new_key } else { &mut new_value };
    if bytes.is_empty() {
        return None;
    }
    let at = at % bytes.len();
    // Behind an anchor's origin and size stand its rank and a digest; another rank is as good.
    let rank = key.len().saturating_sub(36)..key.len().saturating_sub(32);
    if table == "anchors" && is_key && rank.contains(&at) {
        return None;
    }
    bytes[at] ^= 0x04;
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(table_of).unwrap();
        table.remove(key.as_slice()).unwrap();
        table.insert(new_key.as_slice(), new_value.as_slice()).unwrap();
    }
    write.commit().unwrap();
    Some(format!("{table}: row {row}, {}, byte {at}", if is_key { "key" } else { "value" }))
}

#[test]
fn a_byte_that_changed_anywhere_in_the_catalog_is_found() {
    let mut tried = 0;
    for table in TABLES {
        for (row, is_key) in [(0, true), (0, false), (1, true), (1, false)] {
            for at in [0, 9, 31, 77, 400, 9_999] {
                let site = Site::new();
                let Some(what) = damage(&site, table, row * 7, is_key, at) else { continue };
                let (faults, _) = site.fsck(&["--full"]);
                assert!(!faults.is_empty(), "{what}");
                assert!(
                    faults.iter().all(|fault| fault["why"].is_string() && fault["number"].is_u64()),
                    "{what}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn a_check_with_a_state_looks_at_what_is_new_and_again_at_what_was_wrong() {
    let site = Site::new();
    let state = site.path.join("state.json");
    let with = ["--state", state.to_str().unwrap()];
    let (_, first) = site.fsck(&with);
    let (_, second) = site.fsck(&with);
    assert_eq!((&second["batches"], &second["anchors"]), (&0.into(), &0.into()));
    fill(&site.path, EVENTS, 2 * EVENTS);
    let (_, third) = site.fsck(&with);
    let (_, whole) = site.fsck(&[]);
    let batches = |figures: &Value| figures["batches"].as_u64().unwrap();
    assert!(batches(&third) > 0);
    assert_eq!(batches(&first) + batches(&third), batches(&whole));
    assert_eq!(third["compared"], third["batches"]);

    // Not behind something wrong.
    fs::remove_file(&state).unwrap();
    damage(&site, "nodes", 0, false, 0).unwrap();
    let (wrong, _) = site.fsck(&with);
    assert_eq!(wrong, site.fsck(&with).0);
    assert!(!wrong.is_empty());
}

#[test]
fn calls_that_make_no_sense_are_refused_with_the_reason() {
    let site = Site::new();
    let bad = site.path.join("bad.json");
    fs::write(&bad, "{}x").unwrap();
    let bad = bad.to_str().unwrap();
    for (args, why) in [
        (&["fsck", "--embedded", site.text(), "--trust", bad][..], "--trust"),
        (&["fsck", "--embedded", site.text(), "--state", bad], "no state of a check"),
        (&["audit", "--embedded", site.text(), "--objective", "5"], "no length of time"),
        (
            &["audit", "--embedded", site.text(), "--manifests-only", "--objective", "5m"],
            "cannot be used with",
        ),
    ] {
        let output = killick(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{args:?}: {output:?}");
    }
    // A folder without the topics, and none at all.
    let empty = tempfile::tempdir().unwrap();
    drop(Folder::open(empty.path()).unwrap());
    for (args, why) in [
        (&["audit", "--embedded", empty.path().to_str().unwrap()][..], "nothing to audit"),
        (&["audit", "--embedded", "/nonexistent"], "/nonexistent"),
        (&["fsck", "--embedded", "/nonexistent"], "/nonexistent"),
    ] {
        let output = killick(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{args:?}: {output:?}");
    }
    // A trust file of others: nothing is signed by a key that it knows.
    let others = site.path.join("others.json");
    fs::write(&others, "{}").unwrap();
    let (faults, _) = site.fsck(&["--trust", others.to_str().unwrap()]);
    assert!(faults.iter().all(|fault| ["checkpoint", "anchor"].contains(&fault["fault"].as_str().unwrap())));
    assert!(!faults.is_empty());
}
