//! Ingest's part of the second look: each record of its inputs has one verdict.

use super::track::Covered;
use super::{Audit, AuditError, Kind, Place, SLACK};
use crate::cursor;
use crate::record::{Micros, Partition, Record};
use crate::rejected::PREFIX;
use crate::route::REJECTED;

/// Where a rejected record stood, if ingest rejected it.
fn origin(record: &Record) -> Option<(Partition, u64)> {
    let header = |name: &str| {
        let value = record.header(&format!("{PREFIX}{name}"))?;
        std::str::from_utf8(value).ok()
    };
    if header("stage")? != "ingest" {
        return None;
    }
    let partition = Partition::new(header("topic")?, header("partition")?.parse().ok()?);
    Some((partition, header("offset")?.parse().ok()?))
}

impl Audit<'_> {
    /// Counts what ingest rejected.
    pub(super) fn read_rejected(&mut self) -> Result<(), AuditError> {
        let mut covered = Some(self.settings.since.unwrap_or(Micros::MIN));
        for partition in self.reader.partitions(REJECTED)? {
            let range = self.reader.range(&partition)?;
            let from = match self.settings.since {
                Some(since) => cursor::since(self.reader, &partition, range, since.saturating_sub(SLACK))?,
                None => range.0,
            };
            if range.0 > 0 {
                let first = self.reader.read(&partition, range.0, 1)?;
                let kept = first.first().map(|record| record.append_time.saturating_add(SLACK));
                covered = covered.zip(kept).map(|(covered, kept)| covered.max(kept));
            }
            let mut records = cursor::Cursor::new(partition.clone(), from, range.1);
            while let Some(record) = records.next(self.reader)? {
                let Some((input, offset)) = origin(&record) else { continue };
                let track = self.tracks.get_mut(&("ingest".into(), input));
                if let Some(span) = track.and_then(|track| track.at(offset)) {
                    span.found.rejected += 1;
                }
            }
        }
        for ((stage, _), track) in &mut self.tracks {
            if &**stage == "ingest" {
                track.rejected = covered.map_or(Covered::Nothing, Covered::Time);
            }
        }
        Ok(())
    }

    /// Holds the number of ingest's verdicts against that of the records. Mostly the offsets alone show it.
    pub(super) fn count_verdicts(&mut self) -> Result<(), AuditError> {
        let inputs: Vec<_> = self.tracks.keys().filter(|(stage, _)| &**stage == "ingest").cloned().collect();
        for key in inputs {
            let spans = self.tracks.get(&key).map(|track| track.spans().to_vec()).unwrap_or_default();
            let input = &key.1;
            let is_there = self.reader.partitions(input.topic.as_str())?.contains(input);
            let kept = if is_there { self.reader.range(input)?.0 } else { u64::MAX };
            for span in spans {
                let verdicts = span.told.passed.events.saturating_add(span.told.rejected);
                let offsets = span.to - span.from;
                if verdicts == offsets || (verdicts < offsets && span.from < kept) {
                    continue;
                }
                let records =
                    if verdicts < offsets { self.count(input, (span.from, span.to))? } else { offsets };
                if records != verdicts {
                    let place = Place {
                        stage: Some("ingest"),
                        partition: input,
                        range: (span.from, span.to),
                        time: span.times.1,
                    };
                    let why = format!("{verdicts} verdicts on {records} records");
                    self.find(Kind::Difference, &place, why);
                }
            }
        }
        Ok(())
    }

    /// How many records stand in a range: marks of transactions take offsets too.
    fn count(&mut self, partition: &Partition, (from, to): (u64, u64)) -> Result<u64, AuditError> {
        let mut records = cursor::Cursor::new(partition.clone(), from, to);
        let mut count = 0;
        while records.next(self.reader)?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}
