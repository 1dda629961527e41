//! The hand-written codec against a complete implementation of Avro, and the route against the list of topics.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use killick_stages::envelope::{self, Event};
use killick_stages::frame::{AcceptedEvent, AcceptedFrame, AnchorFrame, Copy, UniqueFrame};
use killick_stages::manifest::Manifest;
use killick_stages::ports::{AnchorRecord, BatchRecord};
use killick_stages::ready::{Block, ProofReady, ReceiptReady};
use killick_stages::record::Partition;
use killick_stages::route::{AUDIT, REANCHORING, ROUTE};
use killick_stages::stage::{Sum, Tally};
use killick_stages::state::{
    AnchorState, Attempt, BatchState, DedupDelta, DeltaGroup, Interval, Landing, Position, ProveState, Turn,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// What the other implementation makes of our bytes, after it has written the same bytes again.
fn read(name: &str, bytes: &[u8]) -> Value {
    let schema = Schema::parse_str(killick_schemas::schema(name).unwrap()).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let mut rest = bytes;
    let value = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{name}: {} bytes left", rest.len());
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    assert_eq!(writer.write_value_to_vec(value.clone()).unwrap(), bytes, "{name} written by the other");
    value
}

fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    match value {
        Value::Record(fields) => &fields.iter().find(|(field, _)| field == name).unwrap().1,
        other => panic!("no record: {other:?}"),
    }
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,40}".prop_map(Into::into)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn count() -> impl Strategy<Value = u64> {
    0..1_u64 << 53
}

fn copy() -> impl Strategy<Value = Copy> {
    (text(), text(), text(), text(), any::<u32>(), count()).prop_map(
        |(tenant, source, id, topic, partition, offset)| Copy {
            tenant,
            source,
            id,
            topic,
            partition,
            offset,
        },
    )
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (count(), any::<i64>(), text(), bytes()).prop_map(|(number, expires, key, command)| Attempt {
        number,
        expires,
        key,
        command,
    })
}

fn landing() -> impl Strategy<Value = Landing> {
    (text(), count(), text(), any::<bool>()).prop_map(|(key, height, block, is_lost)| Landing {
        key,
        height,
        block,
        is_lost,
    })
}

fn block() -> impl Strategy<Value = Block> {
    (text(), any::<u32>(), count(), text(), any::<i64>())
        .prop_map(|(network, chain, height, hash, time)| Block { network, chain, height, hash, time })
}

proptest! {
    #[test]
    fn events_are_avro(
        names in (text(), text(), text(), text()), time in any::<i64>(), payload in bytes(),
        signed in prop::option::of((any::<[u8; 32]>(), vec(any::<u8>(), 64))),
    ) {
        let signed = signed.map(|(key, signature)| (key, <[u8; 64]>::try_from(signature).unwrap()));
        let event = Event {
            tenant: &names.0, source: &names.1, id: &names.2, time, kind: &names.3, payload: &payload,
            signed: signed.as_ref().map(|(key, signature)| (key, signature)),
        };
        let encoded = event.encode();
        let other = read("event", &encoded);
        prop_assert_eq!(field(&other, "payload"), &Value::Bytes(payload.to_vec()));
        prop_assert_eq!(field(&other, "time"), &Value::TimestampMicros(time));
        let envelope = envelope::read(&encoded).unwrap();
        prop_assert_eq!(envelope.tenant.as_deref(), Some(&*names.0));
        prop_assert_eq!(envelope.key.zip(envelope.signature), signed);
    }

    #[test]
    fn accepted_frames_are_avro(topic in text(), partition in any::<u32>(), events in vec((count(), bytes()), 0..20)) {
        let events = events.into_iter().map(|(offset, statement)| AcceptedEvent { offset, statement }).collect();
        let frame = AcceptedFrame { topic, partition, events };
        let encoded = frame.encode();
        let other = read("accepted", &encoded);
        prop_assert_eq!(field(&other, "partition"), &Value::Long(partition.into()));
        prop_assert_eq!(AcceptedFrame::decode(&encoded), Ok(frame));
    }

    #[test]
    fn unique_frames_are_avro(
        offset in count(), statements in vec(bytes(), 0..20), duplicates in vec(copy(), 0..5),
        conflicts in vec(copy(), 0..5),
    ) {
        let frame = UniqueFrame { offset, statements, duplicates, conflicts };
        let encoded = frame.encode();
        read("unique", &encoded);
        prop_assert_eq!(UniqueFrame::decode(&encoded), Ok(frame));
    }

    #[test]
    fn manifests_are_avro(
        texts in (text(), text(), text()), partition in any::<u32>(), numbers in vec(count(), 6), hashes in any::<[u128; 2]>(),
        batches in prop::option::of(count()),
    ) {
        let sum = |at: usize| Sum { events: numbers[at], hashes: hashes[at] };
        let tally = Tally { taken: sum(0), passed: sum(1), rejected: numbers[2], duplicates: numbers[3], batches };
        let manifest = Manifest {
            stage: texts.0, input: Partition::new(&*texts.1, partition), from: numbers[4], to: numbers[5], tally,
            worker: texts.2,
        };
        let encoded = manifest.encode();
        let other = read("audit-manifest", &encoded);
        prop_assert_eq!(
            field(field(&other, "passed"), "hashes"), &Value::Fixed(16, hashes[1].to_be_bytes().to_vec())
        );
        prop_assert_eq!(Manifest::decode(&encoded), Ok(manifest));
    }

    #[test]
    fn batches_are_avro(header in bytes(), statements in vec(bytes(), 0..20), edge in bytes(), checkpoint in text()) {
        let batch = BatchRecord { header, statements, edge, checkpoint };
        let encoded = batch.encode();
        read("batch", &encoded);
        prop_assert_eq!(BatchRecord::decode(&encoded), Ok(batch));
    }

    #[test]
    fn anchors_are_avro(
        texts in (text(), text(), text(), text(), text(), text()), numbers in any::<(u32, u32)>(),
        counts in (count(), count(), count()), path in vec(any::<[u8; 32]>(), 0..10),
    ) {
        let ((interval, key, block, origin, checkpoint, text), (chain, version), (height, size, index)) =
            (texts, numbers, counts);
        let frame = AnchorFrame {
            chain, interval, key, height, block, version, origin, size, checkpoint, text, index, path,
        };
        let encoded = frame.encode();
        read("anchor", &encoded);
        prop_assert_eq!(AnchorFrame::decode(&encoded), Ok(frame));
    }

    #[test]
    fn later_anchors_are_avro(texts in (text(), text(), text(), text()), size in count()) {
        let (origin, series, checkpoint, anchor) = texts;
        let record = AnchorRecord { origin, series, size, checkpoint, anchor: Bytes::from(String::from(anchor)) };
        let encoded = record.encode();
        read("lent", &encoded);
        prop_assert_eq!(AnchorRecord::decode(&encoded), Ok(record));
    }

    #[test]
    fn proofs_are_avro(
        texts in (text(), text(), text()), numbers in (count(), count(), count()), times in any::<(i64, i64)>(),
        tenants in vec(text(), 0..5), block in prop::option::of(block()), header in bytes(),
        statements in vec(bytes(), 0..20), path in vec(any::<[u8; 32]>(), 0..5), anchors in vec(text(), 0..3),
        schema in any::<u32>(),
    ) {
        let ready = ProofReady {
            origin: texts.0, number: numbers.0, batch: texts.1, leaves: numbers.1, first_time: times.0,
            last_time: times.1, tenants, size: numbers.2, block, header, statements, path, checkpoint: texts.2, anchors,
        };
        let encoded = ready.encode(schema);
        prop_assert_eq!(&encoded[..5], &[&[0], &schema.to_be_bytes()[..]].concat());
        let other = read("proof-ready", &encoded[5..]);
        prop_assert_eq!(field(&other, "header"), &Value::Bytes(ready.header.to_vec()));
        prop_assert_eq!(ProofReady::decode(&encoded), Ok(ready));
    }

    #[test]
    fn receipts_are_avro(
        texts in (text(), text(), text(), text(), text(), text()), time in any::<i64>(), index in count(),
        block in prop::option::of(block()),
    ) {
        let (tenant, source, id, kind, batch, receipt) = texts;
        let ready = ReceiptReady { tenant, source, id, time, kind, batch, index, block, receipt };
        let encoded = ready.encode(0);
        let other = read("receipt", &encoded[5..]);
        prop_assert_eq!(field(&other, "receipt"), &Value::String(ready.receipt.to_string()));
        prop_assert_eq!(field(&other, "type"), &Value::String(ready.kind.to_string()));
        prop_assert_eq!(ReceiptReady::decode(&encoded), Ok(ready));
    }

    #[test]
    fn states_are_avro(
        counts in (count(), count()), time in any::<i64>(), log in bytes(),
        groups in vec((any::<i64>(), bytes()), 0..5), id in text(), checkpoints in vec(text(), 0..5),
        attempts in vec(attempt(), 0..4), chain in any::<u32>(), landing in prop::option::of(landing()),
        again in prop::option::of(count()),
    ) {
        let (next, size) = counts;
        let groups = groups.into_iter().map(|(time, keys)| DeltaGroup { time, keys }).collect();
        let delta = DedupDelta { from: next, to: size, time, groups };
        read("dedup-delta", &delta.encode());
        prop_assert_eq!(DedupDelta::decode(&delta.encode()), Ok(delta));

        let batch = BatchState { next, first: size, time, log };
        read("batch-state", &batch.encode());
        prop_assert_eq!(BatchState::decode(&batch.encode()), Ok(batch));

        let interval = AnchorState::Interval(Interval {
            id, chain, cut: time, checkpoints, attempts, version: chain, landing,
        });
        let position = Position { next, time, day: time / 7, spent: time / 3, before: time / 5 };
        for state in [AnchorState::Position(position), interval] {
            read("anchor-state", &state.encode());
            prop_assert_eq!(AnchorState::decode(&state.encode()), Ok(state));
        }

        let turns = again.into_iter().map(|first| Turn { interval: "0/5".into(), first }).collect();
        let prove = ProveState { next, size, receipts: next, again, turns };
        read("prove-state", &prove.encode());
        prop_assert_eq!(ProveState::decode(&prove.encode()), Ok(prove));
    }

    #[test]
    fn nothing_that_comes_in_breaks_a_decoder(value in vec(any::<u8>(), 0..200)) {
        let value = Bytes::from(value);
        let _ = AcceptedFrame::decode(&value);
        let _ = UniqueFrame::decode(&value);
        let _ = Manifest::decode(&value);
        let _ = BatchRecord::decode(&value);
        let _ = AnchorFrame::decode(&value);
        let _ = AnchorRecord::decode(&value);
        let _ = ProofReady::decode(&value);
        let framed = Bytes::from([&[0; 5], &value[..]].concat());
        let _ = ProofReady::decode(&framed);
        let _ = ReceiptReady::decode(&framed);
        let _ = DedupDelta::decode(&value);
        let _ = BatchState::decode(&value);
        let _ = AnchorState::decode(&value);
        let _ = ProveState::decode(&value);
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicList {
    timestamps: String,
    topics: BTreeMap<String, Topic>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    #[serde(rename = "for")]
    purpose: String,
    partitions: String,
    schema: String,
    key: String,
    cleanup: String,
    #[serde(default)]
    retention: Option<String>,
}

fn topic_list() -> TopicList {
    serde_yaml_ng::from_str(killick_schemas::TOPICS).unwrap()
}

#[test]
fn the_list_of_topics_has_those_of_the_route_and_no_other() {
    let listed: BTreeSet<String> = topic_list().topics.into_keys().collect();
    let routed: BTreeSet<String> = ROUTE
        .iter()
        .chain(&REANCHORING)
        .flat_map(|hop| hop.reads.iter().chain(hop.writes).copied().chain(hop.state))
        .chain([AUDIT])
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, routed);
}

#[test]
fn state_has_the_partitions_of_the_input_it_belongs_to() {
    let topics = topic_list().topics;
    for hop in ROUTE.iter().chain(&REANCHORING) {
        if let Some(state) = hop.state {
            for input in hop.reads {
                assert_eq!(topics[state].partitions, topics[*input].partitions, "{state} beside {input}");
            }
        }
    }
}

#[test]
fn every_topic_says_all_that_is_needed_and_names_a_schema_that_is_there() {
    let list = topic_list();
    assert_eq!(list.timestamps, "LogAppendTime");
    let mut named = BTreeSet::new();
    for (name, topic) in list.topics {
        assert!(!topic.purpose.is_empty() && !topic.key.is_empty(), "{name}");
        assert!(
            ["logs", "chains", "one", "free"].contains(&&*topic.partitions),
            "{name}: {}",
            topic.partitions
        );
        assert_eq!(topic.retention.is_some(), topic.cleanup == "delete", "{name}");
        assert!(["delete", "compact"].contains(&&*topic.cleanup), "{name}: {}", topic.cleanup);
        match killick_schemas::schema(&topic.schema) {
            // Later anchors go the same way as the first.
            Some(_) if ["reanchors", "reanchor-log"].contains(&&*name) => {}
            Some(_) => assert!(named.insert(topic.schema), "{name}: its schema has another topic"),
            None => {
                assert!(
                    ["checkpoints", "rejected", "reanchor"].contains(&&*name),
                    "{name}: no schema {}",
                    topic.schema
                )
            }
        }
    }
    let all: BTreeSet<String> =
        killick_schemas::SCHEMAS.iter().map(|schema| schema.name.to_owned()).collect();
    assert_eq!(named, all);
}

#[test]
fn every_schema_file_is_listed_and_parses() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/avro")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let listed = killick_schemas::SCHEMAS.iter().map(|schema| format!("{}.avsc", schema.name)).collect();
    assert_eq!(files, listed);
    for schema in killick_schemas::SCHEMAS {
        Schema::parse_str(schema.json).unwrap_or_else(|error| panic!("{}: {error}", schema.name));
    }
}
