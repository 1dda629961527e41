//! Batch headers.
use crate::cbor::CborError;
use crate::hash::{Algorithm, Hash};
use crate::origin::{Origin, OriginError};
/// Header; the hash algorithm is the origin's
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BatchHeader<'a> {
    pub origin: Origin<'a>,
    pub number: u64,
    pub first_offset: u64,
    pub last_offset: u64,
    pub first_time: i64,
    pub last_time: i64,
    pub leaf_count: u64,
    pub root: Hash,
    pub duplicates: u64,
    pub conflicts: u64,
}
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BatchError {
    #[error("{field}: {cause}")] Cbor { field: &'static str, cause: CborError },
    #[error("origin: {0}")] Origin(#[from] OriginError),
}
#[allow(missing_docs)]
impl<'a> BatchHeader<'a> {
    pub fn decode(_bytes: &'a [u8]) -> Result<Self, BatchError> { todo!() }
    pub fn encode(&self) -> Result<Vec<u8>, BatchError> { todo!() }
    pub fn algorithm(&self) -> Option<Algorithm> { self.origin.algorithm() }
    /// leaf hash in the log = batch id; None for an unknown algorithm
    pub fn id(&self) -> Result<Option<Hash>, BatchError> { todo!() }
}
