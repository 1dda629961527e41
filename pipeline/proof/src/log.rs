//! A log as its size and the right edge of its tree: all that is needed to go on after a crash.
//!
//! Proofs come from *stored nodes*: the roots of complete subtrees, which never change once they are there.
//! [`Log::append`] names those that a leaf completes; any store that gives them back serves every proof.

use crate::cbor::{CborError, Reader, Writer};
use crate::encoding::MAX_COUNT;
use crate::hash::{Algorithm, Hash};
use crate::tree::{ProofError, Tree};

/// The root of a complete subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Its height: it has 2^level leaves, so level 0 is a leaf hash. At most 63.
    pub level: u32,
    /// Its number from the left among those of its level.
    pub index: u64,
}

/// Why a log cannot be read, extended or proven from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The encoding is wrong.
    #[error("log state: {0}")]
    Encoding(#[from] CborError),
    /// A hash that is not understood.
    #[error("log state: an unknown hash algorithm")]
    Algorithm,
    /// More leaves than 2^53 − 1.
    #[error("a log has at most 2^53 - 1 leaves, not {0}")]
    TooLarge(u64),
    /// The right edge does not fit the size: one hash for each bit of the size that is set.
    #[error("log state: a right edge of {found} bytes where a size of {size} has {expected}")]
    Edge {
        /// The log's size.
        size: u64,
        /// Bytes that the edge has to have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// There is no such proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A stored node that the proof needs is not there.
    #[error("the stored node {} of level {} is missing", .0.index, .0.level)]
    Missing(NodeId),
}

/// An append-only tree, of which only the right edge is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    algorithm: Algorithm,
    size: u64,
    /// The roots of the complete subtrees that the leaves make up, largest first: one for each bit set in `size`.
    edge: Vec<Hash>,
}

impl Log {
    /// An empty log.
    pub const fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, size: 0, edge: Vec::new() }
    }

    /// The log's hash.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees that make it up, largest first.
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Appends one leaf hash. Calls `made` with each stored node that it completes, the leaf hash first.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] for a full log.
    pub fn append(&mut self, leaf: Hash, mut made: impl FnMut(NodeId, Hash)) -> Result<(), LogError> {
        if self.size >= MAX_COUNT {
            return Err(LogError::TooLarge(self.size.saturating_add(1)));
        }
        let mut node = leaf;
        made(NodeId { level: 0, index: self.size }, node);
        for level in 1..=self.size.trailing_ones() {
            let left = self.edge.pop().expect("the edge has one hash for each bit of the size");
            node = self.algorithm.node(&left, &node);
            made(NodeId { level, index: self.size >> level }, node);
        }
        self.edge.push(node);
        self.size += 1;
        Ok(())
    }

    /// The root; of an empty log, the hash of nothing.
    pub fn root(&self) -> Hash {
        fold(self.algorithm, &self.edge).unwrap_or_else(|| self.algorithm.empty())
    }

    /// The state as bytes: a CBOR array of the algorithm's name, the size, and the edge in one byte string.
    pub fn encode(&self) -> Vec<u8> {
        let edge: Vec<u8> = self.edge.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let mut out = Vec::with_capacity(edge.len() + 32);
        Writer::new(&mut out).array(3).text(self.algorithm.name()).uint(self.size).bytes(&edge);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`LogError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let mut reader = Reader::new(bytes);
        reader.array_of(3)?;
        let algorithm = Algorithm::from_name(reader.text()?).ok_or(LogError::Algorithm)?;
        let size = reader.uint()?;
        let edge = reader.bytes()?;
        reader.finish()?;
        let (hashes, rest) = edge.as_chunks();
        if !rest.is_empty() {
            let expected = Hash::LEN * size.count_ones() as usize;
            return Err(LogError::Edge { size, expected, found: edge.len() });
        }
        Self::from_edge(algorithm, size, hashes.iter().copied().map(Hash::new).collect())
    }

    /// The log of so many leaves whose tree these complete subtrees make up, largest first.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], or [`LogError::Edge`] where it is not one hash for each bit set in the size.
    pub fn from_edge(algorithm: Algorithm, size: u64, edge: Vec<Hash>) -> Result<Self, LogError> {
        if size > MAX_COUNT {
            return Err(LogError::TooLarge(size));
        }
        let expected = Hash::LEN * size.count_ones() as usize;
        let found = Hash::LEN * edge.len();
        if found != expected {
            return Err(LogError::Edge { size, expected, found });
        }
        Ok(Self { algorithm, size, edge })
    }
}

/// The log of a tree: to go on from leaves that are all at hand.
impl From<&Tree> for Log {
    fn from(tree: &Tree) -> Self {
        let mut log = Self::new(tree.algorithm());
        for leaf in tree.leaves() {
            log.append(*leaf, |_, _| {}).expect("a tree in memory is far smaller than a log may be");
        }
        log
    }
}

/// The stored nodes that [`inclusion_path`] asks for: at most 128, to fetch them beforehand.
///
/// # Errors
/// [`ProofError::Index`].
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<NodeId>, ProofError> {
    Ok(inclusion_plan(index, size)?.concat())
}

/// The path that proves leaf `index` in the tree of the log's first `size` leaves, from stored nodes.
///
/// # Errors
/// [`LogError::Proof`] for an index beyond the size, [`LogError::Missing`] where `read` gives `None`.
pub fn inclusion_path(
    algorithm: Algorithm,
    index: u64,
    size: u64,
    read: impl FnMut(NodeId) -> Option<Hash>,
) -> Result<Vec<Hash>, LogError> {
    path(algorithm, &inclusion_plan(index, size)?, read)
}

/// The stored nodes that [`consistency_path`] asks for: at most 128, to fetch them beforehand.
///
/// # Errors
/// [`ProofError::Sizes`].
pub fn consistency_nodes(size1: u64, size2: u64) -> Result<Vec<NodeId>, ProofError> {
    Ok(consistency_plan(size1, size2)?.concat())
}

/// The path that proves that the first `size1` leaves are the beginning of the first `size2`, from stored nodes.
///
/// # Errors
/// [`LogError::Proof`] for impossible sizes, [`LogError::Missing`] where `read` gives `None`.
pub fn consistency_path(
    algorithm: Algorithm,
    size1: u64,
    size2: u64,
    read: impl FnMut(NodeId) -> Option<Hash>,
) -> Result<Vec<Hash>, LogError> {
    path(algorithm, &consistency_plan(size1, size2)?, read)
}

/// For each hash of a path the stored nodes it is made of, left to right.
type Plan = Vec<Vec<NodeId>>;

fn inclusion_plan(index: u64, size: u64) -> Result<Plan, ProofError> {
    if index < size { Ok(siblings(index, 0, size)) } else { Err(ProofError::Index { index, size }) }
}

fn consistency_plan(size1: u64, size2: u64) -> Result<Plan, ProofError> {
    if size1 == 0 || size1 > size2 {
        return Err(ProofError::Sizes { size1, size2 });
    }
    if size1 == size2 {
        return Ok(Vec::new());
    }
    let level = size1.trailing_zeros();
    let mut plan = siblings(size1 - 1, level, size2);
    if !size1.is_power_of_two() {
        plan.insert(0, vec![NodeId { level, index: (size1 >> level) - 1 }]);
    }
    Ok(plan)
}

/// The siblings on the way from leaf `index` to the root of `size` leaves, from `level` on.
fn siblings(index: u64, level: u32, size: u64) -> Plan {
    let last = size - 1;
    let height = u64::BITS - last.leading_zeros();
    (level..height)
        .map(|level| NodeId { level, index: (index >> level) ^ 1 })
        .filter(|sibling| sibling.index <= last >> sibling.level)
        .map(|sibling| complete_subtrees(sibling, size))
        .collect()
}

/// The complete subtrees that make up a node in the tree of `size` leaves: itself, or its part of the right edge.
fn complete_subtrees(node: NodeId, size: u64) -> Vec<NodeId> {
    let mut start = node.index << node.level;
    let left = size - start;
    if left >> node.level > 0 {
        return vec![node];
    }
    let mut parts = Vec::with_capacity(left.count_ones() as usize);
    for level in (0..node.level).rev().filter(|level| left >> level & 1 == 1) {
        parts.push(NodeId { level, index: start >> level });
        start += 1 << level;
    }
    parts
}

fn path(
    algorithm: Algorithm,
    plan: &Plan,
    mut read: impl FnMut(NodeId) -> Option<Hash>,
) -> Result<Vec<Hash>, LogError> {
    let mut read = |&id: &NodeId| read(id).ok_or(LogError::Missing(id));
    plan.iter()
        .map(|nodes| {
            let hashes = nodes.iter().map(&mut read).collect::<Result<Vec<_>, _>>()?;
            Ok(fold(algorithm, &hashes).expect("a node has at least one complete subtree"))
        })
        .collect()
}

/// The node over complete subtrees that stand side by side, largest first.
fn fold(algorithm: Algorithm, subtrees: &[Hash]) -> Option<Hash> {
    subtrees.iter().rev().copied().reduce(|right, left| algorithm.node(&left, &right))
}

#[cfg(test)]
mod tests;
