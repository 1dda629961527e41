use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{HOUR, NOW, record, run, statement, statement_at, tick, to};

fn dedup() -> Dedup {
    let deployment = Deployment::new(&crate::deployment::Config::default()).unwrap();
    Dedup::new(&deployment, &Config { window: Span::secs(7_200) }).unwrap()
}

fn started(next: u64) -> Dedup {
    let mut dedup = dedup();
    dedup.assign(&Partition::new(ACCEPTED, 1), next);
    dedup
}

fn frame(offset: u64, time: Micros, statements: &[Bytes]) -> Record {
    let events = statements
        .iter()
        .zip(100..)
        .map(|(statement, offset)| AcceptedEvent { offset, statement: statement.clone() })
        .collect();
    let frame = AcceptedFrame { topic: "events".into(), partition: 2, events };
    record(ACCEPTED, 1, offset, time, frame.encode())
}

fn unique(part: &Part) -> Vec<UniqueFrame> {
    to(part, UNIQUE).into_iter().map(|output| UniqueFrame::decode(&output.value).unwrap()).collect()
}

/// The state records of a part, as they are read back.
fn state(part: &Part) -> Vec<Record> {
    let outputs = to(part, DEDUP_LOG).into_iter().zip(0..);
    outputs.map(|(output, offset)| record(DEDUP_LOG, 1, offset, NOW, output.value.clone())).collect()
}

#[test]
fn the_first_passes_a_copy_is_a_duplicate_and_a_changed_copy_a_conflict() {
    let mut dedup = started(0);
    let (first, changed) = (statement("a", b"21.5"), statement("a", b"99.9"));
    // Another signature or salt over the same words makes no other event.
    let resalted = statement_at("a", NOW, b"21.5", &[1; 16]);
    let statements = [first.clone(), statement("b", b"21.5"), resalted, changed.clone(), first.clone()];
    let part = run(&mut dedup, &[frame(0, NOW, &statements)]).unwrap();

    let [frame] = &unique(&part)[..] else { panic!("not one frame") };
    assert_eq!(frame.statements, [first, statement("b", b"21.5")]);
    let copy = |offset| Copy {
        tenant: "acme".into(),
        source: "pump-1".into(),
        id: "a".into(),
        topic: "events".into(),
        partition: 2,
        offset,
    };
    assert_eq!(frame.duplicates, [copy(102), copy(104)]);
    assert_eq!(frame.conflicts, [copy(103)]);
    let [rejected] = to(&part, REJECTED)[..] else { panic!("not one rejection") };
    assert_eq!(rejected.value, changed);
    assert!(rejected.headers.iter().any(|header| header.value == "conflict"));
    assert_eq!(part.through, Some(1));
}

#[test]
fn another_time_or_another_key_is_a_conflict() {
    let mut dedup = started(0);
    let later = statement_at("a", NOW + 1, b"21.5", &[9; 16]);
    let part = run(&mut dedup, &[frame(0, NOW, &[statement("a", b"21.5"), later])]).unwrap();
    assert_eq!(unique(&part)[0].conflicts.len(), 1);
}

#[test]
fn a_copy_is_found_for_the_whole_window_and_no_longer_than_an_hour_more() {
    let mut dedup = started(0);
    let event = [statement("a", b"")];
    let times = [NOW, NOW + 2 * HOUR, NOW + 3 * HOUR];
    let records: Vec<Record> = times.iter().zip(0..).map(|(time, at)| frame(at, *time, &event)).collect();
    let frames = unique(&run(&mut dedup, &records).unwrap());
    let passed: Vec<usize> = frames.iter().map(|frame| frame.statements.len()).collect();
    assert_eq!(passed, [1, 0, 1]);
}

#[test]
fn every_delta_begins_where_the_last_one_ended_and_a_tick_is_told_of() {
    let mut dedup = started(5);
    let first = run(&mut dedup, &[frame(5, NOW, &[statement("a", b"")]), tick(ACCEPTED, 1, 6, NOW)]).unwrap();
    let second = run(&mut dedup, &[frame(9, NOW + 1, &[])]).unwrap();
    let deltas: Vec<DedupDelta> = [&first, &second]
        .into_iter()
        .flat_map(state)
        .map(|record| DedupDelta::decode(&record.value).unwrap())
        .collect();
    let ranges: Vec<_> = deltas.iter().map(|delta| (delta.from, delta.to, delta.time)).collect();
    assert_eq!(ranges, [(5, 7, NOW), (7, 10, NOW + 1)]);
    assert_eq!(unique(&second).len(), 1);
    let mut nothing = Part::default();
    dedup.seal(&Partition::new(ACCEPTED, 1), &mut nothing).unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn many_keys_make_many_deltas_each_far_below_the_size_of_a_record() {
    let mut dedup = started(0);
    let records: Vec<Record> = (0..40)
        .map(|offset| {
            let ids = (0..500).map(|id| statement(&format!("{offset}-{id}"), b""));
            frame(offset, NOW, &ids.collect::<Vec<_>>())
        })
        .collect();
    let part = run(&mut dedup, &records).unwrap();
    assert!(state(&part).len() > 1);
    assert!(state(&part).iter().all(|delta| delta.value.len() < 512 << 10));
    assert_eq!(dedup.keys(), 20_000);
    let mut restored = started(40);
    state(&part).iter().try_for_each(|record| restored.restore(record)).unwrap();
    let again = run(&mut restored, &[frame(40, NOW, &[statement("39-499", b"")])]).unwrap();
    assert_eq!(unique(&again)[0].duplicates.len(), 1);
}

#[test]
fn state_that_does_not_fit_the_input_stops_the_stage() {
    let mut dedup = started(0);
    let first = state(&run(&mut dedup, &[frame(0, NOW, &[statement("a", b"")])]).unwrap());
    let second = state(&run(&mut dedup, &[frame(1, NOW, &[statement("b", b"")])]).unwrap());
    let third = state(&run(&mut dedup, &[frame(2, NOW, &[statement("c", b"")])]).unwrap());
    let next = frame(3, NOW, &[]);

    let mut whole = started(3);
    [&first, &second, &third].into_iter().flatten().try_for_each(|record| whole.restore(record)).unwrap();
    assert!(run(&mut whole, std::slice::from_ref(&next)).is_ok());

    let mut tail = started(3);
    third.iter().try_for_each(|record| tail.restore(record)).unwrap();
    assert!(run(&mut tail, std::slice::from_ref(&next)).is_ok(), "what came before the window is gone");

    let mut gap = started(3);
    first.iter().try_for_each(|record| gap.restore(record)).unwrap();
    assert!(third.iter().try_for_each(|record| gap.restore(record)).is_err());

    let mut short = started(3);
    [&first, &second].into_iter().flatten().try_for_each(|record| short.restore(record)).unwrap();
    assert!(run(&mut short, std::slice::from_ref(&next)).unwrap_err().why.contains("offsets below 2"));

    let mut torn = started(3);
    assert!(torn.restore(&record(DEDUP_LOG, 1, 0, NOW, "x")).is_err());
}

#[test]
fn a_frame_that_does_not_decode_stops_the_stage() {
    let mut dedup = started(0);
    assert!(run(&mut dedup, &[record(ACCEPTED, 1, 0, NOW, "x")]).is_err());
    assert!(run(&mut dedup, &[frame(0, NOW, &[Bytes::from_static(b"\x80")])]).is_err());
}

#[test]
fn a_window_out_of_range_is_refused() {
    let deployment = Deployment::new(&crate::deployment::Config::default()).unwrap();
    for window in [Span::secs(3_599), Span::secs(90 * 86_400 + 1)] {
        assert_eq!(Dedup::new(&deployment, &Config { window }).unwrap_err(), ConfigError::Window(window));
    }
}

proptest! {
    /// Events from a few names over some hours, stepped in chunks, with a crash after some of the chunks.
    #[test]
    fn a_crash_changes_no_verdict(
        events in prop::collection::vec((0..12_u8, 0..2_u8, 0..HOUR), 1..60),
        crashes in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut time = NOW;
        let mut records = Vec::new();
        for (offset, (name, payload, pause)) in (0..).zip(&events) {
            time += pause - HOUR / 4; // it may step back
            records.push(frame(offset, time, &[statement(&name.to_string(), &[*payload])]));
        }
        let mut without = started(0);
        let mut with = started(0);
        let mut log = Vec::new();
        for (record, crash) in records.iter().zip(crashes) {
            let expected = run(&mut without, std::slice::from_ref(record)).unwrap();
            if crash {
                with = started(record.offset);
                log.iter().try_for_each(|record| with.restore(record)).unwrap();
            }
            let part = run(&mut with, std::slice::from_ref(record)).unwrap();
            prop_assert_eq!(&part, &expected);
            log.extend(state(&part));
        }
    }

    /// Against the plainest possible implementation, where time only goes on.
    #[test]
    fn within_the_window_no_name_passes_twice(
        events in prop::collection::vec((0..12_u8, 0..HOUR), 1..80),
    ) {
        let (mut dedup, mut time) = (started(0), NOW);
        let mut passed: Vec<(u8, Micros)> = Vec::new();
        for (offset, (name, pause)) in (0..).zip(events) {
            time += pause;
            let part = run(&mut dedup, &[frame(offset, time, &[statement(&name.to_string(), b"")])]).unwrap();
            let passes = !unique(&part)[0].statements.is_empty();
            let last = passed.iter().rev().find(|(known, _)| *known == name).map(|(_, at)| time - at);
            match last {
                None => prop_assert!(passes),
                Some(age) if age < 2 * HOUR => prop_assert!(!passes, "{age}"),
                Some(age) if age >= 3 * HOUR => prop_assert!(passes, "{age}"),
                Some(_) => {}
            }
            if passes {
                passed.push((name, time));
            }
        }
        let live: BTreeSet<u8> = passed.iter().map(|(name, _)| *name).collect();
        prop_assert!(dedup.keys() <= live.len());
    }
}

#[test]
fn what_passes_is_followed_and_a_copy_is_not() {
    let mut dedup = started(0);
    let statements = [statement("a", b""), statement("a", b""), statement("b", b"")];
    let mut frame = frame(0, NOW, &statements);
    let parent = |span: u8| crate::trace::TraceParent { trace: [1; 16], span: [span; 8], is_sampled: true };
    frame.headers.extend([100, 101].map(|offset| crate::trace::of_event(offset, &parent(offset as u8))));
    let part = run(&mut dedup, &[frame]).unwrap();
    let carried: Vec<_> = crate::trace::carried(&to(&part, UNIQUE)[0].headers).collect();
    assert_eq!(carried, [parent(100)]);
}
