//! Ingest: turns records of any source into statements, and rejects what it cannot vouch for.
//!
//! Reads `events` and whatever topics the sources name, writes `accepted` (partition: the log of the event) and
//! `rejected`. State: none.
//! Guarantees exactly one verdict an event: accepted, or rejected with a reason. A signed event is accepted only if its
//! signature is right under a key that counted for its device when the log took it. What is not accepted does not stop
//! the rest.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use killick_proof::Algorithm;
use killick_proof::statement::{Attestation, Event, Statement};
use serde::Deserialize;
use sha2::Sha256;

use crate::deployment::Deployment;
use crate::devices::{Device, Devices, EnrolError, Unfit};
use crate::envelope::{self, Envelope, Malformed};
use crate::frame::{AcceptedEvent, AcceptedFrame, MAX_FRAME};
use crate::record::{Micros, Output, Partition, Record};
use crate::rejected::{self, Code};
use crate::route::ACCEPTED;
use crate::source::{Decoder, Freshness, PAYLOAD_LIMIT, Source, Unsigned};
use crate::stage::{Answer, Halt, Part, Request, Stage, Tally};

/// What ingest takes, from where, and from whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The input topics: `[[source]]`.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// The keys of devices: `[[device]]`.
    #[serde(rename = "device")]
    pub devices: Vec<Device>,
    /// What is kept of tenants: `[tenant.NAME]`. Only tenants that send unsigned events need an entry.
    #[serde(rename = "tenant")]
    pub tenants: BTreeMap<String, Tenant>,
}

/// What is kept of a tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// From this the salt of unsigned events is made: nobody else may know it, and it never changes. 16 bytes or more.
    pub secret: Secret,
}

/// A text that is printed as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One topic, two sources.
    #[error("topic `{0}` has two sources")]
    TopicTwice(String),
    /// A bound that no payload or no log could keep.
    #[error("max_payload of `{topic}` is {found}; it is 1 to {PAYLOAD_LIMIT}")]
    MaxPayload {
        /// The source's topic.
        topic: String,
        /// What was configured.
        found: usize,
    },
    /// A secret that can be guessed.
    #[error("the secret of tenant `{0}` has fewer than 16 bytes")]
    ShortSecret(String),
    /// A key that cannot be enrolled.
    #[error(transparent)]
    Device(#[from] EnrolError),
}

/// What ingest says about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is an event.
    Accepted {
        /// The event's log.
        log: u32,
        /// The statement's CBOR.
        statement: Bytes,
    },
    /// It is not let through.
    Rejected {
        /// The event's log, where the record names an event; else spread by its partition.
        log: u32,
        /// The reason, for machines.
        code: Code,
        /// The reason, for people.
        why: Box<str>,
    },
}

/// Says of each record alone what becomes of it: shells may ask on several threads at once.
#[derive(Debug)]
pub struct Checker {
    deployment: Deployment,
    sources: HashMap<Box<str>, Source>,
    devices: Devices,
    secrets: HashMap<Box<str>, Hmac<Sha256>>,
}

/// A reason before it is known whose event it concerns.
type Reason = (Code, String);

impl Checker {
    /// A checker for these sources, devices and tenants.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config) -> Result<Self, ConfigError> {
        let mut sources = HashMap::new();
        for source in &config.sources {
            if !(1..=PAYLOAD_LIMIT).contains(&source.max_payload) {
                return Err(ConfigError::MaxPayload {
                    topic: source.topic.clone(),
                    found: source.max_payload,
                });
            }
            if sources.insert(source.topic.as_str().into(), source.clone()).is_some() {
                return Err(ConfigError::TopicTwice(source.topic.clone()));
            }
        }
        let mut secrets = HashMap::new();
        for (name, tenant) in &config.tenants {
            let secret = tenant.secret.0.as_bytes();
            if secret.len() < 16 {
                return Err(ConfigError::ShortSecret(name.clone()));
            }
            let hmac = Hmac::new_from_slice(secret).expect("HMAC takes a key of any length");
            secrets.insert(name.as_str().into(), hmac);
        }
        let devices = Devices::enrol(&config.devices)?;
        Ok(Self { deployment: deployment.clone(), sources, devices, secrets })
    }

    /// The verdict on a record: a function of the record and the configuration.
    pub fn check(&self, record: &Record) -> Verdict {
        let spread = record.partition.number % self.deployment.logs();
        let rejected = |log, (code, why): Reason| Verdict::Rejected { log, code, why: why.into_boxed_str() };
        let Some(source) = self.sources.get(record.partition.topic.as_str()) else {
            return rejected(spread, (Code::Malformed, "the topic has no source".to_owned()));
        };
        let envelope = match read(source, record) {
            Ok(envelope) => envelope,
            Err(reason) => return rejected(spread, reason),
        };
        let tenant = match tenant_of(source, &envelope) {
            Ok(tenant) => tenant,
            Err(reason) => return rejected(spread, reason),
        };
        let digest = Algorithm::Sha256.digest(&envelope.payload);
        let event = Event {
            tenant,
            source: &envelope.source,
            id: &envelope.id,
            time: envelope.time,
            kind: &envelope.kind,
            digest,
        };
        if let Err(error) = event.check() {
            return rejected(spread, (Code::Malformed, error.to_string()));
        }
        let log = self.deployment.log_of(event.tenant, event.source, event.id);
        match self.state(source, event, &envelope, record.append_time) {
            Ok(statement) => Verdict::Accepted { log, statement },
            Err(reason) => rejected(log, reason),
        }
    }

    /// The statement of a well-formed event, if it keeps the rules of its source.
    fn state(
        &self,
        source: &Source,
        event: Event<'_>,
        envelope: &Envelope<'_>,
        at: Micros,
    ) -> Result<Bytes, Reason> {
        if envelope.payload.len() > source.max_payload {
            return Err(too_large(envelope.payload.len(), source));
        }
        check_freshness(source, event.time, at)?;
        let malformed = |error: &dyn fmt::Display| (Code::Malformed, error.to_string());
        let encode = |attestation| {
            let mut out = Vec::with_capacity(320);
            Statement { event, attestation }.encode_into(&mut out).map_err(|error| malformed(&error))?;
            Ok(Bytes::from(out))
        };
        match (&envelope.key, &envelope.signature) {
            (Some(key), Some(signature)) => {
                let known = self.devices.find(event.tenant, event.source, key, at).map_err(unfit)?;
                let attestation = Attestation::Signed { key, signature };
                Statement { event, attestation }
                    .verify_with(known)
                    .map_err(|error| (Code::WrongSignature, error.to_string()))?;
                encode(attestation)
            }
            (None, None) => {
                if source.unsigned == Unsigned::Reject {
                    return Err((Code::Unsigned, "the source takes signed events only".to_owned()));
                }
                let hmac = self.secrets.get(event.tenant).ok_or_else(|| {
                    (Code::Tenant, format!("unsigned, and tenant {} has no secret", event.tenant))
                })?;
                let claims = event.encode().map_err(|error| malformed(&error))?;
                let tag = hmac.clone().chain_update(&claims).finalize().into_bytes();
                let salt = tag.first_chunk().expect("a tag of HMAC-SHA-256 has 32 bytes");
                encode(Attestation::Unsigned { salt })
            }
            (Some(_), None) => Err((Code::Malformed, "a key without a signature".to_owned())),
            (None, Some(_)) => Err((Code::Malformed, "a signature without a key".to_owned())),
        }
    }
}

/// Reads a record in the form of its source.
fn read<'a>(source: &'a Source, record: &'a Record) -> Result<Envelope<'a>, Reason> {
    // No form makes a payload smaller than half of its record, but for the attributes.
    if record.value.len() > 2 * source.max_payload + (64 << 10) {
        return Err(too_large(record.value.len(), source));
    }
    match source.decoder {
        Decoder::Avro => envelope::read(record, source.framing),
        Decoder::CloudEvents => crate::cloudevents::read(record),
        Decoder::Raw => source.mapping.read(record),
    }
    .map_err(|error: Malformed| (Code::Malformed, error.to_string()))
}

fn too_large(size: usize, source: &Source) -> Reason {
    (Code::TooLarge, format!("{size} bytes; the source takes payloads of {}", source.max_payload))
}

/// The tenant that the event or its source names.
fn tenant_of<'a>(source: &'a Source, envelope: &'a Envelope<'_>) -> Result<&'a str, Reason> {
    match (&source.tenant, envelope.tenant.as_deref()) {
        (Some(only), Some(named)) if only != named => {
            Err((Code::Tenant, format!("the source takes events of tenant {only} only")))
        }
        (_, Some(named)) => Ok(named),
        (Some(only), None) => Ok(only),
        (None, None) => Err((Code::Tenant, "neither the event nor its source names a tenant".to_owned())),
    }
}

fn check_freshness(source: &Source, time: Micros, at: Micros) -> Result<(), Reason> {
    let Freshness::Within(span) = source.freshness else { return Ok(()) };
    let age = at.saturating_sub(time);
    let seconds = age.unsigned_abs() / 1_000_000;
    if age > span.micros() {
        Err((Code::Stale, format!("{seconds} s older than the log's time; the source takes {span}")))
    } else if age < -source.ahead.micros() {
        Err((Code::Future, format!("{seconds} s ahead of the log's time; the source takes {}", source.ahead)))
    } else {
        Ok(())
    }
}

fn unfit(unfit: Unfit) -> Reason {
    match unfit {
        Unfit::Unknown => (Code::UnknownKey, "the key is not known for this tenant and source".to_owned()),
        Unfit::Weak(error) => (Code::WeakKey, error.to_string()),
        Unfit::NotYet { from } => (Code::EarlyKey, format!("the key counts from {from} µs on")),
        Unfit::Revoked { until } => (Code::RevokedKey, format!("the key counted until {until} µs")),
    }
}

/// The stage.
#[derive(Debug)]
pub struct Ingest {
    checker: Arc<Checker>,
    /// What came of each input partition since the last commit.
    open: BTreeMap<Partition, Open>,
    held: usize,
}

#[derive(Debug, Default)]
struct Open {
    /// Statements, by log.
    logs: BTreeMap<u32, Gathered>,
    tally: Tally,
}

#[derive(Debug)]
struct Gathered {
    frame: AcceptedFrame,
    bytes: usize,
}

impl Ingest {
    /// The stage for these sources, devices and tenants.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config) -> Result<Self, ConfigError> {
        let checker = Arc::new(Checker::new(deployment, config)?);
        Ok(Self { checker, open: BTreeMap::new(), held: 0 })
    }

    /// What says the verdicts: to be asked in parallel, with the verdicts given to [`Ingest::step_checked`] in order.
    pub fn checker(&self) -> Arc<Checker> {
        Arc::clone(&self.checker)
    }

    /// [`Stage::step`] with the verdict that [`Checker::check`] gave on this record.
    pub fn step_checked(&mut self, record: &Record, verdict: Verdict, out: &mut Part) {
        match verdict {
            Verdict::Accepted { log, statement } => self.gather(record, log, statement, out),
            Verdict::Rejected { log, code, why } => {
                self.open.entry(record.partition.clone()).or_default().tally.rejected += 1;
                out.outputs.push(rejected::record(record, "ingest", code, &why, log));
            }
        }
        out.through = Some(record.offset + 1);
    }

    fn gather(&mut self, record: &Record, log: u32, statement: Bytes, out: &mut Part) {
        let open = self.open.entry(record.partition.clone()).or_default();
        open.tally.passed.add(&statement);
        let gathered = open.logs.entry(log).or_insert_with(|| Gathered {
            frame: AcceptedFrame {
                topic: record.partition.topic.as_str().into(),
                partition: record.partition.number,
                events: Vec::new(),
            },
            bytes: 0,
        });
        gathered.bytes += statement.len();
        self.held += statement.len();
        gathered.frame.events.push(AcceptedEvent { offset: record.offset, statement });
        if gathered.bytes >= MAX_FRAME {
            self.held -= gathered.bytes;
            gathered.bytes = 0;
            out.outputs.push(accepted(log, &gathered.frame));
            gathered.frame.events.clear();
        }
    }
}

fn accepted(log: u32, frame: &AcceptedFrame) -> Output {
    Output::new(Partition::new(ACCEPTED, log), Bytes::new(), frame.encode())
}

impl Stage for Ingest {
    fn assign(&mut self, _: &Partition, _: u64) {}

    fn restore_since(&self, now: Micros) -> Option<Micros> {
        Some(now)
    }

    fn restore(&mut self, _: &Record) -> Result<(), Halt> {
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        for gathered in self.open.remove(partition).into_iter().flat_map(|open| open.logs.into_values()) {
            self.held -= gathered.bytes;
        }
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let verdict = self.checker.check(record);
        self.step_checked(record, verdict, out);
        Ok(())
    }

    fn seal(&mut self, partition: &Partition, out: &mut Part) -> Result<(), Halt> {
        let Some(open) = self.open.get_mut(partition) else { return Ok(()) };
        for (log, gathered) in std::mem::take(&mut open.logs) {
            self.held -= gathered.bytes;
            if !gathered.frame.events.is_empty() {
                out.outputs.push(accepted(log, &gathered.frame));
            }
        }
        Ok(())
    }

    fn tally(&mut self, partition: &Partition) -> Tally {
        self.open.get_mut(partition).map(|open| std::mem::take(&mut open.tally)).unwrap_or_default()
    }

    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        None
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        Vec::new()
    }

    fn answer(&mut self, _: &Partition, _: Answer, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests;
