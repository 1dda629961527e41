//! A process that writes to log and catalog, killed at any moment: what it acknowledged is there, and every transaction
//! is there wholly or not at all.
//!
//! The process is this test program once more, told by the environment where to write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use killick_contract::catalog::{Maker, names};
use killick_embedded::{Cleanup, EmbeddedCatalog, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_stages::ports::{Catalog, Log, Polled, Producer};
use killick_stages::record::{Output, Partition};
use killick_stages::stage::Part;
use rand::RngExt;

const PLACE: &str = "KILLICK_CRASH_PLACE";
/// Threads that commit, each for two input partitions of its own in one transaction.
const THREADS: u32 = 3;
/// So small that kills meet the change of segments as well.
const SETTINGS: Settings = Settings { segment_bytes: 10_000, max_record: 2_000 };
const ORIGIN: &str = "crash.example/1/sha256/0";
const ANCHOR: &str = r#"{"type":"chainweb"}"#;

fn topics() -> Vec<TopicSpec> {
    let kept = Cleanup::Delete(Duration::from_secs(3_600));
    let spec = |name: &str, partitions, cleanup| TopicSpec {
        name: name.into(),
        partitions,
        cleanup,
        readers: vec![],
    };
    vec![spec("in", 2 * THREADS, kept), spec("out", 2, kept), spec("state", 1, Cleanup::Compact)]
}

fn inputs(thread: u32) -> [Partition; 2] {
    [2 * thread, 2 * thread + 1].map(|number| Partition::new("in", number))
}

fn open(place: &Path) -> (EmbeddedLog, EmbeddedCatalog) {
    let folder = Arc::new(Folder::open(place).expect("the folder is free"));
    let log = EmbeddedLog::open(&folder, &topics(), SETTINGS).expect("the log opens");
    (log, EmbeddedCatalog::open(&folder).expect("the catalog opens"))
}

// --- the process that is killed ----------------------------------------------------------------------------------

/// Says that something is acknowledged: one write, so that a kill leaves no half line.
fn acknowledge(what: &str, number: u64) {
    let line = format!("{what} {number}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

#[test]
fn the_process_that_is_killed() {
    let Some(place) = std::env::var_os(PLACE) else { return }; // run by itself it has nothing to do
    let (log, catalog) = open(Path::new(&place));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || commit_forever(log, thread));
        }
        scope.spawn(|| put_forever(&catalog));
    });
}

/// Moves the numbers of two inputs to two outputs and a state, one number a transaction, and brings new ones.
fn commit_forever(log: &EmbeddedLog, thread: u32) -> ! {
    let inputs = inputs(thread);
    let mut worker = log.worker("move", &inputs).expect("the partitions are there");
    let mut arrived: BTreeMap<u64, usize> = BTreeMap::new();
    loop {
        for event in worker.poll(Duration::ZERO).expect("a worker may poll") {
            let Polled::Record(record) = event else { continue };
            let number = String::from_utf8(record.value.to_vec()).expect("a text").parse().expect("a number");
            *arrived.entry(number).or_default() += 1;
        }
        while let Some(first) = arrived.first_entry()
            && *first.get() == inputs.len()
        {
            let number = first.remove_entry().0;
            let value = format!("{thread} {number}");
            let part = |input: usize| {
                let mut outputs = vec![Output::new(
                    Partition::new("out", u32::from(input == 1)),
                    value.clone(),
                    vec![7; input * 500],
                )];
                outputs.push(Output::new(Partition::new("state", 0), format!("{thread}"), value.clone()));
                (inputs[input].clone(), Part { outputs, through: Some(number + 1) })
            };
            worker.commit(&[part(0), part(1)]).expect("a transaction is committed");
            acknowledge(&format!("committed {thread}"), number);
        }
        let next = log.range(&inputs[0]).expect("the partition is there").1;
        let news = inputs.clone().map(|input| Output::new(input, "", next.to_string()));
        log.produce(&news).expect("records are taken");
        acknowledge(&format!("produced {thread}"), next);
    }
}

fn put_forever(catalog: &EmbeddedCatalog) -> ! {
    let mut made = Maker::new(ORIGIN);
    let size = catalog.log_size(ORIGIN).expect("a size");
    for number in 0.. {
        let batch = made.batch(0, &["t", "u"], 3);
        // The last one is put again: its anchor may be missing.
        if number + 1 < size {
            continue;
        }
        catalog.put_batch(&batch).expect("a batch is put");
        acknowledge("batch", number);
        catalog.put_anchor(&made.anchor(&batch, ANCHOR)).expect("an anchor is put");
        acknowledge("anchor", number);
    }
    unreachable!("numbers do not end")
}

// --- who kills and counts ----------------------------------------------------------------------------------------

#[test]
fn a_process_killed_at_any_moment_keeps_what_it_acknowledged() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50);
    let place = tempfile::tempdir().expect("a folder");
    let mut random = rand::rng();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..kills {
        // Some are killed while they still open the folder.
        let life = Duration::from_millis(random.random_range(if kill % 5 == 0 { 0..20 } else { 20..150 }));
        for (what, number) in run_and_kill(place.path(), life) {
            let newest = acknowledged.entry(what).or_default();
            *newest = number.max(*newest);
        }
        let (log, catalog) = open(place.path());
        (0..THREADS).for_each(|thread| check_log(&log, thread, &acknowledged));
        check_catalog(&catalog, &acknowledged, kill + 1 == kills);
    }
    assert_eq!(acknowledged.len(), 2 * THREADS as usize + 2, "everybody got somewhere: {acknowledged:?}");
    println!("acknowledged at the end: {acknowledged:?}");
}

/// What the process acknowledged before it was killed.
fn run_and_kill(place: &Path, life: Duration) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the process starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let listener = std::thread::spawn(move || {
        let lines = output.lines().map(|line| line.expect("lines of text"));
        let said = lines.filter_map(|line| {
            let (what, number) = line.rsplit_once(' ')?;
            Some((what.to_owned(), number.parse().ok()?))
        });
        said.filter(|(what, _)| {
            ["committed", "produced", "batch", "anchor"].iter().any(|word| what.starts_with(word))
        })
        .collect()
    });
    std::thread::sleep(life);
    child.kill().expect("it is ours");
    let status = child.wait().expect("it ends");
    assert!(status.code().is_none(), "it ended by itself: {status}");
    listener.join().expect("lines are read")
}

fn read_all(log: &EmbeddedLog, partition: &Partition) -> Vec<killick_stages::record::Record> {
    let mut records: Vec<killick_stages::record::Record> = Vec::new();
    loop {
        let next = records.last().map_or(0, |record| record.offset + 1);
        let more = log.read(partition, next, 100_000).expect("the log is whole");
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

fn check_log(log: &EmbeddedLog, thread: u32, acknowledged: &BTreeMap<String, u64>) {
    // How many are acknowledged: the numbers go up by one.
    let count = |what: &str| acknowledged.get(&format!("{what} {thread}")).map_or(0, |newest| newest + 1);
    let ends = inputs(thread).map(|input| log.range(&input).expect("the partition is there").1);
    assert!(ends[0] == ends[1] && ends[0] >= count("produced"), "{thread}: {ends:?}, {acknowledged:?}");
    for input in inputs(thread) {
        let produced = read_all(log, &input);
        assert_eq!(produced.len() as u64, ends[0]);
        assert!(produced.iter().all(|record| record.value == record.offset.to_string()));
    }
    let done = inputs(thread)
        .map(|input| log.committed("move", &input).expect("the partition is there").unwrap_or(0));
    assert!(done[0] == done[1] && done[0] >= count("committed"), "{thread}: {done:?}, {acknowledged:?}");
    let wanted: Vec<String> = (0..done[0]).map(|number| format!("{thread} {number}")).collect();
    let ours = format!("{thread} ");
    for output in [0, 1] {
        let written = read_all(log, &Partition::new("out", output));
        let written = written.iter().map(|record| String::from_utf8(record.key.to_vec()).expect("a text"));
        assert_eq!(written.filter(|key| key.starts_with(&ours)).collect::<Vec<_>>(), wanted, "out/{output}");
    }
    let state = read_all(log, &Partition::new("state", 0));
    let state = state.into_iter().find(|record| record.key == thread.to_string());
    assert_eq!(state.map(|record| record.value), wanted.last().map(|last| last.clone().into()));
}

fn check_catalog(catalog: &EmbeddedCatalog, acknowledged: &BTreeMap<String, u64>, all: bool) {
    let count = |what: &str| acknowledged.get(what).map_or(0, |newest| newest + 1);
    let size = catalog.log_size(ORIGIN).expect("a size");
    assert!(size >= count("batch"), "{size}, {acknowledged:?}");
    let mut made = Maker::new(ORIGIN);
    for number in 0..size {
        let batch = made.batch(0, &["t", "u"], 3);
        if !all && number + 3 < size {
            continue;
        }
        assert_eq!(catalog.batch(ORIGIN, number).expect("a look").as_ref(), Some(&batch));
        assert!(catalog.log_hash(ORIGIN, 0, number).expect("a look").is_some());
        for (index, (tenant, source, id)) in (0..).zip(names(&batch)) {
            let found = catalog.find(&tenant, &source, &id).expect("a look");
            assert!(found.len() == 1 && (found[0].number, found[0].index) == (number, index), "{found:?}");
        }
        let anchors = catalog.anchors_of(ORIGIN, number).expect("a look");
        if number < count("anchor") {
            assert_eq!(anchors.first(), Some(&made.anchor(&batch, ANCHOR)));
        }
    }
    assert_eq!(catalog.batch(ORIGIN, size).expect("a look"), None);
    assert!(catalog.log_hash(ORIGIN, 0, size).expect("a look").is_none());
}
