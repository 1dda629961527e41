//! What readers see of the journal: only what is durable.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use killick_stages::record::{Header, Micros, Partition, Record};

use killick_stages::ports::LogError;

use super::entry::{Entry, Move};
use super::segment::{self, Index, Place};
use super::{damaged, failed};

/// Indexes of old segments kept at hand: as many readers can be far behind at once without reading them again.
const LOADED: usize = 4;

/// The state of all partitions.
#[derive(Default)]
pub struct View {
    segments: BTreeMap<u64, Segment>,
    ends: Vec<u64>,
    committed: HashMap<(Arc<str>, u32), u64>,
    compacted: BTreeMap<u32, Kept>,
    /// The worker that owns a partition for a group.
    owners: HashMap<(Arc<str>, u32), u64>,
    /// The newest append time.
    pub time: Micros,
    /// Counts what was published, so that a reader can wait for the next.
    pub version: u64,
    uses: u64,
}

/// A segment as far as it has to be known.
pub struct Segment {
    /// The end of each partition when it began.
    first: Vec<u64>,
    began: Micros,
    loaded: Option<Loaded>,
    used: u64,
}

/// A segment's file and index.
pub struct Loaded {
    file: Arc<File>,
    index: Index,
}

impl Loaded {
    /// Reads the index of a segment that is complete. `None` if it is not there any more.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if it is bad anywhere but in its blobs, which are checked when they are read.
    pub fn read(folder: &Path, number: u64) -> Result<Option<Self>, LogError> {
        let file = match File::open(segment::path(folder, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mut index = Index::default();
        let scan = segment::scan(&file, false, |entry, position, _| {
            if entry.head.is_none() {
                index.add(entry, position);
            }
        });
        let scan = scan.map_err(failed)?;
        if !scan.is_complete {
            return Err(damaged(folder, number, scan.good));
        }
        Ok(Some(Self { file: Arc::new(file), index }))
    }

    /// The index of a segment that is being written.
    pub fn new(file: Arc<File>) -> Self {
        Self { file, index: Index::default() }
    }
}

/// Where records are.
pub enum Found {
    /// There are none.
    Nothing,
    /// In this segment, in its file, at these places.
    Places(u64, Arc<File>, Vec<Place>),
    /// In this segment, whose index has to be loaded first.
    NotLoaded(u64),
}

/// The living records of a compacted partition.
#[derive(Default)]
pub struct Kept {
    by_offset: BTreeMap<u64, KeptRecord>,
    by_key: HashMap<Bytes, u64>,
}

/// A record of a compacted partition. It keeps no memory alive but its own.
#[derive(Clone)]
pub struct KeptRecord {
    /// The key.
    pub key: Bytes,
    /// The value; never empty.
    pub value: Bytes,
    /// The headers.
    pub headers: Vec<Header>,
    /// When the log took it.
    pub append_time: Micros,
}

impl KeptRecord {
    /// A copy: the bytes given may be slices of something large.
    pub fn copy_of(key: &[u8], value: &[u8], headers: &[Header], append_time: Micros) -> Self {
        let own = |header: &Header| Header {
            name: Arc::clone(&header.name),
            value: Bytes::copy_from_slice(&header.value),
        };
        Self {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            headers: headers.iter().map(own).collect(),
            append_time,
        }
    }
}

impl Kept {
    /// Takes a record: it ends the one that its key had, and with an empty value the key.
    pub fn put(&mut self, offset: u64, record: KeptRecord) {
        if let Some(earlier) = self.by_key.remove(&record.key) {
            self.by_offset.remove(&earlier);
        }
        if !record.value.is_empty() {
            self.by_key.insert(record.key.clone(), offset);
            self.by_offset.insert(offset, record);
        }
    }

    /// The living records in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &KeptRecord)> {
        self.by_offset.iter().map(|(offset, record)| (*offset, record))
    }

    /// The living records from an offset on.
    pub fn records(&self, partition: &Partition, from: u64) -> Vec<Record> {
        let records = self.by_offset.range(from..).map(|(offset, kept)| {
            let KeptRecord { key, value, headers, append_time } = kept.clone();
            Record { partition: partition.clone(), offset: *offset, append_time, key, value, headers }
        });
        records.collect()
    }
}

impl View {
    /// The numbers of the segments, ascending.
    pub fn numbers(&self) -> Vec<u64> {
        self.segments.keys().copied().collect()
    }

    /// A view with so many partitions, of which these are compacted.
    pub fn new(ends: Vec<u64>, compacted: impl Iterator<Item = u32>) -> Self {
        Self {
            ends,
            compacted: compacted.map(|number| (number, Kept::default())).collect(),
            ..Self::default()
        }
    }

    /// The first offset that is kept.
    pub fn start(&self, number: u32) -> u64 {
        let first = self.segments.first_key_value().map_or(0, |(_, segment)| segment.first(number));
        if self.compacted.contains_key(&number) { 0 } else { first }
    }

    /// The offset of the record that will come next.
    pub fn end(&self, number: u32) -> u64 {
        self.ends.get(number as usize).copied().unwrap_or(0)
    }

    /// The ends of all partitions.
    pub fn ends(&self) -> &[u64] {
        &self.ends
    }

    /// Where a group goes on.
    pub fn committed(&self, group: &str, number: u32) -> Option<u64> {
        self.committed.get(&(group.into(), number)).copied()
    }

    /// Where every group goes on, in a fixed order.
    pub fn moves(&self) -> Vec<Move> {
        let moves = self.committed.iter().map(|((group, partition), next)| Move {
            group: Arc::clone(group),
            partition: *partition,
            next: *next,
        });
        let mut moves: Vec<_> = moves.collect();
        moves.sort_by(|a, b| (&a.group, a.partition).cmp(&(&b.group, b.partition)));
        moves
    }

    /// Takes a segment in; the last one taken in is the one being written.
    pub fn add_segment(&mut self, number: u64, first: Vec<u64>, began: Micros, loaded: Option<Loaded>) {
        self.uses += 1;
        self.time = self.time.max(began);
        self.segments.insert(number, Segment { first, began, loaded, used: self.uses });
        self.unload();
    }

    /// Makes an entry of the segment being written visible; compacted records come apart.
    pub fn publish(&mut self, entry: &Entry, position: u64) {
        if let Some(loaded) = self.segments.last_entry().and_then(|last| last.into_mut().loaded.as_mut()) {
            loaded.index.add(entry, position);
        }
        for batch in &entry.batches {
            if let Some(end) = self.ends.get_mut(batch.partition as usize) {
                *end = batch.base + u64::from(batch.count);
            }
            self.time = self.time.max(batch.append_time);
        }
        self.move_on(entry);
        self.version += 1;
    }

    /// Takes the moves of an entry. A segment's head has all that were made before it, and no new records.
    pub fn move_on(&mut self, entry: &Entry) {
        for step in &entry.moves {
            self.committed.insert((Arc::clone(&step.group), step.partition), step.next);
        }
    }

    /// The compacted partition of that number.
    pub fn compacted(&mut self, number: u32) -> Option<&mut Kept> {
        self.compacted.get_mut(&number)
    }

    /// All compacted partitions in order.
    pub fn all_compacted(&self) -> impl Iterator<Item = (u32, &Kept)> {
        self.compacted.iter().map(|(number, kept)| (*number, kept))
    }

    /// Where the records of a partition from `from` on are, up to `max` bytes, all in one segment.
    pub fn places(&mut self, number: u32, from: u64, max: usize) -> Found {
        let from = from.max(self.start(number));
        if from >= self.end(number) {
            return Found::Nothing;
        }
        self.uses += 1;
        let uses = self.uses;
        let holder = self.segments.iter_mut().rev().find(|(_, segment)| segment.first(number) <= from);
        let Some((&holder, segment)) = holder else { return Found::Nothing };
        segment.used = uses;
        let Some(loaded) = &segment.loaded else { return Found::NotLoaded(holder) };
        let mut bytes = 0;
        let places = loaded.index.from(number, from).iter().take_while(|place| {
            let fits = bytes == 0 || bytes + place.batch.len as usize <= max;
            bytes += place.batch.len as usize;
            fits
        });
        Found::Places(holder, Arc::clone(&loaded.file), places.cloned().collect())
    }

    /// Whether a segment is part of the journal still.
    pub fn has(&self, number: u64) -> bool {
        self.segments.contains_key(&number)
    }

    /// Takes in an index that was missing.
    pub fn load(&mut self, number: u64, loaded: Loaded) {
        self.uses += 1;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.loaded = Some(loaded);
            segment.used = self.uses;
        }
        self.unload();
    }

    /// Lets go of the indexes used longest ago; never of the one being written.
    fn unload(&mut self) {
        let Some((&active, _)) = self.segments.last_key_value() else { return };
        let mut loaded: Vec<_> = self
            .segments
            .iter()
            .filter(|(number, segment)| **number != active && segment.loaded.is_some())
            .collect();
        loaded.sort_by_key(|(_, segment)| std::cmp::Reverse(segment.used));
        let old: Vec<u64> = loaded.iter().skip(LOADED).map(|(number, _)| **number).collect();
        for number in old {
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.loaded = None;
            }
        }
    }

    /// The first offset of a segment after which everything was appended at or after `since`.
    pub fn offset_at(&self, number: u32, since: Micros) -> u64 {
        // A segment's records are no older than its beginning; the one before may hold younger ones too.
        let before = self.segments.values().rev().find(|segment| segment.began < since);
        before.map_or_else(|| self.start(number), |segment| segment.first(number))
    }

    /// Takes out the oldest segment, if it may go: `may_go` gets each partition that has records in it, the end of
    /// those, and when the last of them came at the latest.
    pub fn take_oldest(
        &mut self,
        may_go: impl Fn(&Self, u32, u64, Micros) -> bool,
    ) -> Option<(u64, Segment)> {
        let mut segments = self.segments.iter();
        let ((_, old), (_, next)) = (segments.next()?, segments.next()?);
        let partitions = 0..u32::try_from(next.first.len()).unwrap_or(u32::MAX);
        let all_may = partitions.into_iter().all(|number| {
            let has_some = next.first(number) > old.first(number) && !self.compacted.contains_key(&number);
            !has_some || may_go(self, number, next.first(number), next.began)
        });
        if all_may { self.segments.pop_first() } else { None }
    }

    /// Puts a segment back that was taken out.
    pub fn put_back(&mut self, number: u64, segment: Segment) {
        self.segments.insert(number, segment);
    }

    /// Gives a partition to a worker. Who waits looks again what is its own.
    pub fn own(&mut self, group: &Arc<str>, number: u32, worker: u64) {
        self.owners.insert((Arc::clone(group), number), worker);
        self.version += 1;
    }

    /// Whether a worker has a partition still.
    pub fn owns(&self, group: &Arc<str>, number: u32, worker: u64) -> bool {
        self.owners.get(&(Arc::clone(group), number)) == Some(&worker)
    }
}

impl Segment {
    fn first(&self, number: u32) -> u64 {
        self.first.get(number as usize).copied().unwrap_or(0)
    }
}
