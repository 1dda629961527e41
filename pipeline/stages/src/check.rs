//! The last look at a batch before it is told of: everything a stranger would check, from the stored bytes.

use std::collections::BTreeSet;

use killick_proof::Hash;
use killick_proof::receipt::{Anchor, BatchProof, LogProof, Parts, Receipt};
use killick_proof::report::{Level, Verdict};
use killick_proof::statement::Statement;
use killick_proof::verify::Verifier;

use crate::derive::tree_of;
use crate::record::Micros;
use crate::stage::{StoredBatch, Sum};

/// What is told of a batch that passed.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The batch's number in the log.
    pub(crate) number: u64,
    /// The batch id.
    pub(crate) id: Hash,
    /// The events in it.
    pub(crate) leaves: u64,
    /// First and last log time.
    pub(crate) times: (Micros, Micros),
    /// The tenants of the events, ascending.
    pub(crate) tenants: Vec<Box<str>>,
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
    stored: &StoredBatch,
    origin: &str,
    number: u64,
    checkpoint: &str,
    anchor: &Anchor,
) -> Result<Checked, String> {
    let (tree, header) = tree_of(&stored.batch)?;
    if header.origin.as_str() != origin || header.number != number {
        return Err(format!("it is batch {} of {}", header.number, header.origin));
    }
    let mut tenants = BTreeSet::new();
    let mut events = Sum::default();
    for statement in &stored.batch.statements {
        events.add(statement);
        let statement = Statement::decode(statement).map_err(|error| error.to_string())?;
        tenants.insert(statement.event.tenant);
    }
    let id = tree.algorithm().leaf(&stored.batch.header);
    let chosen = u64::from_be_bytes(*id.as_bytes().first_chunk().expect("a hash has more than eight bytes"));
    let index = chosen.checked_rem(tree.size()).ok_or("it has no statements")?;
    let place = usize::try_from(index).map_err(|error| error.to_string())?;
    let receipt = Receipt {
        statement: stored.batch.statements.get(place).ok_or("it has no statements")?.to_vec(),
        batch: BatchProof {
            header: stored.batch.header.to_vec(),
            index,
            path: tree.inclusion_path(index).map_err(|error| error.to_string())?,
        },
        log: LogProof {
            checkpoint: checkpoint.to_owned(),
            index: number,
            path: stored.path.iter().copied().map(Hash::new).collect(),
        },
        anchors: vec![anchor.clone()],
    };
    let report = verifier.verify_parts(&Parts::from(receipt), None);
    match (report.verdict(Level::Anchored), report.fault) {
        (Verdict::Reached, _) => Ok(Checked {
            number,
            id,
            leaves: tree.size(),
            times: (header.first_time, header.last_time),
            tenants: tenants.into_iter().map(Into::into).collect(),
            events,
        }),
        (_, Some(fault)) => Err(format!("the receipt of its event {index} does not verify: {fault}")),
        (_, None) => Err(format!("the receipt of its event {index} reaches only the level {}", report.level)),
    }
}
