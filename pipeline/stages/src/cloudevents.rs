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

/// Reads the CloudEvent of a record: structured if its content type says so, else binary if its headers are.
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
    } else if record.header("ce_specversion").is_none() && record.value.first() == Some(&b'{') {
        // No event in binary mode, and maybe one in structured: widespread producers give the type of the data there.
        structured(record)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, record, with_headers};

    fn json(value: &str) -> Record {
        let record = record("cloud", 0, 0, NOW, value.to_owned());
        with_headers(record, &[("Content-Type", b"Application/CloudEvents+JSON; charset=UTF-8")])
    }

    const REQUIRED: &str = r#""specversion":"1.0","id":"7","source":"/pump","type":"reading""#;

    #[test]
    fn both_modes_read_alike_and_a_payload_is_the_bytes_as_they_stand() {
        let structured = json(&format!(
            r#"{{{REQUIRED}, "time":"2026-01-01T00:00:00Z","data" :  {{ "a" : 1.0 }} ,"killicktenant":"acme"}}"#
        ));
        let binary = with_headers(
            record("cloud", 0, 0, 5, r#"{ "a" : 1.0 }"#),
            &[
                ("content-type", b"application/json"),
                ("ce_specversion", b"1.0"),
                ("ce_id", b"7"),
                ("ce_source", b"/pump"),
                ("ce_type", b"reading"),
                ("ce_time", b"2026-01-01T00:00:00Z"),
                ("ce_killicktenant", b"acme"),
                ("ce_other", b"\xff"),
            ],
        );
        let envelope = read(&structured).unwrap();
        assert_eq!(envelope, read(&binary).unwrap());
        assert_eq!(&*envelope.payload, br#"{ "a" : 1.0 }"#);
        assert_eq!((envelope.time, envelope.tenant.as_deref()), (NOW, Some("acme")));
    }

    #[test]
    fn base64_data_is_decoded_and_no_data_is_no_payload() {
        let payload =
            |data: &str| read(&json(&format!("{{{REQUIRED}{data}}}"))).map(|event| event.payload.to_vec());
        assert_eq!(payload(r#","data_base64":"AP8=""#), Ok(vec![0, 255]));
        assert_eq!(payload(""), Ok(vec![]));
        assert_eq!(payload(r#","data":null"#), Ok(b"null".to_vec()));
        assert_eq!(payload(r#","data":"\u0041""#), Ok(br#""\u0041""#.to_vec()));
        assert!(payload(r#","data_base64":"AP8""#).is_err());
        assert!(payload(r#","data":1,"data_base64":"AP8=""#).is_err());
    }

    #[test]
    fn an_event_without_a_time_has_that_of_the_log_unless_it_is_signed() {
        assert_eq!(read(&json(&format!("{{{REQUIRED}}}"))).unwrap().time, NOW);
        let signature = "A".repeat(86);
        let signed = json(&format!(r#"{{{REQUIRED},"killicksignature":"{signature}"}}"#));
        assert_eq!(read(&signed).unwrap_err().part, "time");
    }

    #[test]
    fn depth_in_members_that_are_not_read_costs_nothing() {
        let deep =
            format!("{{{REQUIRED},\"x\":{0}1{1},\"data\":{0}1{1}}}", "[".repeat(9_000), "]".repeat(9_000));
        assert_eq!(read(&json(&deep)).unwrap().payload.len(), 18_001);
    }

    #[test]
    fn what_is_no_cloud_event_is_malformed() {
        for value in [
            "",
            "null",
            "[]",
            "{",
            r#"{"id":"7","source":"/pump","type":"reading"}"#,
            r#"{"specversion":"0.3","id":"7","source":"/pump","type":"reading"}"#,
            r#"{"specversion":"1.0","source":"/pump","type":"reading"}"#,
            r#"{"specversion":"1.0","id":7,"source":"/pump","type":"reading"}"#,
            &format!("{{{REQUIRED},\"id\":\"8\"}}"),
            &format!("{{{REQUIRED},\"data\":1,\"data\":2}}"),
            &format!("{{{REQUIRED},\"time\":\"today\"}}"),
            &format!("{{{REQUIRED},\"killickkey\":\"AA\"}}"),
            &format!("{{{REQUIRED}}} "),
            &format!("{{{REQUIRED}}}x"),
        ] {
            let is_fine = value.ends_with("} ");
            assert_eq!(read(&json(value)).is_ok(), is_fine, "{value:.80}");
        }
        let avro =
            with_headers(record("cloud", 0, 0, 0, ""), &[("content-type", b"application/cloudevents+avro")]);
        assert_eq!(read(&avro).unwrap_err().part, "content-type");
        assert_eq!(read(&record("cloud", 0, 0, 0, "x")).unwrap_err().part, "specversion");
        assert_eq!(read(&record("cloud", 0, 0, 0, "{}")).unwrap_err().part, "specversion");
    }
}
