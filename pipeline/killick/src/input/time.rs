//! Times as files carry them.

use killick_stages::envelope::rfc3339;
use killick_stages::record::Micros;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The years 1 to 9999 in microseconds: those that everybody who reads RFC 3339 can write.
const YEARS: std::ops::Range<Micros> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Reads a time: RFC 3339; `YYYY-MM-DD HH:MM:SS` with or without a fraction, which is UTC; or a number since 1970, whose
/// size tells seconds (below 10^11) from milliseconds (below 10^14) and microseconds. What is finer than a microsecond
/// is cut off. `None` for anything else, and for what lies outside the years 1 to 9999.
pub fn parse(text: &str) -> Option<Micros> {
    let text = text.trim_ascii();
    dated(text).or_else(|| number(text)).filter(|time| YEARS.contains(time))
}

/// As [`parse`], without numbers: what nothing but a time looks like.
pub fn dated(text: &str) -> Option<Micros> {
    // The shortest has 19 characters; other texts are not worth a parser.
    if text.len() < 19 || text.len() > 64 {
        return None;
    }
    if let Ok(time) = rfc3339(text) {
        return Some(time);
    }
    let plain = format_description!("[year]-[month]-[day] [hour]:[minute]:[second][optional [.[subsecond]]]");
    let time = PrimitiveDateTime::parse(&text.replacen('T', " ", 1), plain).ok()?.assume_utc();
    micros(time)
}

/// The present time of this machine's clock.
pub fn now() -> Micros {
    micros(OffsetDateTime::now_utc()).unwrap_or(Micros::MAX)
}

fn micros(time: OffsetDateTime) -> Option<Micros> {
    Micros::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).ok()
}

/// A decimal number, digit by digit: floating point would move the last microseconds.
fn number(text: &str) -> Option<Micros> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 17 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let size: Micros = whole.parse().ok()?;
    let places = match size {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        _ => 0,
    };
    let mut value = size;
    let mut rest = fraction.bytes();
    for _ in 0..places {
        value = value.checked_mul(10)?.checked_add(Micros::from(rest.next().unwrap_or(b'0') - b'0'))?;
    }
    // Towards the past, as everywhere: -1.0000001 s is a little before -1 s.
    let finer = rest.any(|digit| digit != b'0');
    Some(if negative { -value - Micros::from(finer) } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_their_forms() {
        for (text, micros) in [
            ("2013-12-02T21:15:00Z", 1_386_018_900_000_000),
            ("2013-12-02T22:15:00.5+01:00", 1_386_018_900_500_000),
            ("2013-12-02 21:15:00", 1_386_018_900_000_000),
            ("2013-12-02T21:15:00", 1_386_018_900_000_000),
            ("2013-12-02 21:15:00.123456789", 1_386_018_900_123_456),
            (" 1386018900 ", 1_386_018_900_000_000),
            ("1386018900.25", 1_386_018_900_250_000),
            ("1386018900123", 1_386_018_900_123_000),
            ("1386018900123.4567", 1_386_018_900_123_456),
            ("1386018900123456", 1_386_018_900_123_456),
            ("0", 0),
            ("-1.5", -1_500_000),
            ("-0.0000001", -1),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "now",
            "1e9",
            "0x10",
            "2013-12-02",
            "2013-13-02 21:15:00",
            "2013-12-02 25:15:00",
            "999999999999999999",
            "99999999999999999999999999",
            "1.2.3",
            "١٢٣",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
