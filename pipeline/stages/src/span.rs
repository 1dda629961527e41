//! Lengths of time as people write them in configuration: `100ms`, `30s`, `20m`, `25h`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::record::Micros;

/// A length of time: at least 1 ms, at most 3,660 days, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// Milliseconds in the longest span.
const MAX_MILLIS: u64 = 3_660 * 86_400_000;

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time: write a whole number and ms, s, m, h or d, from 1ms to 3660d")]
pub struct SpanError(String);

impl Span {
    /// So many milliseconds, brought into the range of spans.
    pub const fn millis(millis: u64) -> Self {
        Self(if millis == 0 {
            1
        } else if millis > MAX_MILLIS {
            MAX_MILLIS
        } else {
            millis
        })
    }

    /// So many seconds, brought into the range of spans.
    pub const fn secs(secs: u64) -> Self {
        Self::millis(secs.saturating_mul(1_000))
    }

    /// The same in microseconds of log time.
    pub const fn micros(self) -> Micros {
        // At most 3.2e17: far below the limit.
        self.0.cast_signed() * 1_000
    }

    /// Whole seconds, rounded down.
    pub const fn whole_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// The same for a clock.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.chars().take(64).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let millis = text[..digits].parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        match millis {
            Some(millis) if (1..=MAX_MILLIS).contains(&millis) => Ok(Self(millis)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        match units.into_iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_and_prints_alike() {
        for (text, millis) in
            [("100ms", 100), ("30s", 30_000), ("20m", 1_200_000), ("25h", 90_000_000), ("7d", 604_800_000)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::millis(millis), "{text}");
            assert_eq!(span.to_string(), text);
        }
        assert_eq!("1500ms".parse(), Ok(Span::millis(1_500)));
        assert_eq!("3600s".parse::<Span>().unwrap().to_string(), "1h");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in
            ["", "5", "s", "0s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "4000d", "1S", "é"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
