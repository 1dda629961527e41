//! What processes use between two moments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// The name of this process.
pub const LOAD: &str = "load";

/// Reads the CPU time of processes.
pub struct Meter {
    processes: BTreeMap<String, u32>,
}

/// What was read at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    at: Instant,
    machine: Duration,
    cpu: BTreeMap<String, Duration>,
}

/// What was used between two readings.
#[derive(Debug, Clone)]
pub struct Used {
    /// How long it took.
    pub time: Duration,
    /// What of the whole machine's CPU time went to processes that are none of ours: 0 to 1.
    pub elsewhere: f64,
    cpu: BTreeMap<String, Duration>,
}

impl Meter {
    /// Reads processes by their names and ids, and this one.
    pub fn new<'n>(processes: impl IntoIterator<Item = (&'n str, Option<u32>)>) -> Self {
        let known = processes.into_iter().filter_map(|(name, id)| Some((name.to_owned(), id?)));
        let processes = known.chain([(LOAD.to_owned(), std::process::id())]).collect();
        Self { processes }
    }

    /// Reads now.
    ///
    /// # Errors
    /// A process is gone.
    pub fn read(&self) -> Result<Reading> {
        let cpu = |(name, id): (&String, &u32)| Ok((name.clone(), process::cpu(*id)?));
        let cpu = self.processes.iter().map(cpu).collect::<Result<_>>()?;
        Ok(Reading { at: Instant::now(), machine: process::machine_cpu()?, cpu })
    }

    /// What was used since a reading.
    ///
    /// # Errors
    /// A process is gone.
    pub fn since(&self, then: &Reading) -> Result<Used> {
        let now = self.read()?;
        let time = now.at - then.at;
        let used = |(name, cpu): (String, Duration)| {
            let before = then.cpu.get(&name).copied().unwrap_or_default();
            (name, cpu.saturating_sub(before))
        };
        let cpu: BTreeMap<_, _> = now.cpu.into_iter().map(used).collect();
        let others = now.machine.saturating_sub(then.machine).saturating_sub(cpu.values().sum());
        let whole = time * u32::try_from(cores())?;
        let elsewhere = (others.as_secs_f64() / whole.as_secs_f64().max(f64::EPSILON)).min(1.0);
        Ok(Used { time, elsewhere, cpu })
    }
}

impl Used {
    /// CPU time of a process, if it was read.
    pub fn cpu(&self, name: &str) -> Option<Duration> {
        self.cpu.get(name).copied()
    }

    /// The same in microseconds for each of `count`.
    pub fn micros_each(&self, name: &str, count: usize) -> Option<f64> {
        self.cpu(name).map(|cpu| cpu.as_secs_f64() * 1e6 / count.max(1) as f64)
    }
}

/// Cores of this machine that we may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
