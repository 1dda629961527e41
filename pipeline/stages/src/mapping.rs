//! Reads the parts of an event from a raw record: from constants, headers, the key or a place in a JSON value.

use std::borrow::Cow;

use killick_proof::encoding::from_base64url;
use serde::Deserialize;
use serde_json::Value;

use crate::envelope::{Envelope, Malformed};
use crate::record::{Micros, Record};

/// Where the parts of an event stand in a raw record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The tenant. Default: the source's `tenant`.
    pub tenant: Option<Place>,
    /// The device or producer. Default: the topic's name.
    pub source: Option<Place>,
    /// The idempotency key. Default: topic, partition and offset, as `topic/partition/offset`: then no copy is found.
    pub id: Option<Place>,
    /// The type. Default: empty.
    pub r#type: Option<Place>,
    /// The event's own time. Default: when the log took the record.
    pub time: Option<Place>,
    /// How `time` is written. Default `rfc3339`.
    pub time_format: TimeFormat,
    /// The public key of a signed event, 32 bytes or their base64url. Default: unsigned.
    pub key: Option<Place>,
    /// The signature of a signed event, 64 bytes or their base64url.
    pub signature: Option<Place>,
}

/// A place in a record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Place {
    /// The same text for every record.
    Constant(String),
    /// The last header of this name.
    Header(String),
    /// The record's key.
    Key,
    /// A place in the value, which then has to be JSON (RFC 6901): a text, or a whole number, which becomes its digits.
    Pointer(String),
}

/// How a time is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// As in RFC 3339, with a zone.
    #[default]
    Rfc3339,
    /// Whole seconds since 1970.
    S,
    /// Whole milliseconds since 1970.
    Ms,
    /// Whole microseconds since 1970.
    Us,
}

impl Mapping {
    /// Whether any part stands in a JSON value.
    fn wants_json(&self) -> bool {
        let places =
            [&self.tenant, &self.source, &self.id, &self.r#type, &self.time, &self.key, &self.signature];
        places.into_iter().flatten().any(|place| matches!(place, Place::Pointer(_)))
    }

    /// Reads the event of a raw record. Its payload is the whole value.
    ///
    /// # Errors
    /// [`Malformed`]: a place that is empty, or whose content cannot be what it is for.
    pub fn read<'a>(&'a self, record: &'a Record) -> Result<Envelope<'a>, Malformed> {
        let json: Value = if self.wants_json() {
            serde_json::from_slice(&record.value).map_err(|error| Malformed::new("value", error))?
        } else {
            Value::Null
        };
        let finder = Finder { record, json };
        let text = |part: &'static str, place: &'a Option<Place>| {
            place.as_ref().map(|place| finder.text(part, place)).transpose()
        };
        let time = match text("time", &self.time)? {
            Some(time) => self.time_format.read(&time)?,
            None => record.append_time,
        };
        Ok(Envelope {
            tenant: text("tenant", &self.tenant)?,
            source: text("source", &self.source)?.unwrap_or(Cow::Borrowed(record.partition.topic.as_str())),
            id: match text("id", &self.id)? {
                Some(id) => id,
                None => format!("{}/{}", record.partition, record.offset).into(),
            },
            time,
            kind: text("type", &self.r#type)?.unwrap_or_default(),
            payload: Cow::Borrowed(&record.value),
            key: self.key.as_ref().map(|place| finder.bytes("key", place)).transpose()?,
            signature: self.signature.as_ref().map(|place| finder.bytes("signature", place)).transpose()?,
        })
    }
}

struct Finder<'a> {
    record: &'a Record,
    json: Value,
}

impl<'a> Finder<'a> {
    fn text(&self, part: &'static str, place: &'a Place) -> Result<Cow<'a, str>, Malformed> {
        let utf8 = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed::new(part, "not UTF-8"))
        };
        match place {
            Place::Constant(text) => Ok(Cow::Borrowed(text)),
            Place::Key => utf8(&self.record.key),
            Place::Header(name) => match self.record.header(name) {
                Some(value) => utf8(value),
                None => Err(Malformed::new(part, format_args!("no header {name:?}"))),
            },
            Place::Pointer(pointer) => match self.json.pointer(pointer) {
                Some(Value::String(text)) => Ok(Cow::Owned(text.clone())),
                Some(Value::Number(number)) if !number.is_f64() => Ok(Cow::Owned(number.to_string())),
                Some(_) => {
                    Err(Malformed::new(part, format_args!("neither text nor whole number at {pointer:?}")))
                }
                None => Err(Malformed::new(part, format_args!("nothing at {pointer:?}"))),
            },
        }
    }

    /// `N` bytes as they are, or as base64url.
    fn bytes<const N: usize>(&self, part: &'static str, place: &'a Place) -> Result<[u8; N], Malformed> {
        let raw = match place {
            Place::Key => Some(&*self.record.key),
            Place::Header(name) => self.record.header(name),
            Place::Constant(_) | Place::Pointer(_) => None,
        };
        if let Some(bytes) = raw.and_then(|raw| <[u8; N]>::try_from(raw).ok()) {
            return Ok(bytes);
        }
        let decoded =
            from_base64url(&self.text(part, place)?).map_err(|error| Malformed::new(part, error))?;
        <[u8; N]>::try_from(decoded)
            .map_err(|other| Malformed::new(part, format_args!("{} bytes, not {N}", other.len())))
    }
}

impl TimeFormat {
    fn read(self, text: &str) -> Result<Micros, Malformed> {
        let factor = match self {
            Self::Rfc3339 => return crate::envelope::rfc3339(text),
            Self::S => 1_000_000,
            Self::Ms => 1_000,
            Self::Us => 1,
        };
        let whole = text.parse::<i64>().map_err(|error| Malformed::new("time", error))?;
        whole.checked_mul(factor).ok_or_else(|| Malformed::new("time", "out of range"))
    }
}
