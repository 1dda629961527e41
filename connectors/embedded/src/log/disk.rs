//! What the journal does to the disk: every effect that a crash or a failure can come between.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment;

/// The disk. Tests make its effects fail.
#[derive(Clone, Default)]
pub struct Disk {
    #[cfg(test)]
    pub faults: crate::faults::Faults,
}

impl Disk {
    /// Writes all of `bytes`; where it fails, some of them may be there.
    pub fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(part) = self.faults.part_of(bytes) {
            file.write_all_at(part, position)?;
        }
        self.effect(|| file.write_all_at(bytes, position))
    }

    /// Cuts a file.
    pub fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.effect(|| file.set_len(len))
    }

    /// Makes what was written to a file durable.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.effect(|| self.flush(file))?;
        #[cfg(test)]
        self.faults.synced(file)?;
        Ok(())
    }

    /// Makes a file's creation, renaming or removal durable.
    pub fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.effect(|| self.flush(&File::open(folder)?))
    }

    /// Writes a new segment that begins with `bytes`, durably but under another name.
    pub fn draft(&self, folder: &Path, number: u64, bytes: &[u8]) -> io::Result<File> {
        let path = segment::draft(folder, number);
        let file = self
            .effect(|| OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path))?;
        if let Err(error) = self.write(&file, bytes, 0).and_then(|()| self.sync(&file)) {
            // Where the disk is full it should not fill it; if it stays, the next try or start removes it.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(file)
    }

    /// Gives a drafted segment its name: from now on it is the last of the journal.
    pub fn name(&self, folder: &Path, number: u64) -> io::Result<()> {
        self.effect(|| std::fs::rename(segment::draft(folder, number), segment::path(folder, number)))?;
        self.sync_folder(folder)
    }

    /// Removes a segment durably.
    pub fn remove(&self, folder: &Path, number: u64) -> io::Result<()> {
        self.effect(|| std::fs::remove_file(segment::path(folder, number)))?;
        self.sync_folder(folder)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.are_planned() {
            return Ok(()); // what is durable is simulated
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
