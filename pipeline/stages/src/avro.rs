//! Avro binary encoding (Avro 1.12 specification, "Binary encoding") of the few types that our schemas use.
//!
//! Written by hand since frames are read millions of times: the reader borrows, checks every length against what is
//! there, and never allocates by what the input says. Tests hold it against a complete implementation.

pub mod datum;
pub mod schema;

use bytes::Bytes;

/// What does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AvroError {
    /// The input ends within a value.
    #[error("the data ends early")]
    Short,
    /// A number of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    LongNumber,
    /// A length or count below zero, or beyond what could follow.
    #[error("a length of {0} cannot be")]
    Length(i64),
    /// A union branch, or an enum symbol, that the schema does not have.
    #[error("no branch or symbol {0}")]
    Branch(i64),
    /// A truth that is neither 0 nor 1.
    #[error("{0} is no boolean")]
    Boolean(u8),
    /// Values within each other beyond any that are read.
    #[error("nested more than {} values deep", datum::MAX_DEPTH)]
    Deep,
    /// More values than so many bytes can hold.
    #[error("more values than its bytes can hold")]
    Many,
    /// A key that a map has twice, where it was asked for.
    #[error("a key occurs twice in a map")]
    Twice,
    /// A block of an array or map that says another size than it has.
    #[error("a block has another size than it says")]
    BlockSize,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A count, offset or size outside 0 to 2^53 − 1, or a number outside the range of its field.
    #[error("{0} is out of range")]
    Range(i64),
    /// Bytes after the value.
    #[error("{0} bytes follow the data")]
    Trailing(usize),
}

/// Reads values one after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`AvroError::Trailing`] if anything is left.
    pub fn end(self) -> Result<(), AvroError> {
        if self.rest.is_empty() { Ok(()) } else { Err(AvroError::Trailing(self.rest.len())) }
    }

    /// A `long`: zigzag, seven bits a byte, the lowest first.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn long(&mut self) -> Result<i64, AvroError> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().enumerate().take(10) {
            if index == 9 && byte > 1 {
                return Err(AvroError::LongNumber);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(if self.rest.len() < 10 { AvroError::Short } else { AvroError::LongNumber })
    }

    /// A `long` that is a count, a size or an offset: 0 to 2^53 − 1.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn count(&mut self) -> Result<u64, AvroError> {
        let value = self.long()?;
        match u64::try_from(value) {
            Ok(count) if count <= killick_proof::encoding::MAX_COUNT => Ok(count),
            _ => Err(AvroError::Range(value)),
        }
    }

    /// A `long` that is a small number, such as that of a partition.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn number(&mut self) -> Result<u32, AvroError> {
        let value = self.long()?;
        u32::try_from(value).map_err(|_| AvroError::Range(value))
    }

    /// A `boolean`.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn bool(&mut self) -> Result<bool, AvroError> {
        match self.fixed()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(AvroError::Range((*other).into())),
        }
    }

    /// A `bytes`.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn bytes(&mut self) -> Result<&'a [u8], AvroError> {
        let length = self.long()?;
        let wanted = usize::try_from(length).map_err(|_| AvroError::Length(length))?;
        self.take(wanted)
    }

    /// A `string`.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn string(&mut self) -> Result<&'a str, AvroError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| AvroError::Utf8)
    }

    /// A `fixed` of `N` bytes.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn fixed<const N: usize>(&mut self) -> Result<&'a [u8; N], AvroError> {
        Ok(self.take(N)?.first_chunk().expect("exactly that many bytes were taken"))
    }

    /// A union of `null` and one other type.
    ///
    /// # Errors
    /// [`AvroError`], also of `value`.
    pub fn optional<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, AvroError>,
    ) -> Result<Option<T>, AvroError> {
        match self.long()? {
            0 => Ok(None),
            1 => value(self).map(Some),
            other => Err(AvroError::Branch(other)),
        }
    }

    /// An `array`, in blocks, of items that take at least one byte each.
    ///
    /// # Errors
    /// [`AvroError`], also of `item`.
    pub fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, AvroError>,
    ) -> Result<Vec<T>, AvroError> {
        let mut items = Vec::new();
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                self.long()?; // the block's bytes, for those who want to skip it
            }
            let count = usize::try_from(count.unsigned_abs()).map_err(|_| AvroError::Length(count))?;
            if count > self.rest.len() {
                return Err(AvroError::Short);
            }
            items.reserve(count.min(1_024));
            for _ in 0..count {
                items.push(item(self)?);
            }
        }
    }

    /// How many bytes are left.
    fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], AvroError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(AvroError::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// Bytes that a `long` takes.
pub fn long_len(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

impl Writer {
    /// A writer with room for so many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// A `long`.
    pub fn long(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest > 0x7f {
            self.bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push((rest & 0x7f) as u8);
    }

    /// A count, a size or an offset. Ours are at most 2^53 − 1; one beyond i64 is written as its largest value, which
    /// no reader takes.
    pub fn count(&mut self, count: u64) {
        self.long(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A `boolean`.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(value.into());
    }

    /// A `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// A `string`.
    pub fn string(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A `fixed`.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A union of `null` and one other type.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.long(0),
            Some(value) => {
                self.long(1);
                write(self, value);
            }
        }
    }

    /// An `array` in one block.
    pub fn array<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        if items.len() > 0 {
            self.count(items.len() as u64);
            items.for_each(|item| write(self, item));
        }
        self.long(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.long(value);
        writer.into_bytes().to_vec()
    }

    #[test]
    fn numbers_are_those_of_the_specification() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (8_192, &[0x80, 0x80, 1]),
        ] {
            assert_eq!(written(value), bytes, "{value}");
        }
    }

    #[test]
    fn every_number_reads_back() {
        let edges =
            (0..64).flat_map(|bit| [1_i64 << bit, (1_i64 << bit).wrapping_sub(1), -(1_i64 << (bit % 63))]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let bytes = written(value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.long(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
            assert_eq!(long_len(value), bytes.len());
        }
    }

    #[test]
    fn numbers_that_end_early_or_never_are_refused() {
        assert_eq!(Reader::new(&[]).long(), Err(AvroError::Short));
        assert_eq!(Reader::new(&[0x80]).long(), Err(AvroError::Short));
        assert_eq!(Reader::new(&[0x80; 11]).long(), Err(AvroError::LongNumber));
        let mut large = [0xff; 10];
        large[9] = 0x02;
        assert_eq!(Reader::new(&large).long(), Err(AvroError::LongNumber));
    }

    #[test]
    fn a_length_that_cannot_be_costs_nothing() {
        let mut writer = Writer::default();
        writer.long(i64::MAX);
        let bytes = writer.into_bytes();
        assert_eq!(Reader::new(&bytes).bytes(), Err(AvroError::Short));
        assert_eq!(Reader::new(&bytes).array(Reader::long), Err(AvroError::Short));
        assert_eq!(Reader::new(&written(-1)).bytes(), Err(AvroError::Length(-1)));
        assert_eq!(Reader::new(&written(i64::MIN)).array(Reader::long), Err(AvroError::Short));
    }

    #[test]
    fn an_array_may_come_in_blocks_with_and_without_their_size() {
        // [1, 2] as a plain block, [3] as a block with its size, end.
        let bytes = [4, 2, 4, 1, 2, 6, 0];
        assert_eq!(Reader::new(&bytes).array(Reader::long), Ok(vec![1, 2, 3]));
    }
}
