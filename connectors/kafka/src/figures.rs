//! What workers do, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use killick_stages::record::Partition;

/// Figures of one worker since it began. Counting costs a few nanoseconds, and never blocks.
#[derive(Debug, Default)]
pub struct Figures {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Time in commits, in microseconds.
    pub commit_micros: AtomicU64,
    /// Transactions that were not committed.
    pub aborts: AtomicU64,
    /// Producers thrown away for a doubt or an error.
    pub rebuilds: AtomicU64,
    /// Partitions that came.
    pub assigned: AtomicU64,
    /// Partitions that went.
    pub revoked: AtomicU64,
    /// Of these, partitions that another had before we knew.
    pub lost: AtomicU64,
    /// Records read.
    pub records: AtomicU64,
    /// Partitions that are ours now.
    pub owned: AtomicU64,
    lag: Mutex<BTreeMap<Partition, i64>>,
}

impl Figures {
    /// Counts.
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: BTreeMap<Partition, i64>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    /// Offsets in each partition that is ours between what is committed and what can be read, as the last statistics had
    /// them, at most a second or two ago.
    pub fn lag(&self) -> BTreeMap<Partition, i64> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
