//! A lane: what is known of one partition of `checkpoints`.

use std::collections::BTreeMap;

use chainweb::pact::units;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;

use super::fate::Flight;
use super::purse::Purse;
use super::{Config, ConfigError, Shelf};
use crate::deployment::Deployment;
use crate::ports::ChainId;
use crate::record::{Micros, Record};
use crate::stage::Part;
use crate::state::Position;

/// Microseconds in a day.
pub(super) const DAY: Micros = 86_400_000_000;

/// What commands may cost.
#[derive(Debug)]
pub(super) struct Budget {
    /// One command, in 10^-12 of the coin.
    cost: i64,
    /// All of a day.
    limit: Option<i64>,
}

impl Budget {
    /// The budget that the configuration says, whose gas price is one.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let parts = |units: u128| i64::try_from(units).unwrap_or(i64::MAX);
        let price = units(&config.gas_price).unwrap_or(0);
        let cost = parts(price.saturating_mul(config.gas_limit.into()));
        let Some(text) = &config.spend_limit else { return Ok(Self { cost, limit: None }) };
        let limit = units(text).map(parts).filter(|limit| *limit >= cost);
        match limit {
            Some(limit) => Ok(Self { cost, limit: Some(limit) }),
            None => {
                Err(ConfigError::SpendLimit { found: text.clone(), least: coins(cost.unsigned_abs().into()) })
            }
        }
    }

    /// What one command may cost, in 10^-12 of the coin.
    pub(super) fn cost(&self) -> u128 {
        self.cost.unsigned_abs().into()
    }

    /// What all commands of a day may cost, if that is limited.
    pub(super) fn limit(&self) -> Option<u128> {
        self.limit.map(|limit| limit.unsigned_abs().into())
    }
}

/// An amount of 10^-12 parts in the coin.
pub fn coins(units: u128) -> String {
    format!("{}.{:012}", units / 1_000_000_000_000, units % 1_000_000_000_000)
}

/// What is known of one lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its number: the partition.
    number: u32,
    /// The chain that its logs have.
    pub(super) chain: ChainId,
    /// The offset of the next record.
    pub(super) next: u64,
    /// Whether the state was held against the input offset.
    pub(super) is_checked: bool,
    /// How far the input is done.
    pub(super) done: Position,
    /// The largest append time of what was stepped.
    pub(super) time: Micros,
    /// The append time of the first checkpoint that no interval covers yet.
    pub(super) since: Option<Micros>,
    /// The newest such checkpoint of each log, by origin: its size and the signed note.
    pub(super) open: BTreeMap<Box<str>, (u64, Box<str>)>,
    /// Intervals that are looked after, by the offset before which they end: their ids.
    pub(super) flights: BTreeMap<u64, Flight>,
    /// The accounts that pay on its chain.
    pub(super) purses: Vec<Purse>,
}

impl Lane {
    /// A lane to this chain of which nothing is known yet, and the accounts that pay there.
    pub(super) fn new(
        number: u32,
        chain: ChainId,
        next: u64,
        accounts: impl Iterator<Item = Box<str>>,
    ) -> Self {
        Self {
            number,
            chain,
            next,
            is_checked: false,
            done: Position { next: 0, time: Micros::MIN, day: 0, spent: 0, before: 0 },
            time: Micros::MIN,
            since: None,
            open: BTreeMap::new(),
            flights: BTreeMap::new(),
            purses: accounts.map(Purse::new).collect(),
        }
    }

    /// Moves the input offset, with its state.
    pub(super) fn move_to(&mut self, shelf: &Shelf, next: u64, time: Micros, out: &mut Part) {
        self.done = Position { next, time, ..self.done };
        out.outputs.push(shelf.position(self.number, self.done));
        out.through = Some(next);
    }

    /// Takes a checkpoint in, unless a newer one of its log is.
    pub(super) fn gather(&mut self, deployment: &Deployment, record: &Record) -> Result<(), String> {
        let note = std::str::from_utf8(&record.value).map_err(|error| error.to_string())?;
        let (origin, size) = newest_of(note)?;
        if deployment.log_of_origin(&origin).is_none() {
            return Err(format!("{origin} is no log of this deployment"));
        }
        self.since.get_or_insert(self.time);
        let newest = self.open.get(&origin).map(|(size, _)| *size);
        if newest.is_none_or(|newest| newest < size) {
            self.open.insert(origin, (size, note.into()));
        }
        Ok(())
    }

    /// The largest size of each log in intervals that are looked after, by origin.
    pub(super) fn on_their_way(&self) -> BTreeMap<Box<str>, u64> {
        let mut sizes: BTreeMap<Box<str>, u64> = BTreeMap::new();
        let notes = self.flights.values().flat_map(|flight| &flight.interval.checkpoints);
        for (origin, size) in notes.filter_map(|note| newest_of(note).ok()) {
            let known = sizes.entry(origin).or_default();
            *known = size.max(*known);
        }
        sizes
    }

    /// The log time from which on an interval that began at `since` is over; `None` while none has begun, or no more fits in
    /// flight.
    pub(super) fn due(&self, config: &Config, budget: &Budget, since: Option<Micros>) -> Option<Micros> {
        if self.flights.values().filter(|flight| !flight.is_final()).count() >= config.in_flight {
            return None;
        }
        let due = since?.saturating_add(config.interval.micros());
        // Of a day that is spent, the next one is waited for.
        Some(if self.affords(budget, due) {
            due
        } else {
            self.done.day.saturating_add(1).saturating_mul(DAY)
        })
    }

    /// Whether another command may be made at that time.
    pub(super) fn affords(&self, budget: &Budget, time: Micros) -> bool {
        let is_spent = |limit: i64| self.done.spent.saturating_add(budget.cost) > limit;
        !(time.div_euclid(DAY) <= self.done.day && budget.limit.is_some_and(is_spent))
    }

    /// Notes that a command is made at that time; whether it was the last of its day.
    pub(super) fn spend(&mut self, budget: &Budget, time: Micros) -> bool {
        let day = time.div_euclid(DAY);
        if day > self.done.day {
            self.done.before = if day - self.done.day == 1 { self.done.spent } else { 0 };
            (self.done.day, self.done.spent) = (day, 0);
        }
        self.done.spent = self.done.spent.saturating_add(budget.cost);
        !self.affords(budget, time)
    }

    /// What a day costs: the dearer of the last day, as far as it has come, and the one before.
    pub(super) fn pace(&self) -> i64 {
        let Position { day, spent, before, .. } = self.done;
        match self.time.div_euclid(DAY).saturating_sub(day) {
            ..=0 => spent.max(before),
            1 => spent,
            2.. => 0,
        }
    }

    /// The interval that one of these commands belongs to.
    pub(super) fn flight_of(&self, key: &str) -> Option<u64> {
        let has = |flight: &Flight| flight.interval.attempts.iter().any(|attempt| *attempt.key == *key);
        self.flights.iter().find(|(_, flight)| has(flight)).map(|(id, _)| *id)
    }
}

/// The log's origin and the size of a signed checkpoint.
pub(super) fn newest_of(note: &str) -> Result<(Box<str>, u64), String> {
    let text = Note::parse(note).map_err(|error| error.to_string())?.text();
    let checkpoint = Checkpoint::parse(text).map_err(|error| error.to_string())?;
    checkpoint.log_origin().map_err(|error| error.to_string())?;
    Ok((checkpoint.origin.into(), checkpoint.size))
}
