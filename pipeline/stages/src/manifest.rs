//! Manifests: what each transaction did with each input partition, written in the transaction itself.
//!
//! A transaction that is torn, lost or done twice leaves its manifest, or does not, with the rest: so the ranges of a
//! stage's manifests tile its input exactly if nothing went wrong, and the sums tell whether what one stage passed on is
//! what the next one took. [`crate::audit`] looks.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::avro::{AvroError, Reader, Writer};
use crate::record::{Output, Partition};
use crate::route::AUDIT;
use crate::stage::{Part, Sum, Tally};

/// What one transaction did with one input partition: a record of `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The stage.
    pub stage: Box<str>,
    /// The input partition.
    pub input: Partition,
    /// The committed offset before the transaction.
    pub from: u64,
    /// The committed offset after it; the same where nothing moved.
    pub to: u64,
    /// What became of the events.
    pub tally: Tally,
    /// The slot of the worker, for people.
    pub worker: Box<str>,
}

impl Manifest {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(160);
        out.string(&self.stage);
        out.string(self.input.topic.as_str());
        out.long(self.input.number.into());
        out.count(self.from);
        out.count(self.to);
        for sum in [self.tally.taken, self.tally.passed] {
            out.count(sum.events);
            out.fixed(&sum.hashes.to_be_bytes());
        }
        out.count(self.tally.rejected);
        out.count(self.tally.duplicates);
        out.optional(self.tally.batches, Writer::count);
        out.string(&self.worker);
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &[u8]) -> Result<Self, AvroError> {
        fn sum(reader: &mut Reader<'_>) -> Result<Sum, AvroError> {
            Ok(Sum { events: reader.count()?, hashes: u128::from_be_bytes(*reader.fixed()?) })
        }
        let mut reader = Reader::new(value);
        let manifest = Self {
            stage: reader.string()?.into(),
            input: Partition::new(reader.string()?, reader.number()?),
            from: reader.count()?,
            to: reader.count()?,
            tally: Tally {
                taken: sum(&mut reader)?,
                passed: sum(&mut reader)?,
                rejected: reader.count()?,
                duplicates: reader.count()?,
                batches: reader.optional(Reader::count)?,
            },
            worker: reader.string()?.into(),
        };
        reader.end()?;
        Ok(manifest)
    }

    /// The record for a topic `audit` with so many partitions: all manifests of one input partition in one of them.
    pub fn output(&self, partitions: u32) -> Output {
        let number = self.input.number.checked_rem(partitions).unwrap_or(0);
        let Partition { topic, number: input } = &self.input;
        let key = format!("{}/{topic}/{input}", self.stage);
        Output::new(Partition::new(AUDIT, number), key, self.encode())
    }
}

/// Writes the manifests of one worker: knows where each of its input partitions is committed.
#[derive(Debug)]
pub struct Bookkeeper {
    stage: Box<str>,
    worker: Box<str>,
    partitions: u32,
    committed: BTreeMap<Partition, u64>,
}

impl Bookkeeper {
    /// For a worker of `stage` in the slot `worker`; `audit` has so many `partitions`.
    pub fn new(stage: &str, worker: &str, partitions: u32) -> Self {
        Self { stage: stage.into(), worker: worker.into(), partitions, committed: BTreeMap::new() }
    }

    /// An input partition is ours now, and goes on at `next`.
    pub fn assigned(&mut self, partition: &Partition, next: u64) {
        self.committed.insert(partition.clone(), next);
    }

    /// An input partition is no longer ours.
    pub fn revoked(&mut self, partition: &Partition) {
        self.committed.remove(partition);
    }

    /// Adds the manifest to what is about to be committed of an input partition, where anything moved or was counted.
    pub fn enter(&self, partition: &Partition, part: &mut Part, tally: Tally) {
        let from = self.committed.get(partition).copied().unwrap_or(0);
        let to = part.through.unwrap_or(from);
        if from == to && tally.is_empty() {
            return;
        }
        let (stage, worker) = (self.stage.clone(), self.worker.clone());
        let manifest = Manifest { stage, input: partition.clone(), from, to, tally, worker };
        part.outputs.push(manifest.output(self.partitions));
    }

    /// These parts are committed.
    pub fn committed(&mut self, parts: &[(Partition, Part)]) {
        for (partition, part) in parts {
            if let (Some(through), Some(committed)) = (part.through, self.committed.get_mut(partition)) {
                *committed = through;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(books: &Bookkeeper, through: Option<u64>, tally: Tally) -> Option<Manifest> {
        let mut part = Part { through, ..Part::default() };
        books.enter(&Partition::new("unique", 5), &mut part, tally);
        assert!(part.outputs.len() < 2);
        let output = part.outputs.pop()?;
        assert_eq!((output.partition, &*output.key), (Partition::new(AUDIT, 2), &b"batch/unique/5"[..]));
        Some(Manifest::decode(&output.value).unwrap())
    }

    #[test]
    fn manifests_go_on_where_the_last_commit_ended() {
        let partition = Partition::new("unique", 5);
        let mut books = Bookkeeper::new("batch", "batch-0", 3);
        books.assigned(&partition, 7);
        let range = |through| {
            let manifest = enter(&books, Some(through), Tally::default()).unwrap();
            (manifest.from, manifest.to)
        };
        assert_eq!(range(9), (7, 9));
        assert_eq!(range(12), (7, 12), "what was not committed moved nothing");
        let part = Part { through: Some(12), ..Part::default() };
        books.committed(&[(partition.clone(), part), (partition.clone(), Part::default())]);
        assert_eq!(enter(&books, Some(13), Tally::default()).unwrap().from, 12);
        books.revoked(&partition);
        books.assigned(&partition, 20);
        assert_eq!(enter(&books, Some(21), Tally::default()).unwrap().from, 20);
    }

    #[test]
    fn what_moved_nothing_and_counted_nothing_has_no_manifest() {
        let mut books = Bookkeeper::new("batch", "batch-0", 3);
        books.assigned(&Partition::new("unique", 5), 7);
        assert_eq!(enter(&books, None, Tally { batches: Some(4), ..Tally::default() }), None);
        let told = Tally { passed: Sum::of(b"statement"), ..Tally::default() };
        let manifest = enter(&books, None, told).unwrap();
        assert_eq!((manifest.from, manifest.to, manifest.tally), (7, 7, told));
    }
}
