//! Making the tables, and telling how they differ.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use killick_catalog::{CqlCatalog, Difference, Error, Migrated};
use killick_contract::catalog::Maker;
use killick_schemas::MIGRATIONS;
use killick_stages::ports::{AnchorRecord, Catalog, CatalogError};
use sha2::{Digest as _, Sha256};

mod support;

use support::{Keyspace, with_session};

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

/// A keyspace as programs left it that knew only the first migration.
fn of_version_one() -> Keyspace {
    let (newest, keyspace) = (Keyspace::made(), Keyspace::unmade());
    let digest = format!(
        "SELECT digest FROM {}.schema_version WHERE part = 'catalog' AND version = 1",
        newest.settings.keyspace
    );
    let digest = with_session(&newest.settings.nodes, async |session| {
        let result = session.query_unpaged(digest, ()).await.unwrap().into_rows_result().unwrap();
        result.single_row::<(Vec<u8>,)>().unwrap().0
    });
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    keyspace
        .cql("CREATE KEYSPACE KS WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}");
    let lines = MIGRATIONS[0].cql.lines().filter(|line| !line.starts_with("--"));
    for statement in lines.collect::<Vec<_>>().join("\n").split(';').filter(|text| !text.trim().is_empty()) {
        keyspace.cql(&statement.replace("IF NOT EXISTS ", "KS."));
    }
    keyspace.cql(&format!(
        "INSERT INTO KS.schema_version (part, version, name, digest) VALUES ('catalog', 1, '001-catalog', 0x{digest}) \
         USING TIMESTAMP 1"
    ));
    keyspace
}

#[test]
fn tables_of_the_first_version_are_brought_on_and_what_is_in_them_stays() {
    let keyspace = of_version_one();
    assert_eq!(keyspace.catalog().differences().unwrap(), [Difference::Older { found: 1, wanted: 2 }]);
    assert!(matches!(keyspace.catalog().open(), Err(Error::Schema(_))), "nothing changes tables by itself");
    let origin = "schema.example/1/sha256/0";
    let (mut made, mut batches) = (Maker::new(origin), Vec::new());
    batches.extend((0..4).map(|_| made.batch(0, &["t"], 2)));
    let own = made.anchor(&batches[1], r#"{"type":"own"}"#);
    // An anchor and the size of its log as the program before wrote them.
    let digest = Sha256::digest(
        [own.checkpoint.as_bytes(), &own.anchor]
            .map(|part| [&(part.len() as u64).to_be_bytes(), part].concat())
            .concat(),
    );
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    keyspace.cql(&format!(
        "INSERT INTO KS.anchors (origin, size, rank, digest, checkpoint, anchor) VALUES ('{origin}', 2, 0, 0x{digest}, \
         '{}', textAsBlob('{}')) USING TIMESTAMP 2",
        own.checkpoint,
        std::str::from_utf8(&own.anchor).unwrap(),
    ));
    keyspace.cql(&format!(
        "INSERT INTO KS.anchored (origin, span, size) VALUES ('{origin}', 0, 2) USING TIMESTAMP 2"
    ));
    keyspace.cql(&format!("INSERT INTO KS.logs (origin, anchored) VALUES ('{origin}', 2) USING TIMESTAMP 2"));

    let migrated: Vec<Migrated> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|_| scope.spawn(|| keyspace.catalog().migrate().unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        migrated.iter().all(|migrated| migrated.to == 2)
            && migrated.iter().any(|migrated| migrated.from == 1)
    );
    let catalog = keyspace.catalog();
    assert_eq!(catalog.differences().unwrap(), []);
    for batch in &batches {
        catalog.put_batch(batch).unwrap();
    }
    assert_eq!(catalog.anchors_of(origin, 0).unwrap(), std::slice::from_ref(&own));
    let later =
        AnchorRecord { series: "elsewhere".into(), ..made.anchor(&batches[3], r#"{"type":"later"}"#) };
    catalog.put_anchor(&own).unwrap();
    catalog.put_anchor(&later).unwrap();
    assert_eq!(keyspace.catalog().anchors_of(origin, 0).unwrap(), [own, later.clone()]);
    assert_eq!(keyspace.catalog().anchors_of(origin, 2).unwrap(), [later]);
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
