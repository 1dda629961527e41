//! Batch: cuts the statements of a log into batches, appends each to the log, and signs the checkpoint.
//!
//! Reads `unique` (the same partition: the log), writes `batches` (the log) and `checkpoints` (the log's chain).
//! State: the log's size and right edge and the input offset, in `batch-log`; an open batch is never state, since its
//! input offset moves only with its cut: after a crash it is read again.
//! Guarantees that every statement is a leaf of exactly one batch, in the order of the log, that the offsets of a log's
//! batches follow each other without gap or overlap, and that only the log decides a cut: count, bytes and append time.
//! So a replay cuts, hashes and signs the same. If `batch-log` is lost, the stage halts: a second history is never signed.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::log::Log;
use killick_proof::note::SignerKey;
use killick_proof::origin::Origin;
use killick_proof::tree::Tree;
use serde::Deserialize;

use crate::avro::Reader;
use crate::deployment::Deployment;
use crate::frame::{UniqueFrame, read_batch_body, write_batch_body};
use crate::record::{Micros, Output, Partition, Record};
use crate::route::{BATCH_LOG, BATCHES, CHECKPOINTS, UNIQUE};
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage, Sum, Tally};
use crate::state::BatchState;
use crate::trace::{IN_BATCH, TraceParent, carried};
use crate::window::Window;

/// Leaves in a batch at most: a frame alone has never more.
pub const MAX_LEAVES: usize = 8_192;
/// Bytes of statements in a batch at most: a frame alone has never more.
pub const MAX_BYTES: usize = 512 << 10;

/// When a batch is cut.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Leaves in a batch, at most, unless one frame alone has more. 1 to 8,192; default 1,024.
    pub max_leaves: usize,
    /// Bytes of statements in a batch, at most, unless one frame alone has more. 1,024 to 524,288; default 524,288.
    pub max_bytes: usize,
    /// How long a batch stays open, in log time. 1 ms to 1 h; default 100 ms.
    pub width: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_leaves: 1_024, max_bytes: 512 << 10, width: Span::millis(100) }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A bound outside its range.
    #[error("max_leaves is {0}; it is 1 to {MAX_LEAVES}")]
    MaxLeaves(usize),
    /// A bound outside its range.
    #[error("max_bytes is {0}; it is 1024 to {MAX_BYTES}")]
    MaxBytes(usize),
    /// A width outside its range.
    #[error("width is {0}; it is 1ms to 1h")]
    Width(Span),
    /// A log that nobody could sign for.
    #[error("there is no key for log {0}")]
    NoKey(String),
}

/// The stage.
#[derive(Debug)]
pub struct Batch {
    deployment: Deployment,
    config: Config,
    /// By log number.
    signers: Vec<SignerKey>,
    logs: BTreeMap<u32, OpenLog>,
}

/// What is known of one log.
#[derive(Debug)]
struct OpenLog {
    /// The offset of the next record.
    next: u64,
    /// Whether the state was held against the input offset.
    is_checked: bool,
    /// How far the log is done.
    done: BatchState,
    log: Log,
    /// The largest append time of what was stepped.
    time: Micros,
    window: Window,
    /// The statements of the batches that were cut since the last commit.
    cut: Sum,
}

impl Batch {
    /// The stage; `keys` holds a signer for each log of the deployment, named after the log's origin. Others are ignored.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config, keys: Vec<SignerKey>) -> Result<Self, ConfigError> {
        if !(1..=MAX_LEAVES).contains(&config.max_leaves) {
            return Err(ConfigError::MaxLeaves(config.max_leaves));
        }
        if !(1_024..=MAX_BYTES).contains(&config.max_bytes) {
            return Err(ConfigError::MaxBytes(config.max_bytes));
        }
        if config.width > Span::secs(3_600) {
            return Err(ConfigError::Width(config.width));
        }
        let mut keys: BTreeMap<String, SignerKey> =
            keys.into_iter().map(|key| (key.name().to_owned(), key)).collect();
        let signer = |origin: &str| keys.remove(origin).ok_or_else(|| ConfigError::NoKey(origin.to_owned()));
        let signers = deployment.origins().iter().map(AsRef::as_ref).map(signer).collect::<Result<_, _>>()?;
        Ok(Self { deployment: deployment.clone(), config: config.clone(), signers, logs: BTreeMap::new() })
    }

    /// Takes one frame into the window, cutting before it and behind it as the bounds say.
    fn take(&mut self, record: &Record, frame: UniqueFrame, out: &mut Part) -> Result<(), Halt> {
        let number = record.partition.number;
        let bytes: usize = frame.statements.iter().map(Bytes::len).sum();
        let Some(log) = self.logs.get(&number) else { return Ok(()) };
        if log.window.would_exceed(frame.statements.len(), bytes, &self.config) {
            self.cut(&record.partition, record.offset, out)?;
        }
        let algorithm = self.deployment.algorithm();
        let Some(log) = self.logs.get_mut(&number) else { return Ok(()) };
        let leaves = algorithm.leaves(frame.statements.iter().map(AsRef::as_ref));
        log.time = log.time.max(record.append_time);
        log.window.add(frame, leaves, bytes, log.time);
        let room = IN_BATCH.saturating_sub(log.window.traces.len());
        log.window.traces.extend(carried(&record.headers).take(room).map(|parent| parent.header()));
        if log.window.is_full(&self.config) {
            self.cut(&record.partition, record.offset + 1, out)?;
        }
        Ok(())
    }

    /// Writes what is open as the log's next batch, done below offset `end`.
    fn cut(&mut self, partition: &Partition, end: u64, out: &mut Part) -> Result<(), Halt> {
        let Self { deployment, signers, logs, .. } = self;
        let number = partition.number;
        let halt = |why: &dyn fmt::Display| Halt {
            partition: partition.clone(),
            why: format!("the batch that ends before offset {end} cannot be made: {why}").into(),
        };
        let place = usize::try_from(number).ok();
        let (Some(log), Some(origin), Some((_, chain)), Some(signer)) = (
            logs.get_mut(&number),
            deployment.origin(number),
            deployment.chain_of(number),
            place.and_then(|place| signers.get(place)),
        ) else {
            return Err(halt(&"the deployment has no such log"));
        };
        let window = std::mem::take(&mut log.window);
        let header = BatchHeader {
            origin: Origin::parse(origin).map_err(|error| halt(&error))?,
            number: log.log.size(),
            first_offset: log.done.first,
            last_offset: end.saturating_sub(1),
            first_time: window.first_time,
            last_time: window.last_time,
            leaf_count: window.statements.len() as u64,
            root: Tree::new(deployment.algorithm(), window.leaves).root(),
            duplicates: window.duplicates,
            conflicts: window.conflicts,
        };
        let encoded = header.encode().map_err(|error| halt(&error))?;
        let mut value = write_batch_body(&encoded, &window.statements);
        check_body(value.as_slice(), deployment.algorithm(), &header).map_err(|why| halt(&why))?;

        let mut grown = log.log.clone();
        let leaf = deployment.algorithm().leaf(&encoded);
        grown.append(leaf, |_, _| {}).map_err(|error| halt(&error))?;
        let checkpoint = Checkpoint { origin, size: grown.size(), root: grown.root(), extensions: "" };
        let note = checkpoint.sign(signer).map_err(|error| halt(&error))?;
        let edge = grown.encode();
        value.bytes(&edge);
        value.string(&note);

        window.statements.iter().for_each(|statement| log.cut.add(statement));
        log.log = grown;
        log.done =
            BatchState { next: end, first: end, time: window.time.max(log.done.time), log: edge.into() };
        let batch = Output::new(Partition::new(BATCHES, number), Bytes::new(), value.into_bytes());
        out.outputs.push(Output { headers: window.traces, ..batch });
        let checkpoint = Output::new(Partition::new(CHECKPOINTS, chain), origin.to_owned(), note);
        let parent = TraceParent::of_batch(&leaf);
        out.outputs.push(Output { headers: vec![parent.header()], ..checkpoint });
        out.outputs.push(state(number, &log.done));
        out.through = Some(end);
        Ok(())
    }
}

fn state(number: u32, state: &BatchState) -> Output {
    Output::new(Partition::new(BATCH_LOG, number), Bytes::from_static(b"log"), state.encode())
}

/// Computes the root once more, from the bytes that will be put out: a bit that flipped in memory must not be signed.
fn check_body(body: &[u8], algorithm: Algorithm, header: &BatchHeader<'_>) -> Result<(), String> {
    let (encoded, statements) = read_batch_body(&mut Reader::new(body))
        .map_err(|error| format!("its record does not decode: {error}"))?;
    let root = Tree::new(algorithm, algorithm.leaves(statements)).root();
    if root != header.root || BatchHeader::decode(encoded).as_ref() != Ok(header) {
        return Err("computed twice, its root differs: this machine's memory is not to be trusted".to_owned());
    }
    Ok(())
}

impl Stage for Batch {
    fn assign(&mut self, partition: &Partition, next: u64) {
        let log = Log::new(self.deployment.algorithm());
        let done = BatchState { next: 0, first: 0, time: Micros::MIN, log: log.encode().into() };
        let window = Window::default();
        let open =
            OpenLog { next, is_checked: false, done, log, time: Micros::MIN, window, cut: Sum::default() };
        self.logs.insert(partition.number, open);
    }

    fn restore_since(&self, _: Micros) -> Option<Micros> {
        None
    }

    fn restore(&mut self, record: &Record) -> Result<(), Halt> {
        let Some(log) = self.logs.get_mut(&record.partition.number) else { return Ok(()) };
        let halt = |why: &dyn fmt::Display| Halt {
            partition: Partition::new(UNIQUE, record.partition.number),
            why: format!("{BATCH_LOG} at offset {}: {why}", record.offset).into(),
        };
        log.done = BatchState::decode(&record.value).map_err(|error| halt(&error))?;
        log.log = Log::decode(&log.done.log).map_err(|error| halt(&error))?;
        if log.log.algorithm() != self.deployment.algorithm() {
            return Err(halt(
                &"the log has another hash than the deployment; another hash needs another generation",
            ));
        }
        log.time = log.done.time;
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        self.logs.remove(&partition.number);
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let partition = &record.partition;
        let halt = |why: String| Halt { partition: partition.clone(), why: why.into() };
        let width = self.config.width.micros();
        let Some(log) = self.logs.get_mut(&partition.number) else {
            return Err(halt("a record of a partition that was not assigned".to_owned()));
        };
        if !std::mem::replace(&mut log.is_checked, true) && log.done.next != log.next {
            return Err(halt(format!(
                "{BATCH_LOG} ends before offset {}, but {} is the next: the two do not belong together; find out \
                 which was changed before going on, or the log would fork",
                log.done.next, log.next
            )));
        }
        let is_due = log.window.due(width).is_some_and(|due| log.time.max(record.append_time) >= due);
        if record.is_tick() {
            log.time = log.time.max(record.append_time);
            log.window.time = log.time;
            if is_due {
                // The tick goes with the batch that it closes: an idle log has nothing left to read.
                self.cut(partition, record.offset + 1, out)?;
            }
        } else {
            if is_due {
                self.cut(partition, record.offset, out)?;
            }
            let frame = UniqueFrame::decode(&record.value).map_err(|error| {
                halt(format!("the frame at offset {} does not decode: {error}", record.offset))
            })?;
            self.take(record, frame, out)?;
        }
        let Some(log) = self.logs.get_mut(&partition.number) else { return Ok(()) };
        log.next = record.offset + 1;
        if log.window.is_empty() && log.done.next < log.next {
            // Nothing that a batch would have to tell of: the offset moves, and the next batch covers it.
            log.done = BatchState { next: log.next, time: log.time, ..log.done.clone() };
            out.outputs.push(state(partition.number, &log.done));
            out.through = Some(log.next);
        }
        Ok(())
    }

    fn seal(&mut self, _: &Partition, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    fn tally(&mut self, partition: &Partition) -> Tally {
        let Some(log) = self.logs.get_mut(&partition.number) else { return Tally::default() };
        let cut = std::mem::take(&mut log.cut);
        Tally { taken: cut, passed: cut, batches: Some(log.log.size()), ..Tally::default() }
    }

    fn tick_due(&self, partition: &Partition) -> Option<Micros> {
        self.logs.get(&partition.number)?.window.due(self.config.width.micros())
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        Vec::new()
    }

    fn answer(&mut self, _: &Partition, _: Answer, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    fn held(&self) -> usize {
        self.logs.values().map(|log| log.window.bytes).sum()
    }
}

#[cfg(test)]
mod tests;
