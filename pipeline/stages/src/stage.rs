//! What a stage is: a pure step, with the rest of the world as values.

use std::ops::AddAssign;
use std::time::Duration;

use bytes::Bytes;

use crate::ports::{AnchorRecord, Balance, BatchRecord, ChainId, Look, Sent, Spv};
use crate::record::{Micros, Output, Partition, Record};
use crate::registry::{Lookup, SchemaId};

/// One stage of the pipeline for all partitions that its worker owns.
///
/// `step` and `answer` change the stage's memory at once. The shell commits what they put out in one transaction and
/// tries the same transaction until it is committed or the partition is no longer ours; then it calls [`Stage::revoke`]
/// and whatever the memory held about that partition is void. So memory is never ahead of the log for longer than a
/// commit takes, and after a crash the log alone says where to go on.
pub trait Stage: Send {
    /// Takes over an input partition; what `restore` gives next belongs to it. `next` is the offset of the first record
    /// that will be stepped.
    fn assign(&mut self, partition: &Partition, next: u64);

    /// How much of the state topic's partition has to be read back: all that is kept (`None`), or what was appended
    /// at or after the given time.
    fn restore_since(&self, now: Micros) -> Option<Micros>;

    /// Takes back one record of the stage's state topic, in order.
    ///
    /// # Errors
    /// The state does not decode or contradicts itself: the worker must not go on with this partition.
    fn restore(&mut self, record: &Record) -> Result<(), Halt>;

    /// Forgets a partition.
    fn revoke(&mut self, partition: &Partition);

    /// Takes one input record. Only records and answers change what comes out, so a replay puts out the same.
    ///
    /// # Errors
    /// Only for what an operator has to look at: bad input is rejected by output, never by error.
    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt>;

    /// Takes records of one partition that follow each other; the same comes out as of [`Stage::step`] for each, and a stage
    /// may do it for less.
    ///
    /// # Errors
    /// As for [`Stage::step`].
    fn step_all(&mut self, records: &[Record], out: &mut Part) -> Result<(), Halt> {
        records.iter().try_for_each(|record| self.step(record, out))
    }

    /// Puts out what was gathered of this input partition: the shell calls it just before it commits what was stepped.
    /// A stage that gathers moves `out.through` here or in `step`, as it likes: both stand in one transaction.
    ///
    /// # Errors
    /// As for [`Stage::step`].
    fn seal(&mut self, partition: &Partition, out: &mut Part) -> Result<(), Halt>;

    /// What became of the events of this input partition since the last call: the shell asks right after
    /// [`Stage::seal`], and writes the answer in the same transaction.
    fn tally(&mut self, partition: &Partition) -> Tally;

    /// The log time from which on a tick in this input partition would close what is open there; `None` if nothing is.
    fn tick_due(&self, partition: &Partition) -> Option<Micros>;

    /// What has to be done outside the log, now that all that was put out is committed.
    fn requests(&mut self) -> Vec<(Partition, Request)>;

    /// What an operator has to know of, though the stage goes on, now that all that was put out is committed. The shell asks
    /// as often as for requests, before it steps on: an alarm is told at least once, also where the worker dies before it is
    /// heard.
    fn alarms(&mut self) -> Vec<(Partition, Box<str>)> {
        Vec::new()
    }

    /// What the stage alone knows and whoever runs it wants to see. Asked for about once a second.
    fn gauges(&self) -> Vec<Gauge> {
        Vec::new()
    }

    /// Takes the outcome of a request about `partition`.
    ///
    /// # Errors
    /// As for [`Stage::step`].
    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt>;

    /// Bytes held in memory for records that are not committed; the shell pauses its input above a bound.
    fn held(&self) -> usize;
}

/// What one input partition wants written: one transaction takes whole parts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Part {
    /// The records to append, in order.
    pub outputs: Vec<Output>,
    /// The input is done below this offset; `None`: no change.
    pub through: Option<u64>,
}

/// What became of the events in one input partition: the audit compares what one stage passed on with what the next one took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Events that the stage took from its input.
    pub taken: Sum,
    /// Events that it passed on.
    pub passed: Sum,
    /// Events that it rejected, conflicts included.
    pub rejected: u64,
    /// Copies of events that had been passed on before.
    pub duplicates: u64,
    /// Batches of the log that the stage is done with, from the log's first on; `None` where it counts none.
    pub batches: Option<u64>,
}

impl Tally {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        let Self { taken, passed, rejected, duplicates, batches: _ } = self;
        taken.events == 0 && passed.events == 0 && *rejected == 0 && *duplicates == 0
    }
}

/// A number of events, and a sum that tells which: of the 128-bit hashes (XXH3) of their statements' CBOR, wrapping.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub events: u64,
    /// The sum of their hashes. A sum and no exclusive or: in that, one that is there twice would vanish.
    pub hashes: u128,
}

impl Sum {
    /// An event by its statement's CBOR.
    pub fn of(statement: &[u8]) -> Self {
        Self { events: 1, hashes: xxhash_rust::xxh3::xxh3_128(statement) }
    }

    /// Adds an event by its statement's CBOR.
    pub fn add(&mut self, statement: &[u8]) {
        *self += Self::of(statement);
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, more: Self) {
        self.events = self.events.saturating_add(more.events);
        self.hashes = self.hashes.wrapping_add(more.hashes);
    }
}

/// A figure of a stage. There are at most as many as logs or chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gauge {
    /// The batches of a log, from its first on.
    Log {
        /// The log's number.
        number: u32,
        /// How many are in the catalog.
        stored: u64,
        /// Of how many it was told that they are proven.
        told: u64,
    },
    /// The intervals that are looked after on a chain.
    Intervals {
        /// The series of later anchors that they are of; empty for the deployment's own.
        series: Box<str>,
        /// The chain.
        chain: ChainId,
        /// Those that no block has.
        waiting: u64,
        /// Those in a block that is not deep enough.
        mined: u64,
        /// Those that were told of.
        deep: u64,
        /// Those whose block was lost after that.
        lost: u64,
    },
    /// The accounts that pay on a chain.
    Purse {
        /// As for intervals.
        series: Box<str>,
        /// The chain.
        chain: ChainId,
        /// What the commands of the day (UTC) may cost, in 10^-12 of the coin.
        spent: u128,
        /// What they hold in all, in the same; `None` before that is known of each.
        held: Option<u128>,
        /// For how many days the one that ends first lasts at the spending of the last two; `None` before that is known.
        days: Option<u64>,
    },
}

impl Part {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.through.is_none()
    }
}

/// Something to be done outside the log. It may be done twice: whoever receives it takes the second for the first.
/// Requests to the catalog about one partition are done in the order in which they were asked.
/// The shell repeats transient failures with growing pauses until there is an answer.
#[derive(Debug, Clone)]
pub enum Request {
    /// Write a batch and its events to the catalog.
    PutBatch(Box<BatchRecord>),
    /// Write an anchor to the catalog.
    PutAnchor(Box<AnchorRecord>),
    /// Read batch `number` of the log back from the catalog, as stored, with its audit path in the log's tree of `size`
    /// leaves ([`crate::derive::log_path`]).
    ReadBatch {
        /// The origin of the log.
        origin: Box<str>,
        /// The batch's number in the log.
        number: u64,
        /// The tree size for which the audit path is wanted; larger than `number`.
        size: u64,
    },
    /// Find the first batch that has its proof by the checkpoint of this size: by [`crate::derive::first_covered`].
    FirstCovered {
        /// The origin of the log.
        origin: Box<str>,
        /// The size of a checkpoint whose anchor is in the catalog.
        size: u64,
    },
    /// Find the newest checkpoint of each log that the series does not anchor yet: [`crate::series::newest`].
    Newest {
        /// The name of the series.
        series: Box<str>,
    },
    /// Give these bytes to a chain: `command` is the JSON text of a signed Pact command.
    Send {
        /// The chain.
        chain: ChainId,
        /// The command's request key.
        key: Box<str>,
        /// The command's exact text.
        command: Bytes,
    },
    /// Look, not before `after`, what became of commands on a chain.
    Look {
        /// The chain.
        chain: ChainId,
        /// The request keys of all attempts.
        keys: Vec<Box<str>>,
        /// How many blocks below the tip the one is whose time is wanted.
        depth: u64,
        /// How long to wait before looking.
        after: Duration,
    },
    /// Fetch the proof of a mined command's output, with the header of the block in which it ends.
    Spv {
        /// The chain.
        chain: ChainId,
        /// The request key.
        key: Box<str>,
    },
    /// Ask, not before `after`, what an account holds on a chain. That nobody can say is an answer too.
    Balance {
        /// The chain.
        chain: ChainId,
        /// The account's name.
        account: Box<str>,
        /// How long to wait before asking.
        after: Duration,
    },
    /// Nothing but an answer: a stage that has more to put out than one transaction should hold goes on with it.
    Again,
    /// Ask the schema registry for the schema of this id.
    Schema(SchemaId),
}

/// The outcome of a [`Request`]; `Put…` answers mean that it is durable.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The batch of this number is in the catalog.
    BatchPut(u64),
    /// The anchor is in the catalog.
    AnchorPut,
    /// The stored batch, if there is one.
    BatchRead(Option<Box<StoredBatch>>),
    /// The first batch that has its proof by the checkpoint that was asked for.
    FirstCovered(u64),
    /// The signed checkpoints, ascending by origin.
    Newest(Vec<Box<str>>),
    /// What the chain said to the command with this request key. A hint: the truth is in a block.
    Sent(Box<str>, Sent),
    /// What became of the commands with these request keys, which are the request's.
    Seen(Vec<Box<str>>, Look),
    /// The proof for this request key, or `None` if the chain does not have the command in a block now.
    Spv(Box<str>, Option<Box<Spv>>),
    /// What the account of this name holds.
    Balance(Box<str>, Balance),
    /// The time to go on: what was put out before the question is committed.
    Again,
    /// What the registry says of this id.
    Schema(SchemaId, Lookup),
}

/// A batch as the catalog holds it, with what the catalog's tree says about its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// The batch.
    pub batch: BatchRecord,
    /// The audit path of its header in the log's tree of the size asked for.
    pub path: Vec<[u8; 32]>,
}

/// A stage cannot go on by itself: an operator has to look. The worker stops with this message; nothing is lost.
#[derive(Debug, thiserror::Error)]
#[error("{partition}: {why}")]
pub struct Halt {
    /// The partition concerned.
    pub partition: Partition,
    /// What was found, and what to do about it.
    pub why: Box<str>,
}
