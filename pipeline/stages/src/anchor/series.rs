//! A series of later anchors: the newest checkpoint of every log, on another chain or network.
//!
//! Nothing comes in but time, and the wish to do it now. When it is due, the catalog is asked which checkpoints are the newest
//! and have no anchor in the series yet; from then on they are anchored as all others are.

use std::collections::BTreeSet;

use super::config::{ConfigError, check};
use super::lane::newest_of;
use super::{Anchor, Config, MAX_LOGS, Shelf};
use crate::deployment::Deployment;
use crate::ports::ChainId;
use crate::record::{Micros, Partition, Record};
use crate::route::{NOW, REANCHOR, REANCHOR_LOG, REANCHORS};
use crate::stage::{Halt, Part, Request};
use killick_proof::signature::SecretKey;

/// A series of later anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its name: see [`crate::series::is_series_name`].
    pub name: String,
    /// The network, as receipts name it.
    pub network: String,
    /// The chains that its commands go to: the first, unless the emptiest is wanted.
    pub chains: Vec<ChainId>,
    /// The origins of the logs that are anchored: those whose keys are known. Also logs of earlier generations.
    pub origins: BTreeSet<Box<str>>,
}

/// What a series knows beside its lane.
#[derive(Debug)]
pub(super) struct Later {
    name: Box<str>,
    origins: BTreeSet<Box<str>>,
    asked: Option<Round>,
    /// Whether the question is still to be asked.
    is_due: bool,
}

/// A question to the catalog: what is anchored by its answer is done below `end`.
#[derive(Debug, Clone, Copy)]
struct Round {
    end: u64,
    time: Micros,
}

impl Later {
    /// The name of the series.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Anchor {
    /// The stage for a series; `keys` sign its commands, as for [`Anchor::new`].
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn of_series(
        deployment: &Deployment,
        series: &Series,
        config: &Config,
        keys: Vec<SecretKey>,
    ) -> Result<Self, ConfigError> {
        check(config, true)?;
        if !crate::series::is_series_name(&series.name) {
            return Err(ConfigError::Series(series.name.clone()));
        }
        if series.chains.is_empty() || series.chains.len() > crate::deployment::MAX_CHAINS {
            return Err(ConfigError::Chains(series.chains.len()));
        }
        let shelf = Shelf {
            input: REANCHOR,
            state: REANCHOR_LOG,
            output: REANCHORS,
            prefix: format!("{}/", series.name).into(),
        };
        let later = Later {
            name: series.name.as_str().into(),
            origins: series.origins.clone(),
            asked: None,
            is_due: false,
        };
        let mut stage = Self::on(deployment, (&series.network, &series.chains), shelf, config, keys)?;
        stage.later = Some(later);
        Ok(stage)
    }

    /// Takes one record of time, or of the wish to anchor now.
    pub(super) fn step_clock(&mut self, record: &Record) {
        let Some(lane) = self.lanes.get_mut(&record.partition.number) else { return };
        let Some(later) = &mut self.later else { return };
        let is_wanted = *record.value == *NOW && *record.key == *later.name.as_bytes();
        let due = lane.due(&self.config, &self.budget, Some(lane.done.time));
        let is_due = due.is_some_and(|due| lane.time >= due);
        let may_now = is_wanted && due.is_some() && lane.affords(&self.budget, lane.time);
        if later.asked.is_none() && (is_due || may_now) {
            later.asked = Some(Round { end: lane.next, time: lane.time });
            later.is_due = true;
        }
    }

    /// What the catalog is to be asked, once.
    pub(super) fn newest_request(&mut self) -> Option<(Partition, Request)> {
        let later = self.later.as_mut()?;
        let series = later.name.clone();
        std::mem::take(&mut later.is_due).then(|| (Partition::new(REANCHOR, 0), Request::Newest { series }))
    }

    /// When a tick would begin the next round.
    pub(super) fn round_due(&self, number: u32) -> Option<Micros> {
        let lane = self.lanes.get(&number)?;
        let is_asked = self.later.as_ref().is_some_and(|later| later.asked.is_some());
        if is_asked { None } else { lane.due(&self.config, &self.budget, Some(lane.done.time)) }
    }

    /// Anchors what the catalog says is the newest.
    pub(super) fn take_newest(
        &mut self,
        partition: &Partition,
        notes: Vec<Box<str>>,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        let Some(later) = &mut self.later else { return Ok(()) };
        let Some(Round { end, time }) = later.asked.take() else { return Ok(()) };
        let (mut strange, mut left) = (Vec::new(), 0_usize);
        let on_their_way = lane.on_their_way();
        for note in notes {
            let (origin, size) = newest_of(&note).map_err(|why| {
                super::halt(partition, format!("the catalog's newest checkpoint is none: {why}"))
            })?;
            if !later.origins.contains(&origin) {
                strange.push(origin);
            } else if on_their_way.get(&origin).is_some_and(|known| *known >= size) {
                // Told of soon.
            } else if lane.open.len() < MAX_LOGS {
                lane.open.insert(origin, (size, note));
            } else {
                left += 1;
            }
        }
        if let Some(origin) = strange.first() {
            let why = format!(
                "{} logs of the catalog are not anchored in the series {}, {origin} first: their public keys are not \
                 known; put them into the folder of keys as files that end in .pub",
                strange.len(),
                later.name
            );
            self.alarms.push((partition.clone(), why.into()));
        }
        // Where some are left the next round begins at once: but as another one, since each is begun once.
        let done = if left > 0 { lane.done.time.saturating_add(1) } else { time };
        if lane.open.is_empty() {
            lane.move_to(&self.shelf, end, done, out);
            return Ok(());
        }
        self.cut(partition, (end, time), done, out)
    }

    /// Forgets what was asked for.
    pub(super) fn forget_round(&mut self) {
        if let Some(later) = &mut self.later {
            (later.asked, later.is_due) = (None, false);
        }
    }
}

#[cfg(test)]
mod tests;
