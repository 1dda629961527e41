//! The tale of a scenario, for people.

use std::fmt::Write as _;

use killick_sim::{SECOND, START};
use killick_stages::frame::AnchorFrame;
use killick_stages::ready::ProofReady;
use killick_stages::record::Record;
use killick_stages::route::{ANCHOR_LOG, ANCHORS, PROOFS};
use killick_stages::state::AnchorState;

use crate::world::World;

/// What happened, in one line.
pub fn short(world: &World) -> String {
    let happened = world.ground.nodes[0].happened().into_iter().filter(|(_, count)| *count > 0);
    let happened: Vec<_> = happened.map(|(fault, count)| format!("{fault} {count}")).collect();
    let (family, deaths, fenced) = (world.plan.family, world.deaths, world.fenced);
    let (alarms, happened) = (world.witness.alarms.len(), happened.join(", "));
    format!("{family:?}, {deaths} deaths, {fenced} late commits, {alarms} alarms; {happened}")
}

/// What became of each interval, with the second of each record, and what was done to the network.
pub fn long(world: &World) -> String {
    let mut lines: Vec<(i64, String)> = world.events.clone();
    for topic in [ANCHOR_LOG, ANCHORS, PROOFS] {
        let records = world.log.all(topic).filter_map(|record| Some((record.append_time, line(record)?)));
        lines.extend(records);
    }
    lines.sort();
    let mut text = String::new();
    for (time, line) in lines {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{:8.1} {line}", (time - START) as f64 / SECOND as f64);
    }
    text
}

fn line(record: &Record) -> Option<String> {
    let lane = record.partition.number;
    match record.partition.topic.as_str() {
        ANCHOR_LOG if record.value.is_empty() => {
            Some(format!("{lane}/{} is over", String::from_utf8_lossy(&record.key)))
        }
        ANCHOR_LOG => match AnchorState::decode(&record.value).ok()? {
            AnchorState::Interval(interval) => {
                let attempts: Vec<_> = interval.attempts.iter().map(|attempt| attempt.number).collect();
                let landing =
                    interval.landing.map(|landing| (landing.height, landing.block, landing.is_lost));
                Some(format!("{lane}/{}: attempts {attempts:?}, landed {landing:?}", interval.id))
            }
            AnchorState::Position(_) => None,
        },
        ANCHORS => {
            let frame = AnchorFrame::decode(&record.value).ok()?;
            let AnchorFrame { interval, version, height, block, .. } = frame;
            Some(format!("{interval} is told of, version {version}, in block {block} at height {height}"))
        }
        _ => {
            let ready = ProofReady::decode(&record.value).ok()?;
            Some(format!("batch {} of log {lane} is proven in {:?}", ready.number, ready.block?.hash))
        }
    }
}
