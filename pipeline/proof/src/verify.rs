//! Verification by levels: how far a receipt proves what it says, recomputed from its bytes.
//!
//! No label in the file is believed. Everything that can be checked is checked, also beyond the level where
//! something is missing: the first thing *wrong* anywhere makes the receipt wrong, and only a receipt without
//! anything wrong stops short for what is *missing*. A hash algorithm in the batch header that nobody knows ends
//! the checks, for nothing that builds on it can be computed.

mod anchor;
mod log;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;

use crate::fault::{Fault, Part};
use crate::hash::{Algorithm, Hash};
use crate::receipt::{Anchor, AnyAnchor, Parts};
use crate::report::{Device, EventName, Held, Level, Report};
use crate::statement::{Attestation, Statement};
use crate::tree::ProofError;
use crate::trust::Trust;
use anchor::CheckedAnchor;
use log::{CheckedCheckpoint, InLogs};
use statement::{CheckedHeader, Leaf};

/// Bytes of checkpoints and anchors that are remembered; when there are more, all are forgotten.
const MAX_KEPT: usize = 16 << 20;

/// Anchors of one checkpoint that are remembered; a log has few.
const MAX_KEPT_ANCHORS: usize = 16;

/// Verifies receipts against one trust file.
///
/// Checkpoints, anchors and the places of batches in their logs, which many receipts share, are checked once; this changes
/// no result.
#[derive(Debug, Default)]
pub struct Verifier {
    trust: Trust,
    /// By signed note.
    seen: HashMap<String, Seen>,
    /// Bytes in `seen`, about.
    kept: usize,
    in_logs: InLogs,
}

/// A checkpoint that was checked, and the anchors that were checked with it.
#[derive(Debug)]
struct Seen {
    checkpoint: Part<Arc<CheckedCheckpoint>>,
    anchors: Vec<(Anchor, Part<Arc<CheckedAnchor>>)>,
}

/// What the checks found, in the order of the levels. A check that needs another's result repeats its fault.
struct Findings<'r> {
    statement: Part<Statement<'r>>,
    header: Part<CheckedHeader<'r>>,
    in_batch: Part<Leaf>,
    checkpoint: Part<Arc<CheckedCheckpoint>>,
    in_log: Part<()>,
    /// A log key of the trust file signed the checkpoint, and counts.
    signed: Part<()>,
    /// The anchors that hold, at least one; none is wrong.
    anchored: Part<Vec<Holding>>,
    /// The one with the oldest trusted block.
    trusted: Part<Arc<CheckedAnchor>>,
}

/// An anchor that holds.
struct Holding {
    /// Its place in the receipt.
    at: usize,
    anchor: Arc<CheckedAnchor>,
    /// The checkpoint of its own, if it has one.
    own: Option<Arc<CheckedCheckpoint>>,
}

impl Verifier {
    /// A verifier that believes what the trust file says.
    pub fn new(trust: Trust) -> Self {
        Self { trust, ..Self::default() }
    }

    /// What this verifier believes.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Verifies the receipt in a file, JSON or CBOR. `payload` is the SHA-256 of the payload's bytes, where they are
    /// at hand.
    pub fn verify(&mut self, file: &[u8], payload: Option<&Hash>) -> Report {
        match Parts::parse(file) {
            Ok(parts) => self.verify_parts(&parts, payload),
            Err(fault) => Report { fault: Some(fault), ..Report::default() },
        }
    }

    /// Verifies a receipt that was read before; `payload` as for [`verify`](Self::verify).
    pub fn verify_parts(&mut self, parts: &Parts, payload: Option<&Hash>) -> Report {
        let findings = self.check(parts, payload);
        let mut report = Report { fault: findings.fault(), ..Report::default() };
        let Ok(statement) = &findings.statement else { return report };
        report.level = Level::Stated;
        report.device = Some(self.device(statement, None));
        report.payload_matches = payload.is_some();
        report.claimed = Some(statement.event.time);
        report.event = Some(event_name(statement));

        let (Ok(header), Ok(leaf)) = (&findings.header, &findings.in_batch) else { return report };
        report.level = Level::Batched;
        report.logged = Some((header.fields.first_time, header.fields.last_time));

        let (Ok(checkpoint), Ok(()), Ok(())) = (&findings.checkpoint, &findings.in_log, &findings.signed)
        else {
            return report;
        };
        report.level = Level::Logged;
        if report.wrong().is_none() {
            let own = findings.anchored.iter().flatten().filter_map(|holding| holding.own.as_ref());
            let checkpoints = std::iter::once(checkpoint).chain(own);
            report.held = Some(Held {
                origin: header.fields.origin.to_string(),
                checkpoints: checkpoints.map(|checkpoint| (checkpoint.size, checkpoint.root)).collect(),
                number: header.fields.number,
                batch: header.id,
                index: leaf.index,
                statement: match header.algorithm {
                    Algorithm::Sha256 => leaf.hash,
                    // In the same hash whatever the log's: so that logs can be held against each other.
                    _ => Algorithm::Sha256.leaf(parts.statement.as_deref().unwrap_or_default()),
                },
                event: event_name(statement),
            });
        }

        let Some(first) = findings.anchored.iter().flatten().next() else { return report };
        report.level = Level::Anchored;
        report.block = Some(first.anchor.block.clone());

        let Ok(trusted) = &findings.trusted else { return report };
        report.level = Level::Trusted;
        report.block = Some(trusted.block.clone());
        report.not_after = Some(trusted.created);
        report.work_above = trusted.work_above;
        report.device = Some(self.device(statement, Some(trusted.created)));
        report
    }

    fn check<'r>(&mut self, parts: &'r Parts, payload: Option<&Hash>) -> Findings<'r> {
        let statement = statement::check(&parts.statement, payload, &self.trust);
        let header = statement::check_header(&parts.batch);
        let in_batch = statement::check_in_batch(parts, &header);
        if let (Ok(_), Err(unknown @ Fault::Missing(_))) = (&parts.batch, &header) {
            let unknown = unknown.clone();
            return Findings::without_log(statement, unknown);
        }
        let checkpoint = known(&parts.log).and_then(|log| {
            self.checkpoint(&log.checkpoint).map_err(|fault| fault.within("checkpoint").within("log"))
        });
        let in_log = log::check_in_log(&parts.log, &checkpoint, &header, &mut self.in_logs);
        let anchors = self.check_anchors(parts, &checkpoint, &header);

        // A key that ended counts by the oldest trusted block of the receipt, whichever anchor that is in.
        let oldest = anchors.iter().flatten().filter_map(anchor::trusted_time).min();
        let signed = known(&checkpoint).and_then(|checkpoint| {
            checkpoint.check_signed(oldest).map_err(|fault| fault.within("checkpoint").within("log"))
        });
        let anchored = known(&parts.anchors).and_then(|_| anchor::holding(anchors, oldest));
        let trusted = known(&anchored).and_then(|anchors| anchor::oldest_trusted(anchors));
        Findings { statement, header, in_batch, checkpoint, in_log, signed, anchored, trusted }
    }

    /// Checks each anchor, with the receipt's checkpoint or with its own.
    fn check_anchors(
        &mut self,
        parts: &Parts,
        checkpoint: &Part<Arc<CheckedCheckpoint>>,
        header: &Part<CheckedHeader<'_>>,
    ) -> Vec<Part<Holding>> {
        let mut checked = Vec::new();
        for (at, part) in parts.anchors.iter().flatten().enumerate() {
            let holding = match part {
                // Its place is already in it.
                Err(fault) => Err(fault.clone()),
                Ok(AnyAnchor::Other(kind)) => {
                    let why = format!("{kind:?} is not understood");
                    Err(anchor::place(at, Fault::missing(why).within("type")))
                }
                Ok(AnyAnchor::Chainweb(anchor)) => self
                    .check_anchor(anchor, parts, checkpoint, header)
                    .map(|(anchor, own)| Holding { at, anchor, own })
                    .map_err(|fault| anchor::place(at, fault)),
            };
            checked.push(holding);
        }
        checked
    }

    fn check_anchor(
        &mut self,
        anchor: &Anchor,
        parts: &Parts,
        checkpoint: &Part<Arc<CheckedCheckpoint>>,
        header: &Part<CheckedHeader<'_>>,
    ) -> Part<(Arc<CheckedAnchor>, Option<Arc<CheckedCheckpoint>>)> {
        let Some(own) = &anchor.log else {
            let note = parts.log.as_ref().map_or("", |log| &log.checkpoint);
            let text = checkpoint.as_ref().ok().map(|checkpoint| checkpoint.text.as_str());
            return Ok((self.anchor(note, text, anchor)?, None));
        };
        let within = |fault: Fault| fault.within("log");
        let later = self.checkpoint(&own.checkpoint).map_err(|fault| within(fault.within("checkpoint")))?;
        log::check_own(&later, &own.path, checkpoint, header, &mut self.in_logs).map_err(within)?;
        Ok((self.anchor(&own.checkpoint, Some(&later.text), anchor)?, Some(later)))
    }

    /// Checks a signed note, or remembers the result.
    fn checkpoint(&mut self, note: &str) -> Part<Arc<CheckedCheckpoint>> {
        if let Some(seen) = self.seen.get(note) {
            return seen.checkpoint.clone();
        }
        let checkpoint = log::check(note, &self.trust).map(Arc::new);
        self.make_room(note.len());
        self.seen.insert(note.to_owned(), Seen { checkpoint: checkpoint.clone(), anchors: Vec::new() });
        checkpoint
    }

    /// Checks what an anchor says about the text of a checkpoint, or remembers the result.
    fn anchor(&mut self, note: &str, text: Option<&str>, anchor: &Anchor) -> Part<Arc<CheckedAnchor>> {
        let is_same = |known: &Anchor| {
            (&known.tree, &known.spv, &known.block) == (&anchor.tree, &anchor.spv, &anchor.block)
        };
        if let Some(seen) = self.seen.get(note)
            && let Some((_, checked)) = seen.anchors.iter().find(|(known, _)| is_same(known))
        {
            return checked.clone();
        }
        let checked = anchor::check(anchor, text, &self.trust).map(Arc::new);
        self.make_room(anchor.spv.object.len() + anchor.spv.input.len() + anchor.block.header.len());
        if let Some(seen) = self.seen.get_mut(note)
            && seen.anchors.len() < MAX_KEPT_ANCHORS
        {
            seen.anchors.push((anchor.clone(), checked.clone()));
        }
        checked
    }

    /// Forgets everything where `more` bytes would be too many; an entry has some 1 KiB beside its bytes.
    fn make_room(&mut self, more: usize) {
        self.kept += more + 1024;
        if self.kept > MAX_KEPT {
            self.seen.clear();
            self.kept = more + 1024;
        }
    }

    /// What the trust file says about the statement's key, given the creation time of the oldest trusted block.
    fn device(&self, statement: &Statement<'_>, not_after: Option<i64>) -> Device {
        let Attestation::Signed { key, .. } = statement.attestation else { return Device::Unsigned };
        match self.trust.device_until(statement.event.tenant, statement.event.source, key) {
            Some(None) => Device::Valid,
            Some(Some(until)) if not_after.is_some_and(|time| time <= until) => Device::Valid,
            Some(Some(_)) | None => Device::UnknownKey,
        }
    }
}

impl<'r> Findings<'r> {
    /// What is found where the hash of the log is not understood.
    fn without_log(statement: Part<Statement<'r>>, unknown: Fault) -> Self {
        Self {
            statement,
            header: Err(unknown.clone()),
            in_batch: Err(unknown.clone()),
            checkpoint: Err(unknown.clone()),
            in_log: Err(unknown.clone()),
            signed: Err(unknown.clone()),
            anchored: Err(unknown.clone()),
            trusted: Err(unknown),
        }
    }

    /// The first thing wrong, else the first thing missing.
    fn fault(&self) -> Option<Fault> {
        let faults = [
            self.statement.as_ref().err(),
            self.header.as_ref().err(),
            self.in_batch.as_ref().err(),
            self.checkpoint.as_ref().err(),
            self.in_log.as_ref().err(),
            self.signed.as_ref().err(),
            self.anchored.as_ref().err(),
            self.trusted.as_ref().err(),
        ];
        let mut faults = faults.into_iter().flatten();
        let first = faults.clone().next();
        faults.find(|fault| matches!(fault, Fault::Wrong(_))).or(first).cloned()
    }
}

/// The result of an earlier check, or its fault once more.
fn known<T>(part: &Part<T>) -> Part<&T> {
    part.as_ref().map_err(Clone::clone)
}

/// Puts a fault of a path's check into the member it is about.
fn in_path(error: ProofError) -> Fault {
    let member = if matches!(error, ProofError::Index { .. }) { "index" } else { "path" };
    Fault::wrong(error).within(member)
}

fn event_name(statement: &Statement<'_>) -> EventName {
    let event = statement.event;
    EventName { tenant: event.tenant.to_owned(), source: event.source.to_owned(), id: event.id.to_owned() }
}
