//! SHA-256 of many short messages: sixteen side by side where the processor has AVX-512, one by one elsewhere.
//!
//! Every step of a hash waits for the one before it. Of sixteen that are independent, all are done in the time that two
//! take alone.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::sync::OnceLock;

use sha2::block_api::compress256;

use super::short::{BLOCK, EIGHT, HmacSha256, PADDING, START, State, bytes_of, finish_in, gather};

/// Messages that are hashed side by side.
const LANES: usize = 16;
/// Blocks of the longest message that is hashed beside others.
const BLOCKS: usize = 8;
/// Side by side, sixteen cost less than this many one by one.
const WORTHWHILE: usize = 6;

/// The blocks of each lane, of which only so many count.
type Blocks = [[[u8; BLOCK]; BLOCKS]; LANES];

/// Takes the first `counts` blocks of each lane into its state.
type Compress = fn(states: &mut [State; LANES], blocks: &Blocks, counts: &[usize; LANES]);

/// SHA-256 of messages that are added one by one: `each` is given the hashes in their order, at the latest at the end. Up to
/// 503 bytes, messages of about one length cost a third of [`sha256`](super::sha256) where the processor has AVX-512, and the
/// same elsewhere.
pub struct Sha256Each<F> {
    lanes: Lanes,
    each: F,
}

impl<F: FnMut([u8; 32])> Sha256Each<F> {
    /// No message yet.
    pub fn new(each: F) -> Self {
        Self { lanes: Lanes::new(), each }
    }

    /// Adds a message, given in parts.
    pub fn add(&mut self, parts: &[&[u8]]) {
        self.lanes.add(&START, 0, parts, &mut self.each);
    }

    /// Gives the hashes that are not given yet.
    pub fn finish(mut self) {
        self.lanes.finish(&mut self.each);
    }
}

/// Gives `each` the HMAC-SHA-256 of every message under its key, in order; a message is given in parts. They cost what
/// they do with [`Sha256Each`].
pub fn tag_each<'k, 'p, M: AsRef<[&'p [u8]]>>(
    messages: impl IntoIterator<Item = (&'k HmacSha256, M)>,
    mut each: impl FnMut([u8; 32]),
) {
    let (mut lanes, mut keys, mut inner) = (Lanes::new(), Vec::new(), Vec::new());
    for (key, message) in messages {
        keys.push(key);
        lanes.add(&key.inner, BLOCK, message.as_ref(), &mut |hash| inner.push(hash));
    }
    lanes.finish(&mut |hash| inner.push(hash));
    for (key, inner) in keys.into_iter().zip(&inner) {
        lanes.add(&key.outer, BLOCK, &[inner], &mut each);
    }
    lanes.finish(&mut each);
}

/// Messages that wait for company.
struct Lanes {
    states: [State; LANES],
    blocks: Box<Blocks>,
    counts: [usize; LANES],
    filled: usize,
    side_by_side: Option<Compress>,
}

impl Lanes {
    fn new() -> Self {
        let blocks = Box::new([[[0; BLOCK]; BLOCKS]; LANES]);
        let side_by_side = side_by_side();
        Self { states: [START; LANES], blocks, counts: [0; LANES], filled: 0, side_by_side }
    }

    /// Adds a message, which goes on where `state` has taken `before` bytes.
    fn add(&mut self, state: &State, before: usize, parts: &[&[u8]], each: &mut impl FnMut([u8; 32])) {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > EIGHT {
            self.finish(each);
            return each(finish_in(*state, before, parts, length, &mut vec![[0; BLOCK]; length / BLOCK + 2]));
        }
        let lane = self.filled;
        let message = self.blocks[lane].as_flattened_mut();
        gather(parts, message);
        message[length] = 0x80;
        let end = (length + PADDING).next_multiple_of(BLOCK);
        let bits = 8 * (before + length) as u64;
        message[length + 1..end - size_of_val(&bits)].fill(0);
        message[end - size_of_val(&bits)..end].copy_from_slice(&bits.to_be_bytes());
        self.states[lane] = *state;
        self.counts[lane] = end / BLOCK;
        self.filled += 1;
        if self.filled == LANES {
            self.finish(each);
        }
    }

    /// Hashes what waits.
    fn finish(&mut self, each: &mut impl FnMut([u8; 32])) {
        let counts = &mut self.counts;
        counts[self.filled..].fill(0);
        let (all, most) = (counts.iter().sum::<usize>(), counts.iter().max().copied().unwrap_or(0));
        match self.side_by_side.filter(|_| all > most * WORTHWHILE) {
            Some(compress) => compress(&mut self.states, &self.blocks, counts),
            None => one_by_one(&mut self.states, &self.blocks, counts),
        }
        self.states[..self.filled].iter().for_each(|state| each(bytes_of(*state)));
        self.filled = 0;
    }
}

fn one_by_one(states: &mut [State; LANES], blocks: &Blocks, counts: &[usize; LANES]) {
    for (state, (blocks, count)) in states.iter_mut().zip(blocks.iter().zip(counts)) {
        compress256(state, &blocks[..*count]);
    }
}

/// What hashes side by side on this processor, if it has what that takes and gives the same as one by one.
fn side_by_side() -> Option<Compress> {
    static CHOSEN: OnceLock<Option<Compress>> = OnceLock::new();
    #[cfg(target_arch = "x86_64")]
    let found = avx512::compress;
    #[cfg(not(target_arch = "x86_64"))]
    let found = || None;
    *CHOSEN.get_or_init(|| found().filter(|compress| agrees(*compress)))
}

/// Whether it takes blocks as the library does. What is hashed here is signed: nothing but the library's hash will do.
fn agrees(compress: Compress) -> bool {
    let byte = |lane: usize, block: usize, at: usize| (lane * 89 + block * 57 + at * 31 + lane * at) as u8;
    let blocks: Blocks = std::array::from_fn(|lane| {
        std::array::from_fn(|block| std::array::from_fn(|at| byte(lane, block, at)))
    });
    let counts = std::array::from_fn(|lane| lane % (BLOCKS + 1));
    let mut states = std::array::from_fn(|lane| START.map(|word| word.rotate_left(lane as u32)));
    let mut expected = states;
    compress(&mut states, &blocks, &counts);
    one_by_one(&mut expected, &blocks, &counts);
    states == expected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sha256;
    use super::*;

    fn hashes(messages: &[Vec<u8>]) -> Vec<[u8; 32]> {
        let mut hashes = Vec::new();
        let mut hashing = Sha256Each::new(|hash| hashes.push(hash));
        messages.iter().for_each(|message| hashing.add(&[message]));
        hashing.finish();
        hashes
    }

    #[test]
    fn sixteen_of_every_length_have_the_hashes_they_have_alone() {
        for length in 0..600 {
            let messages: Vec<Vec<u8>> =
                (0..16).map(|lane| (0..length).map(|at| (at * 31 + lane * 7) as u8).collect()).collect();
            let alone: Vec<_> = messages.iter().map(|message| sha256(&[message])).collect();
            assert_eq!(hashes(&messages), alone, "{length}");
        }
    }

    #[test]
    fn one_that_computes_otherwise_is_not_used() {
        assert!(agrees(one_by_one));
        assert!(!agrees(|states, blocks, counts| {
            one_by_one(states, blocks, counts);
            states[15][7] ^= 1;
        }));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn where_the_processor_has_it_it_is_used() {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        assert_eq!(side_by_side().is_some(), has);
    }

    proptest! {
        #[test]
        fn any_messages_have_the_hashes_and_tags_they_have_alone(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 0..60),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let parts = || messages.iter().zip(&cuts).map(|(message, cut)| {
                let (start, end) = message.split_at(cut.index(message.len() + 1));
                [start, end]
            });
            let mut found = Vec::new();
            let mut hashing = Sha256Each::new(|hash| found.push(hash));
            parts().for_each(|parts| hashing.add(&parts));
            hashing.finish();
            prop_assert_eq!(&found, &messages.iter().map(|message| sha256(&[message])).collect::<Vec<_>>());

            let keys = [HmacSha256::new(b"one"), HmacSha256::new(&[7; 100])];
            let with_key = || keys.iter().cycle();
            found.clear();
            tag_each(with_key().zip(parts()), |tag| found.push(tag));
            let alone: Vec<_> = with_key().zip(&messages).map(|(key, message)| key.tag(&[message])).collect();
            prop_assert_eq!(found, alone);
        }
    }
}
