use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use killick_stages::ports::{Log, LogError, Polled, Producer};
use killick_stages::record::{Output, Partition};
use killick_stages::stage::Part;

use super::entry::{Entry, MAGIC};
use super::{Cleanup, EmbeddedLog, Settings, TopicSpec, segment};
use crate::folder::Folder;

const DAY: Duration = Duration::from_secs(86_400);
const SMALL: Settings = Settings { segment_bytes: 2_000, max_record: 1_000 };

fn topic(name: &str, partitions: u32, cleanup: Cleanup, readers: &[&str]) -> TopicSpec {
    let readers = readers.iter().map(|reader| (*reader).into()).collect();
    TopicSpec { name: name.into(), partitions, cleanup, readers }
}

fn topics() -> Vec<TopicSpec> {
    vec![
        topic("in", 2, Cleanup::Delete(DAY), &["group"]),
        topic("out", 2, Cleanup::Delete(DAY), &[]),
        topic("state", 2, Cleanup::Compact, &[]),
    ]
}

fn open(path: &Path, settings: Settings) -> EmbeddedLog {
    let folder = Arc::new(Folder::open(path).unwrap());
    EmbeddedLog::open(&folder, &topics(), settings).unwrap()
}

fn put(log: &EmbeddedLog, topic: &str, value: &str) {
    let output = Output::new(Partition::new(topic, 0), format!("key of {value}"), value.to_owned());
    log.produce(&[output]).unwrap();
}

fn values(log: &EmbeddedLog, topic: &str) -> Vec<String> {
    let partition = Partition::new(topic, 0);
    let (mut next, end) = log.range(&partition).unwrap();
    let mut values = Vec::new();
    while next < end {
        let records = log.read(&partition, next, 300).unwrap();
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        values.extend(records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
    }
    values
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("value {number:06}")).collect()
}

#[test]
fn what_was_written_over_many_segments_is_read_back_in_order_also_after_reopening() {
    let place = tempfile::tempdir().unwrap();
    let wanted = numbers(0..400);
    {
        let log = open(place.path(), SMALL);
        wanted.iter().for_each(|value| put(&log, "in", value));
        assert_eq!(values(&log, "in"), wanted);
    }
    assert!(segment::list(&place.path().join("log")).unwrap().len() > 10);
    let log = open(place.path(), SMALL);
    assert_eq!(values(&log, "in"), wanted);
    put(&log, "in", "value 000400");
    assert_eq!(values(&log, "in"), numbers(0..401));
}

#[test]
fn a_compacted_partition_keeps_the_newest_of_each_key_over_segments_and_reopening() {
    let place = tempfile::tempdir().unwrap();
    let keep = |log: &EmbeddedLog, key: &str, value: &str| {
        log.produce(&[Output::new(Partition::new("state", 1), key.to_owned(), value.to_owned())]).unwrap();
    };
    let read = |log: &EmbeddedLog| {
        let records = log.read(&Partition::new("state", 1), 0, 1 << 20).unwrap();
        records
            .iter()
            .map(|record| (record.offset, record.key.clone(), record.value.clone()))
            .collect::<Vec<_>>()
    };
    let before = {
        let log = open(place.path(), SMALL);
        keep(&log, "gone", "soon");
        keep(&log, "stays", "old");
        keep(&log, "stays", "new");
        keep(&log, "gone", "");
        numbers(0..200).iter().for_each(|value| put(&log, "in", value));
        keep(&log, "late", "here");
        let before = read(&log);
        assert_eq!(before, [(2, "stays".into(), "new".into()), (4, "late".into(), "here".into())]);
        before
    };
    let log = open(place.path(), SMALL);
    assert_eq!(read(&log), before);
}

#[test]
fn a_torn_end_is_cut_off_at_every_byte_and_nothing_before_it_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let settings = Settings::default();
    {
        let log = open(place.path(), settings);
        numbers(0..3).iter().for_each(|value| put(&log, "in", value));
    }
    let file = segment::path(&place.path().join("log"), 1);
    let whole = std::fs::read(&file).unwrap();
    // Where each entry ends, found by cutting: the number of readable records says it. A head is never torn: a segment
    // has its name only when that is durable.
    let mut seen = Vec::new();
    let head = {
        let handle = std::fs::File::open(&file).unwrap();
        let mut ends = Vec::new();
        segment::scan(&handle, true, |entry, position, _| ends.push(position + entry.blob_len())).unwrap();
        usize::try_from(ends[0]).unwrap()
    };
    for cut in (head..=whole.len()).rev() {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let log = open(place.path(), settings);
        let found = values(&log, "in");
        assert_eq!(found, numbers(0..found.len() as u64), "cut at {cut}");
        seen.push(found.len());
        put(&log, "in", &format!("value {:06}", found.len()));
        assert_eq!(values(&log, "in"), numbers(0..found.len() as u64 + 1), "written after a cut at {cut}");
        drop(log);
    }
    assert_eq!(seen[0], 3);
    assert!(seen.is_sorted_by(|a, b| a >= b) && seen.contains(&2) && seen.contains(&1) && seen.contains(&0));
}

#[test]
fn a_flipped_byte_in_what_was_durable_is_damage_and_named() {
    let place = tempfile::tempdir().unwrap();
    {
        let log = open(place.path(), Settings::default());
        numbers(0..3).iter().for_each(|value| put(&log, "in", value));
    }
    let file = segment::path(&place.path().join("log"), 1);
    let whole = std::fs::read(&file).unwrap();
    let second = whole.windows(12).position(|window| window == b"value 000001").unwrap();
    for at in [0, 20, second] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let folder = Arc::new(Folder::open(place.path()).unwrap());
        match EmbeddedLog::open(&folder, &topics(), Settings::default()) {
            Err(LogError::Damaged(why)) => assert!(why.contains("000000000001.seg at byte"), "{why}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a flip at {at} was not noticed"),
        }
    }
}

#[test]
fn a_flipped_byte_in_an_old_segment_is_found_when_it_is_read() {
    let place = tempfile::tempdir().unwrap();
    {
        let log = open(place.path(), SMALL);
        numbers(0..200).iter().for_each(|value| put(&log, "in", value));
    }
    let file = segment::path(&place.path().join("log"), 1);
    let whole = std::fs::read(&file).unwrap();
    let at = whole.windows(12).position(|window| window == b"value 000001").unwrap();
    let handle = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    handle.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    let log = open(place.path(), SMALL);
    let error = log.read(&Partition::new("in", 0), 1, 1 << 20).unwrap_err();
    assert!(matches!(&error, LogError::Damaged(why) if why.contains("000000000001.seg at byte")), "{error}");
}

#[test]
fn a_segment_that_was_being_made_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let last = {
        let log = open(place.path(), SMALL);
        numbers(0..100).iter().for_each(|value| put(&log, "in", value));
        *segment::list(&place.path().join("log")).unwrap().last().unwrap()
    };
    let half = segment::draft(&place.path().join("log"), last + 1);
    for content in [&b""[..], b"killick1", &[0; 300]] {
        std::fs::write(&half, content).unwrap();
        let log = open(place.path(), SMALL);
        assert_eq!(values(&log, "in"), numbers(0..100));
        assert!(!half.exists());
    }
}

#[test]
fn a_segment_without_its_head_or_one_that_is_missing_is_damage() {
    let place = tempfile::tempdir().unwrap();
    let log_folder = place.path().join("log");
    {
        let log = open(place.path(), SMALL);
        numbers(0..100).iter().for_each(|value| put(&log, "in", value));
    }
    let last = *segment::list(&log_folder).unwrap().last().unwrap();
    let damaged = |what: &str| {
        let folder = Arc::new(Folder::open(place.path()).unwrap());
        let error = EmbeddedLog::open(&folder, &topics(), SMALL).err().expect(what);
        assert!(matches!(error, LogError::Damaged(_)), "{what}: {error}");
        error.to_string()
    };
    let file = segment::path(&log_folder, last);
    let whole = std::fs::read(&file).unwrap();
    for cut in [0, 1, 40] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        assert!(damaged("a cut head").contains(&format!("{last:012}.seg at byte 0")));
    }
    std::fs::write(&file, &whole).unwrap();
    let middle = segment::path(&log_folder, 3);
    std::fs::rename(&middle, place.path().join("away")).unwrap();
    assert!(damaged("a gap").contains("000000000003.seg"));
    std::fs::rename(place.path().join("away"), &middle).unwrap();
    assert_eq!(values(&open(place.path(), SMALL), "in"), numbers(0..100));
}

#[test]
fn an_old_segment_that_was_cut_is_damage_and_not_an_end() {
    let place = tempfile::tempdir().unwrap();
    {
        let log = open(place.path(), SMALL);
        numbers(0..100).iter().for_each(|value| put(&log, "in", value));
    }
    let file =
        std::fs::OpenOptions::new().write(true).open(segment::path(&place.path().join("log"), 1)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let log = open(place.path(), SMALL);
    let error = log.read(&Partition::new("in", 0), 0, 1 << 20).unwrap_err();
    assert!(matches!(&error, LogError::Damaged(why) if why.contains("000000000001.seg at byte")), "{error}");
}

#[test]
fn what_a_record_holds_is_never_taken_for_an_entry() {
    let place = tempfile::tempdir().unwrap();
    // Whoever chooses a value tries to make the torn end look like damage: bytes as an entry that knew all durable.
    let mut forged = Vec::new();
    let entry = Entry { synced: 1 << 40, ..Entry::default() };
    for marker in [MAGIC, 0, u64::MAX] {
        entry.encode(marker, &mut forged);
    }
    let settings = Settings::default();
    {
        let log = open(place.path(), settings);
        put(&log, "in", "value 000000");
        log.produce(&[Output::new(Partition::new("in", 0), "", forged)]).unwrap();
    }
    let file =
        std::fs::OpenOptions::new().write(true).open(segment::path(&place.path().join("log"), 1)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert_eq!(values(&open(place.path(), settings), "in"), numbers(0..1));
}

#[test]
fn who_opens_the_log_without_naming_its_topics_removes_nothing() {
    let place = tempfile::tempdir().unwrap();
    {
        let log = open(place.path(), Settings::default());
        numbers(0..100).iter().for_each(|value| put(&log, "in", value));
    }
    for _ in 0..3 {
        let folder = Arc::new(Folder::open(place.path()).unwrap());
        let log = EmbeddedLog::open(&folder, &[], SMALL).unwrap();
        assert_eq!(values(&log, "in"), numbers(0..100));
    }
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let log = EmbeddedLog::open(&folder, &[], SMALL).unwrap();
    numbers(100..200).iter().for_each(|value| put(&log, "in", value));
    assert_eq!(values(&log, "in"), numbers(0..200));
}

#[test]
fn a_state_larger_than_a_segment_is_not_written_anew_with_every_commit() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    for number in 0..200 {
        let output = Output::new(Partition::new("state", 0), format!("key {number}"), vec![1; 100]);
        log.produce(&[output]).unwrap();
    }
    let before = *segment::list(&place.path().join("log")).unwrap().last().unwrap();
    numbers(0..100).iter().for_each(|value| put(&log, "in", value));
    let after = *segment::list(&place.path().join("log")).unwrap().last().unwrap();
    assert!(after - before <= 1, "{} segments for 100 small commits", after - before);
    drop(log);
    let log = open(place.path(), SMALL);
    assert_eq!(log.read(&Partition::new("state", 0), 0, 1).unwrap().len(), 200);
}

#[test]
fn a_worker_that_cannot_be_takes_nothing_from_others() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    let inputs = [Partition::new("in", 0), Partition::new("in", 7)];
    let mut owner = log.worker("group", &inputs[..1]).unwrap();
    assert!(matches!(log.worker("group", &inputs), Err(LogError::Unknown(wrong)) if wrong == inputs[1]));
    assert!(matches!(log.worker(&"g".repeat(250), &inputs[..1]), Err(LogError::Failed(_))));
    owner.commit(&[(inputs[0].clone(), Part { outputs: vec![], through: Some(0) })]).unwrap();
    // A partition named twice is one.
    let mut worker = log.worker("group", &[inputs[0].clone(), inputs[0].clone()]).unwrap();
    assert_eq!(worker.poll(Duration::ZERO).unwrap(), [Polled::Assigned(inputs[0].clone(), 0)]);
}

#[test]
fn a_waiting_worker_hears_at_once_that_it_lost_its_partition() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    let input = Partition::new("in", 0);
    let mut old = log.worker("group", std::slice::from_ref(&input)).unwrap();
    old.poll(Duration::ZERO).unwrap();
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            log.worker("group", std::slice::from_ref(&input)).unwrap();
        });
        assert_eq!(old.poll(Duration::from_secs(60)).unwrap(), [Polled::Revoked(input.clone())]);
    });
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_header_whose_name_is_too_long_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), Settings::default());
    let mut output = Output::new(Partition::new("out", 0), "", "value");
    let name = "n".repeat(65_536).into();
    output.headers = vec![killick_stages::record::Header { name, value: Default::default() }];
    let refused = log.produce(std::slice::from_ref(&output));
    assert!(matches!(refused, Err(LogError::TooLarge { size: 65_536, limit: 65_535, .. })), "{refused:?}");
    output.headers[0].name = "n".repeat(65_535).into();
    log.produce(&[output]).unwrap();
}

#[test]
fn only_what_all_readers_have_read_and_what_is_old_goes() {
    let place = tempfile::tempdir().unwrap();
    let short = || {
        let mut topics = topics();
        topics.iter_mut().filter(|topic| topic.cleanup != Cleanup::Compact).for_each(|topic| {
            topic.cleanup = Cleanup::Delete(Duration::ZERO);
        });
        topics
    };
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let log = EmbeddedLog::open(&folder, &short(), SMALL).unwrap();
    let partition = Partition::new("in", 0);
    numbers(0..200).iter().for_each(|value| put(&log, "in", value));
    assert_eq!(log.range(&partition).unwrap(), (0, 200), "the group has read nothing");

    let mut worker = log.worker("group", std::slice::from_ref(&partition)).unwrap();
    worker.commit(&[(partition.clone(), Part { outputs: vec![], through: Some(150) })]).unwrap();
    numbers(200..300).iter().for_each(|value| put(&log, "in", value));
    let (start, end) = log.range(&partition).unwrap();
    assert!(0 < start && start <= 150 && end == 300, "{start}..{end}");
    assert_eq!(values(&log, "in"), numbers(start..300));
    drop((worker, log));
    let log = EmbeddedLog::open(&folder, &short(), SMALL).unwrap();
    assert_eq!(values(&log, "in"), numbers(log.range(&partition).unwrap().0..300));
}

#[test]
fn topics_can_come_but_partitions_cannot_change() {
    let place = tempfile::tempdir().unwrap();
    {
        let log = open(place.path(), SMALL);
        put(&log, "in", "before");
    }
    let mut more = topics();
    more.insert(0, topic("new", 3, Cleanup::Delete(DAY), &[]));
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    {
        let log = EmbeddedLog::open(&folder, &more, SMALL).unwrap();
        put(&log, "new", "after");
        assert_eq!((values(&log, "in"), values(&log, "new")), (vec!["before".into()], vec!["after".into()]));
    }
    more[1].partitions = 5;
    let error = EmbeddedLog::open(&folder, &more, SMALL).err().unwrap().to_string();
    assert!(error.contains("2 partitions of in") && error.contains("5 are wanted"), "{error}");
}

#[test]
fn a_worker_that_lost_its_partition_writes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    let input = Partition::new("in", 1);
    let mut old = log.worker("group", std::slice::from_ref(&input)).unwrap();
    let wait = Duration::from_millis(1);
    assert_eq!(old.poll(wait).unwrap(), [Polled::Assigned(input.clone(), 0)]);
    let mut new = log.worker("group", std::slice::from_ref(&input)).unwrap();
    let outputs = vec![Output::new(Partition::new("out", 0), "", "from the old one")];
    let parts = [(input.clone(), Part { outputs, through: Some(7) })];
    assert!(matches!(old.commit(&parts), Err(LogError::Lost(lost)) if lost == input));
    assert!(matches!(old.tick(&input), Err(LogError::Lost(_))));
    assert_eq!(old.poll(wait).unwrap(), [Polled::Revoked(input.clone())]);
    assert_eq!(old.poll(wait).unwrap(), []);
    assert_eq!((values(&log, "out"), log.committed("group", &input).unwrap()), (vec![], None));
    new.commit(&parts).unwrap();
    assert_eq!(log.committed("group", &input).unwrap(), Some(7));
}

#[test]
fn a_record_that_is_too_large_is_refused_with_all_that_came_with_it() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    let partition = Partition::new("out", 0);
    let outputs = [Output::new(partition.clone(), "", "small"), Output::new(partition, "", vec![0; 1_000])];
    assert!(matches!(log.produce(&outputs), Err(LogError::TooLarge { size: 1_010, limit: 1_000, .. })));
    assert!(values(&log, "out").is_empty());
}

#[test]
fn many_who_commit_at_once_all_get_their_own_order() {
    let place = tempfile::tempdir().unwrap();
    let log = open(place.path(), SMALL);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..50 {
                    let value = format!("{thread} {number:02}");
                    log.produce(&[Output::new(Partition::new("in", 0), "", value)]).unwrap();
                }
            });
        }
    });
    let all = values(&log, "in");
    assert_eq!(all.len(), 400);
    for thread in 0..8 {
        let own: Vec<_> = all.iter().filter(|value| value.starts_with(&format!("{thread} "))).collect();
        assert!(own.len() == 50 && own.is_sorted(), "{own:?}");
    }
}

#[test]
fn a_large_transaction_is_read_in_pieces() {
    let place = tempfile::tempdir().unwrap();
    let output = |number: usize| {
        Output::new(Partition::new("in", u32::from(number.is_multiple_of(3))), "", vec![number as u8; 1_000])
    };
    let outputs: Vec<_> = (0..6_000).map(output).collect();
    open(place.path(), Settings::default()).produce(&outputs).unwrap();
    let log = open(place.path(), Settings::default());
    for number in [0, 1] {
        let partition = Partition::new("in", number);
        let wanted = outputs.iter().filter(|output| output.partition == partition);
        let mut found = Vec::new();
        loop {
            let piece = log.read(&partition, found.len() as u64, 1).unwrap();
            if piece.is_empty() {
                break;
            }
            assert!(piece.len() < 300, "{} records at once", piece.len());
            found.extend(piece.into_iter().map(|record| record.value));
        }
        assert!(found.iter().eq(wanted.map(|output| &output.value)), "{} records of {number}", found.len());
    }
}

#[test]
fn a_poll_is_bounded_and_no_partition_waits_for_the_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let topics = [topic("wide", 30, Cleanup::Delete(DAY), &[])];
    let log = EmbeddedLog::open(&folder, &topics, Settings::default()).unwrap();
    let inputs = log.partitions("wide");
    for input in &inputs {
        let output = || Output::new(input.clone(), "", vec![0; 300_000]);
        log.produce(&[output(), output(), output(), output(), output(), output()]).unwrap();
    }
    let mut worker = log.worker("group", &inputs).unwrap();
    assert_eq!(worker.poll(Duration::ZERO).unwrap().len(), 30);
    let mut seen: std::collections::BTreeMap<Partition, u64> = std::collections::BTreeMap::new();
    for poll in 0..30 {
        let polled = worker.poll(Duration::ZERO).unwrap();
        assert!(polled.len() < 40, "{} records of 300 kB at once", polled.len());
        for event in polled {
            let Polled::Record(record) = event else { panic!("{event:?}") };
            assert_eq!(
                record.offset,
                *seen.entry(record.partition.clone()).and_modify(|n| *n += 1).or_default()
            );
        }
        assert!(poll < 5 || seen.len() == 30, "after {poll} polls only {} partitions", seen.len());
    }
    assert!(seen.len() == 30 && seen.values().all(|last| *last == 5), "{seen:?}");
}

#[test]
fn a_partition_that_cannot_be_read_is_told_of_though_others_can() {
    let place = tempfile::tempdir().unwrap();
    let value = |number: u32| format!("partition {number}");
    {
        let log = open(place.path(), SMALL);
        for number in [0, 1] {
            log.produce(&[Output::new(Partition::new("in", number), "", value(number))]).unwrap();
        }
        numbers(0..100).iter().for_each(|value| put(&log, "out", value));
    }
    let file = segment::path(&place.path().join("log"), 1);
    let whole = std::fs::read(&file).unwrap();
    let log = open(place.path(), SMALL);
    for bad in [0, 1] {
        let at = whole.windows(11).position(|window| window == value(bad).as_bytes()).unwrap();
        let mut cut = whole.clone();
        cut[at] ^= 1;
        std::fs::write(&file, &cut).unwrap();
        let mut worker = log.worker("group", &log.partitions("in")).unwrap();
        assert_eq!(worker.poll(Duration::ZERO).unwrap().len(), 2, "both are assigned");
        let polls = [(), ()].map(|()| worker.poll(Duration::ZERO));
        let errors = polls.iter().filter(|poll| matches!(poll, Err(LogError::Damaged(_)))).count();
        let records = polls.iter().flatten().flatten().count();
        assert_eq!((errors, records), (1, 1), "{polls:?}");
        std::fs::write(&file, &whole).unwrap();
    }
}
