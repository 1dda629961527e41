//! Publishing and watching, against each other: on real folders, from a real catalog.

mod dying;
mod fork;
mod large;
mod server;
mod watching;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use killick_contract::catalog::Maker;
use killick_embedded::{EmbeddedCatalog, Folder as Site};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place as EventPlace};
use tempfile::TempDir;

use super::memory::Memory;
use super::place::Place;
use super::publish::{PublishError, Published, publish};
use super::shelf::Folder;
use super::watch::{Checked, Trouble, View, check};
use super::*;

const ORIGIN: &str = "plant.example/1/sha256/7";
/// Batches of the log.
const SIZE: u64 = 600;
/// Where its other history begins.
const FORK: u64 = 300;

/// A catalog that is filled once for all tests.
struct Filled {
    catalog: EmbeddedCatalog,
    _place: TempDir,
}

impl Filled {
    fn new(batches: impl Iterator<Item = BatchRecord>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let catalog = EmbeddedCatalog::open(&Arc::new(Site::open(place.path()).unwrap())).unwrap();
        batches.for_each(|batch| catalog.put_batch(&batch).unwrap());
        Self { catalog, _place: place }
    }
}

/// The log, and another history of it under the same key.
fn histories() -> &'static [Filled; 2] {
    static HISTORIES: OnceLock<[Filled; 2]> = OnceLock::new();
    HISTORIES.get_or_init(|| {
        [0, 1].map(|late| {
            let mut maker = Maker::new(ORIGIN);
            Filled::new(
                (0..SIZE).map(move |number| maker.batch(if number < FORK { 0 } else { late }, &["t"], 1)),
            )
        })
    })
}

fn keys() -> Vec<VerifierKey> {
    vec![Maker::new(ORIGIN).verifier()]
}

/// A catalog as it was when it had the first batches only.
struct First(&'static EmbeddedCatalog, u64);

impl Catalog for First {
    fn put_batch(&self, _: &BatchRecord) -> Result<(), CatalogError> {
        Err(CatalogError::Conflict("batch: it is as it was".to_owned()))
    }
    fn put_anchor(&self, _: &AnchorRecord) -> Result<(), CatalogError> {
        Err(CatalogError::Conflict("anchor: it is as it was".to_owned()))
    }
    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        self.0.origins()
    }
    fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        Ok(self.0.log_size(origin)?.min(self.1))
    }
    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        if number < self.1 { self.0.batch(origin, number) } else { Ok(None) }
    }
    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        self.0.log_hash(origin, level, index)
    }
    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        self.0.anchors_of(origin, number)
    }
    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<EventPlace>, CatalogError> {
        self.0.find(tenant, source, id)
    }
    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        self.0.list(tenant, day, after, limit)
    }
}

/// A folder in which the log is published.
struct Public {
    place: TempDir,
}

impl Public {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    /// With the first batches of the log.
    fn of(size: u64) -> Self {
        let public = Self::new();
        public.publish(0, size).unwrap();
        public
    }

    /// Publishes the first batches of one of its histories.
    fn publish(&self, history: usize, size: u64) -> Result<Published, PublishError> {
        let shelf = Folder::open(self.log()).unwrap();
        publish(&First(&histories()[history].catalog, size), ORIGIN, &keys(), &shelf, &mut |_| true)
    }

    fn log(&self) -> PathBuf {
        self.place.path().join(ORIGIN)
    }

    fn place(&self) -> Place {
        Place::Folder(self.place.path().to_owned())
    }

    /// All files of the log by their paths.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        gather(&self.log(), &self.log(), &mut files);
        files
    }
}

fn gather(folder: &Path, top: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, top, files);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// A check by somebody who remembers nothing.
fn look(place: &Place) -> Result<Checked, Trouble> {
    look_again(place, None, &mut Memory::open(None, ORIGIN, &keys()).unwrap())
}

fn look_again(place: &Place, also: Option<&Place>, memory: &mut Memory) -> Result<Checked, Trouble> {
    let keys = keys();
    let mut also = also.map(|also| View::new(also, ORIGIN, &keys));
    check(&mut View::new(place, ORIGIN, &keys), also.as_mut(), memory, &mut |_| true)
}

#[test]
fn a_log_that_grows_is_published_and_seen_to_grow_at_every_size() {
    let (public, states) = (Public::new(), tempfile::tempdir().unwrap());
    let mut before = 0;
    for size in [1, 2, 255, 256, 257, 300, 511, 512, 513, SIZE] {
        let published = public.publish(0, size).unwrap();
        assert_eq!((published.before, published.size), (before, size));
        let fresh = look(&public.place()).unwrap();
        assert_eq!((fresh.size, fresh.before, fresh.entries), (size, 0, size));
        // Whoever remembers reads what is new.
        let mut memory = Memory::open(Some(states.path()), ORIGIN, &keys()).unwrap();
        let next = look_again(&public.place(), None, &mut memory).unwrap();
        assert_eq!((next.size, next.before, next.entries), (size, before, size - before));
        assert_eq!(next.root, fresh.root);
        let idle = public.publish(0, size).unwrap();
        assert_eq!((idle.size, idle.files), (size, 0), "nothing is written twice");
        before = size;
    }
    // The same files as if all had been published at once, and partial tiles of the sizes in between.
    let (grown, at_once) = (public.files(), Public::of(SIZE).files());
    assert!(at_once.iter().all(|(path, bytes)| grown.get(path) == Some(bytes)));
    let names = at_once.keys().map(String::as_str).collect::<Vec<_>>();
    let partial = ["tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"];
    assert_eq!(
        names,
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001",
            partial[0],
            partial[1],
            "tile/entries/000",
            "tile/entries/001",
            partial[2]
        ]
    );
    assert!(
        grown
            .keys()
            .all(|path| !path.starts_with("tile/0/000.p/") && !path.starts_with("tile/entries/000.p/"))
    );
}

#[test]
fn an_entry_is_the_batch_header_and_leads_to_the_checkpoint() {
    let files = Public::of(257).files();
    let tile = killick_proof::tiles::Tile::of_tree(0, 1, 257).unwrap();
    let bundle = &files["tile/entries/001.p/1"];
    let batch = histories()[0].catalog.batch(ORIGIN, 256).unwrap().unwrap();
    assert_eq!(tile.decode_entries(bundle).unwrap(), [&batch.header[..]]);
    assert_eq!(files["checkpoint"], batch.checkpoint.as_bytes());
    assert_eq!(files["tile/0/001.p/1"], Algorithm::Sha256.leaf(&batch.header).as_bytes());
}

#[test]
fn a_published_note_stays_as_it_is_while_its_size_does() {
    let public = Public::of(5);
    let path = public.log().join(CHECKPOINT_FILE);
    let signed = fs::read_to_string(&path).unwrap();
    // As a witness adds its line.
    let line = "— witness.example AAAAAAAAAAAA\n";
    fs::write(&path, format!("{signed}{line}")).unwrap();
    assert_eq!(public.publish(0, 5).unwrap().files, 0);
    assert!(fs::read_to_string(&path).unwrap().ends_with(line));
    assert_eq!(look(&public.place()).unwrap().size, 5);
    public.publish(0, 6).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("witness"));
}

const CHECKPOINT_FILE: &str = killick_proof::tiles::CHECKPOINT;

#[test]
fn a_log_without_batches_is_left_out() {
    let public = Public::new();
    assert_eq!(public.publish(0, 0).unwrap(), Published::default());
    assert!(public.files().is_empty());
}

#[test]
fn partial_tiles_go_when_full_ones_have_been_there_for_a_while_and_readers_find_those() {
    let public = Public::of(200);
    let old = fs::read(public.log().join(CHECKPOINT_FILE)).unwrap();
    public.publish(0, 300).unwrap();
    assert!(public.files().contains_key("tile/0/000.p/200"), "readers of the last checkpoint need it");
    public.publish(0, 301).unwrap();
    assert!(!public.files().contains_key("tile/0/000.p/200"));
    assert!(!public.files().contains_key("tile/entries/000.p/200"));
    fs::write(public.log().join(CHECKPOINT_FILE), old).unwrap();
    assert_eq!(look(&public.place()).unwrap().size, 200);
}

#[test]
fn what_a_publisher_may_not_publish_is_refused_and_nothing_is_written() {
    for (origin, why) in [
        ("plant.example/1/keccak256/7", "SHA-256 and nothing else"),
        ("plant.example/1/blake3/7", "SHA-256 and nothing else"),
        ("../1/sha256/7", "no name for a folder"),
        ("./1/sha256/7", "no name for a folder"),
        ("nothing", "four parts"),
        ("/1/sha256/7", "name of an origin"),
    ] {
        let refused = folder_of(origin).unwrap_err();
        assert!(refused.contains(why), "{origin}: {refused}");
    }
    assert_eq!(folder_of(ORIGIN), Ok(ORIGIN));
    let public = Public::new();
    let shelf = Folder::open(public.log()).unwrap();
    let other = vec![Maker::new("plant.example/1/sha256/8").verifier()];
    let catalog = &histories()[0].catalog;
    for keys in [vec![], other] {
        let refused = publish(catalog, ORIGIN, &keys, &shelf, &mut |_| true).unwrap_err();
        assert!(matches!(&refused, PublishError::Wrong(why) if why.contains("no known key")), "{refused}");
        assert!(public.files().is_empty());
    }
    let stopped = publish(catalog, ORIGIN, &self::keys(), &shelf, &mut |batches| batches < 400).unwrap_err();
    assert!(matches!(stopped, PublishError::Stopped));
    assert!(!public.files().contains_key(CHECKPOINT_FILE));
    assert_eq!(public.publish(0, SIZE).unwrap().files, 6, "the first tile and its bundle were there");
}
