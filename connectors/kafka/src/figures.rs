//! What workers do, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use killick_stages::record::Partition;

/// Statistics in a row, one a second, that see no connection before that is believed: one is made anew now and then.
const UNCONNECTED: u32 = 3;

/// How far a group is behind in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Records between what is committed and what can be read.
    pub records: u64,
    /// Behind the last record that can be read, as far as is known.
    pub end: u64,
}

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
    /// Whether the group has said what is ours, be it nothing.
    pub joined: AtomicBool,
    unconnected: AtomicU32,
    lag: Mutex<BTreeMap<Partition, Lag>>,
}

impl Figures {
    /// Counts.
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: BTreeMap<Partition, Lag>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    pub(crate) fn set_connected(&self, is_connected: bool) {
        if is_connected {
            self.unconnected.store(0, Ordering::Relaxed);
        } else {
            self.unconnected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the consumer has a connection to a broker, as the last statistics had it.
    pub fn is_connected(&self) -> bool {
        self.unconnected.load(Ordering::Relaxed) < UNCONNECTED
    }

    /// How far each partition that is ours is behind, as the last statistics had it, at most a second or two ago. Marks of
    /// transactions may count as records where not all that was read is committed.
    pub fn lag(&self) -> BTreeMap<Partition, Lag> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
