//! Typed reading of known members from a [`Value`], in JSON or CBOR.

use crate::encoding::{MAX_COUNT, decimal, from_base64url};
use crate::fault::{Fault, Missing, Part, Wrong};
use crate::hash::Hash;
use crate::value::Value;

/// Hashes in the longest path: a tree of 2^53 leaves needs 53.
pub const MAX_PATH: usize = 64;

/// Reads the members of one object and remembers what is wrong and what is missing; wrong weighs more.
pub(crate) struct Members<'v, 'a> {
    object: &'v Value<'a>,
    wrong: Option<Wrong>,
    missing: Option<Missing>,
}

impl<'v, 'a> Members<'v, 'a> {
    pub(crate) fn of(value: &'v Value<'a>) -> Part<Self> {
        match value {
            Value::Object(_) => Ok(Self { object: value, wrong: None, missing: None }),
            other => Err(Fault::wrong(format_args!("is {}, not an object", other.kind()))),
        }
    }

    /// Reads a member that has to be there.
    pub(crate) fn take<T>(&mut self, name: &str, read: impl FnOnce(&'v Value<'a>) -> Part<T>) -> Option<T> {
        let absent = || Err(Fault::missing("is absent"));
        let fault = match self.object.get(name).map_or_else(absent, read) {
            Ok(value) => return Some(value),
            Err(fault) => fault.within(name),
        };
        match fault {
            Fault::Wrong(wrong) => self.wrong = self.wrong.take().or(Some(wrong)),
            Fault::Missing(missing) => self.missing = self.missing.take().or(Some(missing)),
        }
        None
    }

    /// Reads a member that may be absent.
    pub(crate) fn take_optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'v Value<'a>) -> Part<T>,
    ) -> Option<T> {
        self.object.get(name)?;
        self.take(name, read)
    }

    /// The faults seen, else what was made of the members.
    pub(crate) fn end<T>(self, made: Option<T>) -> Part<T> {
        match (self.wrong, self.missing, made) {
            (Some(wrong), _, _) => Err(Fault::Wrong(wrong)),
            (None, Some(missing), _) => Err(Fault::Missing(missing)),
            (None, None, Some(made)) => Ok(made),
            (None, None, None) => Err(Fault::missing("is absent")),
        }
    }
}

/// A text.
pub(crate) fn text(value: &Value<'_>) -> Part<String> {
    match value {
        Value::Text(text) => Ok(text.to_string()),
        other => Err(Fault::wrong(format_args!("is {}, not a text", other.kind()))),
    }
}

/// Bytes: base64url in JSON, a byte string in CBOR.
pub(crate) fn bytes(value: &Value<'_>, is_cbor: bool) -> Part<Vec<u8>> {
    match value {
        Value::Text(text) if !is_cbor => from_base64url(text).map_err(Fault::wrong),
        Value::Bytes(bytes) => Ok(bytes.to_vec()),
        other if is_cbor => Err(Fault::wrong(format_args!("is {}, not a byte string", other.kind()))),
        other => Err(Fault::wrong(format_args!("is {}, not a text in base64url", other.kind()))),
    }
}

/// A hash of 32 bytes.
pub(crate) fn hash(value: &Value<'_>, is_cbor: bool) -> Part<Hash> {
    let of = |bytes: &[u8]| {
        Hash::from_slice(bytes).ok_or_else(|| Fault::wrong(format_args!("has {} bytes, not 32", bytes.len())))
    };
    match value {
        Value::Bytes(bytes) => of(bytes),
        other => of(&bytes(other, is_cbor)?),
    }
}

/// A count, size or index: in JSON `0` or a decimal without sign, leading zero, fraction and exponent.
pub(crate) fn number(value: &Value<'_>) -> Part<u64> {
    let number = match value {
        Value::Number(text) => decimal(text),
        Value::Uint(number) => Some(*number).filter(|&number| number <= MAX_COUNT),
        other => return Err(Fault::wrong(format_args!("is {}, not a number", other.kind()))),
    };
    number.ok_or_else(|| {
        Fault::wrong("is not a decimal of at most 2^53 - 1 without sign, zeros in front and exponent")
    })
}

/// An audit path.
pub(crate) fn path(value: &Value<'_>, is_cbor: bool) -> Part<Vec<Hash>> {
    let items = items(value)?;
    if items.len() > MAX_PATH {
        return Err(Fault::wrong(format_args!(
            "has {} hashes; no tree needs more than {MAX_PATH}",
            items.len()
        )));
    }
    let mut path = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        path.push(hash(item, is_cbor).map_err(|fault| fault.within(&format!("[{at}]")))?);
    }
    Ok(path)
}

/// The items of an array.
pub(crate) fn items<'v, 'a>(value: &'v Value<'a>) -> Part<&'v [Value<'a>]> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(Fault::wrong(format_args!("is {}, not an array", other.kind()))),
    }
}
