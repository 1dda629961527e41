//! Reads partitions of the log from one end to the other, and finds places in them.

use std::collections::VecDeque;

use crate::ports::{LogError, Reader};
use crate::ready::is_correction;
use crate::record::{Micros, Partition, Record};

/// Bytes read at a time.
const TOGETHER: usize = 8 << 20;

/// A place in a partition, going on towards an end that is fixed.
#[derive(Debug)]
pub struct Cursor {
    /// The partition.
    pub partition: Partition,
    /// The offset where it ends.
    pub end: u64,
    next: u64,
    read: VecDeque<Record>,
}

impl Cursor {
    /// Stands before the record at `from`, or the first one behind it.
    pub fn new(partition: Partition, from: u64, end: u64) -> Self {
        Self { partition, end, next: from, read: VecDeque::new() }
    }

    /// The next record that is no tick, which stays the next one.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn peek(&mut self, reader: &mut dyn Reader) -> Result<Option<&Record>, LogError> {
        loop {
            while self.read.front().is_some_and(Record::is_tick) {
                self.read.pop_front();
            }
            if !self.read.is_empty() {
                return Ok(self.read.front().filter(|record| record.offset < self.end));
            }
            if self.next >= self.end {
                return Ok(None);
            }
            let records = reader.read(&self.partition, self.next, TOGETHER)?;
            let Some(last) = records.last() else { return Ok(None) };
            self.next = last.offset + 1;
            self.read = records.into();
        }
    }

    /// The next record that is no tick.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn next(&mut self, reader: &mut dyn Reader) -> Result<Option<Record>, LogError> {
        if self.peek(reader)?.is_none() {
            return Ok(None);
        }
        Ok(self.read.pop_front())
    }
}

/// The first record in a range of offsets, no tick and no correction, of which `is_there` holds, where it holds of all
/// such records that follow too.
///
/// # Errors
/// [`LogError`], also of `is_there`.
pub fn search<E: From<LogError>>(
    reader: &mut dyn Reader,
    partition: &Partition,
    (mut low, end): (u64, u64),
    mut is_there: impl FnMut(&Record) -> Result<bool, E>,
) -> Result<Option<Record>, E> {
    let (mut high, mut found) = (end, None);
    while low < high {
        let middle = low + (high - low) / 2;
        match first(reader, partition, (middle, high))? {
            Some(record) if is_there(&record)? => {
                high = middle;
                found = Some(record);
            }
            Some(record) => low = record.offset + 1,
            None => high = middle,
        }
    }
    Ok(found)
}

/// The first record in a range of offsets that is no tick, and no correction of an earlier one, which says nothing of how
/// far those before it were.
fn first(
    reader: &mut dyn Reader,
    partition: &Partition,
    (mut next, end): (u64, u64),
) -> Result<Option<Record>, LogError> {
    while next < end {
        let records = reader.read(partition, next, 1)?;
        let Some(last) = records.last() else { return Ok(None) };
        next = last.offset + 1;
        if let Some(record) = records.into_iter().find(|record| !record.is_tick() && !is_correction(record)) {
            return Ok((record.offset < end).then_some(record));
        }
    }
    Ok(None)
}

/// The offset of the first record that was appended at or after a time, as far as times ascend; the end if there is none.
///
/// # Errors
/// [`LogError`].
pub fn since(
    reader: &mut dyn Reader,
    partition: &Partition,
    range: (u64, u64),
    time: Micros,
) -> Result<u64, LogError> {
    let found = search(reader, partition, range, |record| Ok::<_, LogError>(record.append_time >= time))?;
    Ok(found.map_or(range.1, |record| record.offset))
}
