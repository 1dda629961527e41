//! One file of the journal: reading it, and finding out after a crash how far it is good.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use super::entry::{Batch, Entry, FRAME, Head, MAGIC};

/// Where a batch is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The batch.
    pub batch: Batch,
    /// Where its blob begins in the file.
    pub position: u64,
}

/// The batches of a segment by partition, in order of offset.
#[derive(Debug, Default)]
pub struct Index(Vec<Vec<Place>>);

impl Index {
    /// Takes in the batches of an entry whose blobs begin at `position`.
    pub fn add(&mut self, entry: &Entry, mut position: u64) {
        for batch in &entry.batches {
            let partition = batch.partition as usize;
            if self.0.len() <= partition {
                self.0.resize_with(partition + 1, Vec::new);
            }
            self.0[partition].push(Place { batch: batch.clone(), position });
            position += u64::from(batch.len);
        }
    }

    /// The batches of a partition that hold offsets from `from` on.
    pub fn from(&self, partition: u32, from: u64) -> &[Place] {
        let places = self.0.get(partition as usize).map_or(&[][..], Vec::as_slice);
        let first = places.partition_point(|place| place.batch.base + u64::from(place.batch.count) <= from);
        &places[first..]
    }
}

/// What a scan of a segment found.
pub struct Scan {
    /// Where the last good entry ends.
    pub good: u64,
    /// Whether that is the end of the file.
    pub is_complete: bool,
    /// Whether something that had been durable is bad; the place is `good`.
    pub damaged: bool,
}

/// The file name of a segment.
pub fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seg"))
}

/// The name of a segment while it is made: with its own name it is complete.
pub fn draft(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.new"))
}

/// The numbers of all segments in the folder, ascending. Removes those that were never finished.
pub fn list(folder: &Path) -> io::Result<Vec<u64>> {
    for (_, file) in files(folder, draft)? {
        std::fs::remove_file(file)?;
    }
    numbers(folder)
}

/// The numbers of all segments in the folder, ascending.
pub fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<_> = files(folder, path)?.into_iter().map(|(number, _)| number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The files of the folder that are called as `name` calls them, with their numbers.
fn files(folder: &Path, name: fn(&Path, u64) -> PathBuf) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        let number = file.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|number| file == name(folder, *number)) {
            found.push((number, file));
        }
    }
    Ok(found)
}

/// Gives every good entry with the position of its blobs, in order. Checks headers, and blobs where `blobs` is set.
pub fn scan(file: &File, blobs: bool, mut each: impl FnMut(&Entry, u64, &[u8])) -> io::Result<Scan> {
    let len = file.metadata()?.len();
    let (mut good, mut marker) = (0, MAGIC);
    while let Some((entry, position, content)) = entry_at(file, marker, good, len, blobs)? {
        // The first entry is a head, and no other is: it says how the others begin.
        if let Some(head) = &entry.head {
            marker = head.marker;
        }
        each(&entry, position, &content);
        good = position + entry.blob_len();
    }
    let is_complete = good == len;
    Ok(Scan {
        good,
        is_complete,
        damaged: !is_complete && (good == 0 || known_durable(file, marker, good, len)?),
    })
}

/// The head of a segment, if it is good. Its blobs are not looked at.
pub fn head(file: &File) -> io::Result<Option<Head>> {
    let len = file.metadata()?.len();
    Ok(entry_at(file, MAGIC, 0, len, false)?.and_then(|(entry, ..)| entry.head))
}

/// The entry at `position`, where its blobs begin, and their bytes if asked for; `None` if there is no good one.
fn entry_at(
    file: &File,
    marker: u64,
    position: u64,
    len: u64,
    blobs: bool,
) -> io::Result<Option<(Entry, u64, Vec<u8>)>> {
    let mut frame = [0; FRAME];
    if len.saturating_sub(position) < FRAME as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut frame, position)?;
    let mut fields = frame.as_slice();
    let (found, header_len, crc) = (fields.get_u64_le(), fields.get_u32_le(), fields.get_u32_le());
    let start = position + FRAME as u64;
    // The marker comes first: without it the length is anything.
    if found != marker || len - start < u64::from(header_len) {
        return Ok(None);
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact_at(&mut header, start)?;
    if crc32fast::hash(&header) != crc {
        return Ok(None);
    }
    let Ok(entry) = Entry::decode(&header) else { return Ok(None) };
    let content = start + u64::from(header_len);
    if entry.head.is_some() != (position == 0) || len - content < entry.blob_len() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if blobs {
        // What was written in one piece fits into memory in one piece.
        bytes.resize(usize::try_from(entry.blob_len()).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut bytes, content)?;
        if blobs_of(&entry, &bytes).any(|(batch, blob)| crc32fast::hash(blob) != batch.crc) {
            return Ok(None);
        }
    }
    Ok(Some((entry, content, bytes)))
}

/// Whether an entry after the bad place at `bad` says that the place had been durable.
fn known_durable(file: &File, marker: u64, bad: u64, len: u64) -> io::Result<bool> {
    let marker_bytes = marker.to_le_bytes();
    let mut window = vec![0; 1 << 20];
    let mut at = bad;
    while at < len {
        let size = usize::try_from(len - at).map_or(window.len(), |rest| rest.min(window.len()));
        file.read_exact_at(&mut window[..size], at)?;
        for offset in 0..size.saturating_sub(marker_bytes.len() - 1) {
            if window[offset..].starts_with(&marker_bytes) {
                let found = entry_at(file, marker, at + offset as u64, len, false)?;
                if found.is_some_and(|(entry, ..)| entry.synced > bad) {
                    return Ok(true);
                }
            }
        }
        // The last bytes may begin a marker that ends in the next window.
        at += (size.saturating_sub(marker_bytes.len() - 1)).max(1) as u64;
    }
    Ok(false)
}

/// Reads a batch's blob and checks it; `None` if it is damaged.
pub fn blob(file: &File, place: &Place) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; place.batch.len as usize];
    match file.read_exact_at(&mut bytes, place.position) {
        Ok(()) => Ok((crc32fast::hash(&bytes) == place.batch.crc).then(|| bytes.into())),
        // The file was complete when it was indexed: somebody has cut it since.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The records of the blobs of an entry, one a batch.
pub fn blobs_of<'a>(entry: &'a Entry, mut content: &'a [u8]) -> impl Iterator<Item = (&'a Batch, &'a [u8])> {
    entry.batches.iter().map(move |batch| {
        let (blob, rest) = content.split_at(batch.len as usize);
        content = rest;
        (batch, blob)
    })
}
