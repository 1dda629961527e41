//! What one batch header of a log demands of the next: they are numbered, and leave nothing out.

use crate::batch::{BatchError, BatchHeader};

/// Where the next header of a log has to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Succession {
    /// Its number: its leaf index in the log.
    pub number: u64,
    /// Its first offset in `unique`.
    pub offset: u64,
    /// The log-append time that it must not lie before, in µs.
    pub time: i64,
}

/// Why a header cannot be the next of its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// It is no batch header.
    #[error(transparent)]
    Header(#[from] BatchError),
    /// It is of another log.
    #[error("it says that it is of the log {0}")]
    Origin(String),
    /// It has another number.
    #[error("it says that it is batch {found}, and {expected} is next")]
    Number {
        /// The number of the next batch.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Its offsets leave a gap or overlap.
    #[error("it begins at offset {found}, and {expected} is next")]
    Offset {
        /// The offset where the next batch begins.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// Log time runs backwards.
    #[error("its time, {found} µs, lies before that of the last batch, {last} µs")]
    Time {
        /// The last time of the batches before.
        last: i64,
        /// Its first time.
        found: i64,
    },
}

impl Default for Succession {
    fn default() -> Self {
        Self { number: 0, offset: 0, time: i64::MIN }
    }
}

impl Succession {
    /// What is behind this header, whatever was before it.
    pub fn behind(header: &BatchHeader<'_>) -> Self {
        // Both are at most 2^53 − 1.
        Self { number: header.number + 1, offset: header.last_offset + 1, time: header.last_time }
    }

    /// Takes the next header of the log with this origin.
    ///
    /// # Errors
    /// [`SuccessionError`]; nothing is taken then.
    pub fn follow(&mut self, origin: &str, header: &[u8]) -> Result<(), SuccessionError> {
        let header = BatchHeader::decode(header)?;
        if header.origin.as_str() != origin {
            return Err(SuccessionError::Origin(header.origin.to_string()));
        }
        if header.number != self.number {
            return Err(SuccessionError::Number { expected: self.number, found: header.number });
        }
        if header.first_offset != self.offset {
            return Err(SuccessionError::Offset { expected: self.offset, found: header.first_offset });
        }
        if header.first_time < self.time {
            return Err(SuccessionError::Time { last: self.time, found: header.first_time });
        }
        *self = Self::behind(&header);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::origin::Origin;

    const ORIGIN: &str = "plant.example/1/sha256/7";

    fn header(number: u64, offsets: (u64, u64), times: (i64, i64)) -> BatchHeader<'static> {
        BatchHeader {
            origin: Origin::parse(ORIGIN).unwrap(),
            number,
            first_offset: offsets.0,
            last_offset: offsets.1,
            first_time: times.0,
            last_time: times.1,
            leaf_count: 1,
            root: Hash::new([9; 32]),
            duplicates: 0,
            conflicts: 0,
        }
    }

    #[test]
    fn headers_that_follow_each_other_are_taken_and_no_others() {
        let mut next = Succession::default();
        let mut follow = |header: BatchHeader<'_>| next.follow(ORIGIN, &header.encode().unwrap());
        assert_eq!(follow(header(0, (0, 9), (-5, 3))), Ok(()));
        assert_eq!(follow(header(1, (10, 10), (3, 8))), Ok(()));
        let expected = 2;
        for found in [0, 1, 3] {
            let wrong = follow(header(found, (11, 12), (8, 8)));
            assert_eq!(wrong, Err(SuccessionError::Number { expected, found }));
        }
        for found in [10, 12] {
            let wrong = follow(header(2, (found, 12), (8, 8)));
            assert_eq!(wrong, Err(SuccessionError::Offset { expected: 11, found }));
        }
        let wrong = follow(header(2, (11, 12), (7, 9)));
        assert_eq!(wrong, Err(SuccessionError::Time { last: 8, found: 7 }));
        let other = BatchHeader {
            origin: Origin::parse("plant.example/1/sha256/8").unwrap(),
            ..header(2, (11, 12), (8, 8))
        };
        assert_eq!(follow(other), Err(SuccessionError::Origin("plant.example/1/sha256/8".into())));
        assert_eq!(follow(header(2, (11, 12), (8, 8))), Ok(()));
        assert_eq!(next, Succession { number: 3, offset: 13, time: 8 });
        assert!(matches!(next.follow(ORIGIN, b"no header"), Err(SuccessionError::Header(_))));
    }

    #[test]
    fn a_log_begins_with_batch_0_at_offset_0() {
        for wrong in [header(1, (0, 0), (0, 0)), header(0, (1, 1), (0, 0))] {
            assert!(Succession::default().follow(ORIGIN, &wrong.encode().unwrap()).is_err());
        }
        let end = crate::encoding::MAX_COUNT;
        assert_eq!(Succession::behind(&header(end, (end, end), (i64::MIN, i64::MAX))).offset, end + 1);
    }
}
