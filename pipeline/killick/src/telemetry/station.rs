//! What is seen of one worker, on its way between the stage and the log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use killick_kafka::Figures;
use killick_stages::ports::{Log, LogError, Polled};
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::stage::Part;

use super::health::Pulse;

/// One worker.
#[derive(Debug)]
pub struct Station {
    slot: Box<str>,
    pulse: Pulse,
    /// What its hold on the brokers says, where it has one.
    figures: Option<Arc<Figures>>,
    /// Whether the state of all that is ours was read back.
    is_settled: AtomicBool,
    has_begun: AtomicBool,
    /// Why what was last put out cannot be committed, if it cannot.
    fault: Mutex<Option<String>>,
}

impl Station {
    /// A worker that is about to begin.
    pub fn new(slot: &str, figures: Option<Arc<Figures>>) -> Self {
        Self {
            slot: slot.into(),
            pulse: Pulse::new(),
            figures,
            is_settled: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            fault: Mutex::default(),
        }
    }

    /// What tells the worker from all others.
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Its pulse.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether it once had all that it was given, with its state.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Whether it has its partitions or stands by for some, and can write.
    ///
    /// # Errors
    /// Why not.
    pub fn is_ready(&self) -> Result<(), String> {
        if let Some(figures) = &self.figures {
            if !figures.is_connected() {
                return Err("no broker is connected".to_owned());
            }
            if !figures.joined.load(Ordering::Relaxed) {
                return Err("its group has not told it yet what it has".to_owned());
            }
        }
        if !self.is_settled.load(Ordering::Relaxed) {
            return Err("it reads its state back".to_owned());
        }
        match &*self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => Err(format!("it cannot commit: {fault}")),
            None => Ok(()),
        }
    }

    /// The worker asks for records: so it is done with what it was given before.
    fn asks(&self) {
        let is_member = self.figures.as_ref().is_none_or(|figures| figures.joined.load(Ordering::Relaxed));
        if is_member && !self.is_settled.swap(true, Ordering::Relaxed) {
            self.has_begun.store(true, Ordering::Relaxed);
        }
    }

    fn wrote(&self, outcome: &Result<(), LogError>) {
        let fault = match outcome {
            Err(error @ (LogError::Failed(_) | LogError::Over(_) | LogError::Damaged(_))) => {
                Some(error.to_string())
            }
            // The partition or the record is not one that can be written; the producer is.
            Ok(()) | Err(LogError::Lost(_) | LogError::Unknown(_) | LogError::TooLarge { .. }) => None,
        };
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// A worker's log, watched.
pub struct Watched<L> {
    log: L,
    station: Arc<Station>,
    owned: BTreeSet<Partition>,
    has_polled: bool,
}

impl<L: Log> Watched<L> {
    /// The log of this worker.
    pub fn new(log: L, station: Arc<Station>) -> Self {
        Self { log, station, owned: BTreeSet::new(), has_polled: false }
    }
}

impl<L: Log> Log for Watched<L> {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError> {
        if self.has_polled {
            self.station.asks();
        }
        let polled = self.station.pulse.call(|| self.log.poll(wait))?;
        self.has_polled = true;
        for event in &polled {
            match event {
                Polled::Assigned(partition, _) => {
                    self.station.is_settled.store(false, Ordering::Relaxed);
                    self.owned.insert(partition.clone());
                }
                Polled::Revoked(partition) => drop(self.owned.remove(partition)),
                Polled::Record(_) => {}
            }
        }
        Ok(polled)
    }

    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError> {
        let outcome = self.station.pulse.call(|| self.log.commit(parts));
        self.station.wrote(&outcome);
        outcome
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        self.station.pulse.call(|| self.log.tick(partition))
    }

    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        let pulse = &self.station.pulse;
        pulse.call(|| {
            self.log.replay(partition, since, &mut |record| {
                pulse.beat();
                each(record);
            })
        })
    }

    fn pause(&mut self, paused: bool) {
        self.log.pause(paused);
    }

    fn now(&self) -> Micros {
        self.log.now()
    }
}
