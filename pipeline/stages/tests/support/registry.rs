//! A schema registry: what it has, and from when on.

use bytes::Bytes;
use killick_stages::avro::Writer;
use killick_stages::mapping::{Mapping, Place};
use killick_stages::record::Micros;
use killick_stages::registry::{Lookup, MISSING, SchemaId};
use killick_stages::source::{Framing, Source, Unsigned};

use super::{Dice, SECOND, START};

/// The topic whose records name their schemas.
pub const TOPIC: &str = "readings";

/// When schema 5 is registered: records name it before.
const REGISTERED: Micros = START + 12 * SECOND;

const FIELDS: &str = r#"{"name": "machine", "type": "string"}, {"name": "number", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}"#;

/// Readings of any schema, mapped into events.
pub fn source() -> Source {
    let at = |pointer: &str| Some(Place::Pointer(pointer.into()));
    let mapping =
        Mapping { source: at("/machine"), id: at("/number"), time: at("/at"), ..Mapping::default() };
    Source {
        framing: Framing::Registry,
        mapping: Some(mapping),
        tenant: Some("acme".into()),
        unsigned: Unsigned::Accept,
        ..Source::new(TOPIC)
    }
}

/// A reading in one of the schemas 1 to 7; those that nobody has read like the first.
pub fn reading(number: u64, at: Micros, dice: &mut Dice) -> Bytes {
    let schema = 1 + dice.below(7) as u32;
    let mut out = Writer::default();
    out.fixed(&[&[0][..], &schema.to_be_bytes()].concat());
    if schema == 2 {
        out.long(dice.below(100) as i64);
    }
    out.string("press");
    out.long(number as i64);
    out.long(at);
    out.into_bytes()
}

/// What the registry says of an id at some time.
pub fn lookup(id: SchemaId, now: Micros) -> Lookup {
    let found = |more: &str| {
        let text = format!(r#"{{"type": "record", "name": "Reading", "fields": [{more}{FIELDS}]}}"#);
        Lookup::Found(vec![text.into()])
    };
    match id {
        SchemaId::Number(1) => found(""),
        SchemaId::Number(2) => found(r#"{"name": "line", "type": "int"}, "#),
        SchemaId::Number(3) => Lookup::Unfit("it is JSON, and no Avro".into()),
        SchemaId::Number(4) => Lookup::Found(vec!["\"strnig\"".into()]),
        SchemaId::Number(5) if now >= REGISTERED => found(""),
        _ => Lookup::Missing,
    }
}

/// The codes that a reading may be rejected with, `accepted` among them if it may not be.
pub fn verdicts(reading: &[u8], append_time: Micros) -> &'static [&'static str] {
    match reading[4] {
        1 | 2 => &["accepted"],
        3 | 4 => &["unfit-schema"],
        // Those in between come when the registry was asked before, or had been and was not believed any more.
        5 if append_time > REGISTERED + 2 * MISSING => &["accepted"],
        5 => &["accepted", "unknown-schema"],
        _ => &["unknown-schema"],
    }
}
