//! What the tests of several stages need: records, keys, statements, and a shell in a few lines.

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::signature::SecretKey;
use killick_proof::statement::{Attestation, Event, Statement};

use crate::envelope;
use crate::record::{Header, Micros, Output, Partition, Record};
use crate::stage::{Halt, Part, Stage};

pub(crate) const SECOND: Micros = 1_000_000;
pub(crate) const HOUR: Micros = 3_600 * SECOND;
/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: Micros = 1_767_225_600 * SECOND;

pub(crate) fn record(topic: &str, number: u32, offset: u64, time: Micros, value: impl Into<Bytes>) -> Record {
    Record {
        partition: Partition::new(topic, number),
        offset,
        append_time: time,
        key: Bytes::new(),
        value: value.into(),
        headers: Vec::new(),
    }
}

pub(crate) fn tick(topic: &str, number: u32, offset: u64, time: Micros) -> Record {
    let tick = Output::tick(Partition::new(topic, number));
    Record { headers: tick.headers, ..record(topic, number, offset, time, Bytes::new()) }
}

pub(crate) fn with_headers(mut record: Record, headers: &[(&str, &[u8])]) -> Record {
    let header =
        |(name, value): &(&str, &[u8])| Header { name: (*name).into(), value: Bytes::copy_from_slice(value) };
    record.headers.extend(headers.iter().map(header));
    record
}

pub(crate) fn device_key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Our own envelope around an event of `pump-1`, signed with the key of this seed.
pub(crate) fn signed(seed: u8, id: &str, time: Micros, payload: &[u8]) -> Bytes {
    let digest = Algorithm::Sha256.digest(payload);
    let event = Event { tenant: "acme", source: "pump-1", id, time, kind: "reading", digest };
    let key = device_key(seed);
    let signature = key.sign(&event.signing_bytes().unwrap());
    let public = key.public();
    let signed = Some((public.as_bytes(), &signature));
    let (tenant, source, kind) = (event.tenant, event.source, event.kind);
    envelope::Event { tenant, source, id, time, kind, payload, signed }.encode()
}

/// The unsigned statement of an event.
pub(crate) fn statement(id: &str, payload: &[u8]) -> Bytes {
    statement_at(id, NOW, payload, &[9; 16])
}

pub(crate) fn statement_at(id: &str, time: Micros, payload: &[u8], salt: &[u8; 16]) -> Bytes {
    let digest = Algorithm::Sha256.digest(payload);
    let event = Event { tenant: "acme", source: "pump-1", id, time, kind: "", digest };
    Statement { event, attestation: Attestation::Unsigned { salt } }.encode().unwrap().into()
}

/// Steps records and commits after the last: what would be in the log then.
pub(crate) fn run<S: Stage>(stage: &mut S, records: &[Record]) -> Result<Part, Halt> {
    let mut part = Part::default();
    for record in records {
        stage.step(record, &mut part)?;
    }
    if let Some(last) = records.last() {
        stage.seal(&last.partition, &mut part)?;
    }
    Ok(part)
}

/// The values of the outputs to a topic, in order.
pub(crate) fn to<'p>(part: &'p Part, topic: &str) -> Vec<&'p Output> {
    part.outputs.iter().filter(|output| output.partition.topic.as_str() == topic).collect()
}
