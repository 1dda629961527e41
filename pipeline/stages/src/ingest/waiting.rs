//! What is held back of a partition in which a record waits for its schema.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::Verdict;
use crate::record::{Micros, Record};
use crate::registry::SchemaId;
use crate::stage::Request;

/// Schemas that one partition asks for at the same time.
const MAX_ASKED: usize = 64;
/// Bytes that a held record takes beside its own: its verdict, and what holds all this.
const OVERHEAD: usize = 1_024;

/// The records of one partition from the first on that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In order, with what was said of each when it came.
    records: VecDeque<(Record, Verdict)>,
    /// The ids that the registry was asked for and has not answered, with the log time of the record that wants them.
    asked: BTreeMap<SchemaId, Micros>,
    /// What nobody has passed on yet.
    asks: Vec<Request>,
    /// Whether it was asked to be called again.
    is_called: bool,
}

/// Bytes that holding a record takes.
pub(super) fn size(record: &Record) -> usize {
    let header = |header: &crate::record::Header| header.name.len() + header.value.len() + 64;
    record.key.len() + record.value.len() + record.headers.iter().map(header).sum::<usize>() + OVERHEAD
}

impl Waiting {
    /// Holds the next record. If it waits for a schema too, that is asked for at once: so many that wait one behind the
    /// other wait hardly longer than one.
    pub(super) fn hold(&mut self, record: Record, verdict: Verdict) {
        if let Verdict::Awaits(id) = verdict
            && self.asked.len() < MAX_ASKED
        {
            self.ask(id, record.append_time);
        }
        self.records.push_back((record, verdict));
    }

    /// Whether nothing is held any more.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the first record.
    pub(super) fn next(&mut self) -> Option<(Record, Verdict)> {
        self.records.pop_front()
    }

    /// Gives the first record back: it waits for this schema.
    pub(super) fn back(&mut self, record: Record, id: SchemaId) {
        self.ask(id, record.append_time);
        self.records.push_front((record, Verdict::Awaits(id)));
    }

    fn ask(&mut self, id: SchemaId, at: Micros) {
        match self.asked.entry(id) {
            // The answer comes after all who wait for it, so it counts for the latest of them.
            Entry::Occupied(mut asked) => *asked.get_mut() = at.max(*asked.get()),
            Entry::Vacant(free) => {
                free.insert(at);
                self.asks.push(Request::Schema(id));
            }
        }
    }

    /// Asks to be called again, for more than one transaction should hold.
    pub(super) fn call(&mut self) {
        if !self.is_called {
            self.is_called = true;
            self.asks.push(Request::Again);
        }
    }

    /// Notes that it is called.
    pub(super) fn called(&mut self) {
        self.is_called = false;
    }

    /// What to ask for.
    pub(super) fn asks(&mut self) -> impl Iterator<Item = Request> {
        self.asks.drain(..)
    }

    /// Notes that the registry answered; the log time of the record that wanted it, if it was asked for here.
    pub(super) fn answered(&mut self, id: SchemaId) -> Option<Micros> {
        self.asked.remove(&id)
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.records.iter().map(|(record, _)| size(record)).sum()
    }
}
