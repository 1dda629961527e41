//! Exact decimal numbers, read and written as the node does.

/// Most digits, and the furthest the point is moved, in a number that is computed with.
const MAX_DIGITS: usize = 512;

/// Digits after the point that amounts of the coin have (its precision).
const COIN_PLACES: i32 = 12;

/// The largest integer that the node writes as a bare JSON number: 2^53 - 1.
#[cfg(feature = "devnet")]
const MAX_SAFE: u128 = (1 << 53) - 1;

/// `digits` × 10^`exponent`, normalised: no leading and no trailing zero; zero has no digits and no sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// Parses an optional sign, digits, an optional fraction and an optional exponent. `None` for anything
    /// else, and for numbers beyond some hundred digits either side of the point.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (number, exponent) = match rest.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || text.len() > MAX_DIGITS {
            return None;
        }
        let places = i32::try_from(fraction.len()).ok()?;
        let all = [whole, fraction].concat();
        let digits = all.trim_start_matches('0').trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let trailing = all.len() - all.trim_end_matches('0').len();
        let exponent = exponent.checked_sub(places)?.checked_add(i32::try_from(trailing).ok()?)?;
        if exponent.unsigned_abs() as usize > MAX_DIGITS {
            return None;
        }
        Some(Self { negative, digits, exponent })
    }

    /// As a number of 10^-12 parts; `None` if negative, finer than that, or too large.
    pub(super) fn to_units(&self) -> Option<u128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let shift = u32::try_from(self.exponent.checked_add(COIN_PLACES)?).ok()?;
        if self.negative {
            return None;
        }
        self.digits.parse::<u128>().ok()?.checked_mul(10_u128.checked_pow(shift)?)
    }

    /// With all digits written out, as in the node's error texts: `0.00000001`.
    pub(super) fn fixed(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = &self.digits;
        if digits.is_empty() {
            return "0".into();
        }
        if self.exponent >= 0 {
            return format!("{sign}{digits}{}", "0".repeat(self.exponent.unsigned_abs() as usize));
        }
        let places = self.exponent.unsigned_abs() as usize;
        match digits.len().checked_sub(places) {
            Some(0) | None => format!("{sign}0.{}{digits}", "0".repeat(places - digits.len())),
            Some(whole) => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
        }
    }
}

#[cfg(feature = "devnet")]
impl Decimal {
    /// A number of 10^-12 parts of the coin.
    pub(super) fn from_units(units: u128) -> Self {
        let all = units.to_string();
        let digits = all.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        let trailing = i32::try_from(all.len() - digits.len()).expect("u128 has at most 39 digits");
        Self { negative: false, digits, exponent: trailing - COIN_PLACES }
    }

    /// Digits after the point.
    pub(super) fn places(&self) -> u32 {
        if self.exponent < 0 { self.exponent.unsigned_abs() } else { 0 }
    }

    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    /// The whole part, towards zero; `None` if it does not fit.
    pub(super) fn truncated(&self) -> Option<i64> {
        let fixed = self.fixed();
        fixed.split('.').next().and_then(|whole| whole.parse().ok())
    }

    /// As the node writes a decimal in JSON: a bare number (`7.5e-6`, `1.1522615`, `1000`), or
    /// `{"decimal":"…"}` where the mantissa is above 2^53 - 1.
    pub(super) fn json(&self) -> String {
        let zeros = if self.exponent > 0 { self.exponent.unsigned_abs() as usize } else { 0 };
        let mantissa = format!("{}{}", self.digits, "0".repeat(zeros));
        let is_safe =
            mantissa.is_empty() || mantissa.parse::<u128>().is_ok_and(|mantissa| mantissa <= MAX_SAFE);
        if !is_safe {
            return format!("{{\"decimal\":\"{}\"}}", self.fixed());
        }
        // 0.digits × 10^point: plain where 0.1 ≤ |x| < 10^7, as the node's number printer has it.
        let point = i64::from(self.exponent) + self.digits.len() as i64;
        if self.exponent >= 0 || (0..=7).contains(&point) {
            return self.fixed();
        }
        let sign = if self.negative { "-" } else { "" };
        let (first, rest) = self.digits.split_at(1);
        let rest = if rest.is_empty() { "0" } else { rest };
        format!("{sign}{first}.{rest}e{}", point - 1)
    }
}

/// An amount of the coin in 10^-12 parts as the node writes a balance. Those that paid something have all places.
#[cfg(feature = "devnet")]
pub(super) fn balance_json(units: u128) -> String {
    let one = 10_u128.pow(COIN_PLACES.unsigned_abs());
    if units <= MAX_SAFE || units.is_multiple_of(one) {
        return Decimal::from_units(units).json();
    }
    format!("{{\"decimal\":\"{}.{:012}\"}}", units / one, units % one)
}

/// An integer as the node writes it in JSON: `{"int":n}`, with the number as text beyond ±(2^53 - 1).
/// `text` is an optional sign and digits.
#[cfg(feature = "devnet")]
pub(super) fn integer_json(text: &str) -> Option<String> {
    let number = Decimal::parse(text).filter(|number| number.places() == 0)?.fixed();
    let is_safe = number.trim_start_matches('-').parse::<u128>().is_ok_and(|number| number <= MAX_SAFE);
    Some(if is_safe { format!("{{\"int\":{number}}}") } else { format!("{{\"int\":\"{number}\"}}") })
}

#[cfg(all(test, feature = "devnet"))]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_as_recorded() {
        let cases = [
            ("1", "1"),
            ("1.0", "1"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1e21", "{\"decimal\":\"1000000000000000000000\"}"),
            ("1e-7", "1.0e-7"),
            ("-0.0", "0"),
            ("9007199254740993", "{\"decimal\":\"9007199254740993\"}"),
            ("0.12345678901234567", "{\"decimal\":\"0.12345678901234567\"}"),
            ("123456789012345678901234567890", "{\"decimal\":\"123456789012345678901234567890\"}"),
            ("0.5", "0.5"),
            ("0.0000075", "7.5e-6"),
            ("0.00002", "2.0e-5"),
            ("0.0001228", "1.228e-4"),
            ("0.0069364", "6.9364e-3"),
            ("1.1522615", "1.1522615"),
            ("-12.25", "-12.25"),
        ];
        for (text, json) in cases {
            assert_eq!(Decimal::parse(text).unwrap().json(), json, "{text}");
        }
    }

    #[test]
    fn units_go_there_and_back() {
        for units in [0, 1, 75, 10_000, 7_500_000, 1_152_261_500_000, u128::from(u64::MAX)] {
            assert_eq!(Decimal::from_units(units).to_units(), Some(units));
        }
        assert_eq!(Decimal::parse("1e-07").unwrap().to_units(), Some(100_000));
        assert_eq!(Decimal::parse("1e-13").unwrap().to_units(), None);
        assert_eq!(Decimal::parse("-1").unwrap().to_units(), None);
        assert_eq!(Decimal::parse("1e300").unwrap().to_units(), None);
    }

    #[test]
    fn balances_are_written_as_recorded() {
        assert_eq!(balance_json(109_999_999_999_907_500_000), "{\"decimal\":\"109999999.999907500000\"}");
        assert_eq!(balance_json(110_000_000_000_000_000_000), "110000000");
        assert_eq!(balance_json(99_999_925_000_000), "99.999925");
        assert_eq!(balance_json(0), "0");
    }

    #[test]
    fn error_texts_show_all_digits() {
        assert_eq!(Decimal::parse("1e-08").unwrap().fixed(), "0.00000001");
        assert_eq!(Decimal::parse("0.10000000000001").unwrap().fixed(), "0.10000000000001");
        assert_eq!(Decimal::parse("1000.5").unwrap().truncated(), Some(1000));
    }

    #[test]
    fn integers_beyond_53_bits_become_text() {
        assert_eq!(integer_json("9007199254740991").unwrap(), "{\"int\":9007199254740991}");
        assert_eq!(integer_json("-9007199254740992").unwrap(), "{\"int\":\"-9007199254740992\"}");
        assert_eq!(integer_json("1.5"), None);
    }

    #[test]
    fn hostile_numbers_are_refused() {
        for text in
            ["", "-", "1e999999999", "1e-2147483648", "1e99999999999", ".5", "1x", &"9".repeat(10_000)]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
