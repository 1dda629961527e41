//! The crate against blocks, proofs and commands that nodes have made.

#[allow(dead_code)] // only the examples print
mod checks;

use std::collections::HashMap;
use std::path::PathBuf;

use chainweb::header::Header;
use chainweb::merkle::{self, Algorithm, Tag};
use chainweb::pact::{Command, CommandResult};
use chainweb::payload::PayloadWithOutputs;
use chainweb::spv::{self, Blocks, CreateError, Part};
use chainweb::{ChainId, Hash, Version, rules};
use serde_json::Value;

fn data(folder: &str) -> Vec<PathBuf> {
    vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)]
}

#[test]
fn all_vectors_hold() {
    let tally = checks::vectors::check(&data("vectors"));
    assert_eq!(tally.failures, Vec::<String>::new());
    let unchecked = usize::from(!cfg!(feature = "webauthn")); // one file of one vector
    assert_eq!((tally.skipped.len(), tally.passed), (unchecked, 253 - unchecked), "{:?}", tally.skipped);
}

#[test]
fn all_recorded_evidence_holds() {
    let tally = checks::evidence::check(&data("evidence"));
    assert_eq!(tally.failures, Vec::<String>::new());
    assert_eq!(tally.skipped, Vec::<String>::new());
    assert_eq!(tally.passed, 65);
}

fn vectors(file: &str) -> Vec<Value> {
    let path = data("vectors").remove(0).join(file);
    let file: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    file["vectors"].as_array().expect("vectors").clone()
}

#[test]
fn every_part_of_every_recorded_payload_is_read_and_proven() {
    let mut count = 0;
    for vector in vectors("payloads.json").iter().chain(&vectors("payloads_genesis.json")) {
        let payload: PayloadWithOutputs =
            serde_json::from_value(vector["payloadWithOutputs"].clone()).expect("a payload");
        CommandResult::parse(&payload.coinbase).expect("a result");
        for (index, (transaction, output)) in payload.transactions.iter().enumerate() {
            let command = Command::parse(transaction).expect("a command");
            let result = CommandResult::parse(output).expect("a result");
            assert_eq!(result.request_key, command.hash.to_string());
            let hash = Algorithm::Sha512t256;
            for (tag, bytes, path) in [
                (Tag::TRANSACTION, transaction, payload.transaction_path(index)),
                (Tag::OUTPUT, output, payload.output_path(index)),
            ] {
                let path = path.expect("a transaction of the payload");
                assert_eq!(merkle::run(hash, hash.input(tag, bytes), &path), payload.payload_hash);
            }
            count += 1;
        }
        assert_eq!(payload.output_path(payload.transactions.len()), None);
    }
    assert_eq!(count, 100);
}

/// What a node says about tampered headers, by the rules that need the parent alone.
#[test]
fn tampered_headers_break_the_rules_that_a_node_names() {
    let testnet = Version::by_name("testnet04").expect("known");
    for vector in vectors("header_invalid.json") {
        let header =
            |name: &str| Header::from_base64url(vector[name].as_str().expect("text")).expect("a header");
        let failures = rules::check(&header("bytes"), testnet, &header("parent"), &[]);
        let mut failures: Vec<_> = failures.iter().map(|failure| format!("{failure:?}")).collect();
        // The node named one rule about flags, "they are zero", where there are two about the fork state now.
        let others = ["MissingAdjacentParent", "UnknownForkNumber", "InvalidForkState"];
        failures.retain(|failure| !others.contains(&failure.as_str()));
        failures.sort();
        let mut named: Vec<String> =
            serde_json::from_value(vector["upstream_failures"].clone()).expect("names");
        named.retain(|failure| failure != "InvalidFeatureFlags");
        named.sort();
        assert_eq!(failures, named, "{}", vector["id"]);
    }
}

/// Every block that any file of vectors has.
#[derive(Default)]
struct AllBlocks {
    headers: HashMap<Hash, Header>,
    payloads: HashMap<Hash, PayloadWithOutputs>,
}

impl AllBlocks {
    fn read() -> Self {
        let mut blocks = Self::default();
        for file in [
            "headers",
            "header_braid",
            "header_steps",
            "header_forks",
            "cuts",
            "payloads",
            "spv_proofs_assembled",
        ] {
            vectors(&format!("{file}.json")).iter().for_each(|vector| blocks.take(vector));
        }
        blocks
    }

    fn take(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                if let Some(header) = Header::from_base64url(text).ok().filter(Header::verify_hash) {
                    self.headers.insert(header.hash, header);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.take(item)),
            Value::Object(members) => {
                if let Ok(payload) = serde_json::from_value::<PayloadWithOutputs>(value.clone()) {
                    self.payloads.insert(payload.payload_hash, payload);
                }
                members.values().for_each(|member| self.take(member));
            }
            _ => {}
        }
    }
}

impl Blocks for AllBlocks {
    fn header(&self, hash: &Hash) -> Option<Header> {
        self.headers.get(hash).cloned()
    }

    fn payload(&self, payload_hash: &Hash) -> Option<PayloadWithOutputs> {
        self.payloads.get(payload_hash).cloned()
    }
}

#[test]
fn proofs_are_built_from_blocks_up_to_the_hash_of_the_target() {
    let blocks = AllBlocks::read();
    let mainnet = Version::by_name("mainnet01").expect("known");
    let (mut built, mut identical) = (0, 0);
    for vector in vectors("spv_proofs_assembled.json") {
        // assembled-CHAIN-HEIGHT-INDEX-to-CHAIN-HEIGHT, with "tx-" for the proof of a transaction
        let id = vector["id"].as_str().expect("an id");
        let numbers: Vec<u32> = id.split('-').filter_map(|part| part.parse().ok()).collect();
        let (source, height, index) = (ChainId(numbers[0]), u64::from(numbers[1]), numbers[2] as usize);
        let part = if id.contains("-tx-") { Part::Transaction } else { Part::Output };
        let target =
            Header::from_base64url(vector["targetHeader"].as_str().expect("text")).expect("a header");
        let proof = match spv::create(&blocks, mainnet, &target, source, height, index, part) {
            Ok(proof) => proof,
            Err(CreateError::NoHeader(_) | CreateError::NoPayload(_)) => continue, // not all blocks between are in the files
            Err(error) => panic!("{id}: {error}"),
        };
        assert_eq!(proof.root(), target.hash, "{id}");
        built += 1;
        identical +=
            usize::from(proof == spv::Proof::parse(vector["proof"].to_string().as_bytes()).expect("a proof"));
    }
    assert_eq!((built, identical), (1, 1));
}

#[test]
fn the_checks_notice_each_changed_expectation() {
    let mut changed = 0;
    for path in std::fs::read_dir(&data("vectors")[0]).expect("a folder").flatten() {
        let file: Value = serde_json::from_slice(&std::fs::read(path.path()).expect("a file")).expect("JSON");
        let kind = file["kind"].as_str().expect("a kind");
        let vector = &file["vectors"][0];
        for pointer in leaves(&vector["expect"], "/expect") {
            // What a proof's path says about blocks between is their hash only.
            if pointer.contains("blocksOnPath") && !pointer.ends_with("hash") {
                continue;
            }
            let mut wrong = vector.clone();
            let leaf = wrong.pointer_mut(&pointer).expect("a leaf");
            *leaf = match &*leaf {
                Value::Bool(value) => Value::Bool(!value),
                Value::Number(value) => (value.as_u64().expect("a count") + 1).into(),
                other => format!("A{}", other.as_str().expect("text")).into(),
            };
            if let Some(outcome) = checks::vectors::check_one(kind, &wrong) {
                assert!(outcome.is_err(), "{kind} {pointer}");
                changed += 1;
            }
        }
    }
    assert!(changed > 70, "{changed}");
}

/// Pointers to all leaves that are not null.
fn leaves(value: &Value, at: &str) -> Vec<String> {
    let below = |(name, value): (String, &Value)| leaves(value, &format!("{at}/{name}"));
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), value)).flat_map(below).collect()
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .flat_map(below)
            .collect(),
        Value::Null => Vec::new(),
        _ => vec![at.to_owned()],
    }
}
