//! The Merkle log against a second implementation, written from RFC 6962 section 2.1 without regard to speed.

use chainweb::Hash;
use chainweb::merkle::{self, Algorithm, MerkleProof, MerkleProofError, Side, Step, Tag};
use proptest::prelude::*;

const HASH: Algorithm = Algorithm::Sha512t256;

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => HASH.empty(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            HASH.node(&naive_root(left), &naive_root(right))
        }
    }
}

fn naive_path(leaves: &[Hash], index: usize) -> Vec<Step> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut steps, step) = if index < at {
        (naive_path(left, index), Step { side: Side::Right, sibling: naive_root(right) })
    } else {
        (naive_path(right, index - at), Step { side: Side::Left, sibling: naive_root(left) })
    };
    steps.push(step);
    steps
}

/// The largest power of two below `size`.
fn split(size: usize) -> usize {
    let mut at = 1;
    while at * 2 < size {
        at *= 2;
    }
    at
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|index| HASH.input(Tag::TRANSACTION, &index.to_le_bytes())).collect()
}

#[test]
fn every_leaf_of_every_tree_up_to_130_proves_itself_and_no_other() {
    for size in 1..=130 {
        let leaves = leaves(size);
        let root = merkle::root(HASH, &leaves);
        assert_eq!(root, naive_root(&leaves), "{size} leaves");
        for index in 0..size {
            let path = merkle::path(HASH, &leaves, index).expect("a leaf of the tree");
            assert_eq!(path, naive_path(&leaves, index), "leaf {index} of {size}");
            assert_eq!(merkle::run(HASH, leaves[index], &path), root);
            assert!(size == 1 || merkle::run(HASH, leaves[(index + 1) % size], &path) != root);
        }
        assert_eq!(merkle::path(HASH, &leaves, size), None);
    }
}

#[test]
fn an_empty_tree_has_the_hash_of_nothing() {
    let expected = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a";
    assert_eq!(hex::encode(merkle::root(HASH, &[]).0), expected);
    assert_eq!(merkle::path(HASH, &[], 0), None);
}

#[test]
fn keccak_is_the_original_and_not_the_standard() {
    let expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
    assert_eq!(hex::encode(Algorithm::Keccak256.empty().0), expected);
}

#[test]
fn a_proof_object_has_exactly_the_length_its_count_says() {
    let leaves = leaves(21);
    let steps = merkle::path(HASH, &leaves, 20).expect("a leaf");
    let proof = MerkleProof { position: 20, steps };
    let bytes = proof.encode();
    assert_eq!(MerkleProof::decode(&bytes), Ok(proof));
    for length in 0..bytes.len() {
        assert!(
            matches!(MerkleProof::decode(&bytes[..length]), Err(MerkleProofError::Length { .. })),
            "{length}"
        );
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(MerkleProof::decode(&longer), Err(MerkleProofError::Length { .. })));
    for side in 2..=255 {
        let mut wrong = bytes.clone();
        wrong[12] = side;
        assert_eq!(MerkleProof::decode(&wrong), Err(MerkleProofError::Side { step: 0, side }));
    }
}

#[test]
fn a_proof_of_more_steps_than_any_path_has_is_refused_before_it_is_read() {
    let bytes = |count: u32| {
        [count.to_be_bytes().as_slice(), &[0; 8], &vec![0; 33 * count.min(600) as usize]].concat()
    };
    assert!(MerkleProof::decode(&bytes(512)).is_ok());
    assert_eq!(MerkleProof::decode(&bytes(513)), Err(MerkleProofError::TooManySteps(513)));
    assert_eq!(MerkleProof::decode(&bytes(u32::MAX)), Err(MerkleProofError::TooManySteps(u32::MAX)));
}

proptest! {
    #[test]
    fn proofs_decode_to_what_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(proof) = MerkleProof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }
}
