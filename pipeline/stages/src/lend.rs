//! Lend: gives a log's later anchors to all the receipts that the log has.
//!
//! Reads `reanchors` (one partition), writes `lent`: the anchor as the catalog has it, so that the catalog can be made anew.
//! No state but the input offset, which moves in the transaction that holds what came of it.
//! The order of effects: the chain's proof is fetched and has to end in the block that was deep enough; the newest batch that
//! the checkpoint covers is read back from the catalog and verified with it in full; the anchor is in the catalog; `lent`
//! tells of it. From then on every receipt of the log that is read has it too.
//! Guarantees one record in `lent` for each record of the series in `reanchors`, unless the block was lost before its proof
//! could be fetched: then one for the block that came after it, or for the next checkpoint of the log. What does not verify halts the stage.

use std::collections::VecDeque;

use killick_proof::note::VerifierKey;
use killick_proof::receipt::Anchor;
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;

use crate::frame::AnchorFrame;
use crate::ports::AnchorRecord;
use crate::prove::wait::{self, Wait};
use crate::prove::{ConfigError, anchor_of, check, ends_in, is_replaced};
use crate::record::{Micros, Output, Partition, Record};
use crate::route::{LENT, REANCHORS};
use crate::series::is_series_name;
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage, Tally};

/// The stage, for one series.
#[derive(Debug)]
pub struct Lend {
    series: Box<str>,
    network: Box<str>,
    poll: Span,
    verifier: Verifier,
    is_ours: bool,
    /// What waits, the first one being worked on: the offset behind each.
    waiting: VecDeque<(u64, AnchorFrame)>,
    work: Option<Work>,
    asks: Vec<Request>,
    /// What an operator has to know of, and was not told yet.
    alarms: Vec<Box<str>>,
}

/// How far the work on an anchor is: each step awaits one answer.
#[derive(Debug)]
enum Work {
    /// The chain's proof, or the time to ask for it again.
    Proof(Wait),
    /// The newest batch that is covered.
    Newest(Box<Anchor>),
    /// The catalog.
    Storing(Box<AnchorRecord>),
}

impl Lend {
    /// The stage for a series on a network, as receipts name it; `keys` holds the public keys of the logs that are anchored, and
    /// `poll` is how long to wait before a chain is asked again for a proof that it could not give.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(series: &str, network: &str, poll: Span, keys: Vec<VerifierKey>) -> Result<Self, ConfigError> {
        if !is_series_name(series) {
            return Err(ConfigError::Series(series.to_owned()));
        }
        let logs = keys.into_iter().map(|key| LogKey { key, until: None }).collect();
        Ok(Self {
            series: series.into(),
            network: network.into(),
            poll,
            verifier: Verifier::new(Trust::new(&TrustFile { logs, ..TrustFile::default() })?),
            is_ours: false,
            waiting: VecDeque::new(),
            work: None,
            asks: Vec::new(),
            alarms: Vec::new(),
        })
    }

    /// Begins with the first that waits, if nothing is worked on.
    fn turn(&mut self) {
        if self.work.is_none()
            && let Some((_, frame)) = self.waiting.front()
        {
            self.asks.push(Request::Spv { chain: frame.chain, key: frame.key.clone() });
            self.work = Some(Work::Proof(Wait::default()));
        }
    }

    /// Whether another that waits proves all that the first one does.
    fn is_passed(&self) -> bool {
        let mut waiting = self.waiting.iter().map(|(_, frame)| frame);
        let first = waiting.next();
        first.is_some_and(|first| {
            waiting.any(|frame| frame.origin == first.origin && frame.size >= first.size)
        })
    }

    /// Ends the work on the first that waits.
    fn end_turn(&mut self, out: &mut Part) {
        if let Some((next, _)) = self.waiting.pop_front() {
            out.through = Some(next);
        }
        self.turn();
    }

    fn go_on(&mut self, answer: Answer, out: &mut Part) -> Result<(), String> {
        let (Some((_, frame)), Some(work)) = (self.waiting.front(), self.work.take()) else { return Ok(()) };
        let (number, size) = (frame.size.saturating_sub(1), frame.size);
        match (work, answer) {
            (Work::Proof(_), Answer::Spv(key, Some(spv)))
                if key == frame.key && ends_in(&spv, &frame.block) =>
            {
                let anchor = Box::new(anchor_of(frame, &spv, &self.network)?);
                self.asks.push(Request::ReadBatch { origin: frame.origin.clone(), number, size });
                self.work = Some(Work::Newest(anchor));
            }
            (Work::Proof(_), Answer::Spv(..)) if is_replaced(self.waiting.iter().map(|(_, frame)| frame)) => {
                self.end_turn(out);
            }
            (Work::Proof(wait), Answer::Spv(..)) => {
                let (keys, after) = (vec![frame.key.clone()], self.poll.duration());
                self.asks.push(Request::Look { chain: frame.chain, keys, depth: 0, after });
                self.work = Some(Work::Proof(wait));
            }
            (Work::Proof(mut wait), Answer::Seen(_, look)) => {
                let is_alarm = wait.looked(self.poll.duration(), frame, &look);
                let is_passed = wait.is_long() && self.is_passed();
                if is_alarm {
                    self.alarms.push(wait::alarm(frame, &look, is_passed).into());
                }
                if is_passed {
                    self.end_turn(out);
                } else {
                    self.asks.push(Request::Spv { chain: frame.chain, key: frame.key.clone() });
                    self.work = Some(Work::Proof(wait));
                }
            }
            (Work::Newest(anchor), Answer::BatchRead(stored)) => {
                check(&mut self.verifier, stored, number, frame, &anchor)?;
                let record = Box::new(AnchorRecord {
                    origin: frame.origin.clone(),
                    series: self.series.clone(),
                    size,
                    checkpoint: frame.checkpoint.clone(),
                    anchor: anchor.to_json().into(),
                });
                self.asks.push(Request::PutAnchor(record.clone()));
                self.work = Some(Work::Storing(record));
            }
            (Work::Storing(record), Answer::AnchorPut) => {
                let key = format!("{}/{}", record.series, record.origin);
                out.outputs.push(Output::new(Partition::new(LENT, 0), key, record.encode()));
                self.end_turn(out);
            }
            (work, _) => self.work = Some(work),
        }
        Ok(())
    }
}

impl Stage for Lend {
    fn assign(&mut self, _: &Partition, _: u64) {
        self.is_ours = true;
    }

    fn restore_since(&self, _: Micros) -> Option<Micros> {
        None
    }

    fn restore(&mut self, _: &Record) -> Result<(), Halt> {
        Ok(())
    }

    fn revoke(&mut self, _: &Partition) {
        self.is_ours = false;
        self.waiting.clear();
        self.asks.clear();
        self.alarms.clear();
        self.work = None;
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let halt = |why: String| Halt {
            partition: record.partition.clone(),
            why: format!("the record at offset {} does not belong here: {why}", record.offset).into(),
        };
        let frame = AnchorFrame::decode(&record.value).map_err(|error| halt(error.to_string()))?;
        let is_ours = frame.interval.strip_prefix(&*self.series).is_some_and(|rest| rest.starts_with('/'));
        let next = record.offset.saturating_add(1);
        if is_ours && frame.size == 0 {
            return Err(halt(format!("it is of {} at size 0", frame.origin)));
        }
        match (is_ours, self.waiting.back_mut()) {
            (true, _) => self.waiting.push_back((next, frame)),
            (false, Some((last, _))) => *last = next,
            (false, None) => out.through = Some(next),
        }
        self.turn();
        Ok(())
    }

    fn seal(&mut self, _: &Partition, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    /// Checkpoints are no events.
    fn tally(&mut self, _: &Partition) -> Tally {
        Tally::default()
    }

    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        None
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        let partition = Partition::new(REANCHORS, 0);
        self.asks.drain(..).map(|request| (partition.clone(), request)).collect()
    }

    fn alarms(&mut self) -> Vec<(Partition, Box<str>)> {
        self.alarms.drain(..).map(|why| (Partition::new(REANCHORS, 0), why)).collect()
    }

    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt> {
        if !self.is_ours {
            return Ok(());
        }
        self.go_on(answer, out).map_err(|why| Halt { partition: partition.clone(), why: why.into() })
    }

    fn held(&self) -> usize {
        0
    }
}
