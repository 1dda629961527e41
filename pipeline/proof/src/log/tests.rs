use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::tree::{verify_consistency, verify_inclusion};

fn leaf(index: u64) -> Hash {
    Algorithm::Sha256.leaf(&index.to_le_bytes())
}

/// A log of `size` leaves and every stored node that arose on the way.
fn log_of(size: u64) -> (Log, HashMap<NodeId, Hash>) {
    let mut log = Log::new(Algorithm::Sha256);
    let mut stored = HashMap::new();
    for index in 0..size {
        let made = |id, hash| assert_eq!(stored.insert(id, hash), None, "a stored node never changes");
        log.append(leaf(index), made).unwrap();
    }
    (log, stored)
}

fn tree_of(size: u64) -> Tree {
    Tree::new(Algorithm::Sha256, (0..size).map(leaf).collect())
}

#[test]
fn a_log_extended_leaf_by_leaf_has_the_trees_root_at_every_size() {
    let mut log = Log::new(Algorithm::Sha256);
    assert_eq!(log.root(), Algorithm::Sha256.empty());
    for size in 1..=300 {
        log.append(leaf(size - 1), |_, _| {}).unwrap();
        assert_eq!((log.size(), log.root()), (size, tree_of(size).root()));
        assert_eq!(log, Log::from(&tree_of(size)));
        log = Log::decode(&log.encode()).unwrap(); // as after a crash
    }
}

#[test]
fn stored_nodes_prove_every_leaf_at_every_size() {
    let (_, stored) = log_of(130);
    let read = |id| stored.get(&id).copied();
    for size in 1..=130 {
        let tree = tree_of(size);
        for index in 0..size {
            let path = inclusion_path(Algorithm::Sha256, index, size, read).unwrap();
            assert_eq!(path, tree.inclusion_path(index).unwrap(), "{index} of {size}");
        }
        for old in 1..=size {
            let path = consistency_path(Algorithm::Sha256, old, size, read).unwrap();
            assert_eq!(path, tree.consistency_path(old).unwrap(), "{old} in {size}");
        }
    }
}

#[test]
fn a_missing_node_is_named_and_only_the_announced_ones_are_read() {
    let (_, stored) = log_of(11);
    let announced = inclusion_nodes(4, 11).unwrap();
    let mut asked = Vec::new();
    inclusion_path(Algorithm::Sha256, 4, 11, |id| {
        asked.push(id);
        stored.get(&id).copied()
    })
    .unwrap();
    assert_eq!(asked, announced);
    let missing = inclusion_path(Algorithm::Sha256, 4, 11, |_| None);
    assert_eq!(missing, Err(LogError::Missing(NodeId { level: 0, index: 5 })));
    assert_eq!(inclusion_nodes(11, 11), Err(ProofError::Index { index: 11, size: 11 }));
    assert_eq!(consistency_nodes(0, 11), Err(ProofError::Sizes { size1: 0, size2: 11 }));
    assert_eq!(consistency_nodes(12, 11), Err(ProofError::Sizes { size1: 12, size2: 11 }));
    assert_eq!(consistency_nodes(11, 11), Ok(Vec::new()));
}

#[test]
fn plans_of_the_largest_logs_stay_small() {
    for size in [1, 2, MAX_COUNT - 1, MAX_COUNT, u64::MAX] {
        for index in [0, size / 2, size - 1] {
            assert!(inclusion_nodes(index, size).unwrap().len() <= 128);
            assert!(consistency_nodes(index + 1, size).unwrap().len() <= 128);
        }
    }
}

#[test]
fn a_full_log_takes_no_leaf() {
    let edge = vec![leaf(0); MAX_COUNT.count_ones() as usize];
    let mut log = Log { algorithm: Algorithm::Sha256, size: MAX_COUNT, edge };
    assert_eq!(Log::decode(&log.encode()), Ok(log.clone()));
    assert_eq!(log.append(leaf(1), |_, _| {}), Err(LogError::TooLarge(MAX_COUNT + 1)));
}

#[test]
fn a_broken_state_is_refused() {
    let state = |name, size, edge: &[u8]| {
        let mut out = Vec::new();
        Writer::new(&mut out).array(3).text(name).uint(size).bytes(edge);
        Log::decode(&out)
    };
    assert!(state("sha256", 3, &[0; 64]).is_ok());
    assert_eq!(state("md5", 3, &[0; 64]), Err(LogError::Algorithm));
    assert_eq!(state("sha256", 3, &[0; 63]), Err(LogError::Edge { size: 3, expected: 64, found: 63 }));
    assert_eq!(state("sha256", 4, &[0; 64]), Err(LogError::Edge { size: 4, expected: 32, found: 64 }));
    assert_eq!(state("sha256", MAX_COUNT + 1, &[0; 32]), Err(LogError::TooLarge(MAX_COUNT + 1)));
    let bytes = log_of(5).0.encode();
    for cut in 0..bytes.len() {
        assert!(matches!(Log::decode(&bytes[..cut]), Err(LogError::Encoding(_))), "{cut}");
    }
}

proptest! {
    #[test]
    fn a_log_extended_in_batches_proves_each_batch_to_the_next(batches in proptest::collection::vec(1..80_u64, 1..20)) {
        let mut log = Log::new(Algorithm::Sha256);
        let mut stored = HashMap::new();
        let mut heads: Vec<(u64, Hash)> = Vec::new();
        for batch in batches {
            for _ in 0..batch {
                log.append(leaf(log.size()), |id, hash| {
                    stored.insert(id, hash);
                }).unwrap();
            }
            for &(size, root) in &heads {
                let read = |id| stored.get(&id).copied();
                let path = consistency_path(Algorithm::Sha256, size, log.size(), read).unwrap();
                let verdict = verify_consistency(Algorithm::Sha256, size, &root, log.size(), &log.root(), &path);
                prop_assert_eq!(verdict, Ok(()));
            }
            let last = log.size() - 1;
            let path = inclusion_path(Algorithm::Sha256, last, log.size(), |id| stored.get(&id).copied()).unwrap();
            let verdict = verify_inclusion(Algorithm::Sha256, &leaf(last), last, log.size(), &path, &log.root());
            prop_assert_eq!(verdict, Ok(()));
            heads.push((log.size(), log.root()));
        }
    }
}
