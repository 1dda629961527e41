//! Several nodes of one network: together, apart, late, away, and together again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chainweb::cut::Cut;
use chainweb::devnet::{Config, ConfigError, Devnet, Fault, Faults, Orphaned, StartError, TroubleError};
use chainweb::{ChainId, Graph};

use super::forks::{Blocks, Commands, check, command, see};
use super::support::{Anchor, DELAY, START, config};

const ZERO: ChainId = ChainId(0);

/// Nodes whose blocks are made by hand, in a time that goes on with each round.
struct World {
    nodes: Vec<Devnet>,
    clock: Arc<AtomicI64>,
}

impl World {
    fn new(nodes: usize, faults: &str, seed: u64) -> Self {
        let faults: Faults = faults.parse().unwrap();
        let config = Config { nodes, faults, seed, graph: Graph::Triangle, ..config() };
        let clock = Arc::new(AtomicI64::new(START));
        let time = Arc::clone(&clock);
        let first = Devnet::start_with_clock(config, Box::new(move || time.load(Ordering::SeqCst))).unwrap();
        let nodes = (0..nodes).map(|node| first.node(node).unwrap()).collect();
        Self { nodes, clock }
    }

    fn rounds(&self, count: usize) {
        for _ in 0..count {
            self.clock.fetch_add(DELAY, Ordering::SeqCst);
            self.nodes[0].make_round().unwrap();
        }
    }

    fn cuts(&self) -> Vec<Cut> {
        self.nodes.iter().map(Devnet::cut).collect()
    }

    fn height(&self, node: usize) -> u64 {
        self.nodes[node].tip(ZERO).unwrap().height
    }

    fn are_one(&self) -> bool {
        let cuts = self.cuts();
        cuts.iter().all(|cut| *cut == cuts[0])
    }

    fn send(&self, node: usize, nonce: &str) -> chainweb::Hash {
        let command = self.nodes[node].read(|network| command(network, ZERO, nonce));
        self.nodes[node].send(ZERO, &command).unwrap()
    }

    fn is_mined(&self, node: usize, key: chainweb::Hash) -> bool {
        self.nodes[node].read(|network| network.find(ZERO, &key)).is_some()
    }
}

#[test]
fn nodes_that_know_of_each_other_have_the_same_blocks_and_commands() {
    let world = World::new(3, "none", 0);
    world.rounds(3);
    let key = world.send(2, "told to the last");
    world.rounds(3);
    assert!(world.are_one());
    assert!((0..3).all(|node| world.is_mined(node, key)));
    let alone = World::new(1, "none", 0);
    alone.rounds(3);
    alone.send(0, "told to the last");
    alone.rounds(3);
    assert_eq!(alone.cuts()[0], world.cuts()[0], "several make what one makes");
    assert!(world.nodes[0].node(3).is_none());
}

#[test]
fn parted_nodes_go_their_own_ways_and_the_heavier_one_wins_from_the_last_common_block() {
    let world = World::new(3, "none", 0);
    world.rounds(4);
    world.nodes[0].partition(&[vec![0], vec![1, 2]]).unwrap();
    let (left, right) = (world.send(0, "left"), world.send(1, "right"));
    world.rounds(5);
    let cuts = world.cuts();
    assert!(cuts[0] != cuts[1] && cuts[1] == cuts[2]);
    assert!(world.is_mined(0, left) && !world.is_mined(1, left) && !world.is_mined(0, right));
    assert!(world.is_mined(1, right) && world.is_mined(2, right));
    let mut seen = HashSet::new();
    world.nodes.iter().for_each(|node| node.read(|network| see(network, &mut seen)));
    // The right side gets ahead.
    world.nodes[1].reorganize(ZERO, 1, Orphaned::MinedAgain).unwrap();
    let winner = world.nodes[1].cut();
    world.nodes[0].heal().unwrap();
    assert_eq!(world.cuts(), vec![winner.clone(), winner.clone(), winner]);
    assert!(!world.is_mined(0, left), "its block lost");
    world.rounds(4);
    assert!(
        (0..3).all(|node| world.is_mined(node, left) && world.is_mined(node, right)),
        "it waited, and was told"
    );
    for node in &world.nodes {
        let own: HashSet<_> =
            seen.iter().filter(|(chain, hash)| node.header(*chain, hash).is_some()).copied().collect();
        node.read(|network| check(network, &own, &[(ZERO, left), (ZERO, right)]));
    }
    let lost = seen.iter().filter(|(chain, hash)| world.nodes[0].header(*chain, hash).is_none()).count();
    assert_eq!(lost, 1, "the first node knows all but what the others undid before");
}

#[test]
fn of_equally_heavy_sides_the_one_with_the_next_block_wins() {
    let world = World::new(2, "none", 0);
    world.rounds(2);
    world.nodes[0].partition(&[vec![0], vec![1]]).unwrap();
    world.rounds(3);
    let before = world.cuts();
    world.nodes[0].heal().unwrap();
    assert_eq!(world.cuts(), before, "no reason to give up anything");
    world.rounds(1);
    assert!(world.are_one());
}

#[test]
fn a_node_that_lags_shows_what_was_and_never_goes_back() {
    let world = World::new(2, "none", 0);
    world.rounds(5);
    world.nodes[1].set_lag(3);
    world.rounds(1);
    assert_eq!((world.height(0), world.height(1)), (6, 5));
    let key = world.send(1, "late");
    let mut heights = vec![5];
    for _ in 0..6 {
        world.rounds(1);
        heights.push(world.height(1));
    }
    assert_eq!(heights, [5, 5, 5, 6, 7, 8, 9]);
    assert_eq!(world.nodes[1].state().lag, 3);
    assert!(world.is_mined(0, key));
    world.nodes[1].set_lag(0);
    world.rounds(1);
    assert!(world.are_one() && world.is_mined(1, key));
}

#[test]
fn a_node_that_is_down_misses_everything_and_comes_back() {
    let world = World::new(2, "none", 0);
    world.rounds(3);
    world.nodes[0].set_down(true);
    let refusal = world.nodes[0].read(|network| command(network, ZERO, "x"));
    assert_eq!(world.nodes[0].send(ZERO, &refusal).unwrap_err().status, 503);
    assert!(matches!(world.nodes[0].reorganize(ZERO, 1, Orphaned::Wait), Err(TroubleError::Down(0))));
    let key = world.send(1, "meanwhile");
    world.rounds(4);
    assert_eq!((world.height(0), world.height(1)), (3, 7));
    world.nodes[0].set_down(false);
    world.rounds(1);
    assert!(world.are_one() && world.is_mined(0, key));
    // With all of them away there are no blocks, and that is no failure.
    world.nodes.iter().for_each(|node| node.set_down(true));
    world.rounds(2);
    assert_eq!(world.height(1), 8);
}

#[test]
fn a_lost_mempool_is_lost_unless_another_node_tells_it_again() {
    let world = World::new(1, "none", 0);
    world.rounds(1);
    let key = world.send(0, "lost");
    world.nodes[0].lose_mempool();
    world.rounds(5);
    assert!(!world.is_mined(0, key));
    let world = World::new(2, "none", 0);
    world.rounds(1);
    let key = world.send(0, "told again");
    world.nodes[0].lose_mempool();
    world.rounds(5);
    assert!(world.is_mined(0, key));
}

#[test]
fn a_bad_listed_command_polls_as_a_failure_in_no_block_until_a_restart() {
    let world = World::new(1, "none", 0);
    world.rounds(1);
    let key = world.send(0, "bad");
    world.nodes[0].bad_list(ZERO, &key);
    world.rounds(5);
    let result = |depth| world.nodes[0].poll(ZERO, &[key], depth).pop().map(|(_, result)| result);
    assert!(result(3).unwrap().contains("\"metaData\":null") && !world.is_mined(0, key));
    assert!(
        world.nodes[0].send(ZERO, &world.nodes[0].read(|network| command(network, ZERO, "bad"))).is_err()
    );
    world.nodes[0].restart();
    assert_eq!(result(0), None);
    assert_eq!(world.send(0, "bad"), key);
    world.rounds(3);
    assert!(world.is_mined(0, key));
}

#[test]
fn a_stuck_command_is_waited_for_until_it_expires_and_then_nobody_knows_it() {
    let world = World::new(2, "stuck=100%", 0);
    world.rounds(1);
    let name = world.nodes[0].network_name().to_owned();
    let command = Anchor { network: &name, ttl: 20, ..Anchor::default() }.sign();
    let knows = |node: usize| world.nodes[node].read(|network| network.knows(ZERO, &command.hash));
    world.nodes[1].send(ZERO, &command).unwrap();
    world.rounds(15);
    assert!(knows(0) && knows(1) && !world.is_mined(0, command.hash));
    world.nodes[0].send(ZERO, &command).unwrap();
    world.rounds(10);
    assert!(!knows(0) && !knows(1));
    assert!(world.nodes[0].send(ZERO, &command).is_err());
    assert_eq!(world.nodes[0].poll(ZERO, &[command.hash], 0), []);
}

#[test]
fn a_command_that_fails_is_in_the_same_block_of_all_nodes_and_pays_all_its_gas() {
    let world = World::new(2, "failed-command=100%", 0);
    world.rounds(1);
    let name = world.nodes[0].network_name().to_owned();
    let command = Anchor { network: &name, ..Anchor::default() }.sign();
    world.nodes[1].send(ZERO, &command).unwrap();
    world.rounds(2);
    let results = [0, 1].map(|node: usize| world.nodes[node].poll(ZERO, &[command.hash], 0).pop().unwrap().1);
    assert_eq!(results[0], results[1]);
    let result: serde_json::Value = serde_json::from_str(&results[0]).unwrap();
    assert_eq!((&result["result"]["status"], &result["gas"]), (&"failure".into(), &1_000.into()));
    let why = result["result"]["error"]["message"].as_str().unwrap();
    assert!(why.contains("exceeded: 1001"), "{why}");
    assert!(result["metaData"]["blockHash"].is_string(), "{result}");
    assert!(world.are_one());
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let world = World::new(2, "none", 0);
    let error = world.nodes[0].partition(&[vec![0], vec![2]]).unwrap_err();
    assert!(matches!(error, TroubleError::NoNode { node: 2, nodes: 2 }), "{error}");
    let error = world.nodes[0].partition(&[vec![0], vec![1, 0]]).unwrap_err();
    assert!(matches!(error, TroubleError::Twice(0)), "{error}");
    assert_eq!(world.nodes[1].state().group, 0);
    for nodes in [0, 17] {
        let error = Devnet::start(Config { nodes, ..config() }).err();
        assert!(matches!(error, Some(StartError::Config(ConfigError::Nodes(count))) if count == nodes));
    }
}

#[test]
fn blocks_that_are_made_by_hand_at_their_delay_keep_their_weight() {
    const PACE: i64 = 16;
    let targets = |block_delay: Duration| {
        let time = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&time);
        let config = Config { block_delay, ..config() };
        let devnet =
            Devnet::start_with_clock(config, Box::new(move || clock.load(Ordering::SeqCst))).unwrap();
        for _ in 0..90 {
            time.fetch_add(PACE * 1_000_000, Ordering::SeqCst);
            devnet.make_round().unwrap();
        }
        // Genesis was years ago: the first epochs make up for that.
        [30, 90].map(|height| devnet.read(|network| network.header_at(ZERO, height).unwrap().target))
    };
    let [early, late] = targets(Duration::from_secs(PACE.unsigned_abs()));
    assert_eq!(early, late);
    let [early, late] = targets(Duration::from_secs(1));
    assert!(early < late, "much slower blocks get easier");
    for block_delay in [Duration::ZERO, Duration::from_secs(3_601)] {
        let error = Devnet::start(Config { block_delay, ..config() }).err();
        assert!(matches!(error, Some(StartError::Config(ConfigError::BlockDelay(_)))));
    }
}

/// A world with all kinds of trouble after many rounds and commands.
fn troubled(nodes: usize, seed: u64) -> (World, Blocks, Commands) {
    let faults = "all,partition=2-6@5%,lag=1-4@5%,down=1-4@5%,reorganize=2-6@10%,lost-mempool=5%,restart=5%";
    let world = World::new(nodes, faults, seed);
    let (mut seen, mut sent) = (HashSet::new(), Vec::new());
    for round in 0..80 {
        world.rounds(1);
        let node = &world.nodes[round % nodes];
        let command = node.read(|network| command(network, ZERO, &round.to_string()));
        if node.send(ZERO, &command).is_ok() {
            sent.push((ZERO, command.hash));
        }
        world.nodes[0].read(|network| see(network, &mut seen));
    }
    (world, seen, sent)
}

#[test]
fn whatever_goes_wrong_all_rules_hold_and_in_the_end_all_are_one() {
    let mut kinds = HashSet::new();
    for seed in 0..12 {
        let nodes = 1 + usize::try_from(seed % 4).unwrap();
        let (world, seen, sent) = troubled(nodes, seed);
        world.nodes[0].read(|network| check(network, &seen, &sent));
        kinds.extend(
            world.nodes[0].happened().into_iter().filter(|(_, count)| *count > 0).map(|(fault, _)| fault),
        );
        world.nodes[0].set_faults(Faults::none());
        world.nodes[0].heal().unwrap();
        // What is under way ends as it would have.
        world.rounds(12);
        assert!(world.are_one(), "seed {seed}");
        for node in &world.nodes {
            node.read(|network| check(network, &HashSet::new(), &sent));
        }
    }
    for fault in Fault::all().filter(|fault| *fault < Fault::TakenAgain) {
        assert!(kinds.contains(&fault), "{fault} never came");
    }
}

#[test]
fn the_same_seed_and_calls_are_the_same_history() {
    for nodes in [1, 3] {
        let history = |seed| {
            let (world, _, sent) = troubled(nodes, seed);
            (world.cuts(), world.nodes[0].happened(), sent)
        };
        assert_eq!(history(5), history(5));
        assert_ne!(history(5), history(6));
    }
}

#[test]
fn orphans_come_at_the_rate_of_real_blocks() {
    let world = World::new(1, "real", 3);
    world.rounds(1_000);
    let orphans = world.nodes[0].happened()[0];
    assert_eq!(orphans.0, Fault::Orphans);
    // 78 of 3,000 on average.
    assert!((50..110).contains(&orphans.1), "{}", orphans.1);
}
