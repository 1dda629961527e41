//! The catalog as async code sees it: what is shared by reading and writing.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use killick_stages::ports::CatalogError;

use crate::link::Link;
use crate::settings::Class;
use crate::tiles::Tiles;

/// Batch numbers in a run: a partition of `runs` has at most so many rows.
pub const RUN: u64 = 1 << 16;
/// Sizes in a span: a partition of `anchored` has at most so many rows.
pub const SPAN: u64 = 1 << 20;
/// Days that are known to be listed, at the most.
const DAYS: usize = 4_096;

/// A row of `days`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DayRow {
    pub class: Class,
    pub tenant: Box<str>,
    pub day: i32,
    pub origin: Box<str>,
    pub run: i64,
}

/// The catalog, without the blocking around it.
pub struct Side {
    pub link: Link,
    pub tiles: Tiles,
    /// Sizes that logs have had: they only grow.
    sizes: Mutex<HashMap<Box<str>, u64>>,
    /// Rows of `days` that were written: they have no content, so once is enough.
    days: Mutex<HashSet<DayRow>>,
}

impl Side {
    pub fn new(link: Link) -> Self {
        Self { link, tiles: Tiles::default(), sizes: Mutex::default(), days: Mutex::default() }
    }

    /// Whether the log is known to have that batch.
    pub fn is_known(&self, origin: &str, number: u64) -> bool {
        lock(&self.sizes).get(origin).is_some_and(|size| number < *size)
    }

    /// Remembers the size of a log that has batches.
    pub fn know_size(&self, origin: &str, size: u64) {
        let mut sizes = lock(&self.sizes);
        match sizes.get_mut(origin) {
            Some(known) => *known = size.max(*known),
            None => drop(sizes.insert(origin.into(), size)),
        }
    }

    /// Whether this row of `days` was written.
    pub fn is_listed(&self, row: &DayRow) -> bool {
        lock(&self.days).contains(row)
    }

    /// Remembers that this row of `days` was written.
    pub fn know_listed(&self, row: DayRow) {
        let mut days = lock(&self.days);
        if days.len() >= DAYS {
            days.clear();
        }
        days.insert(row);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is stored and cannot be.
pub fn damaged(what: impl Into<String>) -> CatalogError {
    CatalogError::Damaged(what.into())
}

/// A count as CQL has it. Counts of ours are at most 2^53 − 1.
///
/// # Errors
/// [`CatalogError::Damaged`] for what is no such count.
pub fn signed(count: u64) -> Result<i64, CatalogError> {
    i64::try_from(count).map_err(|_| damaged(format!("{count} is beyond every log")))
}
