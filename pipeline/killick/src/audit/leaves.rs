//! The leaves of a log, in memory while they fit, else in files: sorted piece by piece.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};

use killick_stages::audit::{Leaf, Leaves, twice};
use killick_stages::record::Micros;
use tempfile::TempDir;

/// Leaves in memory at the most: 40 MiB.
const IN_MEMORY: usize = 1 << 20;
/// Files that the rest is spread over by the first byte of its names, so that each piece is small.
const PIECES: usize = 256;
/// Bytes of a leaf in a file.
const LEN: usize = 36;

/// Leaves in memory, and the rest in files in the system's folder for such (`TMPDIR`), which go with the process.
#[derive(Debug, Default)]
pub struct OnDisk {
    leaves: Vec<Leaf>,
    spilled: Option<Spilled>,
}

#[derive(Debug)]
struct Spilled {
    pieces: Vec<BufWriter<File>>,
    /// The folder goes when this is dropped.
    _folder: TempDir,
}

impl Spilled {
    fn make() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("killick-audit-").tempdir()?;
        let piece = |number: usize| {
            let path = folder.path().join(number.to_string());
            let file = File::options().read(true).write(true).create_new(true).open(path)?;
            Ok(BufWriter::with_capacity(32 << 10, file))
        };
        Ok(Self { pieces: (0..PIECES).map(piece).collect::<io::Result<_>>()?, _folder: folder })
    }
}

fn encode(leaf: &Leaf) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..16].copy_from_slice(&leaf.name);
    bytes[16..24].copy_from_slice(&leaf.time.to_be_bytes());
    bytes[24..32].copy_from_slice(&leaf.offset.to_be_bytes());
    bytes[32..].copy_from_slice(&leaf.index.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; LEN]) -> Leaf {
    let part =
        |at: usize| *bytes[at..].first_chunk::<8>().expect("eight bytes lie behind each of these places");
    Leaf {
        name: *bytes.first_chunk().expect("a leaf has more than 16 bytes"),
        time: Micros::from_be_bytes(part(16)),
        offset: u64::from_be_bytes(part(24)),
        index: u32::from_be_bytes(*bytes.last_chunk().expect("a leaf has more than 4 bytes")),
    }
}

impl OnDisk {
    fn spill(&mut self) -> io::Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled::make()?),
        };
        for leaf in self.leaves.drain(..) {
            if let Some(piece) = spilled.pieces.get_mut(usize::from(leaf.name[0])) {
                piece.write_all(&encode(&leaf))?;
            }
        }
        Ok(())
    }
}

impl Leaves for OnDisk {
    fn add(&mut self, leaf: Leaf) -> io::Result<()> {
        self.leaves.push(leaf);
        if self.leaves.len() >= IN_MEMORY { self.spill() } else { Ok(()) }
    }

    fn twice(&mut self, window: Micros, each: &mut dyn FnMut(&Leaf, &Leaf)) -> io::Result<()> {
        if self.spilled.is_some() {
            self.spill()?;
        }
        twice(&mut self.leaves, window, each);
        self.leaves.clear();
        let Some(spilled) = self.spilled.take() else { return Ok(()) };
        let mut bytes = Vec::new();
        for piece in spilled.pieces {
            let mut file = piece.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            bytes.clear();
            file.read_to_end(&mut bytes)?;
            let (leaves, _) = bytes.as_chunks::<LEN>();
            let mut leaves: Vec<Leaf> = leaves.iter().map(decode).collect();
            twice(&mut leaves, window, each);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(number: u64) -> Leaf {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Leaf { name, time: -5 + number as i64, offset: u64::MAX - number, index: number as u32 }
    }

    fn told(leaves: &mut OnDisk) -> Vec<(Leaf, Leaf)> {
        let mut told = Vec::new();
        leaves.twice(1_000, &mut |before, after| told.push((*before, *after))).unwrap();
        told
    }

    #[test]
    fn leaves_that_do_not_fit_into_memory_are_found_all_the_same() {
        let mut leaves = OnDisk::default();
        let again = |number| Leaf { time: leaf(number).time + 999, ..leaf(number) };
        let numbers = [3, 70_000, 1_100_000];
        for number in 0..1_200_000 {
            leaves.add(leaf(number)).unwrap();
        }
        assert!(leaves.spilled.is_some());
        for number in numbers {
            leaves.add(again(number)).unwrap();
            leaves.add(Leaf { time: again(number).time + 1_000, ..leaf(number) }).unwrap();
        }
        let mut found = told(&mut leaves);
        found.sort_unstable();
        let mut expected = numbers.map(|number| (leaf(number), again(number)));
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(told(&mut leaves), [], "they are forgotten");
    }

    #[test]
    fn a_leaf_reads_back_from_its_file() {
        for number in [0, 1, u64::MAX / 3] {
            assert_eq!(decode(&encode(&leaf(number))), leaf(number));
        }
    }
}
