//! Holds receipts against each other: a log that keeps two histories shows it here.
//!
//! Only receipts that reach `logged` count, since those carry the signature of a log key that the verifier
//! trusts; otherwise anyone could accuse an honest log with a receipt of his own making.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::hash::{Hash, sha256};
use crate::report::{EventName, Held};

/// Two receipts that cannot both come from an honest log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The earlier receipt's number, as it was given to [`Together::hold`].
    pub earlier: usize,
    /// The part of the later receipt that differs.
    pub field: &'static str,
    /// What both say, and differently.
    pub about: &'static str,
}

/// What earlier receipts said. Keeps about 100 bytes for each event and less for each batch and checkpoint.
#[derive(Debug, Default)]
pub struct Together {
    /// By origin and size: the root.
    roots: HashMap<Hash, (Hash, usize)>,
    /// By origin and number: the batch id.
    batches: HashMap<Hash, (Hash, usize)>,
    /// By event: the statement's leaf hash, and the hash of its place.
    events: HashMap<Hash, ((Hash, Hash), usize)>,
}

impl Together {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds a receipt against all earlier ones and remembers it under `number`.
    ///
    /// # Errors
    /// The first [`Conflict`]: the same origin and size with another root, the same origin and batch number with
    /// another header, or the same event with another statement or place.
    pub fn hold(&mut self, number: usize, held: &Held) -> Result<(), Conflict> {
        let mut conflict = None;
        for (size, root) in &held.checkpoints {
            let key = numbered(&held.origin, &[*size]);
            let about = "the log signed two roots for the same size: a split view";
            conflict = conflict.or(see(&mut self.roots, key, *root, number).map(|earlier| Conflict {
                earlier,
                field: "log.checkpoint",
                about,
            }));
        }
        let key = numbered(&held.origin, &[held.number]);
        let earlier = see(&mut self.batches, key, held.batch, number);
        let about = "the log has two batches with the same number: a split view";
        conflict = conflict.or(earlier.map(|earlier| Conflict { earlier, field: "batch.header", about }));

        let EventName { tenant, source, id } = &held.event;
        let key = sha256(&[tenant.as_bytes(), END, source.as_bytes(), END, id.as_bytes()]).into();
        let place = numbered(&held.origin, &[held.number, held.index]);
        let about = match self.events.get(&key) {
            Some(((statement, _), _)) if *statement != held.statement => {
                "there are two statements for the same event"
            }
            _ => "the same event stands in two places",
        };
        let earlier = see(&mut self.events, key, (held.statement, place), number);
        conflict = conflict.or(earlier.map(|earlier| Conflict { earlier, field: "statement", about }));
        conflict.map_or(Ok(()), Err)
    }
}

/// Remembers the first value of a key; the number of who said it where this one differs.
fn see<V: PartialEq>(
    seen: &mut HashMap<Hash, (V, usize)>,
    key: Hash,
    value: V,
    number: usize,
) -> Option<usize> {
    match seen.entry(key) {
        Entry::Occupied(entry) => (entry.get().0 != value).then(|| entry.get().1),
        Entry::Vacant(entry) => {
            entry.insert((value, number));
            None
        }
    }
}

/// Stands behind a text: no origin and no name of an event has a control character.
const END: &[u8] = b"\n";

/// The hash of what so many numbers name in a log.
fn numbered<const N: usize>(origin: &str, numbers: &[u64; N]) -> Hash {
    let numbers = numbers.map(u64::to_be_bytes);
    sha256(&[origin.as_bytes(), END, numbers.as_flattened()]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            origin: "plant.example/1/sha256/7".into(),
            checkpoints: vec![(61, Hash::new([1; 32]))],
            number: 5,
            batch: Hash::new([2; 32]),
            index: 3,
            statement: Hash::new([3; 32]),
            event: EventName { tenant: "t".into(), source: "s".into(), id: "i".into() },
        }
    }

    /// What a receipt that is changed from [`held`] conflicts in.
    fn conflict(change: impl FnOnce(&mut Held)) -> Option<&'static str> {
        let mut together = Together::new();
        together.hold(0, &held()).unwrap();
        let mut other = held();
        change(&mut other);
        let found = together.hold(1, &other).err()?;
        assert_eq!(found.earlier, 0);
        Some(found.field)
    }

    #[test]
    fn the_same_receipt_twice_is_no_conflict() {
        assert_eq!(conflict(|_| ()), None);
    }

    #[test]
    fn the_same_size_with_another_root_is_one() {
        assert_eq!(conflict(|held| held.checkpoints[0].1 = Hash::new([9; 32])), Some("log.checkpoint"));
        assert_eq!(conflict(|held| held.checkpoints.push((61, Hash::new([9; 32])))), Some("log.checkpoint"));
    }

    #[test]
    fn another_size_has_another_root() {
        assert_eq!(conflict(|held| held.checkpoints[0] = (62, Hash::new([9; 32]))), None);
    }

    #[test]
    fn the_same_number_with_another_header_is_one() {
        assert_eq!(conflict(|held| held.batch = Hash::new([9; 32])), Some("batch.header"));
    }

    #[test]
    fn the_same_event_with_another_statement_or_place_is_one() {
        assert_eq!(conflict(|held| held.statement = Hash::new([9; 32])), Some("statement"));
        assert_eq!(conflict(|held| held.index = 4), Some("statement"));
        assert_eq!(conflict(|held| held.number = 6), Some("statement"));
        let elsewhere = |held: &mut Held| held.origin = "plant.example/1/sha256/8".into();
        assert_eq!(conflict(elsewhere), Some("statement"));
    }

    #[test]
    fn another_event_in_another_log_is_none() {
        assert_eq!(
            conflict(|held| {
                held.origin = "plant.example/1/sha256/8".into();
                held.event.id = "j".into();
                held.checkpoints[0].1 = Hash::new([9; 32]);
            }),
            None
        );
    }

    #[test]
    fn two_events_may_share_a_batch_but_not_a_leaf() {
        // The path proves one statement at a place, so two at one place would be a broken hash: not looked for.
        assert_eq!(
            conflict(|held| {
                held.event.id = "j".into();
                held.index = 4;
                held.statement = Hash::new([9; 32]);
            }),
            None
        );
    }
}
