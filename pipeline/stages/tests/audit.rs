//! The audit has to find what it is there for: each damage to a log is found, and named by kind and place.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use killick_stages::audit::{Finding, Kind, Report, Settings};
use killick_stages::frame::{AcceptedFrame, UniqueFrame};
use killick_stages::manifest::Manifest;
use killick_stages::ports::BatchRecord;
use killick_stages::ready::ProofReady;
use killick_stages::record::{Partition, Record};
use killick_stages::stage::Sum;
use support::audit::{audited, settings};
use support::log::SimLog;
use support::world::{Bug, Faults, Sim};

const LOGS: u32 = 3;

/// A world at rest, with everything in it.
fn world() -> Sim {
    let mut sim = Sim::new(7, Faults::default());
    sim.run(400).unwrap();
    sim
}

fn look(sim: &Sim, settings: &Settings) -> (Report, Vec<Finding>) {
    audited(&sim.world.log, LOGS, settings)
}

fn look_at_all(sim: &Sim) -> (Report, Vec<Finding>) {
    look(sim, &settings(sim.world.now + 1))
}

/// The kinds of what is found after a change.
fn found(sim: &Sim) -> BTreeSet<Kind> {
    let (report, findings) = look_at_all(sim);
    let kinds: BTreeSet<Kind> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, report.findings.keys().copied().collect(), "{findings:#?}");
    assert_eq!(report.is_clean(), findings.is_empty());
    kinds
}

fn records<'l>(log: &'l mut SimLog, topic: &str, number: u32) -> &'l mut Vec<Record> {
    log.partitions.get_mut(&Partition::new(topic, number)).unwrap()
}

/// The place of a manifest in the middle of those of a stage about an input topic.
fn place_of(log: &mut SimLog, stage: &str, topic: &str) -> (u32, usize) {
    for number in 0..LOGS {
        let places: Vec<usize> = records(log, "audit", number)
            .iter()
            .enumerate()
            .filter(|(_, record)| {
                let manifest = Manifest::decode(&record.value).unwrap();
                &*manifest.stage == stage
                    && manifest.input.topic.as_str() == topic
                    && manifest.from < manifest.to
            })
            .map(|(place, _)| place)
            .collect();
        if places.len() > 3 {
            return (number, places[places.len() / 2]);
        }
    }
    panic!("{stage} has no manifests about {topic}");
}

fn change_manifest(record: &mut Record, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::decode(&record.value).unwrap();
    change(&mut manifest);
    record.value = manifest.encode();
}

const INPUTS: [(&str, &str); 6] = [
    ("ingest", "events"),
    ("dedup", "accepted"),
    ("batch", "unique"),
    ("anchor", "checkpoints"),
    ("prove", "batches"),
    ("prove", "anchors"),
];

#[test]
fn a_log_at_rest_is_clean_and_every_event_of_it_is_counted() {
    let sim = world();
    let (report, findings) = look_at_all(&sim);
    assert_eq!(findings, []);
    assert!(report.not_covered.is_empty() && report.unsettled == 0);
    for (stage, topic) in INPUTS {
        assert!(report.hops[&(stage.into(), topic.into())].manifests > 3, "{stage}, {topic}");
    }
    let hop = |stage: &str, topic: &str| report.hops[&(stage.into(), topic.into())];
    let (dedup, batch) = (hop("dedup", "accepted"), hop("batch", "unique"));
    assert_eq!(dedup.passed, batch.taken);
    assert_eq!(batch.passed, hop("prove", "batches").taken);
    assert_eq!(batch.passed, hop("prove", "anchors").passed);
    let ingest = report.hops.iter().filter(|((stage, _), _)| &**stage == "ingest").map(|(_, hop)| hop);
    let accepted = ingest.fold(Sum::default(), |mut sum, hop| {
        sum += hop.passed;
        sum
    });
    assert_eq!(accepted, dedup.taken);
    assert_eq!(dedup.taken.events, report.events.accepted);
    assert!(dedup.duplicates > 5 && dedup.rejected > 5 && hop("ingest", "events").rejected > 5);
}

#[test]
fn a_manifest_that_is_missing_twice_there_shifted_or_wrong_is_found_whoever_wrote_it() {
    for (stage, topic) in INPUTS {
        let mut sim = world();
        let (number, at) = place_of(&mut sim.world.log, stage, topic);
        let gone = records(&mut sim.world.log, "audit", number).remove(at);
        assert_eq!(found(&sim), [Kind::Gap].into(), "{stage}, {topic}: missing");
        let manifest = Manifest::decode(&gone.value).unwrap();
        let (_, findings) = look_at_all(&sim);
        let [gap] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((&gap.partition, gap.from, gap.to), (&manifest.input, manifest.from, manifest.to));

        let all = records(&mut sim.world.log, "audit", number);
        all.splice(at..at, [gone.clone(), gone.clone()]);
        // Each record has an offset of its own.
        all.iter_mut().zip(0..).for_each(|(record, offset)| record.offset = offset);
        assert!(found(&sim).contains(&Kind::Overlap), "{stage}, {topic}: twice");

        let all = records(&mut sim.world.log, "audit", number);
        all.remove(at);
        change_manifest(&mut all[at], |manifest| {
            (manifest.from, manifest.to) = (manifest.from + 1, manifest.to + 1)
        });
        // No gap, where the one offset that nobody tells of is the mark of a transaction.
        assert!(found(&sim).contains(&Kind::Overlap), "{stage}, {topic}: shifted");

        records(&mut sim.world.log, "audit", number)[at].value = gone.value;
        if stage != "anchor" {
            let all = records(&mut sim.world.log, "audit", number);
            change_manifest(&mut all[at], |manifest| {
                manifest.tally.passed.hashes ^= 1;
                manifest.tally.taken.hashes ^= 1;
            });
            // The side `batches` of prove passes nothing on, ingest takes no events: their other sum is not looked at.
            assert_eq!(found(&sim), [Kind::Difference].into(), "{stage}, {topic}: another sum");
        }
    }
}

#[test]
fn the_last_manifest_is_missed_since_more_is_committed() {
    for (stage, topic) in INPUTS {
        let mut sim = world();
        let (number, at) = place_of(&mut sim.world.log, stage, topic);
        let all = records(&mut sim.world.log, "audit", number);
        let input = Manifest::decode(&all[at].value).unwrap().input;
        let last = all.iter().rposition(|record| {
            let manifest = Manifest::decode(&record.value).unwrap();
            &*manifest.stage == stage && manifest.input == input && manifest.from < manifest.to
        });
        let gone = Manifest::decode(&all.remove(last.unwrap()).value).unwrap();
        let (_, findings) = look_at_all(&sim);
        let offset = findings.iter().find(|finding| finding.kind == Kind::Offset).unwrap();
        assert_eq!((&offset.partition, offset.from, offset.to), (&input, gone.from, gone.to));
    }
}

#[test]
fn where_a_stage_began_is_its_own_business_only_in_topics_of_others() {
    for (stage, topic) in [("ingest", "events"), ("batch", "unique")] {
        let mut sim = world();
        let log = &mut sim.world.log;
        // As if it had begun behind the first records: nobody tells of those.
        let (number, at) = place_of(log, stage, topic);
        let input = Manifest::decode(&records(log, "audit", number)[at].value).unwrap().input;
        let is_before = |record: &Record| {
            let manifest = Manifest::decode(&record.value).unwrap();
            &*manifest.stage == stage && manifest.input == input && manifest.from < 5
        };
        records(log, "audit", number).retain(|record| !is_before(record));
        if stage == "ingest" {
            assert_eq!(found(&sim), [].into());
            assert!(look_at_all(&sim).0.not_covered.iter().any(|what| what.contains("ingest began there")));
        } else {
            assert_eq!(found(&sim), [Kind::Gap].into());
        }
    }
}

#[test]
fn an_offset_that_was_lost_or_set_back_is_found() {
    let mut sim = world();
    *sim.world.log.committed.get_mut(&("batch", Partition::new("unique", 1))).unwrap() -= 1;
    assert_eq!(found(&sim), [Kind::Offset].into());
    sim.world.log.committed.remove(&("batch", Partition::new("unique", 1)));
    assert_eq!(found(&sim), [Kind::Offset].into());
}

#[test]
fn records_that_are_missing_in_the_middle_are_told_of_event_by_event() {
    for (topic, expected) in [
        ("accepted", &[Kind::Extra, Kind::Difference][..]),
        ("unique", &[Kind::Lost, Kind::Difference, Kind::Extra]),
        ("batches", &[Kind::Gap, Kind::Lost, Kind::Difference]),
        ("proofs", &[Kind::Gap]),
        ("rejected", &[Kind::Difference]),
    ] {
        let mut sim = world();
        let all = records(&mut sim.world.log, topic, 1);
        // One that holds statements, where that is what the topic is for.
        let middle = all.len() / 2;
        let holds = |record: &&Record| {
            let holds = || !UniqueFrame::decode(&record.value).unwrap().statements.is_empty();
            // Conflicts are named in `unique` too, and that is what the audit goes by.
            let is_ingests = || record.header("__connect.errors.stage") == Some(b"ingest");
            !record.is_tick() && (topic != "unique" || holds()) && (topic != "rejected" || is_ingests())
        };
        let place = middle + all[middle..].iter().position(|record| holds(&record)).unwrap();
        let gone = all.remove(place);
        assert_eq!(found(&sim), expected.iter().copied().collect(), "{topic}");
        let (report, findings) = look_at_all(&sim);
        let lost: Vec<_> = findings.iter().filter(|finding| finding.kind == Kind::Lost).collect();
        assert_eq!(lost.len() as u64, report.events.lost);
        assert!(lost.iter().all(|finding| finding.event.is_some()));
        match topic {
            "unique" => {
                let frame = UniqueFrame::decode(&gone.value).unwrap();
                let copies = frame.duplicates.len() + frame.conflicts.len();
                assert_eq!(lost.len(), frame.statements.len() + copies);
            }
            "batches" => assert_eq!(lost.len(), BatchRecord::decode(&gone.value).unwrap().statements.len()),
            _ => assert!(lost.is_empty()),
        }
    }
}

/// A record put in once more behind itself.
fn repeat(log: &mut SimLog, topic: &str) {
    let all = records(log, topic, 1);
    let place = all.len() / 2 + all[all.len() / 2..].iter().position(|record| !record.is_tick()).unwrap();
    let mut again = all[place].clone();
    // Offsets ascend: the last one is free to be another.
    again.offset = all.last().unwrap().offset + 1;
    all.push(again);
}

#[test]
fn records_that_are_there_twice_are_found() {
    for (topic, expected) in [("unique", Kind::Extra), ("batches", Kind::Twice), ("proofs", Kind::Twice)] {
        let mut sim = world();
        repeat(&mut sim.world.log, topic);
        assert!(found(&sim).contains(&expected), "{topic}: {:?}", found(&sim));
    }
}

#[test]
fn an_event_changed_or_moved_between_two_stages_is_found() {
    let mut sim = world();
    let all = records(&mut sim.world.log, "batches", 1);
    let record =
        all.iter_mut().find(|record| BatchRecord::decode(&record.value).unwrap().statements.len() > 2);
    let record = record.unwrap();
    let mut batch = BatchRecord::decode(&record.value).unwrap();
    let original = record.value.clone();
    batch.statements.swap(0, 1);
    record.value = batch.encode();
    assert!(found(&sim).contains(&Kind::Extra), "another order");

    let record =
        records(&mut sim.world.log, "batches", 1).iter_mut().find(|record| record.value == batch.encode());
    let record = record.unwrap();
    let mut batch = BatchRecord::decode(&original).unwrap();
    let mut changed = batch.statements[1].to_vec();
    *changed.last_mut().unwrap() ^= 1;
    batch.statements[1] = changed.into();
    record.value = batch.encode();
    assert_eq!(found(&sim), [Kind::Lost, Kind::Extra, Kind::Difference].into(), "another event");

    records(&mut sim.world.log, "batches", 1)
        .iter_mut()
        .find(|it| it.value == batch.encode())
        .unwrap()
        .value = Bytes::from_static(b"\x01");
    assert!(found(&sim).contains(&Kind::Damaged), "no batch at all");
}

#[test]
fn an_event_that_dedup_lets_through_twice_is_found_with_its_name() {
    let mut sim = world();
    // As a dedup without its state would have it: a duplicate passes as new, all the way.
    let all = records(&mut sim.world.log, "unique", 1);
    let (at, frame) = all
        .iter()
        .enumerate()
        .filter(|(_, record)| !record.is_tick())
        .map(|(at, record)| (at, UniqueFrame::decode(&record.value).unwrap()))
        .find(|(_, frame)| !frame.duplicates.is_empty())
        .unwrap();
    let accepted = records(&mut sim.world.log, "accepted", 1);
    let accepted = accepted.iter().find(|record| record.offset == frame.offset).unwrap();
    let accepted = AcceptedFrame::decode(&accepted.value).unwrap();
    let is_copy = |offset| frame.duplicates.iter().any(|copy| copy.offset == offset);
    let changed = UniqueFrame {
        statements: accepted
            .events
            .iter()
            .filter(|event| is_copy(event.offset) || frame.statements.contains(&event.statement))
            .map(|event| event.statement.clone())
            .collect(),
        duplicates: Vec::new(),
        ..frame.clone()
    };
    records(&mut sim.world.log, "unique", 1)[at].value = changed.encode();
    let (_, findings) = look_at_all(&sim);
    let twice: Vec<_> = findings.iter().filter(|finding| finding.kind == Kind::Twice).collect();
    assert_eq!(twice.len(), frame.duplicates.len(), "{findings:#?}");
    assert!(twice.iter().all(|finding| {
        let name = finding.event.as_ref().unwrap();
        frame.duplicates.iter().any(|copy| copy.id == name.id && copy.source == name.source)
    }));
    // The same, longer after the first than the window: a new event.
    let short = Settings { window: 0, ..settings(sim.world.now + 1) };
    let (report, _) = look(&sim, &short);
    assert!(!report.findings.contains_key(&Kind::Twice));
}

#[test]
fn what_waits_is_told_of_when_it_is_older_than_the_objective() {
    let mut sim = world();
    let proofs = records(&mut sim.world.log, "proofs", 1);
    let untold = proofs.split_off(proofs.len() / 2);
    let numbers: Vec<_> =
        untold.iter().map(|record| ProofReady::decode(&record.value).unwrap().number).collect();
    // As it is before the anchors are there: prove has told of nothing more, and has no manifest about it.
    for number in 0..LOGS {
        records(&mut sim.world.log, "audit", number).retain(|record| {
            let manifest = Manifest::decode(&record.value).unwrap();
            !(manifest.input == Partition::new("anchors", 1) && manifest.tally.batches > Some(numbers[0]))
        });
    }
    let end = sim.world.log.partitions[&Partition::new("audit", 1)].iter().rev().find_map(|record| {
        let manifest = Manifest::decode(&record.value).unwrap();
        (manifest.input == Partition::new("anchors", 1)).then_some(manifest.to)
    });
    sim.world.log.committed.insert(("prove", Partition::new("anchors", 1)), end.unwrap_or(0));
    assert_eq!(found(&sim), [Kind::Late].into());
    let patient = Settings { objective: Some(3_600_000_000), ..settings(sim.world.now + 1) };
    let (report, findings) = look(&sim, &patient);
    assert_eq!(findings, []);
    let (late, _) = look_at_all(&sim);
    assert!(report.events.waiting > 0);
    assert_eq!((report.events.waiting, report.events.late), (late.events.late, 0));
}

#[test]
fn manifests_alone_are_looked_at_when_no_objective_is_given() {
    let mut sim = world();
    let quick = Settings { objective: None, ..settings(sim.world.now + 1) };
    records(&mut sim.world.log, "unique", 1).remove(3);
    let (report, findings) = look(&sim, &quick);
    assert_eq!((findings, report.events), (vec![], Default::default()));
    let (number, at) = place_of(&mut sim.world.log, "batch", "unique");
    records(&mut sim.world.log, "audit", number).remove(at);
    let (report, _) = look(&sim, &quick);
    assert_eq!(report.findings.keys().copied().collect::<Vec<_>>(), [Kind::Gap]);
}

#[test]
fn what_retention_took_is_told_as_not_covered_and_nothing_else_is() {
    // Each topic loses its beginning, by another share.
    for seed in 0..6 {
        let mut sim = world();
        let mut dice = support::Dice::new(seed);
        for topic in ["events", "accepted", "unique", "audit", "rejected", "proofs", "checkpoints", "anchors"]
        {
            for number in 0..LOGS {
                let partition = Partition::new(topic, number);
                let end = sim.world.log.end(&partition);
                if end > 0 {
                    sim.world.log.starts.insert(partition, dice.below(end));
                }
            }
        }
        let (report, findings) = look_at_all(&sim);
        assert_eq!(findings, [], "seed {seed}");
        assert!(report.not_covered.len() >= LOGS as usize);
        let all = look_at_all(&world()).0.events.accepted;
        assert!(report.events.accepted < all);
        // What is left is looked at as hard as before.
        records(&mut sim.world.log, "batches", 1).pop();
        assert!(!look_at_all(&sim).0.is_clean(), "seed {seed}");
    }
}

#[test]
fn a_look_at_the_last_time_alone_finds_what_happened_in_it() {
    let mut sim = world();
    let times: Vec<_> = sim.world.log.all("audit").map(|record| record.append_time).collect();
    let (first, last) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
    for share in 1..5 {
        let since = first + (last - first) * share / 5;
        let recent = Settings { since: Some(since), ..settings(sim.world.now + 1) };
        let (report, findings) = look(&sim, &recent);
        assert_eq!(findings, [], "{share}");
        let all = look_at_all(&sim).0;
        let manifests = |report: &Report| report.hops.values().map(|hop| hop.manifests).sum::<u64>();
        assert!(manifests(&report) < manifests(&all));
    }
    let since = first + (last - first) / 2;
    let recent = Settings { since: Some(since), ..settings(sim.world.now + 1) };
    let batches = records(&mut sim.world.log, "batches", 1);
    batches.pop();
    assert!(!look(&sim, &recent).0.is_clean());
}

#[test]
fn what_a_reader_may_not_see_yet_is_counted_and_not_told() {
    let mut sim = world();
    let last = records(&mut sim.world.log, "unique", 1).iter().rposition(|record| !record.is_tick()).unwrap();
    records(&mut sim.world.log, "unique", 1).remove(last);
    let young = Settings { settled: Some(support::audit::BEGINNING), ..settings(sim.world.now + 1) };
    let (report, findings) = look(&sim, &young);
    assert_eq!(findings, []);
    assert!(report.unsettled > 0 && !report.is_clean());
    let settled = Settings { settled: Some(sim.world.now + 1), ..settings(sim.world.now + 1) };
    assert!(!look(&sim, &settled).1.is_empty());
}

#[test]
fn shells_that_tear_transactions_are_found_by_the_audit_alone() {
    let torn = [Kind::Gap, Kind::Overlap, Kind::Offset];
    for bug in [Bug::OffsetsBeforeOutputs, Bug::OutputsBeforeOffsets] {
        let mut caught = 0;
        for seed in 0..12 {
            let mut sim = Sim::new(seed, Faults::all()).with(bug);
            // A stage may halt on what it meets; the audit is for when none does.
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sim.run(150))));
            let kinds = found(&sim);
            let is_caught = torn.iter().any(|kind| kinds.contains(kind));
            assert!(run.is_err() || is_caught, "SEED={seed}: {kinds:?}");
            caught += usize::from(is_caught);
        }
        assert!(caught > 9, "{bug:?}: {caught}");
    }
}
