//! Batch headers: what a log says about one batch. A header is a leaf of its log.

use crate::cbor::{CborError, Reader, Writer};
use crate::encoding::MAX_COUNT;
use crate::hash::{Algorithm, Hash};
use crate::origin::{Origin, OriginError};

/// Bytes in the longest header of a log whose hash is one of ours.
pub const MAX_HEADER: usize = 512;

/// One batch: which log it is in, which records it is made from, and the root over its statements.
///
/// The header names its hash algorithm as the origin does; so only the origin is kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader<'a> {
    /// The log.
    pub origin: Origin<'a>,
    /// The batch's number in the log, from 0: its leaf index there.
    pub number: u64,
    /// First offset in `unique`.
    pub first_offset: u64,
    /// Last offset in `unique`, inclusive.
    pub last_offset: u64,
    /// Log-append time of the first record, µs since 1970-01-01T00:00:00Z.
    pub first_time: i64,
    /// Log-append time of the last record, in µs.
    pub last_time: i64,
    /// Statements in the batch, at least 1: the size of its tree.
    pub leaf_count: u64,
    /// The root of its tree.
    pub root: Hash,
    /// Copies that dedup counted in this range of offsets.
    pub duplicates: u64,
    /// Changed copies that dedup counted in this range of offsets.
    pub conflicts: u64,
}

/// Why a batch header is refused; each names its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The encoding is wrong.
    #[error("{field}: {cause}")]
    Encoding {
        /// The field that does not decode; `header` for what is around the fields.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        cause: CborError,
    },
    /// A version that is not 1.
    #[error("version: {0} is not known here")]
    Version(u64),
    /// The origin is wrong.
    #[error("origin: {0}")]
    Origin(#[from] OriginError),
    /// Another hash algorithm than the origin's.
    #[error("hash algorithm: not the one that the origin names")]
    Algorithm,
    /// A number beyond 2^53 − 1.
    #[error("{field}: {value} is beyond 2^53 - 1")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The first offset or time is after the last.
    #[error("{0}: the first is after the last")]
    Reversed(&'static str),
    /// A batch without leaves.
    #[error("leaf count: a batch has at least one leaf")]
    Empty,
}

impl<'a> BatchHeader<'a> {
    /// The version that is read and written here.
    pub const VERSION: u64 = 1;

    /// Decodes a header strictly. A hash algorithm that is not understood is well formed here.
    ///
    /// # Errors
    /// [`BatchError`] names the first field that is wrong.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let mut reader = Reader::new(bytes);
        reader.array_of(12).map_err(in_field("header"))?;
        match reader.uint().map_err(in_field("version"))? {
            Self::VERSION => {}
            version => return Err(BatchError::Version(version)),
        }
        let origin = Origin::parse(reader.text().map_err(in_field("origin"))?)?;
        let number = reader.uint().map_err(in_field("number"))?;
        if reader.text().map_err(in_field("hash algorithm"))? != origin.hash_name() {
            return Err(BatchError::Algorithm);
        }
        let header = Self {
            origin,
            number,
            first_offset: reader.uint().map_err(in_field("first offset"))?,
            last_offset: reader.uint().map_err(in_field("last offset"))?,
            first_time: reader.int().map_err(in_field("first time"))?,
            last_time: reader.int().map_err(in_field("last time"))?,
            leaf_count: reader.uint().map_err(in_field("leaf count"))?,
            root: reader.hash().map_err(in_field("root"))?,
            duplicates: reader.uint().map_err(in_field("duplicates"))?,
            conflicts: reader.uint().map_err(in_field("conflicts"))?,
        };
        reader.finish().map_err(in_field("header"))?;
        header.check()?;
        Ok(header)
    }

    /// The header's one encoding.
    ///
    /// # Errors
    /// [`BatchError`] for a field that breaks its rule.
    pub fn encode(&self) -> Result<Vec<u8>, BatchError> {
        self.check()?;
        let mut out = Vec::with_capacity(160 + self.origin.as_str().len());
        let mut writer = Writer::new(&mut out);
        writer.array(12).uint(Self::VERSION).text(self.origin.as_str()).uint(self.number);
        writer.text(self.origin.hash_name()).uint(self.first_offset).uint(self.last_offset);
        writer.int(self.first_time).int(self.last_time).uint(self.leaf_count);
        writer.bytes(self.root.as_bytes()).uint(self.duplicates).uint(self.conflicts);
        Ok(out)
    }

    /// The hash of the batch and of its log; `None` where it is not understood.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.origin.algorithm()
    }

    /// The batch id: the header's leaf hash in its log; `None` where the hash is not understood.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn id(&self) -> Result<Option<Hash>, BatchError> {
        let encoded = self.encode()?;
        Ok(self.algorithm().map(|algorithm| algorithm.leaf(&encoded)))
    }

    fn check(&self) -> Result<(), BatchError> {
        let counts = [
            ("number", self.number),
            ("first offset", self.first_offset),
            ("last offset", self.last_offset),
            ("leaf count", self.leaf_count),
            ("duplicates", self.duplicates),
            ("conflicts", self.conflicts),
        ];
        if let Some((field, value)) = counts.into_iter().find(|&(_, value)| value > MAX_COUNT) {
            return Err(BatchError::TooLarge { field, value });
        }
        if self.first_offset > self.last_offset {
            return Err(BatchError::Reversed("offsets"));
        }
        if self.first_time > self.last_time {
            return Err(BatchError::Reversed("times"));
        }
        if self.leaf_count == 0 { Err(BatchError::Empty) } else { Ok(()) }
    }
}

fn in_field(field: &'static str) -> impl Fn(CborError) -> BatchError {
    move |cause| BatchError::Encoding { field, cause }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> BatchHeader<'static> {
        BatchHeader {
            origin: Origin::parse("plant.example/1/sha256/7").unwrap(),
            number: 5_123,
            first_offset: 10,
            last_offset: 1_009,
            first_time: -5,
            last_time: 1_700_000_000_000_000,
            leaf_count: 1_000,
            root: Hash::new([9; 32]),
            duplicates: 3,
            conflicts: 0,
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let bytes = header().encode().unwrap();
        assert_eq!(BatchHeader::decode(&bytes), Ok(header()));
        assert_eq!(header().id(), Ok(Some(Algorithm::Sha256.leaf(&bytes))));
    }

    #[test]
    fn the_longest_header_is_within_its_bound() {
        let origin = format!("{}/{MAX_COUNT}/sha512t_256/{MAX_COUNT}", "a".repeat(200));
        let header = BatchHeader {
            origin: Origin::parse(&origin).unwrap(),
            number: MAX_COUNT,
            first_offset: MAX_COUNT,
            last_offset: MAX_COUNT,
            first_time: i64::MIN,
            last_time: i64::MAX,
            leaf_count: MAX_COUNT,
            duplicates: MAX_COUNT,
            conflicts: MAX_COUNT,
            ..header()
        };
        assert!(header.encode().unwrap().len() <= MAX_HEADER);
    }

    #[test]
    fn a_hash_nobody_knows_has_no_id() {
        let header = BatchHeader { origin: Origin::parse("a/1/blake3/7").unwrap(), ..header() };
        assert_eq!(BatchHeader::decode(&header.encode().unwrap()), Ok(header));
        assert_eq!(header.id(), Ok(None));
    }

    #[test]
    fn a_field_that_breaks_its_rule_is_named_in_both_directions() {
        let over = MAX_COUNT + 1;
        let cases = [
            (BatchHeader { number: over, ..header() }, BatchError::TooLarge { field: "number", value: over }),
            (BatchHeader { first_offset: 1_010, ..header() }, BatchError::Reversed("offsets")),
            (
                BatchHeader { last_offset: over, ..header() },
                BatchError::TooLarge { field: "last offset", value: over },
            ),
            (BatchHeader { last_time: -6, ..header() }, BatchError::Reversed("times")),
            (BatchHeader { leaf_count: 0, ..header() }, BatchError::Empty),
            (
                BatchHeader { conflicts: over, ..header() },
                BatchError::TooLarge { field: "conflicts", value: over },
            ),
        ];
        for (wrong, error) in cases {
            assert_eq!(wrong.encode(), Err(error));
            assert_eq!(BatchHeader::decode(&unchecked(&wrong)), Err(error));
        }
    }

    #[test]
    fn another_hash_than_the_origins_is_refused() {
        let bytes = header().encode().unwrap();
        let at = bytes.windows(7).rposition(|window| window == b"\x66sha256").unwrap();
        let mut other = bytes.clone();
        other[at + 1..at + 7].copy_from_slice(b"sha255");
        assert_eq!(BatchHeader::decode(&other), Err(BatchError::Algorithm));
    }

    /// The encoding without the check of the values.
    fn unchecked(header: &BatchHeader<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(12).uint(1).text(header.origin.as_str()).uint(header.number).text("sha256");
        writer
            .uint(header.first_offset)
            .uint(header.last_offset)
            .int(header.first_time)
            .int(header.last_time);
        writer
            .uint(header.leaf_count)
            .bytes(header.root.as_bytes())
            .uint(header.duplicates)
            .uint(header.conflicts);
        out
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused_or_means_something_else(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut bytes = header().encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(other) = BatchHeader::decode(&bytes) {
                prop_assert_ne!(other, header());
                prop_assert_eq!(other.encode().unwrap(), bytes);
            }
        }
    }
}
