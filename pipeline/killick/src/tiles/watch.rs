//! Watching a published log: that it only grows, and that its entries are what its checkpoints say.
//!
//! Two things are remembered: the newest checkpoint, and how far the entries were checked. A new checkpoint has to be
//! consistent with the remembered one, by a proof made from tiles that lead to the new root; then it is the one that is
//! remembered, whatever its entries are. Each entry has to have the hash that its tile has, and to follow the one before.
//!
//! What is wrong is told apart: what the log's own signature shows (a split view, a rollback, entries that no log of ours
//! has), what the publisher serves wrong (files that do not lead to the signed root), and what is not there.

use std::time::{Duration, Instant};

use killick_proof::Algorithm::Sha256;
use killick_proof::Hash;
use killick_proof::batch::MAX_HEADER;
use killick_proof::note::VerifierKey;
use killick_proof::tiles::{self, CHECKPOINT, ReadError, Tile, TiledTree, WIDTH};
use killick_proof::tree::verify_consistency;

use super::memory::Memory;
use super::place::{Place, PlaceError};
use super::{MAX_CHECKPOINT, Signed};

/// How often what is checked is remembered while entries are read.
const SAVE: Duration = Duration::from_secs(2);

/// What a check found wrong.
#[derive(Debug)]
pub enum Trouble {
    /// Two checkpoints, both signed by the log, that no log that only grows can have signed.
    Split(Box<Split>),
    /// The checkpoint is signed, and an entry that it contains is none of such a log.
    Wrong(String),
    /// Files are not what the checkpoint says, or the checkpoint is not signed: the publisher's fault, or somebody's in between.
    Damaged(String),
    /// Files are not there, or cannot be had now: nothing is decided.
    Missing(String),
    /// The log was never seen, and is not there.
    Absent(String),
    /// What is remembered cannot be read or written.
    Failed(anyhow::Error),
    /// It was told to end before it was done.
    Stopped,
}

/// Two histories of one log.
#[derive(Debug)]
pub struct Split {
    /// What is wrong with them.
    pub why: String,
    /// Whether the log became smaller, and nothing more is known.
    pub is_rollback: bool,
    /// Both checkpoints: the one that was seen first, and the other.
    pub notes: [Signed; 2],
    /// Where they are from.
    pub places: [String; 2],
    /// The consistency path that the tiles of the larger tree give; it leads elsewhere.
    pub path: Vec<Hash>,
}

/// What a check found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The checkpoint's size.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The size that was remembered; 0 for a log that is seen for the first time.
    pub before: u64,
    /// Entries that were checked now.
    pub entries: u64,
    /// The size of the checkpoint at the second place, if there is one.
    pub also: Option<u64>,
}

/// One publication of one log.
pub struct View<'a> {
    place: &'a Place,
    origin: &'a str,
    keys: &'a [VerifierKey],
    /// Where the log is below its place, with a slash behind it; not known before it was found.
    prefix: Option<String>,
}

impl<'a> View<'a> {
    /// The log with this origin at a place.
    pub const fn new(place: &'a Place, origin: &'a str, keys: &'a [VerifierKey]) -> Self {
        Self { place, origin, keys, prefix: None }
    }

    /// Where it is, or where it is looked for.
    pub fn at(&self) -> String {
        let prefix = self.prefix.clone().unwrap_or_else(|| format!("{}/", self.origin));
        self.place.at(&prefix)
    }

    /// The checkpoint: below the origin, or else at the place itself, if it is one of this log.
    fn checkpoint(&mut self) -> Result<Signed, Trouble> {
        let below = format!("{}/", self.origin);
        let prefixes =
            self.prefix.as_ref().map_or_else(|| vec![below, String::new()], |known| vec![known.clone()]);
        for prefix in prefixes {
            let path = format!("{prefix}{CHECKPOINT}");
            let Some(note) = self.place.read(&path, MAX_CHECKPOINT)? else { continue };
            let is_own = note.split(|byte| *byte == b'\n').next() == Some(self.origin.as_bytes());
            if prefix.is_empty() && self.prefix.is_none() && !is_own {
                continue; // another log is published at the place itself
            }
            let wrong = |why| Trouble::Damaged(format!("{}: {why}", self.place.at(&path)));
            let signed = Signed::read(&note, self.origin, self.keys).map_err(wrong)?;
            self.prefix = Some(prefix);
            return Ok(signed);
        }
        Err(Trouble::Absent(format!("there is no checkpoint at {}", self.at())))
    }

    /// The tree of a checkpoint that was read here.
    fn tree(&self, signed: &Signed) -> Result<TiledTree, Trouble> {
        TiledTree::open(signed.size, signed.root, &mut |tile| self.read_tile(tile))
            .map_err(|error| self.told(error))
    }

    fn read_tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.tile(tile).map_err(Unread::Trouble)
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Trouble> {
        if let Some(file) = self.read(&tile.path(), tile.bytes())? {
            return Ok(file);
        }
        // A partial tile may go when the full one is there.
        let mut file = self.needed(&tile.full().path(), tile.full().bytes(), &tile.path())?;
        file.truncate(tile.bytes());
        Ok(file)
    }

    fn bundle(&self, tile: Tile) -> Result<Vec<u8>, Trouble> {
        if let Some(file) = self.read(&tile.entries_path(), tile.width() * (2 + MAX_HEADER))? {
            return Ok(file);
        }
        let file =
            self.needed(&tile.full().entries_path(), WIDTH * (2 + MAX_HEADER), &tile.entries_path())?;
        Ok(tiles::first_entries(&file, tile.width()).to_vec())
    }

    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(self.place.read(&format!("{}{path}", self.prefix.as_deref().unwrap_or_default()), most)?)
    }

    fn needed(&self, path: &str, most: usize, named: &str) -> Result<Vec<u8>, Trouble> {
        let missing = || Trouble::Missing(format!("{}{named} is not there", self.at()));
        self.read(path, most)?.ok_or_else(missing)
    }

    fn told(&self, unread: Unread) -> Trouble {
        match unread {
            Unread::Trouble(trouble) => trouble,
            Unread::Wrong(error) => Trouble::Damaged(format!("{}{error}", self.at())),
        }
    }
}

/// Why a hash is not had from tiles.
enum Unread {
    Trouble(Trouble),
    Wrong(ReadError),
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        Self::Wrong(error)
    }
}

impl From<PlaceError> for Trouble {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Unreachable { .. } => Self::Missing(error.to_string()),
            PlaceError::TooLarge { .. } => Self::Damaged(error.to_string()),
        }
    }
}

/// Checks a log once, against what is remembered of it, and against a second publication, if there is one. `progress` hears
/// how far the entries are checked, and says whether to go on.
///
/// # Errors
/// [`Trouble`]; what was found right before it is remembered.
pub fn check(
    view: &mut View<'_>,
    also: Option<&mut View<'_>>,
    memory: &mut Memory,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Checked, Trouble> {
    let given = view.checkpoint();
    let given = match (given, &memory.kept) {
        (Err(Trouble::Absent(why)), Some(_)) => return Err(Trouble::Missing(why)),
        (given, _) => given?,
    };
    let before = memory.kept.as_ref().map_or(0, |kept| kept.size);
    if let Some(kept) = &memory.kept {
        let seen = "what was seen before".to_owned();
        if given.size < kept.size {
            let why = format!("{} batches are published, and {} were before", given.size, kept.size);
            return Err(split(why, true, (kept, seen), (&given, view.at()), Vec::new()));
        }
        hold(view, &given, kept, seen)?;
    }
    memory.kept = Some(given.clone());
    memory.save().map_err(Trouble::Failed)?;
    let also = match also.map(|also| compare(view, &given, also)) {
        Some(Err(Trouble::Split(split))) => return Err(Trouble::Split(split)),
        also => also,
    };
    let checked = memory.log.size();
    check_entries(view, &given, memory, progress)?;
    // A second place that is away keeps nobody from checking the first.
    let also = also.transpose()?;
    let entries = given.size - checked;
    Ok(Checked { size: given.size, root: given.root, before, entries, also })
}

/// Holds two publications of one log against each other; gives the size of the second.
fn compare(view: &View<'_>, given: &Signed, also: &mut View<'_>) -> Result<u64, Trouble> {
    let other = match also.checkpoint() {
        Err(Trouble::Absent(why)) => return Err(Trouble::Missing(why)),
        other => other?,
    };
    if other.size > given.size {
        hold(also, &other, given, view.at())?;
    } else {
        hold(view, given, &other, also.at())?;
    }
    Ok(other.size)
}

/// The tree of `small` has to be the beginning of the tree of `large`, which is read at `view`.
fn hold(view: &View<'_>, large: &Signed, small: &Signed, from: String) -> Result<(), Trouble> {
    if (small.size, small.root) == (large.size, large.root) {
        return Ok(());
    }
    let mut path = Vec::new();
    if small.size < large.size {
        let mut tree = view.tree(large)?;
        let made = tree.consistency_path(small.size, &mut |tile| view.read_tile(tile));
        path = made.map_err(|error| view.told(error))?;
    }
    let held = verify_consistency(Sha256, small.size, &small.root, large.size, &large.root, &path);
    held.map_err(|_| {
        let why = if small.size == large.size {
            format!("two roots are signed for size {}", small.size)
        } else {
            format!("the first {} batches of {} are not those that were signed", small.size, large.size)
        };
        split(why, false, (small, from), (large, view.at()), path)
    })
}

fn split(
    why: String,
    is_rollback: bool,
    first: (&Signed, String),
    second: (&Signed, String),
    path: Vec<Hash>,
) -> Trouble {
    let notes = [first.0.clone(), second.0.clone()];
    Trouble::Split(Box::new(Split { why, is_rollback, notes, places: [first.1, second.1], path }))
}

/// Checks the entries that are new, and the tiles they are in.
fn check_entries(
    view: &View<'_>,
    given: &Signed,
    memory: &mut Memory,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Trouble> {
    if memory.log.size() == given.size {
        return Ok(());
    }
    let mut tree = view.tree(given)?;
    let mut saved = Instant::now();
    while memory.log.size() < given.size {
        check_bundle(view, &mut tree, memory)?;
        if !progress(memory.log.size()) {
            memory.save().map_err(Trouble::Failed)?;
            return Err(Trouble::Stopped);
        }
        if saved.elapsed() > SAVE {
            memory.save().map_err(Trouble::Failed)?;
            saved = Instant::now();
        }
    }
    if memory.log.root() != given.root {
        let why =
            "what is remembered of the entries is not what was checked: remove it, and all is checked again";
        return Err(Trouble::Failed(anyhow::anyhow!("{}: {why}", view.origin)));
    }
    memory.save().map_err(Trouble::Failed)
}

/// Checks the bundle that has the next entry, to its end.
fn check_bundle(view: &View<'_>, tree: &mut TiledTree, memory: &mut Memory) -> Result<(), Trouble> {
    let index = memory.log.size() / WIDTH as u64;
    let damaged = |why: String| Trouble::Damaged(format!("{}{why}", view.at()));
    let tile = Tile::of_tree(0, index, tree.size());
    let tile = tile.ok_or_else(|| damaged(format!("there is no tile {index}")))?;
    let hashes = tree.tile(0, index, &mut |tile| view.read_tile(tile)).map_err(|error| view.told(error))?;
    let bundle = view.bundle(tile)?;
    let path = tile.entries_path();
    let entries = tile.decode_entries(&bundle).map_err(|error| damaged(format!("{path}: {error}")))?;
    let first = index * WIDTH as u64;
    for ((number, entry), hash) in (first..).zip(entries).zip(hashes) {
        if Sha256.leaf(entry) != *hash {
            return Err(damaged(format!("{path}: entry {} is not the one of the tree", number - first)));
        }
        if number < memory.log.size() {
            continue; // read again with its bundle
        }
        let wrong =
            |why: &dyn std::fmt::Display| Trouble::Wrong(format!("batch {number} of {}: {why}", view.origin));
        memory.next.follow(view.origin, entry).map_err(|error| wrong(&error))?;
        memory.log.append(*hash, |_, _| {}).map_err(|error| wrong(&error))?;
    }
    Ok(())
}
