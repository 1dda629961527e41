//! Making the tables, and telling how they differ.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use killick_catalog::{CqlCatalog, Difference, Error, Migrated};
use killick_contract::catalog::Maker;
use killick_stages::ports::{Catalog, CatalogError};

mod support;

use support::Keyspace;

fn texts(catalog: &CqlCatalog) -> Vec<String> {
    catalog.differences().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn many_migrate_at_once_and_again_and_all_end_with_the_same_tables() {
    let keyspace = Keyspace::unmade();
    assert_eq!(
        keyspace.catalog().differences().unwrap(),
        [Difference::NoKeyspace(keyspace.settings.keyspace.clone())]
    );
    let outcomes: Vec<Migrated> = std::thread::scope(|scope| {
        let one = || keyspace.catalog().migrate();
        let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
    });
    assert!(outcomes.iter().all(|migrated| migrated.to == 2), "{outcomes:?}");
    let catalog = keyspace.catalog();
    assert_eq!(catalog.differences().unwrap(), []);
    assert_eq!(catalog.migrate().unwrap(), Migrated { keyspace: false, from: 2, to: 2 });
    catalog.open().unwrap();
    let mut made = Maker::new("schema.example/1/sha256/0");
    let batch = made.batch(0, &["t"], 3);
    catalog.put_batch(&batch).unwrap();
    // Again, with what is in it.
    catalog.migrate().unwrap();
    assert_eq!(keyspace.catalog().batch("schema.example/1/sha256/0", 0).unwrap(), Some(batch));
}

#[test]
fn what_differs_is_named_and_refused_until_it_is_right() {
    let keyspace = Keyspace::made();
    keyspace.catalog().open().unwrap();
    for (change, part, undo) in [
        ("DROP TABLE KS.anchors", "table anchors is missing", None),
        ("ALTER TABLE KS.logs DROP anchored", "column logs.anchored is missing", Some("DROP TABLE KS.logs")),
        (
            "ALTER TABLE KS.events_1y WITH default_time_to_live = 60",
            "rows of table events_1y live 60 s by default, and not 31536000",
            Some("ALTER TABLE KS.events_1y WITH default_time_to_live = 31536000"),
        ),
        (
            "INSERT INTO KS.schema_version (part, version, name) VALUES ('catalog', 7, 'later')",
            "at version 7, and this program knows 2: use a later program",
            Some("DELETE FROM KS.schema_version WHERE part = 'catalog' AND version = 7"),
        ),
        ("DROP TABLE KS.schema_version", "at version 0, and this program needs 2", None),
    ] {
        keyspace.cql(change);
        let catalog = keyspace.catalog();
        let texts = texts(&catalog);
        assert!(texts.len() == 1 && texts[0].contains(part), "{change}: {texts:?}");
        // Who would use it is told the same, and waiting does not help.
        let refused = catalog.open().unwrap_err();
        assert!(matches!(refused, Error::Schema(_)) && !refused.is_transient(), "{refused}");
        let failed = catalog.log_size("schema.example/1/sha256/0").unwrap_err();
        assert!(matches!(failed, CatalogError::Failed(_)) && failed.to_string().contains(part), "{failed}");
        if let Some(undo) = undo {
            keyspace.cql(undo);
        }
        let migrated = catalog.migrate();
        migrated.unwrap_or_else(|error| panic!("{change}: {error}"));
        assert_eq!(catalog.differences().unwrap(), [], "{change}");
        catalog.open().unwrap();
    }
}

#[test]
fn a_keyspace_of_others_is_left_alone() {
    let keyspace = Keyspace::made();
    keyspace.cql(
        "INSERT INTO KS.schema_version (part, version, name, digest) VALUES ('catalog', 1, 'other', 0x00)",
    );
    let catalog = keyspace.catalog();
    assert_eq!(catalog.differences().unwrap(), [Difference::Foreign(1)]);
    assert!(matches!(catalog.migrate(), Err(Error::Schema(_))));
    keyspace.cql("DROP TABLE KS.schema_version");
    keyspace.cql("DROP TABLE KS.tiles");
    keyspace.cql("CREATE TABLE KS.tiles (origin text PRIMARY KEY, level int)");
    catalog.migrate().unwrap();
    let texts = texts(&catalog);
    assert!(texts.iter().any(|text| text.contains("tiles.level is int, no part of the key")), "{texts:?}");
    assert!(texts.iter().all(|text| text.contains("column tiles.")), "{texts:?}");
}

#[test]
fn another_replication_or_datacenter_is_refused_with_the_remedy() {
    let keyspace = Keyspace::made();
    let mut settings = keyspace.settings.clone();
    settings.replication = [("datacenter1".to_owned(), 2)].into();
    let catalog = CqlCatalog::new(&settings).unwrap();
    let texts = texts(&catalog);
    let wanted =
        "ALTER KEYSPACE KS WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 2}";
    let wanted = wanted.replace("KS", &settings.keyspace);
    assert!(texts.len() == 1 && texts[0].contains(&wanted), "{texts:?}");
    assert!(catalog.migrate().is_ok(), "a migration does not move data");
    assert!(matches!(catalog.open(), Err(Error::Schema(_))));

    settings.replication = [("datacenter1".to_owned(), 1), ("elsewhere".to_owned(), 1)].into();
    let refused = CqlCatalog::new(&settings).unwrap().migrate().unwrap_err();
    assert!(!refused.is_transient() && refused.to_string().contains("no datacenter elsewhere"), "{refused}");
    settings.datacenter = "elsewhere".to_owned();
    let refused = CqlCatalog::new(&settings).unwrap().open().unwrap_err();
    assert!(refused.to_string().contains("it has datacenter1"), "{refused}");
}
