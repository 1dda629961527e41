//! SHA-256 of short messages in one call of its block function: nearly everything that is hashed here has a few blocks,
//! and what is around their compression would cost as much as a block.

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

/// Bytes in a block.
pub(super) const BLOCK: usize = 64;
/// Bytes of padding at least: a mark, and the number of bits in eight bytes (FIPS 180-4 section 5.1.1).
pub(super) const PADDING: usize = 9;
/// The longest messages of two and of eight blocks.
const TWO: usize = 2 * BLOCK - PADDING;
pub(super) const EIGHT: usize = 8 * BLOCK - PADDING;

/// What SHA-256 has of the blocks that it has taken.
pub(super) type State = [u32; 8];

/// The state that SHA-256 begins with (FIPS 180-4 section 5.3.3).
pub(super) const START: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 of these parts, one after the other. Up to 503 bytes in all cost less than a hash that is updated part by part.
#[inline]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let length = parts.iter().map(|part| part.len()).sum();
    match length {
        0..=TWO => finish::<2>(START, 0, parts, length),
        _ if length <= EIGHT => finish::<8>(START, 0, parts, length),
        _ => parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into(),
    }
}

/// HMAC-SHA-256 (RFC 2104) with one key, whose two blocks are hashed once.
#[derive(Clone)]
pub struct HmacSha256 {
    pub(super) inner: State,
    pub(super) outer: State,
}

impl HmacSha256 {
    /// For a key of any length.
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        match block.get_mut(..key.len()) {
            Some(room) => room.copy_from_slice(key),
            None => gather(&[&sha256(&[key])], &mut block),
        }
        let begun = |pad: u8| {
            let mut state = START;
            compress256(&mut state, &[block.map(|byte| byte ^ pad)]);
            state
        };
        Self { inner: begun(0x36), outer: begun(0x5c) }
    }

    /// The tag of these parts, one after the other.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let length = parts.iter().map(|part| part.len()).sum();
        let inner = match length {
            0..=TWO => finish::<2>(self.inner, BLOCK, parts, length),
            _ if length <= EIGHT => finish::<8>(self.inner, BLOCK, parts, length),
            _ => finish_in(self.inner, BLOCK, parts, length, &mut vec![[0; BLOCK]; length / BLOCK + 2]),
        };
        finish::<1>(self.outer, BLOCK, &[&inner], inner.len())
    }
}

/// Nothing of the key.
impl std::fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HmacSha256(***)")
    }
}

/// The hash of parts of `length` bytes in all, behind `before` bytes that `state` has taken. They and the padding fit into
/// so many blocks.
#[inline]
fn finish<const BLOCKS: usize>(state: State, before: usize, parts: &[&[u8]], length: usize) -> [u8; 32] {
    finish_in(state, before, parts, length, &mut [[0; BLOCK]; BLOCKS])
}

/// The same with these blocks of zeros.
#[inline]
pub(super) fn finish_in(
    mut state: State,
    before: usize,
    parts: &[&[u8]],
    length: usize,
    blocks: &mut [[u8; BLOCK]],
) -> [u8; 32] {
    let message = blocks.as_flattened_mut();
    gather(parts, message);
    message[length] = 0x80;
    let end = (length + PADDING).next_multiple_of(BLOCK);
    let bits = 8 * (before + length) as u64;
    message[end - size_of_val(&bits)..end].copy_from_slice(&bits.to_be_bytes());
    compress256(&mut state, &blocks[..end / BLOCK]);
    bytes_of(state)
}

/// The hash that a state is.
pub(super) fn bytes_of(state: State) -> [u8; 32] {
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

/// Copies the parts to the beginning of `room`, which is long enough.
#[inline]
pub(super) fn gather(parts: &[&[u8]], room: &mut [u8]) {
    let mut at = 0;
    for part in parts {
        room[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn tag_by_the_library(key: &[u8], message: &[u8]) -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().into()
    }

    #[test]
    fn messages_of_every_length_have_the_librarys_hash_and_tag() {
        for length in 0..=1_024 {
            let message = bytes(length);
            assert_eq!(sha256(&[&message]), <[u8; 32]>::from(Sha256::digest(&message)), "{length}");
            let tag = tag_by_the_library(b"a key", &message);
            assert_eq!(HmacSha256::new(b"a key").tag(&[&message]), tag, "{length}");
        }
    }

    #[test]
    fn keys_of_every_length_have_the_librarys_tag() {
        for length in 0..=200 {
            let key = bytes(length);
            assert_eq!(HmacSha256::new(&key).tag(&[b"a message"]), tag_by_the_library(&key, b"a message"));
        }
        assert_eq!(format!("{:?}", HmacSha256::new(b"a key")), "HmacSha256(***)");
    }

    proptest! {
        #[test]
        fn parts_count_one_after_the_other(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let message = parts.concat();
            prop_assert_eq!(sha256(&slices), <[u8; 32]>::from(Sha256::digest(&message)));
            prop_assert_eq!(HmacSha256::new(b"key").tag(&slices), tag_by_the_library(b"key", &message));
        }
    }
}
