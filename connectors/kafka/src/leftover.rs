//! What transactions leave open that a broker forgot to end.
//!
//! A broker that restarts takes partitions that have no leader yet for removed, and does not end a transaction there that it
//! ends everywhere else (Kafka 3 to 4.3 at least, with KRaft). What is left open is not void: readers wait before it, and the
//! end of the next transaction of the same name is its end, too; so what was undone elsewhere would be committed there. That
//! is why a producer writes nowhere before what stood there at its start is ended. Where it is not, the mark on the
//! first record tells which transaction it is, the group's offsets tell what became of it, and it is undone for good, or
//! goes with the next one. Where that cannot be known, nothing is written until somebody has ended it by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use killick_stages::ports::LogError;
use killick_stages::record::{Output, Partition};
use rdkafka::producer::Producer as _;
use tracing::warn;

use crate::client::failed;
use crate::names::Names;
use crate::reader::KafkaReader;
use crate::transactor::{Committed, Fate, Group, Last, Transactor, send};

/// The header of the first record of a transaction in each partition.
pub const MARK: &str = "killick-transaction";
/// Bytes that it may add to a record.
pub const MARK_BYTES: usize = 1 << 10;
/// Transactions of others on the same partition are over by then.
pub const OTHERS: Duration = Duration::from_secs(1);
/// So long it is waited for, at a time.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Which transaction a record belongs to: its token, and one of the offsets that it commits. As text
/// `token topic/partition offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    token: String,
    partition: Partition,
    next: u64,
}

impl Mark {
    /// The mark of a transaction.
    pub fn of(token: &str, partition: &Partition, next: u64) -> Self {
        Self { token: token.to_owned(), partition: partition.clone(), next }
    }

    /// The mark that this is the text of.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        let (token, partition, next) = (words.next()?, words.next()?, words.next()?);
        let (topic, number) = partition.rsplit_once('/')?;
        let partition = Partition::new(topic, number.parse().ok()?);
        Some(Self { token: token.to_owned(), partition, next: next.parse().ok()? })
    }

    /// What became of the transaction, as the group's offsets have it. `is_newest` says that its worker has committed nothing
    /// since.
    fn fate(&self, worker: &str, found: &Committed, is_newest: bool) -> Fate {
        let Some((next, token)) = found.get(&self.partition) else { return Fate::Aborted };
        if *token == self.token {
            Fate::Committed
        // Offsets go on only; and what the same worker has committed before was not committed over it.
        } else if *next < self.next || is_newest && is_of(token, worker) {
            Fate::Aborted
        } else {
            Fate::Unknown
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.token, self.partition, self.next)
    }
}

/// Whether a token is one of this worker's: its name, and two numbers behind it.
fn is_of(token: &str, worker: &str) -> bool {
    token.strip_prefix(worker).is_some_and(|rest| rest.starts_with('/') && rest.matches('/').count() == 2)
}

/// What may still be open.
struct Open {
    /// Partitions.
    partitions: Vec<Partition>,
    /// Where they ended when the producer was there.
    ends: BTreeMap<Partition, u64>,
    /// Partitions of the group's offsets.
    pending: Vec<Partition>,
    /// Why these cannot be read.
    trouble: Option<LogError>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.pending.is_empty()
    }

    /// Looks again.
    fn look(&mut self, group: &Group<'_>, reader: &mut KafkaReader) -> Result<(), LogError> {
        let stable = reader.stable_ends(&self.partitions)?;
        self.partitions.retain(|partition| stable.get(partition) < self.ends.get(partition));
        // One by one: with many workers there is no moment at which none has a transaction.
        while let Some(partition) = self.pending.last() {
            if let Err(error) = (group.committed)(std::slice::from_ref(partition)) {
                self.trouble = Some(error);
                break;
            }
            self.pending.pop();
        }
        Ok(())
    }

    fn error(self) -> LogError {
        match self.trouble {
            Some(trouble) if self.partitions.is_empty() => trouble,
            _ => stays_open(&show(&self.partitions)),
        }
    }
}

impl Transactor {
    /// Waits until nothing is open, where the next transaction writes and in the group's offsets, that was begun before this
    /// producer was made; ends what a broker forgot.
    ///
    /// # Errors
    /// [`LogError::Failed`] if it stays open, or the brokers cannot be asked.
    pub fn make_clear(
        &mut self,
        wrote: &BTreeSet<Partition>,
        group: &Group<'_>,
        reader: &mut KafkaReader,
    ) -> Result<(), LogError> {
        // Its start ends what the brokers know of.
        self.producer()?;
        let mut partitions: BTreeSet<_> = wrote.difference(&self.clear).cloned().collect();
        let mut pending = Vec::new();
        if !self.is_clear {
            match &self.last {
                Some(last) if !last.is_found => {
                    pending.extend(last.offsets.keys().cloned());
                    partitions.extend(last.wrote.iter().cloned());
                }
                // Whatever a process before this one did.
                _ => {
                    pending = (group.inputs)()?;
                    partitions.extend((group.outputs)()?);
                }
            }
        }
        if partitions.is_empty() && pending.is_empty() {
            return Ok(());
        }
        let mut looked_at = partitions.clone();
        let partitions: Vec<_> = partitions.into_iter().collect();
        let ends = reader.ends(&partitions)?;
        let mut open = Open { partitions, ends, pending, trouble: None };
        let (begun, mut is_swept) = (Instant::now(), false);
        loop {
            open.look(group, reader)?;
            if open.is_empty() {
                break;
            }
            if begun.elapsed() > OTHERS {
                for other in self.identify(&mut open, wrote, group, reader)? {
                    looked_at.remove(&other);
                }
                if open.is_empty() || self.goes_with_the_next(&open) {
                    break;
                }
                if !is_swept {
                    self.sweep(&open, group)?;
                    is_swept = true;
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(open.error());
            }
            std::thread::sleep(LOOK);
        }
        self.clear.extend(looked_at);
        self.is_clear = true;
        Ok(())
    }

    /// In a process that has just begun: finds out which transaction of the process before is open, and what became of it.
    /// Gives back the partitions that nobody has to wait for now.
    fn identify(
        &mut self,
        open: &mut Open,
        wrote: &BTreeSet<Partition>,
        group: &Group<'_>,
        reader: &mut KafkaReader,
    ) -> Result<BTreeSet<Partition>, LogError> {
        let mut others = BTreeSet::new();
        if self.last.as_ref().is_some_and(|last| !last.is_found) {
            return Ok(others);
        }
        for partition in &open.partitions {
            let mark = reader.first_mark(partition)?;
            let Some(mark) = mark.filter(|mark| is_of(&mark.token, &self.id)) else {
                // Another worker's, who ends it: where nothing is to be written now, it need not be waited for.
                if !wrote.contains(partition) && !self.wrote(partition) {
                    others.insert(partition.clone());
                }
                continue;
            };
            let last = match &mut self.last {
                Some(last) => last,
                None => {
                    let found = (group.committed)(std::slice::from_ref(&mark.partition))?;
                    let fate = mark.fate(&self.id, &found, true);
                    let offsets = BTreeMap::from([(mark.partition.clone(), mark.next)]);
                    self.last.insert(Last::found(mark.token.clone(), offsets, fate))
                }
            };
            if last.token == mark.token {
                last.wrote.insert(partition.clone());
            }
        }
        open.partitions.retain(|partition| !others.contains(partition));
        Ok(others)
    }

    fn wrote(&self, partition: &Partition) -> bool {
        self.last.as_ref().is_some_and(|last| last.wrote.contains(partition))
    }

    /// Whether all that is open belongs to transactions that are in the log: then the end of the next one is the right one.
    fn goes_with_the_next(&mut self, open: &Open) -> bool {
        let last = self.last.as_ref().filter(|last| last.fate == Fate::Committed);
        let is_in_the_log = |partition: &Partition| {
            self.carried.contains(partition) || last.is_some_and(|last| last.wrote.contains(partition))
        };
        if !open.pending.is_empty() || !open.partitions.iter().all(is_in_the_log) {
            return false;
        }
        let partitions = show(&open.partitions);
        warn!(worker = self.id, partitions, "the brokers forgot to end a transaction; the next one ends it");
        self.carried.extend(open.partitions.iter().cloned());
        true
    }

    /// Undoes what the brokers forgot to undo: with another transaction in the same places, of which nothing stays either.
    fn sweep(&mut self, open: &Open, group: &Group<'_>) -> Result<(), LogError> {
        let Some(last) = self.last.as_ref().filter(|last| last.fate == Fate::Aborted) else { return Ok(()) };
        let is_its = |partition: &&Partition| last.wrote.contains(*partition);
        let partitions: Vec<Partition> = open.partitions.iter().filter(is_its).cloned().collect();
        // Of any generation: nothing of it stays.
        let metadata = group.metadata.filter(|_| !open.pending.is_empty());
        if partitions.is_empty() && metadata.is_none() {
            return Ok(());
        }
        let (places, offsets) = (show(&partitions), metadata.is_some());
        warn!(worker = self.id, places, offsets, "the brokers forgot to undo a transaction; undoing it");
        let offsets = self.offsets(&last.offsets, &last.token)?;
        let (names, timeout): (Names, Duration) = (self.names.clone(), self.timeout);
        let (producer, watch) = self.producer()?;
        let outcome = (|| {
            watch.begin();
            producer.begin_transaction().map_err(failed)?;
            let deadline = Instant::now() + timeout;
            for partition in partitions {
                send(producer, watch, &names, &Output::tick(partition), None, deadline)?;
            }
            watch.wait(deadline)?;
            if let Some(metadata) = metadata {
                producer.send_offsets_to_transaction(&offsets, metadata, timeout).map_err(failed)?;
            }
            producer.abort_transaction(timeout).map_err(failed)
        })();
        if outcome.is_err() {
            self.discard();
        }
        outcome
    }
}

/// Names of partitions, for people.
fn show(partitions: &[Partition]) -> String {
    partitions.iter().map(Partition::to_string).collect::<Vec<_>>().join(" ")
}

/// A transaction that somebody has to end.
pub fn stays_open(partitions: &str) -> LogError {
    failed(format!(
        "a transaction stays open in {partitions}: a broker that restarts may forget to end one; `kafka-transactions.sh \
         find-hanging` names it, and the README says how to end it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(token: &str) -> Mark {
        Mark::of(token, &Partition::new("unique", 3), 100)
    }

    #[test]
    fn a_mark_is_read_back() {
        let mark = mark("dedup-0/00ff/7");
        assert_eq!(Mark::parse(mark.to_string().as_bytes()), Some(mark));
        for broken in ["", "a", "a b", "a b/1", "a b/x 1", "a b/1 x", "a b/1 -1", "a b 1", "\u{fffd}"] {
            assert_eq!(Mark::parse(broken.as_bytes()), None, "{broken:?}");
        }
        assert_eq!(Mark::parse(b"a b/1 1\xff"), None);
    }

    #[test]
    fn the_groups_offsets_tell_what_became_of_a_transaction() {
        let fate = |next: u64, token: &str, is_newest| {
            let found = Committed::from([(Partition::new("unique", 3), (next, token.to_owned()))]);
            mark("a-1/5/9").fate("a-1", &found, is_newest)
        };
        assert_eq!(mark("a-1/5/9").fate("a-1", &Committed::new(), true), Fate::Aborted);
        assert_eq!(fate(100, "a-1/5/9", true), Fate::Committed);
        assert_eq!(fate(99, "a-1/5/8", false), Fate::Aborted);
        assert_eq!(fate(99, "b-1/5/8", false), Fate::Aborted);
        // It moved nothing: who committed before it says whether it was.
        assert_eq!(fate(100, "a-1/5/8", true), Fate::Aborted);
        assert_eq!(fate(100, "a-1/5/8", false), Fate::Unknown);
        for other in ["b-1/7/1", "a-11/7/1", "a-1-1/7/1", "a-1/x/7/1", ""] {
            assert_eq!(fate(100, other, true), Fate::Unknown, "{other}");
            assert_eq!(fate(101, other, true), Fate::Unknown, "{other}");
        }
    }
}
