//! Publishing a log: its headers from the catalog become tiles and bundles, its newest checkpoint the last file.
//!
//! Nothing is written before a checkpoint that the log signed has been recomputed from the headers: every 256 batches that
//! of the batch which fills a tile, and at the end the one that is published. What is published already is where the next
//! round goes on; it is believed as that of a stranger: by its checkpoint. If a process dies between two writes, readers see
//! the last checkpoint with all its tiles, and the next round makes the same files again.

use anyhow::Context as _;
use killick_proof::Algorithm::Sha256;
use killick_proof::Hash;
use killick_proof::batch::{BatchHeader, MAX_HEADER};
use killick_proof::note::VerifierKey;
use killick_proof::succession::Succession;
use killick_proof::tiles::{self, CHECKPOINT, Tile, TiledTree, Tiler, WIDTH};
use killick_stages::ports::{BatchRecord, Catalog, CatalogError};
use tracing::warn;

use super::shelf::Shelf;
use super::{MAX_CHECKPOINT, Signed};

/// Bytes in the longest bundle of headers.
pub const MAX_BUNDLE: usize = WIDTH * (2 + MAX_HEADER);
/// Tiles of a level whose partial forms are looked for when they are full.
const SWEPT: u64 = 64;

/// What was published of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Batches in the published checkpoint; 0 where the log has none yet.
    pub size: u64,
    /// Batches in the checkpoint that was published before.
    pub before: u64,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a log is not published, or not as far as it goes.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The log has another history than the one that is published: whoever saw both would call it a split view.
    #[error(
        "{0}. Nothing is overwritten: what is published and the catalog are two histories, or one of them is damaged"
    )]
    Split(String),
    /// What the catalog has cannot be published.
    #[error("{0}; nothing of it is published (killick fsck says more)")]
    Wrong(String),
    /// It was told to end; what is there is right, and the next round goes on.
    #[error("stopped")]
    Stopped,
    /// A file cannot be read or written.
    #[error("{0:#}")]
    File(#[from] anyhow::Error),
}

/// A log that is being published.
struct Publisher<'a> {
    origin: &'a str,
    keys: &'a [VerifierKey],
    shelf: &'a dyn Shelf,
    published: Published,
    /// What every batch so far makes up.
    reached: Reached,
    /// Files of tiles that are full and not yet covered by a signature that was checked.
    filled: Vec<(String, Vec<u8>)>,
}

/// How far a log is turned into tiles.
#[derive(Default)]
struct Reached {
    tiler: Tiler,
    /// What the next header has to say.
    next: Succession,
    /// The bundle that is not full.
    bundle: Vec<u8>,
}

/// Publishes a log as far as the catalog has it; `progress` hears of every batch, and says whether to go on. A log without
/// batches is left out.
///
/// # Errors
/// [`PublishError`]; what was published before is still there, whole.
pub fn publish(
    catalog: &dyn Catalog,
    origin: &str,
    keys: &[VerifierKey],
    shelf: &dyn Shelf,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<Published, PublishError> {
    let size = catalog.log_size(origin)?;
    let kept = published(origin, keys, shelf)?;
    let before = kept.as_ref().map_or(0, |kept| kept.size);
    if size < before {
        let why = format!("{origin} is published with {before} batches, and the catalog has {size} of it");
        return Err(PublishError::Split(why));
    }
    let Some(last) = size.checked_sub(1) else { return Ok(Published::default()) };
    if let Some(kept) = &kept {
        goes_on(catalog, origin, keys, kept)?;
    }
    let reached = kept.as_ref().and_then(|kept| reached(kept, origin, shelf)).unwrap_or_default();
    let published = Published { size, before, ..Published::default() };
    let mut publisher = Publisher { origin, keys, shelf, published, reached, filled: Vec::new() };
    let mut newest = None;
    for number in publisher.reached.tiler.size()..size {
        let batch = batch(catalog, origin, number)?;
        publisher.take(&batch)?;
        if number == last {
            newest = Some(publisher.check(&batch.checkpoint)?);
        } else if publisher.is_at_tile() {
            publisher.check(&batch.checkpoint)?;
            publisher.put_filled()?;
        }
        if let Some(kept) = kept.as_ref().filter(|kept| kept.size == number + 1) {
            is_the_same(origin, kept, publisher.reached.tiler.root())?;
        }
        if !progress(number + 1) {
            return Err(PublishError::Stopped);
        }
    }
    // A note that was published stays as it is: others may have signed it, too.
    let signed = kept.filter(|kept| kept.size == size).or(newest);
    let signed =
        signed.ok_or_else(|| PublishError::Wrong(format!("{origin} has no checkpoint at size {size}")))?;
    publisher.finish(&signed, before)?;
    Ok(publisher.published)
}

/// The catalog has to have the checkpoint that is published, as long as it keeps that batch.
fn goes_on(
    catalog: &dyn Catalog,
    origin: &str,
    keys: &[VerifierKey],
    kept: &Signed,
) -> Result<(), PublishError> {
    let Some(batch) = catalog.batch(origin, kept.size.saturating_sub(1))? else { return Ok(()) };
    match Signed::read(batch.checkpoint.as_bytes(), origin, keys) {
        Ok(own) if own.size == kept.size => is_the_same(origin, kept, own.root),
        Ok(own) => Err(PublishError::Wrong(format!(
            "batch {} of {origin} has a checkpoint of size {}",
            kept.size - 1,
            own.size
        ))),
        Err(why) => {
            Err(PublishError::Wrong(format!("the checkpoint of {origin} at size {}: {why}", kept.size)))
        }
    }
}

/// The tree of the catalog has to be the one of the checkpoint that is published.
fn is_the_same(origin: &str, kept: &Signed, root: Hash) -> Result<(), PublishError> {
    let Signed { size, root: published, .. } = kept;
    if root == *published {
        return Ok(());
    }
    let why =
        format!("{origin} is published with root {published} at size {size}, and the catalog has {root}");
    Err(PublishError::Split(why))
}

/// The checkpoint that is published, if there is one.
fn published(origin: &str, keys: &[VerifierKey], shelf: &dyn Shelf) -> Result<Option<Signed>, PublishError> {
    let Some(note) = shelf.read(CHECKPOINT, MAX_CHECKPOINT)? else { return Ok(None) };
    let wrong =
        |why| PublishError::Split(format!("the published checkpoint of {origin} is not believed: {why}"));
    Signed::read(&note, origin, keys).map(Some).map_err(wrong)
}

/// Reads how far a log is published from its files; `None` where they do not lead to its checkpoint. Then all of it is made
/// again, and what is there is compared.
fn reached(kept: &Signed, origin: &str, shelf: &dyn Shelf) -> Option<Reached> {
    let read = read_reached(kept, shelf);
    read.inspect_err(|error| {
        let error = format!("{error:#}");
        warn!(origin, error, "what is published is not whole: it is made again from the first batch");
    })
    .ok()
}

fn read_reached(kept: &Signed, shelf: &dyn Shelf) -> anyhow::Result<Reached> {
    let file = |path: String, most| shelf.read(&path, most)?.with_context(|| format!("{path} is missing"));
    let mut read = |tile: Tile| file(tile.path(), tile.bytes());
    let mut tree = TiledTree::open(kept.size, kept.root, &mut read)?;
    let last = (kept.size - 1) / WIDTH as u64; // a checkpoint has a size of at least 1
    let tile = Tile::of_tree(0, last, kept.size).context("a tree has a last tile")?;
    let bundle = file(tile.entries_path(), MAX_BUNDLE)?;
    let entries = tile.decode_entries(&bundle).with_context(|| tile.entries_path())?;
    let hashes = tree.tile(0, last, &mut read)?;
    let is_right = entries.iter().map(|entry| Sha256.leaf(entry)).eq(hashes.iter().copied());
    anyhow::ensure!(is_right, "{} does not have the entries of its tile", tile.entries_path());
    let header = entries.last().map(|entry| BatchHeader::decode(entry)).context("a bundle has entries")?;
    let next = Succession::behind(&header.with_context(|| tile.entries_path())?);
    let bundle = if tile.is_partial() { bundle } else { Vec::new() };
    Ok(Reached { tiler: tree.into(), next, bundle })
}

fn batch(catalog: &dyn Catalog, origin: &str, number: u64) -> Result<BatchRecord, PublishError> {
    let missing = || PublishError::Wrong(format!("batch {number} of {origin} is not in the catalog"));
    catalog.batch(origin, number)?.ok_or_else(missing)
}

impl Publisher<'_> {
    /// Takes the next batch.
    fn take(&mut self, batch: &BatchRecord) -> Result<(), PublishError> {
        let Reached { tiler, next, bundle } = &mut self.reached;
        let wrong = |why: &dyn std::fmt::Display| {
            PublishError::Wrong(format!("batch {} of {}: {why}", tiler.size(), self.origin))
        };
        next.follow(self.origin, &batch.header).map_err(|error| wrong(&error))?;
        tiles::put_entry(bundle, &batch.header).map_err(|error| wrong(&error))?;
        let filled = &mut self.filled;
        let appended = tiler.append(Sha256.leaf(&batch.header), |tile, hashes| {
            if tile.level() == 0 {
                filled.push((tile.entries_path(), std::mem::take(bundle)));
            }
            filled.push((tile.path(), tiles::encode(hashes)));
        });
        appended.map_err(|error| PublishError::Wrong(format!("{}: {error}", self.origin)))
    }

    /// Whether the last batch filled a tile.
    const fn is_at_tile(&self) -> bool {
        self.reached.tiler.size().is_multiple_of(WIDTH as u64)
    }

    /// The checkpoint of the last batch, which has to be that of the tree as it is now.
    fn check(&self, note: &str) -> Result<Signed, PublishError> {
        let (size, root) = (self.reached.tiler.size(), self.reached.tiler.root());
        let wrong = |why: String| {
            PublishError::Wrong(format!("the checkpoint of {} at size {size}: {why}", self.origin))
        };
        let signed = Signed::read(note.as_bytes(), self.origin, self.keys).map_err(wrong)?;
        if (signed.size, signed.root) != (size, root) {
            let Signed { size, root: said, .. } = signed;
            return Err(wrong(format!("it says size {size} and root {said}; the batches make {root}")));
        }
        Ok(signed)
    }

    fn put_filled(&mut self) -> Result<(), PublishError> {
        for (path, bytes) in std::mem::take(&mut self.filled) {
            self.put(&path, &bytes)?;
        }
        Ok(())
    }

    /// Puts a file that never changes.
    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), PublishError> {
        match self.shelf.read(path, bytes.len())? {
            Some(there) if there == bytes => return Ok(()),
            Some(_) => {
                return Err(PublishError::Split(format!(
                    "{path} of {} is there with other bytes",
                    self.origin
                )));
            }
            None => {}
        }
        self.write(path, bytes)
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), PublishError> {
        self.shelf.put(path, bytes)?;
        self.published.files += 1;
        self.published.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Puts what is left of a tree whose checkpoint was checked: the checkpoint last.
    fn finish(&mut self, signed: &Signed, before: u64) -> Result<(), PublishError> {
        self.put_filled()?;
        let partial: Vec<_> =
            self.reached.tiler.partial().map(|(tile, hashes)| (tile, tiles::encode(hashes))).collect();
        for (tile, bytes) in partial {
            if tile.level() == 0 {
                let bundle = std::mem::take(&mut self.reached.bundle);
                self.put(&tile.entries_path(), &bundle)?;
            }
            self.put(&tile.path(), &bytes)?;
        }
        if self.shelf.read(CHECKPOINT, MAX_CHECKPOINT)?.as_deref() != Some(signed.note.as_bytes()) {
            self.write(CHECKPOINT, signed.note.as_bytes())?;
        }
        // Readers of the checkpoint before have had the full tiles since then.
        for tile in (0..).map_while(|level| Tile::of_tree(level, 0, before)) {
            let full = before.checked_shr(8 * (tile.level() + 1)).unwrap_or(0);
            for tile in (full.saturating_sub(SWEPT)..full)
                .filter_map(|index| Tile::of_tree(tile.level(), index, before))
            {
                self.shelf.remove_partial(tile)?;
            }
        }
        Ok(())
    }
}
