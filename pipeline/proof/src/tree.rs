//! RFC 9162 trees.
use crate::hash::{Algorithm, Hash};
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProofError {
    #[error("no leaf {index} in a tree of {size}")] Index { index: u64, size: u64 },
    #[error("sizes {size1} and {size2}")] Sizes { size1: u64, size2: u64 },
    #[error("path of {found} hashes, not {expected}")] Length { expected: usize, found: usize },
    #[error("another root")] Root,
}
/// Tree
#[derive(Clone, Debug)]
pub struct Tree { algorithm: Algorithm, size: usize, nodes: Vec<Hash> }
#[allow(missing_docs)]
impl Tree {
    pub fn new(algorithm: Algorithm, leaves: Vec<Hash>) -> Self { Self { algorithm, size: leaves.len(), nodes: leaves } }
    pub fn algorithm(&self) -> Algorithm { self.algorithm }
    pub fn size(&self) -> u64 { self.size as u64 }
    pub fn root(&self) -> Hash { let _ = &self.nodes; todo!() }
    pub fn inclusion_path(&self, _index: u64) -> Result<Vec<Hash>, ProofError> { todo!() }
    /// appends to out
    pub fn inclusion_path_into(&self, _index: u64, _out: &mut Vec<Hash>) -> Result<(), ProofError> { todo!() }
    pub fn consistency_path(&self, _size1: u64) -> Result<Vec<Hash>, ProofError> { todo!() }
}
/// check
pub fn verify_inclusion(_algorithm: Algorithm, _leaf: &Hash, _index: u64, _size: u64, _path: &[Hash], _root: &Hash) -> Result<(), ProofError> { todo!() }
/// check
pub fn verify_consistency(_algorithm: Algorithm, _size1: u64, _root1: &Hash, _size2: u64, _root2: &Hash, _path: &[Hash]) -> Result<(), ProofError> { todo!() }
