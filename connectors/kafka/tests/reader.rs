//! A reader outside of any group, on librdkafka's own brokers for tests: they can be taken away in a moment.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use bytes::Bytes;
use killick_kafka::{KafkaProducer, KafkaReader, Settings};
use killick_stages::ports::{Producer as _, Reader as _};
use killick_stages::record::{Output, Partition};
use rdkafka::mocking::MockCluster;

#[test]
fn what_happened_to_connections_while_nobody_read_is_no_reason_not_to_read() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let settings = Settings {
        brokers: vec![cluster.bootstrap_servers()],
        replication: 1,
        min_in_sync: 1,
        ..Settings::default()
    };
    let partition = Partition::new("events", 0);
    let output = |value: &'static [u8]| Output {
        partition: partition.clone(),
        key: Bytes::new(),
        value: Bytes::from_static(value),
        headers: Vec::new(),
    };
    let producer = KafkaProducer::open(&settings, "test").unwrap();
    producer.produce(&[output(b"before")]).unwrap();
    let mut reader = KafkaReader::open(&settings, "test").unwrap();
    assert_eq!(reader.read(&partition, 0, 1 << 20).unwrap().len(), 1);
    for _ in 0..3 {
        cluster.broker_down(1).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        cluster.broker_up(1).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    producer.produce(&[output(b"after")]).unwrap();
    let records = reader.read(&partition, 0, 1 << 20).unwrap();
    assert_eq!(
        records.iter().map(|record| &*record.value).collect::<Vec<_>>(),
        [b"before".as_slice(), b"after"]
    );
}
