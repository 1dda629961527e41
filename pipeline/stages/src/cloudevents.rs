//! Reads CloudEvents 1.0 from Kafka records (CloudEvents, "Kafka Protocol Binding"), binary and structured.
//!
//! Beyond the standard attributes an event carries as extensions what Killick needs of a signed event: `killicktenant`,
//! `killickkey` and `killicksignature`, the last two in base64url without padding.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use killick_proof::encoding::array_from_base64url;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::envelope::{Envelope, Malformed, rfc3339};
use crate::record::Record;

/// The extension that names the tenant.
pub const TENANT: &str = "killicktenant";
/// The extension that carries the public key.
pub const KEY: &str = "killickkey";
/// The extension that carries the signature.
pub const SIGNATURE: &str = "killicksignature";

/// The attributes that are read; others are ignored.
const ATTRIBUTES: [&str; 8] = ["specversion", "id", "source", "type", "time", TENANT, KEY, SIGNATURE];

/// Reads the CloudEvent of a record: structured if its content type says so, else binary.
///
/// # Errors
/// [`Malformed`].
pub fn read(record: &Record) -> Result<Envelope<'_>, Malformed> {
    let content_type = record
        .headers
        .iter()
        .rev()
        .find(|header| header.name.eq_ignore_ascii_case("content-type"))
        .map_or(&[][..], |header| &header.value);
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/cloudevents+json") {
        structured(record)
    } else if starts_with_ignoring_case(media_type, b"application/cloudevents") {
        Err(Malformed::new("content-type", String::from_utf8_lossy(media_type)))
    } else {
        binary(record)
    }
}

fn starts_with_ignoring_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Binary mode: attributes in headers `ce_…`, the value is the data.
fn binary(record: &Record) -> Result<Envelope<'_>, Malformed> {
    let mut attributes = BTreeMap::new();
    for header in &record.headers {
        let Some(name) = header.name.strip_prefix("ce_") else { continue };
        if let Some(name) = ATTRIBUTES.into_iter().find(|known| *known == name) {
            let text = std::str::from_utf8(&header.value).map_err(|_| Malformed::new(name, "not UTF-8"))?;
            attributes.insert(name, Cow::Borrowed(text));
        }
    }
    envelope(record, attributes, Cow::Borrowed(&record.value))
}

/// Structured mode: everything in one JSON object.
fn structured(record: &Record) -> Result<Envelope<'_>, Malformed> {
    let Members { attributes, data, data_base64 } =
        serde_json::from_slice(&record.value).map_err(|error| Malformed::new("value", error))?;
    let payload = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(Malformed::new("data", "both data and data_base64")),
        (Some(data), None) => Cow::Borrowed(data.get().as_bytes()),
        (None, Some(text)) => {
            Cow::Owned(STANDARD.decode(text).map_err(|error| Malformed::new("data_base64", error))?)
        }
        (None, None) => Cow::Borrowed(&[][..]),
    };
    envelope(record, attributes, payload)
}

fn envelope<'a>(
    record: &'a Record,
    mut attributes: BTreeMap<&'static str, Cow<'a, str>>,
    payload: Cow<'a, [u8]>,
) -> Result<Envelope<'a>, Malformed> {
    let mut required = |name: &'static str| {
        attributes.remove(name).ok_or_else(|| Malformed::new(name, "the attribute is missing"))
    };
    let version = required("specversion")?;
    if version != "1.0" {
        return Err(Malformed::new("specversion", version));
    }
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    let key = attributes.remove(KEY).map(|text| array_from_base64url(&text));
    let signature = attributes.remove(SIGNATURE).map(|text| array_from_base64url(&text));
    let time = match attributes.remove("time") {
        Some(time) => rfc3339(&time)?,
        None if signature.is_some() => return Err(Malformed::new("time", "a signed event needs its time")),
        None => record.append_time,
    };
    Ok(Envelope {
        tenant: attributes.remove(TENANT),
        source,
        id,
        time,
        kind,
        payload,
        key: key.transpose().map_err(|error| Malformed::new(KEY, error))?,
        signature: signature.transpose().map_err(|error| Malformed::new(SIGNATURE, error))?,
    })
}

/// The members of a structured event that are read. A member that occurs twice is refused: readers would disagree on it.
struct Members<'a> {
    attributes: BTreeMap<&'static str, Cow<'a, str>>,
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        use serde::de::Error as _;
        let mut members = Members { attributes: BTreeMap::new(), data: None, data_base64: None };
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "data" {
                members.data.replace(map.next_value()?).is_some()
            } else if name == "data_base64" {
                members.data_base64.replace(map.next_value()?).is_some()
            } else if let Some(known) = ATTRIBUTES.into_iter().find(|known| *known == name) {
                let text: Option<String> = map.next_value()?;
                text.is_some_and(|text| members.attributes.insert(known, text.into()).is_some())
            } else {
                map.next_value::<IgnoredAny>()?;
                false
            };
            if twice {
                return Err(A::Error::custom(format_args!("the member {name:?} occurs twice")));
            }
        }
        Ok(members)
    }
}
