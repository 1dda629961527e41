//! Hashes in paths, queries and bodies, refused with the node's texts.
//!
//! The node puts missing padding behind a text and then decodes strictly, so correct padding passes.

use base64::DecodeError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::hash::Hash;

/// Why a text is no base64url: the node's words.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    if padding > 0 && (bare.len() % 4 < 2 || bare.len() % 4 + padding != 4) {
        return Err(format!("invalid padding at offset: {}", bare.len()));
    }
    URL_SAFE_NO_PAD.decode(bare).map_err(|error| match error {
        DecodeError::InvalidByte(offset, _) => format!("invalid character at offset: {offset}"),
        DecodeError::InvalidLastSymbol(offset, _) => {
            format!("non-canonical encoding detected at offset: {offset}")
        }
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
            format!("invalid padding at offset: {}", text.len())
        }
    })
}

/// A hash of a block or payload.
pub(super) fn block_hash(text: &str) -> Result<Hash, String> {
    let bytes = decode(text).map_err(|why| format!("Base64DecodeException \"{why}\""))?;
    match <[u8; 32]>::try_from(bytes) {
        Ok(bytes) => Ok(Hash(bytes)),
        Err(bytes) if bytes.len() < 32 => Err("DecodeException \"not enough bytes\"".into()),
        Err(_) => Err("DecodeException \"pending bytes in input\"".into()),
    }
}

/// A request key in the body of poll or listen.
pub(super) fn request_key(text: &str) -> Result<Hash, String> {
    let bytes = decode(text)?;
    bytes.try_into().map(Hash).map_err(|_| format!("Invalid hash length {}", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_hashes_get_the_recorded_errors() {
        let good = "I3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjAAlU";
        assert!(block_hash(good).is_ok());
        assert!(block_hash(&format!("{good}=")).is_ok());
        let cases = [
            ("I3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjA", "DecodeException \"not enough bytes\""),
            ("I3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjAAlUAAAA", "DecodeException \"pending bytes in input\""),
            (
                "+3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjAAlU",
                "Base64DecodeException \"invalid character at offset: 0\"",
            ),
            (
                "I3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjAAlV",
                "Base64DecodeException \"non-canonical encoding detected at offset: 42\"",
            ),
            (
                "I3gzTjHOz2wA4A-cd0_ljHsslCnfX0O23ugs2GjAAlU==",
                "Base64DecodeException \"invalid padding at offset: 43\"",
            ),
            ("branch", "Base64DecodeException \"non-canonical encoding detected at offset: 5\""),
            ("abc", "DecodeException \"not enough bytes\""),
        ];
        for (text, error) in cases {
            assert_eq!(block_hash(text), Err(error.to_owned()), "{text}");
        }
        assert_eq!(request_key("abc"), Err("Invalid hash length 3".into()));
        assert_eq!(decode(&"A".repeat(41)), Err("invalid padding at offset: 41".into()));
    }
}
