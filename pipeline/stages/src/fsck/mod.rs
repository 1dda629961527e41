//! The check of a catalog: computes everything that it holds anew from its bytes, and holds it against what it says.
//!
//! Of each log, batch after batch: the root over its statements, its place in the log's tree, every stored node, the
//! right edge, the checkpoint with its signature, the offsets that follow each other, where the index finds its events
//! and the days list it, and the record of `batches`, as long as the log keeps it. Of each anchor: a receipt, passed by
//! the verifier that everybody has.
//!
//! Cost: each batch is read once, and some points beside it; with `full` a point read an event more. A check goes on
//! where an earlier one ended: see [`Mark`].

mod anchors;
mod batch;
mod index;
mod topic;

use std::collections::BTreeMap;
use std::fmt;

use killick_proof::log::Log;
use killick_proof::origin::Origin;
use killick_proof::trust::Trust;
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};

use crate::audit::Name;
use crate::ports::{Catalog, CatalogError, LogError, Reader};
use crate::record::Micros;
use crate::series::OWN;
use topic::Topic;

/// What is wrong with what. The names never change: people filter by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The list of logs, or how large one is.
    Log,
    /// A batch: its header or its statements.
    Batch,
    /// A stored node of a log's tree.
    Node,
    /// The right edge in a batch.
    Edge,
    /// The checkpoint of a batch.
    Checkpoint,
    /// An anchor.
    Anchor,
    /// Where the index finds an event.
    Event,
    /// Where a day lists a batch.
    Day,
    /// The record of `batches`, or of `proofs`, in the log.
    Record,
}

impl Part {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Batch => "batch",
            Self::Node => "node",
            Self::Edge => "edge",
            Self::Checkpoint => "checkpoint",
            Self::Anchor => "anchor",
            Self::Event => "event",
            Self::Day => "day",
            Self::Record => "record",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is about.
    pub part: Part,
    /// The log.
    pub origin: Box<str>,
    /// The batch's number; of an anchor the size of its checkpoint, of a log its size.
    pub number: u64,
    /// The event, where it is about one.
    pub event: Option<Name>,
    /// What is wrong, for people.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, origin, number, event, why } = self;
        match part {
            Part::Log => write!(f, "log {origin}")?,
            Part::Anchor => write!(f, "anchor of {origin} at size {number}")?,
            Part::Batch => write!(f, "batch {number} of {origin}")?,
            part => write!(f, "{} of batch {number} of {origin}", part.name())?,
        }
        if let Some(Name { tenant, source, id }) = event {
            write!(f, ", event {id} of {tenant}, {source}")?;
        }
        write!(f, ": {why}")
    }
}

/// How far a log was checked, and what has to be known to go on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The tree over the batches that were checked.
    pub log: Log,
    /// The offset of `unique` where the next batch begins; `None` if the last one does not say.
    pub next_offset: Option<u64>,
    /// The last log time of the last batch.
    pub time: Micros,
    /// The size of the largest checkpoint whose anchors were checked in the deployment's own series.
    pub anchored: u64,
    /// The same of each other series, by its name.
    pub series: BTreeMap<Box<str>, u64>,
}

impl Mark {
    /// Nothing of a log with this hash was checked yet.
    pub fn begin(algorithm: Algorithm) -> Self {
        Self {
            log: Log::new(algorithm),
            next_offset: Some(0),
            time: Micros::MIN,
            anchored: 0,
            series: BTreeMap::new(),
        }
    }
}

/// Hears of what is found.
pub trait Observer {
    /// Something is wrong.
    fn found(&mut self, fault: Fault);

    /// A log that has `size` batches is checked as far as `mark`.
    fn checked(&mut self, origin: &str, mark: &Mark, size: u64);
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Logs.
    pub logs: u64,
    /// Batches.
    pub batches: u64,
    /// Leaves: statements.
    pub leaves: u64,
    /// Stored nodes of trees.
    pub nodes: u64,
    /// Events looked for in the index.
    pub events: u64,
    /// Anchors.
    pub anchors: u64,
    /// Those of them that end in a block which the trust file trusts.
    pub trusted: u64,
    /// Batches that are the same, byte for byte, in the log.
    pub compared: u64,
    /// What is wrong.
    pub faults: u64,
}

/// Why a check cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(CatalogError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A check of a catalog.
pub struct Fsck<'a> {
    catalog: &'a dyn Catalog,
    reader: Option<&'a mut dyn Reader>,
    verifier: Verifier,
    observer: &'a mut dyn Observer,
    is_full: bool,
    figures: Figures,
}

impl<'a> Fsck<'a> {
    /// Checks `catalog`, with the log keys and blocks of `trust`; against the log, if there is a reader for it. With
    /// `is_full` every event is looked for in the index, else one of each batch.
    pub fn new(
        catalog: &'a dyn Catalog,
        reader: Option<&'a mut dyn Reader>,
        trust: Trust,
        is_full: bool,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let verifier = Verifier::new(trust);
        Self { catalog, reader, verifier, observer, is_full, figures: Figures::default() }
    }

    /// How much was checked so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// The logs of the catalog. Those that the log knows, and the catalog does not, are told of.
    ///
    /// # Errors
    /// [`FsckError`].
    pub fn origins(&mut self) -> Result<Vec<Box<str>>, FsckError> {
        let read = self.catalog.origins();
        let origins = self.sound(Part::Log, "?", 0, read)?.unwrap_or_default();
        self.check_known(&origins)?;
        Ok(origins)
    }

    /// Checks one log from where a check ended before, or from its first batch on. Gives how far it is right: up to the
    /// first fault.
    ///
    /// # Errors
    /// [`FsckError`]; what is wrong with the catalog is no error, but told to the observer.
    pub fn check(&mut self, origin: &str, from: Option<Mark>) -> Result<Option<Mark>, FsckError> {
        self.figures.logs += 1;
        let Some(algorithm) = Origin::parse(origin).ok().and_then(|origin| origin.algorithm()) else {
            self.find(Part::Log, origin, 0, "its origin is none that is understood");
            return Ok(None);
        };
        let mut mark = from.unwrap_or_else(|| Mark::begin(algorithm));
        let read = self.catalog.log_size(origin);
        let Some(size) = self.sound(Part::Log, origin, 0, read)? else { return Ok(None) };
        if size < mark.log.size() {
            let why = format!("it has {size} batches, and had {} when it was last checked", mark.log.size());
            self.find(Part::Log, origin, size, why);
            return Ok(None);
        }
        let mut topic = self.open_topic(origin, mark.log.size())?;
        let (faults, mut right) = (self.figures.faults, mark.clone());
        while mark.log.size() < size {
            if !self.check_batch(origin, &mut mark, &mut topic)? {
                return Ok(Some(right));
            }
            if self.figures.faults == faults {
                right = mark.clone();
                self.observer.checked(origin, &right, size);
            }
        }
        self.check_end(origin, &mark)?;
        self.check_topic_end(origin, size, topic)?;
        let anchored = self.check_anchors(origin, size, OWN, mark.anchored)?;
        let series = self.check_series(origin, size, &mark)?;
        self.check_told(origin, anchored)?;
        if self.figures.faults == faults {
            right = Mark { anchored, series, ..right };
            self.observer.checked(origin, &right, size);
        }
        Ok(Some(right))
    }

    /// Nothing may stand behind the end of a log: it would be taken for its next batch, or for a part of its tree.
    fn check_end(&mut self, origin: &str, mark: &Mark) -> Result<(), FsckError> {
        let size = mark.log.size();
        let read = self.catalog.batch(origin, size);
        if self.sound(Part::Batch, origin, size, read)?.flatten().is_some() {
            self.find(Part::Batch, origin, size, "the log ends before it");
        }
        for level in 0..=u8::try_from(size.checked_ilog2().unwrap_or(0)).unwrap_or(u8::MAX) {
            let index = size >> level;
            let read = self.catalog.log_hash(origin, level, index);
            if self.sound(Part::Node, origin, size, read)?.flatten().is_some() {
                self.find(
                    Part::Node,
                    origin,
                    size,
                    format!("node {index} of level {level} is not complete yet"),
                );
            }
        }
        Ok(())
    }

    fn find(&mut self, part: Part, origin: &str, number: u64, why: impl Into<String>) {
        self.find_event(part, origin, number, None, why);
    }

    fn find_event(
        &mut self,
        part: Part,
        origin: &str,
        number: u64,
        event: Option<Name>,
        why: impl Into<String>,
    ) {
        self.figures.faults += 1;
        self.observer.found(Fault { part, origin: origin.into(), number, event, why: why.into() });
    }

    /// What was read, unless the catalog itself says that it is damaged.
    fn sound<T>(
        &mut self,
        part: Part,
        origin: &str,
        number: u64,
        read: Result<T, CatalogError>,
    ) -> Result<Option<T>, FsckError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(CatalogError::Damaged(why)) => {
                self.find(part, origin, number, why);
                Ok(None)
            }
            Err(error) => Err(FsckError::Catalog(error)),
        }
    }
}

/// A hash as it is printed.
fn shown(hash: Option<[u8; 32]>) -> String {
    hash.map_or("nothing".to_owned(), |hash| Hash::new(hash).to_string())
}
