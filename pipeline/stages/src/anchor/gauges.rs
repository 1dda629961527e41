//! What is to be seen of the stage: how far its intervals are, and what it spends.

use std::collections::BTreeMap;

use super::fate::Flight;
use super::lane::Lane;
use super::{Anchor, DAY};
use crate::ports::ChainId;
use crate::stage::Gauge;

/// Intervals of one chain: waiting, mined, deep, lost.
type Counts = [u64; 4];

impl Anchor {
    fn series(&self) -> Box<str> {
        self.later.as_ref().map(|later| later.name()).unwrap_or_default().into()
    }

    /// The intervals by their chains: of those that this worker has, also where there are none.
    pub(super) fn intervals(&self) -> impl Iterator<Item = Gauge> {
        let mut chains: BTreeMap<ChainId, Counts> = BTreeMap::new();
        for lane in self.lanes.values() {
            chains.entry(lane.chain).or_default();
            for flight in lane.flights.values() {
                chains.entry(flight.interval.chain).or_default()[state(flight)] += 1;
            }
        }
        chains.into_iter().map(|(chain, [waiting, mined, deep, lost])| Gauge::Intervals {
            series: self.series(),
            chain,
            waiting,
            mined,
            deep,
            lost,
        })
    }

    /// What is spent and held on the chains of its lanes.
    pub(super) fn purses(&self) -> impl Iterator<Item = Gauge> {
        self.lanes.values().map(|lane| {
            let held: Option<Vec<u128>> = lane.purses.iter().map(|purse| purse.units).collect();
            let days = |held: &Vec<u128>| {
                let pace = u128::from(lane.pace().unsigned_abs()).div_ceil(lane.purses.len().max(1) as u128);
                let least = held.iter().min().copied().unwrap_or_default();
                u64::try_from(least / pace.max(1)).unwrap_or(u64::MAX)
            };
            Gauge::Purse {
                series: self.series(),
                chain: lane.chain,
                spent: spent(lane),
                days: held.as_ref().map(days),
                held: held.map(|held| held.iter().fold(0, |sum: u128, units| sum.saturating_add(*units))),
            }
        })
    }
}

/// How far an interval is, as its place in [`Counts`].
fn state(flight: &Flight) -> usize {
    match &flight.interval.landing {
        Some(landing) if landing.is_lost => 3,
        Some(_) => 2,
        None if flight.is_mined() => 1,
        None => 0,
    }
}

/// What the day of the lane's time has cost so far.
fn spent(lane: &Lane) -> u128 {
    let is_of_today = lane.time.div_euclid(DAY) <= lane.done.day;
    if is_of_today { lane.done.spent.unsigned_abs().into() } else { 0 }
}
