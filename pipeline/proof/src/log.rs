//! A log as its size and right edge.
use crate::hash::{Algorithm, Hash};
use crate::cbor::CborError;
/// A complete subtree: `level` 0 is a leaf, `index` counts subtrees of that level from the left
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct NodeId { pub level: u32, pub index: u64 }
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LogError {
    #[error("{0}")] Cbor(#[from] CborError),
    #[error("full")] Full,
    #[error("missing {0:?}")] Missing(NodeId),
}
/// Log
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log { algorithm: Algorithm, size: u64, edge: Vec<Hash> }
#[allow(missing_docs)]
impl Log {
    pub fn new(algorithm: Algorithm) -> Self { Self { algorithm, size: 0, edge: Vec::new() } }
    pub fn algorithm(&self) -> Algorithm { self.algorithm }
    pub fn size(&self) -> u64 { self.size }
    pub fn edge(&self) -> &[Hash] { &self.edge }
    /// Calls `made` for each complete subtree that the leaf completes, the leaf itself first
    pub fn append(&mut self, _leaf: Hash, _made: impl FnMut(NodeId, Hash)) -> Result<(), LogError> { todo!() }
    pub fn root(&self) -> Hash { todo!() }
    pub fn encode(&self) -> Vec<u8> { todo!() }
    pub fn decode(_bytes: &[u8]) -> Result<Self, LogError> { todo!() }
}
/// the stored nodes that `inclusion_path` will read
pub fn inclusion_nodes(_index: u64, _size: u64) -> Result<Vec<NodeId>, LogError> { todo!() }
/// path from stored nodes
pub fn inclusion_path(_algorithm: Algorithm, _index: u64, _size: u64, _read: impl FnMut(NodeId) -> Option<Hash>) -> Result<Vec<Hash>, LogError> { todo!() }
/// the stored nodes that `consistency_path` will read
pub fn consistency_nodes(_size1: u64, _size2: u64) -> Result<Vec<NodeId>, LogError> { todo!() }
/// path from stored nodes
pub fn consistency_path(_algorithm: Algorithm, _size1: u64, _size2: u64, _read: impl FnMut(NodeId) -> Option<Hash>) -> Result<Vec<Hash>, LogError> { todo!() }
