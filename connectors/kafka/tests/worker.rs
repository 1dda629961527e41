//! Workers under what real topics, groups and producers do to them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use killick_kafka::{Join, KafkaLog, KafkaProducer, KafkaReader, Settings, Sharing, Start};
use killick_stages::ports::{Log, LogError, Polled, Producer, Reader};
use killick_stages::record::{Output, Partition, Record};
use killick_stages::stage::Part;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

mod support;

fn settings(prefix: &str) -> Settings {
    Settings { prefix: prefix.to_owned(), ..support::settings() }
}

fn join(settings: &Settings, topic: &str, slot: &str, start: Start) -> KafkaLog {
    let topics = [topic.to_owned()];
    let join = Join { group: "group", slot, topics: &topics, writes: &[], sharing: Sharing::Sticky, start };
    KafkaLog::join(settings, &join).expect("a worker joins")
}

/// Polls until `done` says so of what came, or an error.
fn poll_until(log: &mut KafkaLog, mut done: impl FnMut(&[Polled]) -> bool) -> Result<Vec<Polled>, LogError> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut all = Vec::new();
    while !done(&all) {
        assert!(Instant::now() < deadline, "nothing more came after {all:?}");
        all.extend(log.poll(Duration::from_millis(50))?);
    }
    Ok(all)
}

fn records(polled: &[Polled]) -> Vec<&Record> {
    fn record(event: &Polled) -> Option<&Record> {
        if let Polled::Record(record) = event { Some(record) } else { None }
    }
    polled.iter().filter_map(record).collect()
}

#[test]
fn whatever_a_producer_writes_is_read_and_stops_nothing() {
    let (settings, topic) = (settings(&support::unique("")), support::unique("hostile"));
    support::make_topic(&topic, 1, &[]);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", support::brokers()).create().unwrap();
    let raw = hostile_headers();
    let send =
        |record: BaseRecord<'_, [u8], [u8]>| producer.send(record.partition(0)).map_err(|(error, _)| error);
    send(BaseRecord::to(&topic).payload(&b"names that are no text"[..]).headers(raw)).unwrap();
    send(BaseRecord::to(&topic)).unwrap();
    send(BaseRecord::to(&topic).key(&[0xff; 3][..]).payload(&[0; 100_000][..])).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut log = join(&settings, &topic, "0", Start::FirstKept);
    let polled = poll_until(&mut log, |polled| records(polled).len() == 3).unwrap();
    let records = records(&polled);
    let names: Vec<_> = records[0].headers.iter().map(|header| (&*header.name, &header.value[..])).collect();
    assert_eq!(names, [("\u{fffd}\u{fffd}", &b"x"[..]), ("", b""), ("a", b"\0\xff")]);
    assert_eq!((&records[1].key[..], &records[1].value[..]), (&b""[..], &b""[..]));
    assert_eq!((records[2].key.len(), records[2].value.len()), (3, 100_000));
}

/// Headers as only clients in other languages can send them.
#[allow(
    unsafe_code,
    reason = "the library takes names as text only; it passes the bytes on without reading them"
)]
fn hostile_headers() -> OwnedHeaders {
    let name = vec![0xff, 0xfe];
    // SAFETY: the name goes from here to the C library as a pointer and a length, and nothing reads it as text.
    let broken = unsafe { std::str::from_utf8_unchecked(&name) };
    OwnedHeaders::new()
        .insert(Header { key: broken, value: Some("x") })
        .insert(Header { key: "", value: Some("") })
        .insert(Header { key: "a", value: Some(&b"\0\xff"[..]) })
}

#[test]
fn a_group_without_offsets_begins_only_where_it_was_told_to() {
    let (settings, topic) = (settings(&support::unique("")), support::unique("begin"));
    support::make_topic(&topic, 2, &[]);
    let mut log = join(&settings, &topic, "0", Start::Committed);
    let refused = poll_until(&mut log, |_| false).unwrap_err();
    let LogError::Damaged(why) = &refused else { panic!("{refused}") };
    assert!(why.contains(&topic) && why.contains("killick topics apply"), "{why}");
}

#[test]
fn records_that_went_before_they_were_read_are_not_passed_over() {
    let (settings, topic) = (settings(&support::unique("")), support::unique("trimmed"));
    support::make_topic(&topic, 1, &[]);
    let input = Partition::new(&*topic, 0);
    let producer = KafkaProducer::open(&settings, "test").unwrap();
    let some = |value: u8| Output::new(input.clone(), "", vec![value]);
    producer.produce(&[some(0)]).unwrap();
    let mut log = join(&settings, &topic, "0", Start::FirstKept);
    let polled = poll_until(&mut log, |polled| !records(polled).is_empty()).unwrap();
    let through = Some(records(&polled)[0].offset + 1);
    log.commit(&[(input.clone(), Part { outputs: Vec::new(), through })]).unwrap();
    drop(log);
    for value in 0..9 {
        producer.produce(&[some(value)]).unwrap();
    }
    support::delete_records(&topic, 0, 5);
    let mut log = join(&settings, &topic, "0", Start::FirstKept);
    let refused = poll_until(&mut log, |polled| !records(polled).is_empty()).unwrap_err();
    let LogError::Damaged(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("offset 1 of") && why.contains("removed before"), "{why}");
}

#[test]
fn every_record_is_moved_once_while_workers_come_and_go() {
    const RECORDS: usize = 60_000;
    const PARTITIONS: u32 = 4;
    let (settings, from, to) =
        (settings(&support::unique("")), support::unique("copy-from"), support::unique("copy-to"));
    for topic in [&from, &to] {
        support::make_topic(topic, 4, &[]);
    }
    let producer = KafkaProducer::open(&settings, "test").unwrap();
    let outputs: Vec<_> = (0..RECORDS)
        .map(|number| {
            let partition = Partition::new(&*from, u32::try_from(number).unwrap() % PARTITIONS);
            Output::new(partition, "", number.to_string())
        })
        .collect();
    let (moved, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for some in outputs.chunks(500) {
                producer.produce(some).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        for slot in 0..3_u64 {
            let (settings, from, to, moved, is_over) = (&settings, &from, &to, &moved, &is_over);
            scope.spawn(move || {
                // One stays, the others live for some seconds each, and some of them die in the middle of a batch.
                let life = if slot == 0 { 1_000 } else { 3 + 2 * slot };
                while !is_over.load(Ordering::Relaxed) {
                    let log = join(settings, from, &slot.to_string(), Start::FirstKept);
                    copy(log, to, Duration::from_secs(life), moved, is_over);
                }
            });
        }
        let mut reader = KafkaReader::open(&settings, "count").unwrap();
        let deadline = Instant::now() + Duration::from_secs(180);
        while count(&mut reader, &to) < RECORDS {
            assert!(Instant::now() < deadline, "{} of {RECORDS} are moved", count(&mut reader, &to));
            std::thread::sleep(Duration::from_millis(500));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let mut reader = KafkaReader::open(&settings, "check").unwrap();
    for partition in reader.partitions(&to).unwrap() {
        let found: Vec<u32> = read(&mut reader, &partition)
            .iter()
            .map(|record| std::str::from_utf8(&record.value).unwrap().parse().unwrap())
            .collect();
        let wanted: Vec<u32> = (0..u32::try_from(RECORDS).unwrap())
            .filter(|number| number % PARTITIONS == partition.number)
            .collect();
        assert_eq!(found, wanted, "each once, in order");
    }
}

/// Copies from partition to partition, for a while.
fn copy(mut log: KafkaLog, to: &str, life: Duration, moved: &AtomicUsize, is_over: &AtomicBool) {
    let end = Instant::now() + life;
    while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
        let polled = match log.poll(Duration::from_millis(50)) {
            Ok(polled) => polled,
            Err(LogError::Over(_)) => return,
            Err(error) => panic!("{error}"),
        };
        let mut parts: BTreeMap<Partition, Part> = BTreeMap::new();
        for record in records(&polled) {
            let part = parts.entry(record.partition.clone()).or_default();
            part.outputs.push(Output::new(
                Partition::new(to, record.partition.number),
                Bytes::new(),
                record.value.clone(),
            ));
            part.through = Some(record.offset + 1);
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        while !parts.is_empty() {
            match log.commit(&parts) {
                Ok(()) => {
                    moved
                        .fetch_add(parts.iter().map(|(_, part)| part.outputs.len()).sum(), Ordering::Relaxed);
                    break;
                }
                Err(LogError::Lost(lost)) => parts.retain(|(partition, _)| *partition != lost),
                Err(LogError::Failed(_)) => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn read(reader: &mut KafkaReader, partition: &Partition) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let records = reader.read(partition, all.last().map_or(0, |last| last.offset + 1), 4 << 20).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

fn count(reader: &mut KafkaReader, topic: &str) -> usize {
    let partitions = reader.partitions(topic).unwrap();
    partitions.iter().map(|partition| read(reader, partition).len()).sum()
}
