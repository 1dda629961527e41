//! The third look: each accepted event has one end. And on the way, what each manifest tells is counted anew.

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::statement::Statement;

use super::start::{Start, decode_batch};
use super::{Audit, AuditError, Kind, Leaf, Name, Place, undecodable};
use crate::cursor::Cursor;
use crate::deployment::identity_hash;
use crate::frame::{AcceptedEvent, AcceptedFrame, Copy, UniqueFrame};
use crate::ready::{ProofReady, is_correction};
use crate::record::{Micros, Partition, Record};
use crate::route::{ACCEPTED, ANCHORS, BATCHES, PROOFS, UNIQUE};
use crate::stage::Sum;

/// One log on its way through the four topics.
struct Merge {
    log: u32,
    start: Start,
    accepted: Cursor,
    unique: Cursor,
    batches: Cursor,
    proofs: Cursor,
    /// The frame that comes next, with its offset.
    frame: Option<(u64, UniqueFrame)>,
    /// The batch whose range the last frame was in.
    batch: Option<Open>,
    /// Where the next batch has to begin, and its number.
    next_batch: (Option<u64>, Option<u64>),
    /// Batches below this number are told of; `None`: not known yet.
    told: Option<u64>,
    /// The batch that was last found not to be told of.
    untold: Option<u64>,
    /// Offsets of `accepted` below this are done, as dedup tells.
    done: u64,
    /// The largest time at which something was accepted.
    time: Micros,
}

/// A batch that is held against the frames of its range.
struct Open {
    offset: u64,
    time: Micros,
    number: u64,
    first: u64,
    last: u64,
    statements: Vec<Bytes>,
    /// How many of its statements were met.
    met: usize,
}

/// How far an event got.
enum End {
    Batch(u64),
    Unique,
    Lost(String),
}

impl Audit<'_> {
    /// Follows one log.
    pub(super) fn merge(&mut self, log: u32, start: Start) -> Result<(), AuditError> {
        let at = |topic: &str| Partition::new(topic, log);
        let done = self.track("dedup", ACCEPTED, log).and_then(|track| track.range()).map_or(0, |(_, to)| to);
        let mut merge = Merge {
            log,
            start,
            // In this order: what came of the last that is read is read too.
            accepted: self.cursor(&at(ACCEPTED), start.read)?,
            unique: self.cursor(&at(UNIQUE), start.unique)?,
            batches: self.cursor(&at(BATCHES), start.batches)?,
            proofs: self.cursor(&at(PROOFS), start.proofs)?,
            frame: None,
            batch: None,
            next_batch: (start.number.map(|_| start.unique), start.number),
            told: None,
            untold: None,
            done,
            time: Micros::MIN,
        };
        self.read_proofs(&mut merge)?;
        while let Some(record) = merge.accepted.next(self.reader)? {
            self.take_accepted(&mut merge, &record)?;
            if self.is_cut(&merge)? {
                return Ok(());
            }
            if record.offset % 64 == 0 {
                self.observer.progress(&merge.accepted.partition, record.offset, merge.accepted.end);
            }
        }
        // What was accepted later has frames behind these.
        self.take_frames_below(&mut merge, u64::MAX)?;
        while self.next_batch(&mut merge)? {}
        self.find_twice(&merge)
    }

    /// Whether retention took what was to be read next: what follows cannot be told apart from a loss.
    fn is_cut(&mut self, merge: &Merge) -> Result<bool, AuditError> {
        // Only when something seems to be wrong is it worth a look.
        if self.report.findings.is_empty() && self.report.unsettled == 0 {
            return Ok(false);
        }
        for (cursor, kept) in
            [&merge.accepted, &merge.unique, &merge.batches].into_iter().zip(merge.start.kept)
        {
            let (start, _) = self.reader.range(&cursor.partition)?;
            if start > kept {
                let partition = &cursor.partition;
                self.not_covered(format!(
                    "the rest of log {}: retention took from {partition} while it was read; look again",
                    merge.log
                ));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_accepted(&mut self, merge: &mut Merge, record: &Record) -> Result<(), AuditError> {
        let Partition { number: log, .. } = record.partition;
        merge.time = merge.time.max(record.append_time);
        let frame = match AcceptedFrame::decode(&record.value) {
            Ok(frame) => frame,
            Err(error) => {
                self.find_damaged(&record.partition, record.offset, record.append_time, undecodable(error));
                return Ok(());
            }
        };
        let mut taken = Sum::default();
        let mut input = self.track("ingest", &frame.topic, frame.partition);
        for event in &frame.events {
            let sum = Sum::of(&event.statement);
            taken += sum;
            if let Some(span) = input.as_mut().and_then(|track| track.at(event.offset)) {
                span.found.passed += sum;
            }
        }
        if let Some(span) = self.span("dedup", (ACCEPTED, log), record.offset) {
            span.found.taken += taken;
        }
        if record.offset < merge.start.accepted {
            return Ok(());
        }
        self.take_frames_below(merge, record.offset)?;
        match merge.frame.take_if(|(_, unique)| unique.offset == record.offset) {
            Some((offset, unique)) => self.match_frames(merge, record, &frame, offset, unique),
            None => {
                for event in &frame.events {
                    self.report.events.accepted += 1;
                    if record.offset < merge.done {
                        let why = "dedup is done with it, and nothing of it is in unique".to_owned();
                        self.end(merge, record, event, End::Lost(why))?;
                    } else {
                        self.wait(record, event, "dedup");
                    }
                }
                Ok(())
            }
        }
    }

    /// Goes on in `unique` to the first frame that came of this offset of `accepted` or a later one.
    fn take_frames_below(&mut self, merge: &mut Merge, accepted: u64) -> Result<(), AuditError> {
        loop {
            if merge.frame.as_ref().is_some_and(|(_, frame)| frame.offset >= accepted) {
                return Ok(());
            }
            if let Some((offset, frame)) = merge.frame.take() {
                // Behind the last that was read of `accepted` there may be more.
                if frame.offset < merge.accepted.end {
                    let (partition, range) = (&merge.unique.partition, (offset, offset + 1));
                    let why = format!(
                        "its record of accepted, {}, is not there or was dealt with before",
                        frame.offset
                    );
                    self.find(
                        Kind::Extra,
                        &Place { stage: Some("dedup"), partition, range, time: merge.time },
                        why,
                    );
                }
                self.count_frame(merge, offset, &frame);
                for index in 0..frame.statements.len() {
                    self.meet(merge, offset, &frame.statements[index])?;
                }
            }
            let Some(record) = merge.unique.next(self.reader)? else { return Ok(()) };
            match UniqueFrame::decode(&record.value) {
                Ok(frame) => merge.frame = Some((record.offset, frame)),
                Err(error) => {
                    self.find_damaged(
                        &record.partition,
                        record.offset,
                        record.append_time,
                        undecodable(error),
                    );
                }
            }
        }
    }

    /// Counts what a frame of `unique` holds into the manifests about it.
    fn count_frame(&mut self, merge: &Merge, offset: u64, frame: &UniqueFrame) {
        let mut passed = Sum::default();
        frame.statements.iter().for_each(|statement| passed.add(statement));
        if let Some(span) = self.span("dedup", (ACCEPTED, merge.log), frame.offset) {
            span.found.passed += passed;
            span.found.duplicates += frame.duplicates.len() as u64;
            span.found.rejected += frame.conflicts.len() as u64;
        }
        if let Some(span) = self.span("batch", (UNIQUE, merge.log), offset) {
            span.found.taken += passed;
        }
    }

    /// Holds a frame of `unique` against the one of `accepted` that it came of, event by event.
    fn match_frames(
        &mut self,
        merge: &mut Merge,
        record: &Record,
        accepted: &AcceptedFrame,
        offset: u64,
        unique: UniqueFrame,
    ) -> Result<(), AuditError> {
        self.count_frame(merge, offset, &unique);
        let (mut index, mut duplicates, mut conflicts) = (0, &unique.duplicates[..], &unique.conflicts[..]);
        for event in &accepted.events {
            self.report.events.accepted += 1;
            if unique.statements.get(index) == Some(&event.statement) {
                let end = self.meet(merge, offset, &event.statement)?;
                self.add_leaf(merge, record, event, (offset, index))?;
                self.end(merge, record, event, end)?;
                index += 1;
            } else if take_copy(&mut duplicates, accepted, event) {
                self.report.events.duplicates += 1;
            } else if take_copy(&mut conflicts, accepted, event) {
                self.report.events.conflicts += 1;
            } else {
                let why =
                    format!("the frame at {offset} of unique neither passes it on nor names it as a copy");
                self.end(merge, record, event, End::Lost(why))?;
            }
        }
        let more = unique.statements.len() - index + duplicates.len() + conflicts.len();
        if more > 0 {
            let (partition, range) = (&merge.unique.partition, (offset, offset + 1));
            let why = format!(
                "{more} of its events are not in the record of accepted that it came of, {}",
                record.offset
            );
            let place = Place { stage: Some("dedup"), partition, range, time: record.append_time };
            self.find(Kind::Extra, &place, why);
            for statement in &unique.statements[index..] {
                self.meet(merge, offset, statement)?;
            }
        }
        Ok(())
    }

    /// Follows a statement of `unique` into its batch.
    fn meet(&mut self, merge: &mut Merge, offset: u64, statement: &Bytes) -> Result<End, AuditError> {
        while merge.batch.as_ref().is_none_or(|batch| batch.last < offset) {
            if !self.next_batch(merge)? {
                return Ok(End::Unique);
            }
        }
        let Some(batch) = merge.batch.as_mut() else { return Ok(End::Unique) };
        if offset < batch.first {
            let why = format!(
                "no batch covers offset {offset} of unique, and batch {} begins at {}",
                batch.number, batch.first
            );
            return Ok(End::Lost(why));
        }
        // In order, they meet at once; where something is missing or there are more, the rest still meets.
        let rest = batch.statements.get(batch.met..).unwrap_or_default();
        match rest.iter().position(|leaf| leaf == statement) {
            Some(skipped) => {
                let (number, extra) = (batch.number, (batch.offset, batch.time, skipped));
                batch.met += skipped + 1;
                self.find_extra(merge, extra);
                Ok(End::Batch(number))
            }
            None => Ok(End::Lost(format!(
                "batch {}, which covers offset {offset} of unique, does not hold it",
                batch.number
            ))),
        }
    }

    fn find_extra(&mut self, merge: &Merge, (offset, time, leaves): (u64, Micros, usize)) {
        if leaves > 0 {
            let (partition, range) = (&merge.batches.partition, (offset, offset + 1));
            let why = format!(
                "{leaves} of its leaves are not in the range of unique that it covers, or not in this order"
            );
            self.find(Kind::Extra, &Place { stage: Some("batch"), partition, range, time }, why);
        }
    }

    /// Closes the open batch and opens the next; whether there is one.
    fn next_batch(&mut self, merge: &mut Merge) -> Result<bool, AuditError> {
        if let Some(batch) = merge.batch.take() {
            self.find_extra(merge, (batch.offset, batch.time, batch.statements.len() - batch.met));
        }
        let Some(record) = merge.batches.next(self.reader)? else { return Ok(false) };
        let (offset, time) = (record.offset, record.append_time);
        let opened = decode_batch(&record).and_then(|batch| {
            let header =
                BatchHeader::decode(&batch.header).map_err(|error| format!("its header: {error}"))?;
            let (number, first, last) = (header.number, header.first_offset, header.last_offset);
            Ok(Open { offset, time, number, first, last, statements: batch.statements, met: 0 })
        });
        match opened {
            Ok(batch) => {
                self.check_batch(merge, &batch);
                merge.next_batch = (batch.last.checked_add(1), batch.number.checked_add(1));
                merge.batch = Some(batch);
            }
            Err(why) => self.find_damaged(&record.partition, offset, time, why),
        }
        Ok(true)
    }

    /// Checks that a batch follows the one before it, and counts it into the manifests about it.
    fn check_batch(&mut self, merge: &Merge, batch: &Open) {
        let place = Place {
            stage: Some("batch"),
            partition: &merge.batches.partition,
            range: (batch.offset, batch.offset + 1),
            time: batch.time,
        };
        if let Some(number) = merge.next_batch.1.filter(|number| *number != batch.number) {
            let kind = if batch.number < number { Kind::Twice } else { Kind::Gap };
            self.find(kind, &place, format!("it is batch {}, and batch {number} is next", batch.number));
        }
        if let Some(first) = merge.next_batch.0.filter(|first| *first != batch.first) {
            let kind = if batch.first < first { Kind::Overlap } else { Kind::Gap };
            let why = format!("it covers unique from offset {}, and offset {first} is next", batch.first);
            self.find(kind, &place, why);
        }
        let mut events = Sum::default();
        batch.statements.iter().for_each(|statement| events.add(statement));
        if let Some(span) = self.span("batch", (UNIQUE, merge.log), batch.last) {
            span.found.passed += events;
        }
        if let Some(span) = self.span("prove", (BATCHES, merge.log), batch.offset) {
            span.found.taken += events;
        }
        let told = self.track("prove", ANCHORS, merge.log);
        if let Some(span) = told.and_then(|track| track.of_batch(batch.number)) {
            span.found.passed += events;
        }
    }

    /// Reads on in `proofs`: each batch is told of once, in order.
    fn read_proofs(&mut self, merge: &mut Merge) -> Result<(), AuditError> {
        let is_first = merge.told.is_none();
        if is_first && merge.start.proofs == 0 {
            merge.told = Some(0);
        }
        while let Some(record) = merge.proofs.next(self.reader)? {
            let (offset, time) = (record.offset, record.append_time);
            let ready = match ProofReady::decode(&record.value) {
                Ok(ready) => ready,
                Err(error) => {
                    self.find_damaged(&record.partition, offset, time, undecodable(error));
                    continue;
                }
            };
            // One that stands for an earlier one is no other proof of its batch.
            let is_correction = is_correction(&record);
            if is_correction && merge.told.is_none_or(|told| ready.number < told) {
                continue;
            }
            if let Some(number) = merge.told.filter(|number| *number != ready.number || is_correction) {
                let kind = if ready.number < number { Kind::Twice } else { Kind::Gap };
                let why = format!("it tells of batch {}, and batch {number} is next", ready.number);
                let range = (offset, offset + 1);
                self.find(
                    kind,
                    &Place { stage: Some("prove"), partition: &record.partition, range, time },
                    why,
                );
            }
            merge.told = Some(ready.number.saturating_add(1).max(merge.told.unwrap_or(0)));
        }
        if is_first {
            // Where retention took all of `proofs`, the manifests know how far it was.
            let known = self.track("prove", ANCHORS, merge.log).and_then(|track| track.batches());
            merge.told = merge.told.or(known);
            let (told, known) = (merge.told.unwrap_or(0), known.unwrap_or(0));
            if told < known {
                let (partition, range) = (&merge.proofs.partition, (merge.proofs.end, merge.proofs.end));
                let why = format!("the manifests tell of proofs for {known} batches, and {told} are there");
                let time = self.settings.now;
                self.find(Kind::Gap, &Place { stage: Some("prove"), partition, range, time }, why);
            }
        }
        Ok(())
    }

    /// Whether a batch is told of by now.
    fn is_told(&mut self, merge: &mut Merge, number: u64) -> Result<bool, AuditError> {
        // Told of since it was looked last? Once for a batch is enough.
        if merge.told.is_none_or(|told| number >= told) && merge.untold != Some(number) {
            merge.untold = Some(number);
            let (_, end) = self.reader.range(&merge.proofs.partition)?;
            merge.proofs.end = end;
            self.read_proofs(merge)?;
        }
        Ok(merge.told.is_some_and(|told| number < told))
    }

    /// Counts an event by its end, and tells of it where that is none.
    fn end(
        &mut self,
        merge: &mut Merge,
        record: &Record,
        event: &AcceptedEvent,
        end: End,
    ) -> Result<(), AuditError> {
        match end {
            End::Batch(number) if self.is_told(merge, number)? => self.report.events.proven += 1,
            End::Batch(number) => self.wait(record, event, &format!("the proof of batch {number}")),
            End::Unique => self.wait(record, event, "batch"),
            End::Lost(why) => {
                self.report.events.lost += 1;
                self.find_event(Kind::Lost, &place(record), name_of(&event.statement), why);
            }
        }
        Ok(())
    }

    fn wait(&mut self, record: &Record, event: &AcceptedEvent, what: &str) {
        let age = self.settings.now.saturating_sub(record.append_time);
        if self.settings.objective.is_none_or(|objective| age <= objective) {
            self.report.events.waiting += 1;
            return;
        }
        self.report.events.late += 1;
        let why = format!("it waits for {what} since {} s", age / 1_000_000);
        self.find_event(Kind::Late, &place(record), name_of(&event.statement), why);
    }

    fn add_leaf(
        &mut self,
        merge: &Merge,
        record: &Record,
        event: &AcceptedEvent,
        (offset, index): (u64, usize),
    ) -> Result<(), AuditError> {
        let statement = match Statement::decode(&event.statement) {
            Ok(statement) => statement,
            Err(error) => {
                let why = format!("a statement does not decode: {error}");
                self.find_damaged(&record.partition, record.offset, record.append_time, why);
                return Ok(());
            }
        };
        let of = &statement.event;
        let hash = identity_hash(b"killick/audit/v1\n", of.tenant, of.source, of.id);
        let name = *hash.first_chunk().expect("a SHA-256 hash has more than 16 bytes");
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.leaves.add(Leaf { name, time: merge.time, offset, index }).map_err(AuditError::Leaves)
    }

    /// Tells of names that are leaves twice within dedup's window.
    fn find_twice(&mut self, merge: &Merge) -> Result<(), AuditError> {
        let mut found = Vec::new();
        let mut each = |before: &Leaf, after: &Leaf| {
            if found.len() < MOST_TWICE {
                found.push((*before, *after));
            }
        };
        self.leaves.twice(self.settings.window, &mut each).map_err(AuditError::Leaves)?;
        for (before, after) in found {
            let records = self.reader.read(&merge.unique.partition, after.offset, 1)?;
            let frame = records.first().and_then(|record| UniqueFrame::decode(&record.value).ok());
            let index = usize::try_from(after.index).unwrap_or(usize::MAX);
            let name = frame.and_then(|frame| name_of(frame.statements.get(index)?));
            let range = (after.offset, after.offset.saturating_add(1));
            let place =
                Place { stage: Some("dedup"), partition: &merge.unique.partition, range, time: after.time };
            let why =
                format!("it was let through before, at offset {}, within dedup's window", before.offset);
            self.find_event(Kind::Twice, &place, name, why);
        }
        Ok(())
    }
}

/// Events let through twice that are told of in one log: one alone is a broken promise.
const MOST_TWICE: usize = 10_000;

fn place(record: &Record) -> Place<'_> {
    let range = (record.offset, record.offset.saturating_add(1));
    Place { stage: None, partition: &record.partition, range, time: record.append_time }
}

fn name_of(statement: &[u8]) -> Option<Name> {
    let event = Statement::decode(statement).ok()?.event;
    Some(Name { tenant: event.tenant.into(), source: event.source.into(), id: event.id.into() })
}

/// Whether the next copy is this event; then it is done with.
fn take_copy(copies: &mut &[Copy], frame: &AcceptedFrame, event: &AcceptedEvent) -> bool {
    let Some((next, rest)) = copies.split_first() else { return false };
    let is_it = next.topic == frame.topic && next.partition == frame.partition && next.offset == event.offset;
    if is_it {
        *copies = rest;
    }
    is_it
}
