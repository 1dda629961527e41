//! A publisher that dies at each of its writes, before it, in the middle of it, and after it.

use std::cell::Cell;
use std::fs;

use anyhow::{Result, bail};
use killick_proof::tiles::Tile;

use super::*;
use crate::tiles::shelf::Shelf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Before,
    Half,
    After,
}

/// A folder whose owner dies at its nth effect.
struct Dying<'a> {
    folder: Folder,
    public: &'a Public,
    left: Cell<u32>,
    death: Death,
}

impl Dying<'_> {
    fn effect(&self, half: impl FnOnce(), whole: impl FnOnce() -> Result<()>) -> Result<()> {
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() > 0 {
            return whole();
        }
        match self.death {
            Death::Before => {}
            Death::Half => half(),
            Death::After => whole()?,
        }
        bail!("it died")
    }
}

impl Shelf for Dying<'_> {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        self.folder.read(path, most)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        // What a file that is not whole yet is called.
        let half = || fs::write(self.public.log().join(".new"), &bytes[..bytes.len() / 2]).unwrap();
        self.effect(half, || self.folder.put(path, bytes))
    }

    fn remove_partial(&self, tile: Tile) -> Result<()> {
        let half = || drop(fs::remove_dir_all(self.public.log().join(tile.entries_path() + ".p")));
        self.effect(half, || self.folder.remove_partial(tile))
    }
}

#[test]
fn wherever_a_publisher_dies_readers_see_a_whole_log_and_the_next_one_goes_on() {
    let whole = Public::of(SIZE).files();
    for death in [Death::Before, Death::Half, Death::After] {
        assert_eq!(deaths(&[], death, &whole), 8);
        assert_eq!(deaths(&[200, 260], death, &whole), 7);
    }
}

/// Publishes the log on top of what was published before, and dies at each effect; how many there are.
fn deaths(before: &[u64], death: Death, whole: &BTreeMap<String, Vec<u8>>) -> u32 {
    for effect in 1.. {
        let public = Public::new();
        for size in before {
            public.publish(0, *size).unwrap();
        }
        let folder = Folder::open(public.log()).unwrap();
        let shelf = Dying { folder, public: &public, left: Cell::new(effect), death };
        let catalog = &histories()[0].catalog;
        let published = publish(catalog, ORIGIN, &keys(), &shelf, &mut |_| true);
        let seen = match (look(&public.place()), before.last()) {
            (Ok(seen), last) if seen.size == SIZE || Some(&seen.size) == last => seen.size,
            (Err(Trouble::Absent(_)), None) => 0,
            (other, _) => panic!("{death:?} at {effect}: {other:?}"),
        };
        // In the second life all is there, and nothing had to be other than it was.
        assert_eq!(public.publish(0, SIZE).unwrap().before, seen);
        assert_eq!(look(&public.place()).unwrap().size, SIZE);
        let files = public.files();
        assert!(whole.iter().all(|(path, bytes)| files.get(path) == Some(bytes)));
        if published.is_ok() {
            return effect - 1;
        }
    }
    unreachable!("effects have an end");
}
