//! The catalog against the log it was written from, as far as the log is kept.

use killick_proof::batch::BatchHeader;
use killick_proof::origin::Origin;

use super::{Fsck, FsckError, Part};
use crate::cursor::{self, Cursor};
use crate::ports::{BatchRecord, LogError, Reader};
use crate::ready::ProofReady;
use crate::record::{Partition, Record};
use crate::route::{BATCHES, PROOFS};

/// The records of `batches` of one log that have not been compared yet.
pub(super) struct Topic(Option<Open>);

struct Open {
    cursor: Cursor,
    /// The record that comes next, with the number it bears.
    next: Option<(u64, Record)>,
    /// The number of the last record that was seen.
    last: Option<u64>,
}

/// The number of a record of `batches`, if it is one of this log.
fn number_of(origin: &str, record: &Record) -> Option<u64> {
    let batch = BatchRecord::decode(&record.value).ok()?;
    let header = BatchHeader::decode(&batch.header).ok()?;
    (header.origin.as_str() == origin).then_some(header.number)
}

fn partition_of(origin: &str, topic: &str, reader: &mut dyn Reader) -> Result<Option<Partition>, LogError> {
    let log = Origin::parse(origin).ok().and_then(|origin| u32::try_from(origin.log()).ok());
    let Some(log) = log else { return Ok(None) };
    let partition = Partition::new(topic, log);
    Ok(reader.partitions(topic)?.contains(&partition).then_some(partition))
}

impl Open {
    fn advance(&mut self, origin: &str, reader: &mut dyn Reader) -> Result<(), LogError> {
        self.next = None;
        while let Some(record) = self.cursor.next(reader)? {
            // What is no batch of this log is the audit's business.
            if let Some(number) = number_of(origin, &record) {
                self.last = Some(number);
                self.next = Some((number, record));
                break;
            }
        }
        Ok(())
    }
}

impl Fsck<'_> {
    /// Opens the log's records from a batch on.
    pub(super) fn open_topic(&mut self, origin: &str, number: u64) -> Result<Topic, FsckError> {
        let Some(reader) = self.reader.as_deref_mut() else { return Ok(Topic(None)) };
        let Some(partition) = partition_of(origin, BATCHES, reader)? else { return Ok(Topic(None)) };
        let range = reader.range(&partition)?;
        let found = cursor::search(reader, &partition, range, |record| {
            Ok::<_, LogError>(number_of(origin, record).is_some_and(|found| found >= number))
        })?;
        let from = found.map_or(range.1, |record| record.offset);
        let mut open = Open { cursor: Cursor::new(partition, from, range.1), next: None, last: None };
        open.advance(origin, reader)?;
        Ok(Topic(Some(open)))
    }

    /// Holds a batch of the catalog against its record.
    pub(super) fn compare(
        &mut self,
        origin: &str,
        number: u64,
        batch: Option<&BatchRecord>,
        topic: &mut Topic,
    ) -> Result<(), FsckError> {
        let (Some(open), Some(reader)) = (&mut topic.0, self.reader.as_deref_mut()) else { return Ok(()) };
        // The log begins later: retention took the record.
        let Some((_, record)) = open.next.take_if(|(next, _)| *next <= number) else { return Ok(()) };
        open.advance(origin, reader)?;
        let stands = BatchRecord::decode(&record.value).ok();
        if stands.as_ref() == batch {
            self.figures.compared += u64::from(batch.is_some());
        } else {
            let why = format!("{} has another at offset {}", record.partition, record.offset);
            self.find(Part::Record, origin, number, why);
        }
        Ok(())
    }

    /// Nothing is in the catalog that the log has not. What the log has beyond waits to be stored.
    pub(super) fn check_topic_end(&mut self, origin: &str, size: u64, topic: Topic) -> Result<(), FsckError> {
        let Some(open) = topic.0 else { return Ok(()) };
        let end = open.next.as_ref().map(|(number, _)| *number).or_else(|| open.last.map(|last| last + 1));
        if let Some(end) = end.filter(|end| *end < size) {
            let why = format!("the log ends before it, {end} batches long, and the catalog has {size}");
            self.find(Part::Record, origin, end, why);
        }
        Ok(())
    }

    /// Every log whose batches prove has stored is one of these.
    pub(super) fn check_known(&mut self, origins: &[Box<str>]) -> Result<(), FsckError> {
        let Some(reader) = self.reader.as_deref_mut() else { return Ok(()) };
        let mut unknown = Vec::new();
        for partition in reader.partitions(BATCHES)? {
            let (start, end) = reader.range(&partition)?;
            let stored = reader.committed("prove", &partition)?.unwrap_or(0).min(end);
            let Some(record) = Cursor::new(partition, start, stored).next(reader)? else { continue };
            let batch = BatchRecord::decode(&record.value).ok();
            let header = batch.as_ref().and_then(|batch| BatchHeader::decode(&batch.header).ok());
            let origin = header.map(|header| header.origin.to_string());
            unknown.extend(origin.filter(|origin| !origins.iter().any(|known| **known == **origin)));
        }
        for origin in unknown {
            self.find(Part::Log, &origin, 0, "its batches are in the log, and the catalog does not know it");
        }
        Ok(())
    }

    /// Every batch that `proofs` tells of is anchored.
    pub(super) fn check_told(&mut self, origin: &str, anchored: u64) -> Result<(), FsckError> {
        let Some(reader) = self.reader.as_deref_mut() else { return Ok(()) };
        let Some(partition) = partition_of(origin, PROOFS, reader)? else { return Ok(()) };
        let range = reader.range(&partition)?;
        let found = cursor::search(reader, &partition, range, |record| {
            let ready = ProofReady::decode(&record.value);
            Ok::<_, LogError>(ready.is_ok_and(|ready| &*ready.origin == origin && ready.number >= anchored))
        })?;
        if let Some(record) = found {
            let why = format!(
                "{partition} tells of its proof at offset {}, and no anchor covers it",
                record.offset
            );
            self.find(Part::Anchor, origin, anchored, why);
        }
        Ok(())
    }
}
