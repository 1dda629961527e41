//! Each class in its own tables, and rows that die by log time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::{SystemTime, UNIX_EPOCH};

use killick_catalog::{Class, CqlCatalog, Settings};
use killick_contract::catalog::{Maker, names};
use killick_stages::ports::{BatchRecord, Catalog, Place};

mod support;

use support::{Keyspace, with_session};

const ORIGIN: &str = "retention.example/1/sha256/0";
const DAY: i64 = 86_400_000_000;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn day_of(time: i64) -> i32 {
    i32::try_from(time.div_euclid(DAY)).unwrap()
}

fn settings(keyspace: &Keyspace, classes: &[(&str, Class)]) -> Settings {
    let tenants = classes.iter().map(|(tenant, class)| ((*tenant).to_owned(), *class)).collect();
    Settings { tenants, ..keyspace.settings.clone() }
}

/// The time to live of every row of a table that has a column beside its key.
fn lives(keyspace: &Keyspace, class: Class) -> Vec<Option<i32>> {
    let select = format!("SELECT TTL(content) FROM {}.batches_{class}", keyspace.settings.keyspace);
    with_session(&keyspace.settings.nodes, async |session| {
        let result = session.query_unpaged(select, ()).await.unwrap().into_rows_result().unwrap();
        result.rows::<(Option<i32>,)>().unwrap().map(|row| row.unwrap().0).collect()
    })
}

fn count(keyspace: &Keyspace, table: &str) -> i64 {
    let select = format!("SELECT COUNT(*) FROM {}.{table}", keyspace.settings.keyspace);
    with_session(&keyspace.settings.nodes, async |session| {
        let result = session.query_unpaged(select, ()).await.unwrap().into_rows_result().unwrap();
        result.single_row::<(i64,)>().unwrap().0
    })
}

fn assert_found(catalog: &CqlCatalog, number: u64, batch: &BatchRecord) {
    assert_eq!(catalog.batch(ORIGIN, number).unwrap().as_ref(), Some(batch));
    for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
        let place = Place { origin: ORIGIN.into(), number, index };
        assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), [place]);
    }
}

#[test]
fn events_go_to_the_tables_of_their_tenants_class_and_a_batch_to_the_longest() {
    let keyspace = Keyspace::made();
    let classes = [("a", Class::Days30), ("b", Class::Year), ("c", Class::Forever), ("d", Class::Years7)];
    let catalog = CqlCatalog::new(&settings(&keyspace, &classes)).unwrap();
    let (mut made, time) = (Maker::new(ORIGIN), now() - 10 * DAY);
    let batches: Vec<_> = [&["a"][..], &["a", "b"], &["a", "b", "c", "d"]]
        .into_iter()
        .map(|tenants| made.batch(time, tenants, 8))
        .collect();
    for (number, batch) in (0..).zip(&batches) {
        catalog.put_batch(batch).unwrap();
        assert_found(&catalog, number, batch);
    }
    for (class, batches, events, listed) in [
        (Class::Days30, 1, 8 + 4 + 2, 3),
        (Class::Year, 1, 4 + 2, 2),
        (Class::Years7, 0, 2, 1),
        (Class::Forever, 1, 2, 1),
    ] {
        assert_eq!(count(&keyspace, &format!("batches_{class}")), batches, "{class}");
        assert_eq!(count(&keyspace, &format!("events_{class}")), events, "{class}");
        assert_eq!(count(&keyspace, &format!("runs_{class}")), listed, "{class}");
        assert_eq!(count(&keyspace, &format!("days_{class}")), 1, "{class}");
    }
    for tenant in ["a", "b", "c", "d"] {
        let has = |batch: &&BatchRecord| names(batch).iter().any(|(other, ..)| other == tenant);
        let listed = catalog.list(tenant, day_of(time), None, 10).unwrap();
        assert_eq!(listed.len(), batches.iter().filter(has).count(), "{tenant}");
    }
    // Ten days are over: what is left is a function of log time, and writing again does not prolong it.
    let left = |days: i32| (days - 1) * 86_400..=days * 86_400;
    assert!(lives(&keyspace, Class::Days30).into_iter().all(|life| left(20).contains(&life.unwrap())));
    assert!(lives(&keyspace, Class::Year).into_iter().all(|life| left(355).contains(&life.unwrap())));
    assert_eq!(lives(&keyspace, Class::Forever), [None]);
    for batch in &batches {
        catalog.put_batch_again(batch).unwrap();
    }
    assert!(lives(&keyspace, Class::Days30).into_iter().all(|life| left(20).contains(&life.unwrap())));
}

#[test]
fn what_has_expired_stays_in_the_log_and_is_never_written_again() {
    let keyspace = Keyspace::made();
    let catalog = CqlCatalog::new(&settings(&keyspace, &[("a", Class::Days30)])).unwrap();
    let (mut made, mut other) = (Maker::new(ORIGIN), Maker::new(ORIGIN));
    let old = made.batch(now() - 31 * DAY, &["a"], 3);
    let fresh = made.batch(now(), &["a"], 3);
    for batch in [&old, &old, &fresh, &old] {
        catalog.put_batch(batch).unwrap();
    }
    assert_eq!(catalog.log_size(ORIGIN).unwrap(), 2);
    assert_eq!(catalog.batch(ORIGIN, 0).unwrap(), None);
    assert_found(&catalog, 1, &fresh);
    for (tenant, source, id) in names(&old) {
        assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), []);
    }
    assert!(catalog.log_hash(ORIGIN, 1, 0).unwrap().is_some(), "its log still proves the others");
    // Its place in the log is its own for ever.
    let refused = catalog.put_batch(&other.batch(now() - 31 * DAY, &["a"], 4)).unwrap_err().to_string();
    assert!(refused.contains("another batch 0"), "{refused}");
}

#[test]
fn a_tenants_class_may_change_and_nothing_is_lost_from_sight() {
    let keyspace = Keyspace::made();
    let (mut made, time) = (Maker::new(ORIGIN), now());
    let batches: Vec<_> = (0..6).map(|_| made.batch(time, &["a"], 2)).collect();
    for (batch, class) in batches.iter().zip(Class::ALL.into_iter().cycle()) {
        let catalog = CqlCatalog::new(&settings(&keyspace, &[("a", class)])).unwrap();
        catalog.put_batch(batch).unwrap();
    }
    let catalog = keyspace.catalog();
    for (number, batch) in (0..).zip(&batches) {
        assert_found(&catalog, number, batch);
    }
    let mut listed = Vec::new();
    while let page = catalog.list("a", day_of(time), listed.last(), 2).unwrap()
        && !page.is_empty()
    {
        listed.extend(page);
    }
    assert_eq!(listed, (0..6).map(|number| (ORIGIN.into(), number)).collect::<Vec<_>>());
    // One that is written under two classes is one.
    let again = CqlCatalog::new(&settings(&keyspace, &[("a", Class::Year)])).unwrap();
    again.put_batch_again(&batches[0]).unwrap();
    assert_found(&catalog, 0, &batches[0]);
    assert_eq!(catalog.list("a", day_of(time), None, 100).unwrap().len(), 6);
}
