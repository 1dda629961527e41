//! Difficulty, epochs, weight and fork state.

use chainweb::rules::{self, Failure};
use chainweb::{ChainId, Graph, Hash, Header, U256, Version};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    why: String,
    network: String,
    chain: ChainId,
    height: u64,
    parent: Block,
    adjacents: Vec<Block>,
    creation_time: i64,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    target: String,
    epoch_start: i64,
    creation_time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expect {
    target: String,
    epoch_start: i64,
}

impl Block {
    fn header(&self, case: &Case, version: &Version) -> Header {
        let mut target: [u8; 32] = hex::decode(&self.target).expect("hex").try_into().expect("32 bytes");
        target.reverse();
        let genesis = Header::genesis(version, case.chain, Hash::default()).expect("a chain");
        Header {
            height: case.height,
            target: U256::from_le_bytes(target),
            epoch_start: self.epoch_start,
            creation_time: self.creation_time,
            ..genesis
        }
    }
}

#[test]
fn targets_and_epochs_are_those_of_exact_fractions() {
    let file: File = serde_json::from_str(include_str!("data/targets.json")).expect("the cases");
    for case in &file.cases {
        let version = Version::by_name(&case.network).expect("known");
        let parent = case.parent.header(case, version);
        let adjacents: Vec<_> = case.adjacents.iter().map(|block| block.header(case, version)).collect();
        let adjacents: Vec<_> = adjacents.iter().collect();
        let target = rules::next_target(version, &parent, &adjacents, case.creation_time).expect("a target");
        assert_eq!(format!("{target:x}"), case.expect.target, "{}", case.why);
        let epoch_start = rules::next_epoch_start(version, &parent, case.creation_time);
        assert_eq!(epoch_start, case.expect.epoch_start, "{}", case.why);
    }
}

#[test]
fn an_impossible_history_has_no_target() {
    let version = Version::by_name("mainnet01").expect("known");
    let parent = Header { height: 6_000_119, ..genesis(version) };
    let backwards = Header { epoch_start: parent.creation_time + 1, ..parent.clone() };
    assert_eq!(rules::next_target(version, &backwards, &[], 0), None);
    assert_eq!(rules::next_target(version, &parent, &[&backwards], 0), None);
    let legacy = Header { height: 600_119, ..parent.clone() };
    assert_eq!(rules::next_target(version, &legacy, &[], 0), None, "an epoch of no time");
    assert_eq!(rules::difficulty(U256::ZERO), None);
    assert_eq!(rules::difficulty(U256::MAX), Some(U256::from(1)));
}

fn genesis(version: &Version) -> Header {
    Header::genesis(version, ChainId(0), Hash::default()).expect("a chain")
}

/// A block with valid everything on a network of one chain and no neighbours, after `parent`.
fn next(version: &Version, parent: &Header, flags: u64) -> Header {
    let target = rules::next_target(version, parent, &[], 0).expect("a target");
    let mut header = Header {
        flags,
        parent: parent.hash,
        height: parent.height + 1,
        creation_time: parent.creation_time + 30_000_000,
        epoch_start: rules::next_epoch_start(version, parent, 0),
        target,
        weight: rules::difficulty(target).and_then(|own| parent.weight.checked_add(own)).expect("a weight"),
        ..parent.clone()
    };
    header.hash = header.compute_hash();
    header
}

#[test]
fn each_broken_rule_is_named() {
    let version = Version::test("test-singleton", 0x8000_0000, Graph::Singleton, 30_000_000);
    let parent = next(&version, &genesis(&version), 0);
    let good = next(&version, &parent, 0);
    assert_eq!(rules::check(&good, &version, &parent, &[]), []);
    let failures = |change: &dyn Fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        header.hash = header.compute_hash();
        rules::check(&header, &version, &parent, &[])
    };
    assert_eq!(failures(&|it| it.height += 1), [Failure::IncorrectHeight]);
    assert_eq!(failures(&|it| it.weight = U256::ZERO), [Failure::IncorrectWeight]);
    assert_eq!(failures(&|it| it.epoch_start -= 1), [Failure::IncorrectEpoch]);
    assert_eq!(
        failures(&|it| it.target = U256::from(1)),
        [Failure::IncorrectWeight, Failure::IncorrectTarget]
    );
    assert_eq!(failures(&|it| it.creation_time = parent.creation_time), [Failure::CreatedBeforeParent]);
    assert_eq!(failures(&|it| it.parent = Hash::default()), [Failure::MissingParent]);
    assert_eq!(failures(&|it| it.flags = 1), [Failure::InvalidForkState]);
    assert_eq!(failures(&|it| it.flags = 2), [Failure::UnknownForkNumber, Failure::InvalidForkState]);
    assert_eq!(failures(&|it| it.version = 5), [Failure::WrongNetwork, Failure::VersionMismatch]);
    assert_eq!(failures(&|it| it.chain = ChainId(1)), [Failure::UnknownChain, Failure::ChainMismatch]);
    let adjacent = |it: &mut Header| it.adjacents = vec![(ChainId(0), parent.hash)];
    assert_eq!(failures(&adjacent), [Failure::AdjacentChainMismatch, Failure::MissingAdjacentParent]);
    let mut wrong_hash = good.clone();
    wrong_hash.nonce = 1;
    assert_eq!(rules::check_alone(&wrong_hash, &version), [Failure::IncorrectHash]);
    let mined = Version { has_pow: true, ..version.clone() };
    let hard = Header { target: U256::from(1), ..good.clone() };
    assert!(rules::check_alone(&hard, &mined).contains(&Failure::IncorrectPow));
}

#[test]
fn a_genesis_block_is_one_by_height_and_parent() {
    let version = Version::by_name("recap-development").expect("known");
    let genesis = genesis(version);
    assert_eq!(rules::check_alone(&genesis, version), []);
    let failures = |change: &dyn Fn(&mut Header)| {
        let mut header = genesis.clone();
        change(&mut header);
        header.hash = header.compute_hash();
        rules::check_alone(&header, version)
    };
    assert_eq!(failures(&|it| it.parent = Hash::default()), [Failure::IncorrectGenesisParent]);
    assert_eq!(failures(&|it| it.target = U256::MAX), [Failure::IncorrectGenesisTarget]);
    assert_eq!(failures(&|it| it.height = 1), [Failure::IncorrectGenesisParent, Failure::IncorrectPow]);
    let early = |it: &mut Header| it.chain = ChainId(10);
    assert!(failures(&early).contains(&Failure::UnknownChain), "chain 10 begins at height 60");
}

/// Fork number and thousandths of votes as they stand in a header.
fn flags(number: u64, votes: u64) -> u64 {
    votes << 32 | number
}

#[test]
fn votes_are_cast_counted_and_decided() {
    let version = Version::test("test-singleton", 0x8000_0000, Graph::Singleton, 30_000_000);
    let is_valid = |height: u64, before: u64, after: u64| {
        let epoch_start = -3_600_000_000; // an epoch of the time it should have
        let mut parent = Header { height: height - 1, flags: before, epoch_start, ..genesis(&version) };
        parent.hash = parent.compute_hash();
        let failures = rules::check(&next(&version, &parent, after), &version, &parent, &[]);
        !failures.contains(&Failure::InvalidForkState)
    };
    // A vote is cast or not, one at a time.
    assert!(is_valid(100, flags(0, 3000), flags(0, 3000)));
    assert!(is_valid(100, flags(0, 3000), flags(0, 4000)));
    assert!(!is_valid(100, flags(0, 3000), flags(0, 5000)));
    assert!(!is_valid(100, flags(0, 3000), flags(0, 2000)));
    assert!(!is_valid(100, flags(0, 3000), flags(1, 3000)));
    // In the last 120 heights they are averaged; one chain keeps its own.
    assert!(is_valid(14_280, flags(0, 3000), flags(0, 3000)));
    assert!(!is_valid(14_280, flags(0, 3000), flags(0, 4000)));
    assert!(is_valid(14_279, flags(0, 3000), flags(0, 4000)));
    // Two thirds of 14 280 raise the fork number, and nothing less; halves round to the even number.
    assert!(is_valid(14_400, flags(0, 9_520_000), flags(1, 0)));
    assert!(is_valid(14_400, flags(0, 9_520_000), flags(1, 1000)));
    assert!(!is_valid(14_400, flags(0, 9_520_000), flags(0, 0)));
    assert!(is_valid(14_400, flags(0, 9_519_000), flags(0, 0)));
    assert!(is_valid(14_400, flags(0, 9_519_500), flags(1, 0)));
    assert!(is_valid(14_400, flags(0, 9_519_499), flags(0, 0)));
    assert!(!is_valid(14_400, flags(0, 9_520_000), flags(1, 2000)));
}
