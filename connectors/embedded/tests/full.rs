//! A disk that takes no more: what cannot be written leaves nothing behind, and the log goes on with what fits.
//!
//! The disk is a limit on the size of files, which only a process of its own can have: this test program once more,
//! started by a shell that sets the limit. What it acknowledged is counted here, without the limit.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use killick_embedded::{Cleanup, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_stages::ports::{Log, LogError, Producer};
use killick_stages::record::{Output, Partition, Record};
use killick_stages::stage::Part;

const PLACE: &str = "KILLICK_FULL_PLACE";
const WHAT: &str = "KILLICK_FULL_WHAT";

fn open(place: &Path, segment_bytes: u64) -> EmbeddedLog {
    let kept = Cleanup::Delete(Duration::from_secs(3_600));
    let topics = [("in", kept), ("out", kept), ("state", Cleanup::Compact)];
    let topics = topics.map(|(name, cleanup)| TopicSpec {
        name: name.into(),
        partitions: 1,
        cleanup,
        readers: vec![],
    });
    let folder = Arc::new(Folder::open(place).expect("the folder is free"));
    let settings = Settings { segment_bytes, ..Settings::default() };
    EmbeddedLog::open(&folder, &topics, settings).expect("the log opens")
}

fn output(topic: &str, key: &str, len: usize) -> Output {
    Output::new(Partition::new(topic, 0), key.to_owned(), vec![b'x'; len])
}

fn read(log: &EmbeddedLog, topic: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |record| record.offset + 1);
        let more = log.read(&Partition::new(topic, 0), next, 10_000).expect("the log is whole");
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// Runs a part of this program in which no file grows beyond some 30 or 60 kB; returns what it says.
fn limited(what: &str, place: &Path) -> Vec<(String, u64)> {
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#])
        .arg(std::env::current_exe().expect("a program"))
        .args(["--exact", "the_process_with_the_limit", "--nocapture"])
        .env(PLACE, place)
        .env(WHAT, what)
        .output()
        .expect("a shell");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let told = said.lines().filter_map(|line| line.strip_prefix("told ")?.split_once(' '));
    told.map(|(what, number)| (what.to_owned(), number.parse().expect("a number"))).collect()
}

fn number_of(told: &[(String, u64)], what: &str) -> u64 {
    told.iter().find(|(name, _)| name == what).unwrap_or_else(|| panic!("nothing told of {what}: {told:?}")).1
}

#[test]
fn the_process_with_the_limit() {
    let Some(place) = std::env::var_os(PLACE) else { return }; // run by itself it has nothing to do
    let place = Path::new(&place);
    println!();
    match std::env::var(WHAT).expect("it is told what to do").as_str() {
        "writes" => write_until_full(place),
        _ => roll_into_the_limit(place),
    }
}

/// Commits large transactions until one fails, then small ones until those fail.
fn write_until_full(place: &Path) {
    let log = open(place, 1 << 20);
    let input = Partition::new("in", 0);
    let mut worker = log.worker("group", std::slice::from_ref(&input)).expect("a worker");
    let mut done = 0;
    let mut counts = [0_u64; 2];
    for (count, len) in counts.iter_mut().zip([3_000, 20]) {
        loop {
            let outputs = vec![output("out", &done.to_string(), len), output("state", "key", len)];
            match worker.commit(&[(input.clone(), Part { outputs, through: Some(done + 1) })]) {
                Ok(()) => (done, *count) = (done + 1, *count + 1),
                Err(LogError::Failed(_)) => break,
                Err(other) => panic!("a full disk is no more than a failure: {other}"),
            }
            assert!(done < 10_000, "there is no limit");
        }
        // What failed is not to be seen, and what was there is.
        assert_eq!(read(&log, "out").len() as u64, done);
        assert_eq!(log.committed("group", &input).expect("a partition"), (done > 0).then_some(done));
    }
    println!("told large {}\ntold small {}\ntold done {done}", counts[0], counts[1]);
}

#[test]
fn a_write_that_fails_leaves_nothing_and_smaller_ones_go_on() {
    let place = tempfile::tempdir().expect("a folder");
    let told = limited("writes", place.path());
    assert!(number_of(&told, "large") > 3 && number_of(&told, "small") > 0, "{told:?}");
    let done = number_of(&told, "done");
    let log = open(place.path(), 1 << 20);
    let keys: Vec<_> = read(&log, "out").into_iter().map(|record| record.key).collect();
    assert_eq!(keys, (0..done).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(log.committed("group", &Partition::new("in", 0)).expect("a partition"), Some(done));
    assert_eq!(read(&log, "state").len(), 1);
    log.produce(&[output("out", "more", 100_000)]).expect("without the limit it goes on");
    assert_eq!(read(&log, "out").len() as u64, done + 1);
}

/// Brings so much state that the next segment's head does not fit, and goes on in the segment that there is.
fn roll_into_the_limit(place: &Path) {
    let probe = place.join("probe");
    let error = std::fs::write(&probe, vec![0; 1 << 20]).expect_err("there is a limit");
    let limit = std::fs::metadata(&probe).expect("it is there").len();
    std::fs::remove_file(&probe).expect("it is ours");
    assert!((20_000..100_000).contains(&limit), "{limit}: {error}");
    // A record of 10 bytes takes 24 in its transaction and 60 in a head.
    let log = open(place, limit / 4);
    let state: Vec<_> = (0..limit / 40).map(|number| output("state", &format!("{number:04}"), 6)).collect();
    log.produce(&state).expect("it fits into the segment");
    let mut more = 0;
    while log.produce(&[output("out", &more.to_string(), 20)]).is_ok() {
        more += 1;
    }
    println!("told state {}\ntold more {more}", state.len());
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_nothing_and_the_old_one_goes_on() {
    let place = tempfile::tempdir().expect("a folder");
    let told = limited("segments", place.path());
    let (state, more) = (number_of(&told, "state"), number_of(&told, "more"));
    assert!(more > 20, "{told:?}");
    let names = |folder: &Path| {
        let files = std::fs::read_dir(folder).expect("a folder");
        files.map(|file| file.expect("a file").file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names(&place.path().join("log")), ["000000000001.seg"]);
    for _ in 0..2 {
        let log = open(place.path(), 5_000);
        assert_eq!(read(&log, "state").len() as u64, state);
        assert_eq!(read(&log, "out").len() as u64, more);
    }
    assert_eq!(names(&place.path().join("log")).len(), 2, "without the limit it goes on with a new one");
}
