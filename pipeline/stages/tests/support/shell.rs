//! The shell around one stage, as the binary has it but with the world as arguments: assign, step, commit, ask, tick. It
//! dies, loses partitions and gets no answers as the dice say; and it has bugs on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chainweb::pact::{Command, command_hash};
use killick_proof::Algorithm;
use killick_proof::signature::SecretKey;
use killick_stages::derive::{first_covered, log_path};
use killick_stages::frame::UniqueFrame;
use killick_stages::manifest::Bookkeeper;
use killick_stages::ports::{BatchRecord, Catalog};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::registry::Lookup;
use killick_stages::route::REANCHOR;
use killick_stages::series::newest;
use killick_stages::stage::{Answer, Part, Request, Stage, StoredBatch};

use super::world::{ANCHOR_KEY, Bug, Faults, SERIES, World};
use super::{SECOND, registry};

pub type Make = Box<dyn Fn() -> Box<dyn Stage>>;

pub struct Shell {
    pub name: &'static str,
    state_topic: Option<&'static str>,
    inputs: Vec<Partition>,
    make: Make,
    stage: Box<dyn Stage>,
    books: Bookkeeper,
    /// The offset of the next record of each partition that is ours.
    owned: BTreeMap<Partition, u64>,
    parts: BTreeMap<Partition, Part>,
    /// What was asked and not answered, in order, with the time before which nothing is done.
    asked: VecDeque<(Partition, Request, Micros)>,
    answers: VecDeque<(Partition, Answer)>,
    ticked: BTreeMap<Partition, Micros>,
}

/// Something an operator has to look at.
pub type Fault = String;

impl Shell {
    pub fn new(
        name: &'static str,
        state_topic: Option<&'static str>,
        inputs: Vec<Partition>,
        make: Make,
        audit_partitions: u32,
    ) -> Self {
        let stage = make();
        let books = Bookkeeper::new(name, "sim", audit_partitions);
        Self {
            name,
            state_topic,
            inputs,
            make,
            stage,
            books,
            owned: BTreeMap::new(),
            parts: BTreeMap::new(),
            asked: VecDeque::new(),
            answers: VecDeque::new(),
            ticked: BTreeMap::new(),
        }
    }

    fn die(&mut self) {
        self.stage = (self.make)();
        self.owned.clear();
        self.parts.clear();
        self.asked.clear();
        self.answers.clear();
        self.ticked.clear();
    }

    fn lose(&mut self, partition: &Partition) {
        self.books.revoked(partition);
        self.owned.remove(partition);
        self.parts.remove(partition);
        self.ticked.remove(partition);
        self.asked.retain(|(of, ..)| of != partition);
        self.answers.retain(|(of, _)| of != partition);
        self.stage.revoke(partition);
    }

    /// One turn; whether anything was done.
    pub fn turn(&mut self, world: &mut World, faults: &Faults) -> Result<bool, Fault> {
        if world.dice.chance(faults.crash) {
            self.die();
        }
        if world.dice.chance(faults.lose)
            && let Some(partition) = self.owned.keys().next_back().cloned()
        {
            self.lose(&partition);
        }
        self.assign(world, faults)?;
        let mut is_busy = self.receive(world)?;
        is_busy |= self.take_answers()?;
        if !self.commit(world, faults)? {
            return Ok(true);
        }
        world.alarms.extend(self.stage.alarms().into_iter().map(|(_, alarm)| alarm));
        for (partition, request) in self.stage.requests() {
            if self.owned.contains_key(&partition) {
                let after = match &request {
                    Request::Look { after, .. } | Request::Balance { after, .. } => {
                        after.as_micros() as Micros
                    }
                    _ => 0,
                };
                self.asked.push_back((partition, request, world.now + after));
            }
        }
        is_busy |= self.ask(world, faults)?;
        if !is_busy {
            self.tick(world, faults);
        }
        Ok(is_busy)
    }

    fn assign(&mut self, world: &mut World, faults: &Faults) -> Result<(), Fault> {
        for partition in &self.inputs {
            if self.owned.contains_key(partition) || world.dice.chance(faults.wait) {
                continue;
            }
            let next = world.log.next(self.name, partition);
            self.stage.assign(partition, next);
            self.books.assigned(partition, next);
            self.owned.insert(partition.clone(), next);
            let Some(state) =
                self.state_topic.filter(|_| world.bug != Some(Bug::StateNotRestored(self.name)))
            else {
                continue;
            };
            let since = self.stage.restore_since(world.now).unwrap_or(Micros::MIN);
            let records = world.log.records(state, partition.number);
            for record in records.iter().filter(|record| record.append_time >= since) {
                self.stage.restore(record).map_err(|halt| halt.to_string())?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, world: &mut World) -> Result<bool, Fault> {
        let mut is_busy = false;
        for (partition, next) in &mut self.owned {
            let most = world.dice.below(8) as usize;
            let records = world.log.records(partition.topic.as_str(), partition.number);
            let from = records.partition_point(|record| record.offset < *next);
            for record in records[from..].iter().take(most) {
                let part = self.parts.entry(partition.clone()).or_default();
                let record = &misread(record, self.name, world);
                self.stage.step(record, part).map_err(|halt| halt.to_string())?;
                *next = record.offset + 1;
                is_busy = true;
            }
        }
        Ok(is_busy)
    }

    fn take_answers(&mut self) -> Result<bool, Fault> {
        let is_busy = self.answers.iter().any(|(_, answer)| !matches!(answer, Answer::Balance(..)));
        for (partition, answer) in self.answers.drain(..) {
            let part = self.parts.entry(partition.clone()).or_default();
            self.stage.answer(&partition, answer, part).map_err(|halt| halt.to_string())?;
        }
        Ok(is_busy)
    }

    /// Commits; whether we lived to see it.
    fn commit(&mut self, world: &mut World, faults: &Faults) -> Result<bool, Fault> {
        for (partition, part) in &mut self.parts {
            self.stage.seal(partition, part).map_err(|halt| halt.to_string())?;
            self.books.enter(partition, part, self.stage.tally(partition));
        }
        let parts: Vec<_> =
            std::mem::take(&mut self.parts).into_iter().filter(|(_, part)| !part.is_empty()).collect();
        if parts.is_empty() {
            return Ok(true);
        }
        if world.dice.chance(faults.crash) {
            // Before it happened. A shell with a bug has done a part of it.
            match world.bug {
                Some(Bug::OffsetsBeforeOutputs) => world.log.move_offsets(self.name, &parts),
                Some(Bug::OutputsBeforeOffsets) => {
                    let outputs = parts.iter().flat_map(|(_, part)| &part.outputs);
                    outputs.for_each(|output| world.log.append(output, world.now, &mut world.dice));
                }
                _ => {}
            }
            self.die();
            return Ok(false);
        }
        world.log.commit(self.name, &parts, world.now, &mut world.dice);
        self.books.committed(&parts);
        if world.dice.chance(faults.crash) {
            // After it happened, but nobody heard of it.
            self.die();
            return Ok(false);
        }
        Ok(true)
    }

    /// Does what was asked: what concerns the catalog in order for each partition, the rest in any.
    fn ask(&mut self, world: &mut World, faults: &Faults) -> Result<bool, Fault> {
        let mut is_busy = false;
        let mut later = VecDeque::new();
        let mut stuck = BTreeSet::new();
        while let Some((partition, request, due)) = self.asked.pop_front() {
            let has_order = matches!(
                request,
                Request::PutBatch(_)
                    | Request::PutAnchor(_)
                    | Request::ReadBatch { .. }
                    | Request::FirstCovered { .. }
                    | Request::Newest { .. }
            );
            // No answer: once since it did not happen, once though it did.
            // Nothing hangs on a balance, and the chain may not know it.
            let is_balance = matches!(request, Request::Balance { .. });
            let is_lost = !is_balance && world.dice.chance(faults.lost);
            let is_stuck = has_order && stuck.contains(&partition);
            if due > world.now || is_stuck || is_lost {
                if is_lost && !is_stuck && due <= world.now && world.dice.chance(500) {
                    perform(world, faults, &request)?;
                }
                if has_order {
                    stuck.insert(partition.clone());
                }
                if is_lost
                    && world.bug == Some(Bug::AnswerWithoutEffect)
                    && matches!(request, Request::PutBatch(_))
                {
                    let Request::PutBatch(batch) = &request else { continue };
                    self.answers.push_back((partition, Answer::BatchPut(number_of(batch))));
                    continue;
                }
                if is_lost
                    && world.bug == Some(Bug::SilenceIsMissing)
                    && let Request::Schema(id) = request
                {
                    self.answers.push_back((partition, Answer::Schema(id, Lookup::Missing)));
                    continue;
                }
                later.push_back((partition, request, due));
                continue;
            }
            is_busy |= !is_balance;
            let answer = perform(world, faults, &request)?;
            self.answers.push_back((partition, answer));
        }
        self.asked = later;
        Ok(is_busy)
    }

    fn tick(&mut self, world: &mut World, faults: &Faults) {
        for (partition, next) in &self.owned {
            if world.log.end(partition) > *next {
                continue;
            }
            let Some(due) = self.stage.tick_due(partition).filter(|due| *due <= world.now) else { continue };
            // One tick is enough, but another owner may have written one too.
            if self.ticked.get(partition) != Some(&due) || world.dice.chance(faults.crash) {
                self.ticked.insert(partition.clone(), due);
                // Ticks stand behind their time, whatever the brokers' clocks say.
                let at = world.now + 40_000;
                world.log.append(&Output::tick(partition.clone()), at, &mut world.dice);
            }
        }
    }

    /// Whether everything is done: all read, all committed, nothing awaited or open.
    pub fn is_idle(&self, world: &World) -> bool {
        let is_read = |partition: &Partition| self.owned.get(partition) == Some(&world.log.end(partition));
        let is_empty = |partition: &Partition| world.log.end(partition) == 0;
        // Later anchors have always a next round: it must have nothing left to do.
        let is_waiting = |partition: &Partition| match partition.topic.as_str() {
            REANCHOR => !newest(&world.catalog, SERIES).unwrap().is_empty(),
            _ => self.stage.tick_due(partition).is_some(),
        };
        // Balances are asked for for ever.
        self.asked.iter().all(|(_, request, _)| matches!(request, Request::Balance { .. }))
            && self.answers.is_empty()
            && self.inputs.iter().all(|partition| {
                self.owned.contains_key(partition)
                    && (is_read(partition) || is_empty(partition))
                    && !is_waiting(partition)
            })
    }
}

/// A record as a stage with a bug would take it.
fn misread(record: &Record, stage: &str, world: &World) -> Record {
    let mut record = record.clone();
    match world.bug {
        Some(Bug::ClockCuts) if stage == "batch" => record.append_time = world.now,
        Some(Bug::LeavesByHash) if stage == "batch" && !record.is_tick() => {
            let mut frame = UniqueFrame::decode(&record.value).unwrap();
            frame.statements.sort_by_key(|statement| Algorithm::Sha256.digest(statement));
            record.value = frame.encode();
        }
        _ => {}
    }
    record
}

/// A command as it comes out where every retry signs anew: another nonce, and so another request key.
fn signed_anew(command: &[u8]) -> (String, Vec<u8>) {
    let cmd = Command::parse(command).unwrap().cmd.replace("\"nonce\":\"", "\"nonce\":\"again/");
    let hash = command_hash(&cmd);
    let signature = SecretKey::from_seed(&ANCHOR_KEY).sign(&hash.0);
    let command = Command { hash, sigs: vec![Some(hex::encode(signature))], cmd };
    (hash.to_string(), command.to_transaction().into_bytes())
}

fn number_of(batch: &BatchRecord) -> u64 {
    killick_proof::batch::BatchHeader::decode(&batch.header).unwrap().number
}

fn perform(world: &mut World, faults: &Faults, request: &Request) -> Result<Answer, Fault> {
    Ok(match request {
        Request::PutBatch(batch) => {
            world.catalog.put_batch(batch).map_err(|error| error.to_string())?;
            Answer::BatchPut(number_of(batch))
        }
        Request::PutAnchor(anchor) => {
            world.catalog.put_anchor(anchor).map_err(|error| error.to_string())?;
            Answer::AnchorPut
        }
        Request::ReadBatch { origin, number, size } => {
            let batch = world.catalog.batch(origin, *number).map_err(|error| error.to_string())?;
            let stored = batch.map(|batch| {
                let path =
                    log_path(&world.catalog, origin, *number, *size).map_err(|error| error.to_string());
                path.map(|path| Box::new(StoredBatch { batch, path }))
            });
            Answer::BatchRead(stored.transpose()?)
        }
        Request::FirstCovered { origin, size } => Answer::FirstCovered(
            first_covered(&world.catalog, origin, *size).map_err(|error| error.to_string())?,
        ),
        Request::Newest { series } => {
            Answer::Newest(newest(&world.catalog, series).map_err(|error| error.to_string())?)
        }
        Request::Send { chain, key, command } => {
            let chain = world.chains.get_mut(chain).unwrap();
            if world.bug == Some(Bug::SignedAnew) && chain.sent.contains_key(&**key) {
                let (again, command) = signed_anew(command);
                chain.send(&again, &command, &mut world.dice, faults.chain);
            }
            Answer::Sent(key.clone(), chain.send(key, command, &mut world.dice, faults.chain))
        }
        Request::Look { chain, keys, depth, .. } => {
            let mut look = world.chains[chain].look(keys, *depth);
            if world.bug == Some(Bug::DepthIgnored) {
                look.tip_height += 100;
                look.deep_time = Some(look.tip_time);
            }
            if world.bug == Some(Bug::AttemptTooSoon) && look.mined.is_none() {
                // Just beyond the life of what was sent last, and every block counts as deep.
                look.tip_time += 125 * SECOND;
                look.tip_height *= 10;
                look.deep_time = Some(look.tip_time);
            }
            Answer::Seen(keys.clone(), look)
        }
        Request::Schema(id) => Answer::Schema(*id, registry::lookup(*id, world.now)),
        Request::Spv { chain, key } => Answer::Spv(key.clone(), world.chains[chain].spv(key).map(Box::new)),
        Request::Balance { chain, account, .. } => {
            Answer::Balance(account.clone(), world.chains[chain].balance(faults.chain))
        }
        Request::Again => Answer::Again,
    })
}
