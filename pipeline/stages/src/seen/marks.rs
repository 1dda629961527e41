//! In which hours a key may have come: one look into memory instead of one for each hour of the window.
//!
//! A bucket has a bit for each span of the window, which is set by the keys that fall into the bucket and came then. It may
//! be set of another key; it is never clear of one that is in. So who looks where a bit is set finds what is to be found.

use std::hash::BuildHasher as _;

use super::{Key, SEGMENT, Spread};
use crate::record::Micros;

/// Buckets at the beginning; there are always a power of two.
const LEAST: usize = 1 << 10;
/// Spans that are told apart.
const BITS: i64 = u32::BITS as i64;

/// Bits of all keys that are in: 4 to 8 bytes a key.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    buckets: Vec<u32>,
    keys: usize,
    /// Hours that share a bit: so many that no two spans of one window do.
    together: i64,
    /// Not that of the segments: what falls together here is spread there.
    spread: Spread,
}

impl Marks {
    pub(super) fn new(window: Micros) -> Self {
        // A window has so many hours, and one that begins and one that ends; two bits are to spare for spans cut by its ends.
        let hours = window / SEGMENT + 2;
        let together = hours / (BITS - 2) + 1;
        Self { buckets: vec![0; LEAST], keys: 0, together, spread: Spread::new() }
    }

    /// The bit of an hour.
    pub(super) fn bit(&self, hour: i64) -> u32 {
        1 << hour.div_euclid(self.together).rem_euclid(BITS)
    }

    /// The bucket of a key, and its bits.
    pub(super) fn look(&self, key: &Key) -> (u64, u32) {
        let hash = self.spread.hash_one(key);
        (hash, self.buckets[self.place(hash)])
    }

    /// Sets a bit in the bucket of a key that is new.
    pub(super) fn set(&mut self, bucket: u64, bit: u32) {
        self.keys += 1;
        if self.keys > self.buckets.len() {
            // Both places that a bucket's keys can have from now on have its bits.
            self.buckets.extend_from_within(..);
        }
        let place = self.place(bucket);
        self.buckets[place] |= bit;
    }

    /// That so many keys are gone, and with them all that these bits told of.
    pub(super) fn clear(&mut self, keys: usize, bits: u32) {
        self.keys -= keys;
        if self.keys == 0 {
            self.buckets.truncate(LEAST);
            self.buckets.shrink_to_fit();
        }
        self.buckets.iter_mut().for_each(|bucket| *bucket &= !bits);
    }

    fn place(&self, hash: u64) -> usize {
        // Cut off on purpose: the low bits tell buckets apart.
        hash as usize & (self.buckets.len() - 1)
    }
}
