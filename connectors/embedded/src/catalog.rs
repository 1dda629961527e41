//! The catalog: what receipts are derived from, in one file beside the log.
//!
//! Keys are texts and numbers in an order that serves the reading: a zero byte ends a text (texts have no control
//! characters), numbers are big-endian. Batches are in parts: see `catalog/batches.rs`; where events are stands in sorted pages
//! of its own: see `catalog/places.rs`. Puts that wait at the same time share one durable write.

mod batches;
mod copy;
mod places;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes};
use killick_proof::checkpoint::Checkpoint;
use killick_proof::log::Log;
use killick_proof::note::Note;
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use killick_stages::series::{MAX_SERIES, OWN, is_series_name};
use redb::{Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use sha2::{Digest, Sha256};

use crate::folder::Folder;
use crate::store::{Disk, Store};
use batches::{BATCHES, Prepared, decode_batch, put_batch, statement_of, stored_batch};
pub use copy::CatalogAt;
use places::{PLACES, RUNS, fingerprint};

/// origin → the state of its tree after the last batch
const LOGS: Bytewise = TableDefinition::new("logs");
/// origin, level, index → the root of a complete subtree
const NODES: Bytewise = TableDefinition::new("nodes");
/// origin, size, rank, digest of the value → checkpoint and anchor, in the deployment's own series
const ANCHORS: Bytewise = TableDefinition::new("anchors");
/// origin, series, size, rank, digest of the value → checkpoint and anchor, in every other series
const SERIES: Bytewise = TableDefinition::new("series");
/// tenant, source, id, origin, number, index → nothing, of the batches that an earlier program put
const EVENTS: Bytewise = TableDefinition::new("events by name");
/// Nothing. An earlier program had [`EVENTS`] under this name: it does not open a table of another type, and so does not go
/// on where it would not find what is in [`PLACES`], nor read a batch that is in parts.
const BARRIER: TableDefinition<'static, u64, u64> = TableDefinition::new("events");
/// tenant, day, origin, number → nothing
const DAYS: Bytewise = TableDefinition::new("days");

/// All of them.
const TABLES: [Bytewise; 9] = [BATCHES, LOGS, NODES, ANCHORS, SERIES, EVENTS, RUNS, PLACES, DAYS];

type Bytewise = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Key = Vec<u8>;

/// Puts that share one write at the most: their batches are in memory.
const TOGETHER: usize = 64;
/// An embedded catalog, open. Cheap to clone: all clones are the same catalog.
#[derive(Clone)]
pub struct EmbeddedCatalog(Arc<Shared>);

struct Shared {
    store: Store,
    queue: Mutex<Queue>,
    done: Condvar,
    /// The folder stays ours while the catalog is open.
    _folder: Arc<Folder>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(u64, Put)>,
    outcomes: HashMap<u64, Result<(), CatalogError>>,
    tickets: u64,
    is_led: bool,
}

enum Put {
    Batch(Prepared),
    Anchor(AnchorRecord),
}

impl EmbeddedCatalog {
    /// Opens the catalog of a folder, making it if it is not there.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if the file is not what it should be; [`CatalogError::Failed`].
    pub fn open(folder: &Arc<Folder>) -> Result<Self, CatalogError> {
        Self::open_on(Disk::default(), folder)
    }

    fn open_on(disk: Disk, folder: &Arc<Folder>) -> Result<Self, CatalogError> {
        let path = folder.path().join("catalog.redb");
        if !path.exists() {
            // The store cannot open a file that it was still making when the process died: the file gets its name
            // when it is complete.
            let draft = folder.path().join("catalog.new");
            match std::fs::remove_file(&draft) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => drop(Self::store(&draft, disk.clone())?),
            }
            std::fs::rename(&draft, &path).map_err(failed)?;
        }
        // Also where an earlier process gave the name and died before it was durable.
        File::open(folder.path()).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Self(Arc::new(Shared {
            store: Self::store(&path, disk)?,
            queue: Mutex::default(),
            done: Condvar::new(),
            _folder: Arc::clone(folder),
        })))
    }

    fn store(path: &Path, disk: Disk) -> Result<Store, CatalogError> {
        let store = Store::open(path, disk)?;
        // Reading wants every table to be there.
        store.with(|database| {
            let write = database.begin_write().map_err(failed)?;
            let barrier = write.open_table(BARRIER).map(drop);
            if let Err(TableError::TableTypeMismatch { .. }) = barrier {
                write.rename_table(BARRIER, EVENTS).map_err(failed)?;
                write.open_table(BARRIER).map_err(failed)?;
            } else {
                barrier.map_err(failed)?;
            }
            for table in TABLES {
                write.open_table(table).map_err(failed)?;
            }
            write.commit().map_err(failed)
        })?;
        Ok(store)
    }

    /// The catalog as it is now, whatever is put from then on.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn at_once(&self) -> Result<CatalogAt, CatalogError> {
        self.0.store.with(|database| Ok(CatalogAt(database.begin_read().map_err(failed)?)))
    }

    /// Puts, together with whoever else puts now; durable when it returns.
    fn put(&self, put: Put) -> Result<(), CatalogError> {
        let mut queue = self.0.queue();
        let ticket = queue.tickets;
        queue.tickets += 1;
        queue.waiting.push((ticket, put));
        loop {
            if let Some(outcome) = queue.outcomes.remove(&ticket) {
                return outcome;
            }
            if queue.is_led {
                queue = self.0.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.is_led = true;
            let count = queue.waiting.len().min(TOGETHER);
            let group: Vec<_> = queue.waiting.drain(..count).collect();
            drop(queue);
            let outcomes = self.0.write(group);
            queue = self.0.queue();
            queue.outcomes.extend(outcomes);
            queue.is_led = false;
            self.0.done.notify_all();
        }
    }

    fn get(&self, table: Bytewise, key: &[u8]) -> Result<Option<Bytes>, CatalogError> {
        self.0.store.with(|database| {
            let table = database.begin_read().map_err(failed)?.open_table(table).map_err(failed)?;
            let found = table.get(key).map_err(failed)?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    /// The anchors of the smallest checkpoint of one series that contains a batch.
    fn anchors_in(&self, origin: &str, series: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        let (table, prefix) = place_of(origin, series);
        // The smallest checkpoint that contains the batch has at least its number plus one.
        let least = number.saturating_add(1).to_be_bytes();
        let Some((first, _)) = self.keys(table, &prefix, &least, 1)?.into_iter().next() else {
            return Ok(Vec::new());
        };
        let size = first.get(..8).ok_or_else(|| damaged("an anchor"))?;
        let prefix = [&prefix, size].concat();
        let anchors = self.keys(table, &prefix, &[], usize::MAX)?.into_iter().map(|(rest, value)| {
            // Behind its rank stands the digest of what it is.
            let is_whole = rest.get(4..) == Some(Sha256::digest(&value).as_slice());
            let anchor = decode_anchor(origin, series, value).filter(|_| is_whole);
            anchor.ok_or_else(|| damaged(&format!("an anchor of {origin} behind size {number}")))
        });
        anchors.collect()
    }

    /// The keys that begin with `prefix` and stand after `after`, without the prefix, at most `limit`.
    fn keys(
        &self,
        table: Bytewise,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, CatalogError> {
        self.0.store.with(|database| {
            let table = database.begin_read().map_err(failed)?.open_table(table).map_err(failed)?;
            let start = [prefix, after].concat();
            let mut found = Vec::new();
            for row in table.range(start.as_slice()..).map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                let Some(rest) = key.value().strip_prefix(prefix) else { break };
                if found.len() == limit {
                    break;
                }
                if rest != after || after.is_empty() {
                    found.push((rest.to_vec(), Bytes::copy_from_slice(value.value())));
                }
            }
            Ok(found)
        })
    }

    /// Where the index has an event.
    fn found(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        self.0.store.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            let runs = read.open_table(RUNS).map_err(failed)?;
            let places = read.open_table(PLACES).map_err(failed)?;
            let batches = read.open_table(BATCHES).map_err(failed)?;
            let fingerprint = fingerprint(tenant, source, id);
            let mut found = Vec::new();
            for (run, index) in places::look(&places, places::count(&runs)?, fingerprint)? {
                let batch_key = runs.get(run.to_be_bytes().as_slice()).map_err(failed)?;
                let batch_key = batch_key.ok_or_else(|| damaged("a run of the index of events"))?;
                let mut batch_key = batch_key.value();
                let batch = stored_batch(&batches, batch_key)?;
                let statement = batch.as_ref().and_then(|batch| statement_of(batch, index));
                // Another event may have the same fingerprint.
                if statement
                    .is_some_and(|it| (it.event.tenant, it.event.source, it.event.id) == (tenant, source, id))
                {
                    let origin = text(&mut batch_key)?;
                    let number =
                        batch_key.try_get_u64().map_err(|_| damaged("a run of the index of events"))?;
                    found.push(Place { origin, number, index });
                }
            }
            Ok(found)
        })
    }

    /// Where an earlier program has put an event.
    fn found_of_old(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        let prefix = [key(tenant), key(source), key(id)].concat();
        let places = self.keys(EVENTS, &prefix, &[], 16)?.into_iter().map(|(rest, _)| {
            let mut rest = rest.as_slice();
            let origin = text(&mut rest)?;
            let (number, index) = (rest.try_get_u64(), rest.try_get_u64());
            let (Ok(number), Ok(index)) = (number, index) else {
                return Err(damaged("the place of an event"));
            };
            Ok(Place { origin, number, index })
        });
        places.collect()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a group in one transaction. If one of them is refused, the others are written without it.
    fn write(&self, mut group: Vec<(u64, Put)>) -> Vec<(u64, Result<(), CatalogError>)> {
        let mut outcomes = Vec::new();
        while !group.is_empty() {
            match self.try_write(&group) {
                Ok(()) => {
                    outcomes.extend(group.drain(..).map(|(ticket, _)| (ticket, Ok(()))));
                }
                Err((Some(index), error)) => outcomes.push((group.remove(index).0, Err(error))),
                Err((None, error)) => {
                    let why = |error: &CatalogError| match error {
                        CatalogError::Damaged(why) => CatalogError::Damaged(why.clone()),
                        error => CatalogError::Failed(error.to_string().into()),
                    };
                    outcomes.extend(group.drain(..).map(|(ticket, _)| (ticket, Err(why(&error)))));
                }
            }
        }
        outcomes
    }

    /// Writes all of a group, or nothing. An error says which of them it was about, if it was one.
    fn try_write(&self, group: &[(u64, Put)]) -> Result<(), (Option<usize>, CatalogError)> {
        let mut refused = None;
        let written = self.store.with(|database| {
            let mut write = database.begin_write().map_err(failed)?;
            write.set_durability(Durability::Immediate).map_err(failed)?;
            write.set_quick_repair(true);
            for (index, (_, put)) in group.iter().enumerate() {
                refused = Some(index);
                match put {
                    Put::Batch(batch) => put_batch(&write, batch),
                    Put::Anchor(anchor) => put_anchor(&write, anchor),
                }?;
            }
            refused = None;
            write.commit().map_err(failed)
        });
        written.map_err(|error| (refused, error))
    }
}

impl Catalog for EmbeddedCatalog {
    fn put_batch(&self, batch: &BatchRecord) -> Result<(), CatalogError> {
        self.put(Put::Batch(Prepared::new(batch)?))
    }

    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError> {
        self.put(Put::Anchor(anchor.clone()))
    }

    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        self.0.store.with(|database| {
            let logs = database.begin_read().map_err(failed)?.open_table(LOGS).map_err(failed)?;
            let origins = logs.iter().map_err(failed)?.map(|row| {
                let (key, _) = row.map_err(failed)?;
                text(&mut key.value())
            });
            origins.collect()
        })
    }

    fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        let Some(state) = self.get(LOGS, &key(origin))? else { return Ok(0) };
        let log = decode_log(origin, &state)?;
        // The next batch is put behind this edge: it has to be that of the tree.
        let mut left = 0;
        for (level, hash) in (0_u8..64).rev().filter(|level| log.size() >> level & 1 == 1).zip(log.edge()) {
            if self.log_hash(origin, level, left >> level)? != Some(*hash.as_bytes()) {
                return Err(damaged(&format!("the right edge of {origin} is not that of its tree")));
            }
            left += 1 << level;
        }
        Ok(log.size())
    }

    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        let found = self.0.store.with(|database| {
            let batches = database.begin_read().map_err(failed)?.open_table(BATCHES).map_err(failed)?;
            stored_batch(&batches, &numbered(origin, number))
        })?;
        let decode = |row: Vec<u8>| {
            decode_batch(row.into()).ok_or_else(|| damaged(&format!("batch {number} of {origin}")))
        };
        found.map(decode).transpose()
    }

    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        let found = self.get(NODES, &node(origin, level, index))?;
        let hash = |bytes: Bytes| bytes.as_ref().try_into().map_err(|_| damaged("a node of a tree"));
        found.map(hash).transpose()
    }

    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        let mut anchors = self.anchors_in(origin, OWN, number)?;
        for series in self.0.store.with(|database| {
            series_of(origin, &database.begin_read().map_err(failed)?.open_table(SERIES).map_err(failed)?)
        })? {
            anchors.extend(self.anchors_in(origin, &series, number)?);
        }
        Ok(anchors)
    }

    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        if [tenant, source, id].iter().any(|text| text.contains('\0')) {
            return Ok(Vec::new()); // no event is named so, and the key would be another's
        }
        let mut places = self.found(tenant, source, id)?;
        places.extend(self.found_of_old(tenant, source, id)?);
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        if tenant.contains('\0') {
            return Ok(Vec::new());
        }
        let prefix = day_key(tenant, day);
        let after = after.map_or_else(Vec::new, |(origin, number)| numbered(origin, *number));
        let batches = self.keys(DAYS, &prefix, &after, limit)?.into_iter().map(|(rest, _)| {
            let mut rest = rest.as_slice();
            let origin = text(&mut rest)?;
            let number = rest.try_get_u64().map_err(|_| damaged("a batch of a day"))?;
            Ok((origin, number))
        });
        batches.collect()
    }
}

fn put_anchor(write: &WriteTransaction, anchor: &AnchorRecord) -> Result<(), CatalogError> {
    // It is read back under what its checkpoint says of itself.
    let refused = |why: &dyn std::fmt::Display| {
        damaged(&format!(
            "an anchor of {} at {} was given whose checkpoint {why}",
            anchor.origin, anchor.size
        ))
    };
    let note = Note::parse(&anchor.checkpoint).map_err(|error| refused(&format!("is no note: {error}")))?;
    let named = Checkpoint::parse(note.text()).map_err(|error| refused(&format!("is none: {error}")))?;
    if (named.origin, named.size) != (&*anchor.origin, anchor.size) {
        return Err(refused(&format!("is of {} at {}", named.origin, named.size)));
    }
    let mut value = Vec::new();
    put_bytes(&mut value, anchor.checkpoint.as_bytes());
    put_bytes(&mut value, &anchor.anchor);
    let digest = Sha256::digest(&value);
    let (table, mut anchor_key) = place_of(&anchor.origin, &anchor.series);
    anchor_key.put_u64(anchor.size);
    // In the order in which they came: of several anchors of one checkpoint the oldest is the first.
    let mut anchors = write.open_table(table).map_err(failed)?;
    if &*anchor.series != OWN {
        check_series(anchor, &series_of(&anchor.origin, &anchors)?)?;
    }
    let prefix = anchor_key.clone();
    let mut rank = 0_u32;
    for row in anchors.range(prefix.as_slice()..).map_err(failed)? {
        let (stored, _) = row.map_err(failed)?;
        let Some(rest) = stored.value().strip_prefix(prefix.as_slice()) else { break };
        if rest.get(4..) == Some(digest.as_slice()) {
            return Ok(());
        }
        rank += 1;
    }
    anchor_key.put_u32(rank);
    anchor_key.put_slice(&digest);
    anchors.insert(anchor_key.as_slice(), value.as_slice()).map_err(failed)?;
    Ok(())
}

/// Refuses a series that has no good name, or that the log cannot have beside those that it has.
fn check_series(anchor: &AnchorRecord, known: &[Box<str>]) -> Result<(), CatalogError> {
    let AnchorRecord { origin, series, .. } = anchor;
    if !is_series_name(series) {
        return Err(damaged(&format!("an anchor of {origin} was given in a series named {series:?}")));
    }
    if known.len() >= MAX_SERIES && !known.contains(series) {
        let why =
            format!("an anchor of {origin} was given in the series {series}: it has {MAX_SERIES} series");
        return Err(damaged(&why));
    }
    Ok(())
}

/// The series of a log beside the own, in order. One look each: how many anchors they have does not matter.
fn series_of(
    origin: &str,
    anchors: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Vec<Box<str>>, CatalogError> {
    let prefix = key(origin);
    let (mut series, mut from) = (Vec::new(), prefix.clone());
    while let Some(row) = anchors.range(from.as_slice()..).map_err(failed)?.next() {
        let (stored, _) = row.map_err(failed)?;
        let Some(mut rest) = stored.value().strip_prefix(prefix.as_slice()) else { break };
        let name = text(&mut rest)?;
        // Behind the last key that begins with this name and its end.
        from = [prefix.as_slice(), name.as_bytes(), &[1]].concat();
        series.push(name);
    }
    Ok(series)
}

/// Where the anchors of a series are: the table, and what their keys begin with.
fn place_of(origin: &str, series: &str) -> (Bytewise, Key) {
    if series == OWN { (ANCHORS, key(origin)) } else { (SERIES, [key(origin), key(series)].concat()) }
}

/// A text with its end.
fn key(text: &str) -> Key {
    let mut key = Vec::with_capacity(text.len() + 40);
    key.put_slice(text.as_bytes());
    key.put_u8(0);
    key
}

fn numbered(origin: &str, number: u64) -> Key {
    let mut key = key(origin);
    key.put_u64(number);
    key
}

fn node(origin: &str, level: u8, index: u64) -> Key {
    let mut key = key(origin);
    key.put_u8(level);
    key.put_u64(index);
    key
}

fn day_key(tenant: &str, day: i32) -> Key {
    let mut key = key(tenant);
    // Days before 1970 come before those after it.
    key.put_u32(day.cast_unsigned() ^ 0x8000_0000);
    key
}

fn text(from: &mut &[u8]) -> Result<Box<str>, CatalogError> {
    let end = from.iter().position(|byte| *byte == 0).ok_or_else(|| damaged("a key"))?;
    let text = std::str::from_utf8(&from[..end]).map_err(|_| damaged("a key"))?.into();
    *from = &from[end + 1..];
    Ok(text)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u64_le(bytes.len() as u64);
    out.put_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let len = usize::try_from(from.try_get_u64_le().ok()?).ok()?;
    (len <= from.len()).then(|| from.split_to(len))
}

fn decode_anchor(origin: &str, series: &str, mut bytes: Bytes) -> Option<AnchorRecord> {
    let checkpoint: Box<str> = std::str::from_utf8(&take_bytes(&mut bytes)?).ok()?.into();
    let anchor = take_bytes(&mut bytes)?;
    // The size stands in the checkpoint too: its second line.
    let size = checkpoint.lines().nth(1)?.parse().ok()?;
    Some(AnchorRecord { origin: origin.into(), series: series.into(), size, checkpoint, anchor })
}

fn decode_log(origin: &str, bytes: &[u8]) -> Result<Log, CatalogError> {
    Log::decode(bytes).map_err(|error| damaged(&format!("the tree of {origin}: {error}")))
}

fn damaged(what: &str) -> CatalogError {
    CatalogError::Damaged(what.to_owned())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CatalogError {
    CatalogError::Failed(Box::new(error))
}

#[cfg(test)]
mod tests;
