//! The last look at a batch before it is told of: everything a stranger would check, from the stored bytes.

use killick_proof::Hash;
use killick_proof::receipt::{Anchor, LogProof, Parts, Receipt};
use killick_proof::report::{Level, Report, Verdict};
use killick_proof::verify::Verifier;

use crate::derive::Receipts;
use crate::ready::ProofReady;
use crate::stage::{StoredBatch, Sum};

/// A batch that passed.
#[derive(Debug)]
pub(crate) struct Checked {
    /// What is told of it.
    pub(crate) ready: ProofReady,
    /// The receipts of its events.
    pub(crate) receipts: Receipts,
    /// The sum of the events, as they are stored.
    pub(crate) events: Sum,
}

/// Computes the root of a stored batch anew, decodes each of its statements, and has the verifier pass the receipt of one
/// of them, chosen by the batch's id, signature and all, up to the level `anchored`.
///
/// # Errors
/// What does not hold.
pub(crate) fn check_batch(
    verifier: &mut Verifier,
    stored: StoredBatch,
    origin: &str,
    number: u64,
    checkpoint: &str,
    anchor: &Anchor,
) -> Result<Checked, String> {
    let StoredBatch { batch, path } = stored;
    let mut events = Sum::default();
    batch.statements.iter().for_each(|statement| events.add(statement));
    let log = LogProof {
        checkpoint: checkpoint.to_owned(),
        index: number,
        path: path.into_iter().map(Hash::new).collect(),
    };
    let receipts = Receipts::new(batch.header, batch.statements, log, vec![anchor.clone()])?;
    let ready = receipts.ready()?;
    if &*ready.origin != origin || ready.number != number {
        return Err(format!("it is batch {} of {}", ready.number, ready.origin));
    }
    let id = receipts.batch();
    let chosen = u64::from_be_bytes(*id.as_bytes().first_chunk().expect("a hash has more than eight bytes"));
    let index = chosen.checked_rem(receipts.count()).ok_or("it has no statements")?;
    let receipt = receipts.get(index).ok_or("it has no statements")?;
    judge(index, verifier.verify_parts(&Parts::from(receipt), None))?;
    Ok(Checked { ready, receipts, events })
}

/// Has the verifier pass a receipt as it will be published, byte for byte, and returns these bytes.
///
/// # Errors
/// What does not hold.
pub(crate) fn check_receipt(
    verifier: &mut Verifier,
    index: u64,
    receipt: &Receipt,
) -> Result<String, String> {
    let receipt = receipt.to_json();
    judge(index, verifier.verify(receipt.as_bytes(), None))?;
    Ok(receipt)
}

/// Whether a receipt reached the level that every published one has.
fn judge(index: u64, report: Report) -> Result<(), String> {
    match (report.verdict(Level::Anchored), report.fault) {
        (Verdict::Reached, _) => Ok(()),
        (_, Some(fault)) => Err(format!("the receipt of its event {index} does not verify: {fault}")),
        (_, None) => Err(format!("the receipt of its event {index} reaches only the level {}", report.level)),
    }
}
