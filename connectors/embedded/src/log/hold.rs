//! The log as it is at one instant, held for whoever copies it: nothing of it goes while it is held.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use killick_stages::ports::LogError;

use super::{EmbeddedLog, Shared, failed, segment};

/// The segments of an instant. They are what a process that died then would have left: whole transactions, all of them
/// durable. While this lives no segment goes, so whoever holds it for long has to have the disk for what comes.
pub struct Held {
    shared: Arc<Shared>,
    segments: Vec<HeldSegment>,
}

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSegment {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that belong to the instant: what stands behind them came later.
    pub len: u64,
}

impl Held {
    /// The segments in order.
    pub fn segments(&self) -> &[HeldSegment] {
        &self.segments
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::AcqRel);
    }
}

impl EmbeddedLog {
    /// Holds the log as it is now. Nothing is committed while `meanwhile` runs, so what that sees belongs to the same
    /// instant: it should be short.
    ///
    /// # Errors
    /// [`LogError`]; a log that takes no more writes can be held for all that.
    pub fn hold<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<(Held, T), LogError> {
        let writer = self.0.writer();
        // With the writer in hand, as segments go: none of them goes between the look and the hold.
        self.0.held.fetch_add(1, Ordering::AcqRel);
        let mut held = Held { shared: Arc::clone(&self.0), segments: Vec::new() };
        let (active, end) = writer.place();
        for number in self.0.view().numbers() {
            let path = segment::path(&self.0.folder, number);
            let len = if number == active { end } else { std::fs::metadata(&path).map_err(failed)?.len() };
            held.segments.push(HeldSegment { path, len });
        }
        let seen = meanwhile();
        drop(writer);
        Ok((held, seen))
    }
}
