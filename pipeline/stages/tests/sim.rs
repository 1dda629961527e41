//! The whole pipeline in one thread under a seed: every effect fails before it happened or after it happened but
//! unanswered, workers die and lose partitions at every point, the chain forgets, fails and turns. In the end each event
//! is proven once or named.
//!
//! `SEED=41` runs that seed alone; `SEEDS=1000` runs so many.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;

use killick_stages::record::Record;
use support::judge::judge;
use support::world::{Bug, Faults, Sim};

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(default),
    }
}

fn verdict(mut sim: Sim) -> Result<(), String> {
    sim.run(150)?;
    judge(&sim)
}

#[test]
fn without_faults_each_event_is_proven_once_or_named() {
    for seed in seeds(10) {
        verdict(Sim::new(seed, Faults::default())).unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
    }
}

#[test]
fn whatever_fails_each_event_is_proven_once_or_named() {
    for seed in seeds(60) {
        verdict(Sim::new(seed, Faults::all())).unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
    }
}

#[test]
fn the_faults_happen() {
    let mut sim = Sim::new(1, Faults::all());
    sim.run(400).unwrap();
    let world = &sim.world;
    assert!(world.chains.values().any(|chain| chain.orphaned > 0));
    assert!(world.log.all("rejected").count() > 20);
    let codes: BTreeSet<_> = world.log.all("rejected").map(code).collect();
    assert!(["unknown-schema", "unfit-schema"].iter().all(|code| codes.contains(*code)), "{codes:?}");
    assert!(world.log.all("batches").count() > 30);
    assert!(world.log.all("anchors").count() > 5);
    let failed = |chain: &support::chain::SimChain| chain.sent.len() > chain.succeeded.len();
    assert!(world.chains.values().any(failed), "no command ever failed");
}

fn code(rejected: &Record) -> String {
    let code = rejected.header("__connect.errors.exception.class.name").unwrap();
    String::from_utf8(code.to_vec()).unwrap()
}

/// How many of some seeds end well with a bug planted.
fn survived(bug: Bug) -> usize {
    let dies = |seed: &u64| {
        let run = std::panic::catch_unwind(|| verdict(Sim::new(*seed, Faults::all()).with(bug)));
        matches!(run, Ok(Ok(())))
    };
    (0..12).filter(dies).count()
}

#[test]
fn a_shell_that_commits_offsets_before_outputs_is_caught() {
    assert_eq!(survived(Bug::OffsetsBeforeOutputs), 0);
}

#[test]
fn a_shell_that_commits_outputs_before_offsets_is_caught() {
    assert_eq!(survived(Bug::OutputsBeforeOffsets), 0);
}

#[test]
fn a_shell_that_does_not_read_state_back_is_caught() {
    for stage in ["dedup", "batch", "anchor", "prove"] {
        assert_eq!(survived(Bug::StateNotRestored(stage)), 0, "{stage}");
    }
}

#[test]
fn a_catalog_that_answers_before_it_stores_is_caught() {
    assert_eq!(survived(Bug::AnswerWithoutEffect), 0);
}

#[test]
fn a_shell_that_takes_silence_of_the_registry_for_an_answer_is_caught() {
    assert!(survived(Bug::SilenceIsMissing) < 4);
}

#[test]
fn an_anchor_that_does_not_wait_for_depth_is_caught() {
    assert!(survived(Bug::DepthIgnored) < 12);
}
