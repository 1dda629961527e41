//! Our own envelope in the data of another version of its schema, read by Avro's rules (Avro 1.12 specification, "Schema
//! Resolution"): fields go by name, `key` and `signature` may be missing, further fields are passed over.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::{Envelope, Malformed, read};
use crate::avro::datum::{Pointer, Scalar, find};
use crate::avro::schema::{Node, NodeId, Schema, Unit};

/// Our schema, as far as it matters how it writes.
static OURS: LazyLock<Schema> = LazyLock::new(|| {
    let text = killick_schemas::schema("event").expect("our own schema is listed; a test reads it");
    Schema::parse(&[text]).expect("our own schema is one; a test reads it")
});

/// The fields of our envelope, in our order, with what their writers may have made of them.
const FIELDS: [(&str, Takes); 8] = [
    ("tenant", Takes::Text),
    ("source", Takes::Text),
    ("id", Takes::Text),
    ("time", Takes::Time),
    ("type", Takes::Text),
    ("payload", Takes::Bytes),
    ("key", Takes::Fixed("PublicKey", 32)),
    ("signature", Takes::Fixed("Signature", 64)),
];

static PLACES: LazyLock<[Pointer; 8]> = LazyLock::new(|| FIELDS.map(|(name, _)| Pointer::of(&[name])));

/// The types of a writer that one of ours takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// A text: `string`, or `bytes` that are one.
    Text,
    /// Microseconds since 1970: `long`, or `int`.
    Time,
    /// `bytes`, or the bytes of a `string`.
    Bytes,
    /// A `fixed` of this name and size, or null; null also where there is no such field.
    Fixed(&'static str, usize),
}

/// How a schema's data hold our envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Byte for byte as we write it.
    AsOurs,
    /// In other types or another order.
    Otherwise,
}

impl Written {
    /// How data of `schema` hold our envelope.
    ///
    /// # Errors
    /// They do not: why.
    pub(crate) fn by(schema: &Schema) -> Result<Self, String> {
        if schema.writes_like(&OURS) {
            return Ok(Self::AsOurs);
        }
        let Node::Record { name, fields } = schema.node(schema.root()) else {
            return Err("it is no record, and so no envelope".to_owned());
        };
        if &**name != "Event" {
            return Err(format!("it is a record {name:?}, and our envelope is an \"Event\""));
        }
        for (name, takes) in FIELDS {
            match fields.iter().find(|field| &*field.name == name) {
                Some(field) if !takes.any_of(schema, &field.node) => {
                    return Err(format!("its field {name:?} has a type that our envelope does not take"));
                }
                None if !matches!(takes, Takes::Fixed(..)) => {
                    return Err(format!("it has no field {name:?}, and our envelope needs one"));
                }
                _ => {}
            }
        }
        Ok(Self::Otherwise)
    }

    /// Reads our envelope from a datum of `schema`.
    ///
    /// # Errors
    /// The datum is none of this schema, or a value in it is none that ours takes.
    pub(crate) fn read<'a>(self, schema: &'a Schema, datum: &'a [u8]) -> Result<Envelope<'a>, Malformed> {
        if self == Self::AsOurs {
            return read(datum);
        }
        let [tenant, source, id, time, kind, payload, key, signature] =
            find(schema, datum, PLACES.each_ref().map(Some))?;
        Ok(Envelope {
            tenant: Some(text("tenant", tenant)?),
            source: text("source", source)?,
            id: text("id", id)?,
            time: match time {
                Some(Scalar::Number(time, _)) => time,
                _ => return Err(Malformed::new("time", "no number")),
            },
            kind: text("type", kind)?,
            payload: match payload {
                Some(Scalar::Bytes(bytes)) => Cow::Borrowed(bytes),
                Some(Scalar::Text(text)) => Cow::Borrowed(text.as_bytes()),
                _ => return Err(Malformed::new("payload", "no bytes")),
            },
            key: fixed("key", key)?,
            signature: fixed("signature", signature)?,
        })
    }
}

impl Takes {
    /// Whether it takes what some branch of this type gives: which one it is, each datum says.
    fn any_of(self, schema: &Schema, id: &NodeId) -> bool {
        schema.branches(id).any(|node| match (self, node) {
            (Self::Text | Self::Bytes, Node::String | Node::Bytes) => true,
            // Avro's rules would take the number whatever it counts, and be wrong by a thousand.
            (Self::Time, Node::Int | Node::Long(None | Some(Unit::Micros))) => true,
            (Self::Fixed(wanted, long), Node::Fixed { name, size, .. }) => **name == *wanted && *size == long,
            (Self::Fixed(..), Node::Null) => true,
            _ => false,
        })
    }
}

fn text<'a>(part: &'static str, found: Option<Scalar<'a>>) -> Result<Cow<'a, str>, Malformed> {
    match found {
        Some(Scalar::Text(text)) => Ok(Cow::Borrowed(text)),
        Some(Scalar::Bytes(bytes)) => {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed::new(part, "not UTF-8"))
        }
        _ => Err(Malformed::new(part, "no text")),
    }
}

fn fixed<const N: usize>(
    part: &'static str,
    found: Option<Scalar<'_>>,
) -> Result<Option<[u8; N]>, Malformed> {
    match found {
        None | Some(Scalar::Null) => Ok(None),
        Some(Scalar::Bytes(bytes)) => match bytes.try_into() {
            Ok(fixed) => Ok(Some(fixed)),
            Err(_) => Err(Malformed::new(part, format_args!("{} bytes, not {N}", bytes.len()))),
        },
        Some(_) => Err(Malformed::new(part, "no bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;

    const EVENT: Event<'static> = Event {
        tenant: "acme",
        source: "pump-1",
        id: "7",
        time: 5,
        kind: "reading",
        payload: b"21.5",
        signed: Some((&[1; 32], &[2; 64])),
    };

    fn ours() -> &'static str {
        killick_schemas::schema("event").unwrap()
    }

    /// A version of our schema: `change` does to its fields what the version did.
    fn version(change: impl FnOnce(&mut Vec<serde_json::Value>)) -> Schema {
        let mut json: serde_json::Value = serde_json::from_str(ours()).unwrap();
        change(json["fields"].as_array_mut().unwrap());
        Schema::parse(&[json.to_string()]).unwrap()
    }

    #[test]
    fn our_own_schema_writes_as_we_do() {
        assert_eq!(Written::by(&version(|_| ())), Ok(Written::AsOurs));
        let bytes = EVENT.encode();
        assert_eq!(Written::Otherwise.read(&OURS, &bytes), read(&bytes));
    }

    #[test]
    fn another_version_is_read_by_the_names_of_its_fields() {
        let other = version(|fields| {
            fields.truncate(6); // no key, no signature
            fields.insert(0, serde_json::json!({"name": "line", "type": ["null", "int"]}));
            fields.swap(1, 2);
            fields.last_mut().unwrap()["type"] = "string".into();
        });
        let written = Written::by(&other).unwrap();
        assert_eq!(written, Written::Otherwise);
        let datum = b"\x02\x54\x0cpump-1\x08acme\x027\x0a\x0ereading\x0821.5";
        let unsigned = Event { signed: None, ..EVENT }.encode();
        assert_eq!(written.read(&other, datum), read(&unsigned));
        for length in 0..datum.len() {
            assert!(written.read(&other, &datum[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_version_that_avros_rules_do_not_resolve_is_refused_with_its_field() {
        let with = |name: &str, kind: serde_json::Value| {
            version(|fields| fields.iter_mut().find(|field| field["name"] == *name).unwrap()["type"] = kind)
        };
        for (name, kind) in [
            ("tenant", serde_json::json!("int")),
            ("time", serde_json::json!({"type": "long", "logicalType": "timestamp-millis"})),
            ("time", serde_json::json!("double")),
            ("payload", serde_json::json!({"type": "fixed", "name": "P", "size": 4})),
            ("key", serde_json::json!("bytes")),
            ("key", serde_json::json!({"type": "fixed", "name": "PublicKey", "size": 33})),
            ("key", serde_json::json!({"type": "fixed", "name": "Key", "size": 32})),
        ] {
            let why = Written::by(&with(name, kind.clone())).unwrap_err();
            assert!(why.contains(&format!("{name:?}")), "{kind}: {why}");
        }
        let missing = version(|fields| fields.retain(|field| field["name"] != "id"));
        assert!(Written::by(&missing).unwrap_err().contains("\"id\""));
        let named =
            ours().replace("\"Event\"", "\"Reading\"").replace("\"type\": \"bytes\"", "\"type\": \"string\"");
        assert!(Written::by(&Schema::parse(&[named]).unwrap()).unwrap_err().contains("Reading"));
        assert!(Written::by(&Schema::parse(&["\"bytes\""]).unwrap()).is_err());
    }

    #[test]
    fn a_branch_that_ours_does_not_take_is_malformed_where_it_occurs() {
        let other = version(|fields| fields[0]["type"] = serde_json::json!(["null", "string", "bytes"]));
        let rest = EVENT.encode().slice(5..);
        let datum = |branch: &[u8]| [branch, &rest].concat();
        let written = Written::by(&other).unwrap();
        assert_eq!(written.read(&other, &datum(b"\x02\x08acme")), read(&EVENT.encode()));
        assert_eq!(written.read(&other, &datum(b"\x04\x08acme")), read(&EVENT.encode()));
        assert_eq!(written.read(&other, &datum(b"\x00")).unwrap_err().part, "tenant");
        assert_eq!(written.read(&other, &datum(b"\x04\x02\xff")).unwrap_err().part, "tenant");
    }
}
