//! What people do to topics and groups.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, ResourceSpecifier,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::support::brokers;

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Deletes a topic and waits until it is gone.
pub fn delete_topic(name: &str) {
    let admin = admin();
    for deleted in wait(admin.delete_topics(&[name], &AdminOptions::new())).unwrap() {
        deleted.unwrap();
    }
    until(|| {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(5)).unwrap();
        metadata.topics()[0].error().is_some()
    });
}

/// Gives a topic more partitions.
pub fn grow(name: &str, count: usize) {
    let admin = admin();
    let grown = wait(admin.create_partitions([&NewPartitions::new(name, count)], &AdminOptions::new()));
    grown.unwrap().into_iter().for_each(|grown| drop(grown.unwrap()));
    until(|| {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(5)).unwrap();
        metadata.topics()[0].partitions().len() == count
    });
}

/// Sets one setting of a topic and leaves the others.
pub fn configure(name: &str, key: &str, value: &str) {
    let admin = admin();
    let entries = entries(&admin, name);
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(name));
    for (key, value, _) in entries.iter().filter(|(_, _, is_own)| *is_own) {
        alter = alter.set(key, value);
    }
    wait(admin.alter_configs([&alter.set(key, value)], &AdminOptions::new())).unwrap();
    until(|| configuration(name, key) == value);
}

/// A setting of a topic.
pub fn configuration(name: &str, key: &str) -> String {
    let entry = entries(&admin(), name).into_iter().find(|(found, _, _)| found == key);
    entry.unwrap_or_else(|| panic!("{name} has no {key}")).1
}

fn entries(admin: &AdminClient<DefaultClientContext>, name: &str) -> Vec<(String, String, bool)> {
    let found = wait(admin.describe_configs([&ResourceSpecifier::Topic(name)], &AdminOptions::new()));
    let resource = found.unwrap().remove(0).unwrap();
    let entries = resource.entries.into_iter();
    entries
        .map(|entry| {
            (entry.name, entry.value.unwrap_or_default(), entry.source == ConfigSource::DynamicTopic)
        })
        .collect()
}

/// Removes a group with its offsets, once nobody is in it.
pub fn delete_group(name: &str) {
    let admin = admin();
    until(|| {
        let deleted = wait(admin.delete_groups(&[name], &AdminOptions::new())).unwrap();
        deleted.into_iter().all(|deleted| deleted.is_ok())
    });
}

fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        std::thread::sleep(Duration::from_millis(100));
    }
}
