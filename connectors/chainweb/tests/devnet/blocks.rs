//! The blocks keep all rules, and the proofs lead where they say.

use std::collections::BTreeMap;

use chainweb::devnet::{MakeError, Network, SpvError};
use chainweb::merkle::Tag;
use chainweb::{ChainId, Graph, Hash, Header, rules};

use super::support::{Anchor, DELAY, START, grow_to, network};

/// Checks all blocks that are kept, but the oldest of each chain, against their parents.
fn check_all(network: &Network) -> usize {
    let mut checked = 0;
    for chain in network.graph().chains() {
        let tip = network.tip(chain).unwrap();
        let branch = network.branch(chain, None, &tip.hash).unwrap();
        for pair in branch.windows(2) {
            let (header, parent) = (pair[0], pair[1]);
            let adjacents: Vec<&Header> =
                header.adjacents.iter().map(|(chain, hash)| network.header(*chain, hash).unwrap()).collect();
            let failures = rules::check(header, network.version(), parent, &adjacents);
            assert_eq!(failures, [], "chain {chain} height {}", header.height);
            network.payload(&header.payload_hash).unwrap().verify().unwrap();
            checked += 1;
        }
    }
    checked
}

fn check_cut(network: &Network) {
    let cut = network.cut(None);
    let headers: BTreeMap<_, _> = cut
        .hashes
        .iter()
        .map(|(chain, block)| (block.hash, network.header(*chain, &block.hash).unwrap()))
        .collect();
    cut.verify(network.graph(), |hash| headers.get(hash).copied()).unwrap();
}

#[test]
fn hundreds_of_heights_keep_every_rule_on_every_graph() {
    for graph in Graph::ALL {
        let mut network = network(graph);
        let height = if graph == Graph::Hoffman { 130 } else { 400 };
        grow_to(&mut network, height);
        assert_eq!(check_all(&network), graph.order() as usize * height as usize, "{graph}");
        check_cut(&network);
    }
}

#[test]
fn rules_are_kept_whatever_the_clock_does() {
    let mut network = network(Graph::Twenty);
    let mut now = START;
    for step in 0..500_i64 {
        // Standing still, far back, a year ahead, irregular.
        now = match step % 7 {
            0 => now,
            1 => now - 3_600_000_000,
            2 if step % 100 == 2 => now + 31_536_000_000_000,
            _ => now + step * 7_919,
        };
        network.make_round(now).unwrap();
    }
    assert_eq!(check_all(&network), 20 * 500);
    check_cut(&network);
}

#[test]
fn chains_that_grow_one_by_one_wait_for_their_neighbours() {
    let mut network = network(Graph::Twenty);
    let mut now = START;
    // A fixed pseudo-random walk over the chains.
    let (mut state, mut waits) = (1_u64, 0);
    for _ in 0..4000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chain = ChainId(u32::try_from((state >> 33) % 20).unwrap());
        now += DELAY / 20;
        match network.make_block(chain, now) {
            Ok(_) => check_cut(&network),
            Err(MakeError::Lagging { .. }) => waits += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(waits > 100 && check_all(&network) > 1000);
    assert_eq!(network.make_block(ChainId(20), now).err(), Some(MakeError::UnknownChain(ChainId(20))));
}

#[test]
fn the_same_calls_make_the_same_blocks() {
    let run = || {
        let mut network = network(Graph::Twenty);
        network.send(ChainId(0), &[Anchor::default().sign()], START).unwrap();
        grow_to(&mut network, 10);
        network.cut(None)
    };
    assert_eq!(run(), run());
}

#[test]
fn every_pair_of_chains_has_a_proof_exactly_from_the_due_height_on() {
    for graph in [Graph::Twenty, Graph::Petersen, Graph::Triangle, Graph::Pair, Graph::Singleton] {
        let mut network = network(graph);
        let name = network.version().name.to_string();
        grow_to(&mut network, 3);
        let mut keys = BTreeMap::new();
        for chain in graph.chains() {
            let command = Anchor { network: &name, chain, ..Anchor::default() }.sign();
            network.send(chain, std::slice::from_ref(&command), START).unwrap();
            keys.insert(chain, command.hash);
        }
        let pairs: Vec<_> =
            graph.chains().flat_map(|source| graph.chains().map(move |to| (source, to))).collect();
        let mut proofs: BTreeMap<(ChainId, ChainId), Vec<String>> = BTreeMap::new();
        // One block at a time, on the lowest chain, so that targets reach their heights one after the other.
        while proofs.len() < pairs.len() || proofs.values().any(|proofs| proofs.len() < 3) {
            for pair in &pairs {
                let proofs = proofs.entry(*pair).or_default();
                if proofs.len() < 3 {
                    proofs.extend(proof_if_due(&network, *pair, keys[&pair.0]));
                }
            }
            let lowest = graph.chains().min_by_key(|chain| network.tip(*chain).unwrap().height).unwrap();
            let now = network.tip(lowest).unwrap().creation_time + DELAY;
            network.make_block(lowest, now).unwrap();
        }
        for (pair, proofs) in proofs {
            assert!(proofs.iter().all(|proof| *proof == proofs[0]), "{pair:?}: a proof never changes");
        }
    }
}

/// Checks that there is a proof exactly if the target chain has the due height, and that it leads to that block.
fn proof_if_due(network: &Network, (source, target): (ChainId, ChainId), key: Hash) -> Option<String> {
    let proof = network.spv(source, &key, target);
    let Some((height, _, _)) = network.find(source, &key) else {
        assert_eq!(proof, Err(SpvError::NotFound(key)));
        return None;
    };
    let due = height + u64::from(network.graph().distance(source, target).unwrap());
    if network.tip(target).unwrap().height < due {
        assert_eq!(proof, Err(SpvError::NotReachable));
        return None;
    }
    let proof = proof.unwrap();
    assert_eq!((proof.chain, proof.root()), (target, network.header_at(target, due).unwrap().hash));
    let output = proof.subject_with_tag(Tag::OUTPUT).unwrap();
    assert!(std::str::from_utf8(output).unwrap().contains("\"data\":\"killick/1 sha256 3 abc\""));
    Some(proof.to_json())
}

#[test]
fn only_the_newest_heights_are_kept_and_mined_commands_are_remembered() {
    let accounts = super::support::config().accounts;
    let version = network(Graph::Triangle).version().clone();
    let name = version.name.to_string();
    let mut network = Network::new(version, &accounts, &accounts[0].public_key, 16).unwrap();
    let command = Anchor { network: &name, ttl: 600, ..Anchor::default() }.sign();
    network.send(ChainId(0), std::slice::from_ref(&command), START).unwrap();
    grow_to(&mut network, 200);
    let tip = network.tip(ChainId(0)).unwrap();
    assert_eq!(network.branch(ChainId(0), None, &tip.hash).unwrap().len(), 17);
    assert!(network.header_at(ChainId(0), 183).is_none() && network.header_at(ChainId(0), 184).is_some());
    assert_eq!(network.poll(ChainId(0), &[command.hash], 0), []);
    assert_eq!(network.spv(ChainId(0), &command.hash, ChainId(0)), Err(SpvError::NotFound(command.hash)));
    let again = network.send(ChainId(0), &[command], tip.creation_time).unwrap_err();
    assert!(again.status == 500 || again.text.contains("already exists on chain"));
}
