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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, record, with_headers};

    fn mapping(json: serde_json::Value) -> Mapping {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn without_a_mapping_the_place_in_the_log_names_the_event() {
        let record = record("lines", 3, 41, NOW, "21.5");
        let mapping = Mapping::default();
        let envelope = mapping.read(&record).unwrap();
        assert_eq!((&*envelope.source, &*envelope.id, envelope.time), ("lines", "lines/3/41", NOW));
        assert_eq!((envelope.tenant, &*envelope.payload, envelope.key), (None, &b"21.5"[..], None));
    }

    #[test]
    fn each_part_is_read_from_its_place() {
        let mut record = record("lines", 0, 0, NOW, r#"{"id": 7, "at": {"ms": -1500}, "kind": "a/b~c"}"#);
        record.key = "pump-1".into();
        let record = with_headers(record, &[("tenant", b"old"), ("tenant", b"acme"), ("sig", &[7; 64])]);
        let key = "A".repeat(43);
        let mapping = mapping(serde_json::json!({
            "tenant": {"header": "tenant"}, "source": "key", "id": {"pointer": "/id"}, "type": {"pointer": "/kind"},
            "time": {"pointer": "/at/ms"}, "time_format": "ms", "key": {"constant": key}, "signature": {"header": "sig"},
        }));
        let envelope = mapping.read(&record).unwrap();
        assert_eq!(envelope.tenant.as_deref(), Some("acme"));
        assert_eq!((&*envelope.source, &*envelope.id, &*envelope.kind), ("pump-1", "7", "a/b~c"));
        assert_eq!(
            (envelope.time, envelope.key, envelope.signature),
            (-1_500_000, Some([0; 32]), Some([7; 64]))
        );
        assert_eq!(envelope.payload, &*record.value);
    }

    #[test]
    fn a_place_with_nothing_fit_is_malformed() {
        let record =
            with_headers(record("lines", 0, 0, NOW, r#"{"x": 1.5, "y": [], "t": "1e3"}"#), &[("h", b"\xff")]);
        for (part, place) in [
            ("id", serde_json::json!({"pointer": "/none"})),
            ("id", serde_json::json!({"pointer": "/x"})),
            ("id", serde_json::json!({"pointer": "/y"})),
            ("id", serde_json::json!({"header": "none"})),
            ("id", serde_json::json!({"header": "h"})),
            ("time", serde_json::json!({"pointer": "/t"})),
            ("key", serde_json::json!({"constant": "AAAA"})),
            ("key", serde_json::json!({"header": "h"})),
        ] {
            let mut all = serde_json::json!({"time_format": "us"});
            all[part] = place.clone();
            assert_eq!(mapping(all).read(&record).unwrap_err().part, part, "{place}");
        }
    }

    #[test]
    fn a_value_that_is_no_json_matters_only_to_pointers() {
        let record = record("lines", 0, 0, NOW, "a,b\n");
        assert!(Mapping::default().read(&record).is_ok());
        let pointed = mapping(serde_json::json!({"id": {"pointer": "/id"}}));
        assert_eq!(pointed.read(&record).unwrap_err().part, "value");
    }

    #[test]
    fn times_that_do_not_fit_are_malformed() {
        assert_eq!(TimeFormat::S.read("-5"), Ok(-5_000_000));
        assert_eq!(TimeFormat::Us.read("5"), Ok(5));
        assert!(TimeFormat::S.read("9223372036854775807").is_err());
        assert!(TimeFormat::Ms.read("5.0").is_err());
    }
}
