//! Deterministic CBOR (RFC 8949 section 4.2.1): one value has one encoding.
//!
//! [`Reader`] takes what it is asked for or fails with the position: shortest heads and definite lengths only, and
//! nothing is allocated. [`Writer`] writes the same. [`scan`] walks an item of any kind without recursion.

mod scan;
mod write;

pub use scan::{Item, scan};
pub use write::Writer;
pub(crate) use write::head_len;

use crate::hash::Hash;

/// What is wrong with an encoding, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct CborError {
    /// Bytes before the item that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub fault: CborFault,
}

/// What can be wrong with an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborFault {
    /// The input ends inside an item.
    #[error("the input ends inside an item")]
    End,
    /// Something stands behind the item.
    #[error("the item has ended and bytes follow")]
    Trailing,
    /// A reserved first byte, or a simple value below 32 in two bytes.
    #[error("a reserved encoding")]
    Reserved,
    /// A break with nothing to end, or a string inside another that is not of its kind.
    #[error("an indefinite length is broken")]
    Broken,
    /// More containers and tags inside each other than allowed.
    #[error("nested too deep")]
    TooDeep,
    /// A number, length, tag or float that fits into fewer bytes.
    #[error("not the shortest encoding")]
    NotShortest,
    /// An indefinite length.
    #[error("an indefinite length")]
    Indefinite,
    /// A map whose keys do not ascend bytewise.
    #[error("a map key out of order")]
    KeyOrder,
    /// A map with a key twice.
    #[error("a map key that occurs twice")]
    DuplicateKey,
    /// An item of another kind.
    #[error("{found} where {expected} is expected")]
    Kind {
        /// What is expected.
        expected: Kind,
        /// What stands there.
        found: Kind,
    },
    /// An integer beyond the signed 64-bit numbers.
    #[error("an integer beyond 64 bits with sign")]
    Range,
    /// A byte string or an array of another length.
    #[error("a length of {found} where {expected} is expected")]
    Length {
        /// Bytes or elements that are expected.
        expected: usize,
        /// Bytes or elements that it says to have.
        found: usize,
    },
    /// A text string that is not UTF-8.
    #[error("a text that is not utf-8")]
    NotUtf8,
}

impl CborFault {
    const fn at(self, at: usize) -> CborError {
        CborError { at, fault: self }
    }
}

/// The kinds of items, as far as the first byte tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 8949")]
pub enum Kind {
    Uint,
    NegativeInt,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Bool,
    Null,
    Undefined,
    Simple,
    Float,
    Break,
}

impl Kind {
    const fn of(first: u8) -> Self {
        match (first >> 5, first & 0x1f) {
            (0, _) => Self::Uint,
            (1, _) => Self::NegativeInt,
            (2, _) => Self::Bytes,
            (3, _) => Self::Text,
            (4, _) => Self::Array,
            (5, _) => Self::Map,
            (6, _) => Self::Tag,
            (_, 20 | 21) => Self::Bool,
            (_, 22) => Self::Null,
            (_, 23) => Self::Undefined,
            (_, 25..=27) => Self::Float,
            (_, 31) => Self::Break,
            (_, _) => Self::Simple,
        }
    }

    /// The major type of which all items are of this kind (RFC 8949 section 3.1).
    const fn major(self) -> Option<u8> {
        match self {
            Self::Uint => Some(0),
            Self::NegativeInt => Some(1),
            Self::Bytes => Some(2),
            Self::Text => Some(3),
            Self::Array => Some(4),
            Self::Map => Some(5),
            Self::Tag => Some(6),
            _ => None,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uint => "an unsigned integer",
            Self::NegativeInt => "a negative integer",
            Self::Bytes => "a byte string",
            Self::Text => "a text string",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Tag => "a tag",
            Self::Bool => "a boolean",
            Self::Null => "null",
            Self::Undefined => "undefined",
            Self::Simple => "a simple value",
            Self::Float => "a float",
            Self::Break => "a break",
        })
    }
}

/// The first bytes of an item: its kind and its number (value, length or tag).
#[derive(Clone, Copy)]
struct Head {
    first: u8,
    /// `None`: indefinite, or a break.
    number: Option<u64>,
    is_shortest: bool,
    /// Where the head ends.
    end: usize,
}

impl Head {
    /// Reads the head at `at`; refuses only what is malformed.
    #[inline]
    fn read(input: &[u8], at: usize) -> Result<Self, CborError> {
        let first = *input.get(at).ok_or(CborFault::End.at(at))?;
        let info = first & 0x1f;
        if info < 24 {
            return Ok(Self { first, number: Some(u64::from(info)), is_shortest: true, end: at + 1 });
        }
        let rest = &input[at + 1..];
        let (number, smallest, width) = match info {
            24 => (rest.first().map(|&byte| u64::from(byte)), 24, 1),
            25 => (rest.first_chunk().map(|bytes| u64::from(u16::from_be_bytes(*bytes))), 1 << 8, 2),
            26 => (rest.first_chunk().map(|bytes| u64::from(u32::from_be_bytes(*bytes))), 1 << 16, 4),
            27 => (rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)), 1 << 32, 8),
            31 if !matches!(first >> 5, 0 | 1 | 6) => {
                return Ok(Self { first, number: None, is_shortest: true, end: at + 1 });
            }
            _ => return Err(CborFault::Reserved.at(at)),
        };
        let number = number.ok_or(CborFault::End.at(at))?;
        Ok(Self { first, number: Some(number), is_shortest: number >= smallest, end: at + 1 + width })
    }
}

/// Reads deterministic CBOR item by item.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The kind of the next item, which is not taken.
    ///
    /// # Errors
    /// [`CborFault::End`] where none follows.
    pub fn kind(&self) -> Result<Kind, CborError> {
        self.input.get(self.at).map(|&first| Kind::of(first)).ok_or(CborFault::End.at(self.at))
    }

    /// Takes an unsigned integer.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.take(Kind::Uint)
    }

    /// Takes an integer of either sign.
    ///
    /// # Errors
    /// [`CborError`] for anything else; [`CborFault::Range`] for one beyond `i64`.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let at = self.at;
        let is_negative = self.kind()? == Kind::NegativeInt;
        let number = self.take(if is_negative { Kind::NegativeInt } else { Kind::Uint })?;
        let number = i64::try_from(number).map_err(|_| CborFault::Range.at(at))?;
        Ok(if is_negative { -1 - number } else { number })
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn bool(&mut self) -> Result<bool, CborError> {
        Ok(self.take(Kind::Bool)? == 21)
    }

    /// Takes null. `undefined` is not null.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn null(&mut self) -> Result<(), CborError> {
        self.take(Kind::Null).map(drop)
    }

    /// Takes null if it is what follows; says whether it was.
    ///
    /// # Errors
    /// [`CborFault::End`] where nothing follows.
    pub fn is_null(&mut self) -> Result<bool, CborError> {
        let is_null = self.kind()? == Kind::Null;
        self.at += usize::from(is_null);
        Ok(is_null)
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        self.string(Kind::Bytes)
    }

    /// Takes a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// [`CborError`] for anything else; [`CborFault::Length`] for another length.
    pub fn byte_array<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> {
        let at = self.at;
        let bytes = self.bytes()?;
        bytes.try_into().map_err(|_| CborFault::Length { expected: N, found: bytes.len() }.at(at))
    }

    /// Takes a hash: a byte string of 32.
    ///
    /// # Errors
    /// As [`byte_array`](Self::byte_array).
    pub fn hash(&mut self) -> Result<Hash, CborError> {
        self.byte_array().map(|bytes| Hash::new(*bytes))
    }

    /// Takes a text string.
    ///
    /// # Errors
    /// [`CborError`] for anything else; [`CborFault::NotUtf8`] for bytes that are no text.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let at = self.at;
        std::str::from_utf8(self.string(Kind::Text)?).map_err(|_| CborFault::NotUtf8.at(at))
    }

    /// Takes the head of an array; returns how many elements follow, at most one for each byte that is left.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn array(&mut self) -> Result<usize, CborError> {
        self.container(Kind::Array, 1)
    }

    /// Takes the head of an array of exactly `expected` elements.
    ///
    /// # Errors
    /// [`CborError`] for anything else; [`CborFault::Length`] for another length.
    pub fn array_of(&mut self, expected: usize) -> Result<(), CborError> {
        let at = self.at;
        let found = self.array()?;
        if found == expected { Ok(()) } else { Err(CborFault::Length { expected, found }.at(at)) }
    }

    /// Takes the head of a map; returns how many pairs follow. The caller holds the keys against
    /// [`CborFault::KeyOrder`], or reads the whole map with [`skip`](Self::skip) first.
    ///
    /// # Errors
    /// [`CborError`] for anything else.
    pub fn map(&mut self) -> Result<usize, CborError> {
        self.container(Kind::Map, 2)
    }

    /// Takes one whole item of any kind, nested at most `max_depth` deep, and returns its bytes.
    /// Everything in it is held against the rules of determinism.
    ///
    /// # Errors
    /// [`CborError`] says what is wrong inside.
    pub fn skip(&mut self, max_depth: usize) -> Result<&'a [u8], CborError> {
        let item = scan(self.input, self.at, max_depth)?;
        if let Some(breach) = item.breach {
            return Err(breach);
        }
        let bytes = &self.input[self.at..item.end];
        self.at = item.end;
        Ok(bytes)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`CborFault::Trailing`] where bytes are left.
    pub fn finish(self) -> Result<(), CborError> {
        if self.at == self.input.len() { Ok(()) } else { Err(CborFault::Trailing.at(self.at)) }
    }

    /// Takes the head of an item of this kind and returns its number.
    #[inline]
    fn take(&mut self, expected: Kind) -> Result<u64, CborError> {
        let at = self.at;
        // Most numbers stand in the first byte.
        if let Some(&first) = self.input.get(at)
            && first & 0x1f < 24
            && expected.major() == Some(first >> 5)
        {
            self.at += 1;
            return Ok(u64::from(first & 0x1f));
        }
        let head = Head::read(self.input, at)?;
        let found = Kind::of(head.first);
        if found != expected {
            return Err(CborFault::Kind { expected, found }.at(at));
        }
        let number = head.number.ok_or(CborFault::Indefinite.at(at))?;
        if !head.is_shortest {
            return Err(CborFault::NotShortest.at(at));
        }
        self.at = head.end;
        Ok(number)
    }

    #[inline]
    fn string(&mut self, kind: Kind) -> Result<&'a [u8], CborError> {
        let at = self.at;
        let length = usize::try_from(self.take(kind)?).ok();
        let end = length.and_then(|length| self.at.checked_add(length));
        let bytes = end.and_then(|end| self.input.get(self.at..end)).ok_or(CborFault::End.at(at))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn container(&mut self, kind: Kind, items_each: usize) -> Result<usize, CborError> {
        let at = self.at;
        let length = self.take(kind)?;
        let most = (self.input.len() - self.at) / items_each;
        usize::try_from(length).ok().filter(|&length| length <= most).ok_or(CborFault::End.at(at))
    }
}

#[cfg(test)]
mod tests;
