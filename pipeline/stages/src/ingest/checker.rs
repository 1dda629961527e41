//! What becomes of a record: a function of the record, the configuration and the schemas that are known.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use killick_proof::Hash;
use killick_proof::hash::{HmacSha256, Sha256Each, tag_each};
use killick_proof::statement::{Attestation, Event, Statement, Unsalted};

use super::{Config, ConfigError};
use crate::deployment::{Deployment, logs_of};
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

/// Says of each record alone what becomes of it.
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
        self.check_all(std::slice::from_ref(record), schemas).pop().expect("one record, one verdict")
    }

    /// The verdict on each of these records. Hashes of one kind are computed together: many cost less so.
    pub fn check_all(&self, records: &[Record], schemas: &Schemas) -> Vec<Verdict> {
        let read: Vec<_> = records.iter().map(|record| self.read(record, schemas)).collect();
        let mut digests = Vec::with_capacity(records.len());
        let mut hashing = Sha256Each::new(|hash| digests.push(Hash::new(hash)));
        read.iter().flatten().for_each(|read| hashing.add(&[&read.envelope.payload]));
        hashing.finish();
        let names = read.iter().flatten().map(Read::names);
        let mut hashes = digests.into_iter().zip(logs_of(names, self.deployment.logs()));

        let state = |read: &Result<Read<'_>, Verdict>| {
            let read = read.as_ref().map_err(Verdict::clone)?;
            let (digest, log) = hashes.next().expect("what was read has its hashes");
            self.state(read, digest, log)
        };
        let stated: Vec<_> = read.iter().map(state).collect();
        let unsalted = stated.iter().flatten().filter_map(|(_, stated)| match stated {
            Stated::Signed(_) => None,
            Stated::Unsigned(statement, hmac) => Some((*hmac, statement.event())),
        });
        let mut tags = Vec::with_capacity(records.len());
        tag_each(unsalted, |tag| tags.push(tag));

        let mut tags = tags.into_iter();
        let verdict = |stated: Result<(u32, Stated<'_>), Verdict>| {
            let (log, stated) = stated?;
            let statement = match stated {
                Stated::Signed(statement) => statement,
                Stated::Unsigned(statement, _) => {
                    let tag = tags.next().expect("what lacks its salt has its tag");
                    statement.encode(tag.first_chunk().expect("a tag of HMAC-SHA-256 has 32 bytes"))
                }
            };
            Ok(Verdict::Accepted { log, statement: statement.into() })
        };
        stated.into_iter().map(verdict).map(|verdict| verdict.unwrap_or_else(|refused| refused)).collect()
    }

    /// What a record says, as it says it.
    fn read<'r>(&'r self, record: &'r Record, schemas: &'r Schemas) -> Result<Read<'r>, Verdict> {
        let spread = record.partition.number % self.deployment.logs();
        let Some((source, form)) = self.sources.get(record.partition.topic.as_str()) else {
            return Err(rejected(spread, (Code::Malformed, "the topic has no source".to_owned())));
        };
        check_size(source, record).map_err(|reason| rejected(spread, reason))?;
        let mut envelope = form.read(record, schemas).map_err(|unread| match unread {
            Unread::Awaits(id) => Verdict::Awaits(id),
            Unread::Malformed(error) => rejected(spread, (Code::Malformed, error.to_string())),
            Unread::Missing(id) => {
                rejected(spread, (Code::UnknownSchema, format!("the registry has no schema {id}")))
            }
            Unread::Unfit(id, why) => {
                let why = Malformed::new("schema", format_args!("{id}: {why}"));
                rejected(spread, (Code::UnfitSchema, why.to_string()))
            }
        })?;
        let tenant = tenant_of(source, envelope.tenant.take()).map_err(|reason| rejected(spread, reason))?;
        Ok(Read { source, tenant, envelope, at: record.append_time, spread })
    }

    /// The statement of an event and its log, if it is well-formed and keeps the rules of its source.
    fn state(&self, read: &Read<'_>, digest: Hash, log: u32) -> Result<(u32, Stated<'_>), Verdict> {
        let Read { source, envelope, at, .. } = read;
        let [tenant, by, id] = read.names();
        let event = Event { tenant, source: by, id, time: envelope.time, kind: &envelope.kind, digest };
        event.check().map_err(|error| rejected(read.spread, (Code::Malformed, error.to_string())))?;
        let stated = self.attest(source, event, envelope, *at).map_err(|reason| rejected(log, reason))?;
        Ok((log, stated))
    }

    fn attest(
        &self,
        source: &Source,
        event: Event<'_>,
        envelope: &Envelope<'_>,
        at: Micros,
    ) -> Result<Stated<'_>, Reason> {
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
                Ok(Stated::Signed(statement.encode().map_err(|error| malformed(&error))?))
            }
            (None, None) => {
                if source.unsigned == Unsigned::Reject {
                    return Err((Code::Unsigned, "the source takes signed events only".to_owned()));
                }
                let hmac = self.secrets.get(event.tenant).ok_or_else(|| {
                    (Code::Tenant, format!("unsigned, and tenant {} has no secret", event.tenant))
                })?;
                Ok(Stated::Unsigned(event.unsalted().map_err(|error| malformed(&error))?, hmac))
            }
            (Some(_), None) => Err((Code::Malformed, "a key without a signature".to_owned())),
            (None, Some(_)) => Err((Code::Malformed, "a signature without a key".to_owned())),
        }
    }
}

/// What a record says, of which only the tenant is checked.
struct Read<'r> {
    source: &'r Source,
    tenant: Cow<'r, str>,
    envelope: Envelope<'r>,
    at: Micros,
    /// The log of what cannot be said to be anyone's.
    spread: u32,
}

impl Read<'_> {
    /// Tenant, source and id.
    fn names(&self) -> [&str; 3] {
        [&self.tenant, &self.envelope.source, &self.envelope.id]
    }
}

/// What is accepted.
enum Stated<'c> {
    /// Its statement.
    Signed(Vec<u8>),
    /// Its statement but for the salt, and what makes that.
    Unsigned(Unsalted, &'c HmacSha256),
}

fn rejected(log: u32, (code, why): Reason) -> Verdict {
    Verdict::Rejected { log, code, why: why.into_boxed_str() }
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
fn tenant_of<'a>(source: &'a Source, named: Option<Cow<'a, str>>) -> Result<Cow<'a, str>, Reason> {
    match (&source.tenant, named) {
        (Some(only), Some(named)) if *only != named => {
            Err((Code::Tenant, format!("the source takes events of tenant {only} only")))
        }
        (_, Some(named)) => Ok(named),
        (Some(only), None) => Ok(only.into()),
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
