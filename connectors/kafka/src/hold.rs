//! Membership in a consumer group: which partitions are ours, and what has come of them.
//!
//! A thread of its own polls the consumer at all times, so that partitions change hands within a heartbeat, however
//! long the stage reads its state back or computes. Two locks keep the promises: `ownership` is held for the length of
//! a transaction, so a partition goes either before a transaction or after it, never within; `inbox` is what was read
//! and not taken yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use killick_stages::record::{Partition, Record};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::{self, Statistics};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tracing::{debug, error, info, warn};

use crate::client::{self, ASK, failed, list};
use crate::figures::{Figures, Lag};
use crate::inbox::{Event, Inbox};
use crate::log::Start;
use crate::message;
use crate::names::Names;
use crate::plant;

/// Longest wait for records: also how late a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Statistics in a row, one a second, without a connection and without an attempt to make one: it makes several in that
/// time where brokers are away.
const CUT_OFF: u32 = 20;
/// Bytes in the inbox above which reading pauses, and below which it goes on.
const BYTES: (usize, usize) = (16 << 20, 4 << 20);
/// Records handed over at once.
const TOGETHER: usize = 2_000;

/// A partition that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The number of its assignment: what was read in an earlier one is void.
    pub assignment: u64,
    /// The offset that the group has committed.
    pub committed: u64,
}

/// What is ours. Whoever holds the lock on it knows that nothing of it goes.
#[derive(Default)]
pub struct Ownership {
    pub partitions: BTreeMap<Partition, Owned>,
    /// The group's generation in which that holds. Taken in the callback that told of it, and nowhere else: what the
    /// consumer says at other times may belong to no generation, and a commit under it would be taken from anyone.
    pub metadata: Option<Arc<ConsumerGroupMetadata>>,
    assignments: u64,
}

/// A membership.
pub struct Hold {
    shared: Arc<Shared>,
    consumer: Option<Arc<BaseConsumer<Context>>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    names: Names,
    member: String,
    start: Start,
    poll_timeout: Duration,
    ownership: Mutex<Ownership>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    is_paused: AtomicBool,
    stop: AtomicBool,
    /// Since when the group's offsets are asked for, as long as there is no answer.
    asking: Mutex<Option<Instant>>,
    /// How often the consumer has tried to connect, as long as it is not connected.
    attempts: Mutex<Option<i64>>,
    /// Statistics in a row in which that stayed the same.
    idle: AtomicU32,
    figures: Arc<Figures>,
}

/// How a member behaves.
pub struct Member<'a> {
    pub config: rdkafka::ClientConfig,
    pub names: Names,
    pub member: String,
    pub topics: &'a [String],
    pub start: Start,
    pub poll_timeout: Duration,
    pub figures: Arc<Figures>,
}

impl Hold {
    /// Joins the group; partitions come later.
    pub fn join(member: Member<'_>) -> Result<Self, LogError> {
        let Member { config, names, member, topics, start, poll_timeout, figures } = member;
        let shared = Arc::new(Shared {
            names,
            member,
            start,
            poll_timeout,
            ownership: Mutex::default(),
            inbox: Mutex::new(Inbox::new()),
            arrived: Condvar::new(),
            is_paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asking: Mutex::default(),
            attempts: Mutex::default(),
            idle: AtomicU32::new(0),
            figures,
        });
        let context = Context(Arc::clone(&shared));
        let consumer: Arc<BaseConsumer<Context>> =
            Arc::new(config.create_with_context(context).map_err(failed)?);
        let names: Vec<String> = topics.iter().map(|topic| shared.names.topic(topic)).collect();
        consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).map_err(failed)?;
        let thread = {
            let (shared, consumer) = (Arc::clone(&shared), Arc::clone(&consumer));
            let work = move || shared.poll_all(&consumer);
            std::thread::Builder::new().name("kafka-poll".into()).spawn(work).map_err(failed)?
        };
        Ok(Self { shared, consumer: Some(consumer), thread: Some(thread) })
    }

    /// What is ours, held until the guard goes.
    pub fn ownership(&self) -> MutexGuard<'_, Ownership> {
        self.shared.ownership()
    }

    /// Whether the group has taken all that is ours away, though nobody was told yet.
    pub fn is_lost(&self) -> bool {
        let is_lost = self.consumer.as_ref().is_some_and(|consumer| consumer.assignment_lost());
        is_lost && !plant::has("metadata_of_nobody")
    }

    /// Whether offsets of partitions that come have been waited for so long.
    pub fn waits_for_offsets(&self, since: Duration) -> bool {
        self.shared.asking().is_some_and(|asking| asking.elapsed() > since)
    }

    /// The consumer's generation, as it has it now, if it has one: not to commit with.
    pub fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.as_ref()?.group_metadata()
    }

    /// Where the group goes on in these partitions, with the text that was committed beside each offset. Waits for
    /// transactions that are under way.
    pub fn committed(
        &self,
        partitions: impl Iterator<Item = Partition>,
    ) -> Result<BTreeMap<Partition, (u64, String)>, LogError> {
        let Some(consumer) = &self.consumer else { return Err(failed("the worker is closed")) };
        self.shared.committed(consumer, &list(&self.shared.names, &partitions.collect::<Vec<_>>()))
    }

    /// The number of partitions of a topic.
    pub fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        let Some(consumer) = &self.consumer else { return Err(failed("the worker is closed")) };
        let count = client::partition_count(consumer, &self.shared.names.topic(topic))?;
        count.ok_or_else(|| LogError::Unknown(Partition::new(topic, 0)))
    }

    /// Waits for events, and takes at most so many bytes of records; only changes of what is ours while `paused`.
    pub fn take(&self, wait: Duration, bytes: usize, paused: bool) -> Result<Vec<Event>, LogError> {
        let deadline = Instant::now() + wait;
        let mut inbox = self.shared.inbox();
        inbox.beat = Instant::now();
        loop {
            let events = inbox.take(bytes, paused);
            if !events.is_empty() {
                return Ok(events);
            }
            inbox.fault()?;
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(events);
            }
            inbox = self.shared.arrived.wait_timeout(inbox, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that the stage is alive, though it asks for no records.
    pub fn beat(&self) {
        self.shared.inbox().beat = Instant::now();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The consumer closes where it was polled, and only there.
        self.consumer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(member = self.shared.member, "the polling thread ended in a panic: this is a defect");
        }
    }
}

impl Shared {
    fn ownership(&self) -> MutexGuard<'_, Ownership> {
        self.ownership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The polling thread.
    fn poll_all(&self, consumer: &BaseConsumer<Context>) {
        while !self.is_stopping() && self.inbox().over.is_none() {
            if self.is_stuck() {
                // Not polling gives the partitions to another worker.
                std::thread::sleep(POLL);
                continue;
            }
            self.press_back(consumer);
            let mut records = Vec::new();
            let mut wait = POLL;
            while records.len() < TOGETHER {
                match consumer.poll(wait) {
                    Some(Ok(message)) => records.extend(self.accept(&message)),
                    Some(Err(error)) => {
                        self.fault(consumer, &error);
                        break;
                    }
                    None => break,
                }
                wait = Duration::ZERO;
            }
            if !records.is_empty() {
                self.deliver(records);
            }
        }
    }

    /// A record of a partition that is ours.
    fn accept(&self, message: &BorrowedMessage<'_>) -> Option<Record> {
        let partition = self.names.partition_of(message.topic(), message.partition());
        Some(message::record(message, partition))
    }

    fn deliver(&self, records: Vec<Record>) {
        Figures::add(&self.figures.records, records.len() as u64);
        self.inbox().put(records);
        self.arrived.notify_all();
    }

    /// Whether the stage has asked for nothing for so long that somebody else should do its work.
    fn is_stuck(&self) -> bool {
        let still = self.inbox().beat.elapsed();
        if still > self.poll_timeout * 3 {
            // Whoever supervises the process starts it anew; nothing is lost with it.
            error!(member = self.member, ?still, "the stage hangs: ending the process");
            std::process::exit(70);
        }
        still > self.poll_timeout / 2
    }

    /// Stops reading while much waits to be taken.
    fn press_back(&self, consumer: &BaseConsumer<Context>) {
        let bytes = self.inbox().bytes();
        let is_paused = self.is_paused.load(Ordering::Relaxed);
        let change = match is_paused {
            false if bytes > BYTES.0 => true,
            true if bytes < BYTES.1 => false,
            _ => return,
        };
        let Ok(assignment) = consumer.assignment() else { return };
        let outcome = if change { consumer.pause(&assignment) } else { consumer.resume(&assignment) };
        match outcome {
            Ok(()) => self.is_paused.store(change, Ordering::Relaxed),
            Err(error) => warn!(member = self.member, %error, change, "cannot pause or resume reading"),
        }
    }

    /// What an error of the consumer means for this worker.
    fn fault(&self, consumer: &BaseConsumer<Context>, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let mut inbox = self.inbox();
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                let member = &self.member;
                inbox.over = Some(if *code == Code::FencedInstanceId {
                    format!("another process has the slot of {member}: give each process a slot of its own")
                } else {
                    format!("{member}: {code}")
                });
            }
            KafkaError::MessageConsumption(Code::PollExceeded) => {
                warn!(member = self.member, "the stage took too long: its partitions go to others");
                return;
            }
            KafkaError::MessageConsumption(
                Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset,
            ) => {
                drop(inbox);
                let why = self.missing(consumer).unwrap_or_else(|| error.to_string());
                inbox = self.inbox();
                inbox.is_damaged = Some(why);
            }
            KafkaError::MessageConsumption(
                code @ (Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic),
            ) => inbox.failed = Some(format!("{}: {code}", self.member)),
            // Librdkafka tries again by itself.
            other => {
                debug!(member = self.member, error = %other, "the consumer met an error");
                return;
            }
        }
        // Whatever was ours is nobody's word any more; the stage hears that first.
        if let Some(over) = inbox.over.take() {
            drop(inbox);
            self.lose_all();
            self.inbox().over = Some(over);
        }
        self.arrived.notify_all();
    }

    /// Names the partition whose next record is not there any more.
    fn missing(&self, consumer: &BaseConsumer<Context>) -> Option<String> {
        let partitions: Vec<_> = self.ownership().partitions.keys().cloned().collect();
        let committed = self.committed(consumer, &list(&self.names, &partitions)).ok()?;
        committed.into_iter().find_map(|(partition, (next, _))| {
            let name = self.names.topic(partition.topic.as_str());
            let (low, high) = consumer.fetch_watermarks(&name, client::number(&partition), ASK).ok()?;
            let next_offset = i64::try_from(next).ok()?;
            (next_offset < low || next_offset > high).then(|| format!(
                "offset {next} of {name}/{} is next, and the topic has {low} to {high}: records were removed before they were \
                 read, or the topic was made anew; find out which before the group's offset is set by hand",
                partition.number
            ))
        })
    }

    /// Ends the membership once the consumer has no connection and makes none: a librdkafka that was told that its cluster has
    /// no brokers, as a broker says that was just started or was stopped for long, may never ask anyone again.
    fn count_attempts(&self, statistics: &Statistics) {
        let attempts = client::attempts(statistics);
        self.figures.set_connected(attempts.is_none());
        let before =
            std::mem::replace(&mut *self.attempts.lock().unwrap_or_else(PoisonError::into_inner), attempts);
        if attempts.is_none() || attempts != before {
            self.idle.store(0, Ordering::Relaxed);
        } else if self.idle.fetch_add(1, Ordering::Relaxed) + 1 == CUT_OFF {
            let why = "the client has no connection to any broker and makes none; start again";
            self.lose_all();
            self.inbox().over = Some(format!("{}: {why}", self.member));
        }
    }

    fn lose_all(&self) {
        let mut ownership = self.ownership();
        let gone: BTreeSet<_> = std::mem::take(&mut ownership.partitions).into_keys().collect();
        ownership.metadata = None;
        self.figures.joined.store(false, Ordering::Relaxed);
        self.inbox().forget(&gone);
        self.figures.owned.store(0, Ordering::Relaxed);
        drop(ownership);
        self.arrived.notify_all();
    }

    /// Where the group goes on.
    fn committed(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: &TopicPartitionList,
    ) -> Result<BTreeMap<Partition, (u64, String)>, LogError> {
        let found = consumer.committed_offsets(partitions.clone(), ASK).map_err(failed)?;
        let mut committed = BTreeMap::new();
        for entry in found.elements() {
            entry.error().map_err(failed)?;
            if let Offset::Offset(offset) = entry.offset() {
                let partition = self.names.partition_of(entry.topic(), entry.partition());
                let offset = u64::try_from(offset).unwrap_or_default();
                committed.insert(partition, (offset, entry.metadata().to_owned()));
            }
        }
        Ok(committed)
    }

    /// Where each of these partitions goes on: at the committed offset, or as [`Start`] says.
    fn positions(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: &TopicPartitionList,
    ) -> Result<BTreeMap<Partition, u64>, LogError> {
        let committed = self.committed(consumer, partitions)?;
        let mut positions = BTreeMap::new();
        for entry in partitions.elements() {
            let partition = self.names.partition_of(entry.topic(), entry.partition());
            let next = match (committed.get(&partition), self.start) {
                (Some((next, _)), _) => *next,
                (None, Start::FirstKept) => {
                    let (low, _) = consumer.fetch_watermarks(entry.topic(), entry.partition(), ASK).map_err(
                        |error| client::failed_at(format_args!("the start of {partition}"), &error),
                    )?;
                    u64::try_from(low).unwrap_or_default()
                }
                (None, Start::Committed) => {
                    return Err(LogError::Damaged(format!(
                        "the group has no offset in {}/{}: it is new, or its offsets were removed; `killick topics apply` sets \
                         the offsets of new groups and partitions",
                        entry.topic(),
                        entry.partition()
                    )));
                }
            };
            positions.insert(partition, next);
        }
        Ok(positions)
    }

    /// Takes over partitions. Runs in the polling thread, within its call.
    fn assign(&self, consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
        let deadline = Instant::now() + self.poll_timeout / 2;
        *self.asking() = Some(Instant::now());
        let positions = loop {
            match self.positions(consumer, partitions) {
                Ok(positions) => break positions,
                Err(LogError::Damaged(why)) => {
                    self.inbox().is_damaged = Some(why);
                    self.arrived.notify_all();
                    break BTreeMap::new();
                }
                Err(error) if Instant::now() < deadline && !self.is_stopping() => {
                    warn!(member = self.member, %error, "the group's offsets cannot be read; trying again");
                    std::thread::sleep(POLL);
                }
                Err(error) => {
                    self.inbox().over = Some(format!("{}: its offsets cannot be read: {error}", self.member));
                    self.arrived.notify_all();
                    break BTreeMap::new();
                }
            }
        };
        *self.asking() = None;
        let mut with_offsets = TopicPartitionList::new();
        for (partition, next) in &positions {
            let name = self.names.topic(partition.topic.as_str());
            let Ok(offset) = client::offset(*next) else { continue };
            // An offset that was just read is one.
            let _ = with_offsets.add_partition_offset(&name, client::number(partition), offset);
        }
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&with_offsets),
            _ => consumer.assign(&with_offsets),
        };
        if let Err(error) = outcome {
            self.inbox().over = Some(format!("{}: it cannot take its partitions: {error}", self.member));
            self.arrived.notify_all();
            return;
        }
        if self.is_paused.load(Ordering::Relaxed)
            && let Err(error) = consumer.pause(&with_offsets)
        {
            debug!(member = self.member, %error, "new partitions are not paused");
        }
        info!(member = self.member, partitions = positions.len(), "assigned");
        Figures::add(&self.figures.assigned, positions.len() as u64);
        let mut ownership = self.ownership();
        // Also where nothing came: the generation is another.
        ownership.metadata = consumer.group_metadata().map(Arc::new);
        self.figures.joined.store(true, Ordering::Relaxed);
        let mut inbox = self.inbox();
        for (partition, committed) in positions {
            ownership.assignments += 1;
            let owned = Owned { assignment: ownership.assignments, committed };
            ownership.partitions.insert(partition.clone(), owned);
            inbox.assign(partition, owned);
        }
        self.figures.owned.store(ownership.partitions.len() as u64, Ordering::Relaxed);
        drop(inbox);
        self.arrived.notify_all();
    }

    /// Lets partitions go. A transaction that is under way ends first; no other one begins with them.
    fn revoke(&self, consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
        let is_lost = consumer.assignment_lost();
        let gone: BTreeSet<Partition> = partitions
            .elements()
            .iter()
            .map(|entry| self.names.partition_of(entry.topic(), entry.partition()))
            .collect();
        let gone = if plant::has("revoke_ignored") { BTreeSet::new() } else { gone };
        let mut ownership = self.ownership();
        let gone: BTreeSet<Partition> =
            gone.into_iter().filter(|partition| ownership.partitions.remove(partition).is_some()).collect();
        self.inbox().forget(&gone);
        self.figures.owned.store(ownership.partitions.len() as u64, Ordering::Relaxed);
        if is_lost {
            // The group counts us out until it says again what is ours.
            self.figures.joined.store(false, Ordering::Relaxed);
        }
        drop(ownership);
        self.arrived.notify_all();
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
            _ => consumer.unassign(),
        };
        if let Err(error) = outcome {
            warn!(member = self.member, %error, "partitions are not given back");
        }
        info!(member = self.member, partitions = gone.len(), is_lost, "revoked");
        Figures::add(if is_lost { &self.figures.lost } else { &self.figures.revoked }, gone.len() as u64);
    }
}

/// Where librdkafka calls back.
pub struct Context(Arc<Shared>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::tell(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.count_attempts(&statistics);
        let mut lag = BTreeMap::new();
        // A transaction may be under way: then the next statistics will do.
        let Ok(ownership) = self.0.ownership.try_lock() else { return };
        for topic in statistics.topics.values() {
            // Librdkafka has one of its own too, with the number -1, for messages that have no partition yet.
            for partition in topic.partitions.values().filter(|partition| partition.partition >= 0) {
                let own = self.0.names.partition_of(&topic.topic, partition.partition);
                let Some(owned) = ownership.partitions.get(&own) else { continue };
                let given = self.0.inbox().end(&own);
                lag.insert(own, behind(partition, owned.committed, given));
            }
        }
        drop(ownership);
        self.0.figures.set_lag(lag);
    }
}

/// How far the group is behind in a partition of which records up to `given` came. Marks of transactions are no records,
/// though they have offsets: so where all that is there was taken, nothing is missing but what is not committed of that.
fn behind(partition: &statistics::Partition, committed: u64, given: Option<u64>) -> Lag {
    let count = |offset| u64::try_from(offset).unwrap_or_default();
    let (taken, end) = (count(partition.app_offset), count(partition.ls_offset));
    let given = given.unwrap_or(committed);
    let done = if given <= committed { taken.max(committed) } else { committed };
    Lag { records: end.saturating_sub(done), end: if taken < end { end } else { given } }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.0.assign(consumer, partitions),
            _ => self.0.revoke(consumer, partitions),
        }
    }
}
