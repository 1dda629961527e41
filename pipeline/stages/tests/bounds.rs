//! How large what the stages write can become, with everything at its largest that the configuration allows.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::encoding::{MAX_COUNT, base64url};
use killick_proof::note::SignerKey;
use killick_proof::origin::Origin;
use killick_proof::receipt::{
    self, Anchor, BatchProof, LogProof, MAX_SPV_STEPS, Receipt, SpvProof, TreeProof,
};
use killick_proof::signature::SecretKey;
use killick_proof::{Algorithm, Hash};
use killick_stages::batch::{self, Batch, MAX_BYTES, MAX_LEAVES};
use killick_stages::dedup::{self, Dedup};
use killick_stages::deployment::{self, Deployment};
use killick_stages::devices::Device;
use killick_stages::frame::{AcceptedFrame, MAX_FRAME};
use killick_stages::ingest::{self, Ingest, Secret, Tenant};
use killick_stages::ports::BatchRecord;
use killick_stages::ready::{Block, MAX_ANCHOR, MAX_TENANTS, ProofReady, ReceiptReady};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::source::{Freshness, Source, Unsigned};
use killick_stages::span::Span;
use killick_stages::stage::{Part, Stage};
use killick_stages::{envelope, route};

/// The smallest limit for a record that a log may be configured with.
const SMALLEST_LIMIT: usize = 600_000;
/// Any time: in CBOR it takes as much as the largest.
const NOW: Micros = 1_767_225_600_000_000;

fn deployment() -> Deployment {
    let config = deployment::Config { name: "n".repeat(200), logs: 1, ..deployment::Config::default() };
    Deployment::new(&config).unwrap()
}

/// Steps a stage through records as they come, without a commit that would cut anything short.
fn run(stage: &mut dyn Stage, input: &str, values: impl Iterator<Item = Bytes>) -> Vec<Output> {
    let partition = Partition::new(input, 0);
    stage.assign(&partition, 0);
    let mut part = Part::default();
    for (offset, value) in (0..).zip(values) {
        let (key, headers) = (Bytes::new(), Vec::new());
        let record = Record { partition: partition.clone(), offset, append_time: NOW, key, value, headers };
        stage.step(&record, &mut part).unwrap();
    }
    part.outputs
}

fn values(outputs: &[Output], topic: &'static str) -> impl Iterator<Item = Bytes> {
    outputs
        .iter()
        .filter(move |output| output.partition.topic.as_str() == topic)
        .map(|output| output.value.clone())
}

/// The batches that come of events, and the largest frame on the way, in bytes of statements.
fn batches(events: impl Iterator<Item = Bytes>) -> (Vec<BatchRecord>, usize) {
    let deployment = deployment();
    let device = Device {
        tenant: "t".repeat(64),
        source: "s".repeat(256),
        key: base64url(SecretKey::from_seed(&[1; 32]).public().as_bytes()),
        from: None,
        until: None,
    };
    let source =
        Source { freshness: Freshness::Off, unsigned: Unsigned::Accept, ..Source::new(route::EVENTS) };
    let tenant = Tenant { secret: Secret::new("a secret of some length") };
    let config = ingest::Config {
        sources: vec![source],
        devices: vec![device],
        tenants: [("t".to_owned(), tenant)].into(),
        ..ingest::Config::default()
    };
    let mut ingest = Ingest::new(&deployment, &config).unwrap();
    let accepted = run(&mut ingest, route::EVENTS, events);
    let bytes = |statements: &mut dyn Iterator<Item = usize>| statements.sum::<usize>();
    let frames = values(&accepted, route::ACCEPTED).map(|value| {
        bytes(&mut AcceptedFrame::decode(&value).unwrap().events.iter().map(|event| event.statement.len()))
    });
    let largest = frames.max().unwrap();
    let mut dedup = Dedup::new(&deployment, &dedup::Config::default()).unwrap();
    let unique = run(&mut dedup, route::ACCEPTED, values(&accepted, route::ACCEPTED));
    let config = batch::Config { max_leaves: MAX_LEAVES, max_bytes: MAX_BYTES, width: Span::secs(3_600) };
    let signer = SignerKey::new(deployment.origin(0).unwrap(), SecretKey::from_seed(&[2; 32])).unwrap();
    let mut batch = Batch::new(&deployment, &config, vec![signer]).unwrap();
    let batches = run(&mut batch, route::UNIQUE, values(&unique, route::UNIQUE));
    let batches = values(&batches, route::BATCHES).map(|value| {
        assert!(value.len() < SMALLEST_LIMIT, "{} bytes", value.len());
        BatchRecord::decode(&value).unwrap()
    });
    (batches.collect(), largest)
}

/// Events whose statements are as large as any.
fn largest_events() -> impl Iterator<Item = Bytes> {
    let key = SecretKey::from_seed(&[1; 32]);
    (0..1_500).map(move |number| {
        let (tenant, source, id) = ("t".repeat(64), "s".repeat(256), format!("{number:0256}"));
        let (kind, digest) = ("k".repeat(256), Algorithm::Sha256.digest(b""));
        let event = killick_proof::statement::Event {
            tenant: &tenant,
            source: &source,
            id: &id,
            time: NOW,
            kind: &kind,
            digest,
        };
        let signature = key.sign(&event.signing_bytes().unwrap());
        let public = key.public();
        let signed = Some((public.as_bytes(), &signature));
        envelope::Event {
            tenant: &tenant,
            source: &source,
            id: &id,
            time: NOW,
            kind: &kind,
            payload: b"",
            signed,
        }
        .encode()
    })
}

/// Events whose statements are as small as any with so many names.
fn smallest_events() -> impl Iterator<Item = Bytes> {
    (0..30_000_u32).map(|number| {
        let id = format!("{number:x}");
        envelope::Event { tenant: "t", source: "s", id: &id, time: 0, kind: "", payload: b"", signed: None }
            .encode()
    })
}

/// A proof as long as a proof may be, with an output that fills what is left.
fn largest_anchor() -> Anchor {
    let hash = Hash::new([0xff; 32]);
    let mut anchor = Anchor {
        log: None,
        tree: TreeProof { root: hash, size: MAX_COUNT, index: MAX_COUNT, path: vec![hash; 64] },
        spv: SpvProof { chain: u32::MAX.into(), object: vec![0; 12 + 33 * MAX_SPV_STEPS], input: Vec::new() },
        block: receipt::Block {
            network: "n".repeat(64),
            chain: u32::MAX.into(),
            height: MAX_COUNT,
            hash,
            header: vec![0; 318],
        },
    };
    let left = MAX_ANCHOR - anchor.to_json().len();
    anchor.spv.input = vec![0; left / 4 * 3];
    assert!(anchor.spv.input.len() > 4_000, "{left} bytes are left for the output");
    assert!((MAX_ANCHOR - 4..=MAX_ANCHOR).contains(&anchor.to_json().len()));
    anchor
}

/// What stands beside the statements, as large as it can be.
fn largest_message(batch: &BatchRecord) -> ProofReady {
    let header = BatchHeader::decode(&batch.header).unwrap();
    let origin = Origin::format(&"n".repeat(200), MAX_COUNT, Algorithm::Sha512t256, MAX_COUNT).unwrap();
    let header = BatchHeader {
        origin: Origin::parse(&origin).unwrap(),
        number: MAX_COUNT,
        first_offset: MAX_COUNT,
        last_offset: MAX_COUNT,
        duplicates: MAX_COUNT,
        conflicts: MAX_COUNT,
        ..header
    };
    let signer = SignerKey::new(&origin, SecretKey::from_seed(&[2; 32])).unwrap();
    let checkpoint = Checkpoint { origin: &origin, size: MAX_COUNT, root: header.root, extensions: "" };
    let block = Block {
        network: "n".repeat(64).into(),
        chain: u32::MAX,
        height: MAX_COUNT,
        hash: header.root.to_string().into(),
        time: Micros::MIN,
    };
    ProofReady {
        origin: origin.as_str().into(),
        number: MAX_COUNT,
        batch: header.root.to_string().into(),
        leaves: header.leaf_count,
        first_time: Micros::MIN,
        last_time: Micros::MIN,
        tenants: vec!["t".repeat(64).into(); MAX_TENANTS],
        size: MAX_COUNT,
        block: Some(block),
        header: header.encode().unwrap().into(),
        statements: batch.statements.clone(),
        path: vec![[0; 32]; 53],
        checkpoint: checkpoint.sign(&signer).unwrap().into(),
        anchors: vec![largest_anchor().to_json().into()],
    }
}

/// Bytes of key and headers at most.
const BESIDE: usize = 4_096;

#[test]
fn a_message_about_a_batch_stays_below_every_limit_for_records() {
    let mut sizes = Vec::new();
    for events in [&mut largest_events() as &mut dyn Iterator<Item = _>, &mut smallest_events()] {
        let (batches, frame) = batches(events);
        let statements = batches.iter().flat_map(|batch| &batch.statements);
        let largest = statements.map(Bytes::len).max().unwrap();
        assert!((MAX_FRAME..MAX_FRAME + largest).contains(&frame), "a frame of {frame} bytes");
        assert!(batches.len() >= 2);
        let bytes = |batch: &BatchRecord| batch.statements.iter().map(Bytes::len).sum::<usize>();
        let fullest = batches.iter().max_by_key(|batch| bytes(batch)).unwrap();
        assert!(bytes(fullest) <= MAX_BYTES && fullest.statements.len() <= MAX_LEAVES);
        sizes.push((
            fullest.statements.len(),
            bytes(fullest),
            largest_message(fullest).encode(u32::MAX).len(),
        ));
    }
    // And beyond what can be: statements that fill their bytes to the last, as many as there may be.
    let even = BatchRecord {
        statements: vec![vec![0; MAX_BYTES / MAX_LEAVES].into(); MAX_LEAVES],
        ..batches(largest_events()).0.remove(0)
    };
    sizes.push((MAX_LEAVES, MAX_BYTES, largest_message(&even).encode(0).len()));
    println!("statements, their bytes, bytes of the message: {sizes:?}");
    assert!(sizes.iter().all(|(.., size)| size + BESIDE < SMALLEST_LIMIT), "{sizes:?}");
}

#[test]
fn a_message_with_a_receipt_is_small() {
    let (batches, _) = batches(largest_events());
    let ready = largest_message(&batches[0]);
    let receipt = Receipt {
        statement: ready.statements[0].to_vec(),
        batch: BatchProof {
            header: ready.header.to_vec(),
            index: 8_191,
            path: vec![Hash::new([0xff; 32]); 13],
        },
        log: LogProof {
            checkpoint: ready.checkpoint.to_string(),
            index: MAX_COUNT,
            path: vec![Hash::new([0xff; 32]); 53],
        },
        anchors: vec![largest_anchor()],
    };
    let text = |length| "x".repeat(length).into_boxed_str();
    let message = ReceiptReady {
        tenant: text(64),
        source: text(256),
        id: text(256),
        time: Micros::MIN,
        kind: text(256),
        batch: ready.batch,
        index: 8_191,
        block: ready.block,
        receipt: receipt.to_json().into(),
    };
    let size = message.encode(0).len();
    println!("{size} bytes");
    assert!(size < 48 << 10, "{size} bytes");
}
