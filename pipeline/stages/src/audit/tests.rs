use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cursor::{Cursor, search};
use crate::record::{Output, Record};

/// A partition with records at some offsets, of which some are ticks.
#[derive(Debug)]
struct Sparse(Vec<(u64, bool)>);

impl Reader for Sparse {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        Ok(vec![Partition::new(topic, 0)])
    }

    fn range(&mut self, _: &Partition) -> Result<(u64, u64), LogError> {
        Ok((0, self.0.last().map_or(0, |(offset, _)| offset + 1)))
    }

    fn committed(&mut self, _: &str, _: &Partition) -> Result<Option<u64>, LogError> {
        Ok(None)
    }

    fn read(&mut self, partition: &Partition, from: u64, max: usize) -> Result<Vec<Record>, LogError> {
        let record = |(offset, is_tick): &(u64, bool)| Record {
            partition: partition.clone(),
            offset: *offset,
            append_time: *offset as Micros,
            key: bytes::Bytes::new(),
            value: bytes::Bytes::from_static(if *is_tick { b"" } else { b"value" }),
            headers: if *is_tick { Output::tick(partition.clone()).headers } else { Vec::new() },
        };
        let rest = self.0.iter().filter(|(offset, _)| *offset >= from);
        Ok(rest.take(max.div_ceil(100).min(3)).map(record).collect())
    }
}

/// A log of one partition each, whose brokers refuse to speak of whoever is not asked for.
struct Closed;

impl Reader for Closed {
    fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>, LogError> {
        match topic {
            route::EVENTS => Err(LogError::Failed("topic authorization failed".into())),
            _ => Ok(vec![Partition::new(topic, 0)]),
        }
    }

    fn range(&mut self, _: &Partition) -> Result<(u64, u64), LogError> {
        Ok((0, 0))
    }

    fn committed(&mut self, _: &str, _: &Partition) -> Result<Option<u64>, LogError> {
        Ok(Some(7))
    }

    fn read(&mut self, _: &Partition, _: u64, _: usize) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }
}

#[test]
fn of_inputs_only_those_that_are_ours_are_asked_for() {
    let committed = committed(&mut Closed, &["machines".to_owned()]).unwrap();
    let of_ingest = committed.keys().filter(|(stage, _)| &**stage == "ingest");
    assert_eq!(of_ingest.map(|(_, input)| input.topic.as_str()).collect::<Vec<_>>(), ["machines"]);
    let inner = [route::ACCEPTED, route::UNIQUE, route::CHECKPOINTS, route::BATCHES, route::ANCHORS];
    for topic in inner {
        assert!(committed.keys().any(|(_, input)| input.topic.as_str() == topic), "{topic}");
    }
    assert!(super::committed(&mut Closed, &[route::EVENTS.to_owned()]).is_err());
}

fn sparse() -> impl Strategy<Value = Sparse> {
    vec((1_u64..4, any::<bool>()), 0..40).prop_map(|steps| {
        let mut offset = 0;
        let place = |(step, is_tick)| {
            offset += step;
            (offset, is_tick)
        };
        Sparse(steps.into_iter().map(place).collect())
    })
}

proptest! {
    #[test]
    fn a_cursor_gives_each_record_below_its_end_once_and_no_tick(mut log in sparse(), from in 0..80_u64, end in 0..80_u64) {
        let mut cursor = Cursor::new(Partition::new("t", 0), from, end);
        let mut given = Vec::new();
        while let Some(record) = cursor.next(&mut log).unwrap() {
            given.push(record.offset);
        }
        let expected = log.0.iter().filter(|(offset, is_tick)| !is_tick && (from..end).contains(offset));
        prop_assert_eq!(given, expected.map(|(offset, _)| *offset).collect::<Vec<_>>());
    }

    #[test]
    fn a_search_finds_the_first_record_and_no_tick(mut log in sparse(), at in 0..100_u64) {
        let partition = Partition::new("t", 0);
        let range = log.range(&partition).unwrap();
        let found = search(&mut log, &partition, range, |record| Ok::<_, LogError>(record.offset >= at)).unwrap();
        let expected = log.0.iter().find(|(offset, is_tick)| !is_tick && *offset >= at);
        prop_assert_eq!(found.map(|record| record.offset), expected.map(|(offset, _)| *offset));
    }

    #[test]
    fn leaves_of_one_name_are_told_of_where_they_are_closer_than_the_window(times in vec((0..5_u8, 0..1_000_i64), 0..40)) {
        let mut leaves: Vec<Leaf> = times
            .iter()
            .zip(0..)
            .map(|((name, time), offset)| Leaf { name: [*name; 16], time: *time, offset, index: 0 })
            .collect();
        let mut told = Vec::new();
        twice(&mut leaves, 100, &mut |before, after| told.push((before.offset, after.offset)));
        // Each leaf with the one of its name before it, if it is that close.
        for (index, after) in leaves.iter().enumerate() {
            let before = leaves[..index].iter().rev().find(|leaf| leaf.name == after.name);
            let expected = before.filter(|before| after.time - before.time < 100);
            let found = told.iter().find(|(_, offset)| *offset == after.offset);
            prop_assert_eq!(found.map(|(before, _)| *before), expected.map(|before| before.offset));
        }
    }
}
