//! JSON values, one a line, each with its exact bytes.

use std::io;

use serde_json::Value;

use super::{Bad, Given, InputArgs, Item, Numbered, Parts, TIME_NAMES, time, time_of, warn_timeless};

/// The values of an input.
pub struct Values {
    lines: Numbered,
    given: Given,
    time: Option<Pointer>,
    source: Option<Pointer>,
    id: Option<Pointer>,
    kind: Option<Pointer>,
    /// Values read, whatever became of them.
    rows: u64,
    warned: bool,
}

/// A place in a value (RFC 6901).
struct Pointer(String);

impl Pointer {
    /// A pointer as it is, or the name of a member of the outermost object.
    fn new(name: &str) -> Self {
        if name.starts_with('/') {
            return Self(name.to_owned());
        }
        Self(format!("/{}", name.replace('~', "~0").replace('/', "~1")))
    }

    fn text(&self, part: &str, value: &Value) -> Result<String, String> {
        match value.pointer(&self.0) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            Some(_) => Err(format!("{part}: neither text nor whole number at {:?}", self.0)),
            None => Err(format!("{part}: nothing at {:?}", self.0)),
        }
    }
}

impl Values {
    /// The values of these lines.
    pub fn new(lines: Numbered, given: Given, args: &InputArgs) -> Self {
        let pointer = |name: &Option<String>| name.as_deref().map(Pointer::new);
        Self {
            lines,
            given,
            time: pointer(&args.time_column),
            source: pointer(&args.source_column),
            id: pointer(&args.id_column),
            kind: pointer(&args.type_column),
            rows: 0,
            warned: false,
        }
    }

    /// The next value as an event.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        let Some(line) = self.lines.next_filled()? else { return Ok(None) };
        self.rows += 1;
        let bytes = match line.content {
            Ok(bytes) => bytes,
            Err(bad) => return Ok(Some(Item::Bad(bad))),
        };
        let parts = match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => self.parts(&value),
            Err(error) => Err(format!("not JSON: {error}")),
        };
        Ok(Some(match parts {
            Ok(parts) => self.given.event(line.number, self.rows, parts, bytes.into()),
            Err(reason) => Item::Bad(Bad { line: line.number, reason, bytes: bytes.into() }),
        }))
    }

    fn parts(&mut self, value: &Value) -> Result<Parts, String> {
        let text = |part: &str, place: &Option<Pointer>| {
            place.as_ref().map(|place| place.text(part, value)).transpose()
        };
        let time = match &self.time {
            Some(place) => match value.pointer(&place.0) {
                Some(Value::String(text)) => Some(time_of(text)?),
                Some(Value::Number(number)) => Some(time_of(&number.to_string())?),
                Some(_) => return Err(format!("time: neither text nor number at {:?}", place.0)),
                None => return Err(format!("time: nothing at {:?}", place.0)),
            },
            // Each value by itself, so that what one claims does not depend on another.
            None => TIME_NAMES.iter().find_map(|name| match value.get(name)? {
                Value::String(text) => time::parse(text),
                Value::Number(number) => time::parse(&number.to_string()),
                _ => None,
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
