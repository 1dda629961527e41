//! Dedup: lets the first event with a given tenant, source and id through, and names the rest.
//!
//! Reads `accepted`, writes `unique` (the same partition: the log), one record for each that it reads, and changed
//! copies to `rejected`. State: the keys of the window, in memory; what was added to them, with the input range it came
//! from, in `dedup-log`, in the transaction of the outputs.
//! Guarantees that of all events with one name at most one passes within the window of log time: the first in the
//! order of the log. A copy of it is a *duplicate*, a changed copy a *conflict*.
//! If `dedup-log` is lost, a copy sent again becomes a second leaf; if it does not fit the input, the stage halts.

use std::collections::BTreeMap;

use bytes::Bytes;
use killick_proof::hash::Sha256Each;
use killick_proof::statement::{Attestation, Statement};
use serde::Deserialize;

use crate::deployment::{Deployment, identity_hashes};
use crate::frame::{AcceptedEvent, AcceptedFrame, Copy, UniqueFrame};
use crate::record::{Header, Micros, Output, Partition, Record};
use crate::rejected::{Code, Origin, reasons};
use crate::route::{ACCEPTED, DEDUP_LOG, REJECTED, UNIQUE};
use crate::seen::{Key, Known, SEGMENT, Seen, Tag};
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage, Sum, Tally};
use crate::state::{DedupDelta, DeltaGroup};
use crate::trace::of_events;

/// How long copies are found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long after an event its copies are found, in log time. 1 h to 90 d; default 25 h. At least each source's
    /// `freshness` plus `ahead`.
    pub window: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { window: Span::secs(25 * 3_600) }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too short or too long.
    #[error("window is {0}; it is 1h to 90d")]
    Window(Span),
}

/// How far behind the clock the input may be when state is read back: keys of the window before *that* time are needed.
const LAG: Span = Span::secs(24 * 3_600);

/// Bytes of keys from which a delta is closed: far below any log's limit for a record.
const MAX_DELTA: usize = 256 << 10;

/// Events that are looked at together: enough for their hashes to be computed side by side, few enough to stay in the cache.
const TOGETHER: usize = 64;

/// The stage.
#[derive(Debug)]
pub struct Dedup {
    window: Span,
    seed: Box<[u8]>,
    logs: BTreeMap<u32, Log>,
}

/// What is known of one log.
#[derive(Debug)]
struct Log {
    /// The offset of the next record.
    next: u64,
    /// Where the last delta that was read back ends.
    restored: Option<u64>,
    /// What the next delta will tell.
    delta: DedupDelta,
    /// Bytes of keys in it.
    delta_bytes: usize,
    seen: Seen,
    tally: Tally,
}

impl Dedup {
    /// The stage. The deployment's name goes into the keys: those of another deployment are others.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config) -> Result<Self, ConfigError> {
        if !(Span::secs(3_600)..=Span::secs(90 * 86_400)).contains(&config.window) {
            return Err(ConfigError::Window(config.window));
        }
        let seed = format!("killick/dedup/v1\n{}\n", deployment.name()).into_bytes().into();
        Ok(Self { window: config.window, seed, logs: BTreeMap::new() })
    }

    /// Keys in memory, over all logs.
    pub fn keys(&self) -> usize {
        self.logs.values().map(|log| log.seen.len()).sum()
    }
}

impl Log {
    fn new(next: u64, window: Span) -> Self {
        let delta = DedupDelta { from: next, to: next, time: Micros::MIN, groups: Vec::new() };
        let seen = Seen::new(window.micros());
        Self { next, restored: None, delta, delta_bytes: 0, seen, tally: Tally::default() }
    }

    /// Holds the state that was read back against the input, once, before the first record.
    fn check_restored(&mut self, partition: &Partition) -> Result<(), Halt> {
        match self.restored.take() {
            Some(end) if end != self.next => Err(halt(
                partition,
                format!(
                    "{DEDUP_LOG} tells of offsets below {end}, but {} is the next: the two do not belong together; \
                     find out which was changed before going on, or copies may pass",
                    self.next
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Closes the delta into an output.
    fn close_delta(&mut self, number: u32) -> Output {
        let next = DedupDelta { from: self.delta.to, groups: Vec::new(), ..self.delta };
        let delta = std::mem::replace(&mut self.delta, next);
        self.delta_bytes = 0;
        Output::new(Partition::new(DEDUP_LOG, number), Bytes::new(), delta.encode())
    }

    /// Sorts the events of one frame into what passes and what does not.
    fn sort<'f>(
        &mut self,
        frame: &AcceptedFrame<&'f [u8]>,
        seed: &[u8],
        at: &Record,
    ) -> Result<Sorted<'f>, Halt> {
        let unique = UniqueFrame { offset: at.offset, ..UniqueFrame::default() };
        let mut sorted = Sorted { unique, keys: Vec::new(), rejected: Vec::new(), traces: Vec::new() };
        sorted.unique.statements.reserve_exact(frame.events.len());
        let traces = of_events(&at.headers);
        for events in frame.events.chunks(TOGETHER) {
            let statements = events.iter().map(|event| Statement::decode(event.statement));
            let statements = statements.collect::<Result<Vec<_>, _>>().map_err(|error| {
                halt(&at.partition, format!("a statement at offset {} does not decode: {error}", at.offset))
            })?;
            // The keys alone, one behind the other: while memory is waited for, the next one is looked for.
            let known = fingerprints(seed, &statements)
                .into_iter()
                .map(|(key, tag)| (key, tag, self.seen.see(key, tag)))
                .collect::<Vec<_>>();
            for ((event, statement), (key, tag, known)) in events.iter().zip(&statements).zip(known) {
                let sum = Sum::of(event.statement);
                self.tally.taken += sum;
                match known {
                    Known::New => {
                        self.tally.passed += sum;
                        sorted.unique.statements.push(event.statement);
                        sorted.keys.extend_from_slice(&key);
                        sorted.keys.extend_from_slice(&tag);
                        let its = traces.iter().filter(|(offset, _)| *offset == event.offset);
                        sorted.traces.extend(its.map(|(_, parent)| parent.header()));
                    }
                    Known::Same => {
                        self.tally.duplicates += 1;
                        sorted.unique.duplicates.push(copy(frame, event, statement));
                    }
                    Known::Other => {
                        self.tally.rejected += 1;
                        sorted.unique.conflicts.push(copy(frame, event, statement));
                        sorted.rejected.push(conflict(frame, event, at));
                    }
                }
            }
        }
        Ok(sorted)
    }
}

struct Sorted<'f> {
    unique: UniqueFrame<&'f [u8]>,
    keys: Vec<u8>,
    rejected: Vec<Output>,
    /// The contexts of some of those that pass.
    traces: Vec<Header>,
}

/// The key of each event's name, and the tag of what was signed: fields 1 to 6 and the public key. Two good signatures
/// of one event, or two salts, do not make two events.
fn fingerprints(seed: &[u8], statements: &[Statement<'_>]) -> Vec<(Key, Tag)> {
    let names = statements.iter().map(|Statement { event, .. }| [event.tenant, event.source, event.id]);
    let keys: Vec<Key> = identity_hashes(seed, names, |hash| *hash.first_chunk().expect(SHA256_LEN));
    let mut tags: Vec<Tag> = Vec::with_capacity(statements.len());
    let mut hashing = Sha256Each::new(|hash| tags.push(*hash.first_chunk().expect(SHA256_LEN)));
    for Statement { event, attestation } in statements {
        let (mark, key) = match attestation {
            Attestation::Signed { key, .. } => (1, &key[..]),
            Attestation::Unsigned { .. } => (0, &[][..]),
        };
        let (time, kind) = (event.time.to_be_bytes(), event.kind.as_bytes());
        hashing.add(&[&time, event.digest.as_bytes(), &[mark], key, kind]);
    }
    hashing.finish();
    keys.into_iter().zip(tags).collect()
}

const SHA256_LEN: &str = "a SHA-256 hash has 32 bytes";

fn copy(frame: &AcceptedFrame<&[u8]>, event: &AcceptedEvent<&[u8]>, statement: &Statement<'_>) -> Copy {
    Copy {
        tenant: statement.event.tenant.into(),
        source: statement.event.source.into(),
        id: statement.event.id.into(),
        topic: frame.topic.clone(),
        partition: frame.partition,
        offset: event.offset,
    }
}

fn conflict(frame: &AcceptedFrame<&[u8]>, event: &AcceptedEvent<&[u8]>, at: &Record) -> Output {
    let origin = Origin { topic: &frame.topic, partition: frame.partition, offset: event.offset };
    let why = "another event with the same tenant, source and id was let through before; the value is this one's statement";
    let rejected = Partition::new(REJECTED, at.partition.number);
    let mut output = Output::new(rejected, Bytes::new(), at.value.slice_ref(event.statement));
    output.headers.extend(reasons(origin, "dedup", Code::Conflict, why));
    output
}

fn halt(partition: &Partition, why: impl Into<Box<str>>) -> Halt {
    Halt { partition: partition.clone(), why: why.into() }
}

impl Stage for Dedup {
    fn assign(&mut self, partition: &Partition, next: u64) {
        self.logs.insert(partition.number, Log::new(next, self.window));
    }

    fn restore_since(&self, now: Micros) -> Option<Micros> {
        Some(now.saturating_sub(self.window.micros() + SEGMENT + LAG.micros()))
    }

    fn restore(&mut self, record: &Record) -> Result<(), Halt> {
        let partition = Partition::new(ACCEPTED, record.partition.number);
        let Some(log) = self.logs.get_mut(&partition.number) else { return Ok(()) };
        let delta = DedupDelta::decode(&record.value).map_err(|error| {
            halt(&partition, format!("{DEDUP_LOG} at offset {} does not decode: {error}", record.offset))
        })?;
        if log.restored.is_some_and(|end| end != delta.from) {
            let end = log.restored.unwrap_or_default();
            return Err(halt(
                &partition,
                format!("{DEDUP_LOG} goes on at input offset {} and not at {end}", delta.from),
            ));
        }
        for group in &delta.groups {
            log.seen.advance(group.time);
            let (keys, rest) = group.keys.as_chunks::<24>();
            if !rest.is_empty() {
                return Err(halt(&partition, format!("{DEDUP_LOG} at offset {} is cut", record.offset)));
            }
            for entry in keys {
                let (key, tag) = entry.split_at(16);
                let key = key.try_into().expect("the first 16 of 24 bytes");
                log.seen.see(key, tag.try_into().expect("the last 8 of 24 bytes"));
            }
        }
        log.seen.advance(delta.time);
        log.restored = Some(delta.to);
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        self.logs.remove(&partition.number);
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let partition = &record.partition;
        let log = self.logs.entry(partition.number).or_insert_with(|| Log::new(record.offset, self.window));
        log.check_restored(partition)?;
        let time = log.seen.advance(record.append_time);
        if !record.is_tick() {
            let frame = AcceptedFrame::read(&record.value).map_err(|error| {
                halt(partition, format!("the frame at offset {} does not decode: {error}", record.offset))
            })?;
            let sorted = log.sort(&frame, &self.seed, record)?;
            let unique = Partition::new(UNIQUE, partition.number);
            let output = Output::new(unique, Bytes::new(), sorted.unique.encode());
            out.outputs.push(Output { headers: sorted.traces, ..output });
            out.outputs.extend(sorted.rejected);
            if !sorted.keys.is_empty() {
                log.delta_bytes += sorted.keys.len();
                log.delta.groups.push(DeltaGroup { time, keys: sorted.keys.into() });
            }
        }
        log.next = record.offset + 1;
        log.delta.to = log.next;
        log.delta.time = time;
        out.through = Some(log.next);
        if log.delta_bytes >= MAX_DELTA {
            out.outputs.push(log.close_delta(partition.number));
        }
        Ok(())
    }

    fn seal(&mut self, partition: &Partition, out: &mut Part) -> Result<(), Halt> {
        if let Some(log) = self.logs.get_mut(&partition.number)
            && log.delta.to > log.delta.from
        {
            out.outputs.push(log.close_delta(partition.number));
        }
        Ok(())
    }

    fn tally(&mut self, partition: &Partition) -> Tally {
        self.logs.get_mut(&partition.number).map(|log| std::mem::take(&mut log.tally)).unwrap_or_default()
    }

    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        None
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        Vec::new()
    }

    fn answer(&mut self, _: &Partition, _: Answer, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    fn held(&self) -> usize {
        self.logs.values().map(|log| log.delta_bytes).sum()
    }
}

#[cfg(test)]
mod tests;
