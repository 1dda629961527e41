//! SHA-256's block function (FIPS 180-4 section 6.2.2) on sixteen lanes of AVX-512: a vector has one word of each.

#![allow(unsafe_code, reason = "what a processor has is only known when the program runs")]

use std::arch::x86_64::*;
use std::array::from_fn;

use super::{BLOCK, Blocks, Compress, LANES, State};

/// FIPS 180-4 section 4.2.2.
#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Three-input functions of `vpternlog`: its constant is the function's value for each of the eight inputs.
const XOR: i32 = 0x96;
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

/// The function for this processor, if it can.
pub fn compress() -> Option<Compress> {
    let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    // SAFETY: the processor has both features that the function is compiled for.
    has.then_some(|states, blocks, counts| unsafe { compress_all(states, blocks, counts) })
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress_all(states: &mut [State; LANES], blocks: &Blocks, counts: &[usize; LANES]) {
    let mut state: [__m512i; 8] = from_fn(|word| vector_of(&from_fn(|lane| states[lane][word])));
    for block in 0..counts.iter().copied().max().unwrap_or(0) {
        let is_in =
            counts.iter().enumerate().fold(0, |bits, (lane, count)| bits | u16::from(*count > block) << lane);
        let next = compress_one(state, words(blocks, block));
        state = from_fn(|word| _mm512_mask_mov_epi32(state[word], is_in, next[word]));
    }
    for (word, vector) in state.into_iter().enumerate() {
        for (state, value) in states.iter_mut().zip(words_of(vector)) {
            state[word] = value;
        }
    }
}

/// One block more in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_one(before: [__m512i; 8], mut w: [__m512i; 16]) -> [__m512i; 8] {
    let mut s = before;
    for start in (0..64).step_by(16) {
        // The words shift by one place a step: eight steps and they are where they were.
        macro_rules! step {
            ($($i:literal)*) => {$({
                let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|at: usize| (at + 16 - $i) % 8);
                if start > 0 {
                    let (w1, w9, w14) = (w[($i + 1) % 16], w[($i + 9) % 16], w[($i + 14) % 16]);
                    let s0 = xor3(_mm512_ror_epi32::<7>(w1), _mm512_ror_epi32::<18>(w1), _mm512_srli_epi32::<3>(w1));
                    let s1 = xor3(_mm512_ror_epi32::<17>(w14), _mm512_ror_epi32::<19>(w14), _mm512_srli_epi32::<10>(w14));
                    w[$i] = add(add(w[$i], s0), add(w9, s1));
                }
                let s1 = xor3(_mm512_ror_epi32::<6>(s[e]), _mm512_ror_epi32::<11>(s[e]), _mm512_ror_epi32::<25>(s[e]));
                let choice = _mm512_ternarylogic_epi32::<CHOICE>(s[e], s[f], s[g]);
                let constant = _mm512_set1_epi32(K[start + $i].cast_signed());
                let t1 = add(add(add(s[h], w[$i]), add(constant, choice)), s1);
                let s0 = xor3(_mm512_ror_epi32::<2>(s[a]), _mm512_ror_epi32::<13>(s[a]), _mm512_ror_epi32::<22>(s[a]));
                let majority = _mm512_ternarylogic_epi32::<MAJORITY>(s[a], s[b], s[c]);
                s[d] = add(s[d], t1);
                s[h] = add(t1, add(s0, majority));
            })*};
        }
        step!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    from_fn(|word| add(before[word], s[word]))
}

/// The words of this block of each lane, big-endian as they stand there: a transposed matrix.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(blocks: &Blocks, block: usize) -> [__m512i; 16] {
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    // SAFETY: a vector may have any 64 bytes.
    let row = |lane: usize| unsafe { std::mem::transmute::<[u8; BLOCK], __m512i>(blocks[lane][block]) };
    let rows: [__m512i; 16] = from_fn(|lane| _mm512_shuffle_epi8(row(lane), swap));
    // First within the quarters of four rows each, then the quarters: [4q + r] has word r of each quarter of rows 4q..4q+4.
    let quarters: [__m512i; 16] = from_fn(|at| {
        let four = &rows[at / 4 * 4..][..4];
        let (low, high) = if at % 4 < 2 {
            (_mm512_unpacklo_epi32(four[0], four[1]), _mm512_unpacklo_epi32(four[2], four[3]))
        } else {
            (_mm512_unpackhi_epi32(four[0], four[1]), _mm512_unpackhi_epi32(four[2], four[3]))
        };
        if at % 2 == 0 { _mm512_unpacklo_epi64(low, high) } else { _mm512_unpackhi_epi64(low, high) }
    });
    from_fn(|word| {
        let [one, two, three, four] = from_fn(|quarter| quarters[4 * quarter + word % 4]);
        match word / 4 {
            0 => joined::<0x88, 0x88>(one, two, three, four),
            1 => joined::<0xdd, 0x88>(one, two, three, four),
            2 => joined::<0x88, 0xdd>(one, two, three, four),
            _ => joined::<0xdd, 0xdd>(one, two, three, four),
        }
    })
}

/// One quarter of each of four vectors: `FIRST` takes the even (0x88) or odd (0xdd) ones, `SECOND` the same of those.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn joined<const FIRST: i32, const SECOND: i32>(
    one: __m512i,
    two: __m512i,
    three: __m512i,
    four: __m512i,
) -> __m512i {
    let (low, high) = (_mm512_shuffle_i32x4::<FIRST>(one, two), _mm512_shuffle_i32x4::<FIRST>(three, four));
    _mm512_shuffle_i32x4::<SECOND>(low, high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(one: __m512i, other: __m512i) -> __m512i {
    _mm512_add_epi32(one, other)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(one: __m512i, two: __m512i, three: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR>(one, two, three)
}

fn vector_of(words: &[u32; LANES]) -> __m512i {
    // SAFETY: both are 64 bytes, and each may have any.
    unsafe { std::mem::transmute(*words) }
}

fn words_of(vector: __m512i) -> [u32; LANES] {
    // SAFETY: both are 64 bytes, and each may have any.
    unsafe { std::mem::transmute(vector) }
}
