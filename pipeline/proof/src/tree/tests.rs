use std::collections::HashMap;
use std::ops::Range;

use proptest::prelude::*;
use rs_merkle::{Hasher, MerkleTree};

use super::*;

/// The definitions of RFC 9162 section 2.1, word by word, over a range of leaves. What was hashed once is kept.
struct Naive {
    algorithm: Algorithm,
    leaves: Vec<Hash>,
    known: HashMap<Range<usize>, Hash>,
}

impl Naive {
    fn new(algorithm: Algorithm, size: usize) -> Self {
        Self { algorithm, leaves: leaves(algorithm, size), known: HashMap::new() }
    }

    /// MTH, section 2.1.1.
    fn root(&mut self, range: Range<usize>) -> Hash {
        match range.len() {
            0 => return self.algorithm.digest(b""),
            1 => return self.leaves[range.start],
            _ => {}
        }
        if let Some(root) = self.known.get(&range) {
            return *root;
        }
        let split = range.start + largest_power_of_two_below(range.len());
        let (left, right) = (self.root(range.start..split), self.root(split..range.end));
        let root = self.algorithm.digest(&[&[0x01][..], left.as_ref(), right.as_ref()].concat());
        self.known.insert(range, root);
        root
    }

    /// PATH, section 2.1.3.1; `index` counts from the first leaf of all.
    fn path(&mut self, index: usize, range: Range<usize>) -> Vec<Hash> {
        if range.len() == 1 {
            return Vec::new();
        }
        let split = range.start + largest_power_of_two_below(range.len());
        let (left, right) = (range.start..split, split..range.end);
        let (near, far) = if index < split { (left, right) } else { (right, left) };
        let mut path = self.path(index, near);
        path.push(self.root(far));
        path
    }

    /// SUBPROOF, section 2.1.4.1, for the old tree that ends before leaf `end`.
    fn subproof(&mut self, end: usize, range: Range<usize>, is_whole: bool) -> Vec<Hash> {
        if end == range.end {
            return if is_whole { Vec::new() } else { vec![self.root(range)] };
        }
        let split = range.start + largest_power_of_two_below(range.len());
        let (left, right) = (range.start..split, split..range.end);
        let (near, far, is_whole) = if end <= split { (left, right, is_whole) } else { (right, left, false) };
        let mut path = self.subproof(end, near, is_whole);
        path.push(self.root(far));
        path
    }
}

fn largest_power_of_two_below(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The check of RFC 9162 section 2.1.3.2, word by word.
fn naive_verify(
    algorithm: Algorithm,
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut f, mut s, mut r) = (index, size - 1, *leaf);
    for p in path {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            r = algorithm.node(p, &r);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            r = algorithm.node(&r, p);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && r == *root
}

fn leaves(algorithm: Algorithm, size: usize) -> Vec<Hash> {
    (0..size).map(|index| algorithm.leaf(&index.to_le_bytes())).collect()
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap()
}

/// The published root over the leaves of RFC 6962's test vectors, and of no leaf at all.
#[test]
fn the_roots_are_the_published_ones() {
    let inputs =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let leaves: Vec<_> =
        inputs.iter().map(|leaf| Algorithm::Sha256.leaf(&hex::decode(leaf).unwrap())).collect();
    let root = Tree::new(Algorithm::Sha256, leaves).root();
    assert_eq!(hex::encode(root), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    assert_eq!(Tree::new(Algorithm::Sha256, Vec::new()).root(), Algorithm::Sha256.empty());
}

#[test]
fn each_leaf_of_every_tree_up_to_300_proves_itself_and_no_other() {
    for algorithm in Algorithm::ALL {
        let mut naive = Naive::new(algorithm, 300);
        let all = naive.leaves.clone();
        for size in 1..=all.len() {
            let tree = Tree::new(algorithm, all[..size].to_vec());
            let root = tree.root();
            assert_eq!(root, naive.root(0..size), "{size}");
            for index in 0..size {
                let path = tree.inclusion_path(count(index)).unwrap();
                assert_eq!(path, naive.path(index, 0..size), "leaf {index} of {size}");
                let verify =
                    |leaf: &Hash, index| verify_inclusion(algorithm, leaf, index, count(size), &path, &root);
                assert_eq!(verify(&all[index], count(index)), Ok(()), "leaf {index} of {size}");
                let other = (index + 1) % all.len();
                assert_eq!(
                    verify(&all[other], count(index)),
                    Err(ProofError::Root),
                    "leaf {other} as {index} of {size}"
                );
            }
            assert_eq!(
                tree.inclusion_path(count(size)),
                Err(ProofError::Index { index: count(size), size: count(size) })
            );
        }
    }
}

#[test]
fn a_wrong_index_size_or_length_is_refused() {
    let algorithm = Algorithm::Sha256;
    let all = leaves(algorithm, 40);
    for size in 1..=all.len() {
        let tree = Tree::new(algorithm, all[..size].to_vec());
        let root = tree.root();
        for (index, leaf) in all[..size].iter().enumerate() {
            let path = tree.inclusion_path(count(index)).unwrap();
            for other in (0..size + 8).filter(|&other| other != index) {
                let verdict = verify_inclusion(algorithm, leaf, count(other), count(size), &path, &root);
                assert!(verdict.is_err(), "{index} as {other} of {size}");
            }
            // A neighbouring size can have the same path; then the RFC's algorithm says so too, and no size beyond that.
            for other in 0..2 * size + 2 {
                let verdict = verify_inclusion(algorithm, leaf, count(index), count(other), &path, &root);
                let naive = naive_verify(algorithm, leaf, count(index), count(other), &path, &root);
                assert_eq!(verdict.is_ok(), naive, "{index} of {size} as {other}");
            }
            let lengths = (0..path.len()).map(|cut| path[..cut].to_vec()).chain([
                [&path[..], &[root]].concat(),
                [&path[..], &[*leaf]].concat(),
                [&[root], &path[..]].concat(),
            ]);
            for wrong in lengths {
                assert_eq!(
                    verify_inclusion(algorithm, leaf, count(index), count(size), &wrong, &root),
                    Err(ProofError::Length { expected: path.len(), found: wrong.len() })
                );
            }
        }
    }
}

#[test]
fn every_tree_is_consistent_with_its_beginnings_and_nothing_else() {
    let algorithm = Algorithm::Sha256;
    let mut naive = Naive::new(algorithm, 66);
    let all = naive.leaves.clone();
    let trees: Vec<_> = (0..=all.len()).map(|size| Tree::new(algorithm, all[..size].to_vec())).collect();
    for (new, tree) in trees.iter().enumerate() {
        assert!(matches!(tree.consistency_path(0), Err(ProofError::Sizes { .. })));
        assert!(matches!(tree.consistency_path(count(new) + 1), Err(ProofError::Sizes { .. })));
        for (old, tree1) in trees[..=new].iter().enumerate().skip(1) {
            let path = tree.consistency_path(count(old)).unwrap();
            assert_eq!(path, naive.subproof(old, 0..new, true), "{old} in {new}");
            let (root1, root2) = (tree1.root(), tree.root());
            let verify = |size1, root1, size2, root2, path: &[Hash]| {
                verify_consistency(algorithm, count(size1), root1, count(size2), root2, path)
            };
            assert_eq!(verify(old, &root1, new, &root2, &path), Ok(()), "{old} in {new}");
            let other = Hash::new([0xee; 32]);
            assert!(verify(old, &other, new, &root2, &path).is_err(), "{old} in {new}, old root");
            assert!(verify(old, &root1, new, &other, &path).is_err(), "{old} in {new}, new root");
            let longer = [&path[..], &[root2]].concat();
            assert!(matches!(verify(old, &root1, new, &root2, &longer), Err(ProofError::Length { .. })));
            if let Some((_, shorter)) = path.split_last() {
                assert!(matches!(verify(old, &root1, new, &root2, shorter), Err(ProofError::Length { .. })));
            }
            for changed in 0..path.len() {
                let mut wrong = path.clone();
                wrong[changed] = other;
                assert!(verify(old, &root1, new, &root2, &wrong).is_err(), "{old} in {new}, hash {changed}");
            }
            for size in (0..=new).filter(|&size| size != old) {
                assert!(verify(size, &root1, new, &root2, &path).is_err(), "{old} in {new} as {size}");
            }
        }
    }
}

#[test]
fn sizes_near_the_end_of_the_numbers_do_no_harm() {
    let hash = Hash::new([1; 32]);
    let path = vec![hash; 200];
    for index in [0, 1, u64::MAX - 1, u64::MAX] {
        for size in [0, 1, u64::MAX - 1, u64::MAX] {
            for length in [0, 1, 63, 64, 65, 128, 200] {
                let inclusion =
                    verify_inclusion(Algorithm::Sha256, &hash, index, size, &path[..length], &hash);
                assert_eq!(inclusion.is_ok(), index == 0 && size == 1 && length == 0);
                let consistency =
                    verify_consistency(Algorithm::Sha256, index, &hash, size, &hash, &path[..length]);
                assert_eq!(consistency.is_ok(), index == size && size > 0 && length == 0);
            }
        }
    }
    let longest = verify_inclusion(Algorithm::Sha256, &hash, u64::MAX - 1, u64::MAX, &path[..200], &hash);
    assert!(matches!(longest, Err(ProofError::Length { expected: ..=64, .. })));
}

#[derive(Clone)]
struct Sha256Nodes;

impl Hasher for Sha256Nodes {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        // rs_merkle hashes two concatenated nodes; leaves are given to it hashed.
        *Algorithm::Sha256.digest(&[&[0x01], data].concat()).as_bytes()
    }
}

#[test]
fn roots_and_paths_are_those_of_rs_merkle() {
    let all = leaves(Algorithm::Sha256, 300);
    for size in 1..=all.len() {
        let ours = Tree::new(Algorithm::Sha256, all[..size].to_vec());
        let bytes: Vec<_> = ours.leaves().iter().map(|leaf| *leaf.as_bytes()).collect();
        let theirs = MerkleTree::<Sha256Nodes>::from_leaves(&bytes);
        assert_eq!(theirs.root(), Some(*ours.root().as_bytes()), "{size}");
        for index in (0..size).step_by(7) {
            let path: Vec<_> = theirs.proof(&[index]).proof_hashes().iter().copied().map(Hash::new).collect();
            assert_eq!(ours.inclusion_path(count(index)).unwrap(), path, "{index} of {size}");
        }
    }
}

proptest! {
    #[test]
    fn large_trees_prove_leaves_and_beginnings(
        size in 1..5_000_usize, leaf in any::<prop::sample::Index>(), old in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let algorithm = Algorithm::Sha256;
        let all = leaves(algorithm, size);
        let (leaf, old) = (leaf.index(size), old.index(size) + 1);
        let tree = Tree::new(algorithm, all.clone());
        let mut path = tree.inclusion_path(count(leaf)).unwrap();
        let root = tree.root();
        prop_assert!(naive_verify(algorithm, &all[leaf], count(leaf), count(size), &path, &root));
        prop_assert_eq!(verify_inclusion(algorithm, &all[leaf], count(leaf), count(size), &path, &root), Ok(()));
        let consistency = tree.consistency_path(count(old)).unwrap();
        let root1 = Tree::new(algorithm, all[..old].to_vec()).root();
        prop_assert_eq!(verify_consistency(algorithm, count(old), &root1, count(size), &root, &consistency), Ok(()));
        if !path.is_empty() {
            let at = flip.index(path.len());
            path[at] = algorithm.leaf(path[at].as_ref());
            let verdict = verify_inclusion(algorithm, &all[leaf], count(leaf), count(size), &path, &root);
            prop_assert_eq!(verdict, Err(ProofError::Root));
        }
    }

    #[test]
    fn no_claim_makes_a_check_panic_and_the_words_of_the_rfc_agree(
        index in any::<u64>(), size in any::<u64>(), path in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let path: Vec<_> = path.into_iter().map(Hash::new).collect();
        let hash = Hash::new([7; 32]);
        let verdict = verify_inclusion(Algorithm::Sha256, &hash, index, size, &path, &hash);
        prop_assert_eq!(verdict.is_ok(), naive_verify(Algorithm::Sha256, &hash, index, size, &path, &hash));
        let _ = verify_consistency(Algorithm::Sha256, index, &hash, size, &hash, &path);
    }
}
