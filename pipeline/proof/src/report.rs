//! What a verification found out, in a form that programs and people can be told.

use std::fmt;
use std::str::FromStr;

use crate::fault::{Fault, Missing, Wrong};
use crate::hash::Hash;

/// How far a receipt verifies; each level needs the ones before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is established.
    #[default]
    None,
    /// The statement is well formed, a signature in it is right under its own key, and the payload, where one was
    /// given, matches its digest.
    Stated,
    /// The statement is a leaf of the batch.
    Batched,
    /// The batch is a leaf of a log, and a log key of the trust file signed the log's checkpoint.
    Logged,
    /// The checkpoint is in a transaction's output that is in a block. That is consistency: whoever has a log key
    /// can make such a block himself.
    Anchored,
    /// The verifier trusts that block, or a descendant of it, or the work above it. Only this level says something about time.
    Trusted,
}

impl Level {
    /// Every level, from the lowest on.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Stated, Self::Batched, Self::Logged, Self::Anchored, Self::Trusted];

    /// The level's name: `none`, `stated`, `batched`, `logged`, `anchored`, `trusted`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stated => "stated",
            Self::Batched => "batched",
            Self::Logged => "logged",
            Self::Anchored => "anchored",
            Self::Trusted => "trusted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of stated, batched, logged, anchored, trusted")]
pub struct LevelError;

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or(LevelError)
    }
}

/// What is known about the device beside the level; it lowers none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The trust file lists the key for this tenant and source.
    Valid,
    /// It does not, or not for this time.
    UnknownKey,
    /// The statement carries no signature.
    Unsigned,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::UnknownKey => "unknown key",
            Self::Unsigned => "unsigned",
        })
    }
}

/// The event a receipt is about, as its statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName {
    /// The tenant.
    pub tenant: String,
    /// The device or producer.
    pub source: String,
    /// The idempotency key.
    pub id: String,
}

/// A block, as it was recomputed from its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockName {
    /// The network's name.
    pub network: String,
    /// The chain's number.
    pub chain: u32,
    /// The height.
    pub height: u64,
    /// The hash.
    pub hash: Hash,
}

/// What one receipt says about its log, to be held against other receipts: see [`crate::together`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The log's origin.
    pub origin: String,
    /// Size and root of each checkpoint that a log key of the trust file signed.
    pub checkpoints: Vec<(u64, Hash)>,
    /// The batch number in the log.
    pub number: u64,
    /// The batch id: the header's leaf hash in the log.
    pub batch: Hash,
    /// The statement's leaf index in the batch.
    pub index: u64,
    /// The statement's leaf hash by SHA-256, whatever the hash of its log.
    pub statement: Hash,
    /// The event the statement names.
    pub event: EventName,
}

/// How a report stands to the level that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The level is reached.
    Reached,
    /// The receipt is wrong.
    Wrong,
    /// Nothing is wrong, but something is missing.
    Short,
}

/// The result of one verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How far it got before anything was wrong or missing.
    pub level: Level,
    /// The device, from `stated` on.
    pub device: Option<Device>,
    /// Whether a payload was given and matches.
    pub payload_matches: bool,
    /// The event, from `stated` on.
    pub event: Option<EventName>,
    /// The time the device claims, in µs since 1970, from `stated` on.
    pub claimed: Option<i64>,
    /// First and last log-append time of the batch, in µs since 1970, from `batched` on. A claim of the log.
    pub logged: Option<(i64, i64)>,
    /// The event existed no later than this, in µs since 1970; only at `trusted`.
    pub not_after: Option<i64>,
    /// The block, from `anchored` on; at `trusted` the oldest trusted one.
    pub block: Option<BlockName>,
    /// Where the block is trusted for work alone: how many times the work of the trust file's cut is above it.
    pub work_above: Option<u64>,
    /// What is wrong, else what keeps the receipt from the next level; nothing at `trusted`.
    pub fault: Option<Fault>,
    /// What other receipts can be held against, from `logged` on and only where nothing is wrong.
    pub held: Option<Held>,
}

impl Report {
    /// How the report stands to a level: a wrong receipt reaches none.
    pub fn verdict(&self, wanted: Level) -> Verdict {
        match &self.fault {
            Some(Fault::Wrong(_)) => Verdict::Wrong,
            _ if self.level >= wanted => Verdict::Reached,
            _ => Verdict::Short,
        }
    }

    /// What is wrong, if anything.
    pub fn wrong(&self) -> Option<&Wrong> {
        match &self.fault {
            Some(Fault::Wrong(wrong)) => Some(wrong),
            _ => None,
        }
    }

    /// What is missing, where nothing is wrong.
    pub fn missing(&self) -> Option<&Missing> {
        match &self.fault {
            Some(Fault::Missing(missing)) => Some(missing),
            _ => None,
        }
    }
}
