//! What librdkafka tells of a producer: deliveries, and what gives reason to doubt.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use tracing::warn;

use crate::client::{self, failed};
use crate::names::Names;
use crate::transactor::too_large;

/// How long librdkafka waits before it sends a request again, in milliseconds; it takes a fifth off or adds it.
pub const RETRY_MILLIS: u64 = 400;
/// A call that takes longer gives reason to doubt: a request of it may have been sent twice. It is less than any wait
/// before a second copy, so no second copy goes unnoticed: what librdkafka tells of by itself comes later than the next
/// transaction begins.
const SLOW: Duration = Duration::from_millis(RETRY_MILLIS * 3 / 4);

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
    /// Another transaction begins.
    pub fn begin(&self) {
        *self.deliveries.lock().unwrap_or_else(PoisonError::into_inner) = Deliveries::default();
    }

    /// So many more records were sent.
    pub fn expect(&self, count: usize) {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).expected += count;
    }

    /// Waits until all that was sent is delivered.
    pub fn wait(&self, deadline: Instant) -> Result<(), LogError> {
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
    pub fn took(&self, span: Duration) {
        if span > SLOW {
            self.doubt("a slow commit");
        }
    }

    /// Why to doubt, if there is reason to; told once.
    pub fn take_doubt(&self) -> Option<String> {
        if !self.is_doubtful.swap(false, Ordering::Acquire) {
            return None;
        }
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where librdkafka calls back.
pub struct Context {
    /// Who is told.
    pub watch: Arc<Watch>,
    /// What topics are called.
    pub names: Names,
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
