//! Blocks are undone and others made, and everything that anybody can ask still holds.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chainweb::devnet::{ForkError, Network, Orphaned};
use chainweb::pact::Command;
use chainweb::{ChainId, Graph, Hash, Header, rules};
use proptest::prelude::*;
use serde_json::Value;

use super::support::{Anchor, DELAY, START, grow_to, network};

const ZERO: ChainId = ChainId(0);

/// Coins are counted in 10^-12.
const UNITS: u128 = 1_000_000_000_000;

/// Blocks that somebody saw, each with its chain.
pub type Blocks = HashSet<(ChainId, Hash)>;

/// Commands that were taken, each with its chain.
pub type Commands = Vec<(ChainId, Hash)>;

pub fn command(network: &Network, chain: ChainId, nonce: &str) -> Command {
    Anchor { network: &network.version().name, chain, nonce, ..Anchor::default() }.sign()
}

/// A decimal number in 10^-12.
fn units(text: &str) -> u128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole.parse::<u128>().unwrap() * UNITS + format!("{fraction:0<12}").parse::<u128>().unwrap()
}

/// Checks a block against its parents, and its payload; unless its parents are no longer kept.
fn check_block(network: &Network, header: &Header) {
    let Some(parent) = network.header(header.chain, &header.parent) else { return };
    let adjacents: Option<Vec<&Header>> =
        header.adjacents.iter().map(|(chain, hash)| network.header(*chain, hash)).collect();
    let adjacents = adjacents.expect("where the parent is kept, its neighbours are");
    assert_eq!(rules::check(header, network.version(), parent, &adjacents), [], "{}", header.hash);
    let payload = network.payload(&header.payload_hash).expect("the payload of a kept block");
    assert_eq!(payload.verify().unwrap(), ());
    assert_eq!(payload.payload_hash, header.payload_hash);
}

/// Checks all that anybody can see of the blocks that count; nothing of them has been dropped yet. `seen` are blocks that
/// counted at some time, `sent` all commands.
pub fn check(network: &Network, seen: &Blocks, sent: &[(ChainId, Hash)]) {
    for (chain, hash) in seen {
        let header = network.header(*chain, hash).unwrap_or_else(|| panic!("{hash} was seen"));
        check_block(network, header);
        let branch = network.branch(*chain, None, hash).unwrap();
        assert_eq!(branch.len() as u64, header.height + 1);
        assert!(branch.windows(2).all(|pair| pair[0].parent == pair[1].hash));
    }
    let cut = network.cut(None);
    let headers: BTreeMap<_, _> = cut
        .hashes
        .iter()
        .map(|(chain, block)| (block.hash, network.header(*chain, &block.hash).unwrap()))
        .collect();
    cut.verify(network.graph(), |hash| headers.get(hash).copied()).unwrap();
    for chain in network.graph().chains() {
        let mined = replay(network, chain);
        for (_, key) in sent.iter().filter(|(of, _)| *of == chain) {
            let found = network.find(chain, key);
            assert_eq!(found, mined.get(key).copied(), "{key}");
            let result = network.poll(chain, &[*key], 0).pop().map(|(_, result)| result);
            let Some((_, _, block)) = found else {
                assert!(
                    result.is_none_or(|result| result.contains("\"metaData\":null")),
                    "{key} is in no block"
                );
                continue;
            };
            assert!(result.unwrap().contains(&format!("\"blockHash\":\"{block}\"")));
            let proof = network.spv(chain, key, chain).unwrap();
            assert_eq!(proof.root(), block, "the proof of {key} leads to its block");
        }
    }
}

/// Goes through the blocks of a chain from genesis on. The place of each command; balance and ids are as the network
/// says.
fn replay(network: &Network, chain: ChainId) -> BTreeMap<Hash, (u64, usize, Hash)> {
    let mut mined = BTreeMap::new();
    let (mut paid, mut next_tx_id) = (0, 0);
    for height in 1..=network.tip(chain).unwrap().height {
        let header = network.header_at(chain, height).unwrap();
        check_block(network, header);
        assert_eq!(header.parent, network.header_at(chain, height - 1).unwrap().hash);
        let payload = network.payload(&header.payload_hash).unwrap();
        let coinbase: Value = serde_json::from_slice(&payload.coinbase).unwrap();
        assert_eq!(coinbase["txId"], next_tx_id, "chain {chain} height {height}");
        next_tx_id += 1;
        for (index, (transaction, output)) in payload.transactions.iter().enumerate() {
            let command = Command::parse(transaction).unwrap();
            let output: Value = serde_json::from_slice(output).unwrap();
            let is_success = output["result"]["status"] == "success";
            paid += u128::from(output["gas"].as_u64().unwrap()) * 10_000;
            next_tx_id += if is_success { 3 } else { 2 };
            let twice = mined.insert(command.hash, (height, index, header.hash));
            assert_eq!(twice, None, "{} is mined once", command.hash);
        }
    }
    assert_eq!(units(&network.balance(chain, "anchor").unwrap()), 100 * UNITS - paid);
    mined
}

pub fn see(network: &Network, seen: &mut Blocks) {
    for chain in network.graph().chains() {
        let mut at = network.header(chain, &network.tip(chain).unwrap().hash);
        while let Some(header) = at.filter(|header| seen.insert((chain, header.hash))) {
            at = network.header(chain, &header.parent);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Round,
    Block(u32),
    Send(u32),
    Fail(u32),
    Reorganize(u32, u64, Orphaned),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let orphaned = prop_oneof![Just(Orphaned::Wait), Just(Orphaned::MinedAgain), Just(Orphaned::Lost)];
    let step = prop_oneof![
        4 => Just(Step::Round),
        1 => (0..20_u32).prop_map(Step::Block),
        3 => (0..20_u32).prop_map(Step::Send),
        1 => (0..20_u32).prop_map(Step::Fail),
        2 => (0..20_u32, 1..7_u64, orphaned).prop_map(|(chain, depth, fate)| Step::Reorganize(chain, depth, fate)),
    ];
    prop::collection::vec(step, 1..40)
}

/// Does the steps; the network, the blocks that were seen, and the commands that were sent.
fn run(graph: Graph, steps: &[Step]) -> (Network, Blocks, Commands) {
    let mut network = network(graph);
    let (mut seen, mut sent) = (HashSet::new(), Vec::new());
    let mut now = START;
    for (index, step) in steps.iter().enumerate() {
        now += DELAY;
        let chain = |chain: u32| ChainId(chain % graph.order());
        match *step {
            Step::Round => network.make_round(now).unwrap(),
            // It may have to wait for its neighbours.
            Step::Block(at) => _ = network.make_block(chain(at), now),
            Step::Send(at) | Step::Fail(at) => {
                let code =
                    if matches!(step, Step::Fail(_)) { "(no such thing)" } else { "(read-msg \"killick\")" };
                let name = network.version().name.to_string();
                let anchor = Anchor {
                    network: &name,
                    chain: chain(at),
                    nonce: &index.to_string(),
                    code,
                    ..Anchor::default()
                };
                let command = anchor.sign();
                network.send(chain(at), std::slice::from_ref(&command), now).unwrap();
                sent.push((chain(at), command.hash));
            }
            Step::Reorganize(at, depth, orphaned) => {
                let before = network.cut(None);
                match network.reorganize(chain(at), depth, orphaned, now) {
                    Ok(()) => {
                        let after = network.cut(None);
                        assert!(
                            after.weight > before.weight
                                && after.hashes[&chain(at)] != before.hashes[&chain(at)]
                        );
                    }
                    Err(ForkError::TooDeep { .. }) => assert_eq!(network.cut(None), before),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        see(&network, &mut seen);
    }
    (network, seen, sent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_made_and_undone_all_rules_balances_ids_and_proofs_hold(
        graph in prop::sample::select(vec![Graph::Singleton, Graph::Pair, Graph::Triangle, Graph::Petersen]),
        steps in steps(),
    ) {
        let (network, seen, sent) = run(graph, &steps);
        check(&network, &seen, &sent);
        let (again, _, _) = run(graph, &steps);
        prop_assert_eq!(again.cut(None), network.cut(None), "the same calls make the same blocks");
    }
}

#[test]
fn a_reorganisation_takes_exactly_the_cone_of_the_braid_with_it() {
    let graph = Graph::Twenty;
    for depth in 1..=6 {
        let mut network = network(graph);
        grow_to(&mut network, 10);
        let before: BTreeMap<_, _> = graph.chains().map(|chain| (chain, hashes(&network, chain))).collect();
        network.reorganize(ZERO, depth, Orphaned::Wait, START + 11 * DELAY).unwrap();
        for chain in graph.chains() {
            let (old, new) = (&before[&chain], hashes(&network, chain));
            let common = old.iter().zip(&new).take_while(|(old, new)| old == new).count() as u64;
            let distance = u64::from(graph.distance(ZERO, chain).unwrap());
            assert_eq!(11 - common, depth.saturating_sub(distance), "chain {chain} depth {depth}");
            assert_eq!(new.len(), 12);
            // What is undone has another hash only: its times, and so its weights, are the same.
            for (height, hash) in old.iter().enumerate() {
                let (old, new) =
                    (network.header(chain, hash).unwrap(), network.header_at(chain, height as u64).unwrap());
                assert_eq!((old.creation_time, old.weight), (new.creation_time, new.weight));
            }
        }
        let (mut seen, old) = (HashSet::new(), before);
        old.into_iter().for_each(|(chain, hashes)| seen.extend(hashes.into_iter().map(|hash| (chain, hash))));
        check(&network, &seen, &[]);
    }
}

fn hashes(network: &Network, chain: ChainId) -> Vec<Hash> {
    (0..=network.tip(chain).unwrap().height)
        .map(|height| network.header_at(chain, height).unwrap().hash)
        .collect()
}

/// A command in the newest block but one of chain 0.
fn with_mined(graph: Graph) -> (Network, Command) {
    let mut network = network(graph);
    grow_to(&mut network, 3);
    let command = command(&network, ZERO, "mined");
    network.send(ZERO, std::slice::from_ref(&command), START).unwrap();
    while network.find(ZERO, &command.hash).is_none() {
        let height = network.tip(ZERO).unwrap().height;
        grow_to(&mut network, height + 1);
    }
    let height = network.tip(ZERO).unwrap().height;
    grow_to(&mut network, height + 1);
    (network, command)
}

#[test]
fn an_undone_command_waits_again_is_mined_again_or_is_lost_and_never_counts_twice() {
    for orphaned in [Orphaned::Wait, Orphaned::MinedAgain, Orphaned::Lost] {
        let (mut network, command) = with_mined(Graph::Triangle);
        let (height, _, block) = network.find(ZERO, &command.hash).unwrap();
        let old = network.poll(ZERO, &[command.hash], 1);
        let proof = network.spv(ZERO, &command.hash, ZERO).unwrap();
        let now = network.tip(ZERO).unwrap().creation_time + DELAY;
        network.reorganize(ZERO, 2, orphaned, now).unwrap();
        // The old block is still there for whoever knows its hash, with all that it says.
        assert_eq!(network.header(ZERO, &block).unwrap().height, height);
        assert_ne!(network.header_at(ZERO, height).unwrap().hash, block);
        assert_eq!(proof.root(), block);
        let found = network.find(ZERO, &command.hash);
        assert_eq!(found.is_some(), orphaned == Orphaned::MinedAgain, "{orphaned:?}");
        if orphaned == Orphaned::Lost {
            grow_to(&mut network, height + 10);
            assert_eq!(network.poll(ZERO, &[command.hash], 0), []);
            network.send(ZERO, std::slice::from_ref(&command), now).unwrap();
        } else {
            assert_eq!(
                network.send(ZERO, std::slice::from_ref(&command), now).is_ok(),
                found.is_none(),
                "what waits can be sent again, what is mined not"
            );
        }
        grow_to(&mut network, height + 20);
        let (again, _, other) = network.find(ZERO, &command.hash).unwrap();
        assert!(again >= height && other != block);
        assert_ne!(network.poll(ZERO, &[command.hash], 0), old);
        let mut seen = HashSet::new();
        see(&network, &mut seen);
        check(&network, &seen, &[(ZERO, command.hash)]);
    }
}

#[test]
fn branches_of_forks_are_told_apart() {
    let mut network = network(Graph::Pair);
    grow_to(&mut network, 8);
    let old = network.tip(ZERO).unwrap();
    network.reorganize(ZERO, 3, Orphaned::Wait, old.creation_time + DELAY).unwrap();
    let new = network.tip(ZERO).unwrap();
    let heights = |lower: &Hash, upper: &Hash| -> Vec<u64> {
        network.branch(ZERO, Some(lower), upper).unwrap().iter().map(|header| header.height).collect()
    };
    assert_eq!(heights(&new.hash, &old.hash), [8, 7, 6], "what was undone");
    assert_eq!(heights(&old.hash, &new.hash), [9, 8, 7, 6], "what came instead");
    assert_eq!(heights(&new.hash, &new.hash), [0; 0]);
    let all: BTreeSet<_> = [old.hash, new.hash].iter().flat_map(|tip| hashes_of(&network, tip)).collect();
    assert_eq!(all.len(), 9 + 4);
}

fn hashes_of(network: &Network, tip: &Hash) -> Vec<Hash> {
    network.branch(ZERO, None, tip).unwrap().iter().map(|header| header.hash).collect()
}

#[test]
fn what_cannot_be_undone_is_refused_and_nothing_changes() {
    let mut network = network(Graph::Twenty);
    grow_to(&mut network, 5);
    let before = network.cut(None);
    for (chain, depth, why) in [
        (ChainId(20), 1, ForkError::UnknownChain(ChainId(20))),
        (ZERO, 0, ForkError::NoDepth),
        (ZERO, 6, ForkError::TooDeep { chain: ZERO, depth: 6 }),
        (ZERO, u64::MAX, ForkError::TooDeep { chain: ZERO, depth: u64::MAX }),
    ] {
        assert_eq!(network.reorganize(chain, depth, Orphaned::Wait, START), Err(why));
        assert_eq!(network.cut(None), before);
    }
    network.reorganize(ZERO, 5, Orphaned::Wait, START).unwrap();
}

#[test]
fn orphans_are_kept_as_long_as_blocks_and_no_more_of_them() {
    let accounts = super::support::config().accounts;
    let version = network(Graph::Triangle).version().clone();
    let mut network = Network::new(version, &accounts, &accounts[0].public_key, 16).unwrap();
    grow_to(&mut network, 10);
    let orphan = network.tip(ZERO).unwrap();
    for _ in 0..100 {
        let now = network.tip(ZERO).unwrap().creation_time + DELAY;
        network.reorganize(ZERO, 4, Orphaned::Wait, now).unwrap();
    }
    assert!(network.header(ZERO, &orphan.hash).is_none(), "far below what is kept");
    let tip = network.tip(ZERO).unwrap();
    assert_eq!(tip.height, 110);
    let kept = network.branch(ZERO, None, &tip.hash).unwrap();
    assert_eq!(kept.len(), 17);
    kept.iter().take(16).for_each(|header| check_block(&network, header));
}
