//! Reads the parts of an event from a record of another kind: from constants, headers, the key, or a place in a value
//! that is JSON or Avro.

use std::borrow::Cow;

use killick_proof::encoding::from_base64url;
use serde::Deserialize;
use serde_json::Value;

use crate::avro::datum::{Pointer, Scalar, find};
use crate::avro::schema::{Schema, Unit};
use crate::envelope::{Envelope, Malformed};
use crate::record::{Micros, Record};

/// Where the parts of an event stand in a record that is no envelope of ours.
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
    /// How `time` is written, unless an Avro schema says it. Default `rfc3339`.
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
    /// A place in the value (RFC 6901), which has to be JSON, or Avro whose schema is known: a text, or a whole number,
    /// which becomes its digits. In Avro also an enum's symbol, a UUID, bytes that are UTF-8; unions are passed through.
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

/// A mapping made ready: its pointers are read once, and not for every record.
#[derive(Debug)]
pub(crate) struct Mapper {
    mapping: Mapping,
    /// The places in the value, in the order of [`Mapping::places`].
    pointers: [Option<Pointer>; PARTS],
}

/// Parts of an event that have a place.
const PARTS: usize = 7;

impl Mapping {
    /// Each part with its place, in the order of [`Part`].
    fn places(&self) -> [(&'static str, &Option<Place>); PARTS] {
        [
            ("tenant", &self.tenant),
            ("source", &self.source),
            ("id", &self.id),
            ("type", &self.r#type),
            ("time", &self.time),
            ("key", &self.key),
            ("signature", &self.signature),
        ]
    }
}

/// A part's number.
#[derive(Clone, Copy)]
enum Part {
    Tenant,
    Source,
    Id,
    Type,
    Time,
    Key,
    Signature,
}

impl Mapper {
    /// Makes a mapping ready.
    ///
    /// # Errors
    /// A pointer that is none: which, and why.
    pub(crate) fn new(mapping: &Mapping) -> Result<Self, String> {
        let mut pointers = [const { None }; PARTS];
        for (pointer, (part, place)) in pointers.iter_mut().zip(mapping.places()) {
            if let Some(Place::Pointer(text)) = place {
                let read =
                    Pointer::parse(text).map_err(|error| format!("mapping {part}: {text:?}: {error}"))?;
                *pointer = Some(read);
            }
        }
        Ok(Self { mapping: mapping.clone(), pointers })
    }

    /// Whether each pointer can lead to a value in data of `schema`.
    ///
    /// # Errors
    /// One that cannot.
    pub(crate) fn check(&self, schema: &Schema) -> Result<(), String> {
        for (pointer, (part, place)) in self.pointers.iter().zip(self.mapping.places()) {
            if let (Some(pointer), Some(Place::Pointer(text))) = (pointer, place)
                && !pointer.leads_to_a_value(schema)
            {
                return Err(format!("mapping {part}: the schema has no value at {text:?}"));
            }
        }
        Ok(())
    }

    /// Reads the event of a record whose `body` is JSON, if a pointer wants it. Its payload is the record's whole value.
    ///
    /// # Errors
    /// [`Malformed`]: a place that is empty, or whose content cannot be what it is for.
    pub(crate) fn read<'a>(&'a self, record: &'a Record, body: &[u8]) -> Result<Envelope<'a>, Malformed> {
        let wants_json = self.pointers.iter().any(Option::is_some);
        let json: Value = if wants_json {
            serde_json::from_slice(body).map_err(|error| Malformed::new("value", error))?
        } else {
            Value::Null
        };
        self.map(&Finder { record, body: Body::Json(json) })
    }

    /// Reads the event of a record that is a datum of `schema`. Its payload is the record's whole value.
    ///
    /// # Errors
    /// [`Malformed`], also where the datum is none of this schema.
    pub(crate) fn read_avro<'a>(
        &'a self,
        record: &'a Record,
        schema: &'a Schema,
        datum: &'a [u8],
    ) -> Result<Envelope<'a>, Malformed> {
        let found = find(schema, datum, self.pointers.each_ref().map(Option::as_ref))
            .map_err(|error| Malformed::new("value", error))?;
        self.map(&Finder { record, body: Body::Avro(found) })
    }

    fn map<'a>(&'a self, finder: &Finder<'a>) -> Result<Envelope<'a>, Malformed> {
        let (record, places) = (finder.record, self.mapping.places());
        let text = |part: Part| {
            let (name, place) = places[part as usize];
            place.as_ref().map(|place| finder.text(name, part, place)).transpose()
        };
        let time = match &self.mapping.time {
            Some(place) => finder.time(place, self.mapping.time_format)?,
            None => record.append_time,
        };
        let (key, signature) = (&self.mapping.key, &self.mapping.signature);
        Ok(Envelope {
            tenant: text(Part::Tenant)?,
            source: text(Part::Source)?.unwrap_or(Cow::Borrowed(record.partition.topic.as_str())),
            id: match text(Part::Id)? {
                Some(id) => id,
                None => format!("{}/{}", record.partition, record.offset).into(),
            },
            time,
            kind: text(Part::Type)?.unwrap_or_default(),
            payload: Cow::Borrowed(&record.value),
            key: key.as_ref().map(|place| finder.bytes("key", Part::Key, place)).transpose()?,
            signature: signature
                .as_ref()
                .map(|place| finder.bytes("signature", Part::Signature, place))
                .transpose()?,
        })
    }
}

/// A record with what its pointers lead into.
struct Finder<'a> {
    record: &'a Record,
    body: Body<'a>,
}

enum Body<'a> {
    Json(Value),
    /// What stands at each part's pointer.
    Avro([Option<Scalar<'a>>; PARTS]),
}

impl<'a> Finder<'a> {
    fn text(&self, name: &'static str, part: Part, place: &'a Place) -> Result<Cow<'a, str>, Malformed> {
        let utf8 = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed::new(name, "not UTF-8"))
        };
        let pointer = match place {
            Place::Constant(text) => return Ok(Cow::Borrowed(text)),
            Place::Key => return utf8(&self.record.key),
            Place::Header(header) => match self.record.header(header) {
                Some(value) => return utf8(value),
                None => return Err(Malformed::new(name, format_args!("no header {header:?}"))),
            },
            Place::Pointer(pointer) => pointer,
        };
        let found = match &self.body {
            Body::Json(json) => json.pointer(pointer).map(|value| match value {
                Value::String(text) => Some(Cow::Owned(text.clone())),
                Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
                _ => None,
            }),
            Body::Avro(found) => match found[part as usize] {
                Some(Scalar::Bytes(bytes)) => return utf8(bytes),
                found => found.map(|value| match value {
                    Scalar::Text(text) => Some(Cow::Borrowed(text)),
                    Scalar::Number(number, _) => Some(Cow::Owned(number.to_string())),
                    Scalar::Uuid(bytes) => Some(Cow::Owned(uuid(bytes))),
                    Scalar::Bytes(_) | Scalar::Null | Scalar::Other => None,
                }),
            },
        };
        match found {
            Some(Some(text)) => Ok(text),
            Some(None) => {
                Err(Malformed::new(name, format_args!("neither text nor whole number at {pointer:?}")))
            }
            None => Err(Malformed::new(name, format_args!("nothing at {pointer:?}"))),
        }
    }

    /// A time in its format; an Avro schema that says what its numbers count is believed.
    fn time(&self, place: &'a Place, format: TimeFormat) -> Result<Micros, Malformed> {
        let counted = match (&self.body, place) {
            (Body::Avro(found), Place::Pointer(_)) => found[Part::Time as usize],
            _ => None,
        };
        let Some(Scalar::Number(number, Some(unit))) = counted else {
            return format.read(&self.text("time", Part::Time, place)?);
        };
        let micros = match unit {
            Unit::Millis => number.checked_mul(1_000),
            Unit::Micros => Some(number),
            Unit::Nanos => Some(number.div_euclid(1_000)),
        };
        micros.ok_or_else(|| Malformed::new("time", "out of range"))
    }

    /// `N` bytes as they are, or as base64url.
    fn bytes<const N: usize>(
        &self,
        name: &'static str,
        part: Part,
        place: &'a Place,
    ) -> Result<[u8; N], Malformed> {
        let raw = match (place, &self.body) {
            (Place::Key, _) => Some(&*self.record.key),
            (Place::Header(header), _) => self.record.header(header),
            (Place::Pointer(_), Body::Avro(found)) => match found[part as usize] {
                Some(Scalar::Bytes(bytes)) => Some(bytes),
                _ => None,
            },
            _ => None,
        };
        if let Some(bytes) = raw.and_then(|raw| <[u8; N]>::try_from(raw).ok()) {
            return Ok(bytes);
        }
        let decoded =
            from_base64url(&self.text(name, part, place)?).map_err(|error| Malformed::new(name, error))?;
        <[u8; N]>::try_from(decoded)
            .map_err(|other| Malformed::new(name, format_args!("{} bytes, not {N}", other.len())))
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

/// A UUID as it is written (RFC 9562, section 4).
pub(crate) fn uuid(bytes: &[u8; 16]) -> String {
    let digits = hex::encode(bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, record, with_headers};

    fn mapper(json: serde_json::Value) -> Mapper {
        Mapper::new(&serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn without_a_mapping_the_place_in_the_log_names_the_event() {
        let record = record("lines", 3, 41, NOW, "21.5");
        let mapper = mapper(serde_json::json!({}));
        let envelope = mapper.read(&record, &record.value).unwrap();
        assert_eq!((&*envelope.source, &*envelope.id, envelope.time), ("lines", "lines/3/41", NOW));
        assert_eq!((envelope.tenant, &*envelope.payload, envelope.key), (None, &b"21.5"[..], None));
    }

    #[test]
    fn each_part_is_read_from_its_place() {
        let mut record = record("lines", 0, 0, NOW, r#"{"id": 7, "at": {"ms": -1500}, "kind": "a/b~c"}"#);
        record.key = "pump-1".into();
        let record = with_headers(record, &[("tenant", b"old"), ("tenant", b"acme"), ("sig", &[7; 64])]);
        let key = "A".repeat(43);
        let mapper = mapper(serde_json::json!({
            "tenant": {"header": "tenant"}, "source": "key", "id": {"pointer": "/id"}, "type": {"pointer": "/kind"},
            "time": {"pointer": "/at/ms"}, "time_format": "ms", "key": {"constant": key}, "signature": {"header": "sig"},
        }));
        let envelope = mapper.read(&record, &record.value).unwrap();
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
            assert_eq!(mapper(all).read(&record, &record.value).unwrap_err().part, part, "{place}");
        }
    }

    #[test]
    fn a_value_that_is_no_json_matters_only_to_pointers() {
        let record = record("lines", 0, 0, NOW, "a,b\n");
        assert!(mapper(serde_json::json!({})).read(&record, &record.value).is_ok());
        let pointed = mapper(serde_json::json!({"id": {"pointer": "/id"}}));
        assert_eq!(pointed.read(&record, &record.value).unwrap_err().part, "value");
    }

    #[test]
    fn times_that_do_not_fit_are_malformed() {
        assert_eq!(TimeFormat::S.read("-5"), Ok(-5_000_000));
        assert_eq!(TimeFormat::Us.read("5"), Ok(5));
        assert!(TimeFormat::S.read("9223372036854775807").is_err());
        assert!(TimeFormat::Ms.read("5.0").is_err());
    }

    const READING: &str = r#"{"type": "record", "name": "Reading", "fields": [
        {"name": "machine", "type": {"type": "enum", "name": "Machine", "symbols": ["PRESS", "LATHE"]}},
        {"name": "id", "type": ["null", {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}]},
        {"name": "number", "type": "long"},
        {"name": "at", "type": ["string", {"type": "long", "logicalType": "timestamp-nanos"}]},
        {"name": "key", "type": "bytes"}, {"name": "ratio", "type": "float"}]}"#;

    /// LATHE, an id of 0x11s, number 40, 1,500 ns before 1970, a key of 32 bytes, 0.0.
    fn reading() -> Vec<u8> {
        [&[2, 2][..], &[0x11; 16], &[80], &[2, 0xb7, 0x17], &[64], &[7; 32], &[0; 4]].concat()
    }

    #[test]
    fn a_datum_is_mapped_like_json_and_its_payload_is_the_whole_value() {
        let schema = Schema::parse(&[READING]).unwrap();
        let framed = [&[0, 0, 0, 0, 9][..], &reading()].concat();
        let record = record("readings", 0, 0, NOW, framed);
        let signature = "A".repeat(86);
        let mapper = mapper(serde_json::json!({
            "source": {"pointer": "/machine"}, "id": {"pointer": "/id"}, "type": {"pointer": "/number"},
            "time": {"pointer": "/at"}, "time_format": "s", "key": {"pointer": "/key"},
            "signature": {"constant": signature},
        }));
        assert_eq!(mapper.check(&schema), Ok(()));
        let envelope = mapper.read_avro(&record, &schema, &record.value[5..]).unwrap();
        assert_eq!(
            (&*envelope.source, &*envelope.id, &*envelope.kind),
            ("LATHE", "11111111-1111-1111-1111-111111111111", "40")
        );
        assert_eq!((envelope.time, envelope.key), (-2, Some([7; 32])));
        assert_eq!(envelope.payload, &*record.value);
    }

    #[test]
    fn a_place_in_a_datum_with_nothing_fit_is_malformed() {
        let schema = Schema::parse(&[READING]).unwrap();
        let mut datum = reading();
        datum.splice(1..18, [0]); // no id
        let record = record("readings", 0, 0, NOW, datum);
        for (part, pointer) in [
            ("id", "/id"),
            ("id", "/none"),
            ("id", "/ratio"),
            ("id", ""),
            ("signature", "/key"),
            ("time", "/machine"),
        ] {
            let mapper = mapper(serde_json::json!({part: {"pointer": pointer}}));
            let error = mapper.read_avro(&record, &schema, &record.value).unwrap_err();
            assert_eq!(error.part, part, "{pointer}");
        }
        let mapper = mapper(serde_json::json!({}));
        assert!(mapper.read_avro(&record, &schema, &record.value).is_ok());
        assert_eq!(mapper.read_avro(&record, &schema, &record.value[1..]).unwrap_err().part, "value");
    }

    #[test]
    fn a_pointer_that_can_find_nothing_is_known_beforehand() {
        let schema = Schema::parse(&[READING]).unwrap();
        let error = mapper(serde_json::json!({"id": {"pointer": "/ID"}})).check(&schema).unwrap_err();
        assert_eq!(error, "mapping id: the schema has no value at \"/ID\"");
        let wrong = serde_json::from_value(serde_json::json!({"type": {"pointer": "kind"}})).unwrap();
        assert!(
            Mapper::new(&wrong).unwrap_err().starts_with("mapping type: \"kind\": a pointer begins with /")
        );
    }
}
