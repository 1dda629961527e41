//! The shell around every stage: polls, steps, commits, and only then does what the stage asks of the world.
//!
//! One plain thread a worker. The order of effects is the promise: what a stage puts out is durable before anything
//! that follows from it leaves the process, and an input offset moves in the transaction that holds what came of it.
//! So the process may die between any two lines here: the next worker reads the same records and puts out the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use killick_kafka::plant;
use killick_stages::manifest::Bookkeeper;
use killick_stages::ports::{Log, LogError, Polled};
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::stage::{Part, Stage};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, info_span, warn};

use crate::office::{Answered, Office};
use crate::telemetry::Station;

/// Longest wait for records: also how late an answer may be noticed, and a stop.
const POLL: Duration = Duration::from_millis(20);
/// The same while answers are awaited.
const POLL_BUSY: Duration = Duration::from_millis(3);
/// Bytes a stage may hold uncommitted before its input pauses: a few of the largest frames of every partition.
const HELD_HIGH: usize = 64 << 20;
/// Below this the input starts again; at half, so that it does not flap.
const HELD_LOW: usize = HELD_HIGH / 2;
/// Pauses between tries of a failed commit, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Sees what a stage committed, right after it became durable.
pub type Tap = Arc<dyn Fn(&str, &[(Partition, Part)]) + Send + Sync>;

/// A stage at work on a log.
pub struct Worker<L> {
    name: &'static str,
    state_topic: Option<&'static str>,
    stage: Box<dyn Stage>,
    log: L,
    office: Office,
    books: Bookkeeper,
    tap: Tap,
    station: Arc<Station>,
    answers: mpsc::Receiver<Answered>,
    /// What is put out and not yet committed, by input partition.
    parts: BTreeMap<Partition, Part>,
    /// The partitions that are ours, each with the number of its assignment: answers to requests of an earlier
    /// assignment are void.
    owned: BTreeMap<Partition, u64>,
    assignments: u64,
    awaited: usize,
    ticked: BTreeMap<Partition, Micros>,
    paused: bool,
}

impl<L: Log> Worker<L> {
    /// A worker named after its stage; its state is read back from `state_topic`, its manifests come from `books`. `station`
    /// is told what it does.
    pub fn new(
        name: &'static str,
        state_topic: Option<&'static str>,
        stage: Box<dyn Stage>,
        log: L,
        (office, answers): (Office, mpsc::Receiver<Answered>),
        books: Bookkeeper,
        (tap, station): (Tap, Arc<Station>),
    ) -> Self {
        Self {
            name,
            state_topic,
            stage,
            log,
            office,
            books,
            tap,
            station,
            answers,
            parts: BTreeMap::new(),
            owned: BTreeMap::new(),
            assignments: 0,
            awaited: 0,
            ticked: BTreeMap::new(),
            paused: false,
        }
    }

    /// Works until `stop`; then commits what is in hand and returns.
    ///
    /// # Errors
    /// The stage halted, or the log is damaged: an operator has to look. Nothing is lost.
    pub fn run(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            self.turn(stop).with_context(|| format!("stage {} stopped", self.name))?;
        }
        info!(stage = self.name, "stopped");
        Ok(())
    }

    /// One turn: receive, step, commit, ask, tick.
    fn turn(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let idle = self.receive(stop)?;
        self.take_answers()?;
        self.commit(stop)?;
        for (partition, alarm) in self.stage.alarms() {
            self.station.alarmed();
            error!(stage = self.name, %partition, alarm = &*alarm, "an operator has to look");
        }
        for (partition, request) in self.stage.requests() {
            if let Some(&assignment) = self.owned.get(&partition) {
                plant::point("before_request");
                self.awaited += 1;
                self.office.ask(partition, assignment, request);
            }
        }
        self.tick(&idle)?;
        self.press_back();
        self.station.turned(|| self.stage.gauges());
        Ok(())
    }

    /// Takes what the log has; returns the owned partitions that had nothing.
    fn receive(&mut self, stop: &CancellationToken) -> anyhow::Result<BTreeSet<Partition>> {
        let wait = if self.awaited > 0 { POLL_BUSY } else { POLL };
        let polled = match self.log.poll(wait) {
            Ok(polled) => polled,
            Err(error @ LogError::Failed(_)) => {
                warn!(stage = self.name, %error, "the log cannot be read; trying again");
                std::thread::sleep(RETRY.0);
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        let mut idle: BTreeSet<Partition> = self.owned.keys().cloned().collect();
        let mut polled = polled.into_iter().peekable();
        while let Some(event) = polled.next() {
            match event {
                Polled::Assigned(partition, next) => self.assign(partition, next, stop)?,
                Polled::Revoked(partition) => self.forget(&partition),
                // A partition that a commit found to be lost may still have records on the way.
                Polled::Record(record) if !self.owned.contains_key(&record.partition) => {}
                Polled::Record(record) => {
                    idle.remove(&record.partition);
                    let part = self.parts.entry(record.partition.clone()).or_default();
                    let mut records = vec![record];
                    while let Some(Polled::Record(next)) = polled.next_if(|next| follows(&records[0], next)) {
                        records.push(next);
                    }
                    self.stage.step_all(&records, part)?;
                }
            }
        }
        Ok(idle)
    }

    /// State first, then records.
    fn assign(&mut self, partition: Partition, next: u64, stop: &CancellationToken) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.assignments += 1;
        self.owned.insert(partition.clone(), self.assignments);
        self.stage.assign(&partition, next);
        self.books.assigned(&partition, next);
        let mut restored = 0_u64;
        if let Some(topic) = self.state_topic.filter(|_| !plant::has("state_not_restored")) {
            let state = Partition::new(topic, partition.number);
            let since = self.stage.restore_since(self.log.now());
            let mut pause = RETRY.0;
            // A log that fails half way begins anew: the stage forgets what it was given.
            loop {
                let mut halt = None;
                let stage = &mut self.stage;
                let outcome = self.log.replay(&state, since, &mut |record| {
                    if halt.is_none() {
                        halt = stage.restore(&record).err();
                        restored += 1;
                    }
                });
                match (outcome, halt) {
                    (_, Some(halt)) => return Err(halt.into()),
                    (Ok(()), None) => break,
                    (Err(error @ LogError::Failed(_)), None) if !stop.is_cancelled() => {
                        warn!(stage = self.name, %partition, %error, "state cannot be read back; trying again");
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(RETRY.1);
                        restored = 0;
                        self.stage.revoke(&partition);
                        self.stage.assign(&partition, next);
                    }
                    (Err(error), None) => return Err(error.into()),
                }
            }
        }
        debug!(stage = self.name, %partition, next, restored, took = ?begun.elapsed(), "assigned");
        Ok(())
    }

    fn forget(&mut self, partition: &Partition) {
        debug!(stage = self.name, %partition, "no longer ours");
        self.owned.remove(partition);
        self.books.revoked(partition);
        self.parts.remove(partition);
        self.ticked.remove(partition);
        self.stage.revoke(partition);
    }

    fn take_answers(&mut self) -> anyhow::Result<()> {
        while let Ok(Answered { partition, assignment, outcome }) = self.answers.try_recv() {
            self.awaited -= 1;
            if self.owned.get(&partition) == Some(&assignment) {
                let answer = outcome.map_err(|why| anyhow::anyhow!("{partition}: {why}"))?;
                let part = self.parts.entry(partition.clone()).or_default();
                self.stage.answer(&partition, answer, part)?;
            }
        }
        Ok(())
    }

    /// Commits everything put out, with its manifests, trying again until it is durable or no longer ours to write.
    fn commit(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        for (partition, part) in &mut self.parts {
            self.stage.seal(partition, part)?;
            self.books.enter(partition, part, self.stage.tally(partition));
        }
        let mut parts: Vec<_> =
            std::mem::take(&mut self.parts).into_iter().filter(|(_, part)| !part.is_empty()).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let _span = info_span!("commit", stage = self.name).entered();
        let mut pause = RETRY.0;
        while !parts.is_empty() {
            match self.log.commit(&parts) {
                Ok(()) => {
                    plant::point("before_apply");
                    self.books.committed(&parts);
                    (self.tap)(self.name, &parts);
                    break;
                }
                Err(LogError::Lost(partition)) => {
                    warn!(stage = self.name, %partition, "lost before the commit; another worker does it");
                    parts.retain(|(ours, _)| *ours != partition);
                    self.forget(&partition);
                }
                Err(LogError::Failed(_)) if plant::has("applied_before_commit") => break,
                Err(error @ LogError::Failed(_)) if !stop.is_cancelled() => {
                    warn!(stage = self.name, %error, ?pause, "cannot commit; trying again");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets log time pass where something is open and nothing comes: the only place where a clock decides, and what it
    /// decides stands in the log before anyone acts on it.
    fn tick(&mut self, idle: &BTreeSet<Partition>) -> anyhow::Result<()> {
        let now = self.log.now();
        for partition in idle {
            let Some(due) = self.stage.tick_due(partition) else {
                self.ticked.remove(partition);
                continue;
            };
            if due <= now && self.ticked.get(partition) != Some(&due) {
                match self.log.tick(partition) {
                    Ok(()) => drop(self.ticked.insert(partition.clone(), due)),
                    Err(error @ (LogError::Failed(_) | LogError::Lost(_))) => {
                        warn!(stage = self.name, %partition, %error, "cannot tick");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// A stage that holds much stops its input; polling goes on.
    fn press_back(&mut self) {
        let held = self.stage.held();
        if !self.paused && held > HELD_HIGH {
            self.paused = true;
            self.log.pause(true);
        } else if self.paused && held < HELD_LOW {
            self.paused = false;
            self.log.pause(false);
        }
    }
}

/// Whether this is a record of the same partition.
fn follows(record: &Record, next: &Polled) -> bool {
    matches!(next, Polled::Record(next) if next.partition == record.partition)
}

#[cfg(test)]
mod tests;
