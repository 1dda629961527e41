use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use killick_contract::catalog::{Maker, names};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::batches::PART;
use super::{BARRIER, BATCHES, Bytewise, EVENTS, EmbeddedCatalog, PLACES, RUNS, key, numbered};
use crate::faults::{Faults, Mode};
use crate::folder::Folder;
use crate::store::Disk;

const ORIGIN: &str = "faults.example/1/sha256/0";

fn open(place: &Path, faults: &Faults) -> EmbeddedCatalog {
    let folder = Arc::new(Folder::open(place).unwrap());
    let open = || EmbeddedCatalog::open_on(Disk::with(faults), &folder);
    // A fault while it opens is told of, and the next start does not meet it.
    open().or_else(|_| open()).unwrap()
}

fn batches() -> Vec<(BatchRecord, AnchorRecord)> {
    let mut made = Maker::new(ORIGIN);
    let mut one = || {
        let batch = made.batch(0, &["t"], 40);
        let anchor = made.anchor(&batch, r#"{"type":"chainweb"}"#);
        (batch, anchor)
    };
    (0..4).map(|_| one()).collect()
}

/// The same anchor in a series that was made later.
fn elsewhere(anchor: &AnchorRecord) -> AnchorRecord {
    AnchorRecord { series: "elsewhere".into(), ..anchor.clone() }
}

fn check(catalog: &EmbeddedCatalog, batches: &[(BatchRecord, AnchorRecord)]) {
    assert_eq!(catalog.log_size(ORIGIN).unwrap(), batches.len() as u64);
    for (number, (batch, anchor)) in (0..).zip(batches) {
        assert_eq!(catalog.batch(ORIGIN, number).unwrap().as_ref(), Some(batch));
        assert!(catalog.log_hash(ORIGIN, 0, number).unwrap().is_some());
        assert_eq!(catalog.anchors_of(ORIGIN, number).unwrap(), [anchor.clone(), elsewhere(anchor)]);
        for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
            let found = catalog.find(&tenant, &source, &id).unwrap();
            assert!(found.len() == 1 && (found[0].number, found[0].index) == (number, index), "{found:?}");
        }
    }
}

/// Puts until it is in: again after a failure, and by another process where the catalog says that it is at its end.
fn put(
    mut catalog: EmbeddedCatalog,
    restart: &mut dyn FnMut() -> EmbeddedCatalog,
    put: impl Fn(&EmbeddedCatalog) -> Result<(), CatalogError>,
) -> EmbeddedCatalog {
    for _ in 0..4 {
        match put(&catalog) {
            Ok(()) => return catalog,
            Err(CatalogError::Failed(_)) => {}
            Err(CatalogError::Damaged(_)) => {
                assert!(matches!(put(&catalog), Err(CatalogError::Damaged(_))), "it stays at its end");
                drop(catalog);
                catalog = restart();
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it does not go on after one failure");
}

#[test]
fn whatever_effect_fails_the_catalog_goes_on_or_says_that_it_cannot() {
    let batches = batches();
    for mode in [Mode::Before, Mode::Half, Mode::After] {
        let mut ends = 0;
        for effect in 1.. {
            let place = tempfile::tempdir().unwrap();
            let faults = Faults::at(&[(effect, mode)]);
            let mut catalog = open(place.path(), &faults);
            let mut restart = || {
                ends += 1;
                open(place.path(), &faults)
            };
            for (batch, anchor) in &batches {
                catalog = put(catalog, &mut restart, |catalog| catalog.put_batch(batch));
                catalog = put(catalog, &mut restart, |catalog| catalog.put_anchor(anchor));
                catalog = put(catalog, &mut restart, |catalog| catalog.put_anchor(&elsewhere(anchor)));
            }
            check(&catalog, &batches);
            drop(catalog);
            check(&open(place.path(), &faults), &batches);
            if faults.count() < effect {
                assert!(effect > 20, "only {effect} effects");
                break;
            }
        }
        assert!(ends > 8, "{mode:?}: only {ends} failed syncs ended it");
    }
}

#[test]
fn a_file_has_one_catalog_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(place.path()).unwrap());
    let first = EmbeddedCatalog::open(&folder).unwrap();
    assert!(matches!(EmbeddedCatalog::open(&folder), Err(CatalogError::Failed(_))));
    drop(first);
    EmbeddedCatalog::open(&folder).unwrap();
}

#[test]
fn a_folder_from_before_there_were_series_opens_and_keeps_its_anchors() {
    let place = tempfile::tempdir().unwrap();
    let faults = Faults::at(&[]);
    let batches = batches();
    let catalog = open(place.path(), &faults);
    for (batch, anchor) in &batches {
        catalog.put_batch(batch).unwrap();
        catalog.put_anchor(anchor).unwrap();
    }
    drop(catalog);
    let database = redb::Database::open(place.path().join("catalog.redb")).unwrap();
    let write = database.begin_write().unwrap();
    assert!(write.delete_table(super::SERIES).unwrap());
    write.commit().unwrap();
    drop(database);
    let catalog = open(place.path(), &faults);
    assert_eq!(catalog.anchors_of(ORIGIN, 1).unwrap(), std::slice::from_ref(&batches[1].1));
    for (_, anchor) in &batches {
        catalog.put_anchor(&elsewhere(anchor)).unwrap();
    }
    check(&catalog, &batches);
}

#[test]
fn a_copy_is_the_catalog_of_its_instant_whatever_is_put_meanwhile() {
    let [place, to] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let faults = Faults::at(&[]);
    let batches = batches();
    let catalog = open(place.path(), &faults);
    let put = |(batch, anchor): &(BatchRecord, AnchorRecord)| {
        catalog.put_batch(batch).unwrap();
        catalog.put_anchor(anchor).unwrap();
        catalog.put_anchor(&elsewhere(anchor)).unwrap();
    };
    batches[..2].iter().for_each(put);
    let at = catalog.at_once().unwrap();
    batches[2..].iter().for_each(put);
    let path = to.path().join("catalog.redb");
    assert!(at.write_to(&to.path().join("stopped"), || true).is_err(), "nobody waits for it");
    at.write_to(&path, || false).unwrap();
    assert!(at.write_to(&path, || false).is_err(), "it is there already");
    check(&catalog, &batches);
    let copied = open(to.path(), &faults);
    check(&copied, &batches[..2]);
    for (batch, anchor) in &batches[2..] {
        copied.put_batch(batch).unwrap();
        copied.put_anchor(anchor).unwrap();
        copied.put_anchor(&elsewhere(anchor)).unwrap();
    }
    check(&copied, &batches);
}

/// All rows of a table of a catalog that nobody has open.
fn rows(place: &Path, table: Bytewise) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = redb::Database::open(place.join("catalog.redb")).unwrap();
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
}

/// Changes the batches of a catalog that nobody has open.
fn change(place: &Path, change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>)) {
    let database = redb::Database::open(place.join("catalog.redb")).unwrap();
    let write = database.begin_write().unwrap();
    change(&mut write.open_table(BATCHES).unwrap());
    write.commit().unwrap();
}

#[test]
fn an_effect_that_fails_while_the_index_is_merged_changes_nothing_of_it() {
    let mut made = Maker::new(ORIGIN);
    let batches: Vec<_> = (0..10).map(|_| made.batch(0, &["t"], 300)).collect();
    let before = tempfile::tempdir().unwrap();
    let catalog = open(before.path(), &Faults::none());
    batches[..6].iter().for_each(|batch| catalog.put_batch(batch).unwrap());
    drop(catalog);
    let run = |faults: &Faults| {
        let place = tempfile::tempdir().unwrap();
        std::fs::copy(before.path().join("catalog.redb"), place.path().join("catalog.redb")).unwrap();
        let mut catalog = open(place.path(), faults);
        for batch in &batches[6..] {
            let mut restart = || open(place.path(), faults);
            catalog = put(catalog, &mut restart, |catalog| catalog.put_batch(batch));
        }
        drop(catalog);
        [RUNS, PLACES].map(|table| rows(place.path(), table))
    };
    let wanted = run(&Faults::none());
    assert!(wanted[1].iter().any(|(key, _)| key[0] == 1), "something is merged");
    for mode in [Mode::Before, Mode::Half, Mode::After] {
        for effect in 1.. {
            let faults = Faults::at(&[(effect, mode)]);
            assert!(run(&faults) == wanted, "effect {effect}, {mode:?}");
            if faults.count() < effect {
                assert!(effect > 20, "only {effect} effects");
                break;
            }
        }
    }
}

#[test]
fn an_event_that_is_in_several_batches_is_found_in_each() {
    let place = tempfile::tempdir().unwrap();
    let origins = ["faults.example/1/sha256/0", "faults.example/1/sha256/1", "faults.example/2/sha256/0"];
    let mut makers = origins.map(Maker::new);
    let mut wanted: BTreeMap<(String, String, String), Vec<Place>> = BTreeMap::new();
    let mut all: Vec<bytes::Bytes> = Vec::new();
    for round in 0..5_u64 {
        let catalog = open(place.path(), &Faults::none());
        for turn in 0..120_u64 {
            let log = usize::try_from(turn * turn % 7 % 3).unwrap();
            let mut batch = makers[log].batch(0, &["t", "u"], 1 + turn % 4);
            if turn % 5 == 4 {
                batch.statements.push(all[all.len() * usize::try_from(turn).unwrap() / 130].clone());
            }
            all.extend(batch.statements.iter().cloned());
            catalog.put_batch(&batch).unwrap();
            let number = catalog.log_size(origins[log]).unwrap() - 1;
            for (index, name) in (0..).zip(names(&batch)) {
                let place = Place { origin: origins[log].into(), number, index };
                wanted.entry(name).or_default().push(place);
            }
        }
        for ((tenant, source, id), places) in &mut wanted {
            places.sort_unstable();
            assert_eq!(&catalog.find(tenant, source, id).unwrap(), places, "round {round}");
            assert_eq!(catalog.find(tenant, id, source).unwrap(), []);
        }
    }
    assert!(wanted.values().any(|places| places.len() > 1));
}

#[test]
fn a_folder_of_an_earlier_program_opens_and_its_events_are_found() {
    /// The index of earlier programs, under the name that it had there.
    const BY_NAME: Bytewise = TableDefinition::new("events");
    let place = tempfile::tempdir().unwrap();
    let faults = Faults::none();
    let mut made = Maker::new(ORIGIN);
    let batches: Vec<_> = (0..20).map(|_| made.batch(0, &["t", "u"], 5)).collect();
    let catalog = open(place.path(), &faults);
    batches[..10].iter().for_each(|batch| catalog.put_batch(batch).unwrap());
    drop(catalog);
    let database = redb::Database::open(place.path().join("catalog.redb")).unwrap();
    let write = database.begin_write().unwrap();
    for table in [RUNS, PLACES, EVENTS] {
        assert!(write.delete_table(table).unwrap());
    }
    assert!(write.delete_table(BARRIER).unwrap());
    for (number, batch) in (0_u64..).zip(&batches[..10]) {
        for (index, (tenant, source, id)) in (0_u64..).zip(names(batch)) {
            let of_event = [key(&tenant), key(&source), key(&id), numbered(ORIGIN, number)].concat();
            let row = [&of_event[..], &index.to_be_bytes()].concat();
            write.open_table(BY_NAME).unwrap().insert(row.as_slice(), [].as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
    drop(database);
    for half in [&batches[10..15], &batches[15..]] {
        let catalog = open(place.path(), &faults);
        half.iter().for_each(|batch| catalog.put_batch(batch).unwrap());
        let size = catalog.log_size(ORIGIN).unwrap();
        for (number, batch) in (0..size).zip(&batches) {
            for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
                let wanted = Place { origin: ORIGIN.into(), number, index };
                assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), [wanted]);
            }
        }
    }
    // Nothing was added to the old index, and who knows only that one does not go on.
    assert_eq!(rows(place.path(), EVENTS).len(), 50);
    let database = redb::Database::open(place.path().join("catalog.redb")).unwrap();
    let refused = database.begin_write().unwrap().open_table(BY_NAME).map(drop);
    assert!(matches!(refused, Err(redb::TableError::TableTypeMismatch { .. })), "{refused:?}");
}

#[test]
fn a_batch_larger_than_a_row_is_read_whole_or_told_of() {
    let place = tempfile::tempdir().unwrap();
    let mut made = Maker::new(ORIGIN);
    let batches = [3, 1_500, 1].map(|leaves| made.batch(0, &["t"], leaves));
    let catalog = open(place.path(), &Faults::none());
    for batch in batches.iter().chain(&batches) {
        catalog.put_batch(batch).unwrap();
    }
    let other = BatchRecord { statements: batches[1].statements[1..].to_vec(), ..batches[1].clone() };
    assert!(matches!(catalog.put_batch(&other), Err(CatalogError::Conflict(_))));
    for (number, batch) in (0..).zip(&batches) {
        assert_eq!(catalog.batch(ORIGIN, number).unwrap().as_ref(), Some(batch));
        for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
            let wanted = Place { origin: ORIGIN.into(), number, index };
            assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), [wanted]);
        }
    }
    drop(catalog);
    let parts = rows(place.path(), BATCHES);
    assert!(parts.len() > 4 && parts.iter().all(|(_, part)| part.len() <= PART));
    // As an earlier program had it: in one row.
    let of = |number| numbered(ORIGIN, number);
    let its: Vec<_> = parts.iter().filter(|(key, _)| key.starts_with(&of(1))).collect();
    let whole = its.iter().flat_map(|(_, part)| part).copied().collect::<Vec<u8>>();
    change(place.path(), |batches| {
        its.iter().for_each(|(key, _)| drop(batches.remove(key.as_slice()).unwrap()));
        batches.insert(of(1).as_slice(), whole.as_slice()).unwrap();
    });
    let catalog = open(place.path(), &Faults::none());
    assert_eq!(catalog.batch(ORIGIN, 1).unwrap().as_ref(), Some(&batches[1]));
    drop(catalog);
    change(place.path(), |batches| {
        its.iter().take(1).for_each(|(key, part)| {
            batches.insert(key.as_slice(), part.as_slice()).unwrap();
        });
    });
    let catalog = open(place.path(), &Faults::none());
    let without = catalog.batch(ORIGIN, 1);
    assert!(matches!(without, Err(CatalogError::Damaged(_))), "a part is missing");
}
