//! The writing end: committers queue up, one of them leads, and one write with one sync serves all that wait.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use killick_stages::ports::LogError;
use killick_stages::record::{Micros, Output, Partition};
use tracing::{info, warn};

use super::entry::{self, Batch, Entry, Head, Move, TopicRow};
use super::segment;
use super::view::{KeptRecord, Loaded, View};
use super::{Cleanup, Shared, TopicSpec, damaged, failed, now};

/// Bytes that one write takes; who waits beyond it goes with the next.
const FLUSH_BYTES: usize = 16 << 20;

/// The file being written.
pub struct Writer {
    file: Arc<File>,
    segment: u64,
    /// Where the next entry goes: all before it is durable.
    pub position: u64,
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
        let index = self.blobs.iter().position(|blob| blob.partition == partition).unwrap_or_else(|| {
            self.blobs.push(Blob { partition, count: 0, bytes: Vec::new(), kept: Vec::new() });
            self.blobs.len() - 1
        });
        let blob = &mut self.blobs[index];
        blob.count += 1;
        entry::put_record(&mut blob.bytes, &output.key, &output.value, &output.headers);
        self.bytes += entry::record_len(output);
        if compact {
            // The bytes may be slices of something large that a small record should not keep alive.
            let (key, value) = (Bytes::copy_from_slice(&output.key), Bytes::copy_from_slice(&output.value));
            blob.kept.push(KeptRecord { key, value, headers: output.headers.clone(), append_time: 0 });
        }
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
    pub(super) fn submit(&self, pending: Pending) -> Result<(), LogError> {
        if pending.is_empty() {
            return Ok(());
        }
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
        self.roll_if(|writer| writer.position >= self.settings.segment_bytes);
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
                entry.encode(&mut buffer);
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

    /// Begins a new segment if wanted, and lets old ones go. What fails here is tried again with the next write.
    pub(super) fn roll_if(&self, wanted: impl Fn(&Writer) -> bool) {
        let mut writer = self.writer();
        if writer.dead.is_some() || !wanted(&writer) {
            return;
        }
        let number = writer.segment + 1;
        let (bytes, head) = head(number, &self.table, &self.view());
        match create(&self.folder, number, &bytes) {
            Ok(file) => {
                let file = Arc::new(file);
                self.view().add_segment(number, head.ends, head.time, Some(Loaded::new(Arc::clone(&file))));
                *writer = Writer::at(file, number, bytes.len() as u64);
            }
            Err(error) => {
                warn!(%error, segment = number, "cannot begin a new segment; going on in the old one")
            }
        }
        drop(writer);
        self.clean();
    }

    /// Removes the oldest segments while nobody needs them any more.
    fn clean(&self) {
        let may_go = |view: &View, number: u32, end: u64, last: Micros| match self.spec_of(number) {
            None => true,
            Some(TopicSpec { cleanup: Cleanup::Compact, .. }) => true,
            Some(TopicSpec { cleanup: Cleanup::Delete(after), readers, .. }) => {
                let all_read =
                    readers.iter().all(|reader| view.committed(reader, number).unwrap_or(0) >= end);
                all_read
                    && view.time.saturating_sub(last)
                        > Micros::try_from(after.as_micros()).unwrap_or(Micros::MAX)
            }
        };
        loop {
            let Some(oldest) = self.view().take_oldest(may_go) else { return };
            let path = segment::path(&self.folder, oldest);
            match std::fs::remove_file(&path) {
                Ok(()) => info!(segment = oldest, "an old segment went"),
                // It is found again at the next start.
                Err(error) => warn!(path = %path.display(), %error, "cannot remove an old segment"),
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
    fn entry(&mut self, synced: u64, append_time: Micros, ends: &mut Vec<u64>) -> Entry {
        let batches = self.blobs.iter().map(|blob| {
            let number = blob.partition as usize;
            if ends.len() <= number {
                ends.resize(number + 1, 0);
            }
            let base = ends[number];
            ends[number] += u64::from(blob.count);
            Batch {
                partition: blob.partition,
                base,
                count: blob.count,
                append_time,
                len: u32::try_from(blob.bytes.len())
                    .expect("a transaction is bounded by what a stage may hold"),
                crc: crc32fast::hash(&blob.bytes),
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
    fn at(file: Arc<File>, segment: u64, position: u64) -> Self {
        Self { file, segment, position, buffer: Vec::new(), dead: None }
    }

    /// All or nothing: a write that fails is taken back, a sync that fails ends it.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Shareable> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all_at(bytes, self.position) {
            return match self.file.set_len(self.position) {
                Ok(()) => Err(Shareable::Io(error.kind(), error.to_string())),
                Err(also) => Err(self.die(format!("a failed write cannot be taken back: {error}; {also}"))),
            };
        }
        if let Err(error) = self.file.sync_data() {
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
pub fn open(folder: &Path, topics: &[TopicSpec]) -> Result<Opened, LogError> {
    let mut numbers = segment::list(folder).map_err(failed)?;
    // A last segment without a head was being made when the process died: nothing was ever written to it.
    while let Some(&last) = numbers.last()
        && head_of(folder, last)?.is_none()
        && !has_content(folder, last)?
    {
        std::fs::remove_file(segment::path(folder, last)).map_err(failed)?;
        numbers.pop();
    }
    let Some((&active, sealed)) = numbers.split_last() else {
        return begin(folder, table_of(&[], topics)?);
    };
    let head = head_of(folder, active)?.ok_or_else(|| damaged(folder, active, 0))?;
    let table = table_of(&head.topics, topics)?;
    let grown = table != head.topics;
    let mut view = View::new(head.ends.clone(), compacted(&table));
    for &number in sealed {
        let head = head_of(folder, number)?.ok_or_else(|| damaged(folder, number, 0))?;
        view.add_segment(number, head.ends, head.time, None);
    }
    let path = segment::path(folder, active);
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?);
    view.time = head.time;
    view.add_segment(active, head.ends, head.time, Some(Loaded::new(Arc::clone(&file))));
    let scan = segment::scan(&file, true, |entry, position, content| {
        if entry.head.is_none() {
            view.publish(entry, position);
        } else {
            view.adopt(entry);
        }
        keep(&mut view, entry, content);
    });
    let scan = scan.map_err(failed)?;
    if scan.damaged {
        return Err(damaged(folder, active, scan.good));
    }
    if file.metadata().map_err(failed)?.len() > scan.good {
        info!(segment = active, at = scan.good, "cutting off an unfinished write");
        file.set_len(scan.good).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(Opened { writer: Writer::at(file, active, scan.good), view, table, grown })
}

fn begin(folder: &Path, table: Vec<TopicRow>) -> Result<Opened, LogError> {
    let partitions: u32 = table.iter().map(|row| row.partitions).sum();
    let mut view = View::new(vec![0; partitions as usize], compacted(&table));
    let (bytes, head) = head(1, &table, &view);
    let file = Arc::new(create(folder, 1, &bytes).map_err(failed)?);
    view.add_segment(1, head.ends, head.time, Some(Loaded::new(Arc::clone(&file))));
    Ok(Opened { writer: Writer::at(file, 1, bytes.len() as u64), view, table, grown: false })
}

/// Takes the records of compacted partitions out of an entry.
fn keep(view: &mut View, entry: &Entry, content: &[u8]) {
    for (batch, blob) in segment::blobs_of(entry, content) {
        if let Some(kept) = view.compacted(batch.partition) {
            let place = Partition::new("", batch.partition);
            // The blob's checksum was right, so it holds what was written.
            let records = entry::records(batch, &place, Bytes::copy_from_slice(blob)).unwrap_or_default();
            for record in records {
                let (key, value) =
                    (Bytes::copy_from_slice(&record.key), Bytes::copy_from_slice(&record.value));
                let kept_record =
                    KeptRecord { key, value, headers: record.headers, append_time: record.append_time };
                kept.put(record.offset, kept_record);
            }
        }
    }
}

fn head_of(folder: &Path, number: u64) -> Result<Option<Head>, LogError> {
    let file = File::open(segment::path(folder, number)).map_err(failed)?;
    Ok(segment::first(&file).map_err(failed)?.and_then(|entry| entry.head))
}

/// Whether a segment without a good head had ever been complete.
fn has_content(folder: &Path, number: u64) -> Result<bool, LogError> {
    let file = File::open(segment::path(folder, number)).map_err(failed)?;
    Ok(segment::scan(&file, false, |_, _, _| {}).map_err(failed)?.damaged)
}

/// The table of the journal with the new topics at its end.
fn table_of(known: &[TopicRow], topics: &[TopicSpec]) -> Result<Vec<TopicRow>, LogError> {
    let mut table = known.to_vec();
    for topic in topics {
        let compact = topic.cleanup == Cleanup::Compact;
        match table.iter().find(|row| row.name == topic.name) {
            None => {
                table.push(TopicRow { name: Arc::clone(&topic.name), partitions: topic.partitions, compact })
            }
            Some(row) if row.partitions == topic.partitions && row.compact == compact => {}
            Some(row) => {
                let (name, has, wanted) = (&topic.name, row.partitions, topic.partitions);
                let why = format!(
                    "the folder was made with {has} partitions of {name}, and the configuration has {wanted} \
                     (or another cleanup): use the same, or another folder"
                );
                return Err(LogError::Damaged(why));
            }
        }
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
        time: now().max(view.time),
        topics: table.to_vec(),
        ends: {
            let mut ends = view.ends().to_vec();
            let partitions: u32 = table.iter().map(|row| row.partitions).sum();
            ends.resize(partitions as usize, 0);
            ends
        },
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
    entry.encode(&mut bytes);
    bytes.extend_from_slice(&blobs);
    (bytes, head)
}

/// Makes a segment that begins with `bytes`; durable when it returns.
fn create(folder: &Path, number: u64, bytes: &[u8]) -> std::io::Result<File> {
    let path = segment::path(folder, number);
    // One of the same name is what an earlier try left: it holds nothing.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    segment::sync_folder(folder)?;
    Ok(file)
}
