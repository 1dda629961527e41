//! Looks from outside how far the stages are, and what came out.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use killick_kafka::{KafkaReader, Settings};
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;
use killick_proof::statement::Statement;
use killick_stages::frame::AnchorFrame;
use killick_stages::ports::{BatchRecord, Reader as _};
use killick_stages::ready::ProofReady;
use killick_stages::record::{Partition, Record};
use killick_stages::route::{ANCHORS, BATCHES, CHECKPOINTS, PROOFS};

use crate::events::number_of;
use crate::process::Running;

/// Between two looks, the shortest and the longest time: looks cost the brokers something too.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// A look comes when so much of the time has gone again: the end is known as exactly.
const SHARE: u32 = 100;
/// How long nothing may move.
const STILL: Duration = Duration::from_secs(180);
/// Bytes read at once.
const BYTES: usize = 4 << 20;

/// Reads a deployment's log.
pub struct Eye {
    reader: KafkaReader,
}

/// The offsets behind the last records of partitions.
pub type Ends = Vec<(Partition, u64)>;

impl Eye {
    /// Opens one; nothing is asked yet.
    ///
    /// # Errors
    /// The settings cannot work.
    pub fn open(settings: &Settings) -> Result<Self> {
        Ok(Self { reader: KafkaReader::open(settings, "load-eye")? })
    }

    /// The offset behind the last record of each partition of topics, as they are now; marks of transactions that follow
    /// it are no records.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn ends(&mut self, topics: &[&str]) -> Result<Ends> {
        let mut ends = Vec::new();
        for topic in topics {
            for partition in self.reader.partitions(topic)? {
                let (low, high) = self.reader.range(&partition)?;
                let mut back = 16;
                let end = loop {
                    let from = high.saturating_sub(back).max(low);
                    let records = self.reader.read(&partition, from, BYTES)?;
                    match records.last() {
                        Some(last) => break last.offset + 1,
                        None if from == low => break low,
                        None => back *= 4,
                    }
                };
                ends.push((partition, end));
            }
        }
        Ok(ends)
    }

    /// Waits until a stage's group has come to these ends.
    ///
    /// # Errors
    /// A process that does the work ends, or nothing moves any more.
    pub fn wait_for(&mut self, group: &str, ends: &Ends, workers: &mut [Running]) -> Result<()> {
        let mut open = ends.iter();
        let mut now = open.next();
        wait(workers, &format!("{group} comes to its input's end"), || {
            // One partition after the other: whoever is through stays so.
            while let Some((partition, end)) = now {
                let left = end.saturating_sub(self.reader.committed(group, partition)?.unwrap_or(0));
                if left > 0 {
                    return Ok(left);
                }
                now = open.next();
            }
            Ok(0)
        })
    }

    /// Waits until every log is anchored up to its newest checkpoint.
    ///
    /// # Errors
    /// As for [`Eye::wait_for`].
    pub fn wait_for_anchors(&mut self, workers: &mut [Running]) -> Result<()> {
        let sizes = self.sizes(CHECKPOINTS, |record| {
            let note = Note::from_bytes(&record.value)?;
            let checkpoint = Checkpoint::parse(note.text())?;
            Ok((checkpoint.origin.into(), checkpoint.size))
        })?;
        wait(workers, "every log is anchored", || {
            let anchored = self.sizes(ANCHORS, |record| {
                let frame = AnchorFrame::decode(&record.value)?;
                Ok((frame.origin, frame.size))
            })?;
            let open = |(origin, size): (_, &u64)| size - anchored.get(origin).unwrap_or(&0).min(size);
            Ok(sizes.iter().map(open).sum())
        })
    }

    /// The largest size that a topic has of each origin.
    fn sizes(
        &mut self,
        topic: &str,
        size: impl Fn(&Record) -> Result<(Box<str>, u64)>,
    ) -> Result<BTreeMap<Box<str>, u64>> {
        let mut sizes = BTreeMap::new();
        self.each(topic, |record| {
            let (origin, size) = size(record).with_context(|| format!("a record of {topic}"))?;
            let known = sizes.entry(origin).or_default();
            *known = size.max(*known);
            Ok(())
        })?;
        Ok(sizes)
    }

    /// Gives every record of a topic that is no tick.
    fn each(&mut self, topic: &str, mut each: impl FnMut(&Record) -> Result<()>) -> Result<()> {
        for partition in self.reader.partitions(topic)? {
            let (mut next, _) = self.reader.range(&partition)?;
            loop {
                let records = self.reader.read(&partition, next, BYTES)?;
                let Some(last) = records.last() else { break };
                next = last.offset + 1;
                records.iter().filter(|record| !record.is_tick()).try_for_each(&mut each)?;
            }
        }
        Ok(())
    }

    /// That each of `count` events is proven, and once.
    ///
    /// # Errors
    /// One is missing, proven twice, or was never sent: with how many, and an example.
    pub fn expect_all_proven(&mut self, count: usize) -> Result<()> {
        self.expect_each_once(PROOFS, "proven", count, |value| Ok(ProofReady::decode(value)?.statements))
    }

    /// That each of `count` events is in a batch, and in one.
    ///
    /// # Errors
    /// As for [`Eye::expect_all_proven`].
    pub fn expect_all_batched(&mut self, count: usize) -> Result<()> {
        self.expect_each_once(
            BATCHES,
            "in a batch",
            count,
            |value| Ok(BatchRecord::decode(value)?.statements),
        )
    }

    fn expect_each_once(
        &mut self,
        topic: &str,
        done: &str,
        count: usize,
        statements: impl Fn(&Bytes) -> Result<Vec<Bytes>>,
    ) -> Result<()> {
        let mut seen = vec![0_u8; count];
        self.each(topic, |record| {
            for statement in statements(&record.value)? {
                let event = Statement::decode(&statement)?.event;
                let number = number_of(event.id).and_then(|number| seen.get_mut(number));
                let times = number.with_context(|| format!("{} is {done} and was never sent", event.id))?;
                *times = times.saturating_add(1);
            }
            Ok(())
        })?;
        let wrong = |is: fn(u8) -> bool| {
            let found: Vec<_> = seen.iter().enumerate().filter(|(_, times)| is(**times)).collect();
            found.first().map(|(number, _)| (found.len(), *number))
        };
        let (missing, doubled) = (wrong(|times| times == 0), wrong(|times| times > 1));
        for (what, found) in [("not", missing), ("more than once", doubled)] {
            if let Some((events, example)) = found {
                bail!("{events} of {count} events are {what} {done}, reading-{example} among them");
            }
        }
        Ok(())
    }
}

/// Waits until nothing is left.
fn wait(workers: &mut [Running], what: &str, mut left: impl FnMut() -> Result<u64>) -> Result<()> {
    let (begun, mut last, mut moved) = (Instant::now(), u64::MAX, Instant::now());
    loop {
        workers.iter_mut().try_for_each(Running::expect_alive)?;
        let left = left()?;
        if left == 0 {
            return Ok(());
        }
        if left != last {
            (last, moved) = (left, Instant::now());
        }
        ensure!(
            moved.elapsed() < STILL,
            "nothing has moved for {STILL:?} while waiting until {what}: {left} left"
        );
        sleep((begun.elapsed() / SHARE).clamp(LOOK.0, LOOK.1));
    }
}
