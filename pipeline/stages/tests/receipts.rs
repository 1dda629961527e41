//! What others subscribe to: a message a batch from which each receipt is derived, and a message an event.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use bytes::Bytes;
use killick_proof::encoding::base64url;
use killick_proof::report::{Level, Verdict};
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_stages::batch;
use killick_stages::derive::Receipts;
use killick_stages::prove::Config;
use killick_stages::ready::{MAX_ANCHOR, MAX_TENANTS, ProofReady};
use killick_stages::span::Span;
use sha2::{Digest as _, Sha256};
use support::judge::judge;
use support::story::Story;
use support::world::{Faults, Sim, deployment, prove_config, signers};

/// Bytes in the largest transaction of prove: 4 MiB, and the message about a batch that may end it.
const MOST: usize = (4 << 20) + 600_000;

fn verifier() -> Verifier {
    let keys = signers(&deployment());
    let logs = keys.iter().map(|key| LogKey { key: key.verifier(), until: None }).collect();
    Verifier::new(Trust::new(&TrustFile { logs, ..TrustFile::default() }).unwrap())
}

fn assert_anchored(verifier: &mut Verifier, receipt: &str) {
    let report = verifier.verify(receipt.as_bytes(), None);
    assert_eq!(report.verdict(Level::Anchored), Verdict::Reached, "{report:?}");
}

/// A log all of which is told of.
fn told(config: Config) -> Story {
    let mut sim = Sim::new(3, Faults::default());
    sim.run(150).unwrap();
    let mut story = Story::of(sim, config);
    story.step("batches").unwrap();
    story.step("anchors").unwrap();
    story.finish().unwrap();
    story
}

/// A simulation that ended with a batch of many events in each log.
fn large() -> Sim {
    let batch = batch::Config { max_leaves: 8_192, max_bytes: 512 << 10, width: Span::secs(600) };
    let mut sim = Sim::with_batches(batch, 5, Faults::default());
    sim.flood(10_000);
    sim.run(0).unwrap();
    sim
}

/// Its log, none of which is proven yet.
fn stored(sim: Sim) -> Story {
    let mut story = Story::of(sim, prove_config());
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    story
}

/// Whether each event of each batch has its receipt, once and in order.
fn has_each_receipt(story: &Story) -> bool {
    let leaves = story.told.iter().flat_map(|ready| (0..ready.leaves).map(move |at| (&ready.batch, at)));
    story.receipts.iter().map(|ready| (&ready.batch, ready.index)).eq(leaves)
}

#[test]
fn a_message_alone_gives_the_receipt_of_each_of_its_events() {
    let story = told(Config::default());
    assert!(story.is_complete() && story.receipts.is_empty());
    let mut verifier = verifier();
    for ready in &story.told {
        let ready = ProofReady::decode(&ready.encode(7)).unwrap();
        let receipts = Receipts::of(&ready).unwrap();
        for index in 0..ready.leaves {
            assert_anchored(&mut verifier, &receipts.get(index).unwrap().to_json());
        }
        assert_eq!(receipts.get(ready.leaves), None);
        let anchors: Vec<_> = ready.anchor_records().collect();
        let kept = killick_stages::ports::Catalog::anchors_of(&story.catalog, &ready.origin, ready.number);
        assert_eq!(anchors, kept.unwrap());
    }
}

#[test]
fn a_message_that_says_something_else_than_its_parts_gives_no_receipt() {
    let story = told(Config::default());
    let ready = story.told.iter().find(|ready| ready.leaves > 1).unwrap();
    assert!(Receipts::of(ready).is_ok());
    type Change = fn(&mut ProofReady);
    let changes: [Change; 19] = [
        |ready| ready.origin = "sim.example/1/sha256/9".into(),
        |ready| ready.number += 1,
        |ready| ready.batch = ready.block.as_ref().unwrap().hash.clone(),
        |ready| ready.leaves += 1,
        |ready| ready.first_time -= 1,
        |ready| ready.last_time += 1,
        |ready| ready.tenants.push("other".into()),
        |ready| ready.size += 1,
        |ready| ready.block = None,
        |ready| ready.block.as_mut().unwrap().height += 1,
        |ready| ready.block.as_mut().unwrap().time += 1,
        |ready| ready.header = ready.header.slice(1..),
        |ready| ready.statements.swap(0, 1),
        |ready| drop(ready.statements.pop()),
        |ready| ready.statements[0] = Bytes::from_static(b"\xf6"),
        |ready| ready.checkpoint = "no note".into(),
        |ready| ready.anchors.clear(),
        |ready| ready.anchors[0] = "{}".into(),
        |ready| ready.anchors.push(" ".repeat(MAX_ANCHOR + 1).into()),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut changed = ready.clone();
        change(&mut changed);
        assert!(Receipts::of(&changed).is_err(), "change {at}");
    }
}

#[test]
fn tenants_are_named_up_to_a_bound() {
    use killick_proof::batch::BatchHeader;
    use killick_proof::receipt::{Anchor, LogProof};
    use killick_proof::statement::{Attestation, Event, Statement};
    use killick_proof::tree::Tree;
    use killick_proof::{Algorithm, Hash};

    let told = told(Config::default()).told.remove(0);
    for count in [1, MAX_TENANTS, MAX_TENANTS + 1] {
        let statements: Vec<Bytes> = (0..count)
            .map(|at| {
                let tenant = format!("t{at:03}");
                let digest = Hash::new([0; 32]);
                let event = Event { tenant: &tenant, source: "s", id: "i", time: 0, kind: "", digest };
                let attestation = Attestation::Unsigned { salt: &[0; 16] };
                Statement { event, attestation }.encode().unwrap().into()
            })
            .collect();
        let leaves = statements.iter().map(|statement| Algorithm::Sha256.leaf(statement)).collect();
        let header = BatchHeader {
            leaf_count: count as u64,
            root: Tree::new(Algorithm::Sha256, leaves).root(),
            ..BatchHeader::decode(&told.header).unwrap()
        };
        let header = header.encode().unwrap().into();
        let log = LogProof { checkpoint: told.checkpoint.to_string(), index: 0, path: Vec::new() };
        let anchors = vec![Anchor::parse(told.anchors[0].as_bytes()).unwrap()];
        let ready = Receipts::new(header, statements, log, anchors).unwrap().ready().unwrap();
        assert_eq!(ready.tenants.len(), if count > MAX_TENANTS { 0 } else { count });
        assert!(ready.tenants.is_sorted());
    }
}

#[test]
fn each_event_has_a_message_with_its_receipt_where_that_is_wanted() {
    let story = told(prove_config());
    assert!(story.is_complete() && has_each_receipt(&story));
    let mut verifier = verifier();
    for ready in &story.receipts {
        assert_anchored(&mut verifier, &ready.receipt);
    }
}

#[test]
fn a_batch_of_many_receipts_takes_several_transactions_and_each_event_is_told_of_once() {
    let sim = large();
    judge(&sim).unwrap();
    // All logs at once, in one worker.
    let (all, largest) = (sim.world.log.all("receipts"), sim.world.log.largest);
    let all: usize = all.map(|record| record.value.len()).sum();
    assert!(all > 12 << 20 && largest <= MOST, "{largest} of {all} bytes in one transaction");
    let mut whole = stored(sim);
    whole.finish().unwrap();
    let bytes: usize = whole.receipts.iter().map(|ready| ready.receipt.len()).sum();
    assert!(whole.is_complete() && has_each_receipt(&whole));
    assert!(bytes > MOST, "{bytes} bytes are too few to tell");
    assert!(whole.largest <= MOST, "{} bytes in one transaction", whole.largest);

    // The same, dying after each transaction that told of something.
    let mut story = stored(whole.sim);
    let (mut told, mut halves) = (0, 0);
    while story.answer(|answer| answer).unwrap() {
        if story.receipts.len() > told {
            told = story.receipts.len();
            halves += u32::from(!has_each_receipt(&story));
            story.crash();
        }
    }
    assert!(halves > 0 && story.is_complete() && has_each_receipt(&story));
    assert_eq!((&story.told, &story.receipts), (&whole.told, &whole.receipts));

    // Turned off half way: the rest is not published, and the batch is told of all the same.
    let mut story = stored(story.sim);
    while story.receipts.is_empty() {
        assert!(story.answer(|answer| answer).unwrap());
    }
    let begun = story.receipts.len();
    story.config.receipts = false;
    story.crash();
    story.finish().unwrap();
    assert!(begun < whole.receipts.len() && story.receipts.len() == begun);
    assert_eq!(story.told, whole.told);
}

/// A path in the tree over these leaves (RFC 9162, section 2.1.3.1), written down as the text has it.
fn path_of(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let half = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(half);
    let (mut path, other) =
        if index < half { (path_of(index, left), right) } else { (path_of(index - half, right), left) };
    path.push(root_of(other));
    path
}

fn root_of(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::digest([&[1][..], &root_of(left), &root_of(right)].concat()).into()
        }
    }
}

fn fields(value: Value) -> BTreeMap<String, Value> {
    match value {
        Value::Record(fields) => fields.into_iter().collect(),
        other => panic!("no record: {other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("no array: {other:?}"),
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}

/// As a program of others does it: with the schema, a complete implementation of Avro, SHA-256 and a writer of JSON.
#[test]
fn a_stranger_makes_the_receipts_with_nothing_but_the_schema() {
    let story = told(Config::default());
    let ready = story.told.iter().max_by_key(|ready| ready.leaves).unwrap();
    let value = ready.encode(7);
    let schema = Schema::parse_str(killick_schemas::schema("proof-ready").unwrap()).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let message = fields(reader.read_value(&mut &value[5..]).unwrap());

    let statements: Vec<_> = items(&message["statements"]).iter().map(bytes).collect();
    let leaves: Vec<[u8; 32]> =
        statements.iter().map(|statement| Sha256::digest([&[0], *statement].concat()).into()).collect();
    let Value::String(checkpoint) = &message["checkpoint"] else { panic!("no text") };
    let Value::Long(number) = &message["number"] else { panic!("no number") };
    let log_path: Vec<_> = items(&message["path"]).iter().map(|hash| base64url(bytes(hash))).collect();
    let anchors: Vec<serde_json::Value> = items(&message["anchors"])
        .iter()
        .map(|anchor| match anchor {
            Value::String(anchor) => serde_json::from_str(anchor).unwrap(),
            other => panic!("no text: {other:?}"),
        })
        .collect();
    let mut verifier = verifier();
    assert!(statements.len() > 2);
    for (index, statement) in statements.iter().enumerate() {
        let path: Vec<_> = path_of(index, &leaves).iter().map(|hash| base64url(hash)).collect();
        let receipt = serde_json::json!({
            "format": "killick-receipt/1",
            "statement": base64url(statement),
            "batch": {"header": base64url(bytes(&message["header"])), "index": index, "path": path},
            "log": {"checkpoint": checkpoint, "index": number, "path": log_path},
            "anchors": anchors,
        });
        assert_anchored(&mut verifier, &receipt.to_string());
    }
}
