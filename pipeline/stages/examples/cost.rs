//! What an event costs in each stage, on this machine: `cargo run --release -p killick-stages --example cost [EVENTS]`.
//!
//! One thread, no log and no chain around the stages: the floor of what they can cost in a pipeline. What is told is time
//! of the processor, which other programs beside disturb less than they do the clock.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends here")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::encoding::base64url;
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_proof::statement::Event;
use killick_stages::avro::Writer;
use killick_stages::deployment::{self, Deployment};
use killick_stages::devices::Device;
use killick_stages::ingest::{self, Ingest, Secret, Tenant};
use killick_stages::mapping::{Mapping, Place, TimeFormat};
use killick_stages::record::{Partition, Record};
use killick_stages::route::{ACCEPTED, UNIQUE};
use killick_stages::source::{Decoder, Source, Unsigned};
use killick_stages::stage::{Part, Stage};
use killick_stages::{batch, dedup, envelope};
use rustix::time::{ClockId, clock_gettime};

const NOW: i64 = 1_767_225_600_000_000;
/// Records that are stepped before a commit.
const CHUNK: usize = 1_000;
/// Times that each stage is measured.
const ROUNDS: usize = 5;

fn main() {
    let events = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let deployment = deployment::Config { logs: 1, ..deployment::Config::default() };
    let deployment = Deployment::new(&deployment).unwrap();
    let key = SecretKey::from_seed(&[1; 32]);

    let ingest = || Ingest::new(&deployment, &config(&key)).unwrap();
    let inputs: Vec<Record> = (0..events).map(|id| event(&key, id, false)).collect();
    let (_, accepted) = measure("ingest, unsigned", ingest, &inputs);
    let dedup = || dedup::Dedup::new(&deployment, &dedup::Config::default()).unwrap();
    let (dedup, unique) = measure("dedup", dedup, &records(&accepted, ACCEPTED));
    println!("{:>24} {:>10} keys", "", dedup.keys());
    let signers = || vec![SignerKey::new(deployment.origin(0).unwrap(), key.clone()).unwrap()];
    let batch = || batch::Batch::new(&deployment, &batch::Config::default(), signers()).unwrap();
    let (_, batches) = measure("batch", batch, &records(&unique, UNIQUE));
    let count = batches.outputs.iter().filter(|output| output.partition.topic.as_str() == "batches").count();
    println!("{:>24} {count:>10} batches", "");
    // One of them costs as much as twenty others.
    let inputs: Vec<Record> = (0..events / 10).map(|id| event(&key, id, true)).collect();
    measure("ingest, signed", ingest, &inputs);
    mapped(&deployment, events);
}

/// A record type of 12 fields, four of which make an event.
const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "machine", "type": {"type": "record", "name": "Machine", "fields": [
        {"name": "site", "type": "string"}, {"name": "line", "type": ["null", "int"]}, {"name": "name", "type": "string"}]}},
    {"name": "number", "type": "long"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["HEAT", "FORCE"]}},
    {"name": "ok", "type": "boolean"}, {"name": "value", "type": "double"},
    {"name": "samples", "type": {"type": "array", "items": "float"}}, {"name": "raw", "type": "bytes"},
    {"name": "tags", "type": {"type": "map", "values": "string"}}]}"#;

/// Readings in Avro of that type, and the same in JSON, mapped into events.
fn mapped(deployment: &Deployment, events: usize) {
    let at = |pointer: &str| Some(Place::Pointer(pointer.to_owned()));
    let mapping = Mapping {
        source: at("/machine/name"),
        id: at("/number"),
        time: at("/at"),
        r#type: at("/kind"),
        time_format: TimeFormat::Us,
        ..Mapping::default()
    };
    let source = Source {
        schema: Some(READING.into()),
        mapping: Some(mapping),
        tenant: Some("acme".to_owned()),
        unsigned: Unsigned::Accept,
        ..Source::new("avro")
    };
    let json = Source { topic: "json".to_owned(), decoder: Decoder::Raw, schema: None, ..source.clone() };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    let tenants = [("acme".to_owned(), tenant)].into();
    let config = ingest::Config { sources: vec![source, json], tenants, ..ingest::Config::default() };
    for (name, topic, value) in [
        ("ingest, Avro, mapped", "avro", avro_reading as fn(usize) -> Bytes),
        ("ingest, JSON, mapped", "json", json_reading),
    ] {
        let record = |number: usize| Record { value: value(number), ..at_offset(topic, number) };
        let inputs: Vec<Record> = (0..events).map(record).collect();
        measure(name, || Ingest::new(deployment, &config).unwrap(), &inputs);
    }
}

fn avro_reading(number: usize) -> Bytes {
    let mut out = Writer::with_capacity(200);
    out.string("Bremen");
    out.optional(Some(7), Writer::long);
    out.string("press-1");
    out.long(number as i64);
    out.long(NOW);
    out.long(1);
    out.fixed(&[1]);
    out.fixed(&21.5_f64.to_le_bytes());
    out.array([1.5_f32; 10].iter(), |out, sample| out.fixed(&sample.to_le_bytes()));
    out.bytes(&[number as u8; 80]);
    out.array([("shift", "late"), ("crew", "b")].iter(), |out, (key, value)| {
        out.string(key);
        out.string(value);
    });
    out.into_bytes()
}

fn json_reading(number: usize) -> Bytes {
    let samples = ["1.5"; 10].join(",");
    let raw = hex::encode([number as u8; 80]);
    format!(
        r#"{{"machine":{{"site":"Bremen","line":7,"name":"press-1"}},"number":{number},"at":{NOW},"kind":"FORCE","ok":true,"value":21.5,"samples":[{samples}],"raw":"{raw}","tags":{{"shift":"late","crew":"b"}}}}"#
    )
    .into()
}

fn at_offset(topic: &str, offset: usize) -> Record {
    Record {
        partition: Partition::new(topic, 0),
        offset: offset as u64,
        append_time: NOW,
        key: Bytes::new(),
        value: Bytes::new(),
        headers: Vec::new(),
    }
}

/// Steps the inputs through a new stage in each of several rounds, and tells the median.
fn measure<S: Stage>(name: &str, stage: impl Fn() -> S, inputs: &[Record]) -> (S, Part) {
    let (mut took, mut last) = (Vec::new(), None);
    for _ in 0..ROUNDS {
        drop(last.take());
        let (mut stage, mut all) = (stage(), Part::default());
        if let Some(first) = inputs.first() {
            stage.assign(&first.partition, first.offset);
        }
        let begun = worked();
        for chunk in inputs.chunks(CHUNK) {
            for record in chunk {
                stage.step(record, &mut all).unwrap();
            }
            stage.seal(&chunk[0].partition, &mut all).unwrap();
        }
        took.push(worked().saturating_sub(begun));
        last = Some((stage, black_box(all)));
    }
    took.sort_unstable();
    let (mut stage, all) = last.unwrap();
    let tally = inputs.first().map(|first| stage.tally(&first.partition)).unwrap_or_default();
    let each = took[ROUNDS / 2].as_nanos() as f64 / tally.passed.events as f64;
    println!("{name:>24} {each:>10.0} ns an event");
    (stage, all)
}

/// How long this thread has had a processor.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn records(part: &Part, topic: &str) -> Vec<Record> {
    let outputs = part.outputs.iter().filter(|output| output.partition.topic.as_str() == topic);
    let record = |(output, offset): (&killick_stages::record::Output, u64)| Record {
        partition: output.partition.clone(),
        offset,
        append_time: NOW + offset as i64 * 10_000,
        key: Bytes::new(),
        value: output.value.clone(),
        headers: Vec::new(),
    };
    outputs.zip(0..).map(record).collect()
}

fn config(key: &SecretKey) -> ingest::Config {
    let device = Device {
        tenant: "acme".into(),
        source: "pump-1".into(),
        key: base64url(key.public().as_bytes()),
        from: None,
        until: None,
    };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    ingest::Config {
        sources: vec![Source { unsigned: Unsigned::Accept, ..Source::new("events") }],
        devices: vec![device],
        tenants: [("acme".to_owned(), tenant)].into(),
        registry: false,
    }
}

fn event(key: &SecretKey, id: usize, is_signed: bool) -> Record {
    let (id, payload) = (id.to_string(), [id as u8; 200]);
    let digest = Algorithm::Sha256.digest(&payload);
    let (tenant, source, kind) = ("acme", "pump-1", "com.example.reading.v1");
    let event = Event { tenant, source, id: &id, time: NOW, kind, digest };
    let signed = is_signed.then(|| (key.public(), key.sign(&event.signing_bytes().unwrap())));
    let signed = signed.as_ref().map(|(public, signature)| (public.as_bytes(), signature));
    let envelope = envelope::Event { tenant, source, id: &id, time: NOW, kind, payload: &payload, signed };
    Record { value: envelope.encode(), ..at_offset("events", id.parse().unwrap()) }
}
