use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTableMetadata};

use super::*;

/// The index, and beside it what it has to find.
struct Pair {
    database: Database,
    /// fingerprint → run, leaf
    wanted: BTreeMap<u64, Vec<(u64, u64)>>,
    count: u64,
}

impl Pair {
    fn new() -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(PLACES).unwrap();
        write.open_table(RUNS).unwrap();
        write.commit().unwrap();
        Self { database, wanted: BTreeMap::new(), count: 0 }
    }

    /// Puts batches with these fingerprints in one transaction, which may come to nothing.
    fn put(&mut self, batches: &[Vec<u64>], is_committed: bool) {
        let mut write = self.database.begin_write().unwrap();
        write.set_durability(Durability::None).unwrap();
        for batch in batches {
            let entry = |(leaf, print): (u64, &u64)| Entry::new(*print, leaf).unwrap();
            let mut entries: Vec<_> = (0..).zip(batch).map(entry).collect();
            entries.sort_unstable();
            let mut runs = write.open_table(RUNS).unwrap();
            let mut places = write.open_table(PLACES).unwrap();
            add(&mut runs, &mut places, b"a batch", &entries).unwrap();
        }
        if !is_committed {
            return write.abort().unwrap();
        }
        write.commit().unwrap();
        for batch in batches {
            for (leaf, print) in (0..).zip(batch) {
                self.wanted.entry(*print).or_default().push((self.count, leaf));
            }
            self.count += 1;
        }
    }

    fn check<'a>(&self, fingerprints: impl IntoIterator<Item = &'a u64>) {
        let read = self.database.begin_read().unwrap();
        let (runs, places) = (read.open_table(RUNS).unwrap(), read.open_table(PLACES).unwrap());
        assert_eq!(count(&runs).unwrap(), self.count);
        for fingerprint in fingerprints {
            let mut found = look(&places, self.count, *fingerprint).unwrap();
            found.sort_unstable();
            let wanted = self.wanted.get(fingerprint).map_or(&[][..], Vec::as_slice);
            assert_eq!(found, wanted, "{fingerprint:016x} of {}", self.count);
        }
    }

    fn rows(&self) -> Vec<(Key, Vec<u8>)> {
        let places = self.database.begin_read().unwrap().open_table(PLACES).unwrap();
        let rows = places.iter().unwrap().map(|row| row.unwrap());
        rows.map(|(key, page)| (key.value().to_vec(), page.value().to_vec())).collect()
    }
}

/// Fingerprints of a batch: most as SHA-256 gives them; some in common with other events, some at the ends of steps.
fn prints(random: &mut StdRng, count: usize) -> Vec<u64> {
    let print = |_| match random.random_range(0..20) {
        0 => u64::MAX,
        1 => 0,
        2 => random.random_range(0..64) << 58,
        3 => (random.random_range(0..64_u64) << 58).wrapping_sub(1),
        4 => 0x1234_5678_9abc_def0,
        _ => random.random(),
    };
    (0..count).map(print).collect()
}

#[test]
fn whatever_batches_come_each_event_is_found_at_all_of_its_places() {
    let random = &mut StdRng::seed_from_u64(7);
    let mut pair = Pair::new();
    let mut checked = 0;
    while pair.count < 4_800 {
        let batches = if pair.count < 200 { 1 } else { random.random_range(1..40) };
        let batch = |random: &mut StdRng| {
            let count = if random.random_bool(0.002) { 2_500 } else { random.random_range(0..4) };
            prints(random, count)
        };
        let group: Vec<_> = (0..batches).map(|_| batch(random)).collect();
        if random.random_bool(0.05) {
            pair.put(&group, false); // the process died before it was written
        }
        pair.put(&group, true);
        pair.check(group.iter().flatten().take(20));
        pair.check(&[random.random(), random.random()]);
        if pair.count < 200 || pair.count > checked + 700 {
            checked = pair.count;
            pair.check(pair.wanted.keys().step_by(9));
        }
    }
    pair.check(pair.wanted.keys().step_by(3));
    // No segment is left behind where a merge has taken it up.
    let entries: usize = pair.wanted.values().map(Vec::len).sum();
    let held: usize = pair.rows().iter().map(|(_, page)| page.len() / ENTRY).sum();
    assert!(held >= entries && held < entries * 2, "{held} entries are held for {entries}");
}

#[test]
fn the_index_is_a_function_of_the_batches() {
    let random = &mut StdRng::seed_from_u64(8);
    let batches: Vec<_> = (0..700).map(|_| prints(random, 3)).collect();
    let (mut one_by_one, mut together) = (Pair::new(), Pair::new());
    batches.iter().for_each(|batch| one_by_one.put(std::slice::from_ref(batch), true));
    for group in batches.chunks(9) {
        together.put(group, false);
        together.put(group, true);
    }
    assert!(one_by_one.rows() == together.rows());
}

#[test]
fn few_segments_are_looked_into_and_each_entry_stands_in_one() {
    for size in (0..3_000).chain([10_000, 262_144, 262_145, 1 << 40, (1 << 53) - 1]) {
        for fingerprint in [0, 1 << 55, 1 << 63, 0xaaaa_aaaa_aaaa_aaaa, u64::MAX] {
            let levels = (0..).take_while(|level| span(*level) <= size).count();
            let mut next = 0;
            for level in (0..u32::try_from(levels).unwrap()).rev() {
                let (from, to) = (made(level + 1, size, fingerprint) * FAN, made(level, size, fingerprint));
                assert!(from <= to && to - from <= FAN + 1, "{from}..{to} at level {level} of {size}");
                assert_eq!(from * span(level), next, "no batch is left out, or looked into twice");
                next = to * span(level);
            }
            assert_eq!(next, size);
        }
    }
}

#[test]
fn every_step_of_a_merge_is_done_before_its_result_is_needed() {
    let mut steps = BTreeMap::new();
    for size in 1..=5_000 {
        for level in 1..5 {
            let Some((number, step)) = due(level, size) else { continue };
            let done: &mut u64 = steps.entry((level, number)).or_default();
            assert_eq!(*done, step, "in order");
            *done += 1;
            // What it takes is whole.
            for below in number * FAN..(number + 1) * FAN {
                let is_whole = level == 1 && below < size
                    || steps.get(&(level - 1, below)).is_some_and(|done| *done == span(level - 2));
                assert!(is_whole, "{below} at level {} of {size}", level - 1);
            }
        }
        for ((level, number), done) in &steps {
            let print = |step| step << (64 - DIGITS * (level - 1)).min(63);
            assert!(made(*level, size, print(done - 1)) > *number, "{done} steps are done");
            let is_over = *done == span(level - 1);
            assert!(is_over || made(*level, size, print(*done)) <= *number, "{done} steps are done");
        }
    }
}

#[test]
fn a_row_that_is_none_is_damage() {
    let mut pair = Pair::new();
    pair.put(&[vec![5, 7]], true);
    let (key, page) = pair.rows().remove(0);
    for (wrong_key, wrong_page) in [
        (&key, &page[1..]),
        (&key, &[][..]),
        (&key, &page[ENTRY..]),
        (&[&key[..key.len() - 1], &[9]].concat(), &page[..]),
    ] {
        let write = pair.database.begin_write().unwrap();
        {
            let mut places = write.open_table(PLACES).unwrap();
            places.remove(key.as_slice()).unwrap();
            places.insert(wrong_key.as_slice(), wrong_page).unwrap();
            assert_eq!(places.len().unwrap(), 1);
            let found = look(&places, 1, 7);
            assert!(matches!(&found, Err(CatalogError::Damaged(_))), "{found:?}");
        }
        write.abort().unwrap();
    }
}

#[test]
fn a_fingerprint_is_for_ever() {
    assert_eq!(fingerprint("plant", "press-0017", "0000000042"), 0xdf29_933d_dd8a_7657);
    let all = [("a", "b", "c"), ("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("b", "a", "c")];
    let all = all.map(|(tenant, source, id)| fingerprint(tenant, source, id));
    assert!((1..all.len()).all(|one| !all[..one].contains(&all[one])), "{all:x?}");
}
