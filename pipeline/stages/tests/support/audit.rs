//! The audit of a log in memory.

use killick_stages::audit::{Finding, Leaf, Leaves, Observer, Report, Settings, audit, committed, twice};
use killick_stages::record::{Micros, Partition};

use super::log::{SimLog, SimReader};
use super::{SECOND, START};

/// What an audit heard.
#[derive(Debug, Default)]
pub struct Heard(pub Vec<Finding>);

impl Observer for Heard {
    fn found(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    fn progress(&mut self, _: &Partition, offset: u64, end: u64) {
        assert!(offset < end);
    }
}

/// Leaves in memory.
#[derive(Debug, Default)]
struct InMemory(Vec<Leaf>);

impl Leaves for InMemory {
    fn add(&mut self, leaf: Leaf) -> std::io::Result<()> {
        self.0.push(leaf);
        Ok(())
    }

    fn twice(&mut self, window: Micros, each: &mut dyn FnMut(&Leaf, &Leaf)) -> std::io::Result<()> {
        twice(&mut std::mem::take(&mut self.0), window, each);
        Ok(())
    }
}

/// All that is kept, with an objective that nothing at rest misses.
pub fn settings(now: Micros) -> Settings {
    Settings {
        objective: Some(0),
        now,
        since: None,
        settled: None,
        window: 25 * 3_600 * SECOND,
        sources: ["events", "open"].map(str::to_owned).to_vec(),
    }
}

/// Audits a log with so many partitions of each topic.
pub fn audited(log: &SimLog, partitions: u32, settings: &Settings) -> (Report, Vec<Finding>) {
    let mut reader = SimReader { log, partitions };
    let before = committed(&mut reader, &settings.sources).unwrap();
    let mut heard = Heard::default();
    let report = audit(&mut reader, settings, &before, &mut heard, &mut InMemory::default()).unwrap();
    (report, heard.0)
}

/// The time before which nothing in a world happened.
pub const BEGINNING: Micros = START - SECOND;
