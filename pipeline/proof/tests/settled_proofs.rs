//! The settled cases of the receipt format that are about what a receipt proves.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::batch::BatchHeader;
use killick_proof::note::{self, Note, SignerKey};
use killick_proof::receipt::Receipt;
use killick_proof::report::{Device, Level, Report};
use killick_proof::signature::SecretKey;
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};
use support::{AnchorMaker, Maker, log_key, missing, success, verify, verify_json, wrong};

/// Verifies what the maker makes, with everything trusted.
fn made(maker: &Maker) -> Report {
    let receipt = maker.make();
    verify(&receipt, &maker.trust(&receipt))
}

fn with_anchor(anchor: AnchorMaker) -> Maker {
    Maker { anchors: vec![anchor], ..Maker::default() }
}

fn with_output(output: fn(&str) -> String) -> Report {
    made(&with_anchor(AnchorMaker { output, ..AnchorMaker::default() }))
}

/// The receipt with another checkpoint text in place of its own, signed by the log key.
fn with_checkpoint(change: impl Fn(&str) -> String) -> Report {
    let maker = Maker::default();
    let mut receipt = maker.make();
    let text = Note::parse(&receipt.log.checkpoint).unwrap().text().to_owned();
    receipt.log.checkpoint = note::sign(&change(&text), &[&log_key(&maker.origin)]).unwrap();
    verify(&receipt, &maker.trust(&receipt))
}

#[test]
fn every_hash_can_make_a_log_and_an_anchor_tree() {
    for algorithm in Algorithm::ALL {
        for tree in Algorithm::ALL {
            let anchor = AnchorMaker { algorithm: tree, ..AnchorMaker::default() };
            let origin = format!("plant.example/1/{algorithm}/7");
            let maker = Maker { origin, algorithm, anchors: vec![anchor], ..Maker::default() };
            assert_eq!(made(&maker).level, Level::Trusted, "{algorithm} {tree}");
        }
    }
}

#[test]
fn trees_of_one_leaf_and_times_before_1970_are_as_good_as_others() {
    let maker = Maker { leaves: 1, index: 0, log_size: 1, number: 0, time: -1, ..Maker::default() };
    let report = made(&maker);
    assert_eq!((report.level, report.claimed, report.logged), (Level::Trusted, Some(-1), Some((-1, 0))));
    assert_eq!(made(&Maker { time: i64::MIN, ..Maker::default() }).claimed, Some(i64::MIN));
}

#[test]
fn an_unsigned_statement_and_an_unknown_key_lower_no_level() {
    let maker = Maker { is_signed: false, ..Maker::default() };
    let report = made(&maker);
    assert_eq!((report.level, report.device), (Level::Trusted, Some(Device::Unsigned)));
    let maker = Maker::default();
    let receipt = maker.make();
    let trusted = maker.trust(&receipt);
    let mut others = vec![TrustFile { devices: Vec::new(), ..trusted.clone() }, trusted.clone(), trusted];
    others[1].devices[0].source = "press/8".into();
    others[2].devices[0].tenant = "plant-b".into();
    for trust in others {
        let report = verify(&receipt, &trust);
        assert_eq!((report.level, report.device), (Level::Trusted, Some(Device::UnknownKey)));
    }
}

#[test]
fn the_payload_has_to_match_where_it_is_given() {
    let maker = Maker::default();
    let receipt = maker.make();
    let mut verifier = Verifier::new(Trust::new(&maker.trust(&receipt)).unwrap());
    let report = verifier.verify(receipt.to_json().as_bytes(), Some(&Algorithm::Sha256.digest(b"payload")));
    assert!(report.payload_matches && report.level == Level::Trusted);
    let report = verifier.verify(receipt.to_json().as_bytes(), Some(&Algorithm::Sha256.digest(b"other")));
    assert_eq!((report.level, report.payload_matches), (Level::None, false));
    assert_eq!(report.wrong().unwrap().field, "statement");
}

#[test]
fn an_origin_of_another_form_is_wrong_and_an_unknown_hash_is_not_understood() {
    let maker = Maker::default();
    let statement = maker.statement();
    let receipt = maker.make();
    let header = |origin: &str, hash: &str| {
        let mut header = vec![0x8c, 1, 0x78, u8::try_from(origin.len()).unwrap()];
        header.extend_from_slice(origin.as_bytes());
        header.extend_from_slice(&receipt.batch.header[4 + maker.origin.len()..]);
        let name = [&[0x66][..], b"sha256"].concat();
        let at = 5 + origin.len();
        assert_eq!(header[at..at + 7], name);
        let other = [&[0x60 + u8::try_from(hash.len()).unwrap()], hash.as_bytes()].concat();
        header.splice(at..at + 7, other);
        header
    };
    let report = |origin: &str, hash: &str| {
        let mut receipt = Receipt { statement: statement.clone(), ..receipt.clone() };
        receipt.batch.header = header(origin, hash);
        verify(&receipt, &maker.trust(&receipt))
    };
    for origin in [
        "plant.example/01/sha256/7",
        "plant.example/1/sha256/07",
        "plant_x.example/1/sha256/7",
        "plant.example.long/1/sha256",
        "plant.example/1/sha-256/7",
        "plant.example/1/SHA256/7",
        "/plant.example/1/sha256/7",
    ] {
        assert_eq!(report(origin, "sha256").wrong().unwrap().field, "batch.header", "{origin}");
    }
    assert_eq!(report("plant.example/1/keccak256/7", "sha256").wrong().unwrap().field, "batch.header");
    assert_eq!(report("plant.example/1/sha256/7_", "blake3").wrong().unwrap().field, "batch.header");
    let unknown = report("plant.example/1/blake3_256/7", "blake3_256");
    assert_eq!(unknown.level, Level::Stated);
    assert_eq!(missing(&unknown), "batch.header: the hash \"blake3_256\" is not understood");
}

#[test]
fn a_checkpoint_is_strict_and_its_extensions_belong_to_its_text() {
    assert_eq!(with_checkpoint(str::to_owned).level, Level::Trusted);
    assert_eq!(
        made(&Maker { extension: "more 1\nmore 2\n".into(), ..Maker::default() }).level,
        Level::Trusted
    );
    let said = wrong(&with_checkpoint(|text| format!("{text}more\n")));
    assert!(said.starts_with("anchors[0].tree.path"), "{said}");
    for (from, to) in [
        ("\n9\n", "\n09\n"),
        ("\n9\n", "\n0\n"),
        ("\n9\n", "\n9 \n"),
        ("\n9\n", "\n-9\n"),
        ("\n9\n", "\n9007199254740992\n"),
        ("plant.example/1", "plant.example/01"),
        ("plant.example", "Plant.example"),
        ("=\n", "\n"),
        ("=\n", "==\n"),
    ] {
        let report = with_checkpoint(|text| text.replacen(from, to, 1));
        assert_eq!(report.wrong().unwrap().field, "log.checkpoint", "{from:?} as {to:?}");
    }
    let report = with_checkpoint(|text| text.replacen("/7\n", "/8\n", 1));
    assert!(wrong(&report).starts_with("log.checkpoint: "), "{report:#?}");
}

#[test]
fn a_checkpoint_has_signatures_and_at_most_a_hundred() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let report = |checkpoint: String| {
        let mut receipt = receipt.clone();
        receipt.log.checkpoint = checkpoint;
        verify(&receipt, &trust)
    };
    let text = Note::parse(&receipt.log.checkpoint).unwrap().text().to_owned();
    let signature = receipt.log.checkpoint[text.len() + 1..].to_owned();
    wrong(&report(text.clone()));
    wrong(&report(format!("{text}\n")));
    let witnesses = |count: u8| -> String {
        let lines = (0..count).map(|number| {
            let witness =
                SignerKey::new(&format!("w{number}.example"), SecretKey::from_seed(&[number; 32])).unwrap();
            note::sign(&text, &[&witness]).unwrap()[text.len() + 1..].to_owned()
        });
        lines.collect()
    };
    for count in [1, 99] {
        assert_eq!(report(format!("{text}\n{}{signature}", witnesses(count))).level, Level::Trusted);
        assert_eq!(report(format!("{text}\n{signature}{}", witnesses(count))).level, Level::Trusted);
    }
    wrong(&report(format!("{text}\n{signature}{}", witnesses(100))));
    let unknown = report(format!("{text}\n{}", witnesses(2)));
    assert_eq!(unknown.level, Level::Batched);
    assert!(missing(&unknown).starts_with("log.checkpoint: no log key of the trust file"), "{unknown:#?}");
}

#[test]
fn a_wrong_signature_by_a_known_key_is_wrong_also_beside_a_good_one() {
    let maker = Maker::default();
    let mut receipt = maker.make();
    let mut trust = maker.trust(&receipt);
    let witness = SignerKey::new("witness.example", SecretKey::from_seed(&[5; 32])).unwrap();
    let text = Note::parse(&receipt.log.checkpoint).unwrap().text().to_owned();
    let other = note::sign("another text\n", &[&witness]).unwrap();
    let line = other.lines().last().unwrap();
    receipt.log.checkpoint.push_str(&format!("{line}\n"));
    assert_eq!(verify(&receipt, &trust).level, Level::Trusted, "nobody knows the witness");
    trust.logs.push(LogKey { key: witness.verifier(), until: None });
    assert_eq!(verify(&receipt, &trust).wrong().unwrap().field, "log.checkpoint");
    receipt.log.checkpoint = note::sign(&text, &[&witness, &log_key(&maker.origin)]).unwrap();
    assert_eq!(verify(&receipt, &trust).level, Level::Trusted);
    receipt.log.checkpoint = note::sign(&text, &[&witness]).unwrap();
    assert_eq!(verify(&receipt, &trust).level, Level::Batched, "a known key, but not of this log");
}

#[test]
fn the_anchor_text_is_read_as_a_whole_before_it_is_compared() {
    let input = "anchors[0].spv.subject.input: ";
    let not_understood = with_output(|text| success(&text.replace("sha256", "md5_or_so")));
    assert_eq!(not_understood.level, Level::Logged);
    assert!(
        missing(&not_understood).starts_with(&format!("{input}the hash \"md5_or_so\"")),
        "{not_understood:#?}"
    );
    let wrongs: [fn(&str) -> String; 14] = [
        |text| success(&text.replace("sha256", "SHA256")),
        |text| success(&text.replace("sha256", "sha-256")),
        |text| success(&text.replace("sha256", &"a".repeat(33))),
        |text| success(&text.replace("sha256", "")),
        |text| success(&text.replace("killick/1", "killick/2")),
        |text| success(&text.replace(" 3 ", " 03 ")),
        |text| success(&text.replace(" 3 ", "  3 ")),
        |text| success(&text.replace("sha256 3 ", "md5 03 ")),
        |text| success(&format!("{text}\n")),
        |text| success(&format!("{text} x")),
        |text| success(&format!("{text}=")),
        |text| success(text).replace("success", "failure"),
        |text| success(text).replace("success", "Success"),
        |text| format!("{{\"a\":1,\"a\":2,{}", &success(text)[1..]),
    ];
    for (at, output) in wrongs.into_iter().enumerate() {
        let said = wrong(&with_output(output));
        assert!(said.starts_with(input), "{at}: {said}");
    }
    let deep = |text: &str| success(text).replace("\"k\"", &format!("{}{}", "[".repeat(32), "]".repeat(32)));
    assert!(wrong(&with_output(deep)).contains("deeper than 32"));
    let less = |text: &str| success(text).replace("\"k\"", &format!("{}{}", "[".repeat(31), "]".repeat(31)));
    assert_eq!(with_output(less).level, Level::Trusted);
    let size = with_output(|text| success(&text.replace(" 3 ", " 4 ")));
    assert_eq!(size.wrong().unwrap().field, "anchors[0].tree.size");
}

#[test]
fn a_transaction_is_no_output() {
    let maker = Maker::default();
    let mut receipt = maker.make();
    receipt.anchors[0].spv.input[1] = 0x13;
    assert!(wrong(&verify(&receipt, &maker.trust(&receipt))).contains("0x0014"));
}

#[test]
fn the_position_in_an_spv_object_means_nothing_and_everything_else_does() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    for at in 0..receipt.anchors[0].spv.object.len() {
        let mut changed = receipt.clone();
        changed.anchors[0].spv.object[at] ^= 1;
        let report = verify(&changed, &trust);
        if (4..12).contains(&at) {
            assert_eq!(report.level, Level::Trusted);
        } else {
            assert_eq!(report.wrong().unwrap().field, "anchors[0].spv.object", "{at}");
        }
    }
}

#[test]
fn a_proof_may_end_on_another_chain_than_the_transactions() {
    let maker = with_anchor(AnchorMaker { ends_on: Some(9), ..AnchorMaker::default() });
    let report = made(&maker);
    assert_eq!((report.level, report.block.unwrap().chain), (Level::Trusted, 9));
    let mut receipt = maker.make();
    receipt.anchors[0].spv.chain = 4;
    assert_eq!(verify(&receipt, &maker.trust(&receipt)).wrong().unwrap().field, "anchors[0].spv.chain");
    let mut receipt = maker.make();
    (receipt.anchors[0].spv.chain, receipt.anchors[0].block.chain) = (4, 4);
    assert_eq!(verify(&receipt, &maker.trust(&receipt)).wrong().unwrap().field, "anchors[0].block.chain");
}

#[test]
fn every_word_about_the_block_is_held_against_its_header() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let field = |change: fn(&mut Receipt)| {
        let mut receipt = receipt.clone();
        change(&mut receipt);
        verify(&receipt, &trust).wrong().unwrap().field.clone()
    };
    assert_eq!(
        field(|receipt| receipt.anchors[0].block.network = "mainnet01".into()),
        "anchors[0].block.network"
    );
    assert_eq!(
        field(|receipt| receipt.anchors[0].block.network = "nobody".into()),
        "anchors[0].block.network"
    );
    assert_eq!(field(|receipt| receipt.anchors[0].block.height += 1), "anchors[0].block.height");
    assert_eq!(field(|receipt| receipt.anchors[0].block.hash = Hash::new([1; 32])), "anchors[0].block.hash");
    assert_eq!(field(|receipt| receipt.anchors[0].block.header[20] ^= 1), "anchors[0].block.header");
}

#[test]
fn neighbours_are_those_of_the_graph_in_ascending_order() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let records = 50..50 + 3 * 36;
    let mut swapped = receipt.clone();
    swapped.anchors[0].block.header[records.clone()].rotate_left(36);
    let said = wrong(&verify(&swapped, &trust));
    assert!(said.starts_with("anchors[0].block.header: its neighbours"), "the hash is the same: {said}");
    let mut renamed = receipt.clone();
    renamed.anchors[0].block.header[50] ^= 1;
    wrong(&verify(&renamed, &trust));
    // Chain 4 of mainnet had other neighbours before height 852,054, and blocks there meet their target.
    let mainnet = |height| {
        with_anchor(AnchorMaker { network: "mainnet01".into(), code: 5, height, ..AnchorMaker::default() })
    };
    assert_eq!(made(&mainnet(800_000)).level, Level::Trusted);
    assert_eq!(made(&mainnet(852_054)).level, Level::Trusted);
    assert_eq!(made(&mainnet(852_055)).level, Level::Trusted);
}

#[test]
fn a_block_has_to_meet_its_target_where_the_network_has_one() {
    let anchor = AnchorMaker { network: "mainnet01".into(), code: 5, ..AnchorMaker::default() };
    let maker = with_anchor(anchor);
    let mut receipt = maker.make();
    // A target that nothing meets; the hash is made right again.
    let block = &mut receipt.anchors[0].block;
    let mut header = chainweb::header::Header::decode(&block.header).unwrap();
    header.target = chainweb::uint::U256::ZERO;
    header.hash = header.compute_hash();
    block.header = header.encode();
    block.hash = Hash::new(header.hash.0);
    let said = wrong(&verify(&receipt, &maker.trust(&receipt)));
    assert!(said.starts_with("anchors[0].block.header: its proof of work"), "{said}");
}

#[test]
fn an_unknown_network_ends_at_anchored_even_where_its_block_is_trusted() {
    let anchor =
        AnchorMaker { network: "test-singleton".into(), code: 0x8000_0001, ..AnchorMaker::default() };
    let report = made(&with_anchor(anchor));
    assert_eq!(report.level, Level::Anchored);
    assert!(missing(&report).starts_with("anchors[0].block.network: "), "{report:#?}");
}

#[test]
fn one_trusted_anchor_is_enough_and_a_wrong_one_makes_the_receipt_wrong() {
    let first = AnchorMaker { is_trusted: false, ..AnchorMaker::default() };
    let later = AnchorMaker { chain: 7, created: 1_790_000_900_000_000, ..AnchorMaker::default() };
    let latest = AnchorMaker { chain: 8, created: 1_790_000_901_000_000, ..AnchorMaker::default() };
    let maker = Maker { anchors: vec![first, latest, later], ..Maker::default() };
    let report = made(&maker);
    assert_eq!((report.level, report.not_after), (Level::Trusted, Some(1_790_000_900_000_000)));
    assert_eq!(report.block.unwrap().chain, 7);
    let mut receipt = maker.make();
    receipt.anchors[0].tree.index = 2;
    assert!(verify(&receipt, &maker.trust(&receipt)).wrong().unwrap().field.starts_with("anchors[0].tree"));
    let receipt = maker.make();
    let json = receipt.to_json().replacen("\"type\": \"chainweb\"", "\"type\": \"later\"", 1);
    assert_eq!(verify_json(&json, &maker.trust(&receipt)).level, Level::Trusted);
    let json = receipt.to_json().replacen("\"tree\"", "\"Tree\"", 1);
    assert_eq!(verify_json(&json, &maker.trust(&receipt)).level, Level::Trusted);
}

#[test]
fn without_anchors_that_are_understood_a_receipt_is_logged() {
    let maker = Maker { anchors: Vec::new(), ..Maker::default() };
    let report = made(&maker);
    assert_eq!((report.level, missing(&report)), (Level::Logged, "anchors: there is none".into()));
    let maker = Maker::default();
    let receipt = maker.make();
    let json = receipt.to_json().replacen("\"chainweb\"", "\"ethereum\"", 1);
    let report = verify_json(&json, &maker.trust(&receipt));
    assert_eq!(
        (report.level, missing(&report)),
        (Level::Logged, "anchors[0].type: \"ethereum\" is not understood".into())
    );
}

#[test]
fn an_anchor_may_prove_a_later_checkpoint_of_the_same_log() {
    let later = AnchorMaker { own: Some(23), ..AnchorMaker::default() };
    let maker = with_anchor(later);
    assert_eq!(made(&maker).level, Level::Trusted);
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let field = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt.clone();
        change(&mut receipt);
        let report = verify(&receipt, &trust);
        (report.level, report.wrong().map(|wrong| wrong.field.clone()))
    };
    let own = |receipt: &mut Receipt| receipt.anchors[0].log.take().unwrap();
    let (_, without) = field(&|receipt| drop(own(receipt)));
    assert!(
        without.unwrap().starts_with("anchors[0].tree"),
        "the receipt's own checkpoint is not in that tree"
    );
    let (_, path) = field(&|receipt| receipt.anchors[0].log.as_mut().unwrap().path[0] = Hash::new([0; 32]));
    assert_eq!(path.as_deref(), Some("anchors[0].log.path"));

    let other = Maker { origin: "plant.example/1/sha256/8".into(), ..maker.clone() }.make();
    let (_, origin) = field(&|receipt| receipt.anchors[0] = other.anchors[0].clone());
    assert_eq!(origin.as_deref(), Some("anchors[0].log.checkpoint"));

    let signed_by_nobody = |receipt: &mut Receipt| {
        let log = receipt.anchors[0].log.as_mut().unwrap();
        let text = Note::parse(&log.checkpoint).unwrap().text().to_owned();
        let stranger = SignerKey::new("stranger.example", SecretKey::from_seed(&[6; 32])).unwrap();
        log.checkpoint = note::sign(&text, &[&stranger]).unwrap();
    };
    assert_eq!(field(&signed_by_nobody), (Level::Logged, None));
}

#[test]
fn the_key_of_an_anchors_own_checkpoint_may_have_ended_too() {
    let own = AnchorMaker { own: Some(23), created: 100, ..AnchorMaker::default() };
    let maker = with_anchor(own);
    let receipt = maker.make();
    let mut trust = maker.trust(&receipt);
    trust.logs[0].until = Some(100);
    assert_eq!(verify(&receipt, &trust).level, Level::Trusted);
    trust.logs[0].until = Some(99);
    assert_eq!(verify(&receipt, &trust).level, Level::Batched);
}

#[test]
fn a_receipt_that_shows_two_roots_for_one_size_is_wrong() {
    let maker = with_anchor(AnchorMaker { own: Some(9), ..AnchorMaker::default() });
    assert_eq!(made(&maker).level, Level::Trusted, "the same checkpoint twice");
    let mut receipt = maker.make();
    let text = Note::parse(&receipt.log.checkpoint).unwrap().text().to_owned();
    let root = text.lines().nth(2).unwrap();
    let forged = text.replace(root, "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=");
    receipt.anchors[0].log.as_mut().unwrap().checkpoint =
        note::sign(&forged, &[&log_key(&maker.origin)]).unwrap();
    assert_eq!(verify(&receipt, &maker.trust(&receipt)).wrong().unwrap().field, "anchors[0].log.checkpoint");
}

#[test]
fn keys_with_an_end_count_with_a_trusted_block_made_by_then() {
    let untrusted = AnchorMaker { is_trusted: false, created: 50, ..AnchorMaker::default() };
    let oldest = AnchorMaker { chain: 7, created: 100, ..AnchorMaker::default() };
    let newest = AnchorMaker { chain: 8, created: 200, ..AnchorMaker::default() };
    let maker = Maker { anchors: vec![untrusted, newest, oldest], ..Maker::default() };
    let receipt = maker.make();
    let report = |log: Option<i64>, device: Option<i64>| {
        let mut trust = maker.trust(&receipt);
        trust.logs[0].until = log;
        trust.devices[0].until = device;
        let report = verify(&receipt, &trust);
        (report.level, report.device.unwrap())
    };
    assert_eq!(report(None, None), (Level::Trusted, Device::Valid));
    assert_eq!(report(Some(100), Some(100)), (Level::Trusted, Device::Valid));
    assert_eq!(report(Some(150), Some(99)), (Level::Trusted, Device::UnknownKey));
    assert_eq!(report(Some(99), Some(100)), (Level::Batched, Device::UnknownKey));
    assert_eq!(report(Some(-1), None), (Level::Batched, Device::Valid));
}

#[test]
fn a_key_with_an_end_does_not_count_without_a_trusted_block() {
    let maker = Maker::default();
    let receipt = maker.make();
    let mut trust = maker.trust(&receipt);
    trust.networks.clear();
    assert_eq!(verify(&receipt, &trust).level, Level::Anchored);
    trust.devices[0].until = Some(i64::MAX);
    let report = verify(&receipt, &trust);
    assert_eq!((report.level, report.device), (Level::Anchored, Some(Device::UnknownKey)));
    trust.logs[0].until = Some(i64::MAX);
    assert_eq!(verify(&receipt, &trust).level, Level::Batched);
    trust.logs.push(LogKey { until: None, ..trust.logs[0].clone() });
    assert_eq!(verify(&receipt, &trust).level, Level::Anchored, "listed a second time without an end");
}

#[test]
fn a_block_is_trusted_by_a_descendant_that_headers_link_to_it() {
    let maker = with_anchor(AnchorMaker { is_trusted: false, ..AnchorMaker::default() });
    let receipt = maker.make();
    let mut trust = maker.trust(&receipt);
    let block = chainweb::header::Header::decode(&receipt.anchors[0].block.header).unwrap();
    let child = |parent: &chainweb::header::Header| {
        let mut child = parent.clone();
        child.parent = parent.hash;
        child.height += 1;
        child.hash = child.compute_hash();
        child
    };
    let (first, second) = (child(&block), child(&child(&block)));
    let hash = |header: &chainweb::header::Header| Hash::new(header.hash.0);
    let level = |trust: &TrustFile| verify(&receipt, trust).level;

    trust.networks[0].headers = vec![second.encode(), first.encode()];
    assert_eq!(level(&trust), Level::Anchored, "headers alone are not trusted");
    trust.networks[0].blocks = vec![hash(&second)];
    assert_eq!(level(&trust), Level::Trusted);
    trust.networks[0].headers.pop();
    assert_eq!(level(&trust), Level::Anchored, "a link is missing");
    trust.networks[0].blocks.push(hash(&first));
    assert_eq!(level(&trust), Level::Anchored, "a trusted hash without its header links nothing");
    trust.networks[0].headers.push(first.encode());
    assert_eq!(level(&trust), Level::Trusted);
    trust.networks[0].name = "testnet04".into();
    assert!(Trust::new(&trust).is_err(), "a header of another network");
}

#[test]
fn what_is_wrong_beyond_what_is_missing_is_still_wrong() {
    let maker = Maker::default();
    let mut receipt = maker.make();
    let mut trust = maker.trust(&receipt);
    trust.logs.clear();
    assert_eq!(verify(&receipt, &trust).level, Level::Batched);
    receipt.anchors[0].tree.path[0] = Hash::new([0; 32]);
    let report = verify(&receipt, &trust);
    assert_eq!(
        (report.level, report.wrong().unwrap().field.as_str()),
        (Level::Batched, "anchors[0].tree.path")
    );
    assert!(report.held.is_none());
}

#[test]
fn only_a_receipt_that_is_logged_and_not_wrong_is_held_against_others() {
    let maker = Maker::default();
    let receipt = maker.make();
    let trust = maker.trust(&receipt);
    let held = verify(&receipt, &trust).held.unwrap();
    assert_eq!((held.number, held.index, held.checkpoints.len()), (4, 3, 1));
    let header = BatchHeader::decode(&receipt.batch.header).unwrap();
    assert_eq!((held.origin.as_str(), Some(held.batch)), (maker.origin.as_str(), header.id().unwrap()));
    assert!(verify(&receipt, &TrustFile { logs: Vec::new(), ..trust }).held.is_none());
}
