//! Transactions, and what becomes of them when there is a doubt.
//!
//! Each transaction commits, beside every input offset, a token that no other one has. After an error, or after any
//! sign that a request may have been sent twice, the producer is thrown away: the next one's start ends whatever the old
//! one left, and then the tokens say for certain whether the transaction is in the log. That closes the hole which
//! KIP-890 closes for clients that have it: a late copy of one transaction's end that ends the next one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use killick_stages::record::{Output, Partition};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::util::Timeout;
use tracing::{debug, info, warn};

use crate::client::{self, failed};
use crate::figures::Figures;
use crate::message;
use crate::names::Names;
use crate::plant;

/// How long librdkafka waits before it sends a request again, in milliseconds; it takes a fifth off or adds it.
pub const RETRY_MILLIS: u64 = 400;
/// A call that takes longer gives reason to doubt: a request of it may have been sent twice. It is less than any wait
/// before a second copy, so no second copy goes unnoticed: what librdkafka tells of by itself comes later than the next
/// transaction begins.
const SLOW: Duration = Duration::from_millis(RETRY_MILLIS * 3 / 4);
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
    /// The group's generation in which these partitions are ours.
    pub metadata: &'a ConsumerGroupMetadata,
    /// Whether the group has taken the partitions away.
    pub is_lost: &'a dyn Fn() -> bool,
    /// Reads back what the group has.
    pub committed: ReadBack<'a>,
}

/// Reads back what the group has in these partitions.
type ReadBack<'a> = &'a dyn Fn(&BTreeMap<Partition, u64>) -> Result<Committed, LogError>;

/// The producer of one worker.
pub struct Transactor {
    config: ClientConfig,
    names: Names,
    id: String,
    timeout: Duration,
    /// What tells the tokens of this process from those of others in its slot.
    nonce: u64,
    count: u64,
    producer: Option<(ThreadedProducer<Context>, Arc<Watch>)>,
    /// What the last transaction committed, until it is beyond doubt.
    last: Option<(String, BTreeMap<Partition, u64>)>,
    figures: Arc<Figures>,
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
            figures,
        }
    }

    /// Makes a transaction durable, or leaves nothing of it behind.
    pub fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), LogError> {
        self.settle(transaction)?;
        let token = format!("{}/{:016x}/{}", self.id, self.nonce, self.count);
        self.count += 1;
        let begun = Instant::now();
        if plant::has("offsets_first") {
            let _ = self.attempt(
                &Transaction { outputs: Vec::new(), offsets: transaction.offsets.clone(), ..*transaction },
                &token,
            );
            plant::point("after_offsets_first");
        }
        let outcome = self.attempt(transaction, &token);
        let took = begun.elapsed();
        match outcome {
            Ok(()) => {
                Figures::add(&self.figures.commits, 1);
                Figures::add(
                    &self.figures.commit_micros,
                    u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                );
                self.last = Some((token, transaction.offsets.clone()));
                Ok(())
            }
            Err(_) if plant::has("errors_ignored") => Ok(()),
            Err(Failed::Fenced) => {
                Figures::add(&self.figures.aborts, 1);
                self.discard();
                let partition = transaction.offsets.keys().next().cloned();
                Err(partition.map_or_else(|| failed("the slot is another worker's"), LogError::Lost))
            }
            Err(Failed::Not(error)) => {
                Figures::add(&self.figures.aborts, 1);
                self.discard();
                Err(error)
            }
            Err(Failed::Unknown(error)) => {
                info!(worker = self.id, %error, ?took, "a commit of which nobody knows; asking the group");
                self.discard();
                // The next producer's start ends what this one left: then the group's offsets are final.
                self.producer()?;
                let found = (transaction.committed)(&transaction.offsets)?;
                match holds(&found, &token, &transaction.offsets) {
                    Some(true) => {
                        Figures::add(&self.figures.commits, 1);
                        self.last = None;
                        Ok(())
                    }
                    Some(false) => {
                        Figures::add(&self.figures.aborts, 1);
                        Err(error)
                    }
                    None => Err(torn(&token)),
                }
            }
        }
    }

    /// Partitions that went are others' word.
    pub fn forget(&mut self, partition: &Partition) {
        if let Some((_, offsets)) = &mut self.last {
            offsets.remove(partition);
        }
    }

    /// Clears up a doubt about what was committed before.
    fn settle(&mut self, transaction: &Transaction<'_>) -> Result<(), LogError> {
        let doubt = self.producer.as_ref().and_then(|(_, watch)| watch.take_doubt());
        let Some(why) = doubt.filter(|_| !plant::has("doubt_ignored")) else { return Ok(()) };
        debug!(worker = self.id, why, "a doubt; taking another producer");
        self.discard();
        self.producer()?;
        let Some((token, offsets)) = self.last.clone().filter(|(_, offsets)| !offsets.is_empty()) else {
            return Ok(());
        };
        let found = (transaction.committed)(&offsets)?;
        match holds(&found, &token, &offsets) {
            Some(true) => {
                self.last = None;
                Ok(())
            }
            // What was told to be durable is not: what is in memory rests on it, and has to go.
            Some(false) => Err(LogError::Over(format!(
                "the transaction {token} was committed and is not in the log: the next start does its work again"
            ))),
            None => Err(torn(&token)),
        }
    }

    fn attempt(&mut self, transaction: &Transaction<'_>, token: &str) -> Result<(), Failed> {
        let offsets = self.offsets(&transaction.offsets, token).map_err(Failed::Not)?;
        let (names, timeout) = (self.names.clone(), self.timeout);
        let (producer, watch) = self.producer().map_err(Failed::Not)?;
        watch.begin();
        plant::point("before_begin");
        let not = |error: KafkaError| Failed::Not(failed(error));
        producer.begin_transaction().map_err(not)?;
        let deadline = Instant::now() + timeout;
        for output in &transaction.outputs {
            send(producer, watch, &names, output, deadline).map_err(Failed::Not)?;
        }
        plant::point("after_send");
        // The commit waits for deliveries in steps of 100 ms; this waits for the last one. Before the offsets: as long as
        // the brokers still end the transaction before this one, records wait a little, but a request for offsets is sent
        // again, much later, and as if there were a doubt.
        watch.wait(deadline).map_err(Failed::Not)?;
        while producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
        let metadata = transaction.metadata;
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
        if (transaction.is_lost)() {
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

    fn offsets(
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
    fn producer(&mut self) -> Result<&(ThreadedProducer<Context>, Arc<Watch>), LogError> {
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
    fn discard(&mut self) {
        let Some((producer, _)) = self.producer.take() else { return };
        Figures::add(&self.figures.rebuilds, 1);
        // What is in flight would hold up the abort: it is void.
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        if let Err(error) = producer.abort_transaction(Duration::from_secs(1)) {
            debug!(worker = self.id, %error, "the transaction is left to the next producer");
        }
    }
}

/// Whether the group has what a transaction committed: all of it, nothing, or a part of it.
fn holds(found: &Committed, token: &str, offsets: &BTreeMap<Partition, u64>) -> Option<bool> {
    let has = |(partition, next): (&Partition, &u64)| {
        found.get(partition).is_some_and(|(offset, text)| offset == next && text == token)
    };
    let held = offsets.iter().filter(|entry| has(*entry)).count();
    match held {
        0 => Some(false),
        all if all == offsets.len() => Some(true),
        _ => None,
    }
}

fn torn(token: &str) -> LogError {
    LogError::Damaged(format!(
        "the transaction {token} is in the log in part: stop the stage and run `killick audit` to see what is missing"
    ))
}

fn send(
    producer: &ThreadedProducer<Context>,
    watch: &Watch,
    names: &Names,
    output: &Output,
    deadline: Instant,
) -> Result<(), LogError> {
    let topic = names.topic(output.partition.topic.as_str());
    watch.expect(1);
    let mut record = message::to_send(output, &topic, ());
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
fn too_large(partition: &Partition, size: usize) -> LogError {
    LogError::TooLarge { partition: partition.clone(), size, limit: size.saturating_sub(1) }
}

/// What is known of deliveries, and what gives reason to doubt.
#[derive(Default)]
pub struct Watch {
    deliveries: Mutex<Deliveries>,
    delivered: Condvar,
    is_doubtful: AtomicBool,
    doubt: Mutex<Option<String>>,
    retries: AtomicI64,
}

#[derive(Default)]
struct Deliveries {
    expected: usize,
    done: usize,
    failed: Option<LogError>,
}

impl Watch {
    fn begin(&self) {
        *self.deliveries.lock().unwrap_or_else(PoisonError::into_inner) = Deliveries::default();
    }

    fn expect(&self, count: usize) {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).expected += count;
    }

    /// Waits until all that was sent is delivered.
    fn wait(&self, deadline: Instant) -> Result<(), LogError> {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(error) = deliveries.failed.take() {
                return Err(error);
            }
            if deliveries.done >= deliveries.expected {
                return Ok(());
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(failed("the brokers did not take the records in time"));
            }
            deliveries =
                self.delivered.wait_timeout(deliveries, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn doubt(&self, why: &str) {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_owned());
        self.is_doubtful.store(true, Ordering::Release);
    }

    /// A call that offsets or the end of a transaction went out with took so long.
    fn took(&self, span: Duration) {
        if span > SLOW {
            self.doubt("a slow commit");
        }
    }

    fn take_doubt(&self) -> Option<String> {
        if !self.is_doubtful.swap(false, Ordering::Acquire) {
            return None;
        }
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where librdkafka calls back.
pub struct Context {
    watch: Arc<Watch>,
    names: Names,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::tell(&error, reason);
        self.watch.doubt(reason);
    }

    fn stats(&self, statistics: Statistics) {
        let retries: i64 = statistics
            .brokers
            .values()
            .map(|broker| {
                i64::try_from(broker.req_timeouts).unwrap_or_default()
                    + i64::try_from(broker.txretries).unwrap_or_default()
            })
            .sum();
        if self.watch.retries.swap(retries, Ordering::Relaxed) < retries {
            self.watch.doubt("requests were sent again");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut deliveries = self.watch.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        deliveries.done += 1;
        if let Err((error, message)) = result {
            let partition = self.names.partition_of(message.topic(), message.partition());
            let error = match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition,
                ) => LogError::Unknown(partition),
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    too_large(&partition, message.payload_len() + message.key_len())
                }
                _ => client::failed_at(format_args!("a record for {partition}"), error),
            };
            if deliveries.failed.is_none() {
                warn!(%error, "a record was not taken");
                deliveries.failed = Some(error);
            }
        }
        let is_over = deliveries.done >= deliveries.expected || deliveries.failed.is_some();
        drop(deliveries);
        if is_over {
            self.watch.delivered.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_copy_of_a_request_goes_out_before_its_call_is_in_doubt() {
        // Librdkafka takes up to a fifth off the pause before it sends a request again.
        assert!(SLOW < Duration::from_millis(RETRY_MILLIS) * 4 / 5);
        let watch = Watch::default();
        watch.took(SLOW);
        assert_eq!(watch.take_doubt(), None);
        watch.took(Duration::from_millis(RETRY_MILLIS) * 4 / 5);
        assert!(watch.take_doubt().is_some());
        assert_eq!(watch.take_doubt(), None);
    }
}
