//! The origin of a log: its name, generation, hash and number, as one text.

use std::fmt;

use crate::encoding::{MAX_COUNT, decimal};
use crate::hash::Algorithm;

/// `<name>/<generation>/<hash>/<log number>`, for example `plant.example/1/sha256/7`.
///
/// The hash may be one that nobody knows here: the origin is then well formed and its log not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    text: &'a str,
    name: &'a str,
    generation: u64,
    hash: &'a str,
    log: u64,
}

/// What is wrong with a text that should be an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not four parts.
    #[error("an origin has four parts, name/generation/hash/log; this one has {0}")]
    Parts(usize),
    /// The name is empty, too long, or has another character.
    #[error("the name of an origin is 1 to 200 characters of a-z 0-9 . -")]
    Name,
    /// The generation is no shortest decimal.
    #[error("the generation of an origin is a decimal without leading zero, at most 2^53 - 1")]
    Generation,
    /// The hash is empty or has another character.
    #[error("the hash of an origin is a name of a-z 0-9 _")]
    Hash,
    /// The log number is no shortest decimal.
    #[error("the log number of an origin is a decimal without leading zero, at most 2^53 - 1")]
    Log,
    /// More than 256 bytes in all.
    #[error("an origin has at most 256 bytes, not {0}")]
    Length(usize),
}

impl<'a> Origin<'a> {
    /// Bytes in the longest origin.
    pub const MAX_LEN: usize = 256;

    /// Reads an origin strictly.
    ///
    /// # Errors
    /// [`OriginError`] names the part that is wrong.
    pub fn parse(text: &'a str) -> Result<Self, OriginError> {
        if text.len() > Self::MAX_LEN {
            return Err(OriginError::Length(text.len()));
        }
        let mut parts = text.split('/');
        let (Some(name), Some(generation), Some(hash), Some(log), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(OriginError::Parts(text.split('/').count()));
        };
        if !is_name(name) {
            return Err(OriginError::Name);
        }
        let generation = decimal(generation).ok_or(OriginError::Generation)?;
        if !is_hash_name(hash) {
            return Err(OriginError::Hash);
        }
        let log = decimal(log).ok_or(OriginError::Log)?;
        Ok(Self { text, name, generation, hash, log })
    }

    /// Writes the origin of log `log` of generation `generation` of the deployment `name`.
    ///
    /// # Errors
    /// [`OriginError`] for a name outside its alphabet or a number beyond 2^53 − 1.
    pub fn format(
        name: &str,
        generation: u64,
        algorithm: Algorithm,
        log: u64,
    ) -> Result<String, OriginError> {
        if !is_name(name) {
            return Err(OriginError::Name);
        }
        if generation > MAX_COUNT {
            return Err(OriginError::Generation);
        }
        if log > MAX_COUNT {
            return Err(OriginError::Log);
        }
        Ok(format!("{name}/{generation}/{algorithm}/{log}"))
    }

    /// The whole text.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The deployment's name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The generation of logs.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The hash's name, known or not.
    pub const fn hash_name(&self) -> &'a str {
        self.hash
    }

    /// The log's hash; `None` where its name is not understood.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_name(self.hash)
    }

    /// The log's number: the partition it is made from.
    pub const fn log(&self) -> u64 {
        self.log
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

fn is_name(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
}

/// Whether `name` could be the name of a hash, known or not: of `a-z0-9_`, not empty.
pub(crate) fn is_hash_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_and_written_the_same() {
        let text = Origin::format("plant.example", 1, Algorithm::Sha512t256, 7).unwrap();
        let origin = Origin::parse(&text).unwrap();
        assert_eq!(text, "plant.example/1/sha512t_256/7");
        assert_eq!((origin.name(), origin.generation(), origin.log()), ("plant.example", 1, 7));
        assert_eq!(origin.algorithm(), Some(Algorithm::Sha512t256));
        assert_eq!(origin.to_string(), text);
    }

    #[test]
    fn an_unknown_hash_is_well_formed_and_not_understood() {
        let origin = Origin::parse("a/0/blake3/0").unwrap();
        assert_eq!((origin.hash_name(), origin.algorithm()), ("blake3", None));
    }

    #[test]
    fn anything_else_is_refused() {
        let long_name = format!("{}/1/sha256/7", "a".repeat(201));
        let long_hash = format!("a/1/{}/7", "a".repeat(256));
        let wrong = [
            ("", OriginError::Parts(1)),
            ("a/1/sha256", OriginError::Parts(3)),
            ("a/1/sha256/7/8", OriginError::Parts(5)),
            ("/1/sha256/7", OriginError::Name),
            ("A/1/sha256/7", OriginError::Name),
            ("a_b/1/sha256/7", OriginError::Name),
            ("ä/1/sha256/7", OriginError::Name),
            (&long_name, OriginError::Name),
            ("a/01/sha256/7", OriginError::Generation),
            ("a//sha256/7", OriginError::Generation),
            ("a/-1/sha256/7", OriginError::Generation),
            ("a/1//7", OriginError::Hash),
            ("a/1/SHA256/7", OriginError::Hash),
            ("a/1/sha-256/7", OriginError::Hash),
            ("a/1/sha256/", OriginError::Log),
            ("a/1/sha256/07", OriginError::Log),
            ("a/1/sha256/7 ", OriginError::Log),
            ("a/1/sha256/9007199254740992", OriginError::Log),
            (&long_hash, OriginError::Length(262)),
        ];
        for (text, error) in wrong {
            assert_eq!(Origin::parse(text), Err(error), "{text:?}");
        }
    }
}
