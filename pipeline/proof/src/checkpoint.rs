//! Checkpoints.
use crate::hash::Hash;
use crate::note::{NoteError, SignerKey};
use crate::origin::{Origin, OriginError};
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckpointError { #[error("lines")] Lines, #[error("origin: {0}")] Origin(#[from] OriginError), #[error("size")] Size, #[error("root")] Root }
/// Checkpoint: the note text
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Checkpoint<'a> { pub origin: &'a str, pub size: u64, pub root: Hash, pub extensions: &'a str }
#[allow(missing_docs)]
impl<'a> Checkpoint<'a> {
    /// any C2SP checkpoint text (a root of 32 bytes)
    pub fn parse(_text: &'a str) -> Result<Self, CheckpointError> { todo!() }
    /// the rules of our own logs: size at least 1, origin of our form
    pub fn log_origin(&self) -> Result<Origin<'a>, CheckpointError> { todo!() }
    pub fn to_text(&self) -> String { todo!() }
    pub fn sign(&self, _signer: &SignerKey) -> Result<String, NoteError> { todo!() }
}
