use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::tree::{Tree, verify_consistency, verify_inclusion};

/// The files of a log as a publisher leaves them, by path.
type Files = BTreeMap<String, Vec<u8>>;

fn leaf(number: u64) -> Hash {
    Sha256.leaf(&number.to_be_bytes())
}

/// A log of so many leaves, and all its tiles.
fn published(size: u64) -> (Tiler, Files) {
    let (mut tiler, mut files) = (Tiler::default(), Files::new());
    for number in 0..size {
        tiler
            .append(leaf(number), |tile, hashes| {
                assert!(files.insert(tile.path(), encode(hashes)).is_none(), "{tile:?} is filled once");
            })
            .unwrap();
    }
    for (tile, hashes) in tiler.partial() {
        files.insert(tile.path(), encode(hashes));
    }
    (tiler, files)
}

/// Why a tile is not had.
#[derive(Debug)]
enum Trouble {
    None(String),
    Wrong(ReadError),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Wrong(error)
    }
}

fn source(files: &Files) -> impl FnMut(Tile) -> Result<Vec<u8>, Trouble> {
    |tile| files.get(&tile.path()).cloned().ok_or_else(|| Trouble::None(tile.path()))
}

/// Reads every tile of a tree; the first trouble.
fn read_all(size: u64, root: Hash, files: &Files) -> Result<u64, Trouble> {
    let mut read = source(files);
    let mut tree = TiledTree::open(size, root, &mut read)?;
    let mut count = 0;
    for level in 0..LEVELS as u32 {
        for index in (0..).take_while(|index| Tile::of_tree(level, *index, size).is_some()) {
            tree.tile(level, index, &mut read)?;
            count += 1;
        }
    }
    Ok(count)
}

#[test]
fn the_paths_are_those_of_the_specification() {
    let path = |level, index, width| Tile { level, index, width }.path();
    assert_eq!(path(0, 0, 256), "tile/0/000");
    assert_eq!(path(3, 999, 255), "tile/3/999.p/255");
    assert_eq!(path(0, 1_000, 1), "tile/0/x001/000.p/1");
    assert_eq!(path(2, 1_234_067, 256), "tile/2/x001/x234/067");
    assert_eq!(
        Tile { level: 0, index: 1_234_067, width: 8 }.entries_path(),
        "tile/entries/x001/x234/067.p/8"
    );
}

#[test]
fn a_tree_has_the_tiles_of_the_specification() {
    // Its example: 70,000 entries.
    let of = |level, index| Tile::of_tree(level, index, 70_000).map(|tile| tile.width);
    assert_eq!([of(0, 272), of(0, 273), of(0, 274)], [Some(256), Some(112), None]);
    assert_eq!([of(1, 0), of(1, 1), of(1, 2)], [Some(256), Some(17), None]);
    assert_eq!([of(2, 0), of(2, 1), of(3, 0)], [Some(1), None, None]);
    let partial: Vec<_> = Tile::partial(70_000).map(|tile| (tile.level, tile.index, tile.width)).collect();
    assert_eq!(partial, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    // One full tile, and its root in a partial one above it.
    let partial: Vec<_> = Tile::partial(256).map(|tile| (tile.level, tile.index, tile.width)).collect();
    assert_eq!(partial, [(1, 0, 1)]);
    assert_eq!(Tile::partial(0).count(), 0);
    assert_eq!(Tile::partial(MAX_COUNT).count(), LEVELS);
    assert_eq!(Tile::of_tree(LEVELS as u32, 0, MAX_COUNT), None);
    assert_eq!(
        [Tile::of_tree(8, 0, MAX_COUNT), Tile::of_tree(u32::MAX, 0, 9), Tile::of_tree(0, u64::MAX, 9)],
        [None; 3]
    );
}

#[test]
fn a_log_is_read_from_its_tiles_at_every_size() {
    let leaves: Vec<Hash> = (0..600).map(leaf).collect();
    for size in (0..=520).chain([599, 600]) {
        let (tiler, files) = published(size);
        let tree = Tree::new(Sha256, leaves[..usize::try_from(size).unwrap()].to_vec());
        assert_eq!(tiler.root(), tree.root());
        assert_eq!(read_all(size, tree.root(), &files).unwrap(), files.len() as u64);
        let again = Tiler::from(TiledTree::open(size, tree.root(), &mut source(&files)).unwrap());
        let tiles =
            |tiler: &Tiler| tiler.partial().map(|(tile, hashes)| (tile, hashes.to_vec())).collect::<Vec<_>>();
        assert_eq!((again.size(), tiles(&again)), (size, tiles(&tiler)));
    }
}

#[test]
fn a_log_of_three_levels_goes_on_from_its_tiles_as_if_it_had_never_stopped() {
    let (whole, files) = published(70_000);
    let tree = TiledTree::open(70_000, whole.root(), &mut source(&files)).unwrap();
    assert_eq!(tree.size(), 70_000);
    let (mut again, mut other) = (Tiler::from(tree), whole);
    for number in 70_000..70_500 {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        again.append(leaf(number), |tile, hashes| ours.push((tile, encode(hashes)))).unwrap();
        other.append(leaf(number), |tile, hashes| theirs.push((tile, encode(hashes)))).unwrap();
        assert_eq!(ours, theirs);
    }
    assert_eq!(again.root(), other.root());
    assert_eq!(
        read_all(70_000, Tree::new(Sha256, (0..70_000).map(leaf).collect()).root(), &files).unwrap(),
        277
    );
}

#[test]
fn paths_from_tiles_are_those_of_the_tree() {
    for size in [1_u64, 2, 255, 256, 257, 600] {
        let (tiler, files) = published(size);
        let tree = Tree::new(Sha256, (0..size).map(leaf).collect());
        let mut read = source(&files);
        let mut tiled = TiledTree::open(size, tiler.root(), &mut read).unwrap();
        for index in 0..size {
            let path = tiled.inclusion_path(index, &mut read).unwrap();
            verify_inclusion(Sha256, &leaf(index), index, size, &path, &tree.root()).unwrap();
            let path = tiled.consistency_path(index + 1, &mut read).unwrap();
            let old = Tree::new(Sha256, tree.leaves()[..=usize::try_from(index).unwrap()].to_vec()).root();
            verify_consistency(Sha256, index + 1, &old, size, &tree.root(), &path).unwrap();
        }
        let no_leaf = tiled.inclusion_path(size, &mut read);
        assert!(
            matches!(no_leaf, Err(Trouble::Wrong(ReadError::Proof(ProofError::Index { .. })))),
            "{no_leaf:?}"
        );
        let no_tree = tiled.consistency_path(size + 1, &mut read);
        assert!(
            matches!(no_tree, Err(Trouble::Wrong(ReadError::Proof(ProofError::Sizes { .. })))),
            "{no_tree:?}"
        );
    }
}

#[test]
fn every_changed_bit_of_every_tile_is_found() {
    let (tiler, files) = published(600);
    let mut found = 0;
    for (path, file) in &files {
        for bit in (0..file.len() * 8).step_by(37) {
            let mut changed = files.clone();
            changed.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let read = read_all(600, tiler.root(), &changed);
            match read {
                Err(Trouble::Wrong(ReadError::Tile { tile, why: TileError::Root })) => {
                    assert_eq!(tile.path(), *path)
                }
                Err(Trouble::Wrong(ReadError::Edge)) => assert!(path.contains(".p/"), "{path}"),
                other => panic!("{path}, bit {bit}: {other:?}"),
            }
            found += 1;
        }
    }
    assert!(found > 3_000, "{found}");
}

#[test]
fn a_tile_of_another_length_or_none_at_all_is_told_of() {
    let (tiler, files) = published(600);
    for path in files.keys() {
        let mut changed = files.clone();
        changed.remove(path);
        let read = read_all(600, tiler.root(), &changed);
        assert!(matches!(&read, Err(Trouble::None(why)) if why == path), "{read:?}");
        for length in [0, 1, 31, 33, 8_193] {
            changed.insert(path.clone(), vec![0; length]);
            let read = read_all(600, tiler.root(), &changed);
            let wrong = matches!(&read, Err(Trouble::Wrong(ReadError::Tile { tile, why: TileError::Length { found, .. } }))
                if tile.path() == *path && *found == length);
            assert!(wrong, "{path}: {read:?}");
        }
    }
    let mut read = source(&files);
    let mut tree = TiledTree::open(600, tiler.root(), &mut read).unwrap();
    let absent = tree.tile(0, 3, &mut read);
    assert!(
        matches!(absent, Err(Trouble::Wrong(ReadError::Tile { why: TileError::Absent(600), .. }))),
        "{absent:?}"
    );
    assert!(tree.tile(9, 0, &mut read).is_err() && tree.tile(u32::MAX, u64::MAX, &mut read).is_err());
    let beyond = TiledTree::open(MAX_COUNT + 1, tiler.root(), &mut read);
    assert!(matches!(beyond, Err(Trouble::Wrong(ReadError::Log(LogError::TooLarge(_))))), "{beyond:?}");
}

#[test]
fn a_bundle_is_read_as_it_was_written_and_anything_else_is_refused() {
    let entries: [&[u8]; 3] = [b"one", b"", &[7; 65_535]];
    let mut bundle = Vec::new();
    for entry in entries {
        put_entry(&mut bundle, entry).unwrap();
    }
    assert_eq!(put_entry(&mut bundle, &[0; 65_536]), Err(TileError::LongEntry(65_536)));
    let of = |width| Tile { level: 0, index: 0, width };
    assert_eq!(of(3).decode_entries(&bundle), Ok(entries.to_vec()));
    assert_eq!(of(2).decode_entries(&bundle), Err(TileError::Count { expected: 2, found: 3 }));
    assert_eq!(of(4).decode_entries(&bundle), Err(TileError::Count { expected: 4, found: 3 }));
    assert_eq!(of(3).decode_entries(&bundle[..bundle.len() - 1]), Err(TileError::CutOff(2)));
    assert_eq!(of(3).decode_entries(&bundle[..6]), Err(TileError::CutOff(1)));
    assert_eq!(of(2).decode_entries(first_entries(&bundle, 2)), Ok(entries[..2].to_vec()));
    assert_eq!(first_entries(&bundle, 9), bundle);
    assert_eq!(first_entries(&bundle[..9], 3), &bundle[..9]);
}

proptest! {
    #[test]
    fn no_bundle_makes_the_reader_panic(bundle in prop::collection::vec(any::<u8>(), 0..600), width in 1..=WIDTH) {
        let tile = Tile { level: 0, index: 0, width };
        if let Ok(entries) = tile.decode_entries(&bundle) {
            let mut again = Vec::new();
            for entry in entries {
                put_entry(&mut again, entry).unwrap();
            }
            prop_assert_eq!(again, bundle.clone());
        }
        let first = first_entries(&bundle, width);
        prop_assert!(bundle.starts_with(first));
    }

    #[test]
    fn no_size_and_no_tile_make_the_reader_panic(size in any::<u64>(), level in any::<u32>(), index in any::<u64>()) {
        if let Some(tile) = Tile::of_tree(level, index, size) {
            prop_assert!((1..=WIDTH).contains(&tile.width));
        }
        prop_assert!(Tile::partial(size).all(|tile| tile.is_partial()));
        let mut nothing = |tile: Tile| Err::<Vec<u8>, _>(Trouble::None(tile.path()));
        prop_assert!(size == 0 || TiledTree::open(size, Hash::new([0; 32]), &mut nothing).is_err());
    }
}
