//! Where events come from: a topic, how its records are read, and what is asked of them.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::mapping::Mapping;
use crate::span::Span;

/// One input topic of ingest: a `[[source]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The topic. Each topic has one source.
    pub topic: String,
    /// How a record becomes an event. Default `avro`.
    #[serde(default)]
    pub decoder: Decoder,
    /// For `avro` and `raw`: what stands before a value. Default `bare`.
    #[serde(default)]
    pub framing: Framing,
    /// For `avro`: a file with the schema that all values are written by, whatever id they name. A relative path begins at
    /// the configuration's folder. Default: the schema is the registry's; without a registry it is our own envelope's.
    #[serde(default)]
    pub schema_file: Option<PathBuf>,
    /// What that file holds: whoever reads the configuration puts it here.
    #[serde(skip)]
    pub schema: Option<Box<str>>,
    /// For `avro` and `raw`: where the parts of an event are found. An `avro` source without one has our own envelopes.
    #[serde(default)]
    pub mapping: Option<Mapping>,
    /// The tenant of events that name none; an event that names another is rejected. Default: each event names its own.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Whether events without a signature are taken; their tenant then needs a secret. Default `reject`.
    #[serde(default)]
    pub unsigned: Unsigned,
    /// How long before the log's time an event's own time may lie; `off` for history that is imported. Default 24 h.
    /// With `ahead`, at most dedup's window: an older copy is stale, a younger one is found.
    #[serde(default)]
    pub freshness: Freshness,
    /// How long after the log's time an event's own time may lie, unless `freshness` is `off`. Default 10 min.
    #[serde(default = "ahead")]
    pub ahead: Span,
    /// Whose clock the times of this topic's records are from. Default `log`.
    #[serde(default)]
    pub timestamps: Timestamps,
    /// Bytes in the longest payload. 1 to 1,000,000; default 262,144.
    #[serde(default = "max_payload")]
    pub max_payload: usize,
}

fn ahead() -> Span {
    Span::secs(600)
}

fn max_payload() -> usize {
    256 << 10
}

/// Bytes in the longest payload that a source may allow: what a log takes as one record.
pub const PAYLOAD_LIMIT: usize = 1_000_000;

impl Source {
    /// A source of our own envelopes, with the defaults.
    pub fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            decoder: Decoder::default(),
            framing: Framing::default(),
            schema_file: None,
            schema: None,
            mapping: None,
            tenant: None,
            unsigned: Unsigned::default(),
            freshness: Freshness::default(),
            ahead: ahead(),
            timestamps: Timestamps::default(),
            max_payload: max_payload(),
        }
    }
}

/// How a record becomes an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// Avro: our own envelope (`schemas/avro/event.avsc`), or with a mapping any schema.
    #[default]
    Avro,
    /// CloudEvents 1.0, binary and structured; the record itself says which.
    CloudEvents,
    /// Any bytes: the record's value is the payload, and the mapping says the rest.
    Raw,
}

/// What stands before a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Nothing.
    #[default]
    Bare,
    /// What schema registries want there: a zero byte and four bytes of schema id; or nothing, and the id is in the header
    /// `__value_schema_id`.
    Registry,
}

/// What becomes of events without a signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsigned {
    /// They are rejected.
    #[default]
    Reject,
    /// They are accepted.
    Accept,
}

/// Whose clock the times of a topic's records are from: freshness goes by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// The log's, which stamps each record when it takes it. A topic that leaves that to its producers is refused.
    #[default]
    Log,
    /// Its producers', which are trusted with it: they can make an old event look fresh.
    Producer,
}

/// How old an event may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// However old.
    Off,
    /// At most so much older than the log's time.
    Within(Span),
}

impl Default for Freshness {
    fn default() -> Self {
        Self::Within(Span::secs(24 * 3_600))
    }
}

impl<'de> Deserialize<'de> for Freshness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::Within).map_err(serde::de::Error::custom),
        }
    }
}
