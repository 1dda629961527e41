//! Blocks that go on from a cut: real ones follow, forged ones are refused for what is forged, and work is what counts.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "support/miner.rs"]
mod miner;

use chainweb::braid::{Braid, BraidError};
use chainweb::rules::{self, Failure};
use chainweb::{ChainId, Hash, Header, U256, Version};
use miner::{Miner, seal, target};
use proptest::prelude::*;
use serde_json::Value;

/// A height in the middle of an epoch, above all older rules.
const HEIGHT: u64 = 6_399_990;

fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/data/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn headers(list: &Value) -> Vec<Header> {
    let list: Vec<String> = match list {
        Value::Object(by_chain) => by_chain.values().map(|it| it.as_str().unwrap().to_owned()).collect(),
        list => serde_json::from_value(list.clone()).unwrap(),
    };
    list.iter().map(|text| Header::from_base64url(text).unwrap()).collect()
}

fn mainnet() -> &'static Version {
    Version::by_name("mainnet01").unwrap()
}

/// Follows the lowest blocks by the others.
fn follow(miner: &Miner, headers: &[&Header]) -> Result<Braid, BraidError> {
    Braid::follow(mainnet(), &miner.at(HEIGHT), headers)
}

/// Why a header that goes on from the tip is refused.
fn refused(miner: &Miner, forged: &Header) -> Failure {
    let mut headers = miner.all();
    headers.push(forged);
    match follow(miner, &headers).unwrap_err() {
        BraidError::Refused { hash, failure, .. } if hash == forged.hash => failure,
        other => panic!("{other}"),
    }
}

#[test]
fn all_real_blocks_of_five_heights_follow_the_lowest_twenty() {
    let all = headers(&vectors("header_braid.json")["vectors"][0]["headers"]);
    let (cut, above): (Vec<_>, Vec<_>) = all.iter().partition(|header| header.height == 1_800_000);
    let braid = Braid::follow(mainnet(), &cut, &all.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((cut.len(), braid.len(), braid.gap()), (20, 81, None));
    assert!(above.iter().all(|header| braid.follows(&header.hash)));
    let forks = vectors("header_forks.json");
    let fork = &forks["vectors"][0];
    let canonical: Hash = fork["expect"]["canonical"].as_str().unwrap().parse().unwrap();
    let [one, other] = &headers(&fork["headers"])[..] else { panic!("a fork of two") };
    let orphan = if one.hash == canonical { other } else { one };
    assert_eq!(braid.work_above(&orphan.hash), Some(0), "an orphan is valid, and nothing is above it");
    // Of three heights above, what descends from one block: 4, 10 and 18 of 20 blocks.
    assert_eq!(braid.work_above(&canonical), Some(1));
    assert_eq!(braid.work_above(&cut[0].hash), None, "the cut does not follow itself");
}

#[test]
fn real_cuts_can_be_followed_and_others_cannot() {
    let file = vectors("cuts.json");
    let cuts: Vec<Vec<Header>> = file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["headers"])
        .filter(|it| !it.is_null())
        .map(headers)
        .collect();
    assert_eq!(cuts.len(), 3);
    for cut in &cuts {
        let cut: Vec<&Header> = cut.iter().collect();
        assert!(Braid::follow(mainnet(), &cut, &cut).unwrap().is_empty());
        assert!(matches!(Braid::follow(mainnet(), &cut[1..], &cut), Err(BraidError::Chains { .. })));
        let testnet = Version::by_name("testnet04").unwrap();
        let error = Braid::follow(testnet, &cut, &cut).unwrap_err();
        assert!(matches!(error, BraidError::Cut { failure: Failure::WrongNetwork, .. }), "{error}");
        let development = Version::by_name("development").unwrap();
        assert!(matches!(Braid::follow(development, &cut, &cut), Err(BraidError::NoWork(_))));
    }
    let mixed: Vec<&Header> = cuts[0][..10].iter().chain(&cuts[1][10..]).collect();
    assert!(matches!(Braid::follow(mainnet(), &mixed, &mixed), Err(BraidError::Unbraided(_))));
    let low = Miner::new(800_000, target(2));
    assert!(matches!(
        Braid::follow(mainnet(), &low.all(), &low.all()),
        Err(BraidError::TooLow { height: 800_000, least: 852_174 })
    ));
}

#[test]
fn a_mined_braid_is_followed_over_the_end_of_an_epoch_in_any_order() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.pace = 20_000_000;
    miner.layers(100);
    assert_ne!(miner.at(miner.tip)[0].target, target(2), "the difficulty was adjusted");
    let mut headers = miner.all();
    let braid = follow(&miner, &headers).unwrap();
    assert_eq!((braid.len(), braid.gap()), (2000, None));
    let first = miner.at(HEIGHT + 1)[0].hash;
    let work = braid.work_above(&first).unwrap();
    // 99 heights above it; of the first three not all blocks descend from it, and divisions round down.
    assert!((96..=97).contains(&work), "{work}");
    headers.reverse();
    headers.extend(miner.all());
    let braid = follow(&miner, &headers).unwrap();
    assert_eq!((braid.len(), braid.work_above(&first)), (2000, Some(work)));
}

#[test]
fn a_neighbour_that_is_behind_builds_beside_the_parent_of_the_cuts_block() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.layers(5);
    // Chain 0 is one ahead in the cut; its neighbours have to build beside its parent.
    let mut cut = miner.at(HEIGHT + 1);
    cut[0] = miner.at(HEIGHT + 2)[0];
    let braid = Braid::follow(mainnet(), &cut, &miner.all()).unwrap();
    assert_eq!(braid.len(), 4 * 20 - 1);
    let lacks_it: Vec<&Header> = miner.all().into_iter().filter(|it| it.hash != cut[0].parent).collect();
    let braid = Braid::follow(mainnet(), &cut, &lacks_it).unwrap();
    let gap = braid.gap().unwrap();
    assert_eq!((gap.chain, gap.height, gap.hash), (ChainId(0), HEIGHT + 1, cut[0].parent));
}

#[test]
fn each_forged_header_is_refused_for_what_is_forged() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.layers(3);
    let check = |change: &dyn Fn(&mut Header)| {
        let mut header = miner.next(ChainId(4));
        change(&mut header);
        seal(&mut header);
        refused(&miner, &header)
    };
    let parent = miner.headers[&(miner.tip, ChainId(4))].clone();
    let weight = |target| parent.weight.checked_add(rules::difficulty(target).unwrap()).unwrap();
    let easier = |it: &mut Header| (it.target, it.weight) = (U256::MAX, weight(U256::MAX));
    assert_eq!(check(&easier), Failure::IncorrectTarget);
    assert_eq!(
        check(&|it| it.weight = it.weight.checked_add(U256::from(1)).unwrap()),
        Failure::IncorrectWeight
    );
    assert_eq!(check(&|it| it.creation_time = parent.creation_time), Failure::CreatedBeforeParent);
    assert_eq!(check(&|it| it.epoch_start += 1), Failure::IncorrectEpoch);
    assert_eq!(check(&|it| it.height += 1), Failure::IncorrectHeight);
    assert_eq!(check(&|it| it.version = 7), Failure::WrongNetwork);
    assert_eq!(check(&|it| it.flags = 1), Failure::InvalidForkState);
    assert_eq!(check(&|it| it.flags = 2), Failure::UnknownForkNumber);
    assert_eq!(check(&|it| it.adjacents.swap(0, 1)), Failure::AdjacentChainMismatch);
    let older = miner.headers[&(miner.tip - 1, ChainId(9))].hash;
    assert_eq!(check(&|it| it.adjacents[0].1 = older), Failure::Unbraided, "a neighbour of long ago");
    let other = miner.headers[&(miner.tip, ChainId(0))].hash;
    assert_eq!(check(&|it| it.adjacents[0].1 = other), Failure::AdjacentParentChainMismatch);

    let mut lazy = miner.next(ChainId(4));
    while lazy.meets_target() {
        lazy.nonce += 1;
    }
    lazy.hash = lazy.compute_hash();
    assert_eq!(refused(&miner, &lazy), Failure::IncorrectPow);
    let mut renamed = miner.next(ChainId(4));
    seal(&mut renamed);
    renamed.hash = Hash([1; 32]);
    assert_eq!(refused(&miner, &renamed), Failure::IncorrectHash);
}

#[test]
fn an_adjustment_of_the_difficulty_cannot_be_skipped() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.pace = 20_000_000;
    miner.layers(89); // the next blocks begin an epoch
    let parent = miner.headers[&(miner.tip, ChainId(4))].clone();
    assert_eq!((miner.tip + 1) % 120, 0);
    let mut skipped = miner.next(ChainId(4));
    skipped.target = parent.target;
    skipped.epoch_start = parent.epoch_start;
    skipped.weight = parent.weight.checked_add(rules::difficulty(parent.target).unwrap()).unwrap();
    seal(&mut skipped);
    assert_eq!(refused(&miner, &skipped), Failure::IncorrectTarget);
    let mut halved = miner.next(ChainId(4));
    halved.epoch_start = parent.epoch_start;
    seal(&mut halved);
    assert_eq!(refused(&miner, &halved), Failure::IncorrectEpoch);
}

#[test]
fn a_branch_on_one_chain_beside_the_real_neighbours_is_refused() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.layers(3);
    // Another block beside chain 4's newest is fine; one above it would need neighbours that go with it.
    let mut beside = miner.headers[&(miner.tip, ChainId(4))].clone();
    beside.payload_hash = Hash([9; 32]);
    seal(&mut beside);
    let original = miner.headers.clone();
    miner.layers(1);
    let mut above = miner.headers[&(miner.tip, ChainId(4))].clone();
    above.parent = beside.hash;
    seal(&mut above);
    let mut headers = miner.all();
    headers.extend([&beside, &above]);
    let braid = follow(&miner, &headers).unwrap();
    assert!(braid.follows(&beside.hash) && braid.follows(&above.hash), "one height is a fork as any other");
    // The next one finds neighbours that were built beside the real block.
    miner.layers(1);
    let mut third = miner.headers[&(miner.tip, ChainId(4))].clone();
    third.parent = above.hash;
    seal(&mut third);
    let mut headers = miner.all();
    headers.extend([&beside, &above, &third]);
    let error = follow(&miner, &headers).unwrap_err();
    assert!(matches!(error, BraidError::Refused { failure: Failure::Unbraided, .. }), "{error}");
    assert_eq!(original.len(), 80);
}

#[test]
fn chosen_times_make_blocks_easy_and_their_work_nothing() {
    let mut miner = Miner::new(HEIGHT, target(6));
    miner.layers(88);
    miner.pace = 10 * 365 * 86_400_000_000; // one height ten years later, and the epoch is over
    miner.layers(2);
    miner.pace = 1;
    assert_eq!(miner.at(miner.tip)[0].target, U256::MAX, "blocks that cost nothing");
    let easy = miner.at(miner.tip)[0].hash;
    let first = miner.at(HEIGHT + 1)[0].hash;
    miner.layers(29 + 10);
    let braid = follow(&miner, &miner.all()).unwrap();
    assert_eq!(braid.len(), 129 * 20);
    assert_eq!(braid.work_above(&easy), Some(0), "39 heights above it, at a 64th of the cut's difficulty");
    assert!(braid.work_above(&first).unwrap() < 90);
}

#[test]
fn blocks_that_are_harder_than_the_cuts_count_for_no_more() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.pace = 1_000_000;
    miner.layers(89 + 12);
    let newest = rules::difficulty(miner.at(miner.tip)[0].target).unwrap();
    assert!(newest > U256::from(12), "three times as hard, for whoever hopes for a lucky block");
    let braid = follow(&miner, &miner.all()).unwrap();
    let twelve = miner.at(miner.tip - 12)[0].hash;
    assert_eq!(braid.work_above(&twelve), Some(10));
}

#[test]
fn a_header_that_is_left_out_is_named_and_nothing_above_it_follows() {
    let mut miner = Miner::new(HEIGHT, target(2));
    miner.layers(4);
    let all = follow(&miner, &miner.all()).unwrap();
    let tip = miner.tip;
    for left_out in miner.all() {
        let rest: Vec<&Header> = miner.all().into_iter().filter(|it| it.hash != left_out.hash).collect();
        let braid = follow(&miner, &rest).unwrap();
        let is_needed = left_out.height > HEIGHT && left_out.height < tip;
        assert_eq!(braid.gap().map(|gap| gap.hash), is_needed.then_some(left_out.hash));
        for header in &rest {
            assert!(braid.work_above(&header.hash) <= all.work_above(&header.hash));
        }
        assert_eq!(braid.len() < all.len(), left_out.height > HEIGHT, "the cut is given by itself");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_flipped_bit_in_any_header_makes_more_follow(at in 0..80_usize, byte in 0..318_usize, bit in 0..8_u8) {
        let mut miner = Miner::new(HEIGHT, target(2));
        miner.layers(3);
        let all = follow(&miner, &miner.all()).unwrap();
        let mut bytes = miner.all()[at].encode();
        bytes[byte] ^= 1 << bit;
        if let Ok(flipped) = Header::decode(&bytes) {
            let mut headers = miner.all();
            headers[at] = &flipped;
            // The cut is trusted by its hash, which the caller compares: here only what is above it is flipped.
            if let Ok(braid) = follow(&miner, &headers) {
                prop_assert!(braid.len() < all.len() || at < 20);
                prop_assert!(!braid.follows(&flipped.hash) || flipped.hash == miner.all()[at].hash);
                for header in miner.all() {
                    prop_assert!(braid.work_above(&header.hash) <= all.work_above(&header.hash));
                }
            }
        }
    }
}
