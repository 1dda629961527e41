//! The document for programs of others, `schemas/asyncapi.yaml`, against the code.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use killick_stages::cloudevents;
use killick_stages::ready::{
    CONTENT_TYPE, HEADERS, PROOF_CORRECTED, PROOF_READY, RECEIPT_CORRECTED, RECEIPT_READY, is_correction,
};
use killick_stages::record::{Header, Partition, Record};
use killick_stages::registry::SCHEMA_ID;
use killick_stages::rejected::{APPEND_TIME, ATTEMPT, Code, FIRST, PREFIX, VALUE_SHA256, VALUE_SIZE};
use killick_stages::route::{ROUTE, is_inner};
use regex_lite::Regex;
use serde_json::Value;
use support::world::{Faults, Sim};

/// The channel of topics that belong to others.
const FOREIGN: &str = "cloudevents";

struct Document(Value);

impl Document {
    fn read() -> Self {
        Self(serde_yaml_ng::from_str(killick_schemas::ASYNCAPI).unwrap())
    }

    /// A value of the document, or what it refers to within it.
    fn at<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(place) => self.at(self.0.pointer(place).unwrap_or_else(|| panic!("nothing at {place}"))),
            None => value,
        }
    }

    fn map<'d>(&'d self, place: &str) -> BTreeMap<&'d str, &'d Value> {
        let map =
            self.0.pointer(place).and_then(Value::as_object).unwrap_or_else(|| panic!("no map at {place}"));
        map.iter().map(|(name, value)| (name.as_str(), self.at(value))).collect()
    }

    /// The schemas of a message's headers, and the names of those that have to be there.
    fn headers(&self, message: &str) -> (BTreeMap<&str, &Value>, BTreeSet<&str>) {
        let headers = &self.0["components"]["messages"][message]["headers"];
        let required =
            headers["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
        (self.map(&format!("/components/messages/{message}/headers/properties")), required.collect())
    }
}

#[derive(serde::Deserialize)]
struct Topics {
    topics: BTreeMap<String, Topic>,
}

#[derive(serde::Deserialize)]
struct Topic {
    partitions: String,
    schema: String,
    key: String,
    cleanup: String,
    retention: Option<String>,
}

fn topics() -> BTreeMap<String, Topic> {
    serde_yaml_ng::from_str::<Topics>(killick_schemas::TOPICS).unwrap().topics
}

/// A retention of the list of topics in milliseconds, with the default window of dedup.
fn milliseconds(retention: &str) -> i64 {
    let part = |part: &str| match part {
        "forever" => -1,
        "window" => 25 * 3_600_000,
        days => days.strip_suffix('d').unwrap().parse::<i64>().unwrap() * 86_400_000,
    };
    retention.split(" + ").map(part).sum()
}

#[test]
fn channels_are_topics_as_the_list_of_topics_has_them() {
    let (document, topics) = (Document::read(), topics());
    for (name, channel) in document.map("/channels") {
        if name == FOREIGN {
            continue;
        }
        let topic = &topics[name];
        let address = if is_inner(name) { format!("{{prefix}}{name}") } else { name.to_owned() };
        assert_eq!(channel["address"], *address);
        assert_eq!(channel["x-partitions"], *topic.partitions);
        let settings = &channel["bindings"]["kafka"]["topicConfiguration"];
        assert_eq!(settings["cleanup.policy"], serde_json::json!([topic.cleanup]), "{name}");
        let retention = topic.retention.as_deref().map(milliseconds);
        assert_eq!(settings["retention.ms"].as_i64(), retention, "{name}");
        for message in channel["messages"].as_object().unwrap().values() {
            let message = document.at(message);
            assert_eq!(message["bindings"]["kafka"]["key"]["description"], *topic.key);
            match message["payload"]["schema"]["$ref"].as_str() {
                Some(file) => assert_eq!(file, format!("avro/{}.avsc", topic.schema)),
                None => assert!(killick_schemas::schema(&topic.schema).is_none(), "{name}"),
            }
        }
    }
}

#[test]
fn every_topic_for_programs_of_others_has_a_channel_and_an_operation() {
    let document = Document::read();
    let mut operations = BTreeMap::new();
    for (name, operation) in document.map("/operations") {
        let place = operation["channel"]["$ref"].as_str().unwrap();
        let channel = place.strip_prefix("#/channels/").unwrap();
        let messages = document.at(&operation["channel"])["messages"].as_object().unwrap();
        let named = operation["messages"].as_array().unwrap().iter();
        let named = named.map(|message| message["$ref"].as_str().unwrap().to_owned());
        assert!(named.eq(messages.keys().map(|message| format!("{place}/messages/{message}"))), "{name}");
        let action = operation["action"].as_str().unwrap();
        assert_eq!(operations.insert(channel, action), None, "{channel} has two operations");
    }
    // What is read and not written by us comes from others; of what is written, nobody of ours reads these.
    let read: BTreeSet<_> = ROUTE.iter().flat_map(|hop| hop.reads).copied().collect();
    let written: BTreeSet<_> = ROUTE.iter().flat_map(|hop| hop.writes).copied().collect();
    let given = read.difference(&written).copied().chain([FOREIGN]).map(|topic| (topic, "receive"));
    let taken = written.difference(&read).map(|topic| (*topic, "send"));
    assert_eq!(operations, given.chain(taken).collect());
    assert!(document.map("/channels").into_keys().eq(operations.into_keys()));
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_referred_to() {
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref") {
                    assert_eq!(members.len(), 1, "what stands beside {reference} is ignored");
                    found.insert(reference.as_str().unwrap());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = Document::read();
    let mut found = BTreeSet::new();
    references(&document.0, &mut found);
    for reference in &found {
        match reference.strip_prefix("avro/").and_then(|file| file.strip_suffix(".avsc")) {
            Some(schema) => assert!(killick_schemas::schema(schema).is_some(), "{reference}"),
            None => assert!(document.0.pointer(&reference[1..]).is_some(), "{reference}"),
        }
    }
    for kind in ["messages", "schemas", "parameters"] {
        for part in document.map(&format!("/components/{kind}")).into_keys() {
            assert!(found.contains(&*format!("#/components/{kind}/{part}")), "{kind}: {part}");
        }
    }
}

/// Whether a header's value is as its schema has it.
fn fits(schema: &Value, value: &str) -> bool {
    let is_fixed = schema["const"].is_null() || schema["const"] == value;
    let is_listed = schema["enum"].as_array().is_none_or(|values| values.contains(&value.into()));
    let is_like =
        schema["pattern"].as_str().is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(value));
    schema["type"] == "string" && is_fixed && is_listed && is_like
}

#[test]
fn what_is_written_has_the_headers_of_the_document() {
    let mut sims = (0..50).map(|seed| {
        let mut sim = Sim::new(seed, Faults { deep: true, ..Faults::all() });
        sim.run(200).unwrap();
        sim
    });
    // One in which a block was lost that had been told of.
    let sim = sims.find(|sim| sim.world.log.all("proofs").any(is_correction)).unwrap();
    let document = Document::read();
    for (topic, message) in [("proofs", "proofReady"), ("receipts", "receiptReady"), ("rejected", "rejected")]
    {
        let (headers, required) = document.headers(message);
        let mut records = 0;
        for record in sim.world.log.all(topic) {
            records += 1;
            let mut missing = required.clone();
            for header in &record.headers {
                let name = &*header.name;
                missing.remove(name);
                let schema = headers.get(name).unwrap_or_else(|| panic!("{topic}: {name} is not documented"));
                let value = std::str::from_utf8(&header.value).unwrap();
                assert!(fits(schema, value), "{topic}: {name} is {value:?}, and {schema}");
            }
            assert!(missing.is_empty(), "{topic}: {missing:?}");
        }
        assert!(records > 20 || topic == "proofs" && records > 5, "{topic}: {records}");
    }
}

#[test]
fn the_names_of_headers_and_types_are_those_of_the_code() {
    let document = Document::read();
    for (message, kinds) in
        [("proofReady", [PROOF_READY, PROOF_CORRECTED]), ("receiptReady", [RECEIPT_READY, RECEIPT_CORRECTED])]
    {
        let (headers, required) = document.headers(message);
        assert_eq!(headers.keys().copied().collect::<BTreeSet<_>>(), HEADERS.into());
        assert_eq!(required, HEADERS.into_iter().filter(|name| *name != "ce_time").collect());
        assert_eq!(headers["ce_type"]["enum"], Value::from(kinds.to_vec()));
        assert!(fits(headers["content-type"], CONTENT_TYPE));
        assert_eq!(document.0["components"]["messages"][message]["contentType"], CONTENT_TYPE);
    }
    let (headers, _) = document.headers("rejected");
    let ours: BTreeSet<_> = headers.keys().copied().filter(|name| !name.starts_with(PREFIX)).collect();
    assert_eq!(ours, [APPEND_TIME, ATTEMPT, FIRST, VALUE_SHA256, VALUE_SIZE].into());
    let codes = headers["__connect.errors.exception.class.name"]["enum"].as_array().unwrap();
    assert!(codes.iter().eq(Code::ALL.map(Code::name).iter()));
    let (headers, _) = document.headers("event");
    assert!(headers.into_keys().eq([SCHEMA_ID]));
    let extensions = [cloudevents::TENANT, cloudevents::KEY, cloudevents::SIGNATURE];
    let (headers, _) = document.headers("binaryCloudEvent");
    let members = document.map("/components/messages/structuredCloudEvent/payload/properties");
    for extension in extensions {
        assert_eq!(headers[&*format!("ce_{extension}")], members[extension], "{extension}");
    }
}

#[test]
fn the_examples_of_cloud_events_are_read() {
    let document = Document::read();
    for message in ["binaryCloudEvent", "structuredCloudEvent"] {
        let (known, required) = document.headers(message);
        let examples = document.0["components"]["messages"][message]["examples"].as_array().unwrap();
        assert!(!examples.is_empty());
        for example in examples {
            let headers = example["headers"].as_object().unwrap();
            assert!(required.iter().all(|name| headers.contains_key(*name)));
            let header = |(name, value): (&String, &Value)| {
                let value = value.as_str().unwrap().to_owned();
                assert!(fits(known[name.as_str()], &value), "{name}");
                Header { name: name.as_str().into(), value: value.into() }
            };
            let record = Record {
                partition: Partition::new("readings", 0),
                offset: 0,
                append_time: 0,
                key: Bytes::new(),
                value: example["payload"].to_string().into(),
                headers: headers.iter().map(header).collect(),
            };
            let event = cloudevents::read(&record).unwrap();
            assert_eq!((event.tenant.as_deref(), &*event.source), (Some("plant"), "urn:dev:press-1"));
            assert_eq!(&*event.payload, br#"{"celsius":21.5}"#);
            assert!(event.time > 1_777_000_000_000_000);
        }
    }
}
