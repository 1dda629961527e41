//! The text forms of bytes and numbers: strict both ways, so that one value has one spelling.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The largest count, size, index or offset anywhere in our formats: 2^53 − 1, exact in every JSON reader.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// A text that is not the one spelling of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Padding, spaces, another alphabet, an impossible length, or unused bits that are not zero.
    #[error("not strict base64url without padding")]
    Base64Url,
    /// The same for standard base64 with padding (RFC 4648 section 4).
    #[error("not strict standard base64")]
    Base64,
    /// The text is right but stands for another number of bytes.
    #[error("{found} bytes where {expected} are expected")]
    Length {
        /// Bytes that are expected.
        expected: usize,
        /// Bytes that the text stands for.
        found: usize,
    },
}

/// The base64url text of `bytes`, without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a base64url text.
///
/// # Errors
/// [`EncodingError::Base64Url`] for padding, spaces, the other alphabet, and unused bits that are not zero.
pub fn from_base64url(text: &str) -> Result<Vec<u8>, EncodingError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| EncodingError::Base64Url)
}

/// The `N` bytes of a base64url text.
///
/// # Errors
/// As [`from_base64url`], and [`EncodingError::Length`] for another number of bytes.
pub fn array_from_base64url<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    exactly(&from_base64url(text)?)
}

/// The standard base64 text of `bytes`, with padding (RFC 4648 section 4), as signed notes use it.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a standard base64 text.
///
/// # Errors
/// [`EncodingError::Base64`] for missing padding, spaces, the other alphabet, and unused bits that are not zero.
pub fn from_base64(text: &str) -> Result<Vec<u8>, EncodingError> {
    STANDARD.decode(text).map_err(|_| EncodingError::Base64)
}

/// The `N` bytes of a standard base64 text.
///
/// # Errors
/// As [`from_base64`], and [`EncodingError::Length`] for another number of bytes.
pub fn array_from_base64<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    exactly(&from_base64(text)?)
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], EncodingError> {
    bytes.try_into().map_err(|_| EncodingError::Length { expected: N, found: bytes.len() })
}

/// The number a shortest decimal stands for: digits only, no leading zero, at most [`MAX_COUNT`].
pub fn decimal(text: &str) -> Option<u64> {
    let is_shortest = text == "0" || !text.starts_with('0');
    let is_digits = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_shortest || !is_digits {
        return None;
    }
    text.parse().ok().filter(|&number| number <= MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("9007199254740991"), Some(MAX_COUNT));
        for wrong in [
            "",
            "00",
            "01",
            "+1",
            "-0",
            "1.0",
            "1e3",
            " 1",
            "1 ",
            "9007199254740992",
            "٣",
            "12345678901234567",
        ] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(from_base64url("_-8"), Ok(vec![0xff, 0xef]));
        for wrong in ["_-8=", "/+8", "_-9", "_-8 ", "_", "_-8\n"] {
            assert_eq!(from_base64url(wrong), Err(EncodingError::Base64Url), "{wrong:?}");
        }
        assert_eq!(from_base64("/+8="), Ok(vec![0xff, 0xef]));
        for wrong in ["/+8", "_-8=", "/+9=", "/+8= ", "/", "/+8=\n"] {
            assert_eq!(from_base64(wrong), Err(EncodingError::Base64), "{wrong:?}");
        }
        assert_eq!(array_from_base64url::<3>("_-8"), Err(EncodingError::Length { expected: 3, found: 2 }));
    }
}
