//! A log in memory: partitions, offsets of groups, one transaction for outputs and offsets.

use std::collections::BTreeMap;

use killick_stages::ports::{LogError, Reader};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::route;
use killick_stages::stage::Part;

use crate::Dice;

/// A log: every record that was ever appended, in order.
#[derive(Debug, Default)]
pub struct SimLog {
    /// The records of each partition.
    pub partitions: BTreeMap<Partition, Vec<Record>>,
    /// Where each group goes on.
    pub committed: BTreeMap<(&'static str, Partition), u64>,
    /// The first offsets that are kept, where that is not the first of all. For readers only.
    pub starts: BTreeMap<Partition, u64>,
    /// Bytes of values in the largest transaction.
    pub largest: usize,
}

impl SimLog {
    /// The records of a partition.
    pub fn records(&self, topic: &str, number: u32) -> &[Record] {
        self.partitions.get(&Partition::new(topic, number)).map_or(&[], Vec::as_slice)
    }

    /// All records of a topic, partition by partition.
    pub fn all<'l>(&'l self, topic: &'l str) -> impl Iterator<Item = &'l Record> {
        self.partitions
            .iter()
            .filter(move |(partition, _)| partition.topic.as_str() == topic)
            .flat_map(|(_, all)| all)
    }

    /// Appends at about `now`: brokers' clocks step back, and markers take offsets.
    pub fn append(&mut self, output: &Output, now: Micros, dice: &mut Dice) {
        let records = self.partitions.entry(output.partition.clone()).or_default();
        let gap = u64::from(dice.chance(100));
        let behind = Micros::try_from(dice.below(40_000)).unwrap_or(0);
        records.push(Record {
            partition: output.partition.clone(),
            offset: records.last().map_or(0, |last| last.offset + 1 + gap),
            append_time: now - behind,
            key: output.key.clone(),
            value: output.value.clone(),
            headers: output.headers.clone(),
        });
    }

    /// Appends what was put out, and moves the offsets of a group.
    pub fn commit(&mut self, group: &'static str, parts: &[(Partition, Part)], now: Micros, dice: &mut Dice) {
        let outputs = parts.iter().flat_map(|(_, part)| &part.outputs);
        self.largest = self.largest.max(outputs.map(|output| output.value.len()).sum());
        for (_, part) in parts {
            part.outputs.iter().for_each(|output| self.append(output, now, dice));
        }
        self.move_offsets(group, parts);
    }

    /// Moves the offsets of a group.
    ///
    /// # Panics
    /// One goes back.
    pub fn move_offsets(&mut self, group: &'static str, parts: &[(Partition, Part)]) {
        for (partition, part) in parts {
            if let Some(through) = part.through {
                let committed = self.committed.entry((group, partition.clone())).or_default();
                assert!(*committed <= through, "{group} goes back in {partition}: {committed} to {through}");
                *committed = through;
            }
        }
    }

    /// The offset of the next record for a group.
    pub fn next(&self, group: &'static str, partition: &Partition) -> u64 {
        self.committed.get(&(group, partition.clone())).copied().unwrap_or(0)
    }

    /// The offset behind the last record.
    pub fn end(&self, partition: &Partition) -> u64 {
        self.partitions.get(partition).and_then(|all| all.last()).map_or(0, |last| last.offset + 1)
    }
}

/// Reads the log as tools do; it has so many partitions of each inner topic.
pub struct SimReader<'l> {
    /// The log.
    pub log: &'l SimLog,
    /// Partitions of each topic.
    pub partitions: u32,
}

impl Reader for SimReader<'_> {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        Ok((0..self.partitions).map(|number| Partition::new(topic, number)).collect())
    }

    fn range(&mut self, partition: &Partition) -> Result<(u64, u64), LogError> {
        let start = self.log.starts.get(partition).copied().unwrap_or(0);
        Ok((start, self.log.end(partition).max(start)))
    }

    fn committed(&mut self, group: &str, partition: &Partition) -> Result<Option<u64>, LogError> {
        let stage = route::hop(group).map(|hop| hop.stage);
        Ok(stage.and_then(|stage| self.log.committed.get(&(stage, partition.clone())).copied()))
    }

    fn read(&mut self, partition: &Partition, from: u64, max: usize) -> Result<Vec<Record>, LogError> {
        let (start, _) = self.range(partition)?;
        let records = self.log.records(partition.topic.as_str(), partition.number);
        let first = records.partition_point(|record| record.offset < from.max(start));
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let fits = bytes == 0 || bytes + record.value.len() <= max.min(4_096);
            bytes += record.value.len() + 1;
            fits
        };
        Ok(records[first..].iter().take_while(fits).cloned().collect())
    }
}
