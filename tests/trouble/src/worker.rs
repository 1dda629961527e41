//! The shell around one stage, as the program has it but with the world as an argument: assign, step, commit, ask, tick. It
//! dies at every boundary, does not hear that it lost a partition, and gets no answers, as the scenario says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, bail};
use killick_proof::batch::BatchHeader;
use killick_sim::SECOND;
use killick_stages::derive::{first_covered, log_path};
use killick_stages::ports::{Balance, Catalog as _, Chain as _, ChainError};
use killick_stages::record::{Micros, Output, Partition};
use killick_stages::route::{ANCHOR_LOG, ANCHORS, BATCHES, CHECKPOINTS, PROVE_LOG};
use killick_stages::stage::{Answer, Part, Request, Stage, StoredBatch};

use crate::bug::{self, Bug, Memory};
use crate::ground::Way;
use crate::world::World;

/// Pauses between two tries of a request that gets no answer: the first, and the longest.
const RETRY: (Micros, Micros) = (SECOND / 5, 10 * SECOND);

/// Records that are taken in one turn, at most.
const AT_ONCE: u64 = 8;

/// The stages that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Puts checkpoints on a chain; its units are lanes.
    Anchor,
    /// Tells of what is proven; its units are logs.
    Prove,
}

impl Job {
    /// The stage's name, which is also its group's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Prove => "prove",
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Anchor => ANCHOR_LOG,
            Self::Prove => PROVE_LOG,
        }
    }

    /// The partitions that one worker has together.
    pub fn partitions(self, unit: u32) -> Vec<Partition> {
        let topics: &[&str] = match self {
            Self::Anchor => &[CHECKPOINTS],
            Self::Prove => &[BATCHES, ANCHORS],
        };
        topics.iter().map(|topic| Partition::new(*topic, unit)).collect()
    }
}

/// Something that was asked and not answered.
struct Asked {
    partition: Partition,
    term: u64,
    request: Request,
    /// When it was asked.
    at: Micros,
    /// Before that nothing is done.
    due: Micros,
    pause: Micros,
}

/// A worker of one stage.
pub struct Worker {
    /// Its stage.
    pub job: Job,
    number: usize,
    way: Way,
    stage: Box<dyn Stage>,
    /// The term and the offset of the next record of each partition that it takes for its own.
    owned: BTreeMap<Partition, (u64, u64)>,
    parts: BTreeMap<Partition, Part>,
    asked: VecDeque<Asked>,
    answers: VecDeque<(Partition, u64, Answer)>,
    ticked: BTreeMap<Partition, Micros>,
    /// Until then it hears nothing of what it lost or won.
    pub deaf_until: Micros,
    /// Until then it does nothing at all.
    pub away_until: Micros,
    memory: Memory,
}

/// Whether a worker lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Goes,
    Ended,
}

impl Worker {
    /// Starts a worker.
    pub fn new(job: Job, number: usize, world: &mut World) -> Result<Self> {
        Ok(Self {
            job,
            number,
            way: world.ground.way()?,
            stage: world.stage(job)?,
            owned: BTreeMap::new(),
            parts: BTreeMap::new(),
            asked: VecDeque::new(),
            answers: VecDeque::new(),
            ticked: BTreeMap::new(),
            deaf_until: Micros::MIN,
            away_until: Micros::MIN,
            memory: Memory::default(),
        })
    }

    /// It dies, and is started anew: all that it knew is gone.
    ///
    /// # Errors
    /// The harness failed.
    pub fn die(&mut self, world: &mut World) -> Result<()> {
        let way = world.dice.chance(world.plan.reopen).then(|| world.ground.way()).transpose()?;
        self.stage = world.stage(self.job)?;
        self.way = way.unwrap_or_else(|| self.way.clone());
        self.owned.clear();
        self.parts.clear();
        self.asked.clear();
        self.answers.clear();
        self.ticked.clear();
        self.memory = Memory::default();
        world.deaths += 1;
        Ok(())
    }

    /// One turn.
    ///
    /// # Errors
    /// The stage halted.
    pub fn turn(&mut self, world: &mut World) -> Result<()> {
        if self.away_until > world.now {
            return Ok(());
        }
        if self.work(world)? == Life::Ended {
            self.die(world)?;
        }
        Ok(())
    }

    fn work(&mut self, world: &mut World) -> Result<Life> {
        self.hear(world)?;
        let is_idle = !self.receive(world)? & !self.take_answers()?;
        if world.bug == Some(Bug::SentBeforeLogged) {
            self.ask_for_more(world);
            self.ask(world)?;
        }
        if self.commit(world)? == Life::Ended {
            return Ok(Life::Ended);
        }
        for (_, alarm) in self.stage.alarms() {
            if world.bug != Some(Bug::AlarmUnheard) {
                world.witness.alarms.push(alarm);
            }
            if world.is_deadly() {
                return Ok(Life::Ended);
            }
        }
        self.ask_for_more(world);
        if self.ask(world)? == Life::Ended {
            return Ok(Life::Ended);
        }
        if is_idle && self.parts.is_empty() {
            self.tick(world);
        }
        Ok(Life::Goes)
    }

    /// Hears which partitions are its own now.
    fn hear(&mut self, world: &mut World) -> Result<()> {
        if self.deaf_until > world.now {
            return Ok(());
        }
        let is_ours =
            |partition: &Partition, term| world.owner(self.job, partition) == Some((self.number, term));
        let lost: Vec<_> = self
            .owned
            .iter()
            .filter(|(partition, (term, _))| !is_ours(partition, *term))
            .map(|(one, _)| one.clone())
            .collect();
        lost.iter().for_each(|partition| self.forget(partition));
        for (partition, term) in world.owned_by(self.job, self.number) {
            if self.owned.contains_key(&partition) {
                continue;
            }
            let next = world.log.next(self.job.name(), &partition);
            self.stage.assign(&partition, next);
            self.owned.insert(partition.clone(), (term, next));
            if world.bug != Some(Bug::StateNotRestored) {
                for record in world.log.records(self.job.state(), partition.number) {
                    self.stage.restore(record)?;
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, partition: &Partition) {
        self.owned.remove(partition);
        self.parts.remove(partition);
        self.ticked.remove(partition);
        self.asked.retain(|asked| asked.partition != *partition);
        self.answers.retain(|(of, ..)| of != partition);
        self.stage.revoke(partition);
    }

    fn receive(&mut self, world: &mut World) -> Result<bool> {
        let mut is_busy = false;
        for (partition, (_, next)) in &mut self.owned {
            let most = if world.plan.is_exact() { AT_ONCE } else { world.dice.below(AT_ONCE) };
            let records = world.log.records(partition.topic.as_str(), partition.number);
            let from = records.partition_point(|record| record.offset < *next);
            for record in records[from..].iter().take(usize::try_from(most)?) {
                let part = self.parts.entry(partition.clone()).or_default();
                *next = record.offset + 1;
                is_busy = true;
                if !bug::is_overlooked(world.bug, record) {
                    self.stage.step(record, part)?;
                }
            }
        }
        Ok(is_busy)
    }

    fn take_answers(&mut self) -> Result<bool> {
        let is_busy = !self.answers.is_empty();
        for (partition, term, answer) in std::mem::take(&mut self.answers) {
            if self.owned.get(&partition).is_some_and(|(ours, _)| *ours == term) {
                let part = self.parts.entry(partition.clone()).or_default();
                self.stage.answer(&partition, answer, part)?;
            }
        }
        Ok(is_busy)
    }

    fn commit(&mut self, world: &mut World) -> Result<Life> {
        for (partition, part) in &mut self.parts {
            self.stage.seal(partition, part)?;
        }
        let parts = std::mem::take(&mut self.parts);
        let mut parts: Vec<_> = parts.into_iter().filter(|(_, part)| !part.is_empty()).collect();
        for partition in parts.iter().map(|(partition, _)| partition.clone()).collect::<Vec<_>>() {
            let term = self.owned.get(&partition).map(|(term, _)| *term);
            let is_fenced = world.owner(self.job, &partition).map(|(_, term)| term) != term;
            if is_fenced && world.bug != Some(Bug::NotFenced) {
                world.fenced += 1;
                parts.retain(|(ours, _)| *ours != partition);
                self.forget(&partition);
            }
        }
        if parts.is_empty() {
            return Ok(Life::Goes);
        }
        if world.is_deadly() {
            return Ok(Life::Ended);
        }
        world.commit(self.job, &parts)?;
        self.memory.committed(&parts)?;
        Ok(if world.is_deadly() { Life::Ended } else { Life::Goes })
    }

    fn ask_for_more(&mut self, world: &World) {
        for (partition, request) in self.stage.requests() {
            let Some((term, _)) = self.owned.get(&partition).copied() else { continue };
            let after = match &request {
                Request::Look { after, .. } | Request::Balance { after, .. } => {
                    Micros::try_from(after.as_micros()).unwrap_or(Micros::MAX)
                }
                _ => 0,
            };
            let (at, due) = (world.now, world.now.saturating_add(after));
            self.asked.push_back(Asked { partition, term, request, at, due, pause: RETRY.0 });
        }
    }

    /// Does what was asked: what concerns the catalog in order for each partition, the rest in any.
    fn ask(&mut self, world: &mut World) -> Result<Life> {
        let mut stuck = BTreeSet::new();
        for mut asked in std::mem::take(&mut self.asked) {
            let has_order = has_order(&asked.request);
            if asked.due > world.now || has_order && stuck.contains(&asked.partition) {
                if has_order {
                    stuck.insert(asked.partition.clone());
                }
                self.asked.push_back(asked);
                continue;
            }
            if world.is_deadly() {
                return Ok(Life::Ended);
            }
            let outcome = self.perform(world, &asked)?;
            if world.is_deadly() {
                return Ok(Life::Ended);
            }
            // No answer: it was not done, or nobody heard of it.
            let is_lost = world.dice.chance(world.plan.lost);
            match outcome.ok().filter(|_| !is_lost) {
                Some(answer) => self.answers.push_back((asked.partition, asked.term, answer)),
                None => {
                    asked.due = world.now + asked.pause;
                    asked.pause = (asked.pause * 2).min(RETRY.1);
                    if has_order {
                        stuck.insert(asked.partition.clone());
                    }
                    self.asked.push_back(asked);
                }
            }
        }
        Ok(Life::Goes)
    }

    fn perform(&mut self, world: &mut World, asked: &Asked) -> Result<Result<Answer, ChainError>> {
        let request = &asked.request;
        let catalog = &world.catalog;
        Ok(Ok(match request {
            Request::PutBatch(batch) => {
                catalog.put_batch(batch)?;
                Answer::BatchPut(BatchHeader::decode(&batch.header)?.number)
            }
            Request::PutAnchor(anchor) => {
                catalog.put_anchor(anchor)?;
                Answer::AnchorPut
            }
            Request::ReadBatch { origin, number, size } => {
                let path = |batch| -> Result<_> {
                    let path = log_path(catalog, origin, *number, *size)?;
                    Ok(Box::new(StoredBatch { batch, path }))
                };
                Answer::BatchRead(catalog.batch(origin, *number)?.map(path).transpose()?)
            }
            Request::FirstCovered { origin, size } => {
                Answer::FirstCovered(first_covered(catalog, origin, *size)?)
            }
            Request::Send { chain, key, command } => {
                let bytes = self.memory.signed(world.bug, key, command);
                world.witness.sent(&bytes, asked.at);
                match self.way.send(*chain, &bytes) {
                    Ok(said) => Answer::Sent(key.clone(), said),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Request::Look { chain, keys, depth, .. } => {
                match self.way.look(*chain, bug::looked_for(world.bug, keys), *depth) {
                    Ok(look) => Answer::Seen(keys.clone(), self.memory.seen(world.bug, keys, look, *depth)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            Request::Balance { chain, account, .. } => {
                let balance = match self.way.balance(*chain, account) {
                    Ok(units) => units.map_or(Balance::NoAccount, Balance::Units),
                    Err(error) => Balance::Unknown(error.to_string().into()),
                };
                Answer::Balance(account.clone(), balance)
            }
            Request::Spv { chain, key } => match self.way.spv(*chain, key) {
                Ok(proof) => Answer::Spv(key.clone(), proof.map(Box::new)),
                Err(error) => return Ok(Err(error)),
            },
            Request::Again => Answer::Again,
            Request::Schema(_) | Request::Newest { .. } => bail!("no stage here asks for this"),
        }))
    }

    fn tick(&mut self, world: &mut World) {
        if world.plan.is_exact() {
            return; // whoever writes checkpoints also writes ticks
        }
        for (partition, (term, next)) in &self.owned {
            let is_ours = world.owner(self.job, partition) == Some((self.number, *term));
            let Some(due) = self.stage.tick_due(partition).filter(|due| *due <= world.now) else { continue };
            if is_ours && world.log.end(partition) <= *next && self.ticked.get(partition) != Some(&due) {
                self.ticked.insert(partition.clone(), due);
                // Ticks stand behind their time, whatever the brokers' clocks say.
                world.log.append(&Output::tick(partition.clone()), world.now + SECOND / 20, &mut world.dice);
            }
        }
    }

    /// What is asked and has an end: balances are asked for for ever.
    fn awaited(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| !matches!(asked.request, Request::Balance { .. }))
    }

    /// Whether everything is done: all read, all committed, nothing awaited or open.
    pub fn is_idle(&self, world: &World) -> bool {
        let is_done = |partition: &Partition| {
            let read = self.owned.get(partition).map(|(_, next)| *next);
            read == Some(world.log.end(partition)) && self.stage.tick_due(partition).is_none()
        };
        let own = world.owned_by(self.job, self.number);
        self.awaited().next().is_none()
            && self.answers.is_empty()
            && own.iter().all(|(partition, _)| is_done(partition))
    }

    /// When the next request is due; `None` if none is awaited.
    pub fn due(&self) -> Option<Micros> {
        let asked = self.awaited().map(|asked| asked.due);
        let ticks = self.owned.keys().filter_map(|partition| self.stage.tick_due(partition));
        asked.chain(ticks).min()
    }

    /// What it waits for, for people.
    pub fn waits_for(&self) -> String {
        let asked = self.awaited().map(|asked| format!("{}: {:?}", asked.partition, asked.request));
        let text: String = asked.collect::<Vec<_>>().join("; ").chars().take(400).collect();
        format!("{} {} waits for [{text}]", self.job.name(), self.number)
    }

    /// Its number among those of its stage.
    pub fn number(&self) -> usize {
        self.number
    }
}

/// Whether requests of this kind are done in the order in which they were asked.
fn has_order(request: &Request) -> bool {
    matches!(
        request,
        Request::PutBatch(_)
            | Request::PutAnchor(_)
            | Request::ReadBatch { .. }
            | Request::FirstCovered { .. }
    )
}
