//! Ingest: turns records of any source into statements, and rejects what it cannot vouch for.
//!
//! Reads `events` and whatever topics the sources name, writes `accepted` (partition: the log of the event) and
//! `rejected`. State: none.
//! Guarantees exactly one verdict an event: accepted, or rejected with a reason. A signed event is accepted only if its
//! signature is right under a key that counted for its device when the log took it. What is not accepted does not stop
//! the rest. What names a schema that is not known yet holds back what stands behind it in its partition, in order, until
//! the registry has answered.

mod checker;
mod waiting;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

use self::waiting::Waiting;
use crate::deployment::Deployment;
use crate::devices::{Device, EnrolError};
use crate::frame::{AcceptedEvent, AcceptedFrame, MAX_FRAME};
use crate::record::{Header, Micros, Output, Partition, Record};
use crate::registry::{SchemaId, Schemas};
use crate::rejected;
use crate::route::ACCEPTED;
use crate::source::{PAYLOAD_LIMIT, Source};
use crate::stage::{Answer, Halt, Part, Request, Stage, Tally};
use crate::trace::{IN_FRAME, TraceParent, of_event};

pub use self::checker::{Checker, Verdict};

/// What ingest takes, from where, and from whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The input topics: `[[source]]`.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// The keys of devices: `[[device]]`.
    #[serde(rename = "device")]
    pub devices: Vec<Device>,
    /// What is kept of tenants: `[tenant.NAME]`. Only tenants that send unsigned events need an entry.
    #[serde(rename = "tenant")]
    pub tenants: BTreeMap<String, Tenant>,
    /// Whether there is a schema registry to ask.
    #[serde(skip)]
    pub registry: bool,
}

/// Bytes of records held back that are let go in one transaction.
const TOGETHER: usize = 4 << 20;
/// Records that are checked together: enough for their hashes to be computed side by side, few enough to stay in the cache.
const CHECKED: usize = 64;

/// What is kept of a tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// From this the salt of unsigned events is made: nobody else may know it, and it never changes. 16 bytes or more.
    pub secret: Secret,
}

/// A text that is printed as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One topic, two sources.
    #[error("topic `{0}` has two sources")]
    TopicTwice(String),
    /// A bound that no payload or no log could keep.
    #[error("max_payload of `{topic}` is {found}; it is 1 to {PAYLOAD_LIMIT}")]
    MaxPayload {
        /// The source's topic.
        topic: String,
        /// What was configured.
        found: usize,
    },
    /// Settings of a source that do not go together.
    #[error("source `{topic}`: {why}")]
    Source {
        /// The source's topic.
        topic: String,
        /// What is wrong, and what to do about it.
        why: String,
    },
    /// A secret that can be guessed.
    #[error("the secret of tenant `{0}` has fewer than 16 bytes")]
    ShortSecret(String),
    /// A key that cannot be enrolled.
    #[error(transparent)]
    Device(#[from] EnrolError),
}

/// The stage.
#[derive(Debug)]
pub struct Ingest {
    checker: Checker,
    schemas: Schemas,
    /// What is held back of partitions in which a record waits for its schema.
    waiting: BTreeMap<Partition, Waiting>,
    /// What came of each input partition since the last commit.
    open: BTreeMap<Partition, Open>,
    held: usize,
}

#[derive(Debug, Default)]
struct Open {
    /// Statements, by log.
    logs: BTreeMap<u32, Gathered>,
    tally: Tally,
}

#[derive(Debug)]
struct Gathered {
    frame: AcceptedFrame,
    bytes: usize,
    /// The contexts of some of its events.
    traces: Vec<Header>,
}

impl Ingest {
    /// The stage for these sources, devices and tenants.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config) -> Result<Self, ConfigError> {
        let checker = Checker::new(deployment, config)?;
        let (schemas, waiting, open) = (Schemas::default(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { checker, schemas, waiting, open, held: 0 })
    }

    /// Settles a record, or holds it back.
    fn take(&mut self, open: &mut Open, record: &Record, verdict: Verdict, out: &mut Part) {
        // Who comes behind one that waits, waits too: a partition keeps its order.
        let verdict = if self.waiting.contains_key(&record.partition) {
            verdict
        } else {
            match self.settle(open, record, verdict, out) {
                Ok(()) => return,
                Err(id) => Verdict::Awaits(id),
            }
        };
        self.held += waiting::size(record);
        self.waiting.entry(record.partition.clone()).or_default().hold(record.clone(), verdict);
    }

    /// Puts out what a verdict means; `Err` for one that waits for a schema.
    fn settle(
        &mut self,
        open: &mut Open,
        record: &Record,
        verdict: Verdict,
        out: &mut Part,
    ) -> Result<(), SchemaId> {
        match verdict {
            Verdict::Accepted { log, statement } => self.gather(open, record, log, statement, out),
            Verdict::Rejected { log, code, why } => {
                open.tally.rejected += 1;
                out.outputs.push(rejected::record(record, "ingest", code, &why, log));
            }
            Verdict::Awaits(id) => return Err(id),
        }
        out.through = Some(record.offset + 1);
        Ok(())
    }

    /// Settles what is held back of a partition, up to the next record whose schema is not known, or as much as one
    /// transaction should hold.
    fn release(&mut self, partition: &Partition, out: &mut Part) {
        let Some(mut waiting) = self.waiting.remove(partition) else { return };
        let mut open = self.open.remove(partition).unwrap_or_default();
        let enough = self.held.saturating_sub(TOGETHER);
        let are_all_out = loop {
            let Some((record, verdict)) = waiting.next() else { break true };
            let verdict = match verdict {
                Verdict::Awaits(_) => self.checker.check(&record, &self.schemas),
                known => known,
            };
            if let Err(id) = self.settle(&mut open, &record, verdict, out) {
                waiting.back(record, id);
                break false;
            }
            self.held -= waiting::size(&record);
            if self.held < enough && !waiting.is_empty() {
                waiting.call();
                break false;
            }
        };
        if !are_all_out {
            self.waiting.insert(partition.clone(), waiting);
        }
        self.open.insert(partition.clone(), open);
    }

    fn gather(&mut self, open: &mut Open, record: &Record, log: u32, statement: Bytes, out: &mut Part) {
        open.tally.passed.add(&statement);
        let gathered = open.logs.entry(log).or_insert_with(|| Gathered {
            frame: AcceptedFrame {
                topic: record.partition.topic.as_str().into(),
                partition: record.partition.number,
                events: Vec::new(),
            },
            bytes: 0,
            traces: Vec::new(),
        });
        gathered.bytes += statement.len();
        if gathered.traces.len() < IN_FRAME {
            let parent = TraceParent::of(record);
            gathered.traces.extend(parent.map(|parent| of_event(record.offset, &parent)));
        }
        self.held += statement.len();
        gathered.frame.events.push(AcceptedEvent { offset: record.offset, statement });
        if gathered.bytes >= MAX_FRAME {
            self.held -= gathered.bytes;
            gathered.bytes = 0;
            out.outputs.push(accepted(log, &gathered.frame, std::mem::take(&mut gathered.traces)));
            gathered.frame.events.clear();
        }
    }
}

fn accepted(log: u32, frame: &AcceptedFrame, traces: Vec<Header>) -> Output {
    let output = Output::new(Partition::new(ACCEPTED, log), Bytes::new(), frame.encode());
    Output { headers: traces, ..output }
}

impl Stage for Ingest {
    fn assign(&mut self, _: &Partition, _: u64) {}

    fn restore_since(&self, now: Micros) -> Option<Micros> {
        Some(now)
    }

    fn restore(&mut self, _: &Record) -> Result<(), Halt> {
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        for gathered in self.open.remove(partition).into_iter().flat_map(|open| open.logs.into_values()) {
            self.held -= gathered.bytes;
        }
        self.held -= self.waiting.remove(partition).map_or(0, |waiting| waiting.size());
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        self.step_all(std::slice::from_ref(record), out)
    }

    fn step_all(&mut self, records: &[Record], out: &mut Part) -> Result<(), Halt> {
        let Some(first) = records.first() else { return Ok(()) };
        let mut open = self.open.remove(&first.partition).unwrap_or_default();
        for records in records.chunks(CHECKED) {
            let verdicts = self.checker.check_all(records, &self.schemas);
            for (record, verdict) in records.iter().zip(verdicts) {
                self.take(&mut open, record, verdict, out);
            }
        }
        self.open.insert(first.partition.clone(), open);
        Ok(())
    }

    fn seal(&mut self, partition: &Partition, out: &mut Part) -> Result<(), Halt> {
        let Some(open) = self.open.get_mut(partition) else { return Ok(()) };
        for (log, gathered) in std::mem::take(&mut open.logs) {
            self.held -= gathered.bytes;
            if !gathered.frame.events.is_empty() {
                out.outputs.push(accepted(log, &gathered.frame, gathered.traces));
            }
        }
        Ok(())
    }

    fn tally(&mut self, partition: &Partition) -> Tally {
        self.open.get_mut(partition).map(|open| std::mem::take(&mut open.tally)).unwrap_or_default()
    }

    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        None
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        let asks = |(partition, waiting): (&Partition, &mut Waiting)| {
            let partition = partition.clone();
            waiting.asks().map(move |request| (partition.clone(), request)).collect::<Vec<_>>()
        };
        self.waiting.iter_mut().flat_map(asks).collect()
    }

    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt> {
        let Some(waiting) = self.waiting.get_mut(partition) else { return Ok(()) };
        match answer {
            Answer::Schema(id, lookup) => match waiting.answered(id) {
                Some(at) => self.schemas.learn(id, lookup, at),
                None => return Ok(()),
            },
            Answer::Again => waiting.called(),
            _ => return Ok(()),
        }
        self.release(partition, out);
        Ok(())
    }

    fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests;
