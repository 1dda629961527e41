//! The log: one append-only journal for all partitions, so that a transaction is one entry and atomic by construction.
//!
//! Who commits meanwhile shares one write and one `fdatasync`: the first of them leads, the others wait for it. Readers
//! see only what is durable. A write that fails leaves nothing behind and may be tried again; a sync that fails ends
//! the log for this process, since nobody can say any more what the disk holds.
//!
//! Topics are kept either for a time (whole segments go, when all who have to read them have and they are old enough)
//! or compacted: of those only the newest record of each key lives, an empty value ends its key, and since that is
//! little it stands in memory and once more at the head of every segment.

mod disk;
mod entry;
mod hold;
mod look;
mod segment;
mod view;
mod worker;
mod writer;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use killick_stages::ports::{LogError, Producer, Reader};
use killick_stages::record::{Micros, Output, Partition, Record, Topic};

use tracing::warn;

use crate::folder::Folder;
use disk::Disk;
use entry::{Move, TopicRow};
use view::View;
use writer::{Pending, Queue, Writer};

pub use hold::{Held, HeldSegment};
pub use look::{LogFiles, look};
pub use worker::Worker;

/// What a topic is and how long it is kept.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// The name; 1 to 249 bytes.
    pub name: Arc<str>,
    /// How many partitions; it cannot change later. At most 1,048,576 for all topics together.
    pub partitions: u32,
    /// What may go.
    pub cleanup: Cleanup,
    /// The groups without whose reading nothing goes.
    pub readers: Vec<Arc<str>>,
}

/// What may go from a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records older than this, in whole segments.
    Delete(Duration),
    /// All but the newest record of each key.
    Compact,
}

/// Bytes of the records of one transaction: they are in memory, more than once.
const MAX_TRANSACTION: usize = 1 << 30;

/// Sizes. The default is for production; tests make it small.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A segment that has grown past this many bytes is closed, and one whose head is larger, past as many bytes as
    /// its head has. Also bounds the index in memory.
    pub segment_bytes: u64,
    /// The largest record in bytes: key, value, headers, and a few bytes for each of them. At most 1 GiB.
    pub max_record: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_record: 1 << 20 }
    }
}

/// An embedded log, open. Cheap to clone: all clones are the same log.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    settings: Settings,
    specs: Vec<TopicSpec>,
    /// Topics in the order of their partitions' numbers, as it stands in the journal.
    table: Vec<TopicRow>,
    queue: Mutex<Queue>,
    /// Taken before `view`, never after it.
    writer: Mutex<Writer>,
    view: Mutex<View>,
    published: Condvar,
    /// How many hold the segments that are there: while anybody does, none goes.
    held: AtomicUsize,
    /// The folder stays ours while the log is open.
    _folder: Arc<Folder>,
}

impl EmbeddedLog {
    /// Opens the log in a folder, making it if it is not there, and mends the end that a crash may have left.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if something that had been durable is bad; [`LogError::Failed`], also if the folder has
    /// other partitions than the topics say. A topic that the folder has and `topics` does not name keeps all it has.
    pub fn open(folder: &Arc<Folder>, topics: &[TopicSpec], settings: Settings) -> Result<Self, LogError> {
        Self::open_on(Disk::default(), folder, topics, settings)
    }

    fn open_on(
        disk: Disk,
        folder: &Arc<Folder>,
        topics: &[TopicSpec],
        settings: Settings,
    ) -> Result<Self, LogError> {
        let path = folder.path().join("log");
        std::fs::create_dir_all(&path).map_err(failed)?;
        disk.sync_folder(folder.path()).map_err(failed)?;
        let opened = writer::open(&path, topics, disk)?;
        let shared = Shared {
            folder: path,
            settings,
            specs: topics.to_vec(),
            table: opened.table,
            queue: Mutex::default(),
            writer: Mutex::new(opened.writer),
            view: Mutex::new(opened.view),
            published: Condvar::new(),
            held: AtomicUsize::new(0),
            _folder: Arc::clone(folder),
        };
        // A new topic has to stand in the journal before its first record does.
        if let Err(error) = shared.roll(opened.grown) {
            if opened.grown {
                return Err(error);
            }
            warn!(%error, "cannot begin a new segment; going on in the old one");
        }
        Ok(Self(Arc::new(shared)))
    }

    /// A worker of `group` (at most 249 bytes) that owns these partitions from now on; who owned one before has lost it.
    ///
    /// # Errors
    /// [`LogError::Unknown`], and then nobody has lost anything; [`LogError::Failed`] for a longer name.
    pub fn worker(&self, group: &str, inputs: &[Partition]) -> Result<Worker, LogError> {
        Worker::join(Arc::clone(&self.0), group, inputs)
    }

    /// At most `max_bytes` (but at least one record, if there is one) of a partition from offset `from` on.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn read(&self, partition: &Partition, from: u64, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        let number = self.0.number(partition)?;
        self.0.read(partition, number, from, max_bytes)
    }

    /// The offset of the first record that is kept, and the offset of the record that will come next.
    ///
    /// # Errors
    /// [`LogError::Unknown`].
    pub fn range(&self, partition: &Partition) -> Result<(u64, u64), LogError> {
        let number = self.0.number(partition)?;
        let view = self.0.view();
        Ok((view.start(number), view.end(number)))
    }

    /// The offset of the next record that the group will read, if it has ever committed one.
    ///
    /// # Errors
    /// [`LogError::Unknown`].
    pub fn committed(&self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        let number = self.0.number(partition)?;
        Ok(self.0.view().committed(group, number))
    }

    /// The partitions of a topic; none if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Vec<Partition> {
        let row = self.0.table.iter().find(|row| &*row.name == topic);
        row.map_or_else(Vec::new, |row| (0..row.partitions).map(|n| Partition::new(topic, n)).collect())
    }
}

impl Reader for EmbeddedLog {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        Ok(Self::partitions(self, topic))
    }

    fn range(&mut self, partition: &Partition) -> Result<(u64, u64), LogError> {
        Self::range(self, partition)
    }

    fn committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        Self::committed(self, group, partition)
    }

    fn read(&mut self, partition: &Partition, from: u64, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        Self::read(self, partition, from, max_bytes)
    }
}

impl Producer for EmbeddedLog {
    fn produce(&self, outputs: &[Output]) -> Result<(), LogError> {
        let pending = self.0.pending(outputs.iter(), Vec::new(), None)?;
        self.0.submit(pending)
    }
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        // A thread that panicked while it held the view changed nothing that others rely on half way.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, partition: &Partition) -> Result<u32, LogError> {
        match self.row(&partition.topic) {
            Some((first, row)) if partition.number < row.partitions => Ok(first + partition.number),
            _ => Err(LogError::Unknown(partition.clone())),
        }
    }

    /// A topic, and the number of its first partition.
    fn row(&self, topic: &Topic) -> Option<(u32, &TopicRow)> {
        let mut first = 0;
        for row in &self.table {
            if *row.name == *topic.as_str() {
                return Some((first, row));
            }
            first += row.partitions;
        }
        None
    }

    fn spec_of(&self, number: u32) -> Option<&TopicSpec> {
        let mut first = 0;
        for row in &self.table {
            if number < first + row.partitions {
                return self.specs.iter().find(|spec| spec.name == row.name);
            }
            first += row.partitions;
        }
        None
    }

    /// Encodes outputs, partition by partition, in the order given.
    fn pending<'a>(
        &self,
        outputs: impl Iterator<Item = &'a Output>,
        moves: Vec<Move>,
        fence: Option<writer::Fence>,
    ) -> Result<Pending, LogError> {
        let mut pending = Pending::new(moves, fence);
        // One transaction has many outputs of few topics, mostly one behind another.
        let mut last: Option<(&Topic, u32, &TopicRow)> = None;
        for output in outputs {
            let topic = &output.partition.topic;
            let known = last.filter(|(known, ..)| *known == topic);
            let found = known.or_else(|| self.row(topic).map(|(first, row)| (topic, first, row)));
            let (_, first, row) = found
                .filter(|(_, _, row)| output.partition.number < row.partitions)
                .ok_or_else(|| LogError::Unknown(output.partition.clone()))?;
            last = found;
            let too_large =
                |size, limit| LogError::TooLarge { partition: output.partition.clone(), size, limit };
            let size = entry::record_len(output);
            let longest_name = output.headers.iter().map(|header| header.name.len()).max().unwrap_or(0);
            let bounds = [
                (size, self.settings.max_record),
                (longest_name.max(output.headers.len()), entry::MAX_HEADERS),
                (pending.bytes() + size, MAX_TRANSACTION),
            ];
            if let Some(&(size, limit)) = bounds.iter().find(|(size, limit)| size > limit) {
                return Err(too_large(size, limit));
            }
            pending.add(first + output.partition.number, row.compact, output);
        }
        Ok(pending)
    }

    fn read(
        &self,
        partition: &Partition,
        number: u32,
        from: u64,
        max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let (segment, file, places) = loop {
            let mut view = self.view();
            if let Some(kept) = view.compacted(number) {
                return Ok(kept.records(partition, from));
            }
            match view.places(number, from, max) {
                view::Found::Nothing => return Ok(Vec::new()),
                view::Found::Places(segment, file, places) => break (segment, file, places),
                // Reading the index of an old segment takes a while: nobody should wait for it.
                view::Found::NotLoaded(segment) => {
                    drop(view);
                    let loaded = view::Loaded::read(&self.folder, segment)?;
                    let mut view = self.view();
                    match loaded {
                        Some(loaded) => view.load(segment, loaded),
                        // It went meanwhile, because nobody needed it, and the next place is in a later one.
                        None if !view.has(segment) => {}
                        None => return Err(damaged(&self.folder, segment, 0)),
                    }
                }
            }
        };
        let mut records = Vec::new();
        for place in &places {
            let bad = || damaged(&self.folder, segment, place.position);
            let blob = segment::blob(&file, place).map_err(failed)?.ok_or_else(bad)?;
            records.extend(entry::records(&place.batch, partition, blob).map_err(|_| bad())?);
        }
        records.retain(|record| record.offset >= from);
        Ok(records)
    }
}

fn failed(cause: std::io::Error) -> LogError {
    LogError::Failed(Box::new(cause))
}

/// What this log cannot be asked to do.
fn refused(why: String) -> LogError {
    LogError::Failed(why.into())
}

fn damaged(folder: &Path, segment: u64, position: u64) -> LogError {
    let file = segment::path(folder, segment);
    LogError::Damaged(format!("{} at byte {position}: restore it from a copy", file.display()))
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
