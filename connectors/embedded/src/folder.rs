//! The folder and who may write in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that this process has to itself.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held, never read again: the operating system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("{} is in use by process {holder}; stop that one first", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process id that the holder wrote down, or a question mark.
        holder: String,
    },
    /// It is not there, and only reading was wanted.
    #[error("{} is not a Killick folder: there is no {}", .path.display(), .missing)]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The file that was looked for.
        missing: &'static str,
    },
    /// The operating system refused.
    #[error("{}: {cause}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: std::io::Error,
    },
}

impl Folder {
    /// Opens the folder, making it if needed, and keeps every other process out of it.
    ///
    /// # Errors
    /// [`FolderError::InUse`] while another process has it; [`FolderError::Io`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let is_new = !path.is_dir();
        std::fs::create_dir_all(path).map_err(|cause| io(path, cause))?;
        let folder = Self::lock(path, true)?;
        if is_new && let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
            // What is acknowledged in a folder that a power cut forgets would be lost with it.
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(|cause| io(parent, cause))?;
        }
        Ok(folder)
    }

    /// Opens a folder that has to be there already.
    ///
    /// # Errors
    /// As for [`Folder::open`], and [`FolderError::Missing`].
    pub fn open_existing(path: &Path) -> Result<Self, FolderError> {
        if !path.join(LOCK).is_file() {
            return Err(FolderError::Missing { path: path.to_owned(), missing: LOCK });
        }
        Self::lock(path, false)
    }

    /// The process id that the holder of a folder wrote down, or a question mark; `None` where nobody has it.
    ///
    /// # Errors
    /// [`FolderError::Missing`]; [`FolderError::Io`].
    pub fn holder(path: &Path) -> Result<Option<String>, FolderError> {
        let file = path.join(LOCK);
        let lock = match File::open(&file) {
            Ok(lock) => lock,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Err(FolderError::Missing { path: path.to_owned(), missing: LOCK });
            }
            Err(cause) => return Err(io(&file, cause)),
        };
        // Shared, so that two who look do not meet; whoever wants to have it waits longer than we look.
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder_in(&lock))),
            Err(TryLockError::Error(cause)) => Err(io(&file, cause)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(path: &Path, create: bool) -> Result<Self, FolderError> {
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(&file)
            .map_err(|cause| io(&file, cause))?;
        // A holder that was killed this moment, or a child of ours between its birth and its program, lets go at once.
        let mut locked = lock.try_lock();
        for _ in 0..PATIENCE {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            locked = lock.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::InUse { path: path.to_owned(), holder: holder_in(&lock) });
            }
            Err(TryLockError::Error(cause)) => return Err(io(&file, cause)),
        }
        let noted = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.map_err(|cause| io(&file, cause))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// The process id in a lock file.
fn holder_in(lock: &File) -> String {
    let mut holder = String::new();
    // Only for messages; who cannot read it still learns that the folder is taken.
    let _ = Read::take(lock, 20).read_to_string(&mut holder);
    if holder.trim().is_empty() { "?".into() } else { holder.trim().into() }
}

const LOCK: &str = "lock";

/// Further tries to get the lock, 10 ms apart.
const PATIENCE: u32 = 20;

fn io(path: &Path, cause: std::io::Error) -> FolderError {
    FolderError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let held = Folder::open(place.path()).unwrap();
        let refused = Folder::open(place.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert_eq!(Folder::holder(place.path()).unwrap(), Some(std::process::id().to_string()));
        drop(held);
        assert_eq!(Folder::holder(place.path()).unwrap(), None);
        Folder::open_existing(place.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made_for_reading() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("nothing");
        assert!(matches!(Folder::open_existing(&missing), Err(FolderError::Missing { .. })));
        assert!(!missing.exists());
    }
}
