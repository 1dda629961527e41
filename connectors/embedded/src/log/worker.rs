//! A worker's hold on the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use killick_stages::ports::{Log, LogError, Polled};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::stage::Part;

use super::entry::{MAX_NAME, Move};
use super::writer::Fence;
use super::{Shared, refused};

/// Bytes that one poll takes from one partition; a frame is at most about 1 MiB.
const POLL_BYTES: usize = 1 << 20;
/// Bytes after which a poll takes from no further partition: the next one begins there.
const POLL_BYTES_ALL: usize = 8 << 20;
/// Bytes read at once when state is read back.
const REPLAY_BYTES: usize = 4 << 20;

/// One worker of a group, with the partitions that were given to it.
pub struct Worker {
    shared: Arc<Shared>,
    group: Arc<str>,
    id: u64,
    /// The one that the next poll reads first is in front.
    inputs: VecDeque<Input>,
    /// What went wrong in the last poll after it had read something.
    failed: Option<LogError>,
    paused: bool,
    /// What was published when the last poll found nothing.
    seen: u64,
}

struct Input {
    partition: Partition,
    number: u32,
    next: u64,
    announced: bool,
}

impl Worker {
    pub(super) fn join(shared: Arc<Shared>, group: &str, inputs: &[Partition]) -> Result<Self, LogError> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        if group.len() > MAX_NAME {
            return Err(refused(format!(
                "the name of a group has at most {MAX_NAME} bytes, not {}",
                group.len()
            )));
        }
        let group: Arc<str> = group.into();
        // All of them are there, before any of them changes hands; each once.
        let mut numbers = BTreeMap::new();
        for partition in inputs {
            numbers.insert(shared.number(partition)?, partition);
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let mut ours = VecDeque::with_capacity(inputs.len());
        // With the writer in hand no transaction of an earlier owner is under way: what it commits later is refused.
        let writer = shared.writer();
        let mut view = shared.view();
        for (number, partition) in numbers {
            let next = view.committed(&group, number).unwrap_or(0).max(view.start(number));
            view.own(&group, number, id);
            ours.push_back(Input { partition: partition.clone(), number, next, announced: false });
        }
        drop(view);
        drop(writer);
        // Who owned them learns of it at its next poll.
        shared.published.notify_all();
        Ok(Self { shared, group, id, inputs: ours, failed: None, paused: false, seen: 0 })
    }

    /// What changed in what is ours.
    fn assignments(&mut self, polled: &mut Vec<Polled>) {
        let view = self.shared.view();
        self.inputs.retain_mut(|input| {
            let ours = view.owns(&self.group, input.number, self.id);
            if !ours && input.announced {
                polled.push(Polled::Revoked(input.partition.clone()));
            } else if ours && !input.announced {
                polled.push(Polled::Assigned(input.partition.clone(), input.next));
                input.announced = true;
            }
            ours
        });
    }

    fn records(&mut self, polled: &mut Vec<Polled>) -> Result<(), LogError> {
        let mut bytes = 0;
        for _ in 0..self.inputs.len() {
            if bytes >= POLL_BYTES_ALL {
                break;
            }
            self.inputs.rotate_left(1);
            let Some(input) = self.inputs.back_mut() else { break };
            let records = match self.shared.read(&input.partition, input.number, input.next, POLL_BYTES) {
                Ok(records) => records,
                Err(error) if polled.is_empty() => return Err(error),
                Err(error) => {
                    // What was read of the others is given first.
                    self.failed = Some(error);
                    break;
                }
            };
            if let Some(last) = records.last() {
                input.next = last.offset + 1;
            }
            bytes += records.iter().map(|record| record.key.len() + record.value.len()).sum::<usize>();
            polled.extend(records.into_iter().map(Polled::Record));
        }
        Ok(())
    }
}

impl Log for Worker {
    fn poll(&mut self, wait: Duration) -> Result<Vec<Polled>, LogError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let deadline = Instant::now() + wait;
        loop {
            let version = self.shared.view().version;
            let mut polled = Vec::new();
            self.assignments(&mut polled);
            // An assignment is told first, so that state can be read back before records come.
            if polled.is_empty() && !self.paused && (version != self.seen || version == 0) {
                self.records(&mut polled)?;
            }
            if !polled.is_empty() {
                return Ok(polled);
            }
            if !self.paused {
                self.seen = version;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(polled);
            }
            self.shared.wait(version, rest);
        }
    }

    fn commit(&mut self, parts: &[(Partition, Part)]) -> Result<(), LogError> {
        let mut moves = Vec::with_capacity(parts.len());
        let mut inputs = Vec::with_capacity(parts.len());
        for (partition, part) in parts {
            let number = self.shared.number(partition)?;
            inputs.push((partition.clone(), number));
            moves.extend(part.through.map(|next| Move {
                group: Arc::clone(&self.group),
                partition: number,
                next,
            }));
        }
        let outputs = parts.iter().flat_map(|(_, part)| &part.outputs);
        let fence = Fence { group: Arc::clone(&self.group), worker: self.id, inputs };
        let pending = self.shared.pending(outputs, moves, Some(fence))?;
        self.shared.submit(pending)
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        let tick = Output::tick(partition.clone());
        let inputs = vec![(partition.clone(), self.shared.number(partition)?)];
        let fence = Fence { group: Arc::clone(&self.group), worker: self.id, inputs };
        let pending = self.shared.pending(std::iter::once(&tick), Vec::new(), Some(fence))?;
        self.shared.submit(pending)
    }

    fn replay(
        &mut self,
        partition: &Partition,
        since: Option<Micros>,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        let number = self.shared.number(partition)?;
        let (mut next, end) = {
            let view = self.shared.view();
            (
                since.map_or_else(|| view.start(number), |since| view.offset_at(number, since)),
                view.end(number),
            )
        };
        while next < end {
            let records = self.shared.read(partition, number, next, REPLAY_BYTES)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            let wanted = |record: &Record| {
                record.offset < end && since.is_none_or(|since| record.append_time >= since)
            };
            records.into_iter().filter(wanted).for_each(&mut *each);
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.seen = 0;
    }

    fn now(&self) -> Micros {
        super::now().max(self.shared.view().time)
    }
}
