//! The files of a verification: which, and how much of them is read.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use killick_proof::Hash;
use killick_proof::receipt::MAX_RECEIPT;
use sha2::{Digest as _, Sha256};

use super::Refusal;

/// The receipts to verify: each file as it is given, of each folder the files in it by name.
pub fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>, Refusal> {
    let mut receipts = Vec::new();
    for path in given {
        if !path.is_dir() {
            receipts.push(path.clone());
            continue;
        }
        let before = receipts.len();
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let file = entry.with_context(|| format!("cannot read {}", path.display()))?.path();
            if is_receipt(&file) && !file.is_dir() {
                receipts.push(file);
            }
        }
        if receipts.len() == before {
            let why = format!("no *.json, *.cbor or *.tlog-proof in {}", path.display());
            return Err(Refusal::Usage(why));
        }
        receipts[before..].sort_unstable();
    }
    Ok(receipts)
}

/// Whether a file's name ends as that of a receipt does.
fn is_receipt(file: &Path) -> bool {
    file.extension().is_some_and(|kind| ["json", "cbor", "tlog-proof"].iter().any(|known| kind == *known))
}

/// Reads a receipt, at most one byte more than a receipt may have.
pub fn read_receipt(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        return read_all(io::stdin().lock(), MAX_RECEIPT);
    }
    read_bounded(path, MAX_RECEIPT)
}

/// Reads a regular file, at most one byte more than `max`: whoever gets more than `max` knows it is too large.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    read_all(open(path)?, max)
}

fn read_all(file: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file; anything else could keep us waiting for ever.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

/// Where payloads come from.
pub(super) enum Payloads {
    None,
    /// The SHA-256 of the one payload.
    One(Hash),
    Folder(PathBuf),
}

/// The payload of one receipt.
pub(super) enum Payload {
    /// No payloads were given.
    NotGiven,
    /// Its SHA-256.
    Digest(Hash),
    /// Payloads were given, and this receipt's cannot be read.
    Absent(String),
}

impl Payload {
    pub(super) const fn digest(&self) -> Option<&Hash> {
        match self {
            Self::Digest(digest) => Some(digest),
            Self::NotGiven | Self::Absent(_) => None,
        }
    }
}

impl Payloads {
    pub(super) fn open(path: Option<&Path>, receipts: usize) -> Result<Self, Refusal> {
        let Some(path) = path else { return Ok(Self::None) };
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if receipts > 1 {
            let why = "--payload has to be a folder where several receipts are verified";
            return Err(Refusal::Usage(why.to_owned()));
        }
        Ok(Self::One(digest(path).with_context(|| format!("cannot read {}", path.display()))?))
    }

    /// The payload of a receipt: in a folder the file with the receipt's name, without its ending.
    pub(super) fn of(&self, receipt: &Path) -> Payload {
        let folder = match self {
            Self::None => return Payload::NotGiven,
            Self::One(digest) => return Payload::Digest(*digest),
            Self::Folder(folder) => folder,
        };
        let name = if is_receipt(receipt) { receipt.file_stem() } else { receipt.file_name() };
        let path = folder.join(name.unwrap_or(OsStr::new("-")));
        match digest(&path) {
            Ok(digest) => Payload::Digest(digest),
            Err(error) => Payload::Absent(format!("cannot read {}: {error}", path.display())),
        }
    }
}

/// The SHA-256 of a file of any size.
fn digest(path: &Path) -> io::Result<Hash> {
    let mut file = open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash::new(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
