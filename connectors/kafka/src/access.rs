//! Rights at the brokers: found out by trying, with requests that leave nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, Plain, client_config, consumer_config};
use crate::link::Link;
use crate::settings::Settings;
use crate::topics::{Finding, TopicsError, Weight, tool};

/// How long the brokers have to answer.
const PATIENCE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(50);

/// A right that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// The option of `kafka-acls` that names the resource.
    resource: &'static str,
    name: String,
    operation: &'static str,
}

impl Acl {
    pub fn topic(operation: &'static str, name: &str) -> Self {
        Self { resource: "topic", name: name.to_owned(), operation }
    }

    pub fn group(operation: &'static str, name: &str) -> Self {
        Self { resource: "group", name: name.to_owned(), operation }
    }

    pub fn transactional_id(operation: &'static str, name: &str) -> Self {
        Self { resource: "transactional-id", name: name.to_owned(), operation }
    }
}

/// What is to be said of rights that we have not got: one finding for each topic, group or id.
pub fn missing(settings: &Settings, mut rights: Vec<Acl>) -> Vec<Finding> {
    rights.sort();
    rights.dedup();
    let who = principal(settings);
    let of_one = rights.chunk_by(|one, next| (one.resource, &one.name) == (next.resource, &next.name));
    of_one
        .map(|rights| {
            let Acl { resource, name, .. } = &rights[0];
            let mut operations: Vec<_> = rights.iter().map(|right| right.operation).collect();
            // Both of them let us describe too.
            if operations.iter().any(|operation| ["Read", "Write"].contains(operation)) {
                operations.retain(|operation| *operation != "Describe");
            }
            let options: String =
                operations.iter().map(|operation| format!(" --operation {operation}")).collect();
            let operations = operations.join(" and ");
            Finding {
                about: format!("{} {name}", resource.replace('-', " ")),
                found: format!("{who} has no right to {operations}"),
                wanted: format!("an ACL that allows {operations}"),
                remedy: format!(
                    "{} --add --allow-principal '{who}'{options} --{resource} {name}",
                    tool(settings, "kafka-acls")
                ),
                weight: Weight::Breaks,
                fix: None,
            }
        })
        .collect()
}

/// Who we are to the brokers.
pub fn principal(settings: &Settings) -> String {
    match (&settings.security.username, &settings.security.certificate_file) {
        (Some(name), _) => format!("User:{name}"),
        (None, Some(_)) => "User:<the subject of certificate_file>".to_owned(),
        (None, None) => "User:ANONYMOUS".to_owned(),
    }
}

/// Which rights a group lacks to read these topics, given with the numbers of their partitions.
pub fn readable(link: &Link, group: &str, topics: &[(String, u32)]) -> Result<Vec<Acl>, TopicsError> {
    let failed = |error| link.failed(format_args!("the rights of group {group}"), error);
    let mut config = consumer_config(&link.settings, group, group)?;
    config
        .set("statistics.interval.ms", "0")
        // So long a commit waits for a coordinator that it will not find.
        .set("session.timeout.ms", "6000")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true");
    let consumer: Arc<BaseConsumer<Plain>> = Arc::new(config.create_with_context(Plain).map_err(failed)?);
    let (mut rights, mut may_commit) = (Vec::new(), true);
    for (topic, _) in topics {
        if !fetch(&consumer, topic, &mut may_commit).map_err(failed)? {
            rights.push(Acl::topic("Read", topic));
        }
    }
    if may_commit {
        // A topic that is not there will do: the group's right comes first.
        let (topic, partitions) = topics.first().map_or((group, 0), |(topic, count)| (topic, *count));
        may_commit = commit(&consumer, topic, partitions).map_err(failed)?;
    }
    if !may_commit {
        rights.push(Acl::group("Read", group));
    }
    Ok(rights)
}

/// Whether a topic may be read: tried at its end. `may_commit` tells whether the group was refused meanwhile.
fn fetch(consumer: &BaseConsumer<Plain>, topic: &str, may_commit: &mut bool) -> Result<bool, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End)?;
    consumer.assign(&list)?;
    let deadline = Instant::now() + PATIENCE;
    let may_read = loop {
        match consumer.poll(POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break true,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::GroupAuthorizationFailed) => *may_commit = false,
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => break false,
                // Of the connection: tried again.
                _ => {}
            },
            None => {}
        }
        if Instant::now() > deadline {
            return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
        }
    };
    consumer.unassign()?;
    Ok(may_read)
}

/// Whether the group may commit: tried with the partition behind the last one, which is refused in any case, but first
/// for the lack of the right.
fn commit(consumer: &Arc<BaseConsumer<Plain>>, topic: &str, partitions: u32) -> Result<bool, KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, i32::try_from(partitions).unwrap_or(i32::MAX), Offset::Offset(0))?;
    // It knows no deadline of its own, and another way to hear of its end does not work.
    let (tell, told) = mpsc::channel();
    let sender = Arc::clone(consumer);
    std::thread::spawn(move || tell.send(sender.commit(&list, CommitMode::Sync)));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let code = match consumer.poll(POLL) {
            // A group of which we may know nothing is refused before the commit is sent.
            Some(Err(error)) => error.rdkafka_error_code(),
            _ => None,
        };
        if code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            return Ok(false);
        }
        match told.try_recv() {
            Ok(Err(error)) => {
                let code = error.rdkafka_error_code();
                return Ok(code != Some(RDKafkaErrorCode::GroupAuthorizationFailed));
            }
            Ok(Ok(())) => return Ok(true),
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut)),
        }
    }
}

/// Which rights we lack to write to these topics.
///
/// Sends a record that wants to be acknowledged by two replicas, which no broker knows how to do; but first it looks
/// whether we may write at all.
pub fn writable(link: &Link, topics: &BTreeSet<String>) -> Result<Vec<Acl>, TopicsError> {
    let failed = |error| link.failed("the rights to write", error);
    let mut config = client_config(&link.settings, &link.names.group("preflight"))?;
    config
        .set("acks", "2")
        .set("enable.idempotence", "false")
        .set("retries", "0")
        .set("linger.ms", "0")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string());
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(Deliveries::default()).map_err(failed)?;
    for topic in topics {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(b"");
        if let Err((error, _)) = producer.send(record) {
            producer.context().hear(topic, &error);
        }
    }
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(1);
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(POLL);
    }
    let codes = producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let denied = codes.iter().filter(|(_, code)| **code == RDKafkaErrorCode::TopicAuthorizationFailed);
    Ok(denied.map(|(topic, _)| Acl::topic("Write", topic)).collect())
}

/// What is wrong with a worker's transactions, found out by starting a producer of its name. That ends what another one
/// of that name has open: so it is for whoever is about to start that worker.
pub fn transacts(link: &Link, id: &str) -> Result<Result<(), Denied>, TopicsError> {
    let mut config = client_config(&link.settings, id)?;
    config.set("transactional.id", id).set("transaction.timeout.ms", "15000");
    let producer: BaseProducer =
        config.create().map_err(|error| link.failed(format_args!("a producer for {id}"), error))?;
    Ok(match producer.init_transactions(PATIENCE) {
        Ok(()) => Ok(()),
        Err(error) if is_denied(&error) => Err(Denied::Right(Acl::transactional_id("Write", id))),
        Err(error) => Err(Denied::Other(Finding {
            about: format!("transactional id {id}"),
            found: format!("its transactions do not start: {error}"),
            wanted: format!("a transaction coordinator that answers within {PATIENCE:?}"),
            remedy: "do all brokers run? on few of them, their transaction.state.log.replication.factor and \
                     transaction.state.log.min.isr have to be at most their number"
                .to_owned(),
            weight: Weight::Breaks,
            fix: None,
        })),
    })
}

/// Why transactions do not start.
pub enum Denied {
    Right(Acl),
    Other(Finding),
}

fn is_denied(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed)
}

/// What came of records, by topic.
#[derive(Default)]
struct Deliveries(Mutex<BTreeMap<String, RDKafkaErrorCode>>);

impl Deliveries {
    fn hear(&self, topic: &str, error: &KafkaError) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), code);
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::tell(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.hear(message.topic(), error);
        }
    }
}
