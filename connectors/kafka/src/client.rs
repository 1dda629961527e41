//! Clients of the brokers: their configuration, and what they log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use killick_stages::record::Partition;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Broker, Statistics};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{debug, error, warn};

use crate::names::Names;
use crate::settings::{Settings, SettingsError};

/// How long one question to the brokers may take; whoever needs the answer asks again.
pub const ASK: Duration = Duration::from_secs(5);

/// What every client is told: the brokers, and who we are. `name` tells clients apart in the brokers' logs.
///
/// # Errors
/// [`SettingsError`] if the settings make no sense or a file that they name cannot be read.
pub fn client_config(settings: &Settings, name: &str) -> Result<ClientConfig, SettingsError> {
    settings.check()?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", name)
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "2000")
        .set("message.max.bytes", settings.max_record.to_string())
        .set("receive.message.max.bytes", "200000000");
    settings.security.configure(&mut config)?;
    config.set_log_level(RDKafkaLogLevel::Info);
    Ok(config)
}

/// What consumers are told beside it.
pub fn consumer_config(settings: &Settings, name: &str, group: &str) -> Result<ClientConfig, SettingsError> {
    let mut config = client_config(settings, name)?;
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("queued.max.messages.kbytes", "16384")
        .set("queued.min.messages", "10000")
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.message.max.bytes", settings.max_record.max(1 << 20).to_string())
        .set("fetch.wait.max.ms", "100")
        .set("statistics.interval.ms", "1000");
    Ok(config)
}

/// A client that only logs.
#[derive(Debug, Clone, Default)]
pub struct Plain;

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Plain {}

/// Passes on what librdkafka logs, under its own name.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(target: "librdkafka", facility, "{message}");
        }
        // A lost connection: comes as an error, too.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if facility == "FAIL" => {
            debug!(target: "librdkafka", facility, "{message}");
        }
        // It tries again by itself, and says so at this level: what comes of it is told by whoever waits.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            warn!(target: "librdkafka", facility, "{message}")
        }
        _ => debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Tells of an error that belongs to no call.
pub fn tell(error: &KafkaError, reason: &str) {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::PartitionEOF) => {}
        // Every client of this process says so of every connection, many times a second; this one names no address.
        Some(Code::AllBrokersDown) => debug!(target: "librdkafka", %error, "{reason}"),
        Some(Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) => match AWAY.next() {
            Some(0) => warn!(target: "librdkafka", "waiting for a broker: {reason}"),
            Some(more) => warn!(target: "librdkafka", more, "waiting for a broker: {reason}"),
            None => debug!(target: "librdkafka", %error, "{reason}"),
        },
        _ => warn!(target: "librdkafka", %error, "{reason}"),
    }
}

/// How often a client has tried to connect; `None` where it is connected, or about to be.
pub fn attempts(statistics: &Statistics) -> Option<i64> {
    let is_idle = |broker: &Broker| matches!(broker.state.as_str(), "INIT" | "DOWN" | "TRY_CONNECT");
    let mut attempts = 0_i64;
    for broker in statistics.brokers.values() {
        if !is_idle(broker) {
            return None;
        }
        attempts = attempts.saturating_add(broker.connects.unwrap_or(0));
    }
    Some(attempts)
}

/// Whether an error is about connections and not about what is asked.
pub fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut)
    )
}

/// Connections that are lost.
static AWAY: Seldom = Seldom(Mutex::new((None, 0)));

/// Lets through one of many that say the same: the first, and then one in ten seconds.
struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// How many were held back since the last one, if this one is let through.
    fn next(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, held) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(10)) {
            *held += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(held))
    }
}

/// An error that may pass.
pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LogError {
    LogError::Failed(error.into())
}

/// An error that may pass, with what was tried.
pub fn failed_at(what: impl std::fmt::Display, error: &KafkaError) -> LogError {
    failed(format!("{what}: {error}"))
}

/// A partition's number as librdkafka writes it.
pub fn number(partition: &Partition) -> i32 {
    // A topic has far fewer partitions; a number beyond is no partition's, and is refused as such.
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}

/// An offset as librdkafka writes it.
pub fn offset(offset: u64) -> Result<Offset, LogError> {
    i64::try_from(offset).map(Offset::Offset).map_err(failed)
}

/// A list of partitions without offsets.
pub fn list<'a>(names: &Names, partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&names.topic(partition.topic.as_str()), number(partition));
    }
    list
}

/// The number of partitions of a topic at the brokers; none if there is no such topic.
pub fn partition_count<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    name: &str,
) -> Result<Option<u32>, LogError> {
    let metadata = consumer
        .fetch_metadata(Some(name), ASK)
        .map_err(|error| failed_at(format_args!("the partitions of {name}"), &error))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => Ok(u32::try_from(topic.partitions().len()).ok()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(error) => Err(failed(format!("the partitions of {name}: {error}"))),
    }
}
