//! A broker that was just started, or was stopped for so long that the others gave it up, may say for a moment that its
//! cluster has no brokers. A librdkafka that hears it forgets them all and asks no one again (2.10 to 2.12 at least).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use killick_kafka::{Join, KafkaLog, KafkaProducer, KafkaReader, Settings, Sharing, Start};
use killick_stages::ports::{Log, LogError, Producer, Reader};
use killick_stages::record::{Output, Partition};
use killick_stages::stage::Part;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// A broker that knows one topic, says where it is, and takes nothing.
struct Broker {
    port: u16,
    is_empty: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Broker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_empty = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&is_empty), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (told, counted) = (Arc::clone(&told), Arc::clone(&counted));
                // Ends with the connection.
                std::thread::spawn(move || {
                    while answer(&stream, port, &told).is_ok() {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { port, is_empty, requests }
    }

    /// Requests that were answered.
    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn settings(&self) -> Settings {
        Settings { brokers: vec![format!("127.0.0.1:{}", self.port)], ..Settings::default() }
    }

    /// Says for a while that there are no brokers, until whoever asks has heard it.
    fn forget(&self, ask: impl FnOnce()) {
        self.is_empty.store(true, Ordering::Relaxed);
        ask();
        std::thread::sleep(Duration::from_secs(1));
        self.is_empty.store(false, Ordering::Relaxed);
    }
}

fn answer(mut stream: &TcpStream, port: u16, is_empty: &AtomicBool) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut request = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut request)?;
    let key = i16::from_be_bytes([request[0], request[1]]);
    let version = i16::from_be_bytes([request[2], request[3]]);
    let mut answer = request[4..8].to_vec();
    match key {
        API_VERSIONS => {
            // 35: no such version; the list is as in version 0 then.
            answer.extend(if version == 0 { 0_i16 } else { 35 }.to_be_bytes());
            answer.extend(3_i32.to_be_bytes());
            for (key, first, last) in [(API_VERSIONS, 0_i16, 0_i16), (METADATA, 0, 1), (PRODUCE, 3, 7)] {
                [key, first, last].iter().for_each(|value| answer.extend(value.to_be_bytes()));
            }
        }
        METADATA => {
            let is_empty = is_empty.load(Ordering::Relaxed);
            answer.extend(i32::from(!is_empty).to_be_bytes());
            if !is_empty {
                answer.extend(1_i32.to_be_bytes());
                text(&mut answer, "127.0.0.1");
                answer.extend(i32::from(port).to_be_bytes());
                answer.extend((-1_i16).to_be_bytes()); // no rack
            }
            answer.extend(if is_empty { -1_i32 } else { 1 }.to_be_bytes());
            answer.extend(1_i32.to_be_bytes());
            answer.extend(0_i16.to_be_bytes());
            text(&mut answer, "killick.accepted");
            answer.push(0);
            answer.extend(1_i32.to_be_bytes());
            answer.extend(if is_empty { 5_i16 } else { 0 }.to_be_bytes());
            answer.extend(0_i32.to_be_bytes());
            answer.extend(if is_empty { -1_i32 } else { 1 }.to_be_bytes());
            for _ in 0..2 {
                answer.extend(1_i32.to_be_bytes());
                answer.extend(1_i32.to_be_bytes());
            }
        }
        _ => return Err(std::io::ErrorKind::Unsupported.into()),
    }
    stream.write_all(&(answer.len() as i32).to_be_bytes())?;
    stream.write_all(&answer)
}

fn text(answer: &mut Vec<u8>, text: &str) {
    answer.extend((text.len() as i16).to_be_bytes());
    answer.extend(text.as_bytes());
}

#[test]
fn a_reader_that_was_told_of_no_brokers_reads_again() {
    let broker = Broker::start();
    let mut reader = KafkaReader::open(&broker.settings(), "reader").unwrap();
    let expected = [Partition::new("accepted", 0)];
    assert_eq!(reader.partitions("accepted").unwrap(), expected);
    broker.forget(|| drop(reader.partitions("accepted")));
    // One call finds out, the next one asks anew.
    let found: Vec<_> = (0..2).filter_map(|_| reader.partitions("accepted").ok()).collect();
    assert_eq!(found.last().map(|found| &found[..]), Some(&expected[..]));
}

#[test]
fn a_producer_that_was_told_of_no_brokers_asks_again() {
    let broker = Broker::start();
    let producer = KafkaProducer::open(&broker.settings(), "producer").unwrap();
    // This broker takes nothing: it hangs up.
    let produce = || {
        let outcome = producer.produce(&[Output::new(Partition::new("accepted", 0), "key", "value")]);
        assert!(matches!(outcome, Err(LogError::Failed(_))), "{outcome:?}");
    };
    broker.forget(produce);
    produce();
    let before = broker.requests();
    produce();
    assert!(broker.requests() > before, "nobody was asked");
}

#[test]
fn a_worker_that_was_told_of_no_brokers_asks_again_or_is_over() {
    let broker = Broker::start();
    let topics = ["accepted".to_owned()];
    let join = Join {
        group: "dedup",
        slot: "0",
        topics: &topics,
        writes: &[],
        sharing: Sharing::Sticky,
        start: Start::Committed,
    };
    let mut log = KafkaLog::join(&broker.settings(), &join).unwrap();
    let poll = |log: &mut KafkaLog, millis: u64| {
        let end = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < end {
            log.poll(Duration::from_millis(50))?;
        }
        Ok::<_, LogError>(())
    };
    poll(&mut log, 1_000).unwrap();
    // Whoever writes to a topic for the first time asks how many partitions it has.
    let outputs = vec![Output::new(Partition::new("unique", 0), "key", "value")];
    let parts = [(Partition::new("accepted", 0), Part { outputs, ..Part::default() })];
    for round in 0..8 {
        broker.forget(|| assert!(log.commit(&parts).is_err()));
        poll(&mut log, 50 * round).unwrap();
        let before = broker.requests();
        assert!(log.commit(&parts).is_err());
        if broker.requests() == before {
            let Err(LogError::Over(why)) = poll(&mut log, 40_000) else { panic!("it waits for ever") };
            assert!(why.contains("start again"), "{why}");
            eprintln!("cut off in round {round}");
            return;
        }
    }
}
