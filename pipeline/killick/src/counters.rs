//! Counts what the pipeline of this process committed, as it commits it.

use std::sync::atomic::{AtomicU64, Ordering};

use killick_proof::batch::BatchHeader;
use killick_stages::manifest::Manifest;
use killick_stages::ports::BatchRecord;
use killick_stages::record::{Output, Partition};
use killick_stages::route;
use killick_stages::stage::Part;
use serde::Serialize;

/// Since this process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events given to the log.
    pub events: AtomicU64,
    /// Records that ingest rejected, and input that could not even be given to the log.
    pub rejected: AtomicU64,
    /// Copies.
    pub duplicates: AtomicU64,
    /// Copies that differ.
    pub conflicts: AtomicU64,
    /// Batches cut.
    pub batches: AtomicU64,
    /// Log checkpoints anchored.
    pub anchors: AtomicU64,
    /// Events whose receipts can be had.
    pub proven: AtomicU64,
}

/// What was counted so far, as summaries print it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// See [`Counters`].
    pub events: u64,
    /// See [`Counters`].
    pub duplicates: u64,
    /// See [`Counters`].
    pub conflicts: u64,
    /// See [`Counters`].
    pub rejected: u64,
    /// See [`Counters`].
    pub proven: u64,
    /// See [`Counters`].
    pub batches: u64,
    /// See [`Counters`].
    pub anchors: u64,
}

impl Counters {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            events: count(&self.events),
            duplicates: count(&self.duplicates),
            conflicts: count(&self.conflicts),
            rejected: count(&self.rejected),
            proven: count(&self.proven),
            batches: count(&self.batches),
            anchors: count(&self.anchors),
        }
    }

    /// Takes in what a stage committed; `each` sees its manifests.
    pub fn committed(&self, parts: &[(Partition, Part)], each: impl Fn(&Manifest)) {
        parts.iter().flat_map(|(_, part)| &part.outputs).for_each(|output| self.count(output, &each));
    }

    fn count(&self, output: &Output, each: impl Fn(&Manifest)) {
        match output.partition.topic.as_str() {
            route::BATCHES => add(&self.batches, 1),
            route::ANCHORS => add(&self.anchors, 1),
            // One record a transaction, and not the events again. What does not decode here is found by the audit.
            route::AUDIT => {
                let Ok(manifest) = Manifest::decode(&output.value) else { return };
                each(&manifest);
                let Manifest { stage, tally, .. } = manifest;
                match &*stage {
                    "ingest" => add(&self.rejected, tally.rejected),
                    "dedup" => {
                        add(&self.duplicates, tally.duplicates);
                        // What dedup rejects are conflicts, and they are counted as such.
                        add(&self.conflicts, tally.rejected);
                    }
                    "prove" => add(&self.proven, tally.passed.events),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The number and the statements of a record of `batches`.
pub fn batch_of(output: &Output) -> Option<(Box<str>, u64, BatchRecord)> {
    let batch = BatchRecord::decode(&output.value).ok()?;
    let header = BatchHeader::decode(&batch.header).ok()?;
    Some((header.origin.as_str().into(), header.number, batch))
}
