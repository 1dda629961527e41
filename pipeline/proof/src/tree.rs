//! Merkle trees of RFC 9162 section 2.1: building them, and the strict checks of their proofs.

use crate::hash::{Algorithm, Hash};

/// Why a proof is refused, or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("no leaf {index} in a tree of {size}")]
    Index {
        /// The leaf index.
        index: u64,
        /// The tree size.
        size: u64,
    },
    /// The old tree is empty or larger than the new one.
    #[error("a tree of {size1} leaves is no beginning of one of {size2} that can be proven")]
    Sizes {
        /// The size of the old tree.
        size1: u64,
        /// The size of the new tree.
        size2: u64,
    },
    /// Sizes and index leave only one length for a path.
    #[error("a path of {found} hashes where {expected} are needed")]
    Length {
        /// Hashes that the path has to have.
        expected: usize,
        /// Hashes that it has.
        found: usize,
    },
    /// The path leads to another root, or (consistency) to another new root.
    #[error("the path leads to another root")]
    Root,
    /// The path of a consistency proof leads to another old root.
    #[error("the path leads to another old root")]
    OldRoot,
}

/// A tree with all its nodes, 64 bytes a leaf: a path is copied out of it and hashes nothing.
#[derive(Clone, Debug)]
pub struct Tree {
    algorithm: Algorithm,
    size: usize,
    /// Level upon level, leaf hashes first, the root last. A node without a sibling stands in the next level too.
    nodes: Vec<Hash>,
}

impl Tree {
    /// Builds the tree over these leaf hashes.
    pub fn new(algorithm: Algorithm, leaves: Vec<Hash>) -> Self {
        let size = leaves.len();
        let mut nodes = leaves;
        nodes.reserve_exact(levels(size).skip(1).sum());
        let (mut start, mut level) = (0, Vec::with_capacity(size.div_ceil(2)));
        for length in levels(size).skip(1) {
            let (pairs, alone) = nodes[start..].as_chunks();
            algorithm.nodes(pairs, &mut level);
            level.extend_from_slice(alone);
            debug_assert_eq!(level.len(), length, "a level is half as long as the one below");
            start = nodes.len();
            nodes.append(&mut level);
        }
        Self { algorithm, size, nodes }
    }

    /// The hash it is built with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.size as u64
    }

    /// The leaf hashes.
    pub fn leaves(&self) -> &[Hash] {
        &self.nodes[..self.size]
    }

    /// The root; of no leaves, the hash of nothing.
    pub fn root(&self) -> Hash {
        self.nodes.last().copied().unwrap_or_else(|| self.algorithm.empty())
    }

    /// The path that proves the leaf at `index` (RFC 9162 section 2.1.3.1), leaf-most sibling first.
    ///
    /// # Errors
    /// [`ProofError::Index`].
    pub fn inclusion_path(&self, index: u64) -> Result<Vec<Hash>, ProofError> {
        let mut path = Vec::with_capacity(levels(self.size).count());
        self.inclusion_path_into(index, &mut path)?;
        Ok(path)
    }

    /// The same, appended to `path`: no allocation where there is room.
    ///
    /// # Errors
    /// [`ProofError::Index`]; `path` stays as it was.
    pub fn inclusion_path_into(&self, index: u64, path: &mut Vec<Hash>) -> Result<(), ProofError> {
        match usize::try_from(index) {
            Ok(leaf) if leaf < self.size => self.siblings(leaf, 0, path),
            _ => return Err(ProofError::Index { index, size: self.size() }),
        }
        Ok(())
    }

    /// The path that proves that the tree of the first `size1` leaves is its beginning (RFC 9162 section 2.1.4.1).
    ///
    /// # Errors
    /// [`ProofError::Sizes`] for 0 and for more leaves than there are.
    pub fn consistency_path(&self, size1: u64) -> Result<Vec<Hash>, ProofError> {
        let old = match usize::try_from(size1) {
            Ok(old) if (1..=self.size).contains(&old) => old,
            _ => return Err(ProofError::Sizes { size1, size2: self.size() }),
        };
        let mut path = Vec::with_capacity(levels(self.size).count() + 1);
        if old < self.size {
            let shift = old.trailing_zeros() as usize;
            if !old.is_power_of_two() {
                path.push(self.nodes[levels(self.size).take(shift).sum::<usize>() + (old >> shift) - 1]);
            }
            self.siblings(old - 1, shift, &mut path);
        }
        Ok(path)
    }

    /// Appends the siblings on the way from `leaf` to the root, from `level` on.
    fn siblings(&self, leaf: usize, level: usize, path: &mut Vec<Hash>) {
        let mut start = 0;
        for (height, length) in levels(self.size).enumerate() {
            let sibling = (leaf >> height) ^ 1;
            if height >= level && sibling < length {
                path.push(self.nodes[start + sibling]);
            }
            start += length;
        }
    }
}

/// The lengths of the levels of a tree of `size` leaves: `size` first, 1 last. None for an empty tree.
fn levels(size: usize) -> impl Iterator<Item = usize> {
    let first = (size > 0).then_some(size);
    std::iter::successors(first, |&length| (length > 1).then(|| length.div_ceil(2)))
}

/// Checks that `leaf` is at `index` in the tree of `size` leaves with this `root`.
///
/// Accepts exactly what the algorithm of RFC 9162 section 2.1.3.2 accepts. At most 64 hashes; allocates nothing.
/// A path also proves its leaf in some neighbouring sizes: the size has to be signed or anchored with the root.
///
/// # Errors
/// [`ProofError`] says which: no such index, a path of another length, another root.
pub fn verify_inclusion(
    algorithm: Algorithm,
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let way = Way::of(index, size);
    let expected = way.inner + way.border;
    if path.len() != expected {
        return Err(ProofError::Length { expected, found: path.len() });
    }
    let (inner, border) = path.split_at(way.inner);
    let mut node = *leaf;
    for (height, sibling) in inner.iter().enumerate() {
        let is_right = index >> height & 1 == 1;
        node = if is_right { algorithm.node(sibling, &node) } else { algorithm.node(&node, sibling) };
    }
    for sibling in border {
        node = algorithm.node(sibling, &node);
    }
    if node == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `size1` leaves with `root1` is the beginning of the tree of `size2` leaves with `root2`.
///
/// Accepts exactly what the algorithm of RFC 9162 section 2.1.4.2 accepts; of equal sizes, equal roots and no path.
/// Nothing can be proven about an empty tree, so `size1` 0 is refused.
///
/// # Errors
/// [`ProofError`] says which: impossible sizes, a path of another length, another root.
pub fn verify_consistency(
    algorithm: Algorithm,
    size1: u64,
    root1: &Hash,
    size2: u64,
    root2: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if size1 == 0 || size1 > size2 {
        return Err(ProofError::Sizes { size1, size2 });
    }
    let expected = consistency_length(size1, size2);
    if path.len() != expected {
        return Err(ProofError::Length { expected, found: path.len() });
    }
    if size1 == size2 {
        return if root1 == root2 { Ok(()) } else { Err(ProofError::Root) };
    }
    // The way starts at the largest complete subtree that ends the old tree: the old root itself, or the first hash.
    let shift = size1.trailing_zeros() as usize;
    let (start, path) = match path.split_first() {
        Some((first, rest)) if !size1.is_power_of_two() => (first, rest),
        _ => (root1, path),
    };
    let (inner, border) = path.split_at(Way::of(size1 - 1, size2).inner - shift);
    let (mut old, mut new) = (*start, *start);
    for (height, sibling) in (shift..).zip(inner) {
        if (size1 - 1) >> height & 1 == 1 {
            old = algorithm.node(sibling, &old);
            new = algorithm.node(sibling, &new);
        } else {
            new = algorithm.node(&new, sibling); // right of the old tree
        }
    }
    for sibling in border {
        old = algorithm.node(sibling, &old);
        new = algorithm.node(sibling, &new);
    }
    if old != *root1 {
        return Err(ProofError::OldRoot);
    }
    if new == *root2 { Ok(()) } else { Err(ProofError::Root) }
}

/// Hashes in the consistency path from `size1` to `size2`, for `1 <= size1 <= size2`.
fn consistency_length(size1: u64, size2: u64) -> usize {
    if size1 == size2 {
        return 0;
    }
    let way = Way::of(size1 - 1, size2);
    usize::from(!size1.is_power_of_two()) + way.inner - size1.trailing_zeros() as usize + way.border
}

/// The way from a leaf to the root, in hashes.
struct Way {
    /// As long as the way differs from that of the last leaf: a sibling at every height, left or right by the index.
    inner: usize,
    /// Along the right edge, where only left siblings exist: one for every bit that is left of the index.
    border: usize,
}

impl Way {
    /// For `index < size`.
    fn of(index: u64, size: u64) -> Self {
        let inner = u64::BITS - (index ^ (size - 1)).leading_zeros();
        let border = index.checked_shr(inner).unwrap_or(0).count_ones();
        Self { inner: inner as usize, border: border as usize }
    }
}

#[cfg(test)]
mod tests;
