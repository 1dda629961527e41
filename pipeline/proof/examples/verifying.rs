//! What verifying a receipt costs on this machine: `cargo run --release -p killick-proof --example verifying [EVENTS]`.
//!
//! One thread; unsigned receipts in CBOR, of one log, whose checkpoint and anchor are known from the first on. What is
//! told is time of the processor, which other programs beside disturb less than they do the clock.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends here")]

use std::hint::black_box;
use std::time::Duration;

use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::origin::Origin;
use killick_proof::receipt::{BatchProof, LogProof, Receipt};
use killick_proof::report::Level;
use killick_proof::statement::{Attestation, Event, Statement};
use killick_proof::together::Together;
use killick_proof::tree::Tree;
use killick_proof::trust::Trust;
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};
use rustix::time::{ClockId, clock_gettime};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Maker, log_key};

const SHA256: Algorithm = Algorithm::Sha256;
/// Batches in the log.
const LOG: u64 = 1 << 17;
/// Batches that receipts are of, spread over the log.
const BATCHES: u64 = 20;
/// Receipts that are verified before they are held against the others.
const CHUNK: usize = 100;
/// Times that everything is measured.
const ROUNDS: usize = 5;

fn main() {
    let events = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000_u64);
    let each = events.div_ceil(BATCHES);
    let maker = Maker { is_signed: false, ..Maker::default() };
    let batches: Vec<Batch> = (0..BATCHES).map(|number| Batch::new(&maker, number, each)).collect();
    let mut leaves: Vec<Hash> = (0..LOG).map(|number| SHA256.leaf(&number.to_be_bytes())).collect();
    for batch in &batches {
        leaves[usize::try_from(batch.number).unwrap()] = SHA256.leaf(&batch.header);
    }
    let log = Tree::new(SHA256, leaves);
    let checkpoint = Checkpoint { origin: &maker.origin, size: LOG, root: log.root(), extensions: "" };
    let anchor = maker.anchors[0].make(&checkpoint.to_string(), None);
    let checkpoint = checkpoint.sign(&log_key(&maker.origin)).unwrap();

    let receipt = |batch: &Batch, index: u64| Receipt {
        statement: batch.statements[usize::try_from(index).unwrap()].clone(),
        batch: BatchProof {
            header: batch.header.clone(),
            index,
            path: batch.tree.inclusion_path(index).unwrap(),
        },
        log: LogProof {
            checkpoint: checkpoint.clone(),
            index: batch.number,
            path: log.inclusion_path(batch.number).unwrap(),
        },
        anchors: vec![anchor.clone()],
    };
    let first = receipt(&batches[0], 0);
    let trust = maker.trust(&first).to_json();
    println!("{:>24} {:>10} bytes a receipt", "", first.to_cbor().len());
    let file = |(batch, index): (&Batch, u64)| receipt(batch, index).to_cbor();
    let ordered = batches.iter().flat_map(|batch| (0..each).map(move |index| (batch, index)));
    measure("batch by batch", &trust, &ordered.map(file).collect::<Vec<_>>());
    let mixed = (0..each).flat_map(|index| batches.iter().map(move |batch| (batch, index)));
    measure("mixed", &trust, &mixed.map(file).collect::<Vec<_>>());
}

struct Batch {
    number: u64,
    header: Vec<u8>,
    statements: Vec<Vec<u8>>,
    tree: Tree,
}

impl Batch {
    fn new(maker: &Maker, number: u64, events: u64) -> Self {
        let number = number * (LOG / BATCHES);
        let statements: Vec<Vec<u8>> = (0..events).map(|index| statement(maker, number, index)).collect();
        let tree = Tree::new(SHA256, statements.iter().map(|statement| SHA256.leaf(statement)).collect());
        let header = BatchHeader {
            origin: Origin::parse(&maker.origin).unwrap(),
            number,
            first_offset: number * 2,
            last_offset: number * 2 + 1,
            first_time: maker.time,
            last_time: maker.time + 1,
            leaf_count: events,
            root: tree.root(),
            duplicates: 0,
            conflicts: 0,
        };
        Self { number, header: header.encode().unwrap(), statements, tree }
    }
}

fn statement(maker: &Maker, number: u64, index: u64) -> Vec<u8> {
    let id = format!("{number}-{index}");
    let digest = SHA256.digest(id.as_bytes());
    let (tenant, source, kind) = ("acme", "pump-1", "com.example.reading.v1");
    let event = Event { tenant, source, id: &id, time: maker.time, kind, digest };
    Statement { event, attestation: Attestation::Unsigned { salt: &[7; 16] } }.encode().unwrap()
}

/// Verifies all files in each of several rounds, holds the reports against each other, and tells the medians.
fn measure(name: &str, trust: &str, files: &[Vec<u8>]) {
    let (mut verifying, mut holding) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut verifier = Verifier::new(Trust::parse(trust.as_bytes()).unwrap());
        black_box(verifier.verify(&files[0], None));
        let mut together = Together::new();
        let (mut verified, mut held) = (Duration::ZERO, Duration::ZERO);
        for (number, some) in files.chunks(CHUNK).enumerate() {
            let begun = worked();
            let reports: Vec<_> = some.iter().map(|file| verifier.verify(file, None)).collect();
            let between = worked();
            for (place, report) in reports.iter().enumerate() {
                assert_eq!(report.level, Level::Trusted);
                together.hold(number * CHUNK + place, report.held.as_ref().unwrap()).unwrap();
            }
            verified += between.saturating_sub(begun);
            held += worked().saturating_sub(between);
        }
        verifying.push(verified);
        holding.push(held);
    }
    for (took, what) in [(verifying, "a receipt"), (holding, "to hold it against the others")] {
        println!("{name:>24} {:>10.0} ns {what}", median(took).as_nanos() as f64 / files.len() as f64);
    }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[ROUNDS / 2]
}

/// How long this thread has had a processor.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}
