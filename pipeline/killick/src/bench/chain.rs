//! The way of an event through the stages, on one core and in memory: decode, verify, dedup, batch, audit path.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_proof::{Algorithm, Hash};
use killick_stages::deployment::{self, Deployment};
use killick_stages::derive::tree_of;
use killick_stages::ports::BatchRecord;
use killick_stages::record::{Output, Record};
use killick_stages::route::{ACCEPTED, BATCHES, UNIQUE};
use killick_stages::stage::{Part, Stage};
use killick_stages::{batch, dedup, ingest};

use super::events::{Maker, TOPIC};
use super::floor::{Floor, TREE};
use super::meter::{Allocated, a_second, counted, median, nanos_each, timed};
use super::table::{Figures, Goal};

/// Stages, by name, and what follows them.
const STEPS: [&str; 4] = ["ingest", "dedup", "batch", "path"];
/// Events that pass in one round of each side.
const ROUND: usize = 20_000;
/// Rounds, one of each side in turn.
const ROUNDS: usize = 7;
/// Bytes of a leaf: about those of a short statement.
const LEAF: usize = 170;
/// Signed ones cost so much more.
const SIGNED_ROUND: usize = 4_000;

/// Three stages and what derives paths, on one log, with nothing between them.
struct Chain {
    ingest: ingest::Ingest,
    dedup: dedup::Dedup,
    batch: batch::Batch,
    path: Vec<Hash>,
    /// Records that each stage has read.
    offsets: [u64; 2],
    /// CPU time of each step.
    took: [Duration; 4],
    /// Events whose path was derived.
    derived: usize,
}

impl Chain {
    fn new(maker: &Maker) -> Result<Self> {
        let deployment = deployment::Config { logs: 1, ..deployment::Config::default() };
        let deployment = Deployment::new(&deployment)?;
        let origin = deployment.origin(0).context("a deployment has a log")?;
        let signer = SignerKey::new(origin, SecretKey::from_seed(&[1; 32]))?;
        Ok(Self {
            ingest: ingest::Ingest::new(&deployment, &maker.ingest(TOPIC))?,
            dedup: dedup::Dedup::new(&deployment, &dedup::Config::default())?,
            batch: batch::Batch::new(&deployment, &batch::Config::default(), vec![signer])?,
            path: Vec::new(),
            offsets: [0; 2],
            took: [Duration::ZERO; 4],
            derived: 0,
        })
    }

    /// Has as many events as make a batch go through all of it.
    fn pass(&mut self, events: &[Record]) -> Result<()> {
        let Self { ingest, dedup, batch, path, offsets, took, derived } = self;
        let [of_ingest, of_dedup, of_batch, of_path] = took;
        let accepted = timed(of_ingest, || step(ingest, events))?;
        let accepted = records(&accepted, ACCEPTED, &mut offsets[0], events);
        let unique = timed(of_dedup, || step(dedup, &accepted))?;
        let unique = records(&unique, UNIQUE, &mut offsets[1], events);
        let batches = timed(of_batch, || step(batch, &unique))?;
        for output in batches.outputs.iter().filter(|output| output.partition.topic.as_str() == BATCHES) {
            *derived += timed(of_path, || paths(output, path))?;
        }
        Ok(())
    }

    fn pass_all(&mut self, events: &[Record]) -> Result<()> {
        events.chunks(TREE).try_for_each(|events| self.pass(events))
    }
}

fn step(stage: &mut dyn Stage, inputs: &[Record]) -> Result<Part> {
    let mut out = Part::default();
    let Some(first) = inputs.first() else { return Ok(out) };
    if first.offset == 0 {
        stage.assign(&first.partition, 0);
    }
    stage.step_all(inputs, &mut out)?;
    stage.seal(&first.partition, &mut out)?;
    Ok(out)
}

/// What a stage put out to a topic, as the next one reads it: with the time of the last event that it is of.
fn records(part: &Part, topic: &str, offset: &mut u64, of: &[Record]) -> Vec<Record> {
    let outputs = part.outputs.iter().filter(|output| output.partition.topic.as_str() == topic);
    let record = |output: &Output| {
        *offset += 1;
        Record {
            partition: output.partition.clone(),
            offset: *offset - 1,
            append_time: of.last().map_or(0, |last| last.append_time),
            key: output.key.clone(),
            value: output.value.clone(),
            headers: Vec::new(),
        }
    };
    outputs.map(record).collect()
}

/// Does with a batch what prove does before it derives receipts, and derives the path of each event; says how many there are.
fn paths(batch: &Output, path: &mut Vec<Hash>) -> Result<usize> {
    let batch = BatchRecord::decode(&batch.value)?;
    let (tree, header) = tree_of(&batch).map_err(|why| anyhow!(why))?;
    for index in 0..header.leaf_count {
        path.clear();
        tree.inclusion_path_into(index, path)?;
        black_box(&path);
    }
    Ok(batch.statements.len())
}

/// `e_signed` and `e_unsigned`, what each stage takes, and `core_scaling`.
///
/// # Errors
/// A stage refuses what it should take.
pub fn measure(maker: &Maker, figures: &mut Figures) -> Result<()> {
    for (name, is_signed, round, goal) in
        [("e_unsigned", false, ROUND, 0.5), ("e_signed", true, SIGNED_ROUND, 0.85)]
    {
        figures.says(&format!(
            "stages, {}: {ROUNDS} rounds of {round} events",
            if is_signed { "signed" } else { "unsigned" }
        ));
        let (mut chain, mut floor) = (Chain::new(maker)?, Floor::default());
        let (mut ratios, mut floors, mut steps) = (Vec::new(), Vec::new(), [const { Vec::new() }; 4]);
        for number in 0..=ROUNDS {
            let events: Vec<_> =
                (number * round..(number + 1) * round).map(|id| maker.record(id, is_signed)).collect();
            let mut least = Duration::ZERO;
            black_box(timed(&mut least, || floor.take(&events)));
            chain.took = [Duration::ZERO; 4];
            chain.pass_all(&events)?;
            // The first warms both up.
            if number > 0 {
                ratios.push(least.as_secs_f64() / chain.took.iter().sum::<Duration>().as_secs_f64());
                floors.push(nanos_each(least, round));
                steps.iter_mut().zip(chain.took).for_each(|(all, took)| all.push(nanos_each(took, round)));
            }
        }
        ensure!(chain.derived + TREE >= (ROUNDS + 1) * round, "events are missing: {} paths", chain.derived);
        figures.add(name, median(ratios), "", Some(Goal::Least(goal)));
        let kind = if is_signed { "signed" } else { "unsigned" };
        figures.add(&format!("floor.{kind}.cpu"), median(floors), "ns/event", None);
        for (step, took) in STEPS.iter().zip(steps) {
            figures.add(&format!("{step}.{kind}.cpu"), median(took), "ns/event", None);
        }
    }
    hashes(figures);
    allocations(maker, figures)?;
    scaling(maker, figures)
}

/// What the hash of a leaf takes by itself, and among as many as make a tree.
fn hashes(figures: &mut Figures) {
    let leaves: Vec<_> = (0..TREE).map(|number| [number as u8; LEAF]).collect();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let (mut one, mut all) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUND / TREE {
            timed(&mut one, || {
                for leaf in &leaves {
                    black_box(Algorithm::Sha256.leaf(leaf));
                }
            });
            timed(&mut all, || black_box(Algorithm::Sha256.leaves(leaves.iter().map(|leaf| &leaf[..]))));
        }
        alone.push(nanos_each(one, ROUND));
        together.push(nanos_each(all, ROUND));
    }
    figures.add("leaf.alone.cpu", median(alone), "ns", None);
    figures.add("leaf.together.cpu", median(together), "ns", None);
}

/// What each stage asks of the allocator for an unsigned event, each on a thread of its own.
fn allocations(maker: &Maker, figures: &mut Figures) -> Result<()> {
    let events: Vec<_> = (0..ROUND).map(|id| maker.record(id, false)).collect();
    let Chain { mut ingest, mut dedup, mut batch, mut path, .. } = Chain::new(maker)?;
    let (mut accepted, mut unique) = (Vec::new(), Vec::new());
    let mut offsets = [0; 2];
    let chunks: Vec<_> = events.chunks(TREE).collect();
    let (parts, of_ingest) =
        counted(|| chunks.iter().map(|chunk| step(&mut ingest, chunk)).collect::<Result<Vec<_>>>())?;
    for (part, chunk) in parts?.iter().zip(&chunks) {
        accepted.push(records(part, ACCEPTED, &mut offsets[0], chunk));
    }
    let (parts, of_dedup) =
        counted(|| accepted.iter().map(|inputs| step(&mut dedup, inputs)).collect::<Result<Vec<_>>>())?;
    for (part, chunk) in parts?.iter().zip(&chunks) {
        unique.push(records(part, UNIQUE, &mut offsets[1], chunk));
    }
    let (parts, of_batch) =
        counted(|| unique.iter().map(|inputs| step(&mut batch, inputs)).collect::<Result<Vec<_>>>())?;
    let batches: Vec<_> = parts?
        .into_iter()
        .flat_map(|part| part.outputs)
        .filter(|output| output.partition.topic.as_str() == BATCHES)
        .collect();
    let (_, of_path) =
        counted(|| batches.iter().map(|output| paths(output, &mut path)).collect::<Result<Vec<_>>>())?;
    for (step, Allocated { times, bytes }) in STEPS.iter().zip([of_ingest, of_dedup, of_batch, of_path]) {
        figures.add(&format!("{step}.unsigned.allocations"), times as f64 / ROUND as f64, "/event", None);
        figures.add(&format!("{step}.unsigned.allocated"), bytes as f64 / ROUND as f64, "bytes/event", None);
    }
    Ok(())
}

/// Two workers against one, each with signed events of its own: by the clock, so of a quiet machine.
fn scaling(maker: &Maker, figures: &mut Figures) -> Result<()> {
    let events: Vec<_> = (0..SIGNED_ROUND).map(|id| maker.record(id, true)).collect();
    let rate = |workers: usize| -> Result<f64> {
        let mut chains = (0..workers).map(|_| Chain::new(maker)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let working: Vec<_> =
                chains.iter_mut().map(|chain| scope.spawn(|| chain.pass_all(&events))).collect();
            working.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a worker panicked"))?)
        })?;
        Ok(a_second(begun.elapsed(), workers * events.len()))
    };
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let one = rate(1)?;
        ratios.push(rate(2)? / one);
    }
    figures.add("core_scaling", median(ratios), "", Some(Goal::Least(1.8)));
    Ok(())
}
