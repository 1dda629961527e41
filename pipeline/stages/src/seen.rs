//! The keys of events that were let through, for as long as copies have to be found.
//!
//! A ring of hourly segments: what is too old goes with its whole segment. Exact: a key that was put in is found until
//! its segment goes. About 35 to 65 bytes a key.

mod marks;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use self::marks::Marks;
use crate::record::Micros;

/// The event's name as 128 bits: two events with one key do not happen by chance.
pub type Key = [u8; 16];

/// 64 bits of what the event says: copies have the same, changed copies another.
pub type Tag = [u8; 8];

/// The width of a segment: an hour of log time.
pub const SEGMENT: Micros = 3_600_000_000;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is new, and now it is in.
    New,
    /// It is in, with the same tag.
    Same,
    /// It is in, with another tag.
    Other,
}

/// Keys by the hour in which they came.
#[derive(Debug, Clone)]
pub struct Seen {
    window: Micros,
    /// The largest log time so far.
    now: Micros,
    /// Segments by ascending hour.
    segments: VecDeque<Segment>,
    /// Which segments a key may be in.
    marks: Marks,
    spread: Spread,
}

#[derive(Debug, Clone)]
struct Segment {
    hour: i64,
    keys: HashMap<Key, Tag, Spread>,
}

impl Seen {
    /// Nothing seen; a key is kept for at least `window` of log time after it came, and at most an hour longer.
    pub fn new(window: Micros) -> Self {
        let (segments, marks) = (VecDeque::new(), Marks::new(window));
        Self { window, now: Micros::MIN, segments, marks, spread: Spread::new() }
    }

    /// Lets log time go on to `time`, never back, and drops the segments that are too old. Gives the largest time so far.
    pub fn advance(&mut self, time: Micros) -> Micros {
        self.now = self.now.max(time);
        let is_over = |segment: &Segment| {
            let end = segment.hour.saturating_add(1).saturating_mul(SEGMENT);
            end.saturating_add(self.window) <= self.now
        };
        let over = self.segments.iter().take_while(|segment| is_over(segment)).count();
        if over > 0 {
            let bits = |segments: &mut dyn Iterator<Item = &Segment>| {
                segments.fold(0, |bits, segment| bits | self.marks.bit(segment.hour))
            };
            let gone =
                bits(&mut self.segments.iter().take(over)) & !bits(&mut self.segments.iter().skip(over));
            let keys = self.segments.drain(..over).map(|segment| segment.keys.len()).sum();
            self.marks.clear(keys, gone);
        }
        self.now
    }

    /// Looks for a key, and puts it in at the present log time if it is new.
    pub fn see(&mut self, key: Key, tag: Tag) -> Known {
        let same_or_other = |known: &Tag| if *known == tag { Known::Same } else { Known::Other };
        self.begin_hour();
        let (current, older) = self.segments.make_contiguous().split_last_mut().expect("the hour has begun");
        let (bucket, bits) = self.marks.look(&key);
        let mut likely = older.iter().rev().filter(|segment| bits & self.marks.bit(segment.hour) != 0);
        if let Some(known) = likely.find_map(|segment| segment.keys.get(&key)) {
            return same_or_other(known);
        }
        match current.keys.entry(key) {
            Entry::Occupied(known) => same_or_other(known.get()),
            Entry::Vacant(place) => {
                place.insert(tag);
                self.marks.set(bucket, self.marks.bit(current.hour));
                Known::New
            }
        }
    }

    /// How many keys are in.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.keys.len()).sum()
    }

    /// Whether no key is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sees that the last segment is that of the present hour: time does not go back.
    fn begin_hour(&mut self) {
        let hour = self.now.div_euclid(SEGMENT);
        if self.segments.back().is_none_or(|last| last.hour < hour) {
            let keys = HashMap::with_hasher(self.spread.clone());
            self.segments.push_back(Segment { hour, keys });
        }
    }
}

/// Spreads keys over a table. They are hashes already, but their senders may choose among many; so two secret numbers
/// of this process decide where they go. What comes out of a table depends on neither.
#[derive(Debug, Clone)]
struct Spread {
    low: u64,
    high: u64,
}

impl Spread {
    fn new() -> Self {
        let random = RandomState::new();
        Self { low: random.hash_one(0_u8), high: random.hash_one(1_u8) }
    }
}

impl BuildHasher for Spread {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { low: self.low, high: self.high }
    }
}

/// Multiplies both halves of a key, each mixed with a secret number, and folds the product.
#[derive(Debug)]
struct Fold {
    low: u64,
    high: u64,
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(16) {
            let mut key = [0; 16];
            key[..chunk.len()].copy_from_slice(chunk);
            let key = u128::from_le_bytes(key);
            self.low ^= key as u64;
            self.high ^= (key >> 64) as u64;
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // Every key is as long as every other.
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.low) * u128::from(self.high);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u64) -> Key {
        let mut key = [0; 16];
        key[8..].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_key_is_found_within_the_window_and_forgotten_with_its_hour() {
        let mut seen = Seen::new(2 * SEGMENT);
        seen.advance(0);
        assert_eq!(seen.see(key(1), [1; 8]), Known::New);
        assert_eq!(seen.see(key(1), [1; 8]), Known::Same);
        assert_eq!(seen.see(key(1), [2; 8]), Known::Other);
        seen.advance(3 * SEGMENT - 1);
        assert_eq!(seen.see(key(1), [1; 8]), Known::Same);
        assert_eq!(seen.see(key(2), [1; 8]), Known::New);
        seen.advance(3 * SEGMENT);
        assert_eq!(seen.see(key(1), [2; 8]), Known::New);
        assert_eq!(seen.see(key(2), [1; 8]), Known::Same);
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn time_that_steps_back_changes_nothing() {
        let mut seen = Seen::new(SEGMENT);
        assert_eq!(seen.advance(10 * SEGMENT), 10 * SEGMENT);
        assert_eq!(seen.advance(0), 10 * SEGMENT);
        assert_eq!(seen.see(key(1), [1; 8]), Known::New);
        seen.advance(12 * SEGMENT - 1);
        assert_eq!(seen.see(key(1), [1; 8]), Known::Same);
        seen.advance(12 * SEGMENT);
        assert!(seen.is_empty());
    }

    #[test]
    fn time_at_its_ends_is_time() {
        let mut seen = Seen::new(SEGMENT);
        seen.advance(Micros::MIN);
        assert_eq!(seen.see(key(1), [1; 8]), Known::New);
        seen.advance(Micros::MAX);
        assert_eq!(seen.see(key(1), [2; 8]), Known::New);
    }

    /// What is known, in one list that is looked through.
    #[derive(Default)]
    struct Model(Vec<(i64, Key, Tag)>);

    impl Model {
        fn see(&mut self, window: Micros, now: Micros, key: Key, tag: Tag) -> Known {
            self.0.retain(|(hour, ..)| (hour + 1) * SEGMENT + window > now);
            match self.0.iter().find(|(_, known, _)| *known == key) {
                Some((.., known)) if *known == tag => Known::Same,
                Some(_) => Known::Other,
                None => {
                    self.0.push((now.div_euclid(SEGMENT), key, tag));
                    Known::New
                }
            }
        }
    }

    fn windows() -> impl Strategy<Value = Micros> {
        let hours = prop_oneof![1..200_i64, 28..35_i64, 700..801_i64, Just(2_160)];
        (hours, 0..SEGMENT).prop_map(|(hours, more)| hours * SEGMENT + more)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_known_is_what_a_list_would_say(
            window in windows(),
            begin in -10_000_i64..10_000,
            steps in proptest::collection::vec((0..48_i64, 0..SEGMENT, 0..600_u64, 0..8_u8), 1..1_500),
        ) {
            let (mut seen, mut model) = (Seen::new(window), Model::default());
            let mut now = begin * SEGMENT;
            for (hours, more, number, what) in steps {
                // Mostly within an hour; at times on to another.
                now += if what == 0 { hours * SEGMENT + more } else { more / 1_000 };
                seen.advance(now);
                let (key, tag) = (key(number), [what / 6; 8]);
                prop_assert_eq!(seen.see(key, tag), model.see(window, now, key, tag), "{} at {}", number, now);
                prop_assert_eq!(seen.len(), model.0.len());
            }
        }
    }

    #[test]
    fn many_keys_are_found_in_every_hour_of_the_window_while_others_go() {
        let mut seen = Seen::new(25 * SEGMENT);
        let of = |hour: u64| (hour * 1_000..(hour + 1) * 1_000).map(key);
        for hour in 0..60 {
            seen.advance(hour as i64 * SEGMENT);
            assert!(of(hour).all(|key| seen.see(key, [1; 8]) == Known::New), "{hour}");
            let oldest = hour.saturating_sub(25);
            assert!((oldest..=hour).all(|hour| of(hour).all(|key| seen.see(key, [1; 8]) == Known::Same)));
            assert_eq!(seen.len() as u64, (hour - oldest + 1) * 1_000);
        }
    }

    #[test]
    fn keys_that_look_alike_are_told_apart() {
        let mut seen = Seen::new(SEGMENT);
        seen.advance(0);
        for number in 0..100_000 {
            assert_eq!(seen.see(key(number), [1; 8]), Known::New);
            let mut mirrored = key(number);
            mirrored.reverse();
            assert_ne!(seen.see(mirrored, [2; 8]), Known::Same);
        }
        for number in 0..100_000 {
            assert_eq!(seen.see(key(number), [1; 8]), Known::Same);
        }
    }
}
