//! Prove: makes receipts possible, and says so only of what its own verifier has passed.
//!
//! Reads `batches` and `anchors` (the same partition of both: the log), writes `proofs` (the log), one record for each
//! batch, in order, and `receipts` (the log), one for each event, if that is wanted. State, in `prove-log`: how far each
//! input is done, how many batches are stored and how many proven.
//! The order of effects: a batch is in the catalog before its input offset moves; an anchor is verified, with the proof
//! of the chain and the newest batch that it covers, before it is in the catalog; each batch that it newly covers is read
//! back from the catalog and verified in full before `proofs` tells of it, in one transaction with the count.
//! Guarantees one record in `proofs` a batch, and one in `receipts` an event. What does not verify halts the stage: it is
//! never published.
//! If `prove-log` is lost, the stage halts: batches would be told of twice.

mod proven;
mod tell;
pub(crate) mod wait;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::note::VerifierKey;
use killick_proof::receipt::Anchor;
use killick_proof::trust::{LogKey, Trust, TrustError, TrustFile};
use killick_proof::verify::Verifier;
use serde::Deserialize;

use crate::deployment::Deployment;
use crate::frame::AnchorFrame;
use crate::ports::{AnchorRecord, BatchRecord};
use crate::record::{Micros, Output, Partition, Record};
use crate::route::{ANCHORS, BATCHES, PROVE_LOG};
use crate::series::OWN;
use crate::span::Span;
use crate::stage::{Answer, Gauge, Halt, Part, Request, Stage, Sum, Tally};
use crate::state::ProveState;
pub(crate) use proven::{anchor_of, check, ends_in, is_replaced};
use tell::{Desk, Telling};
use wait::Wait;

/// How proofs are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long to wait before a chain is asked again for a proof that it could not give. 10 ms to 10 min; default 5 s.
    pub poll: Span,
    /// Whether the whole receipt of each event is published too, in `receipts`. Default: no. From where it is turned on,
    /// every batch has all of its receipts there.
    pub receipts: bool,
    /// The schemas that the messages name.
    pub schema_ids: SchemaIds,
}

/// The ids of the messages' schemas in a registry, as they stand before each datum: 0 to 2^31 − 1; default 0, which no
/// registry gives: the messages name no schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaIds {
    /// Of `proof-ready.avsc`, for `proofs`.
    pub proof_ready: u32,
    /// Of `receipt.avsc`, for `receipts`.
    pub receipt: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { poll: Span::secs(5), receipts: false, schema_ids: SchemaIds::default() }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A pause outside its range.
    #[error("poll is {0}; it is 10ms to 10m")]
    Poll(Span),
    /// An id outside its range.
    #[error("schema_ids has {0}; an id is 0 to 2147483647, and 0 stands for none")]
    SchemaId(u32),
    /// A log whose checkpoints could not be verified.
    #[error("there is no key for log {0}")]
    NoKey(String),
    /// A series that cannot be named so.
    #[error("a series is named by 1 to 32 of a-z 0-9 -, not {0:?}")]
    Series(String),
    /// Two keys that signatures cannot tell apart.
    #[error("the keys of the logs: {0}")]
    Keys(#[from] TrustError),
}

/// Batches of a log that are read back ahead of the one that is told of: at most 8 × 512 KiB.
const AHEAD: usize = 8;
/// The same of all logs together, but at least one of each.
const AHEAD_OF_ALL: usize = 32;

/// Anchors of one log that wait for their batches, some 16 MiB. Checkpoints follow their batches, so that more wait only
/// when a catalog is written anew; then every other one is passed over: its batches are proven by the one behind it.
const MAX_WAITING: usize = 16_384;

/// The stage.
#[derive(Debug)]
pub struct Prove {
    deployment: Deployment,
    config: Config,
    verifier: Verifier,
    logs: BTreeMap<u32, OpenLog>,
    /// Bytes of messages that are put out and not committed.
    put: usize,
    /// What an operator has to know of, and was not told yet.
    alarms: Vec<(Partition, Box<str>)>,
}

/// What is known of one log.
#[derive(Debug, Default)]
struct OpenLog {
    batches: Side,
    anchors: Side,
    /// Batches on their way into the catalog.
    storing: VecDeque<Storing>,
    /// Anchors that wait, the first one being worked on: the offset behind each.
    waiting: VecDeque<(u64, AnchorFrame)>,
    /// How far the work on the first one is.
    work: Option<Work>,
    /// What is to be asked after the next commit.
    asks: Vec<(&'static str, Request)>,
}

/// A batch on its way into the catalog.
#[derive(Debug)]
struct Storing {
    /// The input offset behind it.
    next: u64,
    bytes: usize,
    sum: Sum,
}

/// One of the two inputs of a log.
#[derive(Debug, Default)]
struct Side {
    /// The offset of the next record, while the partition is ours.
    next: Option<u64>,
    /// Whether the state was held against the input offset.
    is_checked: bool,
    done: ProveState,
    /// Whether `done` differs from what `prove-log` says.
    is_dirty: bool,
    /// The events of the batches that were stored, or told of, since the last commit.
    events: Sum,
}

/// How far the work on an anchor is. Each step awaits one answer; the last one, as many as were asked for.
#[derive(Debug)]
enum Work {
    /// Awaits the chain's proof, or the time to ask for it again.
    Proof(Wait),
    /// Awaits the newest batch that is covered, to verify the anchor with.
    Newest(Box<Anchor>),
    /// Awaits the catalog.
    Storing(Box<Anchor>),
    /// Awaits the batches that are newly covered, or room for what is to be told of them.
    Telling(Box<Telling>),
}

impl Prove {
    /// The stage; `keys` holds the public keys of the deployment's logs, named after their origins. Others are ignored.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(
        deployment: &Deployment,
        config: &Config,
        keys: Vec<VerifierKey>,
    ) -> Result<Self, ConfigError> {
        if !(Span::millis(10)..=Span::secs(600)).contains(&config.poll) {
            return Err(ConfigError::Poll(config.poll));
        }
        let ids = [config.schema_ids.proof_ready, config.schema_ids.receipt];
        if let Some(id) = ids.into_iter().find(|id| i32::try_from(*id).is_err()) {
            return Err(ConfigError::SchemaId(id));
        }
        for origin in deployment.origins() {
            if !keys.iter().any(|key| key.name() == &**origin) {
                return Err(ConfigError::NoKey(origin.to_string()));
            }
        }
        let logs = keys.into_iter().map(|key| LogKey { key, until: None }).collect();
        let trust = Trust::new(&TrustFile { logs, ..TrustFile::default() })?;
        let verifier = Verifier::new(trust);
        let (deployment, config) = (deployment.clone(), config.clone());
        Ok(Self { deployment, config, verifier, logs: BTreeMap::new(), put: 0, alarms: Vec::new() })
    }

    /// Sends a batch on its way into the catalog.
    fn take_batch(&mut self, record: &Record) -> Result<(), String> {
        let number = record.partition.number;
        let Some(log) = self.logs.get_mut(&number) else { return Ok(()) };
        let batch = BatchRecord::decode(&record.value).map_err(|error| error.to_string())?;
        let header = BatchHeader::decode(&batch.header).map_err(|error| error.to_string())?;
        let expected = log.batches.done.size + log.storing.len() as u64;
        if self.deployment.origin(number) != Some(header.origin.as_str()) || header.number != expected {
            return Err(format!(
                "it is batch {} of {}, and batch {expected} of this log is next",
                header.number, header.origin
            ));
        }
        let mut sum = Sum::default();
        batch.statements.iter().for_each(|statement| sum.add(statement));
        log.storing.push_back(Storing { next: record.offset + 1, bytes: record.value.len(), sum });
        log.asks.push((BATCHES, Request::PutBatch(Box::new(batch))));
        Ok(())
    }

    /// Lets an anchor wait for its turn.
    fn take_anchor(&mut self, record: &Record) -> Result<(), String> {
        let number = record.partition.number;
        let Some(log) = self.logs.get_mut(&number) else { return Ok(()) };
        let frame = AnchorFrame::decode(&record.value).map_err(|error| error.to_string())?;
        if self.deployment.origin(number) != Some(&*frame.origin) || frame.size == 0 {
            return Err(format!("it is of {} at size {}", frame.origin, frame.size));
        }
        if log.waiting.len() >= MAX_WAITING {
            let mut keeps = [true].into_iter().chain([false, true].into_iter().cycle());
            log.waiting.retain(|_| keeps.next().unwrap_or(true));
        }
        log.waiting.push_back((record.offset + 1, frame));
        log.turn();
        Ok(())
    }

    /// Goes on with the first anchor, having an answer about it.
    fn go_on(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), String> {
        let Self { deployment, config, verifier, logs, put, alarms } = self;
        let ahead = (AHEAD_OF_ALL / logs.len().max(1)).clamp(1, AHEAD);
        let Some(log) = logs.get_mut(&partition.number) else { return Ok(()) };
        let (Some((_, frame)), Some(work)) = (log.waiting.front(), log.work.take()) else { return Ok(()) };
        let read = |number| Request::ReadBatch { origin: frame.origin.clone(), number, size: frame.size };
        match (work, answer) {
            // Only in the block that was deep enough: the command may stand in another one by now.
            (Work::Proof(_), Answer::Spv(key, Some(spv)))
                if key == frame.key && ends_in(&spv, &frame.block) =>
            {
                let anchor = Box::new(anchor_of(frame, &spv, deployment.network())?);
                log.asks.push((ANCHORS, read(frame.size - 1)));
                log.work = Some(Work::Newest(anchor));
            }
            (Work::Proof(_), Answer::Spv(..)) if log.is_replaced() => {
                log.anchors.done.begin_turn(&frame.interval, frame.size);
                log.end_turn(out);
            }
            (Work::Proof(wait), Answer::Spv(..)) => {
                // The node is behind, or its chain has turned: back again some time, or the anchor stage tells of it anew.
                let (keys, after) = (vec![frame.key.clone()], config.poll.duration());
                log.asks.push((ANCHORS, Request::Look { chain: frame.chain, keys, depth: 0, after }));
                log.work = Some(Work::Proof(wait));
            }
            (Work::Proof(mut wait), Answer::Seen(_, look)) => {
                let is_alarm = wait.looked(config.poll.duration(), frame, &look);
                let is_passed = wait.is_long() && log.is_passed();
                if is_alarm {
                    alarms.push((partition.clone(), wait::alarm(frame, &look, is_passed).into()));
                }
                if is_passed {
                    log.anchors.done.begin_turn(&frame.interval, frame.size);
                    log.end_turn(out);
                } else {
                    log.asks.push((ANCHORS, Request::Spv { chain: frame.chain, key: frame.key.clone() }));
                    log.work = Some(Work::Proof(wait));
                }
            }
            (Work::Newest(anchor), Answer::BatchRead(stored)) => {
                check(verifier, stored, frame.size - 1, frame, &anchor)?;
                let anchor_json = anchor.to_json().into();
                log.asks.push((
                    ANCHORS,
                    Request::PutAnchor(Box::new(AnchorRecord {
                        origin: frame.origin.clone(),
                        series: OWN.into(),
                        size: frame.size,
                        checkpoint: frame.checkpoint.clone(),
                        anchor: anchor_json,
                    })),
                ));
                log.work = Some(Work::Storing(anchor));
            }
            (Work::Storing(anchor), Answer::AnchorPut) => {
                let done = &mut log.anchors.done;
                if frame.version > 1 && done.again.is_none() {
                    // Some of its batches may have been told of by the block that was lost, and others not yet.
                    done.again = done.first_of(&frame.interval);
                    if done.again.is_none() {
                        let (origin, size) = (frame.origin.clone(), frame.size);
                        log.asks.push((ANCHORS, Request::FirstCovered { origin, size }));
                        log.work = Some(Work::Storing(anchor));
                        return Ok(());
                    }
                }
                done.begin_turn(&frame.interval, done.next_told().min(frame.size));
                log.begin(anchor, ahead, out)?;
            }
            (Work::Storing(anchor), Answer::FirstCovered(first)) => {
                let done = &mut log.anchors.done;
                done.again = Some(first);
                done.begin_turn(&frame.interval, done.next_told().min(frame.size));
                log.begin(anchor, ahead, out)?;
            }
            (Work::Telling(mut telling), answer @ (Answer::BatchRead(_) | Answer::Again)) => {
                match answer {
                    Answer::BatchRead(stored) => telling.take(stored),
                    _ => telling.called(),
                }
                let mut desk = Desk { config, verifier, frame, log: partition.number, put };
                let before = (log.anchors.done.next_told(), log.anchors.done.receipts);
                while let Some(events) = telling.tell(&mut desk, &mut log.anchors.done, out)? {
                    log.anchors.events += events;
                    log.asks.extend(telling.next(frame.size).map(|number| (ANCHORS, read(number))));
                }
                log.anchors.is_dirty |= before != (log.anchors.done.next_told(), log.anchors.done.receipts);
                if log.anchors.done.next_told() < frame.size {
                    log.asks.extend(telling.calls().then_some((ANCHORS, Request::Again)));
                    log.work = Some(Work::Telling(telling));
                } else {
                    log.end_turn(out);
                }
            }
            (work, _) => log.work = Some(work),
        }
        Ok(())
    }
}

impl OpenLog {
    fn side(&mut self, topic: &str) -> Option<&mut Side> {
        match topic {
            BATCHES => Some(&mut self.batches),
            ANCHORS => Some(&mut self.anchors),
            _ => None,
        }
    }

    /// Begins with the first anchor that waits, if nothing else is worked on and its batches are stored.
    fn turn(&mut self) {
        let Some((_, frame)) = self.waiting.front() else { return };
        if self.work.is_none() && self.batches.next.is_some() && frame.size <= self.batches.done.size {
            self.asks.push((ANCHORS, Request::Spv { chain: frame.chain, key: frame.key.clone() }));
            self.work = Some(Work::Proof(Wait::default()));
        }
    }

    /// Whether another anchor that waits stands for the first one: the block of that one is lost.
    fn is_replaced(&self) -> bool {
        is_replaced(self.waiting.iter().map(|(_, frame)| frame))
    }

    /// Whether another anchor that waits proves all that the first one does. Not one that stands for a lost one: what that
    /// one proved is told of again by it alone.
    fn is_passed(&self) -> bool {
        let mut waiting = self.waiting.iter().map(|(_, frame)| frame);
        let first = waiting.next();
        first.is_some_and(|first| first.version == 1 && waiting.any(|frame| frame.size >= first.size))
    }

    /// Begins to tell of the batches that the first anchor, which is stored now, newly covers, or covers anew.
    fn begin(&mut self, anchor: Box<Anchor>, ahead: usize, out: &mut Part) -> Result<(), String> {
        let Some((_, frame)) = self.waiting.front() else { return Ok(()) };
        let (origin, size) = (frame.origin.clone(), frame.size);
        let first = self.anchors.done.next_told();
        let mut telling = Telling::new(anchor, first)?;
        let numbers = std::iter::from_fn(|| telling.next(size)).take(ahead);
        let read = |number| Request::ReadBatch { origin: origin.clone(), number, size };
        self.asks.extend(numbers.map(|number| (ANCHORS, read(number))));
        if first < size {
            self.work = Some(Work::Telling(Box::new(telling)));
        } else {
            self.end_turn(out);
        }
        Ok(())
    }

    /// Ends the work on the first anchor, and begins with the next.
    fn end_turn(&mut self, out: &mut Part) {
        if let Some((next, _)) = self.waiting.pop_front() {
            self.anchors.done.again = None;
            // Where its turn ends amid a batch, its block is lost: the receipts that are out end there.
            self.anchors.done.receipts = 0;
            self.anchors.done.next = next;
            self.anchors.is_dirty = true;
            out.through = Some(next);
        }
        self.turn();
    }

    /// Takes the catalog's word that the first batch on its way is stored.
    fn stored(&mut self, number: u64, out: &mut Part) -> Result<(), String> {
        let expected = self.batches.done.size;
        match self.storing.pop_front() {
            Some(Storing { next, sum, .. }) if number == expected => {
                self.batches.events += sum;
                self.batches.done = ProveState { next, size: number + 1, ..ProveState::default() };
                self.batches.is_dirty = true;
                out.through = Some(next);
                self.turn();
                Ok(())
            }
            _ => Err(format!("the catalog has stored batch {number}, and batch {expected} was its next")),
        }
    }
}

impl Stage for Prove {
    fn assign(&mut self, partition: &Partition, next: u64) {
        let log = self.logs.entry(partition.number).or_default();
        if let Some(side) = log.side(partition.topic.as_str()) {
            *side = Side { next: Some(next), ..Side::default() };
        }
    }

    fn restore_since(&self, _: Micros) -> Option<Micros> {
        None
    }

    fn restore(&mut self, record: &Record) -> Result<(), Halt> {
        let Some(log) = self.logs.get_mut(&record.partition.number) else { return Ok(()) };
        let topic = std::str::from_utf8(&record.key).unwrap_or_default();
        // Both inputs have their state in one partition: what is at work already knows better.
        let Some(side) = log.side(topic).filter(|side| side.next.is_some() && !side.is_checked) else {
            return Ok(());
        };
        side.done = ProveState::decode(&record.value).map_err(|error| Halt {
            partition: record.partition.clone(),
            why: format!("{PROVE_LOG} at offset {}: {error}", record.offset).into(),
        })?;
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        let Some(log) = self.logs.get_mut(&partition.number) else { return };
        if partition.topic.as_str() == BATCHES {
            log.batches = Side::default();
            log.storing.clear();
        } else {
            log.anchors = Side::default();
            log.waiting.clear();
            log.work = None;
        }
        log.asks.retain(|(topic, _)| *topic != partition.topic.as_str());
        self.alarms.retain(|(of, _)| of != partition);
        if log.batches.next.is_none() && log.anchors.next.is_none() {
            self.logs.remove(&partition.number);
        }
    }

    fn step(&mut self, record: &Record, _: &mut Part) -> Result<(), Halt> {
        let partition = &record.partition;
        let halt = |why: String| Halt { partition: partition.clone(), why: why.into() };
        let side = self.logs.get_mut(&partition.number).and_then(|log| log.side(partition.topic.as_str()));
        let Some(Side { next: Some(next), is_checked, done, .. }) = side else {
            return Err(halt("a record of a partition that was not assigned".to_owned()));
        };
        if !std::mem::replace(is_checked, true) && done.next != *next {
            return Err(halt(format!(
                "{PROVE_LOG} ends before offset {}, but {next} is the next: the two do not belong together; find out \
                 which was changed before going on, or batches might be told of twice",
                done.next
            )));
        }
        if partition.topic.as_str() == BATCHES { self.take_batch(record) } else { self.take_anchor(record) }
            .map_err(|why| {
                halt(format!("the record at offset {} does not belong here: {why}", record.offset))
            })
    }

    fn seal(&mut self, partition: &Partition, out: &mut Part) -> Result<(), Halt> {
        let log = self.logs.get_mut(&partition.number);
        let side = log.and_then(|log| log.side(partition.topic.as_str()));
        if let Some(side) = side.filter(|side| side.is_dirty) {
            side.is_dirty = false;
            let key = Bytes::copy_from_slice(partition.topic.as_str().as_bytes());
            let state = Partition::new(PROVE_LOG, partition.number);
            out.outputs.push(Output::new(state, key, side.done.encode()));
        }
        Ok(())
    }

    fn tally(&mut self, partition: &Partition) -> Tally {
        let topic = partition.topic.as_str();
        let log = self.logs.get_mut(&partition.number);
        let Some(side) = log.and_then(|log| log.side(topic)) else { return Tally::default() };
        let (events, batches) = (std::mem::take(&mut side.events), Some(side.done.size));
        if topic == BATCHES {
            Tally { taken: events, batches, ..Tally::default() }
        } else {
            Tally { passed: events, batches, ..Tally::default() }
        }
    }

    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        None
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        self.put = 0;
        let mut requests = Vec::new();
        for (number, log) in &mut self.logs {
            log.turn();
            let asks = log.asks.drain(..);
            requests.extend(asks.map(|(topic, request)| (Partition::new(topic, *number), request)));
        }
        requests
    }

    fn alarms(&mut self) -> Vec<(Partition, Box<str>)> {
        std::mem::take(&mut self.alarms)
    }

    fn gauges(&self) -> Vec<Gauge> {
        // Both, once each is held against its input.
        let is_known = |log: &OpenLog| log.batches.next.is_some() && log.anchors.next.is_some();
        let logs = self.logs.iter().filter(|(_, log)| is_known(log));
        let gauge = |(number, log): (&u32, &OpenLog)| Gauge::Log {
            number: *number,
            stored: log.batches.done.size,
            told: log.anchors.done.size,
        };
        logs.map(gauge).collect()
    }

    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt> {
        let halt = |why: String| Halt { partition: partition.clone(), why: why.into() };
        match answer {
            Answer::BatchPut(number) => match self.logs.get_mut(&partition.number) {
                Some(log) => log.stored(number, out).map_err(halt),
                None => Ok(()),
            },
            answer => self.go_on(partition, answer, out).map_err(halt),
        }
    }

    fn held(&self) -> usize {
        self.logs.values().flat_map(|log| &log.storing).map(|storing| storing.bytes).sum()
    }
}
