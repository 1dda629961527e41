//! What happens by chance, as a function of a seed.

/// Parts of a whole in a [`Dice::hits`].
pub(super) const MILLION: u32 = 1_000_000;

/// A seeded sequence: splitmix64. The same seed and the same questions give the same answers.
pub(super) struct Dice(u64);

impl Dice {
    /// One of several sequences of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let start = Self(seed).next();
        Self(Self(start.wrapping_add(stream)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`; 0 if that is 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        // So few are counted here that the slight preference for small numbers does not show.
        self.next().checked_rem(count).unwrap_or(0)
    }

    /// Whether something happens that does so in `parts` of a million cases.
    pub(super) fn hits(&mut self, parts: u32) -> bool {
        self.below(u64::from(MILLION)) < u64::from(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_what_they_say_and_sequences_differ() {
        for (parts, low, high) in [(0, 0, 0), (26_000, 2_400, 2_800), (MILLION, 100_000, 100_000)] {
            let mut dice = Dice::new(1, 2);
            let hits = (0..100_000).filter(|_| dice.hits(parts)).count();
            assert!((low..=high).contains(&hits), "{parts}: {hits}");
        }
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            (0..4).map(|_| dice.below(1 << 60)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3, 4), draw(3, 4));
        assert_ne!(draw(3, 4), draw(4, 3));
        assert_eq!(Dice::new(0, 0).below(0), 0);
    }
}
