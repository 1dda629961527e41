//! Whatever bytes come in: an error or a value that means the same bytes, and never a panic.

use chainweb::cut::Cut;
use chainweb::events::{OutputEvents, PayloadProof};
use chainweb::header::HeaderObject;
use chainweb::pact::{self, Command, CommandResult};
use chainweb::payload::{Payload, PayloadWithOutputs};
use chainweb::spv::{Proof, SpvError};
use chainweb::{Header, Version, encoding, json, rules};
use proptest::prelude::*;
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    file["vectors"].as_array().expect("vectors").clone()
}

/// A real header of mainnet, its parent and its adjacent parents.
fn real_step() -> (Header, Header, Vec<Header>) {
    let vector = vectors("header_steps.json").swap_remove(0);
    let header = |value: &Value| Header::from_base64url(value.as_str().expect("text")).expect("a header");
    let step = header(&vector["header"]);
    let known: Vec<_> = vector["adjacents"].as_array().expect("a list").iter().map(header).collect();
    let find = |hash| known.iter().find(|it| it.hash == hash).expect("an adjacent parent").clone();
    let adjacents = step.adjacents.iter().map(|(_, hash)| find(*hash)).collect();
    (step, header(&vector["parent"]), adjacents)
}

#[test]
fn a_header_with_any_byte_changed_breaks_a_rule() {
    let (header, parent, adjacents) = real_step();
    let adjacents: Vec<_> = adjacents.iter().collect();
    let mainnet = Version::by_name("mainnet01").expect("known");
    assert_eq!(rules::check(&header, mainnet, &parent, &adjacents), []);
    let bytes = header.encode();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let Ok(changed) = Header::decode(&changed) else { continue };
        assert_ne!(rules::check(&changed, mainnet, &parent, &adjacents), [], "byte {place}");
        assert_ne!(rules::check_alone(&changed, mainnet), [], "byte {place}");
    }
}

#[test]
fn a_header_is_as_long_as_its_count_says() {
    let bytes = real_step().0.encode();
    assert_eq!(bytes.len(), 318);
    for length in 0..bytes.len() {
        assert!(Header::decode(&bytes[..length]).is_err(), "{length}");
    }
    assert!(Header::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_proof_says_which_part_is_wrong() {
    let good = vectors("spv_proofs.json")[0]["proof"].clone();
    let parse = |change: &dyn Fn(&mut Value)| {
        let mut proof = good.clone();
        change(&mut proof);
        Proof::parse(proof.to_string().as_bytes())
    };
    assert!(parse(&|_| {}).is_ok());
    assert!(parse(&|proof| proof["unknown"] = 1.into()).is_ok());
    assert!(matches!(parse(&|it| it["algorithm"] = "SHA256".into()), Err(SpvError::Algorithm(_))));
    assert!(matches!(parse(&|it| it["algorithm"] = "Keccak_256".into()), Err(SpvError::Algorithm(_))));
    assert!(matches!(parse(&|it| it["chain"] = "0".into()), Err(SpvError::Shape(_))));
    assert!(matches!(parse(&|it| it["chain"] = (-1).into()), Err(SpvError::Shape(_))));
    assert!(matches!(parse(&|it| it["object"] = "".into()), Err(SpvError::Object(_))));
    assert!(matches!(
        parse(&|it| it["object"] = "AA==".into()),
        Err(SpvError::Encoding { member: "object", .. })
    ));
    assert!(matches!(parse(&|it| it["subject"] = serde_json::json!({})), Err(SpvError::Subject)));
    let text = good.to_string();
    let twice = text.replacen('{', "{\"chain\":1,", 1);
    assert!(matches!(Proof::parse(twice.as_bytes()), Err(SpvError::Json(_))));
    let output = Proof::parse(text.as_bytes()).expect("a proof");
    assert!(matches!(output.subject_with_tag(chainweb::merkle::Tag::TRANSACTION), Err(SpvError::Tag { .. })));
}

#[test]
fn a_command_counts_only_with_one_good_signature_for_each_signer() {
    let all = vectors("pact_commands.json");
    let signed = all.iter().find(|vector| vector["id"] == "onchain-sF0lP9HV").expect("a signed command");
    let command: Command = serde_json::from_value(signed["command"].clone()).expect("a command");
    command.verify().expect("it verifies");
    let refused = |change: &dyn Fn(&mut Command)| {
        let mut command = command.clone();
        change(&mut command);
        command.verify().expect_err("it must not verify").to_string()
    };
    assert!(refused(&|it| it.cmd.push(' ')).contains("hash is"));
    assert!(refused(&|it| it.hash.0[0] ^= 1).contains("hash is"));
    assert!(refused(&|it| it.sigs.clear()).contains("1 signers but 0 signatures"));
    assert!(refused(&|it| it.sigs.push(None)).contains("1 signers but 2 signatures"));
    assert!(refused(&|it| it.sigs[0] = None).contains("signature 0: missing"));
    assert!(refused(&|it| it.sigs[0] = Some("zz".repeat(64))).contains("signature 0"));
    assert!(refused(&|it| it.sigs = vec![None; 101]).contains("at most 100"));
    let signature = command.sigs[0].clone().expect("signed");
    for place in 0..signature.len() {
        let mut changed = signature.clone().into_bytes();
        changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(
            refused(&move |it| it.sigs[0] = Some(changed.clone())).contains("signature 0"),
            "digit {place}"
        );
    }
}

#[test]
fn counts_that_promise_more_than_there_is_cost_nothing() {
    for count in [1_u64, 1 << 32, u64::MAX] {
        assert!(Payload::decode(&count.to_be_bytes()).is_err());
        assert!(PayloadWithOutputs::decode(&count.to_be_bytes()).is_err());
    }
    assert!(OutputEvents::decode(&[0, 0, 0, 0, 255, 255, 255, 255]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn headers_decode_to_what_encodes_to_the_same_bytes(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        count in 0..6_usize,
    ) {
        if bytes.len() >= 210 + 36 * count {
            bytes.truncate(210 + 36 * count);
            bytes[48..50].copy_from_slice(&(count as u16).to_le_bytes());
        }
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
            let object = HeaderObject::new(&header, "development");
            let again: HeaderObject = serde_json::from_value(serde_json::to_value(&object).expect("JSON")).expect("it");
            if header.adjacents.is_sorted_by(|a, b| a.0 < b.0) {
                prop_assert_eq!(again.to_header(header.version), Ok(header.clone()));
            }
            for version in Version::all() {
                let _ = rules::check(&header, version, &header, &[&header, &header, &header]);
            }
        }
    }

    #[test]
    fn rules_take_any_numbers(
        (height, parent_height) in (any::<u64>(), prop_oneof![any::<u64>(), 0..1000_u64, 452_700..452_900_u64]),
        times in any::<[i64; 4]>(),
        (flags, parent_flags) in any::<(u64, u64)>(),
        target in any::<[u64; 4]>(),
    ) {
        let (mut header, mut parent, adjacents) = real_step();
        (header.height, header.flags, header.creation_time, header.epoch_start) = (height, flags, times[0], times[1]);
        (parent.height, parent.flags, parent.creation_time, parent.epoch_start) =
            (parent_height, parent_flags, times[2], times[3]);
        parent.target = chainweb::U256::from_limbs(target);
        let adjacents: Vec<_> = adjacents.iter().collect();
        for version in Version::all() {
            prop_assert_ne!(rules::check(&header, version, &parent, &adjacents), []);
        }
    }

    #[test]
    fn payloads_decode_to_what_encodes_to_the_same_bytes(
        transactions in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..5),
        (miner, coinbase) in any::<(Vec<u8>, Vec<u8>)>(),
        change in any::<(prop::sample::Index, u8)>(),
    ) {
        let payload = PayloadWithOutputs::new(transactions, miner, coinbase);
        prop_assert_eq!(payload.verify(), Ok(()));
        prop_assert_eq!(payload.without_outputs().verify(), Ok(()));
        let mut bytes = payload.encode();
        prop_assert_eq!(PayloadWithOutputs::decode(&bytes), Ok(payload.clone()));
        prop_assert_eq!(Payload::decode(&payload.without_outputs().encode()), Ok(payload.without_outputs()));
        let place = change.0.index(bytes.len());
        bytes[place] = bytes[place].wrapping_add(change.1.max(1));
        if let Ok(changed) = PayloadWithOutputs::decode(&bytes) {
            prop_assert!(changed.verify().is_err());
            prop_assert_eq!(&changed.encode(), &bytes);
        }
        prop_assert!(PayloadWithOutputs::decode(&bytes[..place]).is_err());
    }

    #[test]
    fn random_texts_are_read_or_refused(text in "\\PC{0,200}", json in "[\\[\\]{}\",:0-9a-z\\\\. ]{0,200}") {
        for text in [text.as_str(), json.as_str()] {
            let bytes = text.as_bytes();
            let _ = (Proof::parse(bytes), Proof::from_base64url(text), PayloadProof::parse(bytes));
            let _ = (Command::parse(bytes), CommandResult::parse(bytes), serde_json::from_str::<Cut>(text));
            let _ = (Header::from_base64url(text), OutputEvents::decode(bytes), encoding::decode(text));
            let _ = (pact::output_of_poll(text, &chainweb::Hash::default()), json::parse_strict(bytes));
            for name in ["", "a", "é"] {
                if let Some(range) = json::member(text, name) {
                    prop_assert!(text.get(range).is_some());
                }
            }
            let command = Command { hash: pact::command_hash(text), sigs: vec![Some(text.to_owned())], cmd: text.to_owned() };
            prop_assert!(command.verify_hash().is_ok());
            let again = Command::parse(command.to_transaction().as_bytes());
            prop_assert_eq!(again.ok(), Some(command.clone()));
            let _ = command.verify_signatures();
        }
    }

    #[cfg(feature = "webauthn")]
    #[test]
    fn only_the_real_key_and_signature_of_a_wallet_verify(
        key in proptest::collection::vec(any::<u8>(), 0..90),
        (place, change) in (any::<prop::sample::Index>(), 1..255_u8),
    ) {
        let vector = vectors("webauthn.json").remove(0);
        let text = |name: &str| vector[name].as_str().expect("text").to_owned();
        let (real, signature, hash) = (text("pubKey"), text("sig"), text("hash").parse().expect("a hash"));
        prop_assert!(pact::verify_webauthn(&real, &signature, &hash).is_ok());
        let prefixed = format!("WEBAUTHN-{real}");
        prop_assert!(pact::verify_webauthn(&prefixed, &signature, &hash).is_ok());
        prop_assert!(pact::verify_webauthn(&hex::encode(key), &signature, &hash).is_err());
        let mut changed = hex::decode(&real).expect("hex");
        let at = place.index(changed.len());
        changed[at] ^= change;
        prop_assert!(pact::verify_webauthn(&hex::encode(changed), &signature, &hash).is_err());
        prop_assert!(pact::verify_webauthn(&real, &signature, &chainweb::Hash::default()).is_err());
        let mut changed = signature.clone().into_bytes();
        let at = place.index(changed.len());
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        prop_assert!(pact::verify_webauthn(&real, &String::from_utf8(changed).expect("ASCII"), &hash).is_err());
    }

    #[test]
    fn a_member_is_found_as_a_parser_finds_it(value in json_value()) {
        let text = serde_json::json!({"before": value, "a": value, "z": [value]}).to_string();
        let found = json::member(&text, "a").map(|range| serde_json::from_str::<Value>(&text[range]).expect("JSON"));
        prop_assert_eq!(found.as_ref(), Some(&value));
        prop_assert_eq!(json::parse_strict(text.as_bytes()).expect("strict")["a"].clone(), value);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\"\\\\{}:,\\[\\]]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-c\"\\\\]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
