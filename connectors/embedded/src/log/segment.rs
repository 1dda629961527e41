//! One file of the journal: reading it, and finding out after a crash how far it is good.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::entry::{Batch, Entry, FRAME, MAGIC, MAX_HEADER};

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
    /// Whether something that had been durable is bad; the place is `good`.
    pub damaged: bool,
}

/// The file name of a segment.
pub fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.seg"))
}

/// The numbers of all segments in the folder, ascending.
pub fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".seg")).map(str::parse::<u64>)
        {
            numbers.extend(number.ok());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Gives every good entry with the position of its blobs, in order. Checks headers, and blobs where `blobs` is set.
pub fn scan(file: &File, blobs: bool, mut each: impl FnMut(&Entry, u64, &[u8])) -> io::Result<Scan> {
    let len = file.metadata()?.len();
    let mut good = 0;
    while let Some((entry, position, content)) = entry_at(file, good, len, blobs)? {
        each(&entry, position, &content);
        good = position + entry.blob_len();
    }
    Ok(Scan { good, damaged: good < len && known_durable(file, good, len)? })
}

/// The first entry, if it is good.
pub fn first(file: &File) -> io::Result<Option<Entry>> {
    let len = file.metadata()?.len();
    Ok(entry_at(file, 0, len, true)?.map(|(entry, ..)| entry))
}

/// The entry at `position`, where its blobs begin, and their bytes if asked for; `None` if there is no good one.
fn entry_at(file: &File, position: u64, len: u64, blobs: bool) -> io::Result<Option<(Entry, u64, Vec<u8>)>> {
    let mut frame = [0; FRAME];
    if len.saturating_sub(position) < FRAME as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut frame, position)?;
    let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (header_len, start) = (word(4) as usize, position + FRAME as u64);
    if word(0) != MAGIC || header_len > MAX_HEADER || len - start < header_len as u64 {
        return Ok(None);
    }
    let mut header = vec![0; header_len];
    file.read_exact_at(&mut header, start)?;
    if crc32fast::hash(&header) != word(8) {
        return Ok(None);
    }
    let Ok(entry) = Entry::decode(&header) else { return Ok(None) };
    let content = start + header_len as u64;
    if len - content < entry.blob_len() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if blobs {
        // At most a flush: what was written in one piece fits into memory in one piece.
        bytes.resize(usize::try_from(entry.blob_len()).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut bytes, content)?;
        let mut rest = bytes.as_slice();
        for batch in &entry.batches {
            let (blob, others) = rest.split_at(batch.len as usize);
            if crc32fast::hash(blob) != batch.crc {
                return Ok(None);
            }
            rest = others;
        }
    }
    Ok(Some((entry, content, bytes)))
}

/// Whether an entry after the bad place at `bad` says that the place had been durable.
fn known_durable(file: &File, bad: u64, len: u64) -> io::Result<bool> {
    let mut window = vec![0; 1 << 20];
    let mut at = bad;
    while at < len {
        let size = usize::try_from(len - at).map_or(window.len(), |rest| rest.min(window.len()));
        file.read_exact_at(&mut window[..size], at)?;
        for offset in 0..size.saturating_sub(3) {
            if window[offset..offset + 4] == MAGIC.to_le_bytes() {
                let found = entry_at(file, at + offset as u64, len, false)?;
                if found.is_some_and(|(entry, ..)| entry.synced > bad) {
                    return Ok(true);
                }
            }
        }
        // The last three bytes may begin a magic that ends in the next window.
        at += (size.saturating_sub(3)).max(1) as u64;
    }
    Ok(false)
}

/// Reads a batch's blob and checks it; `None` if it is damaged.
pub fn blob(file: &File, place: &Place) -> io::Result<Option<Bytes>> {
    let mut bytes = vec![0; place.batch.len as usize];
    file.read_exact_at(&mut bytes, place.position)?;
    Ok((crc32fast::hash(&bytes) == place.batch.crc).then(|| bytes.into()))
}

/// Makes a file's creation, renaming or removal durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The records of the blobs of an entry, one a batch.
pub fn blobs_of<'a>(entry: &'a Entry, mut content: &'a [u8]) -> impl Iterator<Item = (&'a Batch, &'a [u8])> {
    entry.batches.iter().map(move |batch| {
        let (blob, rest) = content.split_at(batch.len as usize);
        content = rest;
        (batch, blob)
    })
}
