//! One scenario from its beginning to its verdict.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bytes::Bytes;
use chainweb::devnet::Orphaned;
use chainweb::{ChainId, Hash};
use killick_sim::SECOND;
use killick_stages::record::Micros;
use tokio::runtime::Handle;

use crate::bug::Bug;
use crate::judge::{self, Verdict};
use crate::plan::{Family, Plan, Story, all_lost};
use crate::tale;
use crate::worker::{Job, Worker};
use crate::world::World;

/// Workers of each stage.
const WORKERS: usize = 2;
/// Turns until all has to be at rest, at most.
const MAX_REST: u32 = 4_000;
/// Turns of a story before it comes to rest, two seconds each.
const STORY: u32 = 70;

/// What became of a scenario.
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The bytes of each interval's attempts.
    pub attempts: BTreeMap<(String, u64), Bytes>,
    /// Boundaries at which a worker could have died.
    pub boundaries: u64,
    /// What happened.
    pub tale: Tale,
}

/// What happened, for people.
pub struct Tale {
    /// In one line.
    pub short: String,
    /// In a line for each event.
    pub long: String,
}

/// Plays a scenario; a worker dies at the boundary `deadly`, counted from 1.
///
/// # Errors
/// The harness itself failed. What the pipeline does wrong is in the verdict.
pub fn play(plan: Plan, bug: Option<Bug>, deadly: Option<u64>, runtime: &Handle) -> Result<Outcome> {
    let mut world = World::new(plan, bug, deadly, runtime)?;
    let mut play = Play { workers: Vec::new(), revival: Revival::Awaited };
    let halted = play.all(&mut world).err();
    let verdict = judge::judge(&mut world, halted.as_ref())?;
    let tale = Tale { short: tale::short(&world), long: tale::long(&world) };
    Ok(Outcome { verdict, attempts: world.witness.attempts, boundaries: world.boundaries, tale })
}

struct Play {
    workers: Vec<Worker>,
    revival: Revival,
}

/// How far the story of a command that comes back is.
#[derive(Debug, Clone, Copy)]
enum Revival {
    /// A command in a block that is not deep is awaited.
    Awaited,
    /// One node lost it, is alone with that, and waits for the next attempt of this interval's command.
    Lost(Hash),
    /// The node is away, and the others are those that are asked, until then.
    Back(Micros),
    Over,
}

impl Play {
    fn all(&mut self, world: &mut World) -> Result<()> {
        for job in [Job::Anchor, Job::Prove] {
            for unit in 0..world.units(job) {
                let worker = usize::try_from(unit)? % WORKERS;
                world.give(job, unit, worker);
            }
            for number in 0..WORKERS {
                let worker = Worker::new(job, number, world)?;
                self.workers.push(worker);
            }
        }
        match world.plan.family {
            Family::Point(story) => self.tell(story, world)?,
            _ => self.live(world)?,
        }
        self.rest(world)
    }

    /// The time in which trouble comes.
    fn live(&mut self, world: &mut World) -> Result<()> {
        let batches = world.plan.batches;
        let turns = 60 + world.fate.below(60);
        let mut turn = 0;
        while turn < turns || world.made < batches || !self.is_revived(world) {
            turn += 1;
            if turn > 2_000 {
                bail!("the scenario does not end");
            }
            let step = if world.is_away() { 30 + world.fate.below(1_200) } else { 1 + world.fate.below(5) };
            world.pass(world.now + Micros::try_from(step)? * SECOND)?;
            if world.made < batches && world.fate.below(turns) < batches * 2 {
                world.make_batch()?;
            }
            if world.plan.family == Family::Revival {
                self.revive(world)?;
            }
            self.shuffle(world)?;
            for worker in &mut self.workers {
                worker.turn(world)?;
            }
        }
        Ok(())
    }

    /// A short story: the same whatever workers do.
    fn tell(&mut self, story: Story, world: &mut World) -> Result<()> {
        let plain = world.plan.faults.clone();
        for turn in 0..STORY {
            world.pass(world.now + 2 * SECOND)?;
            if turn % 14 == 1 && world.made < world.plan.batches {
                world.make_batch()?;
            }
            world.tick_all();
            match (story, turn) {
                (Story::Expiry, 2) => world.ground.nodes[0].set_faults(all_lost(&plain)),
                (Story::Expiry, 66) => world.ground.nodes[0].set_faults(plain.clone()),
                (Story::Orphans, 14 | 30 | 44) => world.reorganize(0, 2, Orphaned::Lost)?,
                (Story::Orphans, 22 | 37) => world.reorganize(0, 1, Orphaned::Wait)?,
                (Story::Deep, 29) => world.reorganize(0, 4, Orphaned::Lost)?,
                (Story::Deep, 55) => world.reorganize(0, 3, Orphaned::MinedAgain)?,
                _ => {}
            }
            for worker in &mut self.workers {
                worker.turn(world)?;
            }
        }
        Ok(())
    }

    /// Moves partitions, lets workers be away, and lets some not hear of what they lost.
    fn shuffle(&mut self, world: &mut World) -> Result<()> {
        for job in [Job::Anchor, Job::Prove] {
            for unit in 0..world.units(job) {
                if !world.dice.chance(world.plan.moves) {
                    continue;
                }
                let to = usize::try_from(world.dice.below(WORKERS as u64))?;
                let until = world.now + Micros::try_from(5 + world.dice.below(120))? * SECOND;
                let (is_deaf, is_away) = (world.dice.chance(world.plan.deaf), world.dice.chance(400));
                for worker in self.workers.iter_mut().filter(|worker| worker.job == job) {
                    if worker.number() != to && is_deaf {
                        worker.deaf_until = until;
                        worker.away_until = if is_away { until - 3 * SECOND } else { world.now };
                    }
                }
                world.give(job, unit, to);
                world.disturbed();
            }
        }
        Ok(())
    }

    fn is_revived(&self, world: &World) -> bool {
        world.plan.family != Family::Revival || matches!(self.revival, Revival::Over)
    }

    /// Lets the command of an interval be lost for one node, which alone is asked, until the next attempt is sent, and that
    /// be forgotten; and then be there again.
    fn revive(&mut self, world: &mut World) -> Result<()> {
        let alone = &world.ground.nodes[0];
        match self.revival {
            Revival::Awaited => {
                let find = |key: &Hash, chain| alone.read(|network| network.find(ChainId(chain), key));
                let told = |name: &str| world.witness.told.iter().any(|told| *told.interval == *name);
                let commands = world.witness.commands.iter();
                let found = commands
                    .filter(|(_, command)| !told(&command.interval))
                    .find_map(|(key, command)| Some((*key, command.chain, find(key, command.chain)?.0)));
                let Some((key, chain, height)) = found else { return Ok(()) };
                let depth = 1 + world.ground.height(0, chain).saturating_sub(height);
                alone.partition(&[vec![0]])?;
                alone.reorganize(ChainId(chain), depth, Orphaned::Lost)?;
                alone.bad_list(ChainId(chain), &key);
                alone.set_faults(all_lost(&world.plan.faults));
                self.revival = Revival::Lost(key);
                world.note(format!("node 0 is alone, and lost {depth} blocks of chain {chain}"));
            }
            Revival::Lost(key) => {
                let commands = &world.witness.commands;
                let interval = commands.get(&key).map(|command| &command.interval);
                let is_next = |command: &&crate::witness::Command| {
                    Some(&command.interval) == interval && command.number > 0
                };
                if !commands.values().any(|command| is_next(&command)) {
                    return Ok(());
                }
                alone.set_down(true);
                self.revival = Revival::Back(world.now + 200 * SECOND);
                world.note("node 0 is away".to_owned());
            }
            Revival::Back(until) if until <= world.now => {
                alone.set_down(false);
                alone.heal()?;
                alone.set_faults(world.plan.faults.clone());
                self.revival = Revival::Over;
                world.note("node 0 is back".to_owned());
            }
            Revival::Back(_) | Revival::Over => return Ok(()),
        }
        world.disturbed();
        Ok(())
    }

    /// Lets everything come to rest.
    fn rest(&mut self, world: &mut World) -> Result<()> {
        world.settle()?;
        for worker in &mut self.workers {
            (worker.deaf_until, worker.away_until) = (Micros::MIN, Micros::MIN);
            if world.plan.is_poor {
                worker.die(world)?; // an operator gives it another key
            }
        }
        for _ in 0..MAX_REST {
            let due = self.workers.iter().filter_map(Worker::due).min().unwrap_or(Micros::MAX);
            let until =
                if world.plan.is_exact() { world.now + 2 * SECOND } else { due.min(world.next_block) };
            world.pass(until)?;
            if world.plan.is_exact() {
                world.tick_all();
            }
            for worker in &mut self.workers {
                worker.turn(world)?;
            }
            if self.workers.iter().all(|worker| worker.is_idle(world)) {
                return Ok(());
            }
        }
        let busy = self.workers.iter().filter(|worker| !worker.is_idle(world));
        bail!("no rest: {}", busy.map(Worker::waits_for).collect::<Vec<_>>().join("; "))
    }
}
