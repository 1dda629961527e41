//! The folder that a log is published in.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use killick_proof::tiles::Tile;

use crate::verify::files::read_bounded;

/// The file that becomes one of the others when it is whole.
const DRAFT: &str = ".new";
/// The file that keeps a second publisher out.
const LOCK: &str = ".lock";

/// Where the files of one log are put.
pub trait Shelf {
    /// Reads a file, of which no more than `most` bytes and one are kept; `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>>;

    /// Puts a file there, whole or not at all, in place of one that is there. Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Takes the partial forms of a tile away, and of its bundle: the full one is there.
    ///
    /// # Errors
    /// They cannot be removed.
    fn remove_partial(&self, tile: Tile) -> Result<()>;
}

/// A folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at that path; made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: PathBuf) -> Result<Self> {
        make(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }
}

impl Shelf for Folder {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(path);
        match read_bounded(&path, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(path);
        let folder = path.parent().unwrap_or(&self.path);
        let draft = self.path.join(DRAFT);
        let write = || {
            make(folder)?;
            let mut file = File::create(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| path.display().to_string())
    }

    fn remove_partial(&self, tile: Tile) -> Result<()> {
        let bundle = (tile.level() == 0).then(|| tile.entries_path());
        for path in [Some(tile.path()), bundle].into_iter().flatten() {
            let partial = self.path.join(path + ".p");
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| partial.display().to_string());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes a folder and those that it is in, durably.
///
/// # Errors
/// They cannot be made.
pub fn make(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent)?.sync_all()
}

/// A folder that no other process of ours writes to while this is held.
#[derive(Debug)]
pub struct Hold {
    /// The operating system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Hold {
    /// Takes a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Another process has it, or it cannot be made.
    pub fn take(folder: &Path) -> Result<Self> {
        make(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another process writes to {}; stop that one first", folder.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }
}
