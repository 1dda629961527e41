//! A broker that restarts may forget to end a transaction in some of its partitions. What is left open there is of the same
//! producer as the next transaction, whose end would be its end, too.
//!
//! Here a broker of our own is brought into that state: it is told to take records of a transaction that its coordinator
//! knows nothing of, as they would be left behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use killick_kafka::{Join, KafkaLog, KafkaProducer, KafkaReader, Settings, Sharing, Start};
use killick_stages::ports::{Log, LogError, Polled, Producer, Reader};
use killick_stages::record::{Output, Partition};
use killick_stages::span::Span;
use killick_stages::stage::Part;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use tempfile::TempDir;

mod support;

const PRODUCE: i16 = 0;
const FIND_COORDINATOR: i16 = 10;
const INIT_PRODUCER_ID: i16 = 22;
/// The bytes of a record batch before its records.
const BATCH: usize = 61;

/// A broker that does not ask its coordinator whether there is a transaction, for as long as the test holds it.
struct Broker {
    folder: TempDir,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let broker = Self { folder, address: format!("127.0.0.1:{}", ports[0]) };
        broker.local("up", &["kafka"], &ports);
        let admin = broker.admin();
        let unasked = AlterConfig::new(ResourceSpecifier::Broker(1))
            .set("transaction.partition.verification.enable", "false");
        let changed = block(admin.alter_configs([&unasked], &AdminOptions::new())).unwrap();
        changed.into_iter().for_each(|changed| drop(changed.unwrap()));
        broker
    }

    fn local(&self, script: &str, arguments: &[&str], ports: &[u16]) {
        let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local");
        let mut command = Command::new(local.join(script));
        command.args(arguments).arg("--dir").arg(self.folder.path()).env_remove("KAFKA_EXTRA_LISTENERS");
        let names = ["KAFKA_PORT", "KAFKA_CONTROLLER_PORT"];
        command.envs(names.into_iter().zip(ports.iter().map(u16::to_string)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.address).create().unwrap()
    }

    fn settings(&self) -> Settings {
        Settings {
            brokers: vec![self.address.clone()],
            transaction_timeout: Span::secs(5),
            ..support::quick()
        }
    }

    /// A request, by its number and version; returns what comes after the correlation id.
    fn ask(&self, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
        let mut request = [key.to_be_bytes(), version.to_be_bytes()].concat();
        request.extend(1_i32.to_be_bytes());
        request.extend(text("test"));
        request.extend(body);
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(&i32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&request).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut answer).unwrap();
        answer.split_off(4)
    }

    /// The producer's number and epoch; ends what one of the same name has open.
    fn producer(&self, id: &str) -> (i64, i16) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            let answer = self.ask(INIT_PRODUCER_ID, 0, &[&text(id)[..], &5_000_i32.to_be_bytes()].concat());
            if answer[4..6] == [0, 0] {
                break answer;
            }
            assert!(Instant::now() < deadline, "the producer does not start: {:?}", &answer[4..6]);
            // The question is what makes the coordinator's topic.
            self.ask(FIND_COORDINATOR, 1, &[&text(id)[..], &[1]].concat());
            std::thread::sleep(Duration::from_millis(100));
        };
        let number = i64::from_be_bytes(answer[6..14].try_into().unwrap());
        (number, i16::from_be_bytes(answer[14..16].try_into().unwrap()))
    }

    /// Leaves a record of a transaction of this name open in partition 0 of some topics.
    fn leave_open(&self, id: &str, topics: &[&str], value: &str, mark: Option<&str>) {
        let producer = self.producer(id);
        for topic in topics {
            let records = batch(producer, value, mark);
            let mut body = text(id);
            body.extend(
                [&(-1_i16).to_be_bytes()[..], &5_000_i32.to_be_bytes(), &1_i32.to_be_bytes()].concat(),
            );
            body.extend(text(topic));
            body.extend([&1_i32.to_be_bytes()[..], &0_i32.to_be_bytes()].concat());
            body.extend(i32::try_from(records.len()).unwrap().to_be_bytes());
            body.extend(records);
            let answer = self.ask(PRODUCE, 3, &body);
            // One topic, its name, one partition, its number: then the error.
            let at = 4 + 2 + topic.len() + 4 + 4;
            assert_eq!(answer[at..at + 2], [0, 0], "the record is taken");
        }
    }

    /// The text that the group has committed beside its offset.
    fn token(&self, group: &str, input: &Partition) -> String {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(input.topic.as_str(), 0);
        let found = consumer.committed_offsets(list, Duration::from_secs(10)).unwrap();
        found.elements()[0].metadata().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.local("down", &["--erase"], &[]);
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A string as requests have it.
fn text(text: &str) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// A number as records have it.
fn varint(number: i64, into: &mut Vec<u8>) {
    let mut rest = u64::try_from((number << 1) ^ (number >> 63)).unwrap();
    while rest >= 0x80 {
        into.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    into.push(u8::try_from(rest).unwrap());
}

/// A batch of one record, the first of its producer, in a transaction.
fn batch((producer, epoch): (i64, i16), value: &str, mark: Option<&str>) -> Vec<u8> {
    let sized = |bytes: &[u8], into: &mut Vec<u8>| {
        varint(i64::try_from(bytes.len()).unwrap(), into);
        into.extend(bytes);
    };
    // No attributes, time and offset of the batch, no key.
    let mut record = vec![0, 0, 0, 1];
    sized(value.as_bytes(), &mut record);
    varint(i64::from(mark.is_some()), &mut record);
    if let Some(mark) = mark {
        sized(b"killick-transaction", &mut record);
        sized(mark.as_bytes(), &mut record);
    }
    let mut records = Vec::new();
    sized(&record, &mut records);
    const TRANSACTIONAL: i16 = 1 << 4;
    let mut checked = TRANSACTIONAL.to_be_bytes().to_vec();
    checked.extend(0_i32.to_be_bytes());
    checked.extend([0; 16]);
    checked.extend(producer.to_be_bytes());
    checked.extend(epoch.to_be_bytes());
    checked.extend(0_i32.to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    checked.extend(records);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend(i32::try_from(checked.len() + 9).unwrap().to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    assert!(batch.len() > BATCH);
    batch
}

fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn incompressible(size: usize) -> Bytes {
    (0..size).map(|_| rand::random::<u8>()).collect::<Vec<_>>().into()
}

/// A worker that copies from one topic to two others.
struct Site {
    broker: Broker,
    settings: Settings,
    from: String,
    to: String,
    also: String,
    topics: [String; 1],
    writes: [String; 2],
}

impl Site {
    fn new() -> Self {
        let broker = Broker::start();
        let (from, to, also) = (support::unique("from"), support::unique("to"), support::unique("also"));
        let admin = broker.admin();
        for (name, largest) in [(&from, "1000000"), (&to, "1000000"), (&also, "20000")] {
            let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1))
                .set("max.message.bytes", largest)
                .set("message.timestamp.type", "LogAppendTime");
            let made = block(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
            made.into_iter().for_each(|made| drop(made.unwrap()));
        }
        let settings = Settings { prefix: support::unique(""), ..broker.settings() };
        let (topics, writes) = ([from.clone()], [to.clone(), also.clone()]);
        Self { broker, settings, from, to, also, topics, writes }
    }

    fn group(&self) -> String {
        format!("{}group", self.settings.prefix)
    }

    /// The worker's name.
    fn worker(&self) -> String {
        format!("{}-0", self.group())
    }

    fn input(&self) -> Partition {
        Partition::new(&*self.from, 0)
    }

    fn send(&self, value: &str) {
        let producer = KafkaProducer::open(&self.settings, "test").unwrap();
        producer.produce(&[Output::new(self.input(), "", value.to_owned())]).unwrap();
    }

    fn join(&self) -> KafkaLog {
        let join = Join {
            group: "group",
            slot: "0",
            topics: &self.topics,
            writes: &self.writes,
            sharing: Sharing::Sticky,
            start: Start::FirstKept,
        };
        KafkaLog::join(&self.settings, &join).unwrap()
    }

    /// Takes the next record, and makes a copy of it in each of the two topics; of this size in the second.
    fn copy(&self, log: &mut KafkaLog, size: Option<usize>) -> Vec<(Partition, Part)> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < deadline, "nothing came");
            for event in log.poll(Duration::from_millis(50)).unwrap() {
                let Polled::Record(record) = event else { continue };
                let large = size.map_or_else(|| record.value.clone(), incompressible);
                let outputs = vec![
                    Output::new(Partition::new(&*self.to, 0), "", record.value.clone()),
                    Output::new(Partition::new(&*self.also, 0), "", large),
                ];
                return vec![(self.input(), Part { outputs, through: Some(record.offset + 1) })];
            }
        }
    }

    /// Commits, and tries again as long as that is asked for.
    fn commit(&self, log: &mut KafkaLog, parts: &[(Partition, Part)]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = log.commit(parts) {
            assert!(matches!(error, LogError::Failed(_)) && Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Readers see this in the two topics, now or when the brokers have ended the last transaction.
    fn holds(&self, to: &[&str], also: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.found() != [to, also] && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(self.found(), [to, also]);
    }

    /// What readers see in the two topics.
    fn found(&self) -> [Vec<String>; 2] {
        let mut reader = KafkaReader::open(&self.settings, "check").unwrap();
        [&self.to, &self.also].map(|topic| {
            let records = reader.read(&Partition::new(&**topic, 0), 0, 1 << 20).unwrap();
            assert!(records.iter().all(|record| record.headers.is_empty()), "marks are for us alone");
            records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
        })
    }
}

#[test]
fn what_a_broker_forgot_to_undo_is_undone_by_the_process_that_knows_of_it() {
    let site = Site::new();
    let mut log = site.join();
    site.send("0");
    let parts = site.copy(&mut log, None);
    site.commit(&mut log, &parts);
    // A transaction that fails after its first record is written: the second one is too large for its topic.
    site.send("1");
    let parts = site.copy(&mut log, Some(100_000));
    let refused = log.commit(&parts).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { .. }), "{refused}");
    site.broker.leave_open(&site.worker(), &[&site.to, &site.also], "undone", None);
    let mut parts = parts;
    parts[0].1.outputs[1].value = "1".into();
    site.commit(&mut log, &parts);
    site.holds(&["0", "1"], &["0", "1"]);
}

#[test]
fn a_process_that_begins_finds_out_what_became_of_the_transaction_before() {
    let site = Site::new();
    let mut log = site.join();
    site.send("0");
    let parts = site.copy(&mut log, None);
    site.commit(&mut log, &parts);
    drop(log);
    // One that had to commit the offset after the next record, and did not.
    let (worker, input) = (site.worker(), site.input());
    let mark = format!("{worker}/00000000000000ff/7 {input} 2");
    site.broker.leave_open(&worker, &[&site.to, &site.also], "undone", Some(&mark));
    site.send("1");
    let mut log = site.join();
    let parts = site.copy(&mut log, None);
    site.commit(&mut log, &parts);
    site.holds(&["0", "1"], &["0", "1"]);
    drop(log);
    // One that did: the rest of it is there, so what is open has to come, too, and with it nothing is lost.
    let mark = format!("{} {input} 2", site.broker.token(&site.group(), &input));
    site.broker.leave_open(&worker, &[&site.also], "carried on", Some(&mark));
    site.send("2");
    let mut log = site.join();
    let parts = site.copy(&mut log, None);
    site.commit(&mut log, &parts);
    site.holds(&["0", "1", "2"], &["0", "1", "carried on", "2"]);
}

#[test]
fn nothing_is_written_where_nobody_knows_what_became_of_what_is_open() {
    let site = Site::new();
    site.send("0");
    site.broker.leave_open(&site.worker(), &[&site.to], "nobody knows", None);
    let mut log = site.join();
    let parts = site.copy(&mut log, None);
    let refused = log.commit(&parts).unwrap_err();
    let LogError::Failed(why) = &refused else { panic!("{refused}") };
    assert!(why.to_string().contains(&site.to) && why.to_string().contains("find-hanging"), "{why}");
    assert_eq!(site.found(), [Vec::<String>::new(), Vec::new()]);
    // Ended by hand.
    drop(log);
    abort(&site);
    let mut log = site.join();
    let parts = site.copy(&mut log, None);
    site.commit(&mut log, &parts);
    site.holds(&["0"], &["0"]);
}

/// As an operator does: with Kafka's own tool.
fn abort(site: &Site) {
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/local/artifacts/kafka/lib/*");
    let output = Command::new("java")
        .arg("-cp")
        .arg(artifacts)
        .args(["org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", &site.broker.address])
        .args(["abort", "--topic", &site.to, "--partition", "0", "--start-offset", "0"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
