//! Trust on from a cut: for the work above a block, where the trust file asks for it, and never for anything else.
//!
//! The braids are mined here, by all rules of mainnet01 and at a difficulty that is nothing; what real blocks show is in
//! `archive.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use chainweb::{ChainId, Header};
use killick_proof::Hash;
use killick_proof::headers::Headers;
use killick_proof::receipt::Receipt;
use killick_proof::report::{BlockName, Level, Report};
use killick_proof::trust::{Forward, MIN_DEPTH, Standing, Trust, TrustFile, TrustedNetwork};
use killick_proof::verify::Verifier;
use proptest::prop_assert;
use proptest::test_runner::{Config, TestRunner};
use support::miner::{Miner, seal, target};
use support::{AnchorMaker, Maker, missing};

const HEIGHT: u64 = 6_399_990;

/// A receipt in the first block above a cut, all that was mined, and a trust file that trusts the cut alone.
struct World {
    receipt: Receipt,
    miner: Rc<RefCell<Miner>>,
    trust: TrustFile,
}

fn hash(header: &Header) -> Hash {
    Hash::new(header.hash.0)
}

/// With so many layers above the receipt's block.
fn world(layers: usize) -> World {
    let miner = Rc::new(RefCell::new(Miner::new(HEIGHT, target(2))));
    let anchor = AnchorMaker {
        network: "mainnet01".into(),
        code: 5,
        is_trusted: false,
        miner: Some(Rc::clone(&miner)),
        ..AnchorMaker::default()
    };
    let maker = Maker { anchors: vec![anchor], ..Maker::default() };
    let receipt = maker.make();
    miner.borrow_mut().layers(layers);
    let mut trust = maker.trust(&receipt);
    let cut: Vec<Header> = miner.borrow().at(HEIGHT).into_iter().cloned().collect();
    trust.networks = vec![TrustedNetwork {
        name: "mainnet01".into(),
        headers: cut.iter().map(Header::encode).collect(),
        forward: Some(Forward { from: cut.iter().map(hash).collect(), depth: MIN_DEPTH }),
        ..TrustedNetwork::default()
    }];
    World { receipt, miner, trust }
}

impl World {
    /// All headers above the cut, one after the other.
    fn beside(&self) -> Vec<Vec<u8>> {
        let miner = self.miner.borrow();
        miner.all().iter().filter(|header| header.height > HEIGHT).map(|header| header.encode()).collect()
    }

    fn verify(&self, headers: &[Vec<u8>]) -> Report {
        verify(&self.receipt, &self.trust, headers)
    }
}

fn gather(files: &[Vec<u8>]) -> Headers {
    let mut headers = Headers::new();
    assert_eq!(headers.add(&files.concat()), Ok(files.len()));
    headers
}

fn verify(receipt: &Receipt, trust: &TrustFile, headers: &[Vec<u8>]) -> Report {
    let trust = Trust::parse_with(trust.to_json().as_bytes(), &gather(headers)).unwrap();
    Verifier::new(trust).verify(receipt.to_json().as_bytes(), None)
}

#[test]
fn a_block_is_trusted_for_the_work_above_it_and_the_report_says_how_much() {
    let world = world(125);
    let report = world.verify(&world.beside());
    assert_eq!((report.level, &report.fault), (Level::Trusted, &None));
    // The blocks of three heights do not all descend from it: 4, 10 and 18 of 20.
    assert_eq!(report.work_above, Some(125 - 2));
    assert_eq!(report.not_after, Some(support::miner::START + 30_000_000));
    let mut inside = world.trust.clone();
    inside.networks[0].headers.extend(world.beside());
    assert_eq!(verify(&world.receipt, &inside, &[]), report, "in the trust file or beside it is the same");
}

#[test]
fn too_little_work_leaves_it_anchored_and_says_how_much_there_is() {
    let world = world(30);
    let report = world.verify(&world.beside());
    assert_eq!((report.level, report.not_after, report.work_above), (Level::Anchored, None, None));
    assert_eq!(
        missing(&report),
        "anchors[0].block.hash: the headers above it have 28 times the work of the cut that they go on from, and the \
         trust file asks for 120 times"
    );
}

#[test]
fn nothing_is_trusted_on_from_a_cut_where_the_trust_file_does_not_ask_for_it() {
    let mut world = world(125);
    let cut = world.trust.networks[0].forward.take().unwrap().from;
    world.trust.networks[0].blocks = cut;
    let report = world.verify(&world.beside());
    assert_eq!(report.level, Level::Anchored);
    assert!(missing(&report).contains("trusts neither this block nor one that descends from it"));
}

#[test]
fn an_older_verifier_that_ignores_the_member_believes_less() {
    let world = world(125);
    let mut json: serde_json::Value = serde_json::from_str(&world.trust.to_json()).unwrap();
    json["networks"][0].as_object_mut().unwrap().remove("forward").unwrap();
    let trust = Trust::parse_with(json.to_string().as_bytes(), &gather(&world.beside())).unwrap();
    let block = &world.receipt.anchors[0].block;
    assert!(!trust.trusts("mainnet01", &block.hash));
    let cut = hash(world.miner.borrow().at(HEIGHT)[0]);
    assert!(!trust.trusts("mainnet01", &cut), "the cut stands in no member that it knows");
}

#[test]
fn a_cut_that_asks_for_too_little_or_is_none_is_refused_by_its_entry() {
    let world = world(1);
    let refused = |change: &dyn Fn(&mut TrustedNetwork)| {
        let mut trust = world.trust.clone();
        change(&mut trust.networks[0]);
        let error = Trust::new(&trust).unwrap_err();
        (error.entry, error.why)
    };
    let forward = |it: &mut TrustedNetwork| it.forward.take().unwrap();
    let (entry, why) = refused(&|it| it.forward = Some(Forward { depth: MIN_DEPTH - 1, ..forward(it) }));
    assert_eq!(entry, "networks[0].forward.depth", "{why}");
    let (entry, why) = refused(&|it| drop(it.headers.remove(3)));
    assert!(entry.starts_with("networks[0].forward.from["), "{entry}: {why}");
    let (entry, why) = refused(&|it| it.forward.as_mut().unwrap().from.truncate(19));
    assert_eq!(
        (&*entry, why.contains("one block of each of its 20 chains")),
        ("networks[0].forward", true),
        "{why}"
    );
    let (entry, why) = refused(&|it| it.name = "elsewhere".into());
    assert_eq!(entry, "networks[0].headers[0]", "{why}");
}

#[test]
fn a_network_without_proof_of_work_never_gains_trust_on_from_a_cut() {
    let trust = TrustFile {
        networks: vec![TrustedNetwork {
            name: "development".into(),
            forward: Some(Forward { from: Vec::new(), depth: MIN_DEPTH }),
            ..TrustedNetwork::default()
        }],
        ..TrustFile::default()
    };
    let error = Trust::new(&trust).unwrap_err();
    assert_eq!(error.entry, "networks[0].forward");
    assert!(error.why.contains("development has no proof of work"), "{error}");
}

#[test]
fn a_missing_header_is_named_and_a_forged_one_is_refused_with_its_reason() {
    let world = world(125);
    let mut headers = world.beside();
    let dropped = Header::decode(&headers.remove(20 * 3 + 7)).unwrap();
    let report = world.verify(&headers);
    assert_eq!(report.level, Level::Anchored);
    assert!(missing(&report).contains("the work of the cut"), "{}", missing(&report));
    // Its own header is one that everything above needs.
    let own = world.receipt.anchors[0].block.header.clone();
    headers.insert(67, dropped.encode());
    headers.retain(|header| *header != own);
    let report = world.verify(&headers);
    assert!(
        missing(&report).contains(&world.receipt.anchors[0].block.hash.to_string()),
        "{}",
        missing(&report)
    );

    let mut forged = dropped;
    forged.weight = chainweb::U256::from(1);
    seal(&mut forged);
    headers.push(forged.encode());
    headers.push(own);
    let json = world.trust.to_json();
    let error = Trust::parse_with(json.as_bytes(), &gather(&headers)).unwrap_err();
    assert_eq!(error.entry, "networks[0].forward");
    assert!(error.why.contains("does not follow its parents: the weight is not"), "{error}");
    assert!(error.why.contains(&forged.hash.to_string()), "{error}");
}

#[test]
fn a_branch_beside_a_newer_block_that_is_trusted_gains_nothing() {
    // Two histories from one cut; the forged one has the receipt and the work, the trust file knows a block of the other.
    let world = world(125);
    let mut honest = Miner::new(HEIGHT, target(2));
    honest.layers(3);
    let (first, third) = (honest.at(HEIGHT + 1), honest.at(HEIGHT + 3));
    let mut trust = world.trust.clone();
    trust.networks[0].blocks = vec![hash(third[4])];
    let linking = [honest.at(HEIGHT + 2), third.clone()].concat();
    trust.networks[0].headers.extend(linking.into_iter().map(Header::encode));
    let report = verify(&world.receipt, &trust, &world.beside());
    assert_eq!(report.level, Level::Anchored);
    assert_eq!(
        missing(&report),
        format!(
            "anchors[0].block.hash: the trusted block of chain 4 at height {} is another: {}",
            HEIGHT + 1,
            first[4].hash
        )
    );
}

#[test]
fn blocks_before_the_cut_stay_a_matter_of_hashes() {
    let world = world(125);
    let miner = world.miner.borrow();
    let mut trust = world.trust.clone();
    // The cut is now the last layer; what is below is trusted by the headers back from it, with no work above.
    let cut = miner.at(miner.tip);
    trust.networks[0].forward =
        Some(Forward { from: cut.iter().map(|it| hash(it)).collect(), depth: MIN_DEPTH });
    trust.networks[0].headers = cut.iter().map(|it| it.encode()).collect();
    let report = verify(&world.receipt, &trust, &world.beside());
    assert_eq!((report.level, report.work_above), (Level::Trusted, None));
}

#[test]
fn no_flip_and_no_loss_makes_more_trusted_and_no_order_makes_a_difference() {
    let world = world(127);
    let json = world.trust.to_json();
    let headers = world.beside();
    // By how much a block is trusted with these headers; not at all where they are refused.
    let standing = |headers: &[Vec<u8>], block: &Header| {
        let mut files = Headers::new();
        files.add(&headers.concat()).ok()?;
        let trust = Trust::parse_with(json.as_bytes(), &files).ok()?;
        let (chain, height) = (block.chain.0, block.height);
        match trust.standing(&BlockName { network: "mainnet01".into(), chain, height, hash: hash(block) }) {
            Standing::Trusted => Some(u64::MAX),
            Standing::TrustedForWork(work) => Some(work),
            Standing::Untrusted(_) => None,
        }
    };
    let mut runner = TestRunner::new(Config::with_cases(8));
    let places = (0..headers.len(), 0..318_usize, 0..8_u8, 0..headers.len());
    let outcome = runner.run(&places, |(at, byte, bit, turn)| {
        let miner = world.miner.borrow();
        let block = &miner.headers[&(HEIGHT + 1 + at as u64 % 4, ChainId(at as u32 % 20))];
        let mut turned = headers.clone();
        turned.rotate_left(turn);
        turned.reverse();
        let before = standing(&turned, block);
        prop_assert!(before.is_some());
        let mut flipped = headers.clone();
        flipped[at][byte] ^= 1 << bit;
        prop_assert!(standing(&flipped, block) <= before);
        let mut fewer = headers.clone();
        fewer.remove(at);
        prop_assert!(standing(&fewer, block) <= before);
        Ok(())
    });
    outcome.unwrap();
}
