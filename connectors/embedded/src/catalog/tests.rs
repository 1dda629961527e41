use std::path::Path;
use std::sync::Arc;

use killick_contract::catalog::{Maker, names};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError};

use super::EmbeddedCatalog;
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
