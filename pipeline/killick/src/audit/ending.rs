//! Reading that ends when it is told to: an audit may take longer than whoever stops it waits.

use killick_stages::ports::{LogError, Reader};
use killick_stages::record::{Partition, Record};
use tokio_util::sync::CancellationToken;

/// Reads until `stop` is cancelled; from then on every call fails.
pub struct UntilEnd<'a> {
    reader: Box<dyn Reader>,
    stop: &'a CancellationToken,
}

impl<'a> UntilEnd<'a> {
    /// The same reader, until `stop` is cancelled.
    pub fn new(reader: Box<dyn Reader>, stop: &'a CancellationToken) -> Self {
        Self { reader, stop }
    }

    fn reader(&mut self) -> Result<&mut dyn Reader, LogError> {
        match self.stop.is_cancelled() {
            true => Err(LogError::Over("it was told to end".to_owned())),
            false => Ok(&mut *self.reader),
        }
    }
}

impl Reader for UntilEnd<'_> {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        self.reader()?.partitions(topic)
    }

    fn range(&mut self, partition: &Partition) -> Result<(u64, u64), LogError> {
        self.reader()?.range(partition)
    }

    fn committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        self.reader()?.committed(group, partition)
    }

    fn read(&mut self, partition: &Partition, from: u64, max_bytes: usize) -> Result<Vec<Record>, LogError> {
        self.reader()?.read(partition, from, max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use killick_embedded::{Cleanup, EmbeddedLog, Folder, Settings, TopicSpec};
    use killick_stages::route::AUDIT;

    use super::*;

    #[test]
    fn nothing_more_is_read_from_when_the_end_is_told() {
        let place = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(place.path()).unwrap());
        let topic =
            TopicSpec { name: AUDIT.into(), partitions: 2, cleanup: Cleanup::Compact, readers: Vec::new() };
        let log = EmbeddedLog::open(&folder, &[topic], Settings::default()).unwrap();
        let stop = CancellationToken::new();
        let mut reader = UntilEnd::new(Box::new(log), &stop);
        let partition = Partition::new(AUDIT, 1);
        assert_eq!(reader.partitions(AUDIT).unwrap().len(), 2);
        assert_eq!(reader.range(&partition).unwrap(), (0, 0));
        assert_eq!(reader.committed("dedup", &partition).unwrap(), None);
        assert!(reader.read(&partition, 0, 1).unwrap().is_empty());
        stop.cancel();
        assert!(reader.partitions(AUDIT).is_err() && reader.range(&partition).is_err());
        assert!(reader.committed("dedup", &partition).is_err() && reader.read(&partition, 0, 1).is_err());
    }
}
