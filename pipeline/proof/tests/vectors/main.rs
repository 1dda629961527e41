//! The published cases in `tests/data`, each with the verdict its file expects.

mod check;

use std::path::Path;

/// Checks one folder of cases and says how many passed.
fn cases_in(folder: &str) -> usize {
    let mut outcome = check::Outcome::default();
    check::check_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder), &mut outcome);
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    assert!(outcome.skipped.is_empty(), "{:?}", outcome.skipped);
    outcome.passed
}

#[test]
fn published_tree_proofs_are_judged_as_published() {
    assert_eq!(cases_in("rfc9162"), 98);
}

#[test]
fn published_notes_keys_checkpoints_and_a_real_log_are_judged_as_published() {
    assert_eq!(cases_in("note"), 61);
}

#[test]
fn published_cbor_items_are_judged_as_published() {
    assert_eq!(cases_in("cbor"), 98);
}

#[test]
fn published_signatures_are_judged_as_published() {
    assert_eq!(cases_in("ed25519"), 532);
}

#[test]
fn a_wrong_expectation_and_a_broken_file_are_failures() {
    let folder = std::env::temp_dir().join(format!("killick-proof-vectors-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let wrong = r#"{"kind": "cbor_item", "vectors": [
        {"id": "one", "hex": "17", "expect": {"wellformed": true, "deterministic": true}},
        {"id": "two", "hex": "17", "expect": {"wellformed": false, "deterministic": false}},
        {"id": "three", "hex": "1", "expect": {"wellformed": false, "deterministic": false}}]}"#;
    std::fs::write(folder.join("wrong.json"), wrong).unwrap();
    std::fs::write(folder.join("broken.json"), "{").unwrap();
    std::fs::write(folder.join("other.json"), r#"{"kind": "headers", "vectors": [{}]}"#).unwrap();
    let mut outcome = check::Outcome::default();
    check::check_path(&folder, &mut outcome);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((outcome.passed, outcome.failures.len(), outcome.skipped.len()), (1, 3, 1), "{outcome:?}");
}
