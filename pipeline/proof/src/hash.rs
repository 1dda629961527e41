//! Hashes and the three algorithms a log or an anchor tree can use.

mod many;
mod short;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha512_256};
use sha3::Keccak256;

use crate::encoding::{EncodingError, array_from_base64url, base64url};
use short::gather;

pub use many::{Sha256Each, tag_each};
pub use short::{HmacSha256, sha256};

/// A hash of 32 bytes; as text base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Hash::LEN]);

impl Hash {
    /// Bytes in a hash, whatever its algorithm.
    pub const LEN: usize = 32;

    /// Takes the bytes as they are.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Takes a slice of exactly 32 bytes; `None` for another length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Hash::LEN]> for Hash {
    fn from(bytes: [u8; Hash::LEN]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, EncodingError> {
        array_from_base64url(text).map(Self)
    }
}

/// The hash of a log or an anchor tree; fixed for its life and named in its origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, the default.
    #[default]
    Sha256,
    /// SHA-512/256 (FIPS 180-4 section 5.3.6), the hash of Chainweb.
    Sha512t256,
    /// Keccak-256 with the padding from before SHA-3, the hash of Ethereum.
    Keccak256,
}

impl Algorithm {
    /// Every algorithm that is understood.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512t256, Self::Keccak256];

    /// The name in origins, batch headers and anchor texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512t256 => "sha512t_256",
            Self::Keccak256 => "keccak256",
        }
    }

    /// The algorithm of this name; `None` for a name that is not understood.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The hash of `message`.
    pub fn digest(self, message: &[u8]) -> Hash {
        self.digest_of(&[message])
    }

    /// The leaf hash `H(0x00 ‖ leaf)` of RFC 9162 section 2.1.1.
    pub fn leaf(self, leaf: &[u8]) -> Hash {
        self.digest_of(&[&[0x00], leaf])
    }

    /// The node hash `H(0x01 ‖ left ‖ right)` of RFC 9162 section 2.1.1.
    pub fn node(self, left: &Hash, right: &Hash) -> Hash {
        self.digest_of(&[&[0x01], &left.0, &right.0])
    }

    /// The [leaf hash](Self::leaf) of each of these, in order: many cost less together.
    pub fn leaves<'l>(self, leaves: impl IntoIterator<Item = &'l [u8]>) -> Vec<Hash> {
        let leaves = leaves.into_iter();
        match self {
            Self::Sha256 => {
                let mut hashes = Vec::with_capacity(leaves.size_hint().0);
                let mut hashing = Sha256Each::new(|hash| hashes.push(Hash(hash)));
                leaves.for_each(|leaf| hashing.add(&[&[0x00], leaf]));
                hashing.finish();
                hashes
            }
            _ => leaves.map(|leaf| self.leaf(leaf)).collect(),
        }
    }

    /// The [node hash](Self::node) of each of these pairs, appended to `nodes` in order: many cost less together.
    pub fn nodes(self, pairs: &[[Hash; 2]], nodes: &mut Vec<Hash>) {
        match self {
            Self::Sha256 => {
                let mut hashing = Sha256Each::new(|hash| nodes.push(Hash(hash)));
                pairs.iter().for_each(|[left, right]| hashing.add(&[&[0x01], &left.0, &right.0]));
                hashing.finish();
            }
            _ => nodes.extend(pairs.iter().map(|[left, right]| self.node(left, right))),
        }
    }

    /// The root of the tree without leaves: the hash of nothing.
    pub fn empty(self) -> Hash {
        self.digest(&[])
    }

    /// The hash of these parts, one after the other.
    #[inline]
    fn digest_of(self, parts: &[&[u8]]) -> Hash {
        Hash(match self {
            Self::Sha256 => sha256(parts),
            Self::Sha512t256 => digest_in_one::<Sha512_256>(parts),
            Self::Keccak256 => digest_in_one::<Keccak256>(parts),
        })
    }
}

/// The hash of these parts, gathered before if they are short: one update costs less than several.
fn digest_in_one<D: Digest>(parts: &[&[u8]]) -> [u8; Hash::LEN]
where
    [u8; Hash::LEN]: From<sha2::digest::Output<D>>,
{
    let mut buffer = [0; 512];
    let length = parts.iter().map(|part| part.len()).sum();
    match buffer.get_mut(..length) {
        Some(message) => {
            gather(parts, message);
            D::digest(message).into()
        }
        None => parts.iter().fold(D::new(), |hash, part| hash.chain_update(part)).finalize().into(),
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_of_nothing_is_the_published_one() {
        let known = [
            (Algorithm::Sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (Algorithm::Sha512t256, "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
            (Algorithm::Keccak256, "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        ];
        for (algorithm, expected) in known {
            assert_eq!(hex::encode(algorithm.empty()), expected, "{algorithm}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_hashed_one_after_the_other(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            for algorithm in Algorithm::ALL {
                prop_assert_eq!(algorithm.digest_of(&slices), algorithm.digest(&parts.concat()));
            }
        }
    }

    #[test]
    fn a_leaf_of_any_length_is_hashed_behind_a_zero_byte() {
        for algorithm in Algorithm::ALL {
            for length in [0, 1, 300, 510, 511, 512, 513, 5_000] {
                let leaf = vec![7; length];
                assert_eq!(
                    algorithm.leaf(&leaf),
                    algorithm.digest(&[&[0][..], &leaf].concat()),
                    "{algorithm} {length}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn many_together_are_what_each_is_alone(
            leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..70),
        ) {
            for algorithm in Algorithm::ALL {
                let hashes = algorithm.leaves(leaves.iter().map(Vec::as_slice));
                prop_assert_eq!(&hashes, &leaves.iter().map(|leaf| algorithm.leaf(leaf)).collect::<Vec<_>>());
                let (pairs, _) = hashes.as_chunks();
                let mut nodes = vec![algorithm.empty()];
                algorithm.nodes(pairs, &mut nodes);
                let alone: Vec<_> = pairs.iter().map(|[left, right]| algorithm.node(left, right)).collect();
                prop_assert_eq!(&nodes[1..], alone);
            }
        }
    }

    #[test]
    fn a_name_is_found_again_and_no_other_is() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        for name in ["", "SHA256", "sha-256", "sha256 ", "sha512_256", "SHA512t_256", "keccak_256"] {
            assert_eq!(Algorithm::from_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_text_of_a_hash_has_one_spelling() {
        let hash = Hash::new([0xfb; 32]);
        let text = hash.to_string();
        assert_eq!(text.parse(), Ok(hash));
        assert!(format!("{text}=").parse::<Hash>().is_err());
        assert!(text[1..].parse::<Hash>().is_err());
        assert!(text.replace('-', "+").parse::<Hash>().is_err());
    }
}
