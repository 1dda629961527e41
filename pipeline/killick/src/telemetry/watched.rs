//! A worker's log, watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use killick_stages::ports::{Log, LogError, Polled};
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::stage::Part;

use super::station::Station;

/// A log that tells what a worker does with it.
pub struct Watched<L> {
    log: L,
    station: Arc<Station>,
    has_polled: bool,
}

impl<L: Log> Watched<L> {
    /// The log of this worker.
    pub fn new(log: L, station: Arc<Station>) -> Self {
        Self { log, station, has_polled: false }
    }
}

impl<L: Log> Log for Watched<L> {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError> {
        if self.has_polled {
            self.station.asks();
        }
        let polled = self.station.pulse().call(|| self.log.poll(wait))?;
        self.has_polled = true;
        for event in &polled {
            match event {
                Polled::Assigned(partition, _) => self.station.assigned(partition),
                Polled::Revoked(partition) => self.station.revoked(partition),
                Polled::Record(_) => {}
            }
        }
        if !polled.is_empty() {
            self.station.read(polled.iter().filter_map(|event| match event {
                Polled::Record(record) => Some(record),
                Polled::Assigned(..) | Polled::Revoked(_) => None,
            }));
        }
        Ok(polled)
    }

    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError> {
        let begun = Instant::now();
        let outcome = self.station.pulse().call(|| self.log.commit(parts));
        self.station.wrote(parts, begun.elapsed(), &outcome);
        outcome
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        self.station.pulse().call(|| self.log.tick(partition))
    }

    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        let pulse = self.station.pulse();
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
