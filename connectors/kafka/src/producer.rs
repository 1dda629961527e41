//! Appends records from outside, and ticks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use killick_stages::ports::{LogError, Producer};
use killick_stages::record::{Output, Partition};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use crate::client::{self, client_config, failed};
use crate::message;
use crate::names::Names;
use crate::settings::Settings;

/// How long brokers may take for a record; after that it may or may not be there.
const DELIVERY: Duration = Duration::from_secs(10);

/// A producer whose records count only when all replicas that have to have them have them. Cheap to share.
pub struct KafkaProducer {
    config: ClientConfig,
    names: Names,
    max_record: usize,
    /// One that met a fatal error takes nothing more, and one that was told once that its cluster has no brokers never asks
    /// anyone again: after either the next call makes another.
    producer: Mutex<Option<Arc<ThreadedProducer<Context>>>>,
}

impl KafkaProducer {
    /// A producer; `name` tells it apart in the brokers' logs. It connects when it is first needed.
    ///
    /// # Errors
    /// [`LogError::Failed`] if the settings cannot work.
    pub fn open(settings: &Settings, name: &str) -> Result<Self, LogError> {
        let mut config = client_config(settings, name).map_err(failed)?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("linger.ms", "1")
            .set("compression.type", settings.compression.to_string())
            .set("queue.buffering.max.kbytes", "65536");
        let names = Names::new(&settings.prefix);
        Ok(Self { config, names, max_record: settings.max_record, producer: Mutex::default() })
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<ThreadedProducer<Context>>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn producer(&self) -> Result<Arc<ThreadedProducer<Context>>, LogError> {
        let mut current = self.current();
        if let Some(producer) = current.as_ref().filter(|producer| producer.client().fatal_error().is_none())
        {
            return Ok(Arc::clone(producer));
        }
        let context = Context { names: self.names.clone() };
        let producer = Arc::new(self.config.create_with_context(context).map_err(failed)?);
        *current = Some(Arc::clone(&producer));
        Ok(producer)
    }
}

impl Producer for KafkaProducer {
    fn produce(&self, outputs: &[Output]) -> Result<(), LogError> {
        for output in outputs {
            let (size, limit) = (message::size(output), self.max_record);
            if size > limit {
                return Err(LogError::TooLarge { partition: output.partition.clone(), size, limit });
            }
        }
        let producer = self.producer()?;
        let outcome = self.give(&producer, outputs);
        if matches!(outcome, Err(LogError::Failed(_))) {
            self.current().take_if(|current| Arc::ptr_eq(current, &producer));
        }
        outcome
    }
}

impl KafkaProducer {
    /// Gives the records to the brokers, and waits until they have all of them, or one not in time.
    fn give(&self, producer: &ThreadedProducer<Context>, outputs: &[Output]) -> Result<(), LogError> {
        let wait = Arc::new(Wait::default());
        let deadline = Instant::now() + DELIVERY + Duration::from_secs(1);
        for output in outputs {
            let topic = self.names.topic(output.partition.topic.as_str());
            wait.lock().open += 1;
            let mut record = message::to_send(output, None, &topic, Arc::clone(&wait));
            loop {
                record = match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record))
                        if Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(1));
                        record
                    }
                    Err((error, _)) => {
                        wait.done(Err(what_failed(&error, &output.partition)));
                        return wait.all(deadline);
                    }
                };
            }
        }
        wait.all(deadline)
    }
}

fn what_failed(error: &KafkaError, partition: &Partition) -> LogError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition,
        ) => LogError::Unknown(partition.clone()),
        _ => client::failed_at(format_args!("a record for {partition}"), error),
    }
}

/// The records of one call.
#[derive(Default)]
pub struct Wait {
    records: Mutex<Records>,
    changed: Condvar,
}

#[derive(Default)]
struct Records {
    open: usize,
    failed: Option<LogError>,
}

impl Wait {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, outcome: Result<(), LogError>) {
        let mut records = self.lock();
        records.open = records.open.saturating_sub(1);
        if let Err(error) = outcome {
            records.failed.get_or_insert(error);
        }
        if records.open == 0 {
            self.changed.notify_all();
        }
    }

    fn all(&self, deadline: Instant) -> Result<(), LogError> {
        let mut records = self.lock();
        while records.open > 0 {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(failed("the brokers did not say in time whether they took the records"));
            }
            records = self.changed.wait_timeout(records, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        records.failed.take().map_or(Ok(()), Err)
    }
}

/// Where librdkafka calls back.
struct Context {
    names: Names,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::tell(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Wait>;

    fn delivery(&self, result: &DeliveryResult<'_>, wait: Arc<Wait>) {
        wait.done(match result {
            Ok(_) => Ok(()),
            Err((error, message)) => {
                let partition = self.names.partition_of(message.topic(), message.partition());
                Err(what_failed(error, &partition))
            }
        });
    }
}
