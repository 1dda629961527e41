//! Telling of the batches that an anchor newly covers, in transactions of bounded size.
//!
//! Where receipts are published too, a batch's come before the message about it, in as many transactions as they need;
//! `prove-log` says how many of them are out. So whoever has read that message can find them all, and after a crash, as
//! after a full transaction, the next receipt is the one that is missing.

use std::collections::VecDeque;

use killick_proof::receipt::Anchor;
use killick_proof::statement::Statement;
use killick_proof::verify::Verifier;

use super::{Config, check};
use crate::check::{Checked, check_receipt};
use crate::frame::AnchorFrame;
use crate::ready::{Block, Headers, ReceiptReady};
use crate::record::Output;
use crate::stage::{Part, StoredBatch, Sum};
use crate::state::ProveState;

/// Bytes from which on a transaction takes no more receipts and no more batches; what it holds is at most one message
/// about a batch larger.
pub(super) const PER_COMMIT: usize = 4 << 20;

/// How far the batches of an anchor are told of.
#[derive(Debug)]
pub(super) struct Telling {
    anchor: Box<Anchor>,
    block: Block,
    /// The next batch to be asked for.
    ask: u64,
    /// Batches that were read and not looked at, in order.
    read: VecDeque<Option<Box<StoredBatch>>>,
    /// The batch whose receipts are being published.
    begun: Option<Box<Begun>>,
    /// Whether the answer that goes on is on its way.
    is_called: bool,
}

/// A batch that was verified, and is not told of in full.
#[derive(Debug)]
struct Begun {
    checked: Checked,
    headers: Headers,
}

/// What is needed to tell of a batch.
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) verifier: &'a mut Verifier,
    pub(super) frame: &'a AnchorFrame,
    pub(super) log: u32,
    /// Bytes put out since the last commit, of all logs.
    pub(super) put: &'a mut usize,
}

impl Telling {
    /// Begins with an anchor that is verified and stored; `ask` is the first batch that it newly covers, or covers anew.
    pub(super) fn new(anchor: Box<Anchor>, ask: u64) -> Result<Self, String> {
        let block = Block::of(&anchor)?;
        Ok(Self { anchor, block, ask, read: VecDeque::new(), begun: None, is_called: false })
    }

    /// The next batch to be read, below `size`.
    pub(super) fn next(&mut self, size: u64) -> Option<u64> {
        let next = (self.ask < size).then_some(self.ask)?;
        self.ask += 1;
        Some(next)
    }

    /// Takes a batch that was read.
    pub(super) fn take(&mut self, stored: Option<Box<StoredBatch>>) {
        self.read.push_back(stored);
    }

    /// Takes the call to go on.
    pub(super) fn called(&mut self) {
        self.is_called = false;
    }

    /// Whether a call to go on is needed: something is left, and the transaction was full.
    pub(super) fn calls(&mut self) -> bool {
        let is_left = self.begun.is_some() || !self.read.is_empty();
        is_left && !std::mem::replace(&mut self.is_called, true)
    }

    /// Tells of the next batch, or of as much of it as the transaction takes. Returns its events once all is told;
    /// `None` where nothing is left to tell, or no room.
    pub(super) fn tell(
        &mut self,
        desk: &mut Desk<'_>,
        done: &mut ProveState,
        out: &mut Part,
    ) -> Result<Option<Sum>, String> {
        if *desk.put >= PER_COMMIT {
            return Ok(None);
        }
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let Some(stored) = self.read.pop_front() else { return Ok(None) };
                let checked = check(desk.verifier, stored, done.next_told(), desk.frame, &self.anchor)?;
                // A batch that is told of again is told of under the anchor's version.
                let version = if done.is_again() { desk.frame.version } else { 1 };
                let headers =
                    Headers::new(checked.receipts.batch(), &desk.frame.origin, &self.block, version);
                Box::new(Begun { checked, headers })
            }
        };
        while desk.config.receipts && done.receipts < begun.checked.receipts.count() {
            if *desk.put >= PER_COMMIT {
                self.begun = Some(begun);
                return Ok(None);
            }
            let output = begun.receipt(desk, done.receipts, &self.block)?;
            desk.put(output, out);
            done.receipts += 1;
        }
        let ids = &desk.config.schema_ids;
        desk.put(begun.headers.proof(desk.log, &begun.checked.ready, ids.proof_ready), out);
        done.receipts = 0;
        let is_again = done.is_again();
        let next = done.next_told() + 1;
        done.size = done.size.max(next);
        // From the first new batch on it says no more than that the turn has begun.
        done.again = done.again.map(|_| next);
        // What is told of again was counted when it was told of first.
        Ok(Some(if is_again { Sum::default() } else { begun.checked.events }))
    }
}

impl Begun {
    /// The message with the receipt of one event, which was verified as it stands there.
    fn receipt(&self, desk: &mut Desk<'_>, index: u64, block: &Block) -> Result<Output, String> {
        let about = |why: &dyn std::fmt::Display| {
            format!("event {index} of batch {} of {}: {why}", self.checked.ready.number, desk.frame.origin)
        };
        let receipt = self.checked.receipts.get(index).ok_or_else(|| about(&"it has no receipt"))?;
        let event = Statement::decode(&receipt.statement).map_err(|error| about(&error))?.event;
        let json = check_receipt(desk.verifier, index, &receipt).map_err(|why| about(&why))?;
        let ready = ReceiptReady {
            tenant: event.tenant.into(),
            source: event.source.into(),
            id: event.id.into(),
            time: event.time,
            kind: event.kind.into(),
            batch: self.checked.ready.batch.clone(),
            index,
            block: Some(block.clone()),
            receipt: json.into(),
        };
        Ok(self.headers.receipt(desk.log, &ready, desk.config.schema_ids.receipt))
    }
}

impl Desk<'_> {
    fn put(&mut self, output: Output, out: &mut Part) {
        *self.put += output.value.len();
        out.outputs.push(output);
    }
}
