use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::record::Partition;

/// A stage's true account of `events`, cut into transactions of so many offsets each; every offset is one event.
fn account(lengths: &[u64]) -> Vec<Manifest> {
    let mut from = 0;
    let manifest = |length: &u64| {
        let mut sum = Sum::default();
        (from..from + length).for_each(|offset| sum.add(&event(offset)));
        let tally = Tally { taken: sum, passed: sum, ..Tally::default() };
        let manifest = Manifest {
            stage: "batch".into(),
            input: Partition::new("unique", 0),
            from,
            to: from + length,
            tally,
            worker: "batch-0".into(),
        };
        from += length;
        manifest
    };
    lengths.iter().map(manifest).collect()
}

fn event(offset: u64) -> [u8; 8] {
    offset.to_be_bytes()
}

/// What is found of an account, held against a log with an event at each offset below `end`.
fn audit(manifests: &[Manifest], end: u64) -> (Vec<Flaw>, Vec<Difference>) {
    let mut track = Track::new(true);
    (track.taken, track.passed) = (Covered::Offset(0), Covered::Offset(0));
    let flaws = manifests.iter().flat_map(|manifest| track.add(manifest, 0)).collect();
    for offset in 0..end {
        if let Some(span) = track.at(offset) {
            span.found.taken.add(&event(offset));
            span.found.passed.add(&event(offset));
        }
    }
    (flaws, track.differences().collect())
}

fn lengths() -> impl Strategy<Value = Vec<u64>> {
    vec(1_u64..9, 3..40)
}

proptest! {
    #[test]
    fn a_true_account_is_clean(lengths in lengths()) {
        let manifests = account(&lengths);
        prop_assert_eq!(audit(&manifests, lengths.iter().sum()), (vec![], vec![]));
    }

    #[test]
    fn a_manifest_that_is_missing_is_a_gap_of_its_range(lengths in lengths(), at in any::<prop::sample::Index>()) {
        let mut manifests = account(&lengths);
        // Of the last one nothing here can know; the committed offset tells.
        let at = at.index(manifests.len() - 1);
        let gone = manifests.remove(at);
        let (flaws, differences) = audit(&manifests, lengths.iter().sum());
        let expected = if at == 0 { Flaw::Begins(gone.to) } else { Flaw::Gap(gone.from, gone.to) };
        prop_assert_eq!(flaws, vec![expected]);
        prop_assert_eq!(differences, vec![]);
    }

    #[test]
    fn a_manifest_that_is_there_twice_is_an_overlap_of_its_range(lengths in lengths(), at in any::<prop::sample::Index>()) {
        let mut manifests = account(&lengths);
        let at = at.index(manifests.len());
        let twice = manifests[at].clone();
        manifests.insert(at, twice.clone());
        let (flaws, _) = audit(&manifests, lengths.iter().sum());
        prop_assert_eq!(flaws, vec![Flaw::Overlap(twice.from, twice.to)]);
    }

    #[test]
    fn a_manifest_that_is_shifted_is_found(lengths in lengths(), at in any::<prop::sample::Index>(), up in any::<bool>()) {
        let mut manifests = account(&lengths);
        let at = at.index(manifests.len() - 2) + 1;
        let Manifest { from, to, .. } = &mut manifests[at];
        if up { (*from, *to) = (*from + 1, *to + 1) } else { (*from, *to) = (*from - 1, *to - 1) }
        let (flaws, differences) = audit(&manifests, lengths.iter().sum());
        prop_assert!(!flaws.is_empty() && !differences.is_empty(), "{flaws:?} {differences:?}");
    }

    #[test]
    fn a_sum_that_is_changed_is_found_with_its_range(
        lengths in lengths(), at in any::<prop::sample::Index>(), bit in 0..128, is_taken in any::<bool>(),
    ) {
        let mut manifests = account(&lengths);
        let at = at.index(manifests.len());
        let tally = &mut manifests[at].tally;
        if is_taken { tally.taken.hashes ^= 1_u128 << bit } else { tally.passed.hashes ^= 1_u128 << bit }
        let (flaws, differences) = audit(&manifests, lengths.iter().sum());
        prop_assert!(matches!(&flaws[..], [Flaw::Contradiction(_)]), "{flaws:?}");
        let [difference] = &differences[..] else { panic!("{differences:?}") };
        prop_assert_eq!((difference.from, difference.to), (manifests[at].from, manifests[at].to));
    }

    #[test]
    fn an_event_that_the_log_lacks_is_found(lengths in lengths()) {
        let end: u64 = lengths.iter().sum();
        let (flaws, differences) = audit(&account(&lengths), end - 1);
        prop_assert_eq!(flaws, vec![]);
        prop_assert_eq!(differences.len(), 2);
        prop_assert_eq!(differences[0].to, end);
    }

    #[test]
    fn nothing_that_manifests_say_breaks_a_track(
        numbers in vec((any::<[u8; 6]>(), prop::option::of(0..4_u64), 0..3_usize), 1..60), end in 0..300_u64,
    ) {
        let stages = ["dedup", "batch", "prove"];
        let manifests: Vec<Manifest> = numbers.iter().map(|(bytes, batches, stage)| Manifest {
            stage: stages[*stage].into(),
            input: Partition::new("unique", 0),
            from: bytes[0].into(),
            to: bytes[1].into(),
            tally: Tally {
                taken: Sum { events: u64::MAX, hashes: u128::MAX },
                passed: Sum { events: bytes[2].into(), hashes: 1 },
                rejected: u64::MAX,
                duplicates: bytes[3].into(),
                batches: *batches,
            },
            worker: "".into(),
        }).collect();
        let mut track = Track::new(false);
        for manifest in &manifests {
            track.add(manifest, 0);
        }
        track.join();
        track.told();
        let spans = track.spans().to_vec();
        prop_assert!(spans.windows(2).all(|pair| pair[0].to <= pair[1].from && pair[0].from <= pair[0].to));
        for offset in 0..end {
            let of = spans.iter().filter(|span| (span.from..span.to).contains(&offset)).count();
            prop_assert_eq!(of, usize::from(track.at(offset).is_some()), "{}", offset);
        }
    }

    #[test]
    fn joined_spans_tell_and_find_the_same(lengths in lengths()) {
        let end = lengths.iter().sum();
        let mut track = Track::new(true);
        (track.taken, track.passed) = (Covered::Offset(0), Covered::Offset(0));
        for manifest in account(&lengths) {
            track.add(&manifest, 0);
        }
        let told = track.told();
        track.join();
        track.join();
        prop_assert!(track.spans().len() <= lengths.len().div_ceil(2).div_ceil(2));
        prop_assert_eq!(track.told(), told);
        prop_assert_eq!(track.range(), Some((0, end)));
        for offset in 0..end {
            let span = track.at(offset).unwrap();
            span.found.taken.add(&event(offset));
            span.found.passed.add(&event(offset));
        }
        prop_assert_eq!(track.differences().next(), None);
    }
}

fn told(batches: u64, statements: &[&[u8]]) -> Manifest {
    let mut passed = Sum::default();
    statements.iter().for_each(|statement| passed.add(statement));
    Manifest {
        stage: "prove".into(),
        input: Partition::new("anchors", 0),
        from: 0,
        to: 0,
        tally: Tally { passed, batches: Some(batches), ..Tally::default() },
        worker: "prove-0".into(),
    }
}

#[test]
fn what_moves_no_offset_is_held_against_the_batches_it_counts() {
    let mut track = Track::new(true);
    track.passed = Covered::Batch(0);
    assert_eq!(track.add(&told(2, &[b"a", b"b"]), 0), []);
    assert_eq!(track.add(&told(3, &[b"c"]), 0), []);
    for (number, statement) in [(0, b"a"), (1, b"b"), (2, b"c")] {
        track.of_batch(number).unwrap().found.passed.add(statement);
    }
    assert_eq!(track.differences().next(), None);
    assert!(track.of_batch(3).is_none());
    // Told of once more: it counts no further batch, but has events.
    assert_eq!(track.add(&told(3, &[b"c"]), 0), []);
    assert_eq!(track.differences().count(), 1);
    assert!(matches!(&track.add(&told(1, &[]), 0)[..], [Flaw::Contradiction(_)]));
}

#[test]
fn what_came_before_the_first_manifest_kept_is_no_gap_and_is_not_held_against_the_log() {
    let mut manifest = told(7, &[b"a"]);
    (manifest.from, manifest.to) = (40, 41);
    let mut track = Track::new(false);
    track.passed = Covered::Batch(0);
    assert_eq!(track.add(&manifest, 0), []);
    assert_eq!(track.differences().next(), None);
    assert!(track.of_batch(6).is_none());
    assert_eq!(Track::new(true).add(&manifest, 0), [Flaw::Begins(40)]);
}
