//! Anchor: puts the newest checkpoints of a chain's logs on that chain, one command an interval.
//!
//! Reads `checkpoints` (partition: the lane), writes `anchors` (partition: the log), one record for each log that an
//! interval covers. State, in `anchor-log`: how far the input is done, and each interval with its commands for as long as
//! it is looked after.
//! The order of effects: the command is in `anchor-log`, in one transaction with the input offset, before it is sent; it
//! is sent byte for byte the same until it is found in a block; another one is made only when all before are provably
//! dead, and is in `anchor-log` before it is sent; `anchors` is written when the block is `depth` deep, in one transaction
//! with what `anchor-log` says of it. A crash anywhere repeats at most a send of the same bytes, or a look.
//! Each interval is told of once. Only where a block is lost that was deep enough, which is an alarm, it is told of again,
//! as another version, when it is deep enough again: the same command, sent byte for byte the same.
//! If `anchor-log` is lost, the stage halts: an interval might be anchored a second time.
//!
//! | file | what |
//! |---|---|
//! | `anchor.rs` | what comes in, and what is asked: intervals are cut here |
//! | `anchor/fate.rs` | what becomes of an interval, look by look |
//! | `anchor/gauges.rs` | what is to be seen of it |
//! | `anchor/lane.rs` | what is known of one partition of `checkpoints` |
//! | `anchor/purse.rs` | what the accounts that pay hold, and for how long that lasts |
//! | `anchor/series.rs` | the same for later anchors of all logs, elsewhere |

mod config;
mod fate;
mod gauges;
mod lane;
mod purse;
mod series;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use killick_proof::anchor::AnchorTree;
use killick_proof::note::Note;
use killick_proof::signature::SecretKey;

use crate::command::{Builder, Payer};
use crate::deployment::Deployment;
use crate::ports::{ChainId, Sent};
use crate::record::{Micros, Output, Partition, Record};
use crate::route::{ANCHOR_LOG, ANCHORS, CHECKPOINTS};
use crate::stage::{Answer, Gauge, Halt, Part, Request, Stage, Tally};
use crate::state::{AnchorState, Interval, Position};
use config::check;
pub use config::{Choice, Config, ConfigError};
use fate::{Ask, Flight};
pub use lane::coins;
use lane::{Budget, DAY, Lane};
use series::Later;
pub use series::Series;

/// Logs of one chain: an interval over so many stays below any log's limit for a record.
const MAX_LOGS: usize = 1_000;

/// Attempts that are looked for: those before are long dead, provably.
const MAX_ATTEMPTS: usize = 8;

/// The most keys that sign commands.
pub const MAX_KEYS: usize = 16;

/// The key of the position in `anchor-log`.
const POSITION: &str = "position";

/// The stage.
#[derive(Debug)]
pub struct Anchor {
    deployment: Deployment,
    /// The chains, in order of the partitions of the input.
    chains: Box<[ChainId]>,
    shelf: Shelf,
    config: Config,
    builder: Builder,
    /// The most that one command may cost, and that a lane may spend in a day: in 10^-12 of the coin.
    budget: Budget,
    lanes: BTreeMap<u32, Lane>,
    /// For a series of later anchors: what it knows.
    later: Option<Later>,
    /// What an operator has to know of, and was not told yet.
    alarms: Vec<(Partition, Box<str>)>,
}

/// Where a stage of this kind reads and writes.
#[derive(Debug, Clone)]
struct Shelf {
    input: &'static str,
    state: &'static str,
    output: &'static str,
    /// What stands before the names of intervals and of state: empty, or the series and a slash.
    prefix: Box<str>,
}

impl Shelf {
    /// The name of an interval of a lane, by which commands and anchors tell it from all others.
    fn name(&self, lane: u32, interval: &Interval) -> String {
        format!("{}{lane}/{}", self.prefix, interval.id)
    }

    /// The key of a record of state.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The record that logs an interval as it is now.
    fn intent(&self, number: u32, interval: &Interval) -> Output {
        let state = AnchorState::Interval(interval.clone()).encode();
        Output::new(Partition::new(self.state, number), self.key(&interval.id), state)
    }

    /// The record that ends an interval.
    fn end(&self, number: u32, interval: &Interval) -> Output {
        Output::new(Partition::new(self.state, number), self.key(&interval.id), bytes::Bytes::new())
    }

    /// The record that says how far the input is done.
    fn position(&self, number: u32, position: Position) -> Output {
        let state = AnchorState::Position(position).encode();
        Output::new(Partition::new(self.state, number), self.key(POSITION), state)
    }
}

impl Anchor {
    /// The stage; `keys` sign the commands, 1 to [`MAX_KEYS`]. Each pays from its own account for the commands that it
    /// signs, and they take turns; or all sign for the one account that the configuration names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(deployment: &Deployment, config: &Config, keys: Vec<SecretKey>) -> Result<Self, ConfigError> {
        check(config, false)?;
        for &chain in deployment.chains() {
            let is_its = |log: &u32| deployment.chain_of(*log).is_some_and(|(its, _)| its == chain);
            let logs = (0..deployment.logs()).filter(is_its).count();
            if logs > MAX_LOGS {
                return Err(ConfigError::Logs { chain, logs });
            }
        }
        let shelf = Shelf { input: CHECKPOINTS, state: ANCHOR_LOG, output: ANCHORS, prefix: "".into() };
        Self::on(deployment, (deployment.network(), deployment.chains()), shelf, config, keys)
    }

    /// The stage on the chains of a network.
    fn on(
        deployment: &Deployment,
        (network, chains): (&str, &[ChainId]),
        shelf: Shelf,
        config: &Config,
        keys: Vec<SecretKey>,
    ) -> Result<Self, ConfigError> {
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(ConfigError::Keys(keys.len()));
        }
        let public: Vec<_> = keys.iter().map(SecretKey::public).collect();
        if let Some((_, twice)) = public.iter().enumerate().find(|(at, key)| public[..*at].contains(*key)) {
            return Err(ConfigError::SameKey(hex::encode(twice.as_bytes())));
        }
        let payers = match &config.sender {
            Some(sender) => vec![Payer { account: sender.as_str().into(), keys }],
            None => keys.into_iter().map(Payer::of).collect(),
        };
        let builder = Builder {
            network: network.into(),
            name: deployment.nonce_prefix().into(),
            payers,
            gas_limit: config.gas_limit,
            gas_price: config.gas_price.as_str().into(),
            ttl: config.ttl,
        };
        for payer in &builder.payers {
            builder.build(0, "0", 0, 0, "", payer)?;
        }
        Ok(Self {
            deployment: deployment.clone(),
            chains: chains.into(),
            shelf,
            config: config.clone(),
            builder,
            budget: Budget::new(config)?,
            lanes: BTreeMap::new(),
            later: None,
            alarms: Vec::new(),
        })
    }

    /// Makes an interval of what is open, cut at log time `cut`, and logs the intent to anchor it. The input is then done
    /// below offset `end`, and as of `time`.
    fn cut(
        &mut self,
        partition: &Partition,
        (end, cut): (u64, Micros),
        time: Micros,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let Some(own) = self.lanes.get(&partition.number).map(|lane| lane.chain) else { return Ok(()) };
        let chain = self.choose(own);
        let payer = self.payer(chain, (partition.number, end), 0);
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        let halt = |why: &dyn fmt::Display| halt(partition, format!("interval {end} cannot be made: {why}"));
        let checkpoints = std::mem::take(&mut lane.open).into_values().map(|(_, note)| note).collect();
        lane.since = None;
        let id: Box<str> = end.to_string().into();
        let mut interval =
            Interval { id, chain, cut, checkpoints, attempts: Vec::new(), version: 0, landing: None };
        let text =
            texts(&interval).and_then(|texts| tree(&self.deployment, texts)).map_err(|why| halt(&why))?;
        let name = self.shelf.name(partition.number, &interval);
        let attempt =
            self.builder.build(chain, &name, cut, 0, &text.anchor_text(), &self.builder.payers[payer]);
        let attempt = attempt.map_err(|error| halt(&error))?;
        drop(text);
        interval.attempts.push(attempt);
        out.outputs.push(self.shelf.intent(partition.number, &interval));
        lane.flights.insert(end, Flight::new(interval, Ask::Send));
        if lane.spend(&self.budget, lane.time) {
            let why = "what it may spend in a day is spent ([anchor] spend_limit): checkpoints wait for the next day, from 00:00 UTC";
            self.alarms.push((partition.clone(), why.into()));
        }
        lane.move_to(&self.shelf, end, time, out);
        Ok(())
    }

    /// The chain for an interval of a lane whose own chain is this one.
    fn choose(&self, own: ChainId) -> ChainId {
        if self.config.chain == Choice::Sticky {
            return own;
        }
        let waiting = |chain: ChainId| {
            let flights = self.lanes.values().flat_map(|lane| lane.flights.values());
            flights.filter(|flight| flight.interval.chain == chain && flight.is_waiting()).count()
        };
        let busy = waiting(own);
        let emptiest = self.chains.iter().copied().min_by_key(|chain| waiting(*chain));
        // One that waits is the normal case, and a chain is not left for it.
        emptiest.filter(|chain| waiting(*chain) + 1 < busy).unwrap_or(own)
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

fn halt(partition: &Partition, why: impl Into<Box<str>>) -> Halt {
    Halt { partition: partition.clone(), why: why.into() }
}

impl Stage for Anchor {
    fn assign(&mut self, partition: &Partition, next: u64) {
        let place = usize::try_from(partition.number).ok();
        let Some(&chain) = place.and_then(|place| self.chains.get(place)) else { return };
        let accounts = self.builder.payers.iter().map(|payer| payer.account.clone());
        self.lanes.insert(partition.number, Lane::new(partition.number, chain, next, accounts));
        self.forget_round();
    }

    fn restore_since(&self, _: Micros) -> Option<Micros> {
        None
    }

    fn restore(&mut self, record: &Record) -> Result<(), Halt> {
        let partition = Partition::new(self.shelf.input, record.partition.number);
        // Other series have theirs in the same topic.
        let Some(name) = record.key.strip_prefix(self.shelf.prefix.as_bytes()) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        let damaged = |why: &dyn fmt::Display| {
            halt(&partition, format!("{} at offset {}: {why}", self.shelf.state, record.offset))
        };
        let id = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        if record.value.is_empty() {
            let id = id(name).ok_or_else(|| damaged(&"it ends an interval without an id"))?;
            lane.flights.remove(&id);
            return Ok(());
        }
        match AnchorState::decode(&record.value).map_err(|error| damaged(&error))? {
            AnchorState::Position(position) => {
                lane.done = position;
                lane.time = position.time;
            }
            AnchorState::Interval(interval) => {
                let id = id(interval.id.as_bytes()).ok_or_else(|| damaged(&"an interval without an id"))?;
                if interval.attempts.is_empty() {
                    return Err(damaged(&"an interval without a command"));
                }
                let mut flight = Flight::new(interval, Ask::Look(Duration::ZERO));
                flight.is_unheard = true;
                lane.flights.insert(id, flight);
            }
        }
        Ok(())
    }

    fn revoke(&mut self, partition: &Partition) {
        self.lanes.remove(&partition.number);
        self.forget_round();
        self.alarms.retain(|(of, _)| of != partition);
    }

    fn step(&mut self, record: &Record, out: &mut Part) -> Result<(), Halt> {
        let partition = &record.partition;
        let Some(lane) = self.lanes.get_mut(&partition.number) else {
            return Err(halt(
                partition,
                "there is no chain for this partition; the list of chains got shorter",
            ));
        };
        // A series may begin where the first records of time are gone.
        let is_new = self.later.is_some() && lane.done.time == Micros::MIN;
        if !std::mem::replace(&mut lane.is_checked, true) && lane.done.next != lane.next && !is_new {
            return Err(halt(
                partition,
                format!(
                    "{} ends before offset {}, but {} is the next: the two do not belong together; find out which was \
                     changed before going on, or checkpoints might be anchored twice",
                    self.shelf.state, lane.done.next, lane.next
                ),
            ));
        }
        let before = lane.time;
        lane.time = lane.time.max(record.append_time);
        let time = lane.time;
        let due = lane.due(&self.config, &self.budget, lane.since);
        let is_due = due.is_some_and(|due| time >= due);
        lane.next = record.offset + 1;
        if self.later.is_some() {
            self.step_clock(record);
            return Ok(());
        }
        if record.is_tick() {
            if is_due {
                self.cut(partition, (record.offset + 1, time), time, out)?;
            } else if lane.open.is_empty() {
                lane.move_to(&self.shelf, record.offset + 1, time, out);
            }
            return Ok(());
        }
        if is_due {
            self.cut(partition, (record.offset, before), before, out)?;
        }
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        lane.gather(&self.deployment, record).map_err(|why| {
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
        if self.later.is_some() {
            return self.round_due(partition.number);
        }
        let lane = self.lanes.get(&partition.number)?;
        lane.due(&self.config, &self.budget, lane.since)
    }

    fn requests(&mut self) -> Vec<(Partition, Request)> {
        let mut requests: Vec<_> = self.newest_request().into_iter().collect();
        for (number, lane) in &mut self.lanes {
            for flight in lane.flights.values_mut() {
                let (Some(ask), Some(newest)) = (flight.ask.take(), flight.interval.attempts.last()) else {
                    continue;
                };
                let request = match ask {
                    Ask::Send => Request::Send {
                        chain: flight.interval.chain,
                        key: newest.key.clone(),
                        command: newest.command.clone(),
                    },
                    Ask::Look(after) => Request::Look {
                        chain: flight.interval.chain,
                        keys: flight.interval.attempts.iter().map(|attempt| attempt.key.clone()).collect(),
                        depth: self.config.depth,
                        after,
                    },
                };
                requests.push((Partition::new(self.shelf.input, *number), request));
            }
            for purse in &mut lane.purses {
                let Some(after) = purse.ask.take() else { continue };
                let request = Request::Balance { chain: lane.chain, account: purse.account.clone(), after };
                requests.push((Partition::new(self.shelf.input, *number), request));
            }
        }
        requests
    }

    fn alarms(&mut self) -> Vec<(Partition, Box<str>)> {
        let mut alarms = std::mem::take(&mut self.alarms);
        for (number, lane) in &mut self.lanes {
            let partition = Partition::new(CHECKPOINTS, *number);
            for flight in lane.flights.values_mut().filter(|flight| flight.is_unheard) {
                flight.is_unheard = false;
                let alarm = flight.alarm(&partition, self.config.depth);
                alarms.extend(alarm.map(|alarm| (partition.clone(), alarm)));
            }
        }
        alarms
    }

    fn gauges(&self) -> Vec<Gauge> {
        self.intervals().chain(self.purses()).collect()
    }

    fn answer(&mut self, partition: &Partition, answer: Answer, out: &mut Part) -> Result<(), Halt> {
        let poll = self.config.poll.duration();
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        match answer {
            Answer::Sent(key, said) => {
                if let Some(flight) = lane.flight_of(&key).and_then(|id| lane.flights.get_mut(&id)) {
                    flight.is_refused = matches!(said, Sent::Refused(_));
                    flight.ask = Some(Ask::Look(poll));
                }
                Ok(())
            }
            Answer::Seen(keys, look) => match keys.first().and_then(|key| lane.flight_of(key)) {
                Some(id) => self.seen(partition, id, &look, out),
                None => Ok(()),
            },
            Answer::Newest(notes) => self.take_newest(partition, notes, out),
            Answer::Balance(account, balance) => {
                self.held(partition, &account, &balance);
                Ok(())
            }
            Answer::BatchPut(_)
            | Answer::AnchorPut
            | Answer::BatchRead(_)
            | Answer::FirstCovered(_)
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
