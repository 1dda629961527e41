//! The statement, the batch header, and the one in the other.

use super::{in_path, known};
use crate::batch::BatchHeader;
use crate::fault::{Fault, Part};
use crate::hash::{Algorithm, Hash};
use crate::receipt::{BatchProof, Parts};
use crate::statement::{Attestation, Statement};
use crate::tree::verify_inclusion;
use crate::trust::Trust;

/// A well-formed batch header of a log whose hash is understood.
#[derive(Clone, Copy)]
pub(super) struct CheckedHeader<'r> {
    pub(super) fields: BatchHeader<'r>,
    pub(super) algorithm: Algorithm,
    /// The header's leaf hash in the log.
    pub(super) id: Hash,
}

/// Checks that the statement is well formed, its signature right, and the payload the one that it is about.
pub(super) fn check<'r>(
    statement: &'r Part<Vec<u8>>,
    payload: Option<&Hash>,
    trust: &Trust,
) -> Part<Statement<'r>> {
    let wrong = |error| Fault::wrong(error).within("statement");
    let statement = Statement::decode(known(statement)?).map_err(wrong)?;
    let decoded = match statement.attestation {
        Attestation::Signed { key, .. } => trust.device_key(key),
        Attestation::Unsigned { .. } => None,
    };
    match decoded {
        Some(key) => statement.verify_with(key),
        None => statement.verify(),
    }
    .map_err(wrong)?;
    match payload {
        Some(payload) if *payload != statement.event.digest => {
            let why = format!("the payload's SHA-256 is {payload}, not {}", statement.event.digest);
            Err(Fault::wrong(why).within("statement"))
        }
        _ => Ok(statement),
    }
}

/// Checks that the batch header is well formed and its hash understood.
pub(super) fn check_header(batch: &Part<BatchProof>) -> Part<CheckedHeader<'_>> {
    let place = |fault: Fault| fault.within("header").within("batch");
    let batch = known(batch)?;
    let fields = BatchHeader::decode(&batch.header).map_err(|error| place(Fault::wrong(error)))?;
    let Some(algorithm) = fields.algorithm() else {
        let why = format!("the hash {:?} is not understood", fields.origin.hash_name());
        return Err(place(Fault::missing(why)));
    };
    Ok(CheckedHeader { fields, algorithm, id: algorithm.leaf(&batch.header) })
}

/// A statement's place in its batch.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    pub(super) index: u64,
    pub(super) hash: Hash,
}

/// Checks that the statement is a leaf of the batch.
pub(super) fn check_in_batch(parts: &Parts, header: &Part<CheckedHeader<'_>>) -> Part<Leaf> {
    let (statement, batch, header) = (known(&parts.statement)?, known(&parts.batch)?, known(header)?);
    let leaf = Leaf { index: batch.index, hash: header.algorithm.leaf(statement) };
    let (size, root) = (header.fields.leaf_count, &header.fields.root);
    verify_inclusion(header.algorithm, &leaf.hash, leaf.index, size, &batch.path, root)
        .map_err(|error| in_path(error).within("batch"))?;
    Ok(leaf)
}
