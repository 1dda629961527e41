//! Counts what became of every event, from what stands outside the pipeline: the ledger, the topics that people write and
//! read, the catalog and the chain.
//!
//! It shares nothing with the stages but the forms of records: each receipt is derived from its message and verified by
//! the offline verifier, with what the sender knows of the payload. It is told what the trust file says, and no more.

mod catalog;
mod findings;
mod life;
mod records;

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::report::{Level, Verdict};
use killick_proof::statement::Statement;
use killick_proof::trust::Trust;
use killick_proof::verify::Verifier;
use killick_stages::derive::Receipts;
use killick_stages::ports::Reader;
use killick_stages::ready::ProofReady;
use killick_stages::record::Record;
use killick_stages::rejected::{Code, PREFIX};
use killick_stages::route::{PROOFS, REJECTED};

pub use self::catalog::{Sample, check_catalog};
pub use self::findings::{Bad, Findings};
pub use self::life::lives;
pub use self::records::each_record;
use crate::events::{Events, NUMBER, Shape, TOPICS, number_of};
use crate::ledger::{Ledger, Outcome};

/// Where a record came in: topic, partition, offset.
type Origin = (String, u32, u64);

/// The batches that have proofs, by log and number: their headers.
pub type Proven = BTreeMap<(Box<str>, u64), Bytes>;

/// Looks at everything, one after another.
pub struct Checker<'a> {
    ledger: &'a Ledger,
    events: &'a Events,
    verifier: Verifier,
    /// How many proofs each number has.
    proofs: Vec<u8>,
    /// Whether each number came in.
    arrived: Vec<bool>,
    /// Records that have to be rejected, once each, with their numbers and reasons.
    to_reject: BTreeMap<Origin, (u64, Code)>,
    rejected: HashSet<Origin>,
    proven: Proven,
    findings: Findings,
}

impl<'a> Checker<'a> {
    /// A checker that believes a trust file.
    pub fn new(ledger: &'a Ledger, events: &'a Events, trust: Trust) -> Result<Self> {
        let count = usize::try_from(ledger.plan.events)?;
        Ok(Self {
            ledger,
            events,
            verifier: Verifier::new(trust),
            proofs: vec![0; count],
            arrived: vec![false; count],
            to_reject: BTreeMap::new(),
            rejected: HashSet::new(),
            proven: Proven::new(),
            findings: Findings::default(),
        })
    }

    /// Looks at the topics; `progress` hears what is looked at.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read(&mut self, log: &mut dyn Reader, progress: &mut dyn FnMut(&str, u64)) -> Result<()> {
        for topic in TOPICS {
            let mut first = HashSet::new();
            each_record(log, topic, &mut |record| self.input(&record, &mut first), progress)?;
        }
        each_record(log, REJECTED, &mut |record| self.reject(&record), progress)?;
        each_record(log, PROOFS, &mut |record| self.proof(&record), progress)
    }

    /// A record that came in.
    fn input(&mut self, record: &Record, first: &mut HashSet<u64>) {
        let Some(number) = header(record, NUMBER).and_then(|text| text.parse::<u64>().ok()) else {
            return self
                .findings
                .wrong
                .add(None, format!("{} at {} is none of ours", record.partition, record.offset));
        };
        if let Some(arrived) = self.arrived.get_mut(number as usize) {
            *arrived = true;
        }
        let mix = &self.events.mix;
        if let Shape::Poison(poison) = mix.shape(number) {
            self.to_reject.insert(origin_of(record), (number, poison.code()));
        } else if mix.changes(number) > 0 {
            // Changed copies are sent to the partition of the first, when that is accepted.
            if record.value == self.events.record(number, 0).value {
                first.insert(number);
            } else if first.contains(&number) {
                self.to_reject.insert(origin_of(record), (number, Code::Conflict));
            } else {
                self.findings.wrong.add(Some(number), "a changed copy stands before the event".to_owned());
            }
        }
    }

    /// A record that was rejected.
    fn reject(&mut self, record: &Record) {
        let named = |name: &str| header(record, &format!("{PREFIX}{name}"));
        let origin = || -> Option<Origin> {
            let topic = named("topic")?.to_owned();
            Some((topic, named("partition")?.parse().ok()?, named("offset")?.parse().ok()?))
        };
        let place = format!("{} at {}", record.partition, record.offset);
        let Some(origin) = origin() else {
            return self.findings.wrong.add(None, format!("{place} says not where it came from"));
        };
        let (number, code) = match self.to_reject.get(&origin) {
            Some((number, code)) => (*number, code.name()),
            None => {
                let number = header(record, NUMBER).and_then(|text| text.parse().ok());
                return self.findings.wrong.add(number, format!("{place} rejects {origin:?}, which is fine"));
            }
        };
        if named("exception.class.name") != Some(code) {
            let found = named("exception.class.name").unwrap_or_default();
            self.findings.wrong.add(Some(number), format!("{place}: rejected as {found}, and it is {code}"));
        }
        if !self.rejected.insert(origin) {
            self.findings.duplicated.add(Some(number), format!("{place}: rejected once more"));
        }
        self.findings.rejected += 1;
    }

    /// A message that says that a batch is proven.
    fn proof(&mut self, record: &Record) {
        let place = format!("{} at {}", record.partition, record.offset);
        let ready = match ProofReady::decode(&record.value) {
            Ok(ready) => ready,
            Err(error) => return self.findings.wrong.add(None, format!("{place}: {error}")),
        };
        let (origin, number) = (ready.origin.clone(), ready.number);
        if self.proven.contains_key(&(origin.clone(), number)) {
            for statement in &ready.statements {
                let why = format!("{place}: batch {number} of {origin} is told of once more");
                self.findings.duplicated.add(event_number(statement), why);
            }
            return;
        }
        match Receipts::of(&ready) {
            Ok(receipts) => (0..receipts.count()).for_each(|index| self.receipt(&receipts, index, &place)),
            Err(why) => self.findings.wrong.add(None, format!("{place}: {why}")),
        }
        self.proven.insert((origin, number), ready.header);
    }

    /// The receipt of one event.
    fn receipt(&mut self, receipts: &Receipts, index: u64, place: &str) {
        self.findings.receipts += 1;
        let Some(receipt) = receipts.get(index) else {
            return self.findings.wrong.add(None, format!("{place}: no receipt {index}"));
        };
        let Some(number) = event_number(&receipt.statement) else {
            return self.findings.phantom.add(None, format!("{place}, leaf {index}: nobody sent that"));
        };
        let is_wrong = |statement: &[u8]| {
            let name = self.events.mix.name(number);
            let event = Statement::decode(statement).ok()?.event;
            Some((event.tenant, event.source) != (name.tenant, &*name.source))
        };
        if is_wrong(&receipt.statement) == Some(true) {
            self.findings.wrong.add(Some(number), format!("{place}, leaf {index}: another tenant or source"));
        }
        let digest = self.events.mix.digest(number);
        let report = self.verifier.verify(receipt.to_json().as_bytes(), Some(&digest));
        if report.verdict(Level::Trusted) != Verdict::Reached {
            let why = report.fault.map_or_else(String::new, |fault| fault.to_string());
            self.findings
                .wrong
                .add(Some(number), format!("{place}, leaf {index}: {:?}: {why}", report.level));
        }
        match self.proofs.get_mut(number as usize) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.findings.phantom.add(None, format!("{place}, leaf {index}: there is no number {number}"))
            }
        }
    }

    /// Holds what was seen against the ledger.
    pub fn conclude(mut self) -> (Findings, Proven) {
        let batches = std::mem::take(&mut self.proven);
        self.follow(&batches);
        for number in 0..self.ledger.plan.events {
            let (outcome, at) = (self.ledger.outcome(number), number as usize);
            let fate = self.events.mix.fate(number);
            let proofs = u64::from(self.proofs[at]);
            match outcome {
                Outcome::Accepted => self.findings.accepted += 1,
                Outcome::Unknown => self.findings.unknown += 1,
                Outcome::Unsent if self.arrived[at] || proofs > 0 => {
                    self.findings.phantom.add(Some(number), "it was never sent".to_owned());
                }
                Outcome::Unsent => {}
            }
            if outcome == Outcome::Accepted && !self.arrived[at] {
                self.findings.lost.add(Some(number), "accepted, and not in its topic".to_owned());
            }
            match fate {
                // What is in its topic has a fate, whatever its sender knows.
                Ok(()) if proofs == 0 && self.arrived[at] => {
                    self.findings.lost.add(Some(number), format!("{outcome:?}, and has no proof"));
                }
                Ok(()) if proofs > 1 => {
                    self.findings.duplicated.add(Some(number), format!("{proofs} proofs"));
                }
                Err(code) if proofs > 0 => {
                    self.findings.phantom.add(Some(number), format!("it is {code}, and has a proof"));
                }
                _ => {}
            }
        }
        for (origin, (number, code)) in &self.to_reject {
            if !self.rejected.contains(origin) {
                let (topic, partition, offset) = origin;
                let why = format!("{topic}/{partition} at {offset} is {code}, and nobody said so");
                self.findings.lost.add(Some(*number), why);
            }
        }
        (self.findings, batches)
    }

    /// The batches of a log follow each other: no number is missing, and no offset is in two of them.
    fn follow(&mut self, batches: &Proven) {
        let mut last: HashMap<&str, (u64, u64)> = HashMap::new();
        for ((origin, number), bytes) in batches {
            let Ok(header) = BatchHeader::decode(bytes) else { continue };
            let (next, end) = last.get(&**origin).map_or((0, None), |(number, end)| (number + 1, Some(*end)));
            if *number != next {
                self.findings.gaps += number - next;
            }
            if end.is_some_and(|end| header.first_offset <= end) {
                self.findings.overlaps += 1;
            }
            last.insert(origin, (*number, header.last_offset));
        }
    }
}

/// The numbers that are worth a closer look.
pub fn suspects(findings: &Findings) -> Vec<u64> {
    let all = [&findings.lost, &findings.duplicated, &findings.phantom, &findings.wrong];
    let mut numbers: Vec<_> = all.into_iter().flat_map(Bad::numbers).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

fn origin_of(record: &Record) -> Origin {
    (record.partition.topic.as_str().to_owned(), record.partition.number, record.offset)
}

/// The number of the event that a statement is about, if it is one of ours.
fn event_number(statement: &[u8]) -> Option<u64> {
    Statement::decode(statement).ok().and_then(|statement| number_of(statement.event.id))
}

/// Reads a trust file.
///
/// # Errors
/// It is none.
pub fn trust(path: &std::path::Path) -> Result<Trust> {
    let file = std::fs::read(path).with_context(|| path.display().to_string())?;
    Trust::parse(&file).with_context(|| path.display().to_string())
}
