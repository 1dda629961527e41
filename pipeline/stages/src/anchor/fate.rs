//! What becomes of an interval, look by look.
//!
//! ```text
//! sent ─▶ mined ─▶ deep: told of ─▶ looked after ─▶ over
//!  ▲  ▲     │orphaned      ▲              │its block is lost: alarm
//!  │  └─────┘              └──────────────┤
//!  │same bytes                            │
//!  └─ dead for certain, or spent: the next attempt
//! ```

use std::fmt;
use std::time::Duration;

use killick_proof::checkpoint::Checkpoint;

use super::{Anchor, MAX_ATTEMPTS, halt, texts, tree};
use crate::command::next_number;
use crate::frame::AnchorFrame;
use crate::ports::{Look, Mined};
use crate::record::{Micros, Output, Partition};
use crate::stage::{Halt, Part};
use crate::state::{Interval, Landing};

/// Polls between two looks at what is told of already.
const SELDOM: u32 = 6;

/// An interval that is looked after. At any time either something is to be asked for it, or one answer is awaited.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) interval: Interval,
    pub(super) ask: Option<Ask>,
    /// Whether a node said that the newest attempt can never be mined: then it is not sent again, only looked for.
    pub(super) is_refused: bool,
    /// Whether a block had one of its commands when it was looked at last.
    is_mined: bool,
    /// Whether it was read back: then nobody may have heard yet that its block is lost.
    pub(super) is_unheard: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// Give the newest attempt to the chain.
    Send,
    /// Look for all attempts, after a while.
    Look(Duration),
}

impl Flight {
    /// An interval for which this is to be asked first.
    pub(super) fn new(interval: Interval, ask: Ask) -> Self {
        Self { interval, ask: Some(ask), is_refused: false, is_mined: false, is_unheard: false }
    }

    /// The alarm about the block that it was told of in, which is lost.
    pub(super) fn alarm(&self, partition: &Partition, depth: u64) -> Option<Box<str>> {
        let Interval { id, chain, landing, .. } = &self.interval;
        let landing = landing.as_ref().filter(|landing| landing.is_lost)?;
        let why = format!(
            "chain {chain} went on without block {} at height {}, which was {depth} deep: the receipts that end there are void \
                 on its present branch; interval {id} of {partition} is anchored again, and told of again when it is deep. If \
                 this is no fork of a single node, set [anchor] depth higher",
            landing.block, landing.height
        );
        Some(why.into())
    }

    /// Whether it is told of, and its block is where it was.
    pub(super) fn is_final(&self) -> bool {
        self.interval.landing.as_ref().is_some_and(|landing| !landing.is_lost)
    }

    /// Whether a block had one of its commands when it was looked at last.
    pub(super) fn is_mined(&self) -> bool {
        self.is_mined
    }

    /// Whether no block has it.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_mined && !self.is_final()
    }
}

impl Anchor {
    /// Decides what follows from a look at the chain.
    pub(super) fn seen(
        &mut self,
        partition: &Partition,
        id: u64,
        look: &Look,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let (depth, poll) = (self.config.depth, self.config.poll.duration());
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        let Some(flight) = lane.flights.get_mut(&id) else { return Ok(()) };
        flight.is_mined = look.mined.is_some();
        if flight.is_final() && self.watch(partition, id, look, out) {
            return Ok(());
        }
        let Some(flight) = self.flight(partition, id) else { return Ok(()) };
        if let Some(mined) = &look.mined {
            let is_deep = mined.height.checked_add(depth).is_some_and(|deep| look.tip_height >= deep);
            return match (is_deep, mined.success) {
                (true, true) => self.finish(partition, id, mined, look.tip_height, out),
                (true, false) => self.retry(partition, id, look.tip_time, Some(&mined.key), out),
                (false, _) => {
                    flight.ask = Some(Ask::Look(poll));
                    Ok(())
                }
            };
        }
        let expires = flight.interval.attempts.last().map_or(Micros::MIN, |last| last.expires);
        // No block above one of that time can take it, and no other branch leaves that one out.
        if look.deep_time.is_some_and(|deep| expires <= deep) {
            return self.retry(partition, id, look.tip_time, None, out);
        }
        // Not in a block, never seen or gone from one: the same bytes again, as long as a block above the tip could take them.
        let is_over = flight.is_refused || expires <= look.tip_time;
        flight.ask = Some(if is_over { Ask::Look(poll) } else { Ask::Send });
        Ok(())
    }

    /// Looks after an interval that was told of. Whether that is all: its block is there, or nobody can say.
    fn watch(&mut self, partition: &Partition, id: u64, look: &Look, out: &mut Part) -> bool {
        let (depth, watch) = (self.config.depth, self.config.watch);
        let seldom = self.config.poll.duration().saturating_mul(SELDOM);
        let lane = self.lanes.get_mut(&partition.number);
        let Some(flight) = lane.and_then(|lane| lane.flights.get_mut(&id)) else { return true };
        let Some(landing) = &mut flight.interval.landing else { return false };
        let deep = landing.height.saturating_add(depth);
        let is_there = look.mined.as_ref().is_some_and(|mined| mined.block == landing.block);
        if is_there && look.tip_height >= deep.saturating_add(watch) {
            self.end(partition, id, out);
            return true;
        }
        // A node that is behind cannot say that a block is lost.
        if is_there || look.tip_height < deep {
            flight.ask = Some(Ask::Look(seldom));
            return true;
        }
        landing.is_lost = true;
        // Alone in a transaction: after a crash the alarm is raised again, as long as nothing else stands in its place.
        let is_elsewhere = look.mined.is_some();
        if is_elsewhere {
            flight.ask = Some(Ask::Look(Duration::ZERO));
        }
        flight.is_unheard = false;
        let alarm = flight.alarm(partition, depth);
        out.outputs.push(self.shelf.intent(partition.number, &flight.interval));
        self.alarms.extend(alarm.map(|alarm| (partition.clone(), alarm)));
        is_elsewhere
    }

    /// Writes what the interval's command proves, and looks after the block from now on.
    fn finish(
        &mut self,
        partition: &Partition,
        id: u64,
        mined: &Mined,
        tip: u64,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let over = mined.height.saturating_add(self.config.depth).saturating_add(self.config.watch);
        let seldom = self.config.poll.duration().saturating_mul(SELDOM);
        let Some(flight) = self.flight(partition, id) else { return Ok(()) };
        let interval = &mut flight.interval;
        let is_back = interval.landing.as_ref().is_some_and(|landing| landing.block == mined.block);
        interval.version = interval.version.saturating_add(u32::from(!is_back));
        interval.landing = Some(Landing {
            key: mined.key.clone(),
            height: mined.height,
            block: mined.block.clone(),
            is_lost: false,
        });
        flight.ask = Some(Ask::Look(seldom));
        let interval = interval.clone();
        if !is_back {
            self.tell(partition, &interval, mined, out)?;
        }
        if tip >= over {
            self.end(partition, id, out);
        } else {
            out.outputs.push(self.shelf.intent(partition.number, &interval));
        }
        Ok(())
    }

    /// Writes for each log of the interval what the block that has its command proves.
    fn tell(
        &self,
        partition: &Partition,
        interval: &Interval,
        mined: &Mined,
        out: &mut Part,
    ) -> Result<(), Halt> {
        let halt = |why: &dyn fmt::Display| {
            halt(partition, format!("interval {} cannot be told of: {why}", interval.id))
        };
        let tree =
            texts(interval).and_then(|texts| tree(&self.deployment, texts)).map_err(|why| halt(&why))?;
        let text: Box<str> = tree.anchor_text().into();
        for (index, (note, leaf)) in interval.checkpoints.iter().zip(tree.texts()).enumerate() {
            let checkpoint = Checkpoint::parse(leaf).map_err(|error| halt(&error))?;
            let log = match &self.later {
                // Logs of other generations are in it too.
                Some(_) => Some(0),
                None => self.deployment.log_of_origin(checkpoint.origin),
            };
            let log = log.ok_or_else(|| halt(&format_args!("{} is no log of ours", checkpoint.origin)))?;
            let index = index as u64;
            let path = tree.path(index).map_err(|error| halt(&error))?;
            let frame = AnchorFrame {
                chain: interval.chain,
                interval: self.shelf.name(partition.number, interval).into(),
                key: mined.key.clone(),
                height: mined.height,
                block: mined.block.clone(),
                version: interval.version,
                origin: checkpoint.origin.into(),
                size: checkpoint.size,
                checkpoint: note.clone(),
                text: text.clone(),
                index,
                path: path.iter().map(|hash| *hash.as_bytes()).collect(),
            };
            let key = frame.origin.to_string();
            out.outputs.push(Output::new(Partition::new(self.shelf.output, log), key, frame.encode()));
        }
        Ok(())
    }

    /// Ends the work on an interval.
    fn end(&mut self, partition: &Partition, id: u64, out: &mut Part) {
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return };
        if let Some(flight) = lane.flights.remove(&id) {
            out.outputs.push(self.shelf.end(partition.number, &flight.interval));
        }
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
        let poll = self.config.poll.duration();
        let Some(Flight { interval, .. }) = self.flight(partition, id) else { return Ok(()) };
        let (chain, last) = (interval.chain, interval.attempts.last().map_or(0, |attempt| attempt.number));
        let number = next_number(interval.cut, last, tip);
        let payer = self.payer(chain, (partition.number, id), number);
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return Ok(()) };
        let affords = lane.affords(&self.budget, tip);
        let Some(flight) = lane.flights.get_mut(&id) else { return Ok(()) };
        let interval = &mut flight.interval;
        let halt =
            |why: &dyn fmt::Display| halt(partition, format!("interval {id} has no next attempt: {why}"));
        let newest = interval.attempts.last();
        let is_needed = spent.is_none() || newest.map(|attempt| &*attempt.key) == spent;
        if is_needed && !affords {
            // The next day is one by the chain's time.
            flight.ask = Some(Ask::Look(poll));
            return Ok(());
        }
        if is_needed {
            let tree = texts(interval).and_then(|texts| tree(&self.deployment, texts));
            let text = tree.map_err(|why| halt(&why))?.anchor_text();
            let name = self.shelf.name(partition.number, interval);
            let attempt =
                self.builder.build(chain, &name, interval.cut, number, &text, &self.builder.payers[payer]);
            interval.attempts.push(attempt.map_err(|error| halt(&error))?);
            (flight.ask, flight.is_refused) = (Some(Ask::Send), false);
        } else {
            flight.ask = Some(Ask::Look(Duration::ZERO));
        }
        interval.attempts.retain(|attempt| spent != Some(&*attempt.key));
        let old = interval.attempts.len().saturating_sub(MAX_ATTEMPTS);
        interval.attempts.drain(..old);
        out.outputs.push(self.shelf.intent(partition.number, interval));
        if is_needed {
            lane.spend(&self.budget, tip);
            out.outputs.push(self.shelf.position(partition.number, lane.done));
        }
        Ok(())
    }

    fn flight(&mut self, partition: &Partition, id: u64) -> Option<&mut Flight> {
        self.lanes.get_mut(&partition.number)?.flights.get_mut(&id)
    }
}
