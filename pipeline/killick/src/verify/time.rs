//! Times as people and programs read them.

use std::fmt;

use serde::{Serialize, Serializer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

const SECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MICROS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A time in µs since 1970-01-01T00:00:00Z: RFC 3339 in UTC in the years 1 to 9999, else the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub i64);

impl Time {
    fn rfc3339(self) -> Option<String> {
        let time = OffsetDateTime::UNIX_EPOCH.checked_add(Duration::microseconds(self.0))?;
        let format = if time.microsecond() == 0 { SECONDS } else { MICROS };
        (1..=9999).contains(&time.year()).then(|| time.format(format).ok())?
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rfc3339() {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.rfc3339() {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_i64(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(micros: i64) -> String {
        serde_json::to_string(&Time(micros)).unwrap()
    }

    #[test]
    fn times_are_rfc_3339_with_microseconds_as_needed() {
        assert_eq!(json(0), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(json(1_790_061_230_000_011), "\"2026-09-22T07:13:50.000011Z\"");
        assert_eq!(json(1_500_000), "\"1970-01-01T00:00:01.500000Z\"");
        assert_eq!(json(-1), "\"1969-12-31T23:59:59.999999Z\"");
    }

    #[test]
    fn times_outside_the_years_1_to_9999_are_numbers() {
        assert_eq!(json(-62_135_596_800_000_000), "\"0001-01-01T00:00:00Z\"");
        assert_eq!(json(-62_135_596_800_000_001), "-62135596800000001");
        assert_eq!(json(253_402_300_799_999_999), "\"9999-12-31T23:59:59.999999Z\"");
        assert_eq!(json(253_402_300_800_000_000), "253402300800000000");
        for extreme in [i64::MIN, i64::MAX] {
            assert_eq!(json(extreme), extreme.to_string());
        }
    }
}
