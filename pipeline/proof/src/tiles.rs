//! A log as static files (C2SP `tlog-tiles`): where each hash of its tree stands, and how files of strangers are believed.
//!
//! A tile is 256 hashes of one level in eight, side by side; those at the right edge of a tree are shorter, *partial*.
//! [`Tiler`] makes the tiles of a log that grows. [`TiledTree`] reads those of a tree whose root is known, and believes no
//! hash before it has led to that root. Entries stand in bundles of 256, each behind its length in two bytes.
//!
//! The hash is SHA-256: `tlog-tiles` knows no other.

use crate::Algorithm::Sha256;
use crate::encoding::MAX_COUNT;
use crate::hash::Hash;
use crate::log::{self, Log, LogError, NodeId};
use crate::tree::ProofError;

/// Hashes in a full tile, and entries in a full bundle.
pub const WIDTH: usize = 256;
/// Levels of the tree from one level of tiles to the next.
const HEIGHT: u32 = 8;
/// Levels of tiles of the largest log there can be: 2^53 leaves.
const LEVELS: usize = 7;

/// The file where one log's signed checkpoint stands.
pub const CHECKPOINT: &str = "checkpoint";

/// Why a file is no tile, or not the one that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A tile of another length.
    #[error("a tile of {found} bytes where {expected} are needed")]
    Length {
        /// Bytes that it has to have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// The hashes lead elsewhere.
    #[error("its hashes do not lead to the root of the checkpoint")]
    Root,
    /// There is no such tile in a tree of that size.
    #[error("a tree of {0} leaves has no such tile")]
    Absent(u64),
    /// A bundle that ends within an entry.
    #[error("entry {0} of the bundle is cut off")]
    CutOff(usize),
    /// A bundle of another number of entries.
    #[error("a bundle of {found} entries where {expected} are needed")]
    Count {
        /// Entries that it has to have.
        expected: usize,
        /// Entries that it has; of more than a bundle can have, one more.
        found: usize,
    },
    /// An entry that is longer than its length can say.
    #[error("an entry of {0} bytes; a bundle has entries of at most 65,535")]
    LongEntry(usize),
}

/// Which tile, and how many hashes it has. The bundle of the same entries as a tile of level 0 goes by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u32,
    index: u64,
    width: usize,
}

impl Tile {
    /// The tile at that level and index in the tree of `size` leaves, full or partial; `None` where the tree has none.
    pub fn of_tree(level: u32, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(level.checked_mul(HEIGHT)?)?;
        let first = index.checked_mul(WIDTH as u64)?;
        let left = hashes.checked_sub(first).filter(|left| *left > 0)?;
        Some(Self { level, index, width: usize::try_from(left).map_or(WIDTH, |left| left.min(WIDTH)) })
    }

    /// The partial tiles of the tree of `size` leaves, lowest level first: at most one a level.
    pub fn partial(size: u64) -> impl Iterator<Item = Self> {
        (0..LEVELS as u32).filter_map(move |level| {
            Self::of_tree(level, size >> (HEIGHT * (level + 1)), size).filter(Self::is_partial)
        })
    }

    /// Its level: at 0 it has leaf hashes, above the roots of full tiles of the level below.
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Its number from the left within its level.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Its hashes: 1 to 256.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Whether it has less hashes than there is room for.
    pub const fn is_partial(&self) -> bool {
        self.width < WIDTH
    }

    /// The same tile when it is full.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// Bytes of its file.
    pub const fn bytes(&self) -> usize {
        self.width * Hash::LEN
    }

    /// Where its file is, below the folder of its log: `tile/<level>/<index>[.p/<width>]`.
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, self.name())
    }

    /// Where the entries of this tile of level 0 are: `tile/entries/<index>[.p/<width>]`.
    pub fn entries_path(&self) -> String {
        format!("tile/entries/{}", self.name())
    }

    /// The index in groups of three digits, all but the last behind an x; so no folder has more than 1,000 tiles.
    fn name(&self) -> String {
        let mut name = format!("{:03}", self.index % 1_000);
        let mut left = self.index / 1_000;
        while left > 0 {
            name = format!("x{:03}/{name}", left % 1_000);
            left /= 1_000;
        }
        if self.is_partial() {
            name += &format!(".p/{}", self.width);
        }
        name
    }

    /// Reads its file.
    ///
    /// # Errors
    /// [`TileError::Length`].
    pub fn decode(&self, file: &[u8]) -> Result<Vec<Hash>, TileError> {
        let (hashes, _) = file.as_chunks();
        if file.len() != self.bytes() {
            return Err(TileError::Length { expected: self.bytes(), found: file.len() });
        }
        Ok(hashes.iter().copied().map(Hash::new).collect())
    }

    /// Reads the bundle of its entries, each of which may be anything.
    ///
    /// # Errors
    /// [`TileError::CutOff`] or [`TileError::Count`].
    pub fn decode_entries<'b>(&self, bundle: &'b [u8]) -> Result<Vec<&'b [u8]>, TileError> {
        let mut entries = Vec::with_capacity(self.width);
        let mut left = bundle;
        while !left.is_empty() {
            if entries.len() == self.width {
                return Err(TileError::Count { expected: self.width, found: self.width + 1 });
            }
            let cut_off = TileError::CutOff(entries.len());
            let (length, rest) = left.split_first_chunk().ok_or(cut_off)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, rest) = rest.split_at_checked(length).ok_or(cut_off)?;
            entries.push(entry);
            left = rest;
        }
        if entries.len() < self.width {
            return Err(TileError::Count { expected: self.width, found: entries.len() });
        }
        Ok(entries)
    }
}

/// The file of a tile with these hashes.
pub fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Appends an entry to a bundle.
///
/// # Errors
/// [`TileError::LongEntry`]; the bundle stays as it was.
pub fn put_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::LongEntry(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The beginning of a full bundle: its first `count` entries, where it has so many.
pub fn first_entries(bundle: &[u8], count: usize) -> &[u8] {
    let mut end = 0;
    for _ in 0..count {
        let Some((length, _)) = bundle.get(end..).and_then(<[u8]>::split_first_chunk) else { return bundle };
        end += 2 + usize::from(u16::from_be_bytes(*length));
    }
    bundle.get(..end).unwrap_or(bundle)
}

/// Makes the tiles of a log that grows. Keeps those of the right edge: at most 57 KB.
#[derive(Clone, Debug)]
pub struct Tiler {
    log: Log,
    /// Of each level the hashes of its last tile; none where that is full or not begun.
    open: [Vec<Hash>; LEVELS],
}

impl Default for Tiler {
    fn default() -> Self {
        Self { log: Log::new(Sha256), open: Default::default() }
    }
}

impl Tiler {
    /// How many leaves the log has.
    pub const fn size(&self) -> u64 {
        self.log.size()
    }

    /// The root of its tree.
    pub fn root(&self) -> Hash {
        self.log.root()
    }

    /// Appends one leaf hash. Calls `filled` with each tile that it fills, the lowest first.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] for a full log.
    pub fn append(&mut self, leaf: Hash, mut filled: impl FnMut(Tile, &[Hash])) -> Result<(), LogError> {
        let open = &mut self.open;
        self.log.append(leaf, |node, hash| {
            if !node.level.is_multiple_of(HEIGHT) {
                return;
            }
            let level = node.level / HEIGHT;
            let Some(hashes) = open.get_mut(level as usize) else { return };
            hashes.push(hash);
            if hashes.len() == WIDTH {
                filled(Tile { level, index: node.index / WIDTH as u64, width: WIDTH }, hashes);
                hashes.clear();
            }
        })
    }

    /// The partial tiles of the tree as it is now, lowest level first.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        Tile::partial(self.size()).map(|tile| (tile, self.open[tile.level as usize].as_slice()))
    }
}

/// Why a hash cannot be had from the tiles of a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is not what it should be.
    #[error("{}: {why}", .tile.path())]
    Tile {
        /// The tile.
        tile: Tile,
        /// What is wrong with it.
        why: TileError,
    },
    /// The tiles of the right edge, taken together, are not those of the checkpoint: which of them is wrong cannot be said.
    #[error("the partial tiles do not lead to the root of the checkpoint")]
    Edge,
    /// There is no such proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// There is no such log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The tree of a checkpoint, whose tiles are read as they are needed. Each has to lead to the checkpoint's root.
///
/// The files come from a function that gives the bytes of a tile, and whose error can hold a [`ReadError`]. Kept are the right edge, and of each level the tile that
/// was read last: at most 115 KB.
#[derive(Clone, Debug)]
pub struct TiledTree {
    log: Log,
    /// Of each level the hashes of its partial tile; none where it has no such tile.
    edge: [Vec<Hash>; LEVELS],
    /// Of each level the full tile that was read last.
    last: [Option<(u64, Vec<Hash>)>; LEVELS],
}

impl TiledTree {
    /// Reads the right edge of the tree of `size` leaves, which has to have this root.
    ///
    /// # Errors
    /// [`ReadError`], or that of `read`.
    pub fn open<E: From<ReadError>>(
        size: u64,
        root: Hash,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        if size > MAX_COUNT {
            return Err(ReadError::Log(LogError::TooLarge(size)).into());
        }
        let mut edge: [Vec<Hash>; LEVELS] = Default::default();
        for tile in Tile::partial(size) {
            let file = read(tile)?;
            edge[tile.level as usize] = tile.decode(&file).map_err(|why| ReadError::Tile { tile, why })?;
        }
        let log = Log::from_edge(Sha256, size, subtrees(&edge)).map_err(ReadError::from)?;
        if log.root() != root {
            return Err(ReadError::Edge.into());
        }
        Ok(Self { log, edge, last: Default::default() })
    }

    /// How many leaves it has.
    pub const fn size(&self) -> u64 {
        self.log.size()
    }

    /// The hashes of a tile of this tree, full or partial.
    ///
    /// # Errors
    /// [`ReadError`], or that of `read`.
    pub fn tile<E: From<ReadError>>(
        &mut self,
        level: u32,
        index: u64,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<&[Hash], E> {
        let size = self.size();
        let Some(tile) = Tile::of_tree(level, index, size) else {
            let tile = Tile { level, index, width: WIDTH };
            return Err(ReadError::Tile { tile, why: TileError::Absent(size) }.into());
        };
        let place = level as usize; // below LEVELS: a tree of 2^53 leaves has no tiles above
        if tile.is_partial() {
            return Ok(&self.edge[place]);
        }
        if self.last[place].as_ref().is_none_or(|(last, _)| *last != index) {
            // What it has to lead to comes first: nothing is kept that is not believed. At most six steps up.
            let position = usize::try_from(index % WIDTH as u64).unwrap_or(0); // below 256
            let above = self.tile(level + 1, index / WIDTH as u64, read)?.get(position).copied();
            let file = read(tile)?;
            let wrong = |why| ReadError::Tile { tile, why };
            let hashes = tile.decode(&file).map_err(wrong)?;
            if above != Some(root_of(&hashes)) {
                return Err(wrong(TileError::Root).into());
            }
            self.last[place] = Some((index, hashes));
        }
        Ok(self.last[place].as_ref().map_or(&[], |(_, hashes)| hashes))
    }

    /// The root of a complete subtree.
    ///
    /// # Errors
    /// [`ReadError`], or that of `read`.
    pub fn node<E: From<ReadError>>(
        &mut self,
        node: NodeId,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Hash, E> {
        let missing = || ReadError::Log(LogError::Missing(node));
        let height = node.level % HEIGHT;
        let first = node.index.checked_shl(height).filter(|first| first >> height == node.index);
        let first = first.ok_or_else(missing)?;
        let start = usize::try_from(first % WIDTH as u64).unwrap_or(0); // below 256
        let hashes = self.tile(node.level / HEIGHT, first / WIDTH as u64, read)?;
        hashes.get(start..start + (1 << height)).map(root_of).ok_or_else(|| missing().into())
    }

    /// The path that proves leaf `index` in this tree.
    ///
    /// # Errors
    /// [`ReadError`], or that of `read`.
    pub fn inclusion_path<E: From<ReadError>>(
        &mut self,
        index: u64,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Hash>, E> {
        let nodes = self.nodes(log::inclusion_nodes(index, self.size()).map_err(ReadError::from)?, read)?;
        let path = log::inclusion_path(Sha256, index, self.size(), |node| hash_of(&nodes, node));
        Ok(path.map_err(ReadError::from)?)
    }

    /// The path that proves that the tree of the first `size` leaves is the beginning of this one.
    ///
    /// # Errors
    /// [`ReadError`], or that of `read`.
    pub fn consistency_path<E: From<ReadError>>(
        &mut self,
        size: u64,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Hash>, E> {
        let nodes = self.nodes(log::consistency_nodes(size, self.size()).map_err(ReadError::from)?, read)?;
        let path = log::consistency_path(Sha256, size, self.size(), |node| hash_of(&nodes, node));
        Ok(path.map_err(ReadError::from)?)
    }

    fn nodes<E: From<ReadError>>(
        &mut self,
        nodes: Vec<NodeId>,
        read: &mut impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<(NodeId, Hash)>, E> {
        nodes.into_iter().map(|node| Ok((node, self.node(node, read)?))).collect()
    }
}

/// To go on with a log from its tiles.
impl From<TiledTree> for Tiler {
    fn from(tree: TiledTree) -> Self {
        Self { log: tree.log, open: tree.edge }
    }
}

fn hash_of(nodes: &[(NodeId, Hash)], wanted: NodeId) -> Option<Hash> {
    nodes.iter().find(|(node, _)| *node == wanted).map(|(_, hash)| *hash)
}

/// The root over the hashes of a tile, or of a part of one: a power of two many. Of none, the hash of nothing.
fn root_of(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| pair.iter().copied().reduce(|l, r| Sha256.node(&l, &r)).unwrap_or(pair[0]))
            .collect();
    }
    row.first().copied().unwrap_or_else(|| Sha256.empty())
}

/// The complete subtrees that make up a tree, from its partial tiles, largest first.
fn subtrees(edge: &[Vec<Hash>; LEVELS]) -> Vec<Hash> {
    let mut subtrees = Vec::new();
    for hashes in edge.iter().rev() {
        let mut left = hashes.as_slice();
        for height in (0..HEIGHT).rev().filter(|height| hashes.len() >> height & 1 == 1) {
            let (subtree, rest) = left.split_at(1 << height);
            subtrees.push(root_of(subtree));
            left = rest;
        }
    }
    subtrees
}

#[cfg(test)]
mod tests;
