//! What was done to the pipeline, and when: a file that a history can be understood by.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// The timeline of a run: a line for each thing that was done or happened, in seconds since the beginning.
#[derive(Debug)]
pub struct Timeline {
    begun: Instant,
    file: Mutex<File>,
    is_told: bool,
}

impl Timeline {
    /// A timeline in a new file; also on standard error if it is to be told.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(path: &Path, is_told: bool) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { begun: Instant::now(), file: Mutex::new(file), is_told })
    }

    /// Since when it counts.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Writes down what was done or happened.
    pub fn note(&self, what: impl fmt::Display) {
        let line = format!("{:9.3} {what}\n", self.begun.elapsed().as_secs_f64());
        // A timeline with a gap is better than a run that ends for it.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if self.is_told {
            eprint!("{line}");
        }
    }
}
