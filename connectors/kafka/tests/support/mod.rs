//! Brokers for tests: those that `KAFKA_BROKERS` names, else the local ones of `deploy/local`, started if need be.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "not every test that has this module needs all of it")]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use killick_kafka::Settings;
use killick_stages::span::Span;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Where the brokers are.
pub fn brokers() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| match std::env::var("KAFKA_BROKERS") {
        Ok(brokers) if !brokers.is_empty() => brokers,
        _ => start(),
    })
}

fn start() -> String {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local");
    let output = Command::new(local.join("up")).arg("kafka").output().expect("deploy/local/up runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "deploy/local/up kafka: {said}");
    let env = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/local/env");
    let text = std::fs::read_to_string(&env).unwrap();
    let line =
        text.lines().find_map(|line| line.trim_start_matches("export ").strip_prefix("KAFKA_BROKERS="));
    line.expect("the file names the brokers").trim_matches(['"', '\'']).to_owned()
}

/// Settings that find out quickly what a production site may take its time with.
pub fn settings() -> Settings {
    Settings { brokers: brokers().split(',').map(str::to_owned).collect(), ..quick() }
}

/// The same without brokers.
pub fn quick() -> Settings {
    Settings {
        replication: 1,
        min_in_sync: 1,
        session_timeout: Span::secs(6),
        transaction_timeout: Span::secs(5),
        poll_timeout: Span::secs(20),
        max_record: 900_000,
        ..Settings::default()
    }
}

/// A name that no other test has used.
pub fn unique(name: &str) -> String {
    format!("t-{:08x}-{name}", rand::random::<u32>())
}

/// Makes a topic and waits until it is there.
pub fn make_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
        .set("message.timestamp.type", "LogAppendTime");
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    made.into_iter().for_each(|made| drop(made.unwrap()));
}

/// Removes the records of a partition before an offset, as retention does.
pub fn delete_records(topic: &str, partition: i32, before: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    done.elements().iter().for_each(|entry| entry.error().unwrap());
}
