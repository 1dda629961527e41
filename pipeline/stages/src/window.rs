//! The open batch of a log: what was read and not yet cut.

use bytes::Bytes;
use killick_proof::Hash;

use crate::batch::Config;
use crate::frame::UniqueFrame;
use crate::record::{Header, Micros};

/// What the next batch will hold. Bounded by the batch's bounds and one frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// The statements' CBOR, in order.
    pub(crate) statements: Vec<Bytes>,
    /// Their leaf hashes.
    pub(crate) leaves: Vec<Hash>,
    /// Bytes of statements.
    pub(crate) bytes: usize,
    /// Copies that dedup found in the range.
    pub(crate) duplicates: u64,
    /// Changed copies that dedup found in the range.
    pub(crate) conflicts: u64,
    /// The log time of the first frame with a statement.
    pub(crate) first_time: Micros,
    /// The log time of the last frame with a statement.
    pub(crate) last_time: Micros,
    /// The log time of the last record.
    pub(crate) time: Micros,
    /// The contexts of some of the events, as headers.
    pub(crate) traces: Vec<Header>,
}

impl Window {
    /// Whether a batch would have nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.duplicates == 0 && self.conflicts == 0
    }

    /// The log time from which on the window is over. A window without leaves stays open, however long: there is no
    /// batch without leaves, and what it counted goes with the next one.
    pub(crate) fn due(&self, width: Micros) -> Option<Micros> {
        (!self.statements.is_empty()).then(|| self.first_time.saturating_add(width))
    }

    /// Whether a frame has to wait for the next batch.
    pub(crate) fn would_exceed(&self, leaves: usize, bytes: usize, config: &Config) -> bool {
        !self.statements.is_empty()
            && leaves > 0
            && (self.statements.len() + leaves > config.max_leaves || self.bytes + bytes > config.max_bytes)
    }

    /// Whether nothing more fits.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.statements.len() >= config.max_leaves || self.bytes >= config.max_bytes
    }

    /// Adds a frame at log time `time`.
    pub(crate) fn add(&mut self, frame: UniqueFrame, leaves: Vec<Hash>, bytes: usize, time: Micros) {
        self.time = time;
        self.duplicates += frame.duplicates.len() as u64;
        self.conflicts += frame.conflicts.len() as u64;
        if !leaves.is_empty() {
            if self.statements.is_empty() {
                self.first_time = time;
            }
            self.last_time = time;
            self.statements.extend(frame.statements);
            self.leaves.extend(leaves);
            self.bytes += bytes;
        }
    }
}
