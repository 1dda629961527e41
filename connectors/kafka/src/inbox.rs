//! What the polling thread read and the stage has not taken yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use killick_stages::ports::LogError;
use killick_stages::record::{Partition, Record};

use crate::client::failed;
use crate::hold::Owned;

/// What a record costs beside its bytes.
const RECORD: usize = 200;

/// What the stage is told, with the number of the assignment.
#[derive(Debug)]
pub enum Event {
    Assigned(Partition, Owned),
    Revoked(Partition),
    Record(Record),
}

/// What was read and not taken yet.
pub struct Inbox {
    events: VecDeque<Event>,
    bytes: usize,
    /// Behind the last record that came of each partition.
    ends: BTreeMap<Partition, u64>,
    /// Why nothing more will come.
    pub over: Option<String>,
    /// An error that may pass, told once.
    pub failed: Option<String>,
    pub is_damaged: Option<String>,
    /// When the stage last asked for something.
    pub beat: Instant,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            ends: BTreeMap::new(),
            over: None,
            failed: None,
            is_damaged: None,
            beat: Instant::now(),
        }
    }

    /// What the records cost that wait to be taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Behind the last record of this partition that came since it is ours, if any did.
    pub fn end(&self, partition: &Partition) -> Option<u64> {
        self.ends.get(partition).copied()
    }

    pub fn put(&mut self, records: Vec<Record>) {
        for record in &records {
            match self.ends.get_mut(&record.partition) {
                Some(end) => *end = record.offset + 1,
                None => _ = self.ends.insert(record.partition.clone(), record.offset + 1),
            }
        }
        self.bytes += records.iter().map(cost).sum::<usize>();
        self.events.extend(records.into_iter().map(Event::Record));
    }

    pub fn assign(&mut self, partition: Partition, owned: Owned) {
        self.ends.remove(&partition);
        self.events.push_back(Event::Assigned(partition, owned));
    }

    /// At most so many bytes of records; only changes of what is ours while `paused`.
    pub fn take(&mut self, bytes: usize, paused: bool) -> Vec<Event> {
        let mut taken = Vec::new();
        let mut size = 0;
        while let Some(event) = self.events.pop_front() {
            match &event {
                Event::Record(_) if paused || size >= bytes => {
                    self.events.push_front(event);
                    break;
                }
                Event::Record(record) => {
                    let own = cost(record);
                    size += own;
                    self.bytes -= own;
                }
                _ => {}
            }
            taken.push(event);
        }
        taken
    }

    /// What went wrong, told when all that came before it is taken.
    pub fn fault(&mut self) -> Result<(), LogError> {
        if let Some(why) = &self.is_damaged {
            return Err(LogError::Damaged(why.clone()));
        }
        if let Some(why) = &self.over {
            return Err(LogError::Over(why.clone()));
        }
        self.failed.take().map_or(Ok(()), |why| Err(failed(why)))
    }

    /// What was read of a partition is void.
    pub fn forget(&mut self, gone: &BTreeSet<Partition>) {
        let mut untold = BTreeSet::new();
        self.ends.retain(|partition, _| !gone.contains(partition));
        self.events.retain(|event| match event {
            Event::Assigned(partition, ..) if gone.contains(partition) => {
                untold.insert(partition.clone());
                false
            }
            Event::Record(record) => !gone.contains(&record.partition),
            _ => true,
        });
        self.bytes = self
            .events
            .iter()
            .map(|event| match event {
                Event::Record(record) => cost(record),
                _ => 0,
            })
            .sum();
        for partition in gone.difference(&untold) {
            self.events.push_front(Event::Revoked(partition.clone()));
        }
    }
}

fn cost(record: &Record) -> usize {
    let headers: usize =
        record.headers.iter().map(|header| header.name.len() + header.value.len() + 60).sum();
    record.key.len() + record.value.len() + headers + RECORD
}
