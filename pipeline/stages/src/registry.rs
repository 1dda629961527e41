//! Schema registries, as records know them: how a record names its schema, and the schemas that are known.
//!
//! A schema's id means the same for ever, so what a registry once said of it is kept. That it has none of that id is true
//! for the moment only: it is believed for [`MISSING`] of log time, and then asked again.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::avro::schema::Schema;
use crate::envelope::{Malformed, Written};
use crate::record::{Micros, Record};

/// The header that carries a schema's id where the value has no prefix.
pub const SCHEMA_ID: &str = "__value_schema_id";

/// How long a registry is believed that it does not have a schema, in log time.
pub const MISSING: Micros = 10_000_000;
/// Bytes of schemas that are kept, as the registry wrote them; the oldest go first, and are asked for again.
const MAX_KNOWN: usize = 8 << 20;
/// What a schema takes at least.
const LEAST: usize = 4 << 10;
/// Ids without a schema that are kept.
const MAX_MISSING: usize = 4_096;

/// A schema's id in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// A number that the registry gave.
    Number(u32),
    /// A GUID, the same in all registries.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Guid(guid) => f.write_str(&crate::mapping::uuid(guid)),
        }
    }
}

/// A record's value in the framing of schema registries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framed<'a> {
    /// What names the schema: a header's value, or what stands before the datum.
    name: &'a [u8],
    /// The datum.
    pub(crate) datum: &'a [u8],
}

impl<'a> Framed<'a> {
    /// Takes a value apart: if there is a header with the schema's id, all of the value is the datum, else what follows
    /// the prefix.
    ///
    /// # Errors
    /// Neither header nor prefix; or headers that differ, of which some readers take the first and some the last.
    pub(crate) fn split(record: &'a Record) -> Result<Self, Malformed> {
        let mut headers = record.headers.iter().filter(|header| &*header.name == SCHEMA_ID);
        if let Some(first) = headers.next() {
            if headers.any(|other| other.value != first.value) {
                return Err(Malformed::new(SCHEMA_ID, "there are two that differ"));
            }
            return Ok(Self { name: &first.value, datum: &record.value });
        }
        let length = match record.value.first() {
            Some(0) => 5,
            Some(1) => 17,
            _ => usize::MAX,
        };
        let split = record.value.split_at_checked(length);
        let (name, datum) =
            split.ok_or_else(|| Malformed::new("value", "no zero byte and schema id before the datum"))?;
        Ok(Self { name, datum })
    }

    /// The schema's id: a zero byte and four bytes of number, or a one and a GUID.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn id(&self) -> Result<SchemaId, Malformed> {
        match self.name {
            [0, number @ ..] => {
                number.try_into().ok().map(|number| SchemaId::Number(u32::from_be_bytes(number)))
            }
            [1, guid @ ..] => guid.try_into().ok().map(SchemaId::Guid),
            _ => None,
        }
        .ok_or_else(|| {
            Malformed::new(SCHEMA_ID, format_args!("{} bytes that are no schema id", self.name.len()))
        })
    }
}

/// What a registry says of a schema's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The schema in JSON, behind all that it refers to.
    Found(Vec<Box<str>>),
    /// There is one, and it is none that data can be read by: why.
    Unfit(Box<str>),
    /// There is none now.
    Missing,
}

/// A schema, with what it means for events in our own envelope.
#[derive(Debug, Clone)]
pub struct Known {
    /// The schema.
    pub(crate) schema: Schema,
    /// How our own envelope is read from its data.
    pub(crate) own: Result<Written, Box<str>>,
}

impl Known {
    /// What a schema means: the last text, behind those that it refers to.
    ///
    /// # Errors
    /// The texts are no schema.
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Result<Self, crate::avro::schema::SchemaError> {
        let schema = Schema::parse(texts)?;
        let own = Written::by(&schema).map_err(String::into_boxed_str);
        Ok(Self { schema, own })
    }
}

/// What is known of an id at some log time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'s> {
    /// Its schema.
    Known(&'s Known),
    /// Its schema is none that data can be read by.
    Unfit(&'s str),
    /// The registry does not have it.
    Missing,
    /// Nobody has asked, or not lately enough.
    Unknown,
}

/// The schemas that are known.
#[derive(Debug, Default)]
pub struct Schemas {
    kept: HashMap<SchemaId, Result<Known, Box<str>>>,
    /// The ids of schemas in the order in which they came, with what each takes.
    order: VecDeque<(SchemaId, usize)>,
    size: usize,
    /// Until which log time an id is believed to have none, and those ids in the order in which they came.
    missing: HashMap<SchemaId, Micros>,
    missed: VecDeque<SchemaId>,
}

impl Schemas {
    /// What is known of `id` for a record of log time `at`.
    pub(crate) fn find(&self, id: SchemaId, at: Micros) -> Found<'_> {
        match (self.kept.get(&id), self.missing.get(&id)) {
            (Some(Ok(known)), _) => Found::Known(known),
            (Some(Err(why)), _) => Found::Unfit(why),
            (None, Some(until)) if at <= *until => Found::Missing,
            (None, _) => Found::Unknown,
        }
    }

    /// Keeps what the registry said of `id` when it was asked for a record of log time `at`.
    pub fn learn(&mut self, id: SchemaId, lookup: Lookup, at: Micros) {
        let (kept, size) = match lookup {
            Lookup::Missing => return self.miss(id, at),
            Lookup::Unfit(why) => (Err(why), LEAST),
            Lookup::Found(texts) => match Known::new(&texts) {
                Ok(known) => (Ok(known), texts.iter().map(|text| text.len()).sum::<usize>().max(LEAST)),
                Err(error) => (Err(error.to_string().into()), LEAST),
            },
        };
        self.missing.remove(&id);
        if self.kept.insert(id, kept).is_none() {
            self.order.push_back((id, size));
            self.size += size;
        }
        while self.size > MAX_KNOWN
            && let Some((oldest, size)) = self.order.pop_front()
        {
            self.size -= size;
            self.kept.remove(&oldest);
        }
    }

    fn miss(&mut self, id: SchemaId, at: Micros) {
        let until = at.saturating_add(MISSING);
        if self.missing.insert(id, until).is_none() {
            self.missed.push_back(id);
        }
        if self.missed.len() > MAX_MISSING
            && let Some(oldest) = self.missed.pop_front()
        {
            self.missing.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, SECOND, record, with_headers};

    const GUID: [u8; 17] = *b"\x01\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    const TEXT: &str = r#"{"type": "record", "name": "R", "fields": []}"#;

    fn split(value: &'static [u8], headers: &[&[u8]]) -> Result<(SchemaId, Vec<u8>), Malformed> {
        let headers: Vec<_> = headers.iter().map(|header| (SCHEMA_ID, *header)).collect();
        let record = with_headers(record("events", 0, 0, NOW, value), &headers);
        let framed = Framed::split(&record)?;
        Ok((framed.id()?, framed.datum.to_vec()))
    }

    #[test]
    fn a_schema_is_named_by_a_header_or_else_by_a_prefix() {
        let guid = SchemaId::Guid(GUID[1..].try_into().unwrap());
        assert_eq!(guid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(split(b"\0\0\0\x01\x02rest", &[]), Ok((SchemaId::Number(258), b"rest".to_vec())));
        assert_eq!(split(b"\0\0\0\0\x09", &[]), Ok((SchemaId::Number(9), Vec::new())));
        assert_eq!(split(b"\0\0\0\0\x09", &[&GUID]), Ok((guid, b"\0\0\0\0\x09".to_vec())));
        assert_eq!(split(b"", &[&GUID, &GUID]), Ok((guid, Vec::new())));
        assert_eq!(split(b"", &[b"\0\0\0\0\x07"]), Ok((SchemaId::Number(7), Vec::new())));
        assert_eq!(split(b"\x010123456789abcdefrest", &[]).unwrap().1, b"rest");
    }

    #[test]
    fn what_names_no_schema_is_malformed() {
        for value in [&b""[..], b"\0", b"\0\0\0\0", b"\x01\0\0\0\0", b"{}", b"Obj\x01"] {
            assert_eq!(split(value, &[]).unwrap_err().part, "value", "{value:?}");
        }
        for header in [&b""[..], b"\x01", b"\0\0\0\0\0\0", b"\x02\0\0\0\0", &GUID[..16]] {
            assert_eq!(split(b"x", &[header]).unwrap_err().part, SCHEMA_ID, "{header:?}");
        }
        assert_eq!(split(b"x", &[&GUID, b"\0\0\0\0\x07"]).unwrap_err().part, SCHEMA_ID);
    }

    fn found(text: &str) -> Lookup {
        Lookup::Found(vec![text.into()])
    }

    #[test]
    fn a_schema_is_known_for_ever_and_a_missing_one_is_asked_for_again() {
        let (mut schemas, id) = (Schemas::default(), SchemaId::Number(7));
        assert!(matches!(schemas.find(id, NOW), Found::Unknown));
        schemas.learn(id, Lookup::Missing, NOW);
        for at in [i64::MIN, NOW, NOW + MISSING] {
            assert!(matches!(schemas.find(id, at), Found::Missing), "{at}");
        }
        assert!(matches!(schemas.find(id, NOW + MISSING + 1), Found::Unknown));
        schemas.learn(id, found(TEXT), NOW + 20 * SECOND);
        for at in [i64::MIN, NOW, i64::MAX] {
            assert!(matches!(schemas.find(id, at), Found::Known(_)), "{at}");
        }
        let other = SchemaId::Number(8);
        schemas.learn(other, Lookup::Missing, i64::MAX - 5);
        assert!(matches!(schemas.find(other, i64::MAX), Found::Missing));
    }

    #[test]
    fn a_schema_that_cannot_be_read_says_why() {
        let mut schemas = Schemas::default();
        let (broken, json) = (SchemaId::Number(1), SchemaId::Number(2));
        schemas.learn(broken, found("\"strnig\""), NOW);
        schemas.learn(json, Lookup::Unfit("it is JSON Schema, and no Avro".into()), NOW);
        assert!(matches!(schemas.find(broken, NOW), Found::Unfit("no type `strnig`")));
        assert!(matches!(schemas.find(json, NOW), Found::Unfit("it is JSON Schema, and no Avro")));
    }

    #[test]
    fn however_many_schemas_come_what_is_kept_is_bounded_and_the_newest_stays() {
        let mut schemas = Schemas::default();
        for number in 0..10_000 {
            schemas.learn(SchemaId::Number(number), found(TEXT), NOW);
            schemas.learn(SchemaId::Number(1 << 20 | number), Lookup::Missing, NOW);
            assert!(matches!(schemas.find(SchemaId::Number(number), NOW), Found::Known(_)));
        }
        assert_eq!((schemas.kept.len(), schemas.order.len()), (MAX_KNOWN / LEAST, MAX_KNOWN / LEAST));
        assert_eq!((schemas.missing.len(), schemas.missed.len()), (MAX_MISSING, MAX_MISSING));
        assert!(matches!(schemas.find(SchemaId::Number(0), NOW), Found::Unknown));
    }
}
