//! JSON values, one a line, each with its exact bytes.

use std::borrow::Cow;
use std::{fmt, io};

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use super::{Bad, Given, InputArgs, Item, Numbered, Parts, TIME_NAMES, time, time_of, warn_timeless};

/// The values of an input.
pub struct Values {
    lines: Numbered,
    given: Given,
    /// Members of the outermost object that parts are in or below; nothing is kept of the others.
    members: Vec<Box<str>>,
    time: Option<Place>,
    source: Option<Place>,
    id: Option<Place>,
    kind: Option<Place>,
    /// Where a time may be that nobody has named.
    times: Vec<Place>,
    /// Values read, whatever became of them.
    rows: u64,
    warned: bool,
}

/// A place in a value (RFC 6901).
struct Place {
    /// The pointer.
    pointer: Box<str>,
    /// Which of the members it is in.
    member: usize,
    /// The pointer from there on; empty if it is the member itself.
    below: Box<str>,
}

impl Place {
    /// A pointer as it is, or the name of a member of the outermost object; its member is added to `members`.
    fn new(name: &str, members: &mut Vec<Box<str>>) -> Self {
        let pointer = if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("/{}", name.replace('~', "~0").replace('/', "~1"))
        };
        let token = pointer[1..].split('/').next().unwrap_or_default();
        let below = pointer[1 + token.len()..].into();
        let token = token.replace("~1", "/").replace("~0", "~");
        let member = members.iter().position(|member| **member == *token).unwrap_or_else(|| {
            members.push(token.into());
            members.len() - 1
        });
        Self { pointer: pointer.into(), member, below }
    }

    fn find<'v>(&self, kept: &'v [Option<Kept<'_>>]) -> Option<Found<'v>> {
        match kept[self.member].as_ref()? {
            Kept::Text(text) => self.below.is_empty().then_some(Found::Text(text)),
            Kept::Value(value) => Some(match value.pointer(&self.below)? {
                Value::String(text) => Found::Text(text),
                Value::Number(number) => Found::Number(number),
                _ => Found::Other,
            }),
        }
    }

    fn text(&self, part: &str, kept: &[Option<Kept<'_>>]) -> Result<String, String> {
        match self.find(kept) {
            Some(Found::Text(text)) => Ok(text.to_owned()),
            Some(Found::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            Some(_) => Err(format!("{part}: neither text nor whole number at {:?}", self.pointer)),
            None => Err(format!("{part}: nothing at {:?}", self.pointer)),
        }
    }
}

/// What stands at a place.
enum Found<'v> {
    Text(&'v str),
    Number(&'v Number),
    Other,
}

/// A member. What most are, a text without escapes, is borrowed from the line.
enum Kept<'l> {
    Text(Cow<'l, str>),
    Value(Value),
}

impl From<Value> for Kept<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.into()),
            other => Self::Value(other),
        }
    }
}

impl<'l> Deserialize<'l> for Kept<'l> {
    fn deserialize<D: Deserializer<'l>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(KeptVisitor)
    }
}

struct KeptVisitor;

impl<'l> Visitor<'l> for KeptVisitor {
    type Value = Kept<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<Kept<'l>, E> {
        Ok(Kept::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kept<'l>, E> {
        Ok(Kept::Text(text.to_owned().into()))
    }

    fn visit_unit<E>(self) -> Result<Kept<'l>, E> {
        Ok(Kept::Value(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kept<'l>, E> {
        Ok(Kept::Value(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kept<'l>, E> {
        Ok(Kept::Value(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kept<'l>, E> {
        Ok(Kept::Value(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kept<'l>, E> {
        Ok(Kept::Value(value.into()))
    }

    fn visit_seq<A: SeqAccess<'l>>(self, values: A) -> Result<Kept<'l>, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(values)).map(Kept::Value)
    }

    fn visit_map<A: MapAccess<'l>>(self, members: A) -> Result<Kept<'l>, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(members)).map(Kept::Value)
    }
}

/// Reads one value, and keeps of an object only some members: of two with one name the last, as [`Value`] does.
struct Keeping<'m>(&'m [Box<str>]);

impl Keeping<'_> {
    fn read<'l>(&self, text: &'l str) -> serde_json::Result<Vec<Option<Kept<'l>>>> {
        if !text.trim_start().starts_with('{') {
            let value: Value = serde_json::from_str(text)?;
            // Arrays have members by number.
            let member = |name: &str| {
                let at = name.replace('~', "~0").replace('/', "~1");
                value.pointer(&format!("/{at}")).cloned().map(Kept::from)
            };
            return Ok(self.0.iter().map(|name| member(name)).collect());
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let kept = json.deserialize_map(self)?;
        json.end()?;
        Ok(kept)
    }
}

impl<'de> Visitor<'de> for &Keeping<'_> {
    type Value = Vec<Option<Kept<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        kept.resize_with(self.0.len(), || None);
        while let Some(member) = object.next_key_seed(Name(self.0))? {
            match member {
                Some(member) => kept[member] = Some(object.next_value()?),
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(kept)
    }
}

/// The name of a member, as its place among those that are kept.
struct Name<'m>(&'m [Box<str>]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|member| **member == *name))
    }
}

impl Values {
    /// The values of these lines.
    pub fn new(lines: Numbered, given: Given, args: &InputArgs) -> Self {
        let mut members = Vec::new();
        let mut place = |name: &Option<String>| name.as_deref().map(|name| Place::new(name, &mut members));
        let time = place(&args.time_column);
        let (source, id, kind) =
            (place(&args.source_column), place(&args.id_column), place(&args.type_column));
        let times = match time {
            Some(_) => Vec::new(),
            None => TIME_NAMES.iter().map(|name| Place::new(name, &mut members)).collect(),
        };
        Self { lines, given, members, time, source, id, kind, times, rows: 0, warned: false }
    }

    /// The next value as an event.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        let Some(line) = self.lines.next_filled()? else { return Ok(None) };
        self.rows += 1;
        let bytes = match line.content {
            Ok(bytes) => bytes,
            Err(bad) => return Ok(Some(Item::Bad(bad))),
        };
        let parts = match std::str::from_utf8(&bytes).map(|text| Keeping(&self.members).read(text)) {
            Ok(Ok(kept)) => self.parts(&kept),
            Ok(Err(error)) => Err(format!("not JSON: {error}")),
            Err(error) => Err(format!("not JSON: {error}")),
        };
        Ok(Some(match parts {
            Ok(parts) => self.given.event(line.number, self.rows, parts, bytes.into()),
            Err(reason) => Item::Bad(Bad { line: line.number, reason, bytes: bytes.into() }),
        }))
    }

    fn parts(&mut self, kept: &[Option<Kept<'_>>]) -> Result<Parts, String> {
        let text = |part: &str, place: &Option<Place>| {
            place.as_ref().map(|place| place.text(part, kept)).transpose()
        };
        let time = match &self.time {
            Some(place) => match place.find(kept) {
                Some(Found::Text(text)) => Some(time_of(text)?),
                Some(Found::Number(number)) => Some(time_of(&number.to_string())?),
                Some(_) => return Err(format!("time: neither text nor number at {:?}", place.pointer)),
                None => return Err(format!("time: nothing at {:?}", place.pointer)),
            },
            // Each value by itself, so that what one claims does not depend on another.
            None => self.times.iter().find_map(|place| match place.find(kept)? {
                Found::Text(text) => time::parse(text),
                Found::Number(number) => time::parse(&number.to_string()),
                Found::Other => None,
            }),
        };
        if time.is_none() && !std::mem::replace(&mut self.warned, true) {
            warn_timeless(&self.given.source);
        }
        Ok(Parts {
            source: text("source", &self.source)?,
            id: text("id", &self.id)?,
            time,
            kind: text("type", &self.kind)?,
        })
    }
}
