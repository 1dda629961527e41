//! The life of an event through all topics: what to look at first when something is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use killick_stages::frame::{AcceptedFrame, UniqueFrame};
use killick_stages::ports::{BatchRecord, Reader};
use killick_stages::ready::ProofReady;
use killick_stages::record::Record;
use killick_stages::rejected::PREFIX;
use killick_stages::route::{ACCEPTED, BATCHES, PROOFS, REJECTED, UNIQUE};

use super::{each_record, event_number, header};
use crate::events::{NUMBER, TOPICS, number_of};

/// Where each of these numbers stands, in words, topic by topic.
///
/// # Errors
/// The log cannot be read.
pub fn lives(log: &mut dyn Reader, numbers: &[u64]) -> Result<BTreeMap<u64, Vec<String>>> {
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut lives: BTreeMap<u64, Vec<String>> = wanted.iter().map(|number| (*number, Vec::new())).collect();
    for topic in TOPICS.into_iter().chain([ACCEPTED, UNIQUE, REJECTED, BATCHES, PROOFS]) {
        let mut each = |record: Record| {
            for (number, what) in told(topic, &record) {
                if let Some(life) = lives.get_mut(&number) {
                    let (partition, offset, time) = (&record.partition, record.offset, record.append_time);
                    life.push(format!("{partition} at {offset}, time {time}: {what}"));
                }
            }
        };
        each_record(log, topic, &mut each, &mut |_, _| {})?;
    }
    Ok(lives)
}

/// The numbers that a record tells of, and what it tells.
fn told(topic: &str, record: &Record) -> Vec<(u64, String)> {
    let leaf =
        |(at, statement): (usize, &bytes::Bytes)| Some((event_number(statement)?, format!("leaf {at}")));
    match topic {
        ACCEPTED => {
            let Ok(frame) = AcceptedFrame::decode(&record.value) else { return Vec::new() };
            let place = |event: &killick_stages::frame::AcceptedEvent| {
                let (topic, partition, offset) = (&frame.topic, frame.partition, event.offset);
                Some((
                    event_number(&event.statement)?,
                    format!("accepted from {topic}/{partition} at {offset}"),
                ))
            };
            frame.events.iter().filter_map(place).collect()
        }
        UNIQUE => {
            let frame = UniqueFrame::decode(&record.value).unwrap_or_default();
            let copy = |copy: &killick_stages::frame::Copy, what: &str| {
                let (topic, partition, offset) = (&copy.topic, copy.partition, copy.offset);
                Some((number_of(&copy.id)?, format!("{what} from {topic}/{partition} at {offset}")))
            };
            let mut told: Vec<_> = frame.statements.iter().enumerate().filter_map(leaf).collect();
            told.extend(frame.duplicates.iter().filter_map(|of| copy(of, "duplicate")));
            told.extend(frame.conflicts.iter().filter_map(|of| copy(of, "conflict")));
            told
        }
        BATCHES => {
            let batch = BatchRecord::decode(&record.value);
            batch
                .map(|batch| batch.statements.iter().enumerate().filter_map(leaf).collect())
                .unwrap_or_default()
        }
        PROOFS => {
            let Ok(ready) = ProofReady::decode(&record.value) else { return Vec::new() };
            let what = |at| format!("proven, leaf {at} of batch {} of {}", ready.number, ready.origin);
            let leaf = |(at, statement)| Some((event_number(statement)?, what(at)));
            ready.statements.iter().map(AsRef::as_ref).enumerate().filter_map(leaf).collect()
        }
        REJECTED => {
            let named = |name: &str| header(record, &format!("{PREFIX}{name}")).unwrap_or_default();
            let number = header(record, NUMBER)
                .and_then(|text| text.parse().ok())
                .or_else(|| event_number(&record.value));
            let what = format!(
                "{} by {} from {}/{} at {}",
                named("exception.class.name"),
                named("stage"),
                named("topic"),
                named("partition"),
                named("offset")
            );
            number.map(|number| (number, what)).into_iter().collect()
        }
        _ => {
            let number = header(record, NUMBER).and_then(|text| text.parse().ok());
            number.map(|number| (number, "came in".to_owned())).into_iter().collect()
        }
    }
}
