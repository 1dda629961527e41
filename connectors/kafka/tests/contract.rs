//! The contract of the log, on real brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use killick_contract::log;
use killick_kafka::{Join, KafkaLog, KafkaProducer, Settings, Sharing, Start};
use killick_stages::ports::{Log, LogError, Polled, Producer};
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::stage::Part;

mod support;

/// A deployment of its own: topics and groups have a name that no other has.
struct Kafka {
    settings: Settings,
    prefix: String,
    workers: Mutex<Workers>,
}

#[derive(Default)]
struct Workers {
    /// Who asks for the same partitions again takes the place of who had them: as a process that is started again.
    slots: BTreeMap<(String, Vec<Partition>), usize>,
    alive: Vec<Arc<Mutex<Option<KafkaLog>>>>,
}

impl Kafka {
    fn fresh() -> Self {
        let prefix = support::unique("");
        let settings = Settings { prefix: prefix.clone(), ..support::settings() };
        Self { settings, prefix, workers: Mutex::default() }
    }
}

impl log::Subject for Kafka {
    type Log = Promised;

    fn worker(&self, group: &str, inputs: &[Partition]) -> Promised {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = workers.slots.len();
        let slot = *workers.slots.entry((group.to_owned(), inputs.to_vec())).or_insert(next);
        let topics: BTreeSet<String> = inputs.iter().map(|input| input.topic.as_str().to_owned()).collect();
        let join = Join {
            group,
            slot: &slot.to_string(),
            topics: &topics.into_iter().collect::<Vec<_>>(),
            writes: &[],
            sharing: Sharing::Sticky,
            start: Start::FirstKept,
        };
        let log = KafkaLog::join(&self.settings, &join).expect("a worker joins");
        let log = Arc::new(Mutex::new(Some(log)));
        workers.alive.push(Arc::clone(&log));
        Promised { log, inputs: inputs.iter().cloned().collect() }
    }

    fn producer(&self) -> Arc<dyn Producer> {
        Arc::new(KafkaProducer::open(&self.settings, "contract").expect("a producer"))
    }

    fn crash(&mut self) {
        // Workers go without a word; the brokers stay, as they do when a stage dies.
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).alive.drain(..) {
            drop(worker.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    fn topic(&mut self, name: &str, compacted: bool) -> String {
        let name = format!("{}{name}", self.prefix);
        let cleanup: &[(&str, &str)] = if compacted {
            &[
                ("cleanup.policy", "compact"),
                ("segment.bytes", "1048576"),
                ("min.cleanable.dirty.ratio", "0.01"),
            ]
        } else {
            &[]
        };
        support::make_topic(&name, 2, cleanup);
        name
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn too_large(&self) -> usize {
        self.settings.max_record
    }
}

/// A worker that was promised some of a topic's partitions. The group gives it others too, of which nobody asks: those
/// are left alone.
struct Promised {
    log: Arc<Mutex<Option<KafkaLog>>>,
    inputs: BTreeSet<Partition>,
}

impl Promised {
    fn with<T>(&self, act: impl FnOnce(&mut KafkaLog) -> T) -> T {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        act(log.as_mut().expect("the worker is alive"))
    }

    fn is_ours(&self, event: &Polled) -> bool {
        match event {
            Polled::Assigned(partition, _) | Polled::Revoked(partition) => self.inputs.contains(partition),
            Polled::Record(record) => self.inputs.contains(&record.partition),
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        drop(self.log.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Log for Promised {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError> {
        let polled = self.with(|log| log.poll(wait))?;
        Ok(polled.into_iter().filter(|event| self.is_ours(event)).collect())
    }

    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError> {
        self.with(|log| log.commit(parts))
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        self.with(|log| log.tick(partition))
    }

    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        self.with(|log| log.replay(partition, since, each))
    }

    fn pause(&mut self, paused: bool) {
        self.with(|log| log.pause(paused));
    }

    fn now(&self) -> Micros {
        self.with(|log| log.now())
    }
}

#[test]
fn the_log_keeps_its_contract() {
    log::suite(Kafka::fresh);
}
