//! The first look: manifests tile what the stages read, and end where they are committed.

use super::track::{Flaw, Track};
use super::{Audit, AuditError, Committed, Kind, Place, undecodable};
use crate::cursor;
use crate::manifest::Manifest;
use crate::ports::LogError;
use crate::record::{Micros, Partition, Record};
use crate::route::AUDIT;

impl Audit<'_> {
    /// Reads the manifests into tracks, and tells where they do not tile.
    pub(super) fn read_manifests(&mut self) -> Result<(), AuditError> {
        let partitions = self.reader.partitions(AUDIT)?;
        let mut ranges = Vec::new();
        self.is_whole = self.settings.since.is_none();
        for partition in partitions {
            let (start, end) = self.reader.range(&partition)?;
            if start > 0 {
                self.is_whole = false;
                self.not_covered(format!(
                    "manifests below offset {start} of {partition}: retention took them"
                ));
            }
            ranges.push((partition, start, end));
        }
        for (partition, start, end) in ranges {
            let from = match self.settings.since {
                Some(time) => cursor::since(self.reader, &partition, (start, end), time)?,
                None => start,
            };
            let mut records = cursor::Cursor::new(partition.clone(), from, end);
            while let Some(record) = records.next(self.reader)? {
                self.take_manifest(&record)?;
                if record.offset % 1_024 == 0 {
                    self.observer.progress(&partition, record.offset, end);
                }
            }
        }
        Ok(())
    }

    fn take_manifest(&mut self, record: &Record) -> Result<(), LogError> {
        let time = record.append_time;
        let manifest = match Manifest::decode(&record.value) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.find_damaged(&record.partition, record.offset, time, undecodable(error));
                return Ok(());
            }
        };
        let key = (manifest.stage.clone(), manifest.input.clone());
        let is_whole = self.is_whole;
        let flaws = self.tracks.entry(key).or_insert_with(|| Track::new(is_whole)).add(&manifest, time);
        for flaw in flaws {
            self.tell_flaw(&manifest, time, flaw)?;
        }
        Ok(())
    }

    fn tell_flaw(&mut self, manifest: &Manifest, time: Micros, flaw: Flaw) -> Result<(), LogError> {
        let place = |range| Place { stage: Some(&manifest.stage), partition: &manifest.input, range, time };
        match flaw {
            Flaw::Begins(offset) => return self.tell_beginning(manifest, time, offset),
            Flaw::Gap(from, to) => {
                if let Some(why) = self.what_is_in(&manifest.input, (from, to))? {
                    self.find(Kind::Gap, &place((from, to)), format!("no transaction tells of it; {why}"));
                }
            }
            Flaw::Overlap(from, to) => {
                let why = "more than one transaction tells of it: it was done twice, or torn";
                self.find(Kind::Overlap, &place((from, to)), why);
            }
            Flaw::Contradiction(why) => {
                self.find(Kind::Contradiction, &place((manifest.from, manifest.to)), why);
            }
        }
        Ok(())
    }

    /// A stage that begins behind records which are there has passed them over. Ingest may: whoever let it begin in a topic
    /// of others chose where.
    fn tell_beginning(&mut self, manifest: &Manifest, time: Micros, offset: u64) -> Result<(), LogError> {
        let (stage, input) = (&*manifest.stage, &manifest.input);
        let Some(why) = self.what_is_in(input, (0, offset))? else { return Ok(()) };
        let (start, _) = self.reader.range(input)?;
        if stage == "ingest" || start >= offset {
            self.not_covered(format!("{input} below offset {offset}: {stage} began there"));
            return Ok(());
        }
        let place = Place { stage: Some(stage), partition: input, range: (start, offset), time };
        self.find(Kind::Gap, &place, format!("no transaction tells of it; {why}"));
        Ok(())
    }

    /// Looks into a range that nobody tells of: what stands there; `None` if nothing ever did but marks of transactions.
    fn what_is_in(
        &mut self,
        partition: &Partition,
        (from, to): (u64, u64),
    ) -> Result<Option<String>, LogError> {
        if !self.reader.partitions(partition.topic.as_str())?.contains(partition) {
            return Ok(Some("the log has no such partition".to_owned()));
        }
        let (start, end) = self.reader.range(partition)?;
        if start > from {
            return Ok(Some(format!("what is below {start} is gone, so nobody can say what it was")));
        }
        if from >= end {
            return Ok(Some(format!("the log ends at {end}")));
        }
        let first = self.reader.read(partition, from, 1)?;
        let first = first.first().map(|record| record.offset).filter(|offset| *offset < to);
        Ok(first.map(|offset| format!("the first record there is at {offset}")))
    }

    /// Holds the ends of the tracks against the offsets that are committed: what was committed before is told of, and
    /// nothing is told of that is not committed by now.
    pub(super) fn check_offsets(&mut self, before: &Committed) -> Result<(), AuditError> {
        let now = self.settings.now;
        for ((stage, input), &committed) in before {
            let (start, _) = self.reader.range(input)?;
            let told = self.tracks.get(&(stage.clone(), input.clone())).and_then(Track::range);
            let is_older = told.is_none() && (!self.is_whole || committed <= start);
            let end = told.map_or(0, |(_, to)| to);
            if told.is_none() && &**stage == "ingest" && committed > start {
                self.not_covered(format!(
                    "{input} below offset {committed}: ingest has it behind it, and told of nothing"
                ));
            } else if end < committed && !is_older {
                let place =
                    Place { stage: Some(stage), partition: input, range: (end, committed), time: now };
                let why =
                    format!("{committed} is committed, and no transaction tells of anything behind {end}");
                self.find(Kind::Offset, &place, why);
            }
        }
        let told: Vec<_> =
            self.tracks.iter().filter_map(|(key, track)| Some((key.clone(), track.range()?))).collect();
        for ((stage, input), (_, to)) in told {
            let is_there = self.reader.partitions(input.topic.as_str())?.contains(&input);
            let committed = if is_there { self.reader.committed(&stage, &input)? } else { None };
            if committed.unwrap_or(0) < to {
                let committed = committed.unwrap_or(0);
                let place =
                    Place { stage: Some(&stage), partition: &input, range: (committed, to), time: now };
                let why = format!("a transaction tells of all below {to}, and {committed} is committed");
                self.find(Kind::Offset, &place, why);
            }
        }
        Ok(())
    }
}
