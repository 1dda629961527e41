//! Base64url without padding, the text form of every byte string on Chainweb.
//!
//! Strict: the URL alphabet only, no padding, no spaces, and the unused bits of the last character are zero, so
//! that one byte string has one text. (A node tolerates padding on input; nothing it sends has any.)

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Why a text is not the base64url form of a byte string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Not strict base64url.
    #[error("not base64url without padding: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Base64url of another number of bytes.
    #[error("{actual} bytes where {expected} are due")]
    Length {
        /// The number of bytes due.
        expected: usize,
        /// The number of bytes found.
        actual: usize,
    },
}

/// Encodes `bytes` as base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding.
///
/// # Errors
/// [`EncodingError::Base64`] for everything that [`encode`] does not produce.
pub fn decode(text: &str) -> Result<Vec<u8>, EncodingError> {
    Ok(URL_SAFE_NO_PAD.decode(text)?)
}

/// Decodes base64url of exactly `N` bytes.
///
/// # Errors
/// As [`decode`], and [`EncodingError::Length`] for another number of bytes.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], EncodingError> {
    let bytes = decode(text)?;
    let actual = bytes.len();
    bytes.try_into().map_err(|_| EncodingError::Length { expected: N, actual })
}

/// For `#[serde(with = "base64url")]` on a `Vec<u8>`.
pub mod base64url {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes `bytes` as base64url text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    /// Reads base64url text.
    ///
    /// # Errors
    /// Those of the deserializer, and [`super::EncodingError`] as a custom error.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        super::decode(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_has_exactly_one_text() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 37 + 11) as u8).collect();
            assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }
        for text in ["AA==", "AB", "A", "A A", "AA\n", "+/8A", "é", "AAA=", "AAF"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
