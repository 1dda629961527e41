//! Finds values in a datum whose schema is known, without building what is not asked for.
//!
//! The whole datum is walked, so that what is found is part of something whole. Nothing is allocated, the depth is
//! bounded, and so is the work: a datum has at most [`MAX_DEPTH`] values to a byte, and whatever claims more lies.

use super::schema::{Node, NodeId, Schema, Unit};
use super::{AvroError, Reader};

/// Values within each other in the deepest datum.
pub const MAX_DEPTH: usize = 64;
/// Values without bytes that any datum may have: nulls, and what has only such in it.
const MAX_EMPTY: usize = 4_096;

/// A place in a datum: names of fields, keys of maps and indexes of arrays, from the outermost inwards. What stands in a
/// union stands where the union stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<Box<str>>);

/// A text that is no JSON Pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Neither empty nor `/` first.
    #[error("a pointer begins with /")]
    Start,
    /// A `~` that is not followed by 0 or 1.
    #[error("in a pointer ~ is written ~0, and / within a name ~1")]
    Escape,
}

impl Pointer {
    /// Reads a JSON Pointer (RFC 6901).
    ///
    /// # Errors
    /// [`PointerError`].
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let tokens = text.strip_prefix('/').ok_or(PointerError::Start)?;
        if tokens.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(PointerError::Escape);
        }
        let unescaped = |token: &str| token.replace("~1", "/").replace("~0", "~").into();
        Ok(Self(tokens.split('/').map(unescaped).collect()))
    }

    /// A place by its names.
    pub fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| (*name).into()).collect())
    }

    /// Whether a datum of `schema` can have a single value there: text, number or bytes.
    pub fn leads_to_a_value(&self, schema: &Schema) -> bool {
        leads(schema, schema.root(), &self.0)
    }
}

/// Each step into a record, array or map uses up a token, and a union holds no other union at once: so this ends.
fn leads(schema: &Schema, id: NodeId, tokens: &[Box<str>]) -> bool {
    schema.branches(&id).any(|node| match (node, tokens.split_first()) {
        (Node::Record { fields, .. }, Some((first, rest))) => {
            fields.iter().any(|field| field.name == *first && leads(schema, field.node, rest))
        }
        (Node::Array(items), Some((first, rest))) => index(first).is_some() && leads(schema, *items, rest),
        (Node::Map(values), Some((_, rest))) => leads(schema, *values, rest),
        (Node::Record { .. } | Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Null, _) => false,
        (_, tokens) => tokens.is_none(),
    })
}

/// The index that a token names: digits without a leading zero.
fn index(token: &str) -> Option<u64> {
    let is_index =
        token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    is_index.then(|| token.parse().ok()).flatten()
}

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// A `null`.
    Null,
    /// An `int` or `long`, and what it counts since 1970 if its schema says so.
    Number(i64, Option<Unit>),
    /// A `string`, or the symbol of an `enum`.
    Text(&'a str),
    /// A `bytes`, or a `fixed` that is no UUID.
    Bytes(&'a [u8]),
    /// A `fixed` that is a UUID.
    Uuid(&'a [u8; 16]),
    /// Anything else: what has parts, truths, fractions.
    Other,
}

/// Finds the values at `N` places, at most 8, in a datum.
///
/// # Errors
/// [`AvroError`]: the bytes are no datum of this schema, or go beyond the bounds.
pub fn find<'a, const N: usize>(
    schema: &'a Schema,
    datum: &'a [u8],
    places: [Option<&Pointer>; N],
) -> Result<[Option<Scalar<'a>>; N], AvroError> {
    const { assert!(N <= 8, "one bit of a byte for each place") };
    let values = datum.len().saturating_mul(MAX_DEPTH).saturating_add(MAX_EMPTY);
    let mut walk = Walk { schema, places, reader: Reader::new(datum), found: [None; N], values };
    let wanted = (0..N).filter(|slot| places[*slot].is_some()).fold(0, |mask, slot| mask | 1 << slot);
    walk.value(schema.root(), At { depth: 0, tokens: 0, wanted })?;
    walk.reader.end()?;
    Ok(walk.found)
}

struct Walk<'a, 'p, const N: usize> {
    schema: &'a Schema,
    places: [Option<&'p Pointer>; N],
    reader: Reader<'a>,
    found: [Option<Scalar<'a>>; N],
    /// How many values may still come.
    values: usize,
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct At {
    depth: usize,
    /// Tokens that led here.
    tokens: usize,
    /// The places that begin with these tokens, one bit each.
    wanted: u8,
}

impl At {
    /// One value inwards; a union is no step of a pointer.
    fn inwards(self, tokens: usize, wanted: u8) -> Self {
        Self { depth: self.depth + 1, tokens: self.tokens + tokens, wanted }
    }
}

impl<'a, const N: usize> Walk<'a, '_, N> {
    fn value(&mut self, id: NodeId, at: At) -> Result<(), AvroError> {
        self.values = self.values.checked_sub(1).ok_or(AvroError::Many)?;
        if at.depth >= MAX_DEPTH {
            return Err(AvroError::Deep);
        }
        let scalar = match self.schema.node(id) {
            Node::Null => Scalar::Null,
            Node::Boolean => match self.reader.take(1)? {
                [0 | 1] => Scalar::Other,
                other => return Err(AvroError::Boolean(other[0])),
            },
            Node::Int => {
                let value = self.reader.long()?;
                i32::try_from(value).map_err(|_| AvroError::Range(value))?;
                Scalar::Number(value, None)
            }
            Node::Long(unit) => Scalar::Number(self.reader.long()?, *unit),
            Node::Float => self.reader.take(4).map(|_| Scalar::Other)?,
            Node::Double => self.reader.take(8).map(|_| Scalar::Other)?,
            Node::Bytes => Scalar::Bytes(self.reader.bytes()?),
            // What nobody asks for need not be UTF-8: it is the producers' and their consumers' matter.
            Node::String if at.wanted == 0 => self.reader.bytes().map(|_| Scalar::Other)?,
            Node::String => Scalar::Text(self.reader.string()?),
            Node::Fixed { size, is_uuid, .. } => {
                let bytes = self.reader.take(*size)?;
                match bytes.try_into() {
                    Ok(uuid) if *is_uuid => Scalar::Uuid(uuid),
                    _ => Scalar::Bytes(bytes),
                }
            }
            Node::Enum(symbols) => {
                let index = self.reader.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                Scalar::Text(symbol.ok_or(AvroError::Branch(index))?)
            }
            Node::Array(items) => {
                self.blocks(at, *items, false)?;
                Scalar::Other
            }
            Node::Map(values) => {
                self.blocks(at, *values, true)?;
                Scalar::Other
            }
            Node::Union(branches) => {
                let index = self.reader.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                // The branch itself is what is found.
                return self.value(*branch.ok_or(AvroError::Branch(index))?, at.inwards(0, at.wanted));
            }
            Node::Record { fields, .. } => {
                for field in fields {
                    let wanted = self.wanted(at, |token| *token == *field.name);
                    self.value(field.node, at.inwards(1, wanted))?;
                }
                Scalar::Other
            }
        };
        self.keep(at, scalar)
    }

    /// The places beyond `at` whose next token passes.
    fn wanted(&self, at: At, passes: impl Fn(&str) -> bool) -> u8 {
        if at.wanted == 0 {
            return 0;
        }
        let next = |slot: usize| self.places[slot].and_then(|place| place.0.get(at.tokens));
        let leads_on =
            |slot: &usize| at.wanted >> slot & 1 == 1 && next(*slot).is_some_and(|token| passes(token));
        (0..N).filter(leads_on).fold(0, |mask, slot| mask | 1 << slot)
    }

    /// Keeps a value for the places that end here.
    fn keep(&mut self, at: At, scalar: Scalar<'a>) -> Result<(), AvroError> {
        for slot in (0..N).filter(|slot| at.wanted >> slot & 1 == 1) {
            let ends_here = self.places[slot].is_some_and(|place| place.0.len() == at.tokens);
            // Only a map can have a place twice, and readers would disagree on which counts.
            if ends_here && self.found[slot].replace(scalar).is_some() {
                return Err(AvroError::Twice);
            }
        }
        Ok(())
    }

    /// The items of an array, or the pairs of a map: blocks, each with its count, and with its bytes if that is negative.
    fn blocks(&mut self, at: At, inner: NodeId, is_map: bool) -> Result<(), AvroError> {
        let mut position = 0_u64;
        loop {
            let count = self.reader.long()?;
            if count == 0 {
                return Ok(());
            }
            let size = if count < 0 { Some(self.reader.long()?) } else { None };
            let before = self.reader.left();
            for _ in 0..count.unsigned_abs() {
                let wanted = if is_map {
                    let key = self.reader.bytes()?;
                    self.wanted(at, |token| token.as_bytes() == key)
                } else {
                    self.wanted(at, |token| index(token) == Some(position))
                };
                position += 1;
                self.value(inner, at.inwards(1, wanted))?;
            }
            // Who skips a block by its size must not land elsewhere than who reads it.
            let taken = before - self.reader.left();
            if size.is_some_and(|size| usize::try_from(size) != Ok(taken)) {
                return Err(AvroError::BlockSize);
            }
        }
    }
}

#[cfg(test)]
mod tests;
