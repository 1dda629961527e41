//! What becomes of a record: a function of the record, the configuration and the schemas that are known.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use killick_proof::Algorithm;
use killick_proof::hash::HmacSha256;
use killick_proof::statement::{Attestation, Event, Statement};

use super::{Config, ConfigError};
use crate::deployment::Deployment;
use crate::devices::{Devices, Unfit};
use crate::envelope::{Envelope, Malformed};
use crate::form::{Form, Unread};
use crate::record::{Micros, Record};
use crate::registry::{SchemaId, Schemas};
use crate::rejected::Code;
use crate::source::{Freshness, PAYLOAD_LIMIT, Source, Unsigned};

/// Headers of a record that are looked at: more than any producer needs.
const MAX_HEADERS: usize = 256;
/// Bytes of their names and values.
const MAX_HEADER_BYTES: usize = 128 << 10;

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
    /// Nobody can say before the schema of this id is known.
    Awaits(SchemaId),
}

/// Says of each record alone what becomes of it: shells may ask on several threads at once.
#[derive(Debug)]
pub struct Checker {
    deployment: Deployment,
    sources: HashMap<Box<str>, (Source, Form)>,
    devices: Devices,
    secrets: HashMap<Box<str>, HmacSha256>,
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
            let form = Form::new(source, config.registry)
                .map_err(|why| ConfigError::Source { topic: source.topic.clone(), why })?;
            if sources.insert(source.topic.as_str().into(), (source.clone(), form)).is_some() {
                return Err(ConfigError::TopicTwice(source.topic.clone()));
            }
        }
        let mut secrets = HashMap::new();
        for (name, tenant) in &config.tenants {
            let secret = tenant.secret.0.as_bytes();
            if secret.len() < 16 {
                return Err(ConfigError::ShortSecret(name.clone()));
            }
            secrets.insert(name.as_str().into(), HmacSha256::new(secret));
        }
        let devices = Devices::enrol(&config.devices)?;
        Ok(Self { deployment: deployment.clone(), sources, devices, secrets })
    }

    /// The verdict on a record, given the schemas that are known.
    pub fn check(&self, record: &Record, schemas: &Schemas) -> Verdict {
        let spread = record.partition.number % self.deployment.logs();
        let rejected = |log, (code, why): Reason| Verdict::Rejected { log, code, why: why.into_boxed_str() };
        let Some((source, form)) = self.sources.get(record.partition.topic.as_str()) else {
            return rejected(spread, (Code::Malformed, "the topic has no source".to_owned()));
        };
        if let Err(reason) = check_size(source, record) {
            return rejected(spread, reason);
        }
        let envelope = match form.read(record, schemas) {
            Ok(envelope) => envelope,
            Err(Unread::Awaits(id)) => return Verdict::Awaits(id),
            Err(Unread::Malformed(error)) => return rejected(spread, (Code::Malformed, error.to_string())),
            Err(Unread::Missing(id)) => {
                return rejected(spread, (Code::UnknownSchema, format!("the registry has no schema {id}")));
            }
            Err(Unread::Unfit(id, why)) => {
                let why = Malformed::new("schema", format_args!("{id}: {why}"));
                return rejected(spread, (Code::UnfitSchema, why.to_string()));
            }
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
        match (&envelope.key, &envelope.signature) {
            (Some(key), Some(signature)) => {
                let known = self.devices.find(event.tenant, event.source, key, at).map_err(unfit)?;
                let attestation = Attestation::Signed { key, signature };
                let statement = Statement { event, attestation };
                statement.verify_with(known).map_err(|error| (Code::WrongSignature, error.to_string()))?;
                Ok(statement.encode().map_err(|error| malformed(&error))?.into())
            }
            (None, None) => {
                if source.unsigned == Unsigned::Reject {
                    return Err((Code::Unsigned, "the source takes signed events only".to_owned()));
                }
                let hmac = self.secrets.get(event.tenant).ok_or_else(|| {
                    (Code::Tenant, format!("unsigned, and tenant {} has no secret", event.tenant))
                })?;
                let salt = |claims: &[&[u8]]| {
                    *hmac.tag(claims).first_chunk().expect("a tag of HMAC-SHA-256 has 32 bytes")
                };
                Ok(event.encode_unsigned(salt).map_err(|error| malformed(&error))?.into())
            }
            (Some(_), None) => Err((Code::Malformed, "a key without a signature".to_owned())),
            (None, Some(_)) => Err((Code::Malformed, "a signature without a key".to_owned())),
        }
    }
}

/// Whether a record is small enough to be looked at.
fn check_size(source: &Source, record: &Record) -> Result<(), Reason> {
    // No form makes a payload smaller than half of its record, but for the attributes.
    if record.value.len() > 2 * source.max_payload + (64 << 10) {
        return Err(too_large(record.value.len(), source));
    }
    let count = record.headers.len();
    let bytes: usize = record.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let why =
            format!("{count} headers of {bytes} bytes; at most {MAX_HEADERS} of {MAX_HEADER_BYTES} are read");
        return Err((Code::TooLarge, why));
    }
    Ok(())
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
