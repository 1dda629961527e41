//! The file of the catalog: the store in it, opened anew where a failure has closed it.
//!
//! After any failure of the disk the store takes nothing more until it is opened again. A disk that was full, and is
//! not any more, should not need that of an operator: here the next call does it. Only a sync that failed is the end
//! for this process, since nobody can say any more what the disk holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use killick_stages::ports::CatalogError;
use redb::{Database, DatabaseError, StorageBackend, StorageError};
use tracing::{error, warn};

/// Memory that the store may use for what it read, in bytes.
const CACHE: usize = 32 << 20;

/// The store, open or to be opened anew.
pub struct Store {
    path: PathBuf,
    disk: Disk,
    state: RwLock<State>,
}

struct State {
    database: Option<Database>,
    /// Counts the times it was opened, so that of several who meet a failure one opens it again.
    opened: u64,
}

impl Store {
    /// Opens the store in the file at `path`, making it if it is not there.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if the file is not what it should be; [`CatalogError::Failed`].
    pub fn open(path: &Path, disk: Disk) -> Result<Self, CatalogError> {
        let database = open(path, &disk)?;
        let state = RwLock::new(State { database: Some(database), opened: 1 });
        Ok(Self { path: path.to_owned(), disk, state })
    }

    /// Works with the store.
    ///
    /// # Errors
    /// Those of `work`; [`CatalogError::Damaged`] once a sync has failed; [`CatalogError::Failed`] while the store
    /// cannot be opened anew.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let (outcome, opened) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let closed = || Err(CatalogError::Failed("it is closed after a failure".into()));
            (state.database.as_ref().map_or_else(closed, work), state.opened)
        };
        if matches!(outcome, Err(CatalogError::Failed(_))) {
            self.mend(opened)?;
        }
        outcome
    }

    /// Opens the store anew, unless another thread has done so.
    fn mend(&self, opened: u64) -> Result<(), CatalogError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.disk.is_unsure.load(Ordering::Acquire) {
            let path = self.path.display();
            return Err(CatalogError::Damaged(format!(
                "the disk did not confirm a write to {path}: start again"
            )));
        }
        if state.opened != opened {
            return Ok(());
        }
        // One file, one store: the old one lets go first.
        state.database = None;
        match open(&self.path, &self.disk) {
            Ok(database) => {
                warn!(path = %self.path.display(), "opened anew after a failure");
                *state = State { database: Some(database), opened: opened + 1 };
                Ok(())
            }
            Err(error @ CatalogError::Failed(_)) => {
                warn!(path = %self.path.display(), %error, "cannot be opened anew yet");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path, disk: &Disk) -> Result<Database, CatalogError> {
    let corrupted = |why: &dyn std::fmt::Display| CatalogError::Damaged(format!("{}: {why}", path.display()));
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    // The folder keeps other processes out; this, a second catalog of ours.
    file.try_lock().map_err(|error| failed(io::Error::from(error)))?;
    // What a process that died had written but not confirmed is read from now on: it has to be durable first.
    disk.flush(&file).map_err(failed)?;
    let file = OnDisk { file, disk: disk.clone() };
    Database::builder().set_cache_size(CACHE).create_with_backend(file).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Corrupted(why)) => corrupted(&why),
        DatabaseError::Storage(StorageError::Io(why)) if why.kind() == io::ErrorKind::InvalidData => {
            corrupted(&why)
        }
        error => failed(error),
    })
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> CatalogError {
    CatalogError::Failed(Box::new(error))
}

/// The disk. Tests make its effects fail.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Whether a sync has failed.
    is_unsure: Arc<AtomicBool>,
    #[cfg(test)]
    faults: crate::faults::Faults,
}

impl Disk {
    #[cfg(test)]
    pub fn with(faults: &crate::faults::Faults) -> Self {
        Self { faults: faults.clone(), ..Self::default() }
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.are_planned() {
            return Ok(()); // no test of this one cuts the power
        }
        file.sync_data()
    }

    /// An effect may fail in two ways: it did not happen, or it did and nobody knows.
    fn effect<T>(&self, effect: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        self.faults.before()?;
        let done = effect()?;
        #[cfg(test)]
        self.faults.after()?;
        Ok(done)
    }
}

/// The file as the store uses it.
#[derive(Debug)]
struct OnDisk {
    file: File,
    disk: Disk,
}

impl StorageBackend for OnDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.effect(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.disk.effect(|| self.disk.flush(&self.file));
        if let Err(error) = &synced {
            error!(%error, "the disk did not confirm a write: the catalog takes nothing more");
            self.disk.is_unsure.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(part) = self.disk.faults.part_of(data) {
            self.file.write_all_at(part, offset)?;
        }
        self.disk.effect(|| self.file.write_all_at(data, offset))
    }
}
