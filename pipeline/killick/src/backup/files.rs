//! The files of a backup: which there may be, how they are copied, and the list that makes them a whole.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The list, which is written last.
pub const MANIFEST: &str = "backup.json";
/// What this program writes and reads.
pub const FORMAT: u32 = 1;
/// Bytes in the longest list, and how many files it may have: a million segments are 64 TB.
const LONGEST: u64 = 256 << 20;
const MOST: usize = 1 << 20;
/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// What a backup is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the files mean: 1.
    pub format: u32,
    /// The instant that it shows, in µs since 1970.
    pub made: i64,
    /// The version of the program that made it.
    pub program: String,
    /// Every file.
    pub files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it is in the folder.
    pub name: String,
    /// Its bytes.
    pub len: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

impl Manifest {
    /// The list of a backup.
    ///
    /// # Errors
    /// There is none, so the backup is not whole; or it is not one of ours, or names files that no backup has.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let about = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("{} is no whole backup: there is no {MANIFEST}; make another one", folder.display())
            }
            about => about.with_context(|| path.display().to_string())?,
        };
        ensure!(about.len() <= LONGEST, "{} has {} bytes: no list is that long", path.display(), about.len());
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no list of a backup", path.display()))?;
        let format = manifest.format;
        ensure!(
            format == FORMAT,
            "{} has the format {format}, and this program knows {FORMAT}",
            path.display()
        );
        ensure!(manifest.files.len() <= MOST, "{} names more than {MOST} files", path.display());
        let mut names = BTreeSet::new();
        for entry in &manifest.files {
            ensure!(
                is_name(&entry.name) && names.insert(entry.name.as_str()),
                "{} names {:?}, which no backup has, or has twice",
                path.display(),
                entry.name
            );
        }
        let has_log = names.iter().any(|name| name.starts_with("log/"));
        ensure!(has_log && names.contains("catalog.redb"), "{} names no log, or no catalog", path.display());
        Ok(manifest)
    }

    /// Writes the list: then the backup is whole. Durable when it returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_whole(folder, MANIFEST, &serde_json::to_vec_pretty(self)?)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.len).fold(0, u64::saturating_add)
    }
}

/// Writes a file of a folder at once: it is there whole, or not. Durable when it returns.
///
/// # Errors
/// The file cannot be written.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let [draft, path] = [folder.join(format!("{name}.new")), folder.join(name)];
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

/// Whether a folder has a file that is called so, and nothing else could be meant by it.
fn is_name(name: &str) -> bool {
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.split_once('/') {
        None => ["catalog.redb", "trust.json"].contains(&name),
        Some(("chain", name)) => name == "blocks",
        Some(("log", name)) => name.strip_suffix(".seg").is_some_and(digits),
        Some(("keys", name)) => is_key(name),
        Some(_) => false,
    }
}

/// Whether a file of the folder of keys belongs to it.
fn is_key(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.starts_with('.') && (1..=200).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The files of the folder of keys.
///
/// # Errors
/// It cannot be read, or there is something in it that would not be copied.
pub fn keys(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_str().filter(|name| is_key(name)).map(str::to_owned);
        match name {
            Some(name) if entry.file_type()?.is_file() => names.push(name),
            _ => bail!("{} is no key: a backup would not have it; move it elsewhere", entry.path().display()),
        }
    }
    names.sort();
    Ok(names)
}

/// Makes a folder for its owner alone; one that is there has to be empty.
///
/// # Errors
/// It is not empty, or cannot be made.
pub fn make_empty(folder: &Path) -> Result<()> {
    let shown = || folder.display().to_string();
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_empty = fs::read_dir(folder).with_context(shown)?.next().is_none();
            ensure!(is_empty, "{} is there and not empty: name another folder", folder.display());
            Ok(())
        }
        made => made.with_context(shown),
    }
}

/// Copies a file, or the first `len` bytes of it, to one that is not there yet and that only its owner can read. Gives its
/// bytes and their SHA-256; durable when it returns.
///
/// # Errors
/// It cannot be read or written, or has fewer bytes.
pub fn copy(from: &Path, to: &Path, len: Option<u64>) -> Result<(u64, String)> {
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| to.display().to_string())?;
    let (mut hash, mut copied) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let want = len.map_or(chunk.len(), |len| {
            usize::try_from(len - copied).map_or(chunk.len(), |left| left.min(chunk.len()))
        });
        if want == 0 {
            break;
        }
        let count = source.read(&mut chunk[..want]).with_context(|| from.display().to_string())?;
        if count == 0 {
            match len {
                Some(len) => bail!("{} has {copied} bytes, and should have {len}", from.display()),
                None => break,
            }
        }
        hash.update(&chunk[..count]);
        target.write_all(&chunk[..count]).with_context(|| to.display().to_string())?;
        copied += count as u64;
    }
    target.sync_all().with_context(|| to.display().to_string())?;
    Ok((copied, hex::encode(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_only_files_that_a_folder_has() {
        for name in ["catalog.redb", "trust.json", "chain/blocks", "log/000000000001.seg", "keys/log-0.key"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "/",
            ".",
            "..",
            "lock",
            "restored.json",
            "backup.json",
            "/etc/passwd",
            "../catalog.redb",
            "keys/",
            "keys/..",
            "keys/.ssh",
            "keys/a/b",
            "log/1.seg",
            "log/000000000001.new",
            "log/../../x",
            "chain/lock",
            "chain/blocks/x",
            "keys/a\0b",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
