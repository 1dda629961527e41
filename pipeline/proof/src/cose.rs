//! COSE Receipts (RFC 9942): that a batch is in its log, for programs that know COSE and nothing of Killick.
//!
//! A receipt is a tagged COSE_Sign1 whose payload, the root of the log, is left out: who verifies computes it from the
//! batch header, which is the entry, and the path. So its signature is over the same root as a checkpoint's is, by the
//! same key. Deterministic CBOR throughout:
//!
//! ```text
//! 18([ << { 1: -8,                                   alg: EdDSA, here Ed25519
//!           4: h'…',                                 kid: the key's id as in the signature lines of notes, 4 bytes
//!           15: { 1: "…", "tree-size": … },          CWT claims: iss, the origin of the log, and the size of its tree
//!           395: 1 } >>,                             the structure: RFC9162_SHA256
//!      { 396: { -1: [ << [size, index, [path …]] >> ] } },
//!      null, h'signature' ])
//! ```
//!
//! An inclusion path proves its leaf in trees of some other sizes, too, and RFC 9942 has the size among what is not
//! signed: so it stands among what is, as a claim. A path has at least one hash there: the only leaf of a log has no receipt.

use crate::batch::{BatchError, BatchHeader};
use crate::cbor::Writer;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::{Algorithm, Hash};
use crate::note::{Note, NoteError, SignerKey, Verdict};
use crate::receipt::LogProof;
use crate::tree::{ProofError, verify_inclusion};

/// The name of the claim that says of how many leaves the tree is.
pub const TREE_SIZE: &str = "tree-size";

/// Why a batch gets no COSE Receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// The batch header is none.
    #[error("batch header: {0}")]
    Header(#[from] BatchError),
    /// The log has another hash than SHA-256.
    #[error("the log's hash is {0}; a COSE receipt is of a tree of sha256")]
    Hash(String),
    /// The checkpoint is no signed note.
    #[error("checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The note is no checkpoint of a log.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Batch, checkpoint and key are not all of one log.
    #[error("the batch is of {batch}, the checkpoint of {checkpoint}, and the key that of {key}")]
    Log {
        /// The origin in the batch header.
        batch: String,
        /// The origin in the checkpoint.
        checkpoint: String,
        /// The key's name.
        key: String,
    },
    /// The key has not signed this checkpoint, so it signs no receipt of it.
    #[error(
        "the checkpoint of size {size} is not signed by the key {key}: nothing is signed that was not signed before"
    )]
    NotSigned {
        /// The checkpoint's tree size.
        size: u64,
        /// The key's name.
        key: String,
    },
    /// The batch is the only leaf of the checkpoint's tree.
    #[error(
        "the batch is the only one in its checkpoint, and a COSE receipt has a path of at least one hash"
    )]
    OnlyLeaf,
    /// The batch is not in the checkpoint's tree.
    #[error("the batch is not in the log: {0}")]
    Proof(#[from] ProofError),
}

/// The receipt of the batch with this header, signed anew by the key of its log.
///
/// The key says nothing that it has not said: its own right signature has to be in the checkpoint, and the batch in the
/// checkpoint's tree. Deterministic, as Ed25519 is.
///
/// # Errors
/// [`CoseError`]; of these only [`CoseError::OnlyLeaf`] and [`CoseError::Hash`] are nobody's mistake.
pub fn receipt(header: &[u8], log: &LogProof, key: &SignerKey) -> Result<Vec<u8>, CoseError> {
    let batch = BatchHeader::decode(header)?;
    if batch.algorithm() != Some(Algorithm::Sha256) {
        return Err(CoseError::Hash(batch.origin.hash_name().to_owned()));
    }
    let note = Note::parse(&log.checkpoint)?;
    let checkpoint = Checkpoint::parse(note.text())?;
    let origin = checkpoint.log_origin()?.as_str();
    if batch.origin.as_str() != origin || key.name() != origin {
        return Err(CoseError::Log {
            batch: batch.origin.to_string(),
            checkpoint: origin.to_owned(),
            key: key.name().to_owned(),
        });
    }
    if note.verdict(&key.verifier()) != Verdict::Valid {
        return Err(CoseError::NotSigned { size: checkpoint.size, key: origin.to_owned() });
    }
    let leaf = Algorithm::Sha256.leaf(header);
    let (size, root) = (checkpoint.size, &checkpoint.root);
    verify_inclusion(Algorithm::Sha256, &leaf, batch.number, size, &log.path, root)?;
    if log.path.is_empty() {
        return Err(CoseError::OnlyLeaf);
    }
    let protected = protected(key, size);
    let signature = key.sign_cose(&to_be_signed(&protected, root));
    let mut out = Vec::with_capacity(192 + protected.len() + 34 * log.path.len());
    let mut writer = Writer::new(&mut out);
    writer.tag(18).array(4).bytes(&protected);
    writer.map(1).uint(396).map(1).int(-1).array(1).bytes(&inclusion(size, batch.number, &log.path));
    writer.null().bytes(&signature);
    Ok(out)
}

/// What the signature covers beside the root.
fn protected(key: &SignerKey, size: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + key.name().len());
    let mut writer = Writer::new(&mut out);
    writer.map(4).uint(1).int(-8);
    writer.uint(4).bytes(&key.id().to_be_bytes());
    writer.uint(15).map(2).uint(1).text(key.name()).text(TREE_SIZE).uint(size);
    writer.uint(395).uint(1);
    out
}

/// The `Sig_structure` (RFC 9052 section 4.4).
fn to_be_signed(protected: &[u8], root: &Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(56 + protected.len());
    Writer::new(&mut out).array(4).text("Signature1").bytes(protected).bytes(&[]).bytes(root.as_bytes());
    out
}

/// An inclusion proof (RFC 9942 section 5.2).
fn inclusion(size: u64, index: u64, path: &[Hash]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + 34 * path.len());
    let mut writer = Writer::new(&mut out);
    writer.array(3).uint(size).uint(index).array(path.len());
    for hash in path {
        writer.bytes(hash.as_bytes());
    }
    out
}
