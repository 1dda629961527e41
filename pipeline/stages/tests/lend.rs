//! Lend where a chain gives no proof of a later anchor.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_stages::frame::AnchorFrame;
use killick_stages::lend::Lend;
use killick_stages::ports::Look;
use killick_stages::record::{Partition, Record};
use killick_stages::span::Span;
use killick_stages::stage::{Answer, Part, Request, Stage};
use support::chain::NETWORK;
use support::world::{Faults, SERIES, Sim, verifiers};

/// A later anchor as a simulation has told of it.
fn told() -> (Sim, Record, AnchorFrame) {
    let mut sim = Sim::new(3, Faults::default());
    sim.run(150).unwrap();
    let record =
        sim.world.log.records("reanchors", 0).iter().find(|record| !record.is_tick()).unwrap().clone();
    let frame = AnchorFrame::decode(&record.value).unwrap();
    (sim, record, frame)
}

#[test]
fn a_proof_that_is_waited_for_too_long_is_an_alarm_and_the_next_anchor_has_its_turn() {
    let (sim, record, frame) = told();
    let mut lend = Lend::new(SERIES, NETWORK, Span::secs(5), verifiers(&sim.deployment)).unwrap();
    let input = Partition::new("reanchors", 0);
    lend.assign(&input, record.offset);
    let behind = Record { offset: record.offset + 1, ..record.clone() };
    for record in [&record, &behind] {
        lend.step(record, &mut Part::default()).unwrap();
    }
    let (mut looks, mut through) = (0, None);
    while through.is_none() {
        let requests = lend.requests();
        let answer = match &requests[..] {
            [(_, Request::Spv { key, .. })] => Answer::Spv(key.clone(), None),
            [(_, Request::Look { keys, .. })] => {
                assert!(lend.alarms().is_empty(), "after {looks} looks");
                looks += 1;
                let look = Look { tip_height: 1_000_000, tip_time: 0, deep_time: None, mined: None };
                Answer::Seen(keys.clone(), look)
            }
            other => panic!("{other:?}"),
        };
        let mut part = Part::default();
        lend.answer(&input, answer, &mut part).unwrap();
        assert!(part.outputs.is_empty());
        through = part.through;
    }
    // Every five seconds, for twenty minutes.
    assert_eq!((looks, through), (240, Some(record.offset + 1)));
    let alarms = lend.alarms();
    let [(_, why)] = &alarms[..] else { panic!("{alarms:?}") };
    for part in [&*frame.block, &frame.interval, &frame.origin, "in no block"] {
        assert!(why.contains(part), "{why}");
    }
}
