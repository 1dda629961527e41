//! The crate against blocks, proofs and commands that nodes have made.

#[allow(dead_code)] // only the examples print
mod checks;

use std::path::PathBuf;

use chainweb::header::Header;
use chainweb::merkle::{self, Algorithm, Tag};
use chainweb::pact::{Command, CommandResult};
use chainweb::payload::PayloadWithOutputs;
use chainweb::{Version, rules};
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
