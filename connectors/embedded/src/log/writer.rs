//! The writing end: committers queue up, one of them leads, and one write with one sync serves all that wait.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use killick_stages::ports::LogError;
use killick_stages::record::{Micros, Output, Partition, Record};
use tracing::{info, warn};

use super::disk::Disk;
use super::entry::{self, Batch, Entry, Head, MAX_NAME, Move, TopicRow};
use super::segment;
use super::view::{KeptRecord, Loaded, View};
use super::{Cleanup, Shared, TopicSpec, damaged, failed, now, refused};

/// Bytes that one write takes; who waits beyond it goes with the next.
const FLUSH_BYTES: usize = 16 << 20;
/// A batch that has so many bytes takes no further record: a batch is read in one piece, however large its transaction.
const BATCH_BYTES: usize = 256 << 10;
/// Partitions of all topics together: their ends stand in every segment's head, and a table of them in memory.
const MAX_PARTITIONS: u32 = 1 << 20;

/// The file being written.
pub struct Writer {
    disk: Disk,
    file: Arc<File>,
    segment: u64,
    /// What its entries begin with.
    marker: u64,
    /// Where its head ends.
    head: u64,
    /// Where the next entry goes: all before it is durable.
    position: u64,
    buffer: Vec<u8>,
    /// Why nothing can be written any more.
    dead: Option<String>,
}

/// Who waits to be written.
#[derive(Default)]
pub struct Queue {
    waiting: Vec<(Pending, Arc<Slot>)>,
    is_led: bool,
}

/// A transaction on its way.
pub struct Pending {
    blobs: Vec<Blob>,
    moves: Vec<Move>,
    fence: Option<Fence>,
    bytes: usize,
}

/// Consecutive records of one partition, encoded.
struct Blob {
    partition: u32,
    count: u32,
    bytes: Vec<u8>,
    crc: u32,
    /// The records of a compacted partition once more, as they are kept.
    kept: Vec<KeptRecord>,
}

/// The transaction counts only while these partitions are this worker's.
pub struct Fence {
    /// The worker's group.
    pub group: Arc<str>,
    /// The worker.
    pub worker: u64,
    /// The partitions.
    pub inputs: Vec<(Partition, u32)>,
}

impl Pending {
    pub fn new(moves: Vec<Move>, fence: Option<Fence>) -> Self {
        Self { blobs: Vec::new(), moves, fence, bytes: 0 }
    }

    /// Adds a record, after those of its partition that were added before.
    pub fn add(&mut self, partition: u32, compact: bool, output: &Output) {
        let newest = self.blobs.iter().rposition(|blob| blob.partition == partition);
        let open = newest.filter(|index| self.blobs[*index].bytes.len() < BATCH_BYTES);
        let index = open.unwrap_or_else(|| {
            self.blobs.push(Blob { partition, count: 0, bytes: Vec::new(), crc: 0, kept: Vec::new() });
            self.blobs.len() - 1
        });
        let blob = &mut self.blobs[index];
        blob.count += 1;
        entry::put_record(&mut blob.bytes, &output.key, &output.value, &output.headers);
        self.bytes += entry::record_len(output);
        if compact {
            blob.kept.push(KeptRecord::copy_of(&output.key, &output.value, &output.headers, 0));
        }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing to write, nothing to move.
    fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.moves.is_empty()
    }
}

/// Where a committer waits.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Lead,
    Done(Result<(), LogError>),
}

impl Slot {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_one();
    }

    /// Waits for its turn to lead (`None`) or its outcome.
    fn wait(&self) -> Option<Result<(), LogError>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::take(&mut *state) {
                State::Waiting => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                State::Lead => return None,
                State::Done(outcome) => return Some(outcome),
            }
        }
    }
}

impl Shared {
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is published after `version`, at most so long.
    pub(super) fn wait(&self, version: u64, at_most: Duration) {
        let view = self.view();
        let waited = self.published.wait_timeout_while(view, at_most, |view| view.version == version);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes a transaction; returns when it is durable.
    pub(super) fn submit(&self, mut pending: Pending) -> Result<(), LogError> {
        if pending.is_empty() {
            return Ok(());
        }
        // Here, where the committers do it side by side.
        pending.blobs.iter_mut().for_each(|blob| blob.crc = crc32fast::hash(&blob.bytes));
        let slot = Arc::new(Slot::default());
        {
            let mut queue = self.queue();
            queue.waiting.push((pending, Arc::clone(&slot)));
            if !queue.is_led {
                queue.is_led = true;
                slot.set(State::Lead);
            }
        }
        loop {
            match slot.wait() {
                Some(outcome) => return outcome,
                None => self.lead(),
            }
        }
    }

    /// Writes once for all that wait now, then hands the lead to the next one.
    fn lead(&self) {
        let group = {
            let mut queue = self.queue();
            let mut bytes = 0;
            let fits = queue.waiting.iter().take_while(|(pending, _)| {
                let fits = bytes == 0 || bytes + pending.bytes <= FLUSH_BYTES;
                bytes += pending.bytes;
                fits
            });
            let count = fits.count();
            queue.waiting.drain(..count).collect::<Vec<_>>()
        };
        let (pending, slots): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = self.flush(pending);
        // The lead goes on before the outcomes: whoever gets one may come back at once.
        {
            let mut queue = self.queue();
            match queue.waiting.first() {
                Some((_, next)) => next.set(State::Lead),
                None => queue.is_led = false,
            }
        }
        for (slot, outcome) in slots.iter().zip(outcomes) {
            slot.set(State::Done(outcome));
        }
        if let Err(error) = self.roll(false) {
            warn!(%error, "cannot begin a new segment; going on in the old one");
        }
    }

    /// Writes transactions in one piece and makes them durable, then visible.
    fn flush(&self, group: Vec<Pending>) -> Vec<Result<(), LogError>> {
        let mut writer = self.writer();
        if let Some(why) = &writer.dead {
            return group.iter().map(|_| Err(LogError::Damaged(why.clone()))).collect();
        }
        let mut buffer = std::mem::take(&mut writer.buffer);
        buffer.clear();
        let mut outcomes = Vec::with_capacity(group.len());
        let mut written = Vec::with_capacity(group.len());
        {
            let view = self.view();
            let time = now().max(view.time);
            let mut ends = view.ends().to_vec();
            for mut pending in group {
                if let Some(lost) = pending.fence.as_ref().and_then(|fence| fence.lost(&view)) {
                    outcomes.push(Err(LogError::Lost(lost)));
                    continue;
                }
                outcomes.push(Ok(()));
                let entry = pending.entry(writer.position, time, &mut ends);
                entry.encode(writer.marker, &mut buffer);
                let position = writer.position + buffer.len() as u64;
                pending.blobs.iter().for_each(|blob| buffer.put_slice(&blob.bytes));
                written.push((entry, position, pending.blobs));
            }
        }
        if let Err(error) = writer.write(&buffer) {
            return outcomes.into_iter().map(|outcome| outcome.and_then(|()| Err(error.get()))).collect();
        }
        let mut view = self.view();
        for (entry, position, blobs) in written {
            view.publish(&entry, position);
            for (batch, blob) in entry.batches.iter().zip(blobs) {
                if let Some(kept) = view.compacted(batch.partition) {
                    for (offset, record) in (batch.base..).zip(blob.kept) {
                        kept.put(offset, KeptRecord { append_time: batch.append_time, ..record });
                    }
                }
            }
        }
        drop(view);
        self.published.notify_all();
        buffer.shrink_to(FLUSH_BYTES);
        writer.buffer = buffer;
        outcomes
    }

    /// Begins a new segment if this one is full, or in any case, and lets old ones go.
    ///
    /// # Errors
    /// [`LogError`]; nothing has changed then, and the next write tries again.
    pub(super) fn roll(&self, in_any_case: bool) -> Result<(), LogError> {
        let mut writer = self.writer();
        if writer.dead.is_some() || !(in_any_case || writer.is_full(self.settings.segment_bytes)) {
            return Ok(());
        }
        let number = writer.segment + 1;
        let (bytes, head) = head(number, &self.table, &self.view());
        let disk = writer.disk.clone();
        let file = disk.draft(&self.folder, number, &bytes).map_err(failed)?;
        if let Err(error) = disk.name(&self.folder, number) {
            // It may be found at the next start, and all that went to the old segment from now on would be lost.
            return Err(writer.die(format!("a new segment cannot be kept: {error}; start again")).get());
        }
        let file = Arc::new(file);
        let end = bytes.len() as u64;
        *writer = Writer::at(disk.clone(), Arc::clone(&file), &head, end, end);
        self.view().add_segment(number, head.ends, head.time, Some(Loaded::new(file)));
        self.clean(&disk);
        Ok(())
    }

    /// Removes the oldest segments while nobody needs them any more; with the writer in hand.
    fn clean(&self, disk: &Disk) {
        let may_go = |view: &View, number: u32, end: u64, last: Micros| match self.spec_of(number) {
            // Whoever opens the log without naming a topic says nothing about what may go of it.
            None => false,
            Some(TopicSpec { cleanup: Cleanup::Compact, .. }) => true,
            Some(TopicSpec { cleanup: Cleanup::Delete(after), readers, .. }) => {
                let all_read =
                    readers.iter().all(|reader| view.committed(reader, number).unwrap_or(0) >= end);
                let after = Micros::try_from(after.as_micros()).unwrap_or(Micros::MAX);
                all_read && view.time.saturating_sub(last) > after
            }
        };
        while self.held.load(Ordering::Acquire) == 0 {
            let Some((number, segment)) = self.view().take_oldest(may_go) else { return };
            let path = segment::path(&self.folder, number);
            // One at a time and each durably: a younger one that went before an older would leave a gap.
            match disk.remove(&self.folder, number) {
                Ok(()) => info!(segment = number, "an old segment went"),
                Err(error) => {
                    warn!(path = %path.display(), %error, "cannot remove an old segment");
                    if path.exists() {
                        self.view().put_back(number, segment);
                    }
                    return;
                }
            }
        }
    }
}

impl Fence {
    fn lost(&self, view: &View) -> Option<Partition> {
        let lost = self.inputs.iter().find(|(_, number)| !view.owns(&self.group, *number, self.worker));
        lost.map(|(partition, _)| partition.clone())
    }
}

impl Pending {
    /// Gives the records their offsets.
    fn entry(&mut self, synced: u64, append_time: Micros, ends: &mut [u64]) -> Entry {
        let batches = self.blobs.iter().map(|blob| {
            // Every partition of the table has its end.
            let end = &mut ends[blob.partition as usize];
            let base = *end;
            *end += u64::from(blob.count);
            Batch {
                partition: blob.partition,
                base,
                count: blob.count,
                append_time,
                len: u32::try_from(blob.bytes.len()).expect("a transaction is at most MAX_TRANSACTION"),
                crc: blob.crc,
            }
        });
        Entry { synced, head: None, batches: batches.collect(), moves: std::mem::take(&mut self.moves) }
    }
}

/// An error that several committers get.
enum Shareable {
    Io(std::io::ErrorKind, String),
    Dead(String),
}

impl Shareable {
    fn get(&self) -> LogError {
        match self {
            Self::Io(kind, why) => failed(std::io::Error::new(*kind, why.clone())),
            Self::Dead(why) => LogError::Damaged(why.clone()),
        }
    }
}

impl Writer {
    fn at(disk: Disk, file: Arc<File>, head: &Head, head_end: u64, position: u64) -> Self {
        let (segment, marker) = (head.segment, head.marker);
        Self { disk, file, segment, marker, head: head_end, position, buffer: Vec::new(), dead: None }
    }

    /// The segment being written, and where its durable bytes end.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.segment, self.position)
    }

    /// Whether a new segment should begin. A large head is written again only after as much else.
    fn is_full(&self, segment_bytes: u64) -> bool {
        self.position - self.head >= segment_bytes.max(self.head)
    }

    /// All or nothing: a write that fails is taken back, a sync that fails ends it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Shareable> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.disk.write(&self.file, bytes, self.position) {
            return match self.disk.cut(&self.file, self.position) {
                Ok(()) => Err(Shareable::Io(error.kind(), error.to_string())),
                Err(also) => Err(self.die(format!("a failed write cannot be taken back: {error}; {also}"))),
            };
        }
        if let Err(error) = self.disk.sync(&self.file) {
            return Err(self.die(format!("the disk did not confirm a write: {error}; start again")));
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn die(&mut self, why: String) -> Shareable {
        tracing::error!(why, "the log takes no more writes");
        self.dead = Some(why.clone());
        Shareable::Dead(why)
    }
}

/// What opening found.
pub struct Opened {
    pub writer: Writer,
    pub view: View,
    pub table: Vec<TopicRow>,
    /// There are topics that the journal does not know yet.
    pub grown: bool,
}

/// Opens the journal in `folder`.
pub fn open(folder: &Path, topics: &[TopicSpec], disk: Disk) -> Result<Opened, LogError> {
    let numbers = segment::list(folder).map_err(failed)?;
    let Some((&active, sealed)) = numbers.split_last() else {
        return begin(folder, table_of(&[], topics)?, disk);
    };
    if let Some(gap) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(damaged(folder, gap[0] + 1, 0));
    }
    let path = segment::path(folder, active);
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?);
    let head = head_of(folder, active)?;
    let table = table_of(&head.topics, topics)?;
    let grown = table != head.topics;
    let mut view = View::new(ends_of(&table, &head.ends), compacted(&table));
    for &number in sealed {
        let head = head_of(folder, number)?;
        view.add_segment(number, head.ends, head.time, None);
    }
    view.add_segment(active, head.ends.clone(), head.time, Some(Loaded::new(Arc::clone(&file))));
    let mut head_end = 0;
    let scan = segment::scan(&file, true, |entry, position, content| {
        if entry.head.is_none() {
            view.publish(entry, position);
        } else {
            view.move_on(entry);
            head_end = position + entry.blob_len();
        }
        keep(&mut view, entry, content);
    });
    let scan = scan.map_err(failed)?;
    if scan.damaged {
        return Err(damaged(folder, active, scan.good));
    }
    if !scan.is_complete {
        info!(segment = active, at = scan.good, "cutting off an unfinished write");
        disk.cut(&file, scan.good).map_err(failed)?;
    }
    // What the process that died had written but not confirmed is read from now on: it has to be durable first.
    disk.sync(&file).and_then(|()| disk.sync_folder(folder)).map_err(failed)?;
    Ok(Opened { writer: Writer::at(disk, file, &head, head_end, scan.good), view, table, grown })
}

fn begin(folder: &Path, table: Vec<TopicRow>, disk: Disk) -> Result<Opened, LogError> {
    let mut view = View::new(ends_of(&table, &[]), compacted(&table));
    let (bytes, head) = head(1, &table, &view);
    let file = Arc::new(disk.draft(folder, 1, &bytes).map_err(failed)?);
    disk.name(folder, 1).map_err(failed)?;
    let end = bytes.len() as u64;
    let writer = Writer::at(disk, Arc::clone(&file), &head, end, end);
    view.add_segment(1, head.ends, head.time, Some(Loaded::new(file)));
    Ok(Opened { writer, view, table, grown: false })
}

/// The ends of all partitions of the table; those that the journal does not know yet are empty.
fn ends_of(table: &[TopicRow], known: &[u64]) -> Vec<u64> {
    let partitions: u32 = table.iter().map(|row| row.partitions).sum();
    let mut ends = known.to_vec();
    ends.resize(partitions as usize, 0);
    ends
}

/// Takes the records of compacted partitions out of an entry.
fn keep(view: &mut View, entry: &Entry, content: &[u8]) {
    for (batch, blob) in segment::blobs_of(entry, content) {
        if let Some(kept) = view.compacted(batch.partition) {
            let place = Partition::new("", batch.partition);
            // The blob's checksum was right, so it holds what was written.
            let records = entry::records(batch, &place, Bytes::copy_from_slice(blob)).unwrap_or_default();
            for record in records {
                let Record { offset, key, value, headers, append_time, .. } = record;
                kept.put(offset, KeptRecord::copy_of(&key, &value, &headers, append_time));
            }
        }
    }
}

fn head_of(folder: &Path, number: u64) -> Result<Head, LogError> {
    let file = File::open(segment::path(folder, number)).map_err(failed)?;
    let head = segment::head(&file).map_err(failed)?.filter(|head| head.segment == number);
    head.ok_or_else(|| damaged(folder, number, 0))
}

/// The table of the journal with the new topics at its end.
fn table_of(known: &[TopicRow], topics: &[TopicSpec]) -> Result<Vec<TopicRow>, LogError> {
    let mut table = known.to_vec();
    for topic in topics {
        let TopicSpec { name, partitions, cleanup, .. } = topic;
        let compact = *cleanup == Cleanup::Compact;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(refused(format!(
                "the name of a topic has 1 to {MAX_NAME} bytes, not {}",
                name.len()
            )));
        }
        match table.iter().find(|row| row.name == *name) {
            None => table.push(TopicRow { name: Arc::clone(name), partitions: *partitions, compact }),
            Some(row) if row.partitions != *partitions => {
                let has = row.partitions;
                return Err(refused(format!(
                    "the folder was made with {has} partitions of {name}, and {partitions} are wanted: use {has}, \
                     or another folder"
                )));
            }
            Some(row) if row.compact != compact => {
                let has = if row.compact { "compacted" } else { "kept for a time" };
                return Err(refused(format!(
                    "the folder was made with {name} {has}: keep it so, or use another folder"
                )));
            }
            Some(_) => {}
        }
    }
    let all: u64 = table.iter().map(|row| u64::from(row.partitions)).sum();
    if all > u64::from(MAX_PARTITIONS) {
        return Err(refused(format!("a log has at most {MAX_PARTITIONS} partitions, not {all}")));
    }
    Ok(table)
}

fn compacted(table: &[TopicRow]) -> impl Iterator<Item = u32> {
    let mut first = 0;
    table.iter().flat_map(move |row| {
        let partitions = first..first + row.partitions;
        first = partitions.end;
        if row.compact { partitions } else { 0..0 }
    })
}

/// The first entry of a segment: all that has to be known without the segments before it.
fn head(number: u64, table: &[TopicRow], view: &View) -> (Vec<u8>, Head) {
    let head = Head {
        segment: number,
        marker: RandomState::new().hash_one(number),
        time: now().max(view.time),
        topics: table.to_vec(),
        ends: view.ends().to_vec(),
    };
    let mut blobs = Vec::new();
    let mut batches = Vec::new();
    for (partition, kept) in view.all_compacted() {
        for (base, record) in kept.iter() {
            let start = blobs.len();
            entry::put_record(&mut blobs, &record.key, &record.value, &record.headers);
            let blob = &blobs[start..];
            let len =
                u32::try_from(blob.len()).expect("the size of a record was checked when it was written");
            let (append_time, crc) = (record.append_time, crc32fast::hash(blob));
            batches.push(Batch { partition, base, count: 1, append_time, len, crc });
        }
    }
    let entry = Entry { synced: 0, head: Some(head.clone()), batches, moves: view.moves() };
    let mut bytes = Vec::new();
    entry.encode(head.marker, &mut bytes);
    bytes.extend_from_slice(&blobs);
    (bytes, head)
}
