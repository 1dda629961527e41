//! `killick catalog` and the commands that read a catalog, on a real cluster.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;

use support::{Keyspace, ends, files};

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A configuration that names this keyspace.
fn config(keyspace: &Keyspace, folder: &Path) -> PathBuf {
    let path = folder.join("killick.toml");
    std::fs::write(&path, keyspace.section()).unwrap();
    path
}

/// Runs the pipeline over so many readings in a folder, until all have their receipts.
fn run_site(folder: &Path, readings: usize) -> PathBuf {
    let rows = (0..readings).map(|row| format!("2026-03-01 {:02}:{:02}:00,{row}.5\n", row / 60, row % 60));
    let (site, input) = (folder.join("site"), folder.join("readings.csv"));
    std::fs::write(&input, format!("timestamp,value\n{}", rows.collect::<String>())).unwrap();
    ends(0, "run --format csv --embedded", &[&site, Path::new("--input"), &input]);
    site
}

#[test]
fn a_folders_catalog_comes_to_a_cluster_and_its_receipts_are_the_same_there() {
    const READINGS: usize = 300;
    let place = tempfile::tempdir().unwrap();
    let keyspace = Keyspace::new();
    let config = &*config(&keyspace, place.path());
    let site = &*run_site(place.path(), READINGS);
    let (here, there) = (&*place.path().join("here"), &*place.path().join("there"));

    // Nothing is made by itself, and whoever asks too early is told what to do.
    let missing = format!("keyspace {} is missing: run `killick catalog migrate`", keyspace.name);
    assert!(ends(1, "catalog check -c", &[config]).contains(&missing));
    assert!(ends(1, "receipts list -c", &[config]).contains(&missing));
    assert!(ends(2, "receipts list", &[]).contains("[catalog]: where is the catalog?"));
    let made = ends(0, "catalog migrate -c", &[config]);
    assert!(
        made.contains("the keyspace was made") && made.contains("at version 2, they were at 0"),
        "{made}"
    );
    assert!(ends(0, "catalog migrate -c", &[config]).contains("at version 2, as they were"));
    assert!(ends(0, "catalog check -c", &[config]).contains("what this program needs"));

    let rebuild = |more: &str| {
        object(&ends(
            0,
            &format!("catalog rebuild --output json {more} -c"),
            &[config, Path::new("--embedded"), site],
        ))
    };
    let first = rebuild("");
    assert_eq!((&first["events"], &first["kept"]), (&READINGS.into(), &0.into()), "{first}");
    assert!(first["anchors"].as_u64() >= Some(1), "{first}");
    let again = rebuild("");
    assert_eq!((&again["batches"], &again["kept"]), (&0.into(), &first["batches"]), "{again}");

    ends(0, "receipts export --embedded", &[site, Path::new("--out"), here]);
    ends(0, "receipts export -c", &[config, Path::new("--out"), there]);
    assert_eq!(files(here).len(), READINGS);
    assert_eq!(files(here), files(there));
    ends(0, "verify --trust", &[&site.join("trust.json"), there]);

    // Lists and single receipts too.
    let listed = |from: &[&Path]| ends(0, "receipts list --tenant local --output json --limit 1000", from);
    let list = listed(&[Path::new("-c"), config]);
    assert_eq!(list, listed(&[Path::new("--embedded"), site]));
    let event = object(list.lines().next().unwrap());
    let names: Vec<_> =
        ["tenant", "source", "id"].iter().map(|name| Path::new(event[*name].as_str().unwrap())).collect();
    let get = |from: [&Path; 2]| ends(0, "receipts get", &[&from[..], &names].concat());
    assert_eq!(get([Path::new("-c"), config]), get([Path::new("--embedded"), site]));

    // Rows that the cluster has lost come back.
    for table in ["events_forever", "batches_forever", "anchored"] {
        keyspace.cql(&format!("TRUNCATE KS.{table}"));
    }
    ends(1, "receipts get -c", &[&[config], &names[..]].concat());
    let healed = rebuild("--all");
    assert_eq!(healed["batches"], first["batches"], "{healed}");
    assert_eq!(get([Path::new("-c"), config]), get([Path::new("--embedded"), site]));
}

#[test]
fn a_folders_catalog_that_is_gone_is_written_anew_from_its_log() {
    let place = tempfile::tempdir().unwrap();
    let site = &*run_site(place.path(), 100);
    let (before, after) = (&*place.path().join("before"), &*place.path().join("after"));
    ends(0, "receipts export --embedded", &[site, Path::new("--out"), before]);
    std::fs::remove_file(site.join("catalog.redb")).unwrap();
    let said = ends(0, "catalog rebuild --embedded", &[site]);
    assert!(said.contains("with 100 events") && said.contains("0 batches were there already"), "{said}");
    ends(0, "receipts export --embedded", &[site, Path::new("--out"), after]);
    assert_eq!(files(before), files(after));
    // And the pipeline goes on over it.
    run_site(place.path(), 150);
    ends(0, "receipts export --embedded", &[site, Path::new("--out"), after]);
    assert_eq!(files(after).len(), 150);
}

#[test]
fn a_rebuild_that_cannot_work_says_why() {
    let place = tempfile::tempdir().unwrap();
    let nowhere = place.path().join("killick.toml");
    std::fs::write(
        &nowhere,
        "[catalog]\nnodes = [\"127.0.0.1:1\"]\nconnect_timeout = \"1s\"\nread_timeout = \"1s\"\n",
    )
    .unwrap();
    assert!(ends(2, "catalog check", &[]).contains("[catalog]: where is the catalog?"));
    assert!(ends(2, "catalog rebuild", &[]).contains("[kafka]: where is the log?"));
    assert!(ends(1, "catalog check -c", &[&nowhere]).contains("no node of 127.0.0.1:1 answers"));
    let missing = place.path().join("missing");
    assert!(ends(1, "catalog rebuild --embedded", &[&missing]).contains("missing"));
}
