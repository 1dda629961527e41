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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;
    use std::time::Duration;

    use killick_stages::ports::Producer as _;
    use killick_stages::record::{Output, Partition};

    use super::*;
    use crate::folder::Folder;
    use crate::log::{Cleanup, Settings, TopicSpec};

    const SMALL: Settings = Settings { segment_bytes: 2_000, max_record: 1_000 };

    fn open(path: &Path) -> EmbeddedLog {
        let cleanup = Cleanup::Delete(Duration::from_millis(1));
        let topic = TopicSpec { name: "in".into(), partitions: 1, cleanup, readers: Vec::new() };
        EmbeddedLog::open(&Arc::new(Folder::open(path).unwrap()), &[topic], SMALL).unwrap()
    }

    fn put(log: &EmbeddedLog, count: usize) {
        for _ in 0..count {
            log.produce(&[Output::new(Partition::new("in", 0), "key", vec![7; 100])]).unwrap();
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Copies what is held, as a backup does.
    fn copy(held: &Held, to: &Path) {
        std::fs::create_dir_all(to.join("log")).unwrap();
        for HeldSegment { path, len } in held.segments() {
            let mut bytes = Vec::new();
            std::fs::File::open(path).unwrap().take(*len).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, *len);
            std::fs::write(to.join("log").join(path.file_name().unwrap()), bytes).unwrap();
        }
    }

    #[test]
    fn what_is_held_stays_until_nobody_holds_it_and_is_the_log_of_that_instant() {
        let [place, to] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let log = open(place.path());
        put(&log, 100);
        let partition = Partition::new("in", 0);
        let (held, (first, end)) = log.hold(|| log.range(&partition).unwrap()).unwrap();
        let (also, ()) = log.hold(|| ()).unwrap();
        put(&log, 300);
        assert_eq!(log.range(&partition).unwrap(), (first, end + 300), "nothing goes");
        copy(&held, to.path());
        assert_eq!(crate::log::look(to.path(), false).unwrap().damage, Vec::<String>::new());
        let copied = open(to.path());
        assert_eq!(copied.range(&partition).unwrap().1, end);
        put(&copied, 10);
        assert_eq!(copied.range(&partition).unwrap().1, end + 10, "it goes on from there");
        drop(held);
        put(&log, 100);
        assert_eq!(log.range(&partition).unwrap().0, first, "the other still has it");
        drop(also);
        put(&log, 100);
        assert!(log.range(&partition).unwrap().0 > end, "then it goes");
    }
}
