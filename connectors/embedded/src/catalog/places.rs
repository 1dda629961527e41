//! Where each event is: the fingerprints of events with their places, in sorted segments that are merged as batches come.
//!
//! Batches of all logs are numbered as they come: these are the runs. A run brings a segment of level 0. Of each [`FAN`]
//! segments of a level in a row one of the next level is made, so an entry is written once a level, and `FAN + 1` segments
//! of each level are looked into at the most: 45 after 10,000 runs, and half as many as a rule, each by one row of 8 KB. A
//! merge is done in steps, one at a batch that is put, each over an equal part of the fingerprints, which holds about as
//! many entries as `FAN` runs bring. So no put does more than that for each level, however many events there are.
//!
//! What there is after n runs is a function of n and of the runs: nothing else says how far each merge is.
//!
//! An entry says where an event *may* be: the statements tell names apart that share a fingerprint. It is cut from SHA-256,
//! so nobody can choose names of which many share one. Who chooses names whose fingerprints lie close together can make a
//! step larger, by no more than his own events.

use bytes::BufMut as _;
use killick_proof::hash::sha256;
use killick_stages::batch::MAX_LEAVES;
use killick_stages::ports::CatalogError;
use redb::{ReadableTable, Table, TableDefinition};

use super::{Bytewise, Key, damaged, failed};

/// run → origin, number of the batch: the key of its row
pub(super) const RUNS: Bytewise = TableDefinition::new("runs");
/// level, segment, first entry → entries, ascending
pub(super) const PLACES: Bytewise = TableDefinition::new("places");

/// Binary digits of [`FAN`].
const DIGITS: u32 = 3;
/// Segments of a level that make one of the next.
const FAN: u64 = 1 << DIGITS;
/// What is hashed before the names of an event.
const LABEL: &[u8] = b"places/1";
/// Bytes of an entry.
const ENTRY: usize = 16;
/// Entries of a row: with its key and what the store keeps of it they fill two of its pages.
const PAGE: usize = (2 * 4096 - 25 - 12) / ENTRY;
/// Binary digits of an entry that tell the leaf, and those that tell the run.
const LEAF: u32 = 16;
const RUN: u32 = 48;

const _: () = assert!(MAX_LEAVES <= 1 << LEAF, "every leaf has a place in an entry");

type Rows<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// Where an event may be: its fingerprint, the run, and the index of the leaf, from the highest digits down. So entries that
/// ascend are sorted by fingerprints, and no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u128);

impl Entry {
    /// An entry of run 0; `None` for a leaf that no batch has.
    pub(super) fn new(fingerprint: u64, leaf: u64) -> Option<Self> {
        (leaf >> LEAF == 0).then(|| Self(u128::from(fingerprint) << 64 | u128::from(leaf)))
    }

    /// The same entry in a run. Those of one batch stay in order.
    fn of(self, run: u64) -> Self {
        Self(self.0 | u128::from(run) << LEAF)
    }

    /// The last that an event with this fingerprint could have.
    fn last_of(fingerprint: u64) -> Self {
        Self(u128::from(fingerprint) << 64 | u128::from(u64::MAX))
    }

    fn fingerprint(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The run, and the index of the leaf.
    fn place(self) -> (u64, u64) {
        let place = self.0 as u64;
        (place >> LEAF, place & ((1 << LEAF) - 1))
    }

    fn read(bytes: [u8; ENTRY]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// The fingerprint of an event's name.
pub(super) fn fingerprint(tenant: &str, source: &str, id: &str) -> u64 {
    // A zero byte ends a text: texts have no control characters.
    let [tenant, source, id] = [tenant, source, id].map(str::as_bytes);
    let hash = sha256(&[LABEL, tenant, &[0], source, &[0], id, &[0]]);
    u64::from_be_bytes(*hash.first_chunk().expect("a SHA-256 hash has more than 8 bytes"))
}

/// Adds the run of the batch whose row has this key, and does the steps that are due then. Its entries ascend.
pub(super) fn add(
    runs: &mut Rows<'_>,
    places: &mut Rows<'_>,
    batch: &[u8],
    entries: &[Entry],
) -> Result<(), CatalogError> {
    let run = count(runs)?;
    runs.insert(run.to_be_bytes().as_slice(), batch).map_err(failed)?;
    write(places, Segment { level: 0, number: run }, entries.iter().map(|entry| entry.of(run)))?;
    let count = run + 1;
    for level in (1..).take_while(|level| span(*level) <= count) {
        if let Some((number, step)) = due(level, count) {
            merge(places, Segment { level, number }, step)?;
        }
    }
    Ok(())
}

/// How many runs there are.
pub(super) fn count(runs: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<u64, CatalogError> {
    let Some((last, _)) = runs.last().map_err(failed)? else { return Ok(0) };
    let last: Option<[u8; 8]> = last.value().try_into().ok();
    let count = last.map(u64::from_be_bytes).and_then(|last| last.checked_add(1));
    count.filter(|count| count >> RUN == 0).ok_or_else(|| damaged("the last run of the index of events"))
}

/// The runs and leaves where an event with this fingerprint may be, of the first `count` runs.
pub(super) fn look(
    places: &impl ReadableTable<&'static [u8], &'static [u8]>,
    count: u64,
    fingerprint: u64,
) -> Result<Vec<(u64, u64)>, CatalogError> {
    let mut found = Vec::new();
    for level in (0..).take_while(|level| span(*level) <= count) {
        // Behind those whose part with this fingerprint is in the next level already.
        let first = made(level + 1, count, fingerprint) * FAN;
        for number in first..made(level, count, fingerprint) {
            look_in(places, Segment { level, number }, fingerprint, &mut found)?;
        }
    }
    Ok(found)
}

// --- when --------------------------------------------------------------------------------------------------------

/// The runs of a segment.
fn span(level: u32) -> u64 {
    1_u64.checked_shl(DIGITS * level).unwrap_or(u64::MAX)
}

/// How many runs after the last one of a segment the first step that makes it is done: those below it are whole then.
fn delay(level: u32) -> u64 {
    (1..level.saturating_sub(1)).map(span).sum()
}

/// The step that handles a fingerprint: as many as a segment of the level below has runs, each an equal part.
fn step_of(level: u32, fingerprint: u64) -> u64 {
    let digits = DIGITS * level.saturating_sub(1);
    fingerprint.checked_shr(64 - digits).unwrap_or(0)
}

/// The segment of a level that is worked on when there are `count` runs, and the step.
fn due(level: u32, count: u64) -> Option<(u64, u64)> {
    let ready = count.checked_sub(delay(level))?;
    let number = (ready / span(level)).checked_sub(1)?;
    let step = ready % span(level);
    (step < span(level - 1)).then_some((number, step))
}

/// How many segments of a level have what there is of a fingerprint.
fn made(level: u32, count: u64, fingerprint: u64) -> u64 {
    if level == 0 {
        return count;
    }
    count.saturating_sub(delay(level)).saturating_sub(step_of(level, fingerprint)) / span(level)
}

// --- what --------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Segment {
    level: u32,
    number: u64,
}

impl Segment {
    fn key(self, first: Entry) -> Key {
        let mut key = Vec::with_capacity(25);
        key.put_u8(u8::try_from(self.level).expect("there are few levels"));
        key.put_u64(self.number);
        key.put_u128(first.0);
        key
    }
}

/// Looks for a fingerprint in one segment.
fn look_in(
    places: &impl ReadableTable<&'static [u8], &'static [u8]>,
    segment: Segment,
    fingerprint: u64,
    found: &mut Vec<(u64, u64)>,
) -> Result<(), CatalogError> {
    let (first, last) = (segment.key(Entry(0)), segment.key(Entry::last_of(fingerprint)));
    for row in places.range(first.as_slice()..=last.as_slice()).map_err(failed)?.rev() {
        let (key, page) = row.map_err(failed)?;
        let page = page_of(page.value())?;
        if !key.value().ends_with(&page[0]) {
            return Err(damaged("a page of the index of events"));
        }
        let begin = page.partition_point(|entry| Entry::read(*entry).fingerprint() < fingerprint);
        let same = page[begin..].iter().map(|entry| Entry::read(*entry));
        found.extend(same.take_while(|entry| entry.fingerprint() == fingerprint).map(Entry::place));
        if begin > 0 {
            break;
        }
    }
    Ok(())
}

fn write(
    places: &mut Rows<'_>,
    segment: Segment,
    entries: impl ExactSizeIterator<Item = Entry>,
) -> Result<(), CatalogError> {
    let mut entries = entries.peekable();
    while let Some(first) = entries.peek() {
        let (key, len) = (segment.key(*first), entries.len().min(PAGE));
        let mut row = places.insert_reserve(key.as_slice(), len * ENTRY).map_err(failed)?;
        for (bytes, entry) in row.as_mut().as_chunks_mut().0.iter_mut().zip(&mut entries) {
            *bytes = entry.0.to_be_bytes();
        }
    }
    Ok(())
}

/// Moves the entries of one step to a segment from those of the level below.
fn merge(places: &mut Rows<'_>, segment: Segment, step: u64) -> Result<(), CatalogError> {
    let step_of = |entry: &[u8; ENTRY]| step_of(segment.level, Entry::read(*entry).fingerprint());
    let (mut entries, mut empty) = (Vec::new(), Vec::new());
    for number in segment.number * FAN..(segment.number + 1) * FAN {
        let from = Segment { level: segment.level - 1, number };
        let (first, last) = (from.key(Entry(0)), from.key(Entry(u128::MAX)));
        // What earlier steps took stands at the beginning of the first page at the most.
        for row in places.range(first.as_slice()..=last.as_slice()).map_err(failed)? {
            let (key, page) = row.map_err(failed)?;
            let page = page_of(page.value())?;
            let begin = page.partition_point(|entry| step_of(entry) < step);
            let end = page.partition_point(|entry| step_of(entry) <= step);
            entries.extend(page[begin..end].iter().map(|entry| Entry::read(*entry)));
            if end < page.len() {
                break;
            }
            empty.push(key.value().to_vec());
        }
    }
    for key in empty {
        places.remove(key.as_slice()).map_err(failed)?;
    }
    // The stable sort merges what is sorted in parts.
    entries.sort();
    write(places, segment, entries.into_iter())
}

fn page_of(row: &[u8]) -> Result<&[[u8; ENTRY]], CatalogError> {
    match row.as_chunks() {
        (page @ [_, ..], []) => Ok(page),
        _ => Err(damaged("a page of the index of events")),
    }
}

#[cfg(test)]
mod tests;
