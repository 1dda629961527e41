//! Transactions, and what becomes of them when there is a doubt.
//!
//! Each transaction commits, beside every input offset, a token that no other one has. After an error, or after any
//! sign that a request may have been sent twice, the producer is thrown away: the next one's start ends whatever the old
//! one left, and then the tokens say for certain whether the transaction is in the log. That closes the hole which
//! KIP-890 closes for clients that have it: a late copy of one transaction's end that ends the next one. What a broker
//! does not end at that start, though it should, is dealt with in [`crate::leftover`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use killick_stages::record::{Output, Partition};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::Timeout;
use tracing::{debug, info};

use crate::client::{self, failed};
use crate::figures::Figures;
use crate::leftover::Mark;
use crate::message;
use crate::names::Names;
use crate::plant;
use crate::reader::KafkaReader;
use crate::watch::{Context, Watch};

/// How long the start of a producer may take.
const START: Duration = Duration::from_secs(30);

/// What the group has in its partitions: offset and token.
pub type Committed = BTreeMap<Partition, (u64, String)>;

/// One transaction.
pub struct Transaction<'a> {
    /// What is written.
    pub outputs: Vec<&'a Output>,
    /// The input offsets after it, of every partition that it concerns.
    pub offsets: BTreeMap<Partition, u64>,
    /// One of these, best one that moves: by it others can find out whether the transaction is in the log.
    pub witness: Option<(&'a Partition, u64)>,
}

/// The group for which transactions are made.
pub struct Group<'a> {
    /// Its generation in which the partitions are ours.
    pub metadata: Option<&'a ConsumerGroupMetadata>,
    /// Whether it has taken the partitions away.
    pub is_lost: &'a dyn Fn() -> bool,
    /// Reads back what it has in these partitions; waits, but not for ever, for transactions that are under way.
    pub committed: &'a dyn Fn(&[Partition]) -> Result<Committed, LogError>,
    /// All partitions that it reads.
    pub inputs: &'a dyn Fn() -> Result<Vec<Partition>, LogError>,
    /// All partitions that its workers write to, as far as they are known beforehand.
    pub outputs: &'a dyn Fn() -> Result<Vec<Partition>, LogError>,
}

/// The producer of one worker.
pub struct Transactor {
    config: ClientConfig,
    pub(crate) names: Names,
    pub(crate) id: String,
    pub(crate) timeout: Duration,
    /// What tells the tokens of this process from those of others in its slot.
    nonce: u64,
    count: u64,
    producer: Option<(ThreadedProducer<Context>, Arc<Watch>)>,
    /// The transaction before; none in a process that has just begun.
    pub(crate) last: Option<Last>,
    /// Where nothing is open that was begun before the producer was made.
    pub(crate) clear: BTreeSet<Partition>,
    /// Whether that is so of the group's offsets, and of all that was written to before.
    pub(crate) is_clear: bool,
    /// Where something is open that is in the log: the next transaction that writes there ends it.
    pub(crate) carried: BTreeSet<Partition>,
    figures: Arc<Figures>,
}

/// A transaction that was tried.
pub struct Last {
    /// Its name.
    pub token: String,
    /// The offsets that it committed, if it did.
    pub offsets: BTreeMap<Partition, u64>,
    /// Where it wrote.
    pub wrote: BTreeSet<Partition>,
    /// What became of it.
    pub fate: Fate,
    /// Whether it is of a process before this one.
    pub is_found: bool,
    /// Partitions that are still ours, by which a doubt is cleared up.
    unsettled: Vec<Partition>,
    /// Whether it is in the log, though it was told to have failed.
    is_untold: bool,
}

impl Last {
    /// One that was found, of a process before this one.
    pub fn found(token: String, offsets: BTreeMap<Partition, u64>, fate: Fate) -> Self {
        let wrote = BTreeSet::new();
        Self { token, offsets, wrote, fate, is_found: true, unsettled: Vec::new(), is_untold: false }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in the log.
    Committed,
    /// It is not in the log.
    Aborted,
    /// Nobody knows.
    Unknown,
}

/// How an attempt ended.
enum Failed {
    /// It is not in the log.
    Not(LogError),
    /// It may be in the log.
    Unknown(LogError),
    /// It is not in the log, and another worker has our place.
    Fenced,
}

impl Transactor {
    /// A transactor; it connects when it is first needed.
    pub fn new(
        config: ClientConfig,
        names: Names,
        id: String,
        timeout: Duration,
        figures: Arc<Figures>,
    ) -> Self {
        Self {
            config,
            names,
            id,
            timeout,
            nonce: rand::random(),
            count: 0,
            producer: None,
            last: None,
            clear: BTreeSet::new(),
            is_clear: false,
            carried: BTreeSet::new(),
            figures,
        }
    }

    /// Makes a transaction durable, or leaves nothing of it behind.
    pub fn run(
        &mut self,
        transaction: &Transaction<'_>,
        group: &Group<'_>,
        reader: &mut KafkaReader,
    ) -> Result<(), LogError> {
        self.settle(group)?;
        if self.is_told(transaction)? {
            return Ok(());
        }
        let wrote = partitions(&transaction.outputs);
        self.make_clear(&wrote, group, reader)?;
        let token = format!("{}/{:016x}/{}", self.id, self.nonce, self.count);
        self.count += 1;
        let begun = Instant::now();
        if plant::has("offsets_first") {
            let offsets = transaction.offsets.clone();
            let only_offsets = Transaction { outputs: Vec::new(), offsets, ..*transaction };
            let _ = self.attempt(&only_offsets, group, &token);
            plant::point("after_offsets_first");
        }
        let outcome = self.attempt(transaction, group, &token);
        let took = begun.elapsed();
        let last = self.last.insert(Last {
            token,
            unsettled: transaction.offsets.keys().cloned().collect(),
            offsets: transaction.offsets.clone(),
            wrote,
            fate: Fate::Unknown,
            is_found: false,
            is_untold: false,
        });
        match outcome {
            Ok(()) => {
                last.fate = Fate::Committed;
                self.carried.retain(|partition| !last.wrote.contains(partition));
                Figures::add(&self.figures.commits, 1);
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                Figures::add(&self.figures.commit_micros, micros);
                Ok(())
            }
            Err(_) if plant::has("errors_ignored") => Ok(()),
            Err(Failed::Fenced) => {
                last.unsettled.clear();
                Figures::add(&self.figures.aborts, 1);
                self.discard();
                let partition = transaction.offsets.keys().next().cloned();
                Err(partition.map_or_else(|| failed("the slot is another worker's"), LogError::Lost))
            }
            Err(Failed::Not(error)) => {
                self.is_aborted()?;
                self.discard();
                Err(error)
            }
            Err(Failed::Unknown(error)) => {
                info!(worker = self.id, %error, ?took, "a commit of which nobody knows; asking the group");
                self.discard();
                self.settle(group)?;
                if self.is_told(transaction)? { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Whether this process has tried a transaction.
    pub fn has_tried(&self) -> bool {
        self.last.as_ref().is_some_and(|last| !last.is_found)
    }

    /// Partitions that went are others' word.
    pub fn forget(&mut self, partition: &Partition) {
        if let Some(last) = &mut self.last {
            last.unsettled.retain(|unsettled| unsettled != partition);
        }
    }

    /// Clears up a doubt about the transaction before.
    pub fn settle(&mut self, group: &Group<'_>) -> Result<(), LogError> {
        let doubt = self.producer.as_ref().and_then(|(_, watch)| watch.take_doubt());
        if let Some(why) = doubt.filter(|_| !plant::has("doubt_ignored")) {
            debug!(worker = self.id, why, "a doubt; taking another producer");
            self.discard();
        } else if self.last.as_ref().is_none_or(|last| last.fate != Fate::Unknown) {
            return Ok(());
        }
        // Its start ends what the one before left: then the group's offsets are final.
        self.producer()?;
        let is_open = |last: &&mut Last| last.fate != Fate::Aborted && !last.unsettled.is_empty();
        let Some(last) = self.last.as_mut().filter(is_open) else { return Ok(()) };
        let found = (group.committed)(&last.unsettled)?;
        match (holds(&found, last), last.fate) {
            (Some(true), Fate::Unknown) => {
                (last.fate, last.is_untold) = (Fate::Committed, true);
                self.carried.retain(|partition| !last.wrote.contains(partition));
                Figures::add(&self.figures.commits, 1);
                Ok(())
            }
            (Some(true), _) => {
                last.unsettled.clear();
                Ok(())
            }
            (Some(false), Fate::Unknown) => self.is_aborted(),
            // What was told to be durable is not: what is in memory rests on it, and has to go.
            (Some(false), _) => Err(LogError::Over(format!(
                "the transaction {} was committed and is not in the log: the next start does its work again",
                last.token
            ))),
            (None, _) => Err(torn(&last.token)),
        }
    }

    /// Whether this is the transaction before, which is in the log though it was told to have failed, and is tried again.
    fn is_told(&mut self, transaction: &Transaction<'_>) -> Result<bool, LogError> {
        let Some(last) = self.last.as_mut().filter(|last| last.is_untold) else { return Ok(false) };
        last.is_untold = false;
        // None where all of it went to others, and came back with other work.
        let is_ours = !std::mem::take(&mut last.unsettled).is_empty();
        let is_same = |(partition, next)| last.offsets.get(partition) == Some(next);
        if is_ours && !transaction.offsets.iter().all(is_same) {
            let why = format!("the transaction {} is in the log, and another one was given", last.token);
            return Err(LogError::Over(why));
        }
        Ok(is_ours)
    }

    /// The transaction before is not in the log.
    fn is_aborted(&mut self) -> Result<(), LogError> {
        Figures::add(&self.figures.aborts, 1);
        let Some(last) = &mut self.last else { return Ok(()) };
        last.fate = Fate::Aborted;
        // What it was to carry on is undone with it.
        if last.wrote.is_disjoint(&self.carried) { Ok(()) } else { Err(torn(&last.token)) }
    }

    fn attempt(
        &mut self,
        transaction: &Transaction<'_>,
        group: &Group<'_>,
        token: &str,
    ) -> Result<(), Failed> {
        let offsets = self.offsets(&transaction.offsets, token).map_err(Failed::Not)?;
        let mark = transaction.witness.map(|(partition, next)| Mark::of(token, partition, next).to_string());
        let (names, timeout) = (self.names.clone(), self.timeout);
        let (producer, watch) = self.producer().map_err(Failed::Not)?;
        watch.begin();
        plant::point("before_begin");
        let not = |error: KafkaError| Failed::Not(failed(error));
        producer.begin_transaction().map_err(not)?;
        let deadline = Instant::now() + timeout;
        let mut marked = BTreeSet::new();
        let mut before = None;
        for output in &transaction.outputs {
            // The first one in each partition says whose it is. Those for one partition mostly stand together.
            let is_first = before != Some(&output.partition) && marked.insert(&output.partition);
            before = Some(&output.partition);
            let mark = mark.as_deref().filter(|_| is_first);
            send(producer, watch, &names, output, mark, deadline).map_err(Failed::Not)?;
        }
        plant::point("after_send");
        // The commit waits for deliveries in steps of 100 ms; this waits for the last one. Before the offsets: as long as
        // the brokers still end the transaction before this one, records wait a little, but a request for offsets is sent
        // again, much later, and as if there were a doubt.
        watch.wait(deadline).map_err(Failed::Not)?;
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
        let Some(metadata) = group.metadata else {
            return Err(Failed::Not(failed("the group has not said yet who has what")));
        };
        let begun = Instant::now();
        loop {
            match producer.send_offsets_to_transaction(&offsets, metadata, Timeout::Never) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                Err(KafkaError::Transaction(error)) if error.code() == RDKafkaErrorCode::FencedInstanceId => {
                    return Err(Failed::Fenced);
                }
                Err(error) => return Err(not(error)),
            }
        }
        watch.took(begun.elapsed());
        plant::point("after_send_offsets");
        if (group.is_lost)() {
            return Err(Failed::Not(failed("the group has taken the partitions away")));
        }
        plant::point("before_commit");
        let begun = Instant::now();
        loop {
            match producer.commit_transaction(Timeout::Never) {
                Ok(()) => {
                    watch.took(begun.elapsed());
                    plant::point("after_commit");
                    return Ok(());
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                // Also the flush before the commit that was not done in time: nobody knows.
                Err(error) => return Err(Failed::Unknown(failed(error))),
            }
        }
    }

    pub fn offsets(
        &self,
        offsets: &BTreeMap<Partition, u64>,
        token: &str,
    ) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in offsets {
            let name = self.names.topic(partition.topic.as_str());
            let mut entry = list.add_partition(&name, client::number(partition));
            entry.set_offset(client::offset(*next)?).map_err(failed)?;
            entry.set_metadata(token);
        }
        Ok(list)
    }

    /// The producer; a new one ends whatever one of the same name has open.
    pub fn producer(&mut self) -> Result<&(ThreadedProducer<Context>, Arc<Watch>), LogError> {
        if self.producer.is_none() {
            let watch = Arc::new(Watch::default());
            let context = Context { watch: Arc::clone(&watch), names: self.names.clone() };
            let producer: ThreadedProducer<Context> =
                self.config.create_with_context(context).map_err(failed)?;
            let deadline = Instant::now() + START;
            loop {
                match producer.init_transactions(START) {
                    Ok(()) => break,
                    Err(KafkaError::Transaction(error))
                        if error.is_retriable() && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(error) => {
                        let why = format!("the transactional producer {} cannot start: {error}", self.id);
                        return Err(failed(why));
                    }
                }
            }
            self.producer = Some((producer, watch));
        }
        self.producer.as_ref().ok_or_else(|| failed("no producer"))
    }

    /// Throws the producer away, and ends its transaction if that is quickly done; else the next one's start ends it.
    pub fn discard(&mut self) {
        let Some((producer, _)) = self.producer.take() else { return };
        self.clear.clear();
        self.is_clear = false;
        Figures::add(&self.figures.rebuilds, 1);
        // What is in flight would hold up the abort: it is void.
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        if let Err(error) = producer.abort_transaction(Duration::from_secs(1)) {
            debug!(worker = self.id, %error, "the transaction is left to the next producer");
        }
    }
}

/// Whether the group has what a transaction committed: all of it, nothing, or a part of it.
fn holds(found: &Committed, last: &Last) -> Option<bool> {
    let has = |partition: &&Partition| {
        let found = found.get(*partition);
        found
            .is_some_and(|(offset, text)| last.offsets.get(*partition) == Some(offset) && *text == last.token)
    };
    match last.unsettled.iter().filter(has).count() {
        0 => Some(false),
        all if all == last.unsettled.len() => Some(true),
        _ => None,
    }
}

/// The partitions that are written to.
fn partitions(outputs: &[&Output]) -> BTreeSet<Partition> {
    let mut partitions = BTreeSet::new();
    let mut before = None;
    for output in outputs {
        // Those for one partition mostly stand together.
        if before != Some(&output.partition) && !partitions.contains(&output.partition) {
            partitions.insert(output.partition.clone());
        }
        before = Some(&output.partition);
    }
    partitions
}

fn torn(token: &str) -> LogError {
    LogError::Damaged(format!(
        "the transaction {token} is in the log in part: stop the stage and run `killick audit` to see what is missing"
    ))
}

/// Hands a record to a producer.
pub fn send(
    producer: &ThreadedProducer<Context>,
    watch: &Watch,
    names: &Names,
    output: &Output,
    mark: Option<&str>,
    deadline: Instant,
) -> Result<(), LogError> {
    let topic = names.topic(output.partition.topic.as_str());
    watch.expect(1);
    let mut record = message::to_send(output, mark, &topic, ());
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record))
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
                record
            }
            Err((
                KafkaError::MessageProduction(
                    RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic,
                ),
                _,
            )) => {
                return Err(LogError::Unknown(output.partition.clone()));
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                return Err(too_large(&output.partition, message::size(output)));
            }
            Err((error, _)) => return Err(client::failed_at(format_args!("a record for {topic}"), &error)),
        };
    }
}

/// The brokers take less than we were told.
pub fn too_large(partition: &Partition, size: usize) -> LogError {
    LogError::TooLarge { partition: partition.clone(), size, limit: size.saturating_sub(1) }
}
