//! What an audit tells.

use std::collections::BTreeMap;
use std::fmt;

use crate::record::{Micros, Partition};
use crate::stage::Sum;

/// What kind of thing is wrong. The names never change: people filter by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Input that no transaction tells of.
    Gap,
    /// Input that more than one transaction tells of.
    Overlap,
    /// A manifest that contradicts itself or the one before it.
    Contradiction,
    /// A committed offset that is not where the manifests end.
    Offset,
    /// A manifest tells of other events than the log has.
    Difference,
    /// An accepted event of which nothing came.
    Lost,
    /// An accepted event that is older than the objective and has no proof yet.
    Late,
    /// An event that was passed on twice, or a batch that was told of twice.
    Twice,
    /// Something in the log that came of nothing accepted.
    Extra,
    /// A record that does not decode, or does not belong where it stands.
    Damaged,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Gap,
        Self::Overlap,
        Self::Contradiction,
        Self::Offset,
        Self::Difference,
        Self::Lost,
        Self::Late,
        Self::Twice,
        Self::Extra,
        Self::Damaged,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Overlap => "overlap",
            Self::Contradiction => "contradiction",
            Self::Offset => "offset",
            Self::Difference => "difference",
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Twice => "twice",
            Self::Extra => "extra",
            Self::Damaged => "damaged",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An event by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its tenant.
    pub tenant: Box<str>,
    /// Its source.
    pub source: Box<str>,
    /// Its id.
    pub id: Box<str>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The stage concerned, where it is about one stage's work.
    pub stage: Option<Box<str>>,
    /// The partition concerned.
    pub partition: Partition,
    /// The first offset there.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
    /// The event, where it is about one.
    pub event: Option<Name>,
    /// What is wrong, for people.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, stage, partition, from, to, event, why } = self;
        write!(f, "{kind}: {partition}")?;
        if *to == from.saturating_add(1) {
            write!(f, " at {from}")?;
        } else {
            write!(f, " from {from} to {to}")?;
        }
        if let Some(stage) = stage {
            write!(f, ", {stage}")?;
        }
        if let Some(Name { tenant, source, id }) = event {
            write!(f, ", event {id} of {tenant}, {source}")?;
        }
        write!(f, ": {why}")
    }
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What each stage told, by stage and input topic.
    pub hops: BTreeMap<(Box<str>, Box<str>), Hop>,
    /// What became of the accepted events; zeros if only manifests were looked at.
    pub events: Events,
    /// How many findings of each kind.
    pub findings: BTreeMap<Kind, u64>,
    /// Findings so young that they may have to do with what is not readable yet: look again later.
    pub unsettled: u64,
    /// What could not be looked at, and why.
    pub not_covered: Vec<String>,
}

/// What one stage told about one input topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hop {
    /// Input partitions with manifests.
    pub partitions: u64,
    /// Manifests.
    pub manifests: u64,
    /// Input offsets that they cover.
    pub offsets: u64,
    /// Events taken.
    pub taken: Sum,
    /// Events passed on.
    pub passed: Sum,
    /// Events rejected.
    pub rejected: u64,
    /// Copies.
    pub duplicates: u64,
}

/// What became of the accepted events that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// How many there were.
    pub accepted: u64,
    /// Those that have a proof.
    pub proven: u64,
    /// Copies of events that had been let through.
    pub duplicates: u64,
    /// Changed copies.
    pub conflicts: u64,
    /// Those without a proof yet that are not older than the objective.
    pub waiting: u64,
    /// Those without a proof yet that are older.
    pub late: u64,
    /// Those of which nothing came.
    pub lost: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.unsettled == 0
    }

    /// How many findings there are.
    pub fn count(&self) -> u64 {
        self.findings.values().sum()
    }
}

/// Where an event became a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaf {
    /// 128 bits of a hash of its tenant, source and id.
    pub name: [u8; 16],
    /// The log's time when it was accepted, which ascends in a log.
    pub time: Micros,
    /// The offset in `unique`.
    pub offset: u64,
    /// Its place among the statements there.
    pub index: u32,
}

/// Gives each leaf that follows another of the same name by less than `window`, after that other; sorts the leaves.
pub fn twice(leaves: &mut [Leaf], window: Micros, each: &mut dyn FnMut(&Leaf, &Leaf)) {
    leaves.sort_unstable();
    for pair in leaves.windows(2) {
        let [before, after] = pair else { continue };
        if before.name == after.name && after.time.saturating_sub(before.time) < window {
            each(before, after);
        }
    }
}
