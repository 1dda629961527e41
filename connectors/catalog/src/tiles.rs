//! The tree of a log, read a tile at a time: 256 hashes of one level in eight, and everything between made of them.
//!
//! What is known of a tile stays true for ever, since nodes of a log never change; so tiles that were read are kept, and
//! only what was not there yet is asked for again. A path of a log of a million batches touches three tiles.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use killick_proof::{Algorithm, Hash};

/// Hashes in a tile.
pub const WIDTH: u64 = 256;
/// Levels of the tree from one level of tiles to the next.
const HEIGHT: u8 = 8;
/// Tiles that are kept: 2 MiB.
const KEPT: usize = 256;

/// Which tile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TileId {
    pub origin: Box<str>,
    pub level: i8,
    pub tile: i64,
}

/// The hashes of a tile that are known.
#[derive(Debug, Clone)]
pub struct Tile(Box<[Option<Hash>; WIDTH as usize]>);

impl Default for Tile {
    fn default() -> Self {
        Self(Box::new([None; WIDTH as usize]))
    }
}

/// Where the leaves of a complete subtree stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub id: TileId,
    pub positions: std::ops::Range<usize>,
}

/// Where a node's hash stands, or what it is made of. `None` for a node that no log has.
pub fn span(origin: &str, level: u8, index: u64) -> Option<Span> {
    let within = level % HEIGHT;
    let first = index.checked_shl(within.into()).filter(|first| first >> within == index)?;
    let start = usize::try_from(first % WIDTH).ok()?;
    let id = TileId {
        origin: origin.into(),
        level: i8::try_from(level / HEIGHT).ok()?,
        tile: i64::try_from(first / WIDTH).ok()?,
    };
    Some(Span { id, positions: start..start + (1 << within) })
}

/// Whether the nodes of a level are stored: those of one in eight are.
pub const fn is_stored(level: u8) -> bool {
    level.is_multiple_of(HEIGHT)
}

impl Tile {
    /// Takes a hash.
    pub fn put(&mut self, position: usize, hash: Hash) {
        if let Some(place) = self.0.get_mut(position) {
            *place = Some(hash);
        }
    }

    /// The root over the hashes at these positions, which are a power of two many; `None` if one is missing.
    pub fn root(&self, algorithm: Algorithm, positions: std::ops::Range<usize>) -> Option<Hash> {
        let mut row: Vec<Hash> = self.0.get(positions)?.iter().copied().collect::<Option<_>>()?;
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| algorithm.node(&pair[0], &pair[1])).collect();
        }
        row.first().copied()
    }
}

/// Tiles that were read.
#[derive(Default)]
pub struct Tiles(Mutex<HashMap<TileId, Tile>>);

impl Tiles {
    /// A node from the tiles that are kept.
    pub fn root(&self, algorithm: Algorithm, span: &Span) -> Option<Hash> {
        let tiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tiles.get(&span.id)?.root(algorithm, span.positions.clone())
    }

    /// Keeps a tile.
    pub fn keep(&self, id: TileId, tile: Tile) {
        let mut tiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tiles.len() >= KEPT {
            // Rare, and cheaper than to know which was not used for long.
            tiles.clear();
        }
        tiles.insert(id, tile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_where_its_leaves_are() {
        let place = |level, index| {
            let span = span("log", level, index)?;
            Some((span.id.level, span.id.tile, span.positions))
        };
        assert_eq!(place(0, 0), Some((0, 0, 0..1)));
        assert_eq!(place(0, 257), Some((0, 1, 1..2)));
        assert_eq!(place(3, 33), Some((0, 1, 8..16)));
        assert_eq!(place(7, 1), Some((0, 0, 128..256)));
        assert_eq!(place(8, 300), Some((1, 1, 44..45)));
        assert_eq!(place(63, 0), Some((7, 0, 0..128)));
        assert_eq!(place(7, u64::MAX), None);
        assert_eq!(place(0, u64::MAX), Some((0, (u64::MAX >> 8).cast_signed(), 255..256)));
    }

    #[test]
    fn the_hashes_between_are_those_of_the_tree() {
        let algorithm = Algorithm::Sha256;
        let mut tile = Tile::default();
        let mut wanted = Vec::new();
        let mut log = killick_proof::log::Log::new(algorithm);
        for leaf in 0..256_usize {
            let hash = algorithm.leaf(&leaf.to_be_bytes());
            tile.put(leaf, hash);
            log.append(hash, |id, hash| wanted.push((id, hash))).unwrap();
        }
        for (id, hash) in wanted.into_iter().filter(|(id, _)| id.level < 8) {
            let level = u8::try_from(id.level).unwrap();
            let span = span("log", level, id.index).unwrap();
            assert_eq!(tile.root(algorithm, span.positions), Some(hash), "{id:?}");
        }
        assert_eq!(Tile::default().root(algorithm, 0..1), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let tiles = Tiles::default();
        for tile in 0..1_000 {
            tiles.keep(TileId { origin: "log".into(), level: 0, tile }, Tile::default());
        }
        assert!(tiles.0.lock().unwrap().len() <= KEPT);
    }
}
