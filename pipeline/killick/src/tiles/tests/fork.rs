//! Two histories under one key: what the publisher does not overwrite, and what the monitor keeps as evidence.

use std::fs;

use killick_proof::note::{Note, Verdict};

use super::*;
use crate::tiles::watch::Split;

/// What a check says of two histories.
fn split(found: Result<Checked, Trouble>) -> Box<Split> {
    match found {
        Err(Trouble::Split(split)) => split,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_history_is_not_published_over_the_first() {
    let public = Public::of(400);
    let before = public.files();
    for size in [350, 400, SIZE] {
        let refused = public.publish(1, size).unwrap_err();
        assert!(matches!(refused, PublishError::Split(_)), "{size}: {refused}");
        assert_eq!(public.files(), before);
    }
    // Where the histories are still one.
    let public = Public::of(FORK);
    public.publish(1, SIZE).unwrap();
    look(&public.place()).unwrap();
}

#[test]
fn a_published_file_with_other_bytes_is_never_overwritten() {
    let public = Public::of(FORK);
    for path in public.files().into_keys() {
        let other = Public::of(FORK);
        let file = other.log().join(&path);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let refused = other.publish(0, FORK);
        // Full tiles and their bundles are not read again while all is as it was.
        if path.contains(".p/") || path == CHECKPOINT_FILE {
            assert!(matches!(refused, Err(PublishError::Split(_))), "{path}: {refused:?}");
        }
        assert_eq!(fs::read(&file).unwrap(), bytes, "{path}");
    }
}

#[test]
fn what_was_lost_of_a_publication_is_made_again() {
    let public = Public::of(FORK);
    let before = public.files();
    for path in before.keys().filter(|path| path.contains(".p/")) {
        fs::remove_file(public.log().join(path)).unwrap();
        public.publish(0, FORK).unwrap();
        assert_eq!(public.files(), before, "{path}");
    }
    fs::remove_file(public.log().join(CHECKPOINT_FILE)).unwrap();
    assert_eq!(public.publish(0, FORK).unwrap().files, 1);
    assert_eq!(public.files(), before);
}

#[test]
fn a_fork_is_told_with_both_notes_and_they_stay_as_evidence() {
    for (seen, given) in [(400, 400), (400, 401), (350, SIZE), (301, 512)] {
        let (public, states) = (Public::of(seen), tempfile::tempdir().unwrap());
        let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys()).unwrap();
        look_again(&public.place(), None, &mut memory).unwrap();
        let other = Public::new();
        other.publish(1, given).unwrap();
        // Also by a process that begins anew.
        let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys()).unwrap();
        let split = split(look_again(&other.place(), None, &mut memory));
        assert!(!split.is_rollback);
        assert_eq!(split.notes.each_ref().map(|note| note.size), [seen, given]);
        let notes = split.notes.each_ref().map(|note| &*note.note);
        let about = serde_json::json!({ "why": split.why });
        let folder = memory.write_evidence(notes, &about).unwrap().unwrap();
        for (name, note) in ["first.note", "second.note"].iter().zip(notes) {
            let kept = fs::read_to_string(folder.join(name)).unwrap();
            assert_eq!(kept, note);
            assert_eq!(Note::parse(&kept).unwrap().verdict(&keys()[0]), Verdict::Valid);
        }
        assert_eq!(memory.write_evidence(notes, &about).unwrap().unwrap(), folder);
        // What was seen first stays what is remembered.
        let memory = Memory::open(Some(states.path()), ORIGIN, &keys()).unwrap();
        assert_eq!(memory.kept.as_ref(), Some(&split.notes[0]));
        assert_eq!(look_again(&public.place(), None, &mut { memory }).unwrap().size, seen);
    }
}

#[test]
fn a_log_that_became_smaller_is_a_rollback() {
    let states = tempfile::tempdir().unwrap();
    let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys()).unwrap();
    look_again(&Public::of(400).place(), None, &mut memory).unwrap();
    let split = split(look_again(&Public::of(399).place(), None, &mut memory));
    assert!(split.is_rollback);
    assert_eq!(split.notes.each_ref().map(|note| note.size), [400, 399]);
    assert_eq!(memory.kept.map(|kept| kept.size), Some(400));
}

#[test]
fn two_publications_of_one_log_are_one_history_or_a_split_view() {
    let first = Public::of(400);
    let look = |also: &Public| {
        let mut memory = Memory::open(None, ORIGIN, &keys()).unwrap();
        look_again(&first.place(), Some(&also.place()), &mut memory)
    };
    for size in [1, 256, 399, 400, 401, SIZE] {
        assert_eq!(look(&Public::of(size)).unwrap().also, Some(size));
    }
    for size in [FORK + 1, 399, 400, 401, SIZE] {
        let other = Public::new();
        other.publish(1, size).unwrap();
        let split = split(look(&other));
        assert_eq!(split.notes.each_ref().map(|note| note.size).iter().max(), Some(&size.max(400)));
        assert_ne!(split.places[0], split.places[1]);
    }
    let other = Public::new();
    other.publish(1, FORK).unwrap();
    assert_eq!(look(&other).unwrap().also, Some(FORK), "they are still one there");
    // A second place that is away is told of; the first is checked all the same.
    let mut memory = Memory::open(None, ORIGIN, &keys()).unwrap();
    let found = look_again(&first.place(), Some(&Public::new().place()), &mut memory);
    assert!(matches!(found, Err(Trouble::Missing(_))), "{found:?}");
    assert_eq!(memory.log.size(), 400);
}
