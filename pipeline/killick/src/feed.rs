//! Gives events to the log of this process, and says when they are accepted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use killick_embedded::EmbeddedLog;
use killick_proof::signature::SecretKey;
use killick_stages::envelope;
use killick_stages::ports::{LogError, Producer};
use killick_stages::record::{Header, Output, Partition, Topic};
use killick_stages::route;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::counters::Counters;
use crate::input::{Bad, Event};
use crate::site::INPUT_PARTITIONS;

/// Events that are accepted together: so many share one durable write.
pub const TOGETHER: usize = 1_024;
/// Bytes of them: large payloads go in smaller company.
const BYTES_TOGETHER: usize = 4 << 20;
/// Records that may wait for ingest before the feed does: the log need not hold the whole input twice.
const AHEAD: u64 = 50_000;

/// Makes records of an input topic.
#[derive(Clone)]
pub struct Form {
    topic: Topic,
    tenant: String,
    logs: u32,
}

/// Gathers records and gives them to the log.
pub struct Feed {
    log: EmbeddedLog,
    topic: Topic,
    counters: Arc<Counters>,
    stop: CancellationToken,
    waiting: Vec<Output>,
    bytes: usize,
    given: u64,
}

impl Form {
    /// Records of `topic`; a tenant's events go to the partition of their source. What is no event goes to `rejected`, which
    /// has a partition for each of the `logs`.
    pub fn new(topic: &'static str, tenant: &str, logs: u32) -> Self {
        Self { topic: topic.into(), tenant: tenant.to_owned(), logs }
    }

    /// An event, signed by its device if there is a key.
    ///
    /// # Errors
    /// No statement can be made of it.
    pub fn event(&self, event: &Event, key: Option<&SecretKey>) -> Result<Output> {
        let signed = match key {
            Some(key) => Some((key.public(), key.sign(&event.statement(&self.tenant).signing_bytes()?))),
            None => None,
        };
        let envelope = envelope::Event {
            tenant: &self.tenant,
            source: &event.source,
            id: &event.id,
            time: event.time,
            kind: &event.kind,
            payload: &event.payload,
            signed: signed.as_ref().map(|(key, signature)| (key.as_bytes(), signature)),
        };
        let partition = route_of(event.source.as_bytes());
        Ok(Output::new(Partition::new(self.topic.clone(), partition), Bytes::new(), envelope.encode()))
    }

    /// A structured CloudEvent as it stands.
    pub fn cloud_event(&self, value: Bytes) -> Output {
        let partition = Partition::new(self.topic.clone(), route_of(&value));
        let mut output = Output::new(partition, Bytes::new(), value);
        let content_type = Bytes::from_static(b"application/cloudevents+json; charset=UTF-8");
        output.headers.push(Header { name: "content-type".into(), value: content_type });
        output
    }

    /// What is no event, with its reason: a record of `rejected`.
    pub fn bad(&self, input: &str, bad: &Bad) -> Output {
        warn!(input, line = bad.line, reason = bad.reason, "no event; kept in `rejected`");
        bad.rejected(input, u32::try_from(bad.line % u64::from(self.logs)).unwrap_or(0))
    }
}

impl Feed {
    /// A feed of records that `form` makes.
    pub fn new(log: EmbeddedLog, form: &Form, counters: Arc<Counters>, stop: CancellationToken) -> Self {
        Self { log, topic: form.topic.clone(), counters, stop, waiting: Vec::new(), bytes: 0, given: 0 }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// As for [`Feed::flush`].
    pub fn add(&mut self, output: Output) -> Result<()> {
        if output.partition.topic != self.topic {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes += output.value.len();
        self.waiting.push(output);
        if self.waiting.len() >= TOGETHER || self.bytes >= BYTES_TOGETHER {
            self.flush().map(drop)
        } else {
            Ok(())
        }
    }

    /// Makes everything added durable; returns how many items were accepted since the feed began.
    ///
    /// # Errors
    /// The log takes nothing any more, or the site stops.
    pub fn flush(&mut self) -> Result<u64> {
        let mut pause = Duration::from_millis(50);
        while !self.waiting.is_empty() {
            self.make_room()?;
            match self.log.produce(&self.waiting) {
                Ok(()) => {
                    self.given += self.waiting.len() as u64;
                    self.counters.events.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
                    self.waiting.clear();
                    self.bytes = 0;
                }
                Err(error @ LogError::Failed(_)) => {
                    warn!(%error, ?pause, "the log takes nothing; trying again");
                    self.pause(pause)?;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(LogError::TooLarge { size, limit, .. }) if self.waiting.len() > 1 => {
                    bail!("an event of {size} bytes is more than the {limit} that the log takes")
                }
                Err(error) => return Err(error).context("the input cannot be accepted"),
            }
        }
        Ok(self.given)
    }

    /// How many items were accepted since the feed began.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Waits while ingest is far behind.
    fn make_room(&self) -> Result<()> {
        loop {
            let mut lag = 0;
            for partition in self.log.partitions(self.topic.as_str()) {
                let (start, end) = self.log.range(&partition)?;
                lag += end - self.log.committed("ingest", &partition)?.unwrap_or(start).max(start);
            }
            if lag < AHEAD {
                return Ok(());
            }
            self.pause(Duration::from_millis(5))?;
        }
    }

    fn pause(&self, so_long: Duration) -> Result<()> {
        std::thread::sleep(so_long);
        if self.stop.is_cancelled() {
            bail!("the pipeline stopped before all input was accepted")
        } else {
            Ok(())
        }
    }
}

/// Which partition of the input a source's events go to: they stay in order.
fn route_of(source: &[u8]) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(source) % u64::from(INPUT_PARTITIONS)) as u32
}

/// The topic of events that this process takes in itself.
pub const TOPIC: &str = route::EVENTS;
