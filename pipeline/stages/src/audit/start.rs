//! Where the merge of a log begins: at a batch whose statements, and what came before them, are all kept.

use killick_proof::batch::BatchHeader;

use super::track::Covered;
use super::{Audit, AuditError, SLACK, undecodable};
use crate::cursor;
use crate::frame::UniqueFrame;
use crate::ports::BatchRecord;
use crate::record::{Micros, Partition, Record};
use crate::route::{ACCEPTED, ANCHORS, BATCHES, PROOFS, UNIQUE};

/// Offsets at which the topics of one log are read from, so that they belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// In `accepted`, where reading begins.
    pub(super) read: u64,
    /// In `accepted`, from where on each event's end can be told.
    pub(super) accepted: u64,
    pub(super) unique: u64,
    pub(super) batches: u64,
    pub(super) proofs: u64,
    /// The number of the first batch; `None` if there is none.
    pub(super) number: Option<u64>,
    /// The first offsets that `accepted`, `unique` and `batches` keep.
    pub(super) kept: [u64; 3],
    /// From which time on all that was accepted is read; `None`: all there ever was.
    pub(super) since: Option<Micros>,
}

/// Why the record cannot be used to find a place: the search goes on as if it were not there.
fn of_frame(record: &Record) -> Option<u64> {
    UniqueFrame::decode(&record.value).ok().map(|frame| frame.offset)
}

/// Number, first and last offset of a batch.
fn of_batch(record: &Record) -> Option<(u64, u64, u64)> {
    let batch = BatchRecord::decode(&record.value).ok()?;
    let header = BatchHeader::decode(&batch.header).ok()?;
    Some((header.number, header.first_offset, header.last_offset))
}

impl Audit<'_> {
    /// Finds where to begin with a log, and says from where on each stage can be held against it.
    pub(super) fn start(&mut self, log: u32) -> Result<Start, AuditError> {
        let [accepted, unique, batches, proofs] =
            [ACCEPTED, UNIQUE, BATCHES, PROOFS].map(|topic| Partition::new(topic, log));
        let ranges = [&accepted, &unique, &batches, &proofs].map(|partition| self.reader.range(partition));
        let [a, u, b, p] = ranges;
        let (a, u, b, p) = (a?, u?, b?, p?);
        let kept = [a.0, u.0, b.0];
        if kept == [0; 3] && self.settings.since.is_none() {
            let start = Start {
                read: 0,
                accepted: 0,
                unique: 0,
                batches: 0,
                proofs: p.0,
                number: Some(0),
                kept,
                since: None,
            };
            self.cover(log, &start);
            return Ok(start);
        }
        let (read, since) = self.read_from(&accepted, a)?;
        // The first frame that came of what is read, and from there on the first batch whose frames are all there.
        let found = cursor::search(self.reader, &unique, u, |record| {
            Ok::<_, AuditError>(of_frame(record).is_some_and(|offset| offset >= read))
        })?;
        let first = found.map_or(u.1, |record| record.offset);
        let found = cursor::search(self.reader, &batches, b, |record| {
            Ok::<_, AuditError>(of_batch(record).is_some_and(|(_, _, last)| last >= first))
        })?;
        let place = found.as_ref().and_then(|record| Some((record.offset, of_batch(record)?)));
        let (from_unique, from_batches, number) = match place {
            None => (first, b.1, None),
            Some((offset, (number, begins, _))) if begins >= first => {
                // What lies between belongs to no batch that is kept: told of below, unless retention took the batch.
                (if offset == b.0 && b.0 > 0 { begins } else { first }, offset, Some(number))
            }
            Some((offset, (number, _, last))) => (last + 1, offset + 1, Some(number + 1)),
        };
        let frame = cursor::search(self.reader, &unique, (from_unique, u.1), |_| Ok::<_, AuditError>(true))?;
        let done =
            self.track("dedup", ACCEPTED, log).and_then(|track| track.range()).map_or(read, |(_, to)| to);
        let from_accepted = match &frame {
            Some(record) => of_frame(record).unwrap_or(read).max(read),
            None => done.max(read),
        };
        let from_proofs = match self.settings.since {
            Some(since) => cursor::since(self.reader, &proofs, p, since.saturating_sub(SLACK))?,
            None => p.0,
        };
        if self.settings.since.is_none() {
            self.not_covered(format!(
                "{accepted} below offset {from_accepted}: {unique} keeps what is behind {}, {batches} behind {}",
                u.0, b.0
            ));
        }
        let start = Start {
            read,
            accepted: from_accepted,
            unique: from_unique,
            batches: from_batches,
            proofs: from_proofs,
            number,
            kept,
            since: Some(since),
        };
        self.cover(log, &start);
        Ok(start)
    }

    /// The offset of `accepted` to read from, and the time from which on nothing accepted is missed.
    fn read_from(&mut self, accepted: &Partition, range: (u64, u64)) -> Result<(u64, Micros), AuditError> {
        let kept = match self.reader.read(accepted, range.0, 1)?.first() {
            Some(first) if range.0 > 0 => first.append_time.saturating_add(SLACK),
            Some(_) => Micros::MIN,
            None if range.0 > 0 => Micros::MAX,
            None => Micros::MIN,
        };
        match self.settings.since {
            None => Ok((range.0, kept)),
            Some(since) => {
                let read = cursor::since(self.reader, accepted, range, since.saturating_sub(SLACK))?;
                Ok((read, since.max(kept)))
            }
        }
    }

    /// Says from where on each stage but ingest can be held against what is read of a log.
    fn cover(&mut self, log: u32, start: &Start) {
        if let Some(track) = self.track("dedup", ACCEPTED, log) {
            track.taken = Covered::Offset(start.read);
            track.passed = Covered::Offset(start.accepted);
            track.rejected = track.passed;
        }
        if let Some(track) = self.track("batch", UNIQUE, log) {
            (track.taken, track.passed) = (Covered::Offset(start.unique), Covered::Offset(start.unique));
        }
        if let Some(track) = self.track("prove", BATCHES, log) {
            track.taken = Covered::Offset(start.batches);
        }
        if let Some(track) = self.track("prove", ANCHORS, log) {
            track.passed = start.number.map_or(Covered::Nothing, Covered::Batch);
        }
    }

    /// Says from when on ingest can: an event of one input may be in any log.
    pub(super) fn cover_ingest(&mut self, starts: &[Start]) {
        let since = starts.iter().filter_map(|start| start.since).max();
        for ((stage, _), track) in &mut self.tracks {
            if &**stage == "ingest" {
                track.passed = since.map_or(Covered::Offset(0), Covered::Time);
            }
        }
    }
}

/// Says of a record that should be a batch what it is not.
pub(super) fn decode_batch(record: &Record) -> Result<BatchRecord, String> {
    BatchRecord::decode(&record.value).map_err(undecodable)
}
