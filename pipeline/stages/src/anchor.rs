//! Anchor: puts the newest checkpoints of a chain's logs on that chain, one command an interval.
//!
//! Reads `checkpoints` (partition: the chain), writes `anchors` (partition: the log), one record for each log that an
//! interval covers. State, in `anchor-log`: how far the input is done, and each interval with its commands until it is
//! final.
//! The order of effects: the command is in `anchor-log`, in one transaction with the input offset, before it is sent; it
//! is sent byte for byte the same until it is found in a block; another one is made only when all before are provably
//! dead, and is in `anchor-log` before it is sent; `anchors` is written when the block is `depth` deep, in one transaction
//! with the end of the interval's state. A crash anywhere repeats at most a send of the same bytes, or a look.
//! If `anchor-log` is lost, the stage halts: an interval might be anchored a second time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use killick_proof::anchor::AnchorTree;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;
use killick_proof::signature::SecretKey;
use serde::Deserialize;

use crate::command::{Builder, next_number};
use crate::deployment::Deployment;
use crate::frame::AnchorFrame;
use crate::ports::{ChainId, Look, Mined, Sent};
use crate::record::{Micros, Output, Partition, Record};
use crate::route::{ANCHOR_LOG, ANCHORS, CHECKPOINTS};
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage, Tally};
use crate::state::{AnchorState, Interval, Position};

/// How checkpoints are anchored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long checkpoints are gathered for one command, in log time. 10 ms to 1 h; default 30 s.
    pub interval: Span,
    /// Blocks above a command's until it counts as final. 1 to 120; default 20.
    pub depth: u64,
    /// How long to wait between looks at the chain. 10 ms to 10 min; default 5 s.
    pub poll: Span,
    /// How long a command may wait for a block. 2 min to 1 d; default 20 min.
    pub ttl: Span,
    /// Intervals of one chain that wait for their commands at the same time: beyond, checkpoints gather until one is
    /// final. 1 to 1,000; default 64.
    pub in_flight: usize,
    /// The most gas that a command may use. 100 to 150,000; default 400: one root takes 75.
    pub gas_limit: u64,
    /// The price of a unit of gas in the chain's coin: a decimal of at most 12 places. Default `1e-8`.
    pub gas_price: String,
    /// The account that pays. Default: `k:` and the public key.
    pub sender: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::secs(30),
            depth: 20,
            poll: Span::secs(5),
            ttl: Span::secs(1_200),
            in_flight: 64,
            gas_limit: 400,
            gas_price: "1e-8".to_owned(),
            sender: None,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting outside its range.
    #[error("{name} is {found}; it is {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: String,
        /// What it may be.
        range: &'static str,
    },
    /// The settings make no command that a node would take.
    #[error("no command can be made: {0}")]
    Command(#[from] chainweb::pact::ExecError),
    /// More logs on one chain than an interval's record holds.
    #[error("chain {chain} has {logs} logs; it may have {MAX_LOGS}: add chains")]
    Logs {
        /// The chain.
        chain: ChainId,
        /// Its logs.
        logs: usize,
    },
}

/// Logs of one chain: an interval over so many stays below any log's limit for a record.
const MAX_LOGS: usize = 1_000;

/// Attempts that are looked for: those before are long dead, provably.
const MAX_ATTEMPTS: usize = 8;

/// The key of the position in `anchor-log`.
const POSITION: &[u8] = b"position";

/// The stage.
#[derive(Debug)]
pub struct Anchor {
    deployment: Deployment,
    config: Config,
    builder: Builder,
    chains: BTreeMap<u32, OpenChain>,
}

/// What is known of one chain.
#[derive(Debug)]
struct OpenChain {
    chain: ChainId,
    /// The offset of the next record.
    next: u64,
    /// Whether the state was held against the input offset.
    is_checked: bool,
    /// How far the input is done.
    done: Position,
    /// The largest append time of what was stepped.
    time: Micros,
    /// The append time of the first checkpoint that no interval covers yet.
    since: Option<Micros>,
    /// The newest such checkpoint of each log, by origin: its size and the signed note.
    open: BTreeMap<Box<str>, (u64, Box<str>)>,
    /// Intervals that are not final, by the offset before which they end: their ids.
    flights: BTreeMap<u64, Flight>,
}

/// An interval on its way. At any time either something is to be asked for it, or one answer is awaited.
#[derive(Debug)]
struct Flight {
    interval: Interval,
    ask: Option<Ask>,
    /// Whether a node said that the newest attempt can never be mined: then it is not sent again, only looked for.
    is_refused: bool,
    /// The height of the tip when the newest attempt was first seen to have expired.
    expired_at: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Give the newest attempt to the chain.
    Send,
    /// Look for all attempts, after a while.
    Look(Duration),
}

impl Anchor {
    /// The stage; `key` signs the commands, and its account pays for them unless another is named.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config, key: SecretKey) -> Result<Self, ConfigError> {
        check(config)?;
        for &chain in deployment.chains() {
            let is_its = |log: &u32| deployment.chain_of(*log).is_some_and(|(its, _)| its == chain);
            let logs = (0..deployment.logs()).filter(is_its).count();
            if logs > MAX_LOGS {
                return Err(ConfigError::Logs { chain, logs });
            }
        }
        let account = || format!("k:{}", hex::encode(key.public().as_bytes()));
        let builder = Builder {
            network: deployment.network().into(),
            name: deployment.nonce_prefix().into(),
            sender: config.sender.clone().unwrap_or_else(account).into(),
            key,
            gas_limit: config.gas_limit,
            gas_price: config.gas_price.as_str().into(),
            ttl: config.ttl,
        };
        builder.build(0, "0", 0, 0, "")?;
        Ok(Self { deployment: deployment.clone(), config: config.clone(), builder, chains: BTreeMap::new() })
    }

    /// Makes an interval of what is open, done below offset `end`, and logs the intent to anchor it.
    fn cut(&mut self, partition: &Partition, end: u64, cut: Micros, out: &mut Part) -> Result<(), Halt> {
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        let halt = |why: &dyn fmt::Display| halt(partition, format!("interval {end} cannot be made: {why}"));
        let checkpoints = std::mem::take(&mut chain.open).into_values().map(|(_, note)| note).collect();
        chain.since = None;
        let id: Box<str> = end.to_string().into();
        let mut interval = Interval { id, cut, checkpoints, attempts: Vec::new() };
        let text =
            texts(&interval).and_then(|texts| tree(&self.deployment, texts)).map_err(|why| halt(&why))?;
        let attempt = self.builder.build(chain.chain, &interval.id, cut, 0, &text.anchor_text());
        let attempt = attempt.map_err(|error| halt(&error))?;
        drop(text);
        interval.attempts.push(attempt);
        out.outputs.push(intent(partition.number, &interval));
        chain
            .flights
            .insert(end, Flight { interval, ask: Some(Ask::Send), is_refused: false, expired_at: None });
        chain.move_to(end, cut, partition.number, out);
        Ok(())
    }

    /// Makes and logs the next attempt, all before being dead. A command that is `spent`, in the chain for good and
    /// proving nothing, is given up, since looks would find it before any other.
    fn retry(
        &mut self,
        partition: &Partition,
        id: u64,
        tip: Micros,
        spent: Option<&str>,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        let Some(flight) = chain.flights.get_mut(&id) else { return Ok(()) };
        let interval = &mut flight.interval;
        let halt =
            |why: &dyn fmt::Display| halt(partition, format!("interval {id} has no next attempt: {why}"));
        let newest = interval.attempts.last();
        let last = newest.map_or(0, |attempt| attempt.number);
        if spent.is_none() || newest.map(|attempt| &*attempt.key) == spent {
            let number = next_number(interval.cut, last, tip);
            let tree = texts(interval).and_then(|texts| tree(&self.deployment, texts));
            let text = tree.map_err(|why| halt(&why))?.anchor_text();
            let attempt = self.builder.build(chain.chain, &interval.id, interval.cut, number, &text);
            interval.attempts.push(attempt.map_err(|error| halt(&error))?);
            (flight.ask, flight.is_refused, flight.expired_at) = (Some(Ask::Send), false, None);
        } else {
            flight.ask = Some(Ask::Look(Duration::ZERO));
        }
        interval.attempts.retain(|attempt| spent != Some(&*attempt.key));
        let old = interval.attempts.len().saturating_sub(MAX_ATTEMPTS);
        interval.attempts.drain(..old);
        out.outputs.push(intent(partition.number, interval));
        Ok(())
    }

    /// Writes what the interval's command proves, and ends the interval.
    fn finish(&mut self, partition: &Partition, id: u64, mined: &Mined, out: &mut Part) -> Result<(), Halt> {
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        let Some(flight) = chain.flights.remove(&id) else { return Ok(()) };
        let interval = flight.interval;
        let halt =
            |why: &dyn fmt::Display| halt(partition, format!("interval {id} cannot be told of: {why}"));
        let tree =
            texts(&interval).and_then(|texts| tree(&self.deployment, texts)).map_err(|why| halt(&why))?;
        let text: Box<str> = tree.anchor_text().into();
        for (index, (note, leaf)) in interval.checkpoints.iter().zip(tree.texts()).enumerate() {
            let checkpoint = Checkpoint::parse(leaf).map_err(|error| halt(&error))?;
            let log = self.deployment.log_of_origin(checkpoint.origin);
            let log = log.ok_or_else(|| halt(&format_args!("{} is no log of ours", checkpoint.origin)))?;
            let index = index as u64;
            let path = tree.path(index).map_err(|error| halt(&error))?;
            let frame = AnchorFrame {
                chain: chain.chain,
                interval: interval.id.clone(),
                key: mined.key.clone(),
                origin: checkpoint.origin.into(),
                size: checkpoint.size,
                checkpoint: note.clone(),
                text: text.clone(),
                index,
                path: path.iter().map(|hash| *hash.as_bytes()).collect(),
            };
            let key = frame.origin.to_string();
            out.outputs.push(Output::new(Partition::new(ANCHORS, log), key, frame.encode()));
        }
        let state = Partition::new(ANCHOR_LOG, partition.number);
        out.outputs.push(Output::new(state, interval.id.to_string(), Bytes::new()));
        Ok(())
    }

    /// Decides what follows from a look at the chain.
    fn seen(&mut self, partition: &Partition, id: u64, look: &Look, out: &mut Part) -> Result<(), Halt> {
        let (depth, poll) = (self.config.depth, self.config.poll.duration());
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        let Some(flight) = chain.flights.get_mut(&id) else { return Ok(()) };
        if let Some(mined) = &look.mined {
            flight.expired_at = None;
            let is_deep = mined.height.checked_add(depth).is_some_and(|deep| look.tip_height >= deep);
            return match (is_deep, mined.success) {
                (true, true) => self.finish(partition, id, mined, out),
                (true, false) => self.retry(partition, id, look.tip_time, Some(&mined.key), out),
                (false, _) => {
                    flight.ask = Some(Ask::Look(poll));
                    Ok(())
                }
            };
        }
        let is_expired = flight.interval.attempts.last().is_none_or(|last| last.expires <= look.tip_time);
        if !is_expired {
            flight.expired_at = None;
            // Not in a block, never seen or gone from one: the same bytes again.
            flight.ask = Some(if flight.is_refused { Ask::Look(poll) } else { Ask::Send });
            return Ok(());
        }
        // No block above this tip can take it. When that tip is deep, no other branch will either.
        let expired_at = *flight.expired_at.get_or_insert(look.tip_height);
        if expired_at.checked_add(depth).is_some_and(|deep| look.tip_height >= deep) {
            return self.retry(partition, id, look.tip_time, None, out);
        }
        flight.ask = Some(Ask::Look(poll));
        Ok(())
    }
}

impl OpenChain {
    /// Moves the input offset, with its state.
    fn move_to(&mut self, next: u64, time: Micros, number: u32, out: &mut Part) {
        self.done = Position { next, time };
        let state = AnchorState::Position(self.done).encode();
        out.outputs.push(Output::new(Partition::new(ANCHOR_LOG, number), POSITION, state));
        out.through = Some(next);
    }

    /// Takes a checkpoint in, unless a newer one of its log is.
    fn gather(&mut self, deployment: &Deployment, record: &Record) -> Result<(), String> {
        let note = std::str::from_utf8(&record.value).map_err(|error| error.to_string())?;
        let text = Note::parse(note).map_err(|error| error.to_string())?.text();
        let checkpoint = Checkpoint::parse(text).map_err(|error| error.to_string())?;
        checkpoint.log_origin().map_err(|error| error.to_string())?;
        if deployment.log_of_origin(checkpoint.origin).is_none() {
            return Err(format!("{} is no log of this deployment", checkpoint.origin));
        }
        self.since.get_or_insert(self.time);
        let newest = self.open.get(checkpoint.origin).map(|(size, _)| *size);
        if newest.is_none_or(|size| size < checkpoint.size) {
            self.open.insert(checkpoint.origin.into(), (checkpoint.size, note.into()));
        }
        Ok(())
    }

    /// The log time from which on the open interval is over; `None` while nothing is open, or no more fits in flight.
    fn due(&self, config: &Config) -> Option<Micros> {
        if self.flights.len() >= config.in_flight {
            return None;
        }
        Some(self.since?.saturating_add(config.interval.micros()))
    }

    /// The interval that one of these commands belongs to.
    fn flight_of(&self, key: &str) -> Option<u64> {
        let has = |flight: &Flight| flight.interval.attempts.iter().any(|attempt| *attempt.key == *key);
        self.flights.iter().find(|(_, flight)| has(flight)).map(|(id, _)| *id)
    }
}

/// The texts that the notes of an interval's checkpoints are over.
fn texts(interval: &Interval) -> Result<Vec<&str>, String> {
    fn text(note: &str) -> Result<&str, String> {
        Note::parse(note).map(|note| note.text()).map_err(|error| error.to_string())
    }
    interval.checkpoints.iter().map(|note| text(note)).collect()
}

fn tree<'a>(deployment: &Deployment, texts: Vec<&'a str>) -> Result<AnchorTree<'a>, String> {
    AnchorTree::new(deployment.algorithm(), texts).map_err(|error| error.to_string())
}

fn intent(number: u32, interval: &Interval) -> Output {
    let key = interval.id.to_string();
    let state = AnchorState::Interval(interval.clone()).encode();
    Output::new(Partition::new(ANCHOR_LOG, number), key, state)
}

fn halt(partition: &Partition, why: impl Into<Box<str>>) -> Halt {
    Halt { partition: partition.clone(), why: why.into() }
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let spans = [
        ("interval", config.interval, Span::millis(10), Span::secs(3_600), "10ms to 1h"),
        ("poll", config.poll, Span::millis(10), Span::secs(600), "10ms to 10m"),
        ("ttl", config.ttl, Span::secs(120), Span::secs(86_400), "2m to 1d"),
    ];
    for (name, found, least, most, range) in spans {
        if !(least..=most).contains(&found) {
            return Err(ConfigError::Range { name, found: found.to_string(), range });
        }
    }
    let numbers = [
        ("depth", config.depth, 1, 120, "1 to 120"),
        ("in_flight", config.in_flight as u64, 1, 1_000, "1 to 1000"),
        ("gas_limit", config.gas_limit, 100, 150_000, "100 to 150000"),
    ];
    for (name, found, least, most, range) in numbers {
        if !(least..=most).contains(&found) {
            return Err(ConfigError::Range { name, found: found.to_string(), range });
        }
    }
    Ok(())
}

impl Stage for Anchor {
    fn assign(&mut self, partition: &Partition, next: u64) {
        let place = usize::try_from(partition.number).ok();
        let Some(&chain) = place.and_then(|place| self.deployment.chains().get(place)) else { return };
        let open = OpenChain {
            chain,
            next,
            is_checked: false,
            done: Position { next: 0, time: Micros::MIN },
            time: Micros::MIN,
            since: None,
            open: BTreeMap::new(),
            flights: BTreeMap::new(),
        };
        self.chains.insert(partition.number, open);
    }

    fn restore_since(&self, _: Micros) -> Option<Micros> {
        None
    }

    fn restore(&mut self, record: &Record) -> Result<(), Halt> {
        let partition = Partition::new(CHECKPOINTS, record.partition.number);
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        let damaged = |why: &dyn fmt::Display| {
            halt(&partition, format!("{ANCHOR_LOG} at offset {}: {why}", record.offset))
        };
        let id = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        if record.value.is_empty() {
            let id = id(&record.key).ok_or_else(|| damaged(&"it ends an interval without an id"))?;
            chain.flights.remove(&id);
            return Ok(());
        }
        match AnchorState::decode(&record.value).map_err(|error| damaged(&error))? {
            AnchorState::Position(position) => {
                chain.done = position;
                chain.time = position.time;
            }
            AnchorState::Interval(interval) => {
                let id = id(interval.id.as_bytes()).ok_or_else(|| damaged(&"an interval without an id"))?;
                if interval.attempts.is_empty() {
                    return Err(damaged(&"an interval without a command"));
                }
                let ask = Some(Ask::Look(Duration::ZERO));
                let flight = Flight { interval, ask, is_refused: false, expired_at: None };
                chain.flights.insert(id, flight);
            }
        }
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        self.chains.remove(&partition.number);
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let partition = &record.partition;
        let Some(chain) = self.chains.get_mut(&partition.number) else {
            return Err(halt(
                partition,
                "there is no chain for this partition; the list of chains got shorter",
            ));
        };
        if !std::mem::replace(&mut chain.is_checked, true) && chain.done.next != chain.next {
            return Err(halt(
                partition,
                format!(
                    "{ANCHOR_LOG} ends before offset {}, but {} is the next: the two do not belong together; find out \
                     which was changed before going on, or checkpoints might be anchored twice",
                    chain.done.next, chain.next
                ),
            ));
        }
        let before = chain.time;
        chain.time = chain.time.max(record.append_time);
        let (time, is_due) = (chain.time, chain.due(&self.config).is_some_and(|due| chain.time >= due));
        chain.next = record.offset + 1;
        if record.is_tick() {
            if is_due {
                self.cut(partition, record.offset + 1, time, out)?;
            } else if chain.open.is_empty() {
                chain.move_to(record.offset + 1, time, partition.number, out);
            }
            return Ok(());
        }
        if is_due {
            self.cut(partition, record.offset, before, out)?;
        }
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        chain.gather(&self.deployment, record).map_err(|why| {
            halt(partition, format!("the checkpoint at offset {} is none: {why}", record.offset))
        })
    }

    fn seal(&mut self, _: &Partition, _: &mut Part) -> Result<(), Halt> {
        Ok(())
    }

    /// Checkpoints are no events.
    fn tally(&mut self, _: &Partition) -> Tally {
        Tally::default()
    }

    fn tick_due(&self, partition: &Partition) -> Option<Micros> {
        self.chains.get(&partition.number)?.due(&self.config)
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        let mut requests = Vec::new();
        for (number, chain) in &mut self.chains {
            for flight in chain.flights.values_mut() {
                let (Some(ask), Some(newest)) = (flight.ask.take(), flight.interval.attempts.last()) else {
                    continue;
                };
                let request = match ask {
                    Ask::Send => Request::Send {
                        chain: chain.chain,
                        key: newest.key.clone(),
                        command: newest.command.clone(),
                    },
                    Ask::Look(after) => Request::Look {
                        chain: chain.chain,
                        keys: flight.interval.attempts.iter().map(|attempt| attempt.key.clone()).collect(),
                        after,
                    },
                };
                requests.push((Partition::new(CHECKPOINTS, *number), request));
            }
        }
        requests
    }

    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt> {
        let poll = self.config.poll.duration();
        let Some(chain) = self.chains.get_mut(&partition.number) else { return Ok(()) };
        match answer {
            Answer::Sent(key, said) => {
                if let Some(flight) = chain.flight_of(&key).and_then(|id| chain.flights.get_mut(&id)) {
                    flight.is_refused = matches!(said, Sent::Refused(_));
                    flight.ask = Some(Ask::Look(poll));
                }
                Ok(())
            }
            Answer::Seen(keys, look) => match keys.first().and_then(|key| chain.flight_of(key)) {
                Some(id) => self.seen(partition, id, &look, out),
                None => Ok(()),
            },
            Answer::BatchPut(_)
            | Answer::AnchorPut
            | Answer::BatchRead(_)
            | Answer::Spv(..)
            | Answer::Again
            | Answer::Schema(..) => Ok(()),
        }
    }

    fn held(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests;
