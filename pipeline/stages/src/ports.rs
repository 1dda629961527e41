//! The three ports. Each has a side for a cluster and a side for one machine; one suite of contract tests runs on both.

use std::time::Duration;

use bytes::Bytes;

use crate::record::{Micros, Output, Partition, Record};
use crate::stage::Part;

/// The number of a chain of the network.
pub type ChainId = u32;

// --- the log -----------------------------------------------------------------------------------------------------

/// One worker's hold on the log: the input partitions it owns, and one transaction at a time.
///
/// Contract:
/// - Records of a partition come in offset order, each once while the partition stays assigned, beginning at the
///   group's committed offset (at the first kept record if there is none).
/// - [`Log::commit`] is atomic and durable: all outputs and all offsets, or none of them; readers see nothing before.
/// - A worker that lost a partition cannot commit for it.
/// - Blocking; used by one thread.
pub trait Log: Send {
    /// Waits at most `wait` for something to happen, and returns what did. Empty when nothing did.
    ///
    /// # Errors
    /// [`LogError`]; after a transient one the same call may be made again.
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError>;

    /// Appends the outputs and moves the inputs' offsets, in one transaction. Durable when it returns.
    ///
    /// # Errors
    /// After [`LogError::Lost`] the partition named is no longer ours; the rest may be committed again. Any other error
    /// leaves nothing behind: the same transaction may be tried again.
    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError>;

    /// Appends a tick to an input partition. Durable when it returns.
    ///
    /// # Errors
    /// As for [`Log::commit`].
    fn tick(&mut self, partition: &Partition) -> Result<(), LogError>;

    /// Gives all records that `partition` keeps and that were appended at or after `since`, in order, up to its end as
    /// it is after assignment. For reading a stage's state back.
    ///
    /// # Errors
    /// [`LogError`]; some records may have been given before.
    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError>;

    /// Stops (or starts again) giving records; `poll` still has to be called.
    fn pause(&mut self, paused: bool);

    /// The present time as the log would stamp it.
    fn now(&self) -> Micros;
}

/// What [`Log::poll`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// The partition is ours now; its next record has this offset or a later one.
    Assigned(Partition, u64),
    /// The partition is no longer ours.
    Revoked(Partition),
    /// The next record of a partition.
    Record(Record),
}

/// Appends records from outside.
pub trait Producer: Send + Sync {
    /// Appends the outputs in order. All are durable when it returns: only then are they accepted.
    ///
    /// # Errors
    /// [`LogError`]; the outputs may or may not have been written, and may be sent again.
    fn produce(&self, outputs: &[Output]) -> Result<(), LogError>;
}

/// Reads the log from outside of any group: for tools, and to tell how far the stages are.
///
/// Contract: only what is committed is seen. Blocking; used by one thread.
pub trait Reader: Send {
    /// The partitions of a topic in order; none if there is no such topic.
    ///
    /// # Errors
    /// [`LogError`].
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError>;

    /// The first offset that is kept, and the offset behind the last that can be read.
    ///
    /// # Errors
    /// [`LogError`].
    fn range(&mut self, partition: &Partition) -> Result<(u64, u64), LogError>;

    /// Where a group goes on in a partition; `None` if it never committed there.
    ///
    /// # Errors
    /// [`LogError`].
    fn committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError>;

    /// The records from an offset on, in order: about `max_bytes`, and at least one if there is one. Empty only where
    /// nothing more can be read now.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&mut self, partition: &Partition, from: u64, max_bytes: usize) -> Result<Vec<Record>, LogError>;
}

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The partition belongs to another worker now.
    #[error("partition {0} is no longer ours")]
    Lost(Partition),
    /// There is no such partition.
    #[error("the log has no partition {0}")]
    Unknown(Partition),
    /// A record is larger than the log takes.
    #[error("a record of {size} bytes for {partition} is larger than the limit of {limit}")]
    TooLarge {
        /// Where it was to go.
        partition: Partition,
        /// Its size in bytes: key, value and headers.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The worker has no future: another took its place, or its place cannot be known. The process has to end; whoever
    /// supervises it starts it anew, and nothing is lost with it.
    #[error("the worker is over: {0}")]
    Over(String),
    /// What the log kept is damaged: nothing may go on.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// The store failed; the call may be made again.
    #[error("the log failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

// --- the catalog -------------------------------------------------------------------------------------------------

/// Holds what receipts are derived from. A projection of the log: it can be dropped and written anew.
///
/// Contract:
/// - A `put` is durable when it returns, and doing it again changes nothing. Values are functions of the log: a `put`
///   of another value under the same name is a fault and refused.
/// - Reads see every `put` that returned before.
/// - Calls come from many threads. Blocking.
pub trait Catalog: Send + Sync {
    /// Writes a batch, its place in the log's tree, and where each of its events is. Batches of a log come in order.
    ///
    /// # Errors
    /// [`CatalogError::Conflict`] if another batch has that number, or the number is not the next one of its log.
    fn put_batch(&self, batch: &BatchRecord) -> Result<(), CatalogError>;

    /// Writes an anchor of a log's checkpoint. Receipts can be derived from it once the batches below its size are in.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if its checkpoint or the name of its series is none, or the log has anchors in
    /// [`crate::series::MAX_SERIES`] other series. Who begins further series at the same time may get in beside each other.
    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError>;

    /// The origins of all logs that have batches, in order.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError>;

    /// How many batches of the log are in.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn log_size(&self, origin: &str) -> Result<u64, CatalogError>;

    /// The batch of that number.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError>;

    /// The hash of the complete subtree at `level` (0: leaves) and `index` of the log's tree.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError>;

    /// Of each series, the anchors of the smallest checkpoint that is anchored in it and contains batch `number`: the
    /// deployment's own series first, then the others by their names; within one the oldest first. A series that has no
    /// such checkpoint is left out, also the own. Batch 0 is in every checkpoint: its anchors name all series of the log.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError>;

    /// Where the event is: at most one place, unless a promise was broken.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError>;

    /// The batches that hold events of the tenant and whose first log time is on that UTC day (days since 1970-01-01),
    /// in order of (origin, number), after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError>;
}

/// Where an event is proven.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The log's origin.
    pub origin: Box<str>,
    /// The batch's number in the log.
    pub number: u64,
    /// The leaf's index in the batch.
    pub index: u64,
}

/// A batch: what the topic `batches` carries and the catalog keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// The batch header's CBOR: the leaf of the log.
    pub header: Bytes,
    /// The statements' CBOR in leaf order.
    pub statements: Vec<Bytes>,
    /// The log's right edge after this batch, as `killick_proof` encodes it.
    pub edge: Bytes,
    /// The signed checkpoint that this batch completes.
    pub checkpoint: Box<str>,
}

/// An anchor of one log's checkpoint, with all that a receipt needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorRecord {
    /// The log's origin.
    pub origin: Box<str>,
    /// Empty for the anchors that the deployment makes as it goes; else the name of the series that was made later,
    /// elsewhere: see [`crate::series`].
    pub series: Box<str>,
    /// The size of the checkpoint anchored: batches below it are covered.
    pub size: u64,
    /// The signed checkpoint.
    pub checkpoint: Box<str>,
    /// The anchor part of a receipt as JSON, in the form of `killick_proof`'s receipts.
    pub anchor: Bytes,
}

/// What can go wrong with the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another value is there already: a fault.
    #[error("the catalog holds another {0}")]
    Conflict(String),
    /// What is stored does not decode.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// The store failed; the call may be made again.
    #[error("the catalog failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

// --- the chain ---------------------------------------------------------------------------------------------------

/// A network of chains that takes commands and proves what became of them.
///
/// Contract: the same bytes may be sent again and again; what `look` and `spv` say holds for the chain's present
/// branch and may change until it is deep enough. Calls come from many threads. Blocking, with a deadline of its own.
pub trait Chain: Send + Sync {
    /// The network's name, as receipts carry it.
    fn network(&self) -> &str;

    /// Gives a signed command's exact bytes to the chain.
    ///
    /// # Errors
    /// [`ChainError`] if the chain could not be asked at all; any answer is a [`Sent`].
    fn send(&self, chain: ChainId, command: &[u8]) -> Result<Sent, ChainError>;

    /// The tip of the chain, the time of the block `depth` below it, and where the first of these commands that is in a block
    /// of its present branch is.
    ///
    /// # Errors
    /// [`ChainError`].
    fn look(&self, chain: ChainId, keys: &[Box<str>], depth: u64) -> Result<Look, ChainError>;

    /// The proof of the command's output, to its own block, and that block's header. `None` if it is in no block.
    ///
    /// # Errors
    /// [`ChainError`].
    fn spv(&self, chain: ChainId, key: &str) -> Result<Option<Spv>, ChainError>;

    /// What an account holds by the newest block, in 10^-12 of the coin; `None` if it does not exist on that chain.
    ///
    /// # Errors
    /// [`ChainError`].
    fn balance(&self, chain: ChainId, account: &str) -> Result<Option<u128>, ChainError>;
}

/// What an account holds, as far as the chain can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// So much, in 10^-12 of the coin.
    Units(u128),
    /// Nothing: it does not exist on that chain.
    NoAccount,
    /// The chain could not be asked, or answered nonsense.
    Unknown(Box<str>),
}

/// What a chain said to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Taken for relay, or known already. Nothing more.
    Taken,
    /// No statement about the command: an error of the node, or an answer that may mean anything.
    Unclear(Box<str>),
    /// These bytes can never be mined.
    Refused(Box<str>),
}

/// What [`Chain::look`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The height of the chain's tip.
    pub tip_height: u64,
    /// The creation time of the chain's tip.
    pub tip_time: Micros,
    /// The creation time of the block that is as deep below the tip as was asked for, or of the chain's first one. `None` where
    /// the node does not have that block.
    pub deep_time: Option<Micros>,
    /// The command found, if one was.
    pub mined: Option<Mined>,
}

/// A command in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    /// Its request key.
    pub key: Box<str>,
    /// The block's height.
    pub height: u64,
    /// The block's hash, base64url.
    pub block: Box<str>,
    /// Whether it succeeded: a failed command is in the block as well.
    pub success: bool,
}

/// A proof of a command's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spv {
    /// The proof object in JSON: `chain`, `object`, `subject`, `algorithm`.
    pub proof: Bytes,
    /// The binary header of the block where it ends.
    pub header: Bytes,
}

/// The chain could not be asked, or answered nonsense; the call may be made again.
#[derive(Debug, thiserror::Error)]
#[error("chain {chain}: {why}")]
pub struct ChainError {
    /// The chain.
    pub chain: ChainId,
    /// What happened.
    pub why: String,
}
