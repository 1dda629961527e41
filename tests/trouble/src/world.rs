//! All together: time, the log, the catalog, the network, who owns what, and who watches.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use chainweb::ChainId;
use chainweb::devnet::{Orphaned, TroubleError};
use killick_contract::catalog::Maker;
use killick_proof::note::VerifierKey;
use killick_proof::signature::SecretKey;
use killick_sim::catalog::SimCatalog;
use killick_sim::log::SimLog;
use killick_sim::{Dice, SECOND, START};
use killick_stages::deployment::{self, Deployment};
use killick_stages::record::{Micros, Output, Partition};
use killick_stages::route::{BATCHES, CHECKPOINTS};
use killick_stages::span::Span;
use killick_stages::stage::{Part, Stage};
use killick_stages::{anchor, prove};
use tokio::runtime::Handle;

use crate::bug::Bug;
use crate::ground::{Ground, KEYS, Recipe};
use crate::plan::Plan;
use crate::witness::Witness;
use crate::worker::Job;

/// Everything outside of the workers.
pub struct World {
    /// What happens.
    pub plan: Plan,
    /// The time of all clocks.
    pub now: Micros,
    /// What decides about workers.
    pub dice: Dice,
    /// What decides about everything else.
    pub fate: Dice,
    /// The log.
    pub log: SimLog,
    /// The catalog.
    pub catalog: SimCatalog,
    /// The network.
    pub ground: Ground,
    /// Who sees everything.
    pub witness: Witness,
    /// What is anchored, and where.
    pub deployment: Deployment,
    /// The bug that is planted.
    pub bug: Option<Bug>,
    /// Which worker has which unit of a stage, and in which term.
    owners: BTreeMap<(Job, u32), (usize, u64)>,
    terms: u64,
    makers: Vec<Maker>,
    /// Batches that were made.
    pub made: u64,
    /// When the next block is due.
    pub next_block: Micros,
    /// When parted nodes meet again, and nodes that are away come back.
    ends: BTreeMap<Micros, End>,
    /// Boundaries that were passed, and the one where a worker dies.
    pub boundaries: u64,
    /// At which of them a worker dies.
    pub deadly: Option<u64>,
    /// What was done to the network, and when.
    pub events: Vec<(Micros, String)>,
    /// Whether nothing goes wrong any more.
    is_settled: bool,
    /// Workers that died.
    pub deaths: u64,
    /// Commits that came too late.
    pub fenced: u64,
}

/// What comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Parted,
    CutOff,
    Away,
}

impl World {
    /// The world of a plan, without workers.
    pub fn new(plan: Plan, bug: Option<Bug>, deadly: Option<u64>, runtime: &Handle) -> Result<Self> {
        let recipe = Recipe {
            graph: plan.graph,
            nodes: plan.nodes,
            block_time: plan.block_time,
            faults: plan.faults.clone(),
            seed: plan.seed,
            is_poor: plan.is_poor,
            start: START,
        };
        let config = deployment::Config {
            name: "trouble.example".into(),
            logs: plan.logs,
            network: Ground::network(plan.graph),
            chains: (0..plan.chains).collect(),
            ..deployment::Config::default()
        };
        let deployment = Deployment::new(&config)?;
        let makers = deployment.origins().iter().map(|origin| Maker::new(origin)).collect();
        let witness = Witness::new(plan.depth);
        Ok(Self {
            now: START,
            dice: Dice::new(plan.seed ^ 0x0dd5),
            fate: Dice::new(plan.seed ^ 0xfa7e),
            log: SimLog::default(),
            catalog: SimCatalog::default(),
            ground: Ground::new(recipe, runtime)?,
            witness,
            deployment,
            bug,
            owners: BTreeMap::new(),
            terms: 0,
            makers,
            made: 0,
            next_block: START,
            ends: BTreeMap::new(),
            boundaries: 0,
            deadly,
            events: Vec::new(),
            is_settled: false,
            deaths: 0,
            fenced: 0,
            plan,
        })
    }

    /// A stage, made anew: perhaps configured otherwise than the one before.
    pub fn stage(&mut self, job: Job) -> Result<Box<dyn Stage>> {
        let is_changed = self.plan.is_changed && self.dice.chance(400);
        // In the end there is money.
        let keys = match (self.plan.is_poor, self.is_settled) {
            (true, false) => &KEYS[..1],
            (true, true) => &KEYS[1..],
            (false, _) if is_changed => &KEYS[..],
            (false, _) => &KEYS[..1],
        };
        let plan = &self.plan;
        Ok(match job {
            Job::Anchor => {
                let config = anchor::Config {
                    interval: Span::secs(plan.interval),
                    depth: plan.depth,
                    watch: plan.watch,
                    poll: Span::secs(plan.poll),
                    ttl: Span::secs(plan.ttl),
                    in_flight: plan.in_flight,
                    balance_poll: Span::secs(60),
                    gas_price: if is_changed { "2e-8" } else { "1e-8" }.to_owned(),
                    ..anchor::Config::default()
                };
                let keys = keys.iter().map(SecretKey::from_seed).collect();
                Box::new(anchor::Anchor::new(&self.deployment, &config, keys)?)
            }
            Job::Prove => {
                let (poll, receipts) = (Span::secs(plan.poll), plan.receipts);
                let config = prove::Config { poll, receipts, ..prove::Config::default() };
                Box::new(prove::Prove::new(&self.deployment, &config, self.log_keys())?)
            }
        })
    }

    /// The public keys of the logs.
    pub fn log_keys(&self) -> Vec<VerifierKey> {
        self.makers.iter().map(Maker::verifier).collect()
    }

    /// Whether a worker dies here: at each boundary between what it does and what others see of it.
    pub fn is_deadly(&mut self) -> bool {
        self.boundaries += 1;
        self.deadly == Some(self.boundaries) || self.dice.chance(self.plan.crash)
    }

    /// Gives a unit of a stage to a worker.
    pub fn give(&mut self, job: Job, unit: u32, worker: usize) {
        self.terms += 1;
        self.owners.insert((job, unit), (worker, self.terms));
    }

    /// The worker that has a partition, and its term.
    pub fn owner(&self, job: Job, partition: &Partition) -> Option<(usize, u64)> {
        self.owners.get(&(job, partition.number)).copied()
    }

    /// The partitions of a worker.
    pub fn owned_by(&self, job: Job, worker: usize) -> Vec<(Partition, u64)> {
        let its = self.owners.iter().filter(|((of, _), (owner, _))| *of == job && *owner == worker);
        its.flat_map(|((_, unit), (_, term))| job.partitions(*unit).into_iter().map(|one| (one, *term)))
            .collect()
    }

    /// Units of a stage.
    pub fn units(&self, job: Job) -> u32 {
        match job {
            Job::Anchor => self.plan.chains,
            Job::Prove => self.plan.logs,
        }
    }

    /// A transaction of a worker.
    pub fn commit(&mut self, job: Job, parts: &[(Partition, Part)]) -> Result<()> {
        for (partition, part) in parts {
            let (before, after) = (self.log.next(job.name(), partition), part.through);
            ensure!(after.is_none_or(|after| before <= after), "{} goes back in {partition}", job.name());
        }
        self.log.commit(job.name(), parts, self.now, &mut self.dice);
        parts.iter().try_for_each(|(_, part)| self.witness.committed(&part.outputs, &self.ground))
    }

    /// Lets time pass, and what is due happen.
    pub fn pass(&mut self, until: Micros) -> Result<()> {
        self.now = until.max(self.now + SECOND / 5);
        self.ground.set_time(self.now);
        while let Some(end) = self.ends.first_entry().filter(|end| *end.key() <= self.now) {
            match end.remove() {
                End::Parted => self.ground.nodes[0].heal()?,
                End::CutOff => self.ground.cut_off(false),
                End::Away => self.ground.nodes.iter().for_each(|node| node.set_down(false)),
            }
            self.disturbed();
        }
        if self.is_away() {
            self.next_block = self.now; // nobody makes blocks
            return Ok(());
        }
        while self.next_block <= self.now {
            self.ground.nodes[0].make_round()?;
            self.next_block += Micros::try_from(self.plan.block_time)? * SECOND;
            self.trouble()?;
            self.witness.look_around(&self.ground, Some(self.now));
        }
        Ok(())
    }

    /// Makes the next batch of some log, and its checkpoint.
    pub fn make_batch(&mut self) -> Result<()> {
        let log = usize::try_from(self.fate.below(self.plan.logs.into()))?;
        let leaves = 1 + self.fate.below(3);
        let batch = self.makers[log].batch(self.now, &["t"], leaves);
        let number = u32::try_from(log)?;
        let (_, lane) = self.deployment.chain_of(number).context("a log without a chain")?;
        let origin = self.deployment.origin(number).context("a log without an origin")?.to_owned();
        let checkpoint = batch.checkpoint.as_bytes().to_vec();
        let of = |topic, number| Partition::new(topic, number);
        for output in [
            Output::new(of(BATCHES, number), origin.clone(), batch.encode()),
            Output::new(of(CHECKPOINTS, lane), origin, checkpoint),
        ] {
            self.log.append(&output, self.now, &mut self.fate);
        }
        self.made += 1;
        Ok(())
    }

    /// Lets the log's time pass in each lane.
    pub fn tick_all(&mut self) {
        for lane in 0..self.plan.chains {
            let tick = Output::tick(Partition::new(CHECKPOINTS, lane));
            self.log.append(&tick, self.now, &mut self.fate);
        }
    }

    /// Takes note of something that was done to the network.
    pub fn note(&mut self, what: String) {
        self.events.push((self.now, what));
    }

    /// Something happened to the nodes, or to who asks them.
    pub fn disturbed(&mut self) {
        self.witness.disturbed = self.now;
        self.witness.look_around(&self.ground, Some(self.now));
    }

    fn trouble(&mut self) -> Result<()> {
        let plan = &self.plan;
        let (depth, nodes) = (plan.depth, plan.nodes);
        if self.fate.chance(plan.deep) {
            let (chain, deep) = self.deep_enough()?;
            let orphaned = [Orphaned::Wait, Orphaned::MinedAgain, Orphaned::Lost][self.some(3)];
            self.reorganize(chain, deep, orphaned)?;
        }
        if nodes > 1
            && !self.ends.values().any(|end| *end == End::Parted)
            && self.fate.chance(self.plan.parted)
        {
            let side: Vec<usize> = (0..nodes).filter(|_| self.fate.chance(500)).collect();
            self.ground.nodes[0].partition(std::slice::from_ref(&side))?;
            self.note(format!("nodes {side:?} part from the others"));
            let blocks = Micros::try_from(1 + self.fate.below(depth + 3))?;
            self.end_after(blocks * Micros::try_from(self.plan.block_time)?, End::Parted);
        }
        if self.fate.chance(self.plan.forgotten) {
            self.forget();
        }
        if self.fate.chance(self.plan.away) {
            self.go_away()?;
        }
        Ok(())
    }

    /// A chain, and a depth there beyond what counts as final: down to the last block that was told of, where it is not
    /// far below.
    fn deep_enough(&mut self) -> Result<(u32, u64)> {
        let chain = u32::try_from(self.fate.below(self.plan.chains.into()))?;
        let beyond = self.plan.depth + 1 + self.fate.below(2);
        let Some(told) = self.witness.told.last() else { return Ok((chain, beyond)) };
        let depth = self.ground.height(0, told.chain).saturating_sub(told.height) + 1;
        let is_near = depth <= self.plan.depth + 4;
        Ok(if is_near { (told.chain, depth.max(beyond)) } else { (chain, beyond) })
    }

    /// Lets blocks of a chain be lost, as the first node that is there sees them.
    pub fn reorganize(&mut self, chain: u32, depth: u64, orphaned: Orphaned) -> Result<()> {
        let nodes: Vec<_> = self.ground.up().collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let node = nodes[self.some(nodes.len())];
        self.note(format!("chain {chain} loses {depth} blocks on node {node}: {orphaned:?}"));
        match self.ground.nodes[node].reorganize(ChainId(chain), depth, orphaned) {
            // So many blocks are not there yet.
            Ok(()) | Err(TroubleError::Fork(_)) => {}
            Err(error) => bail!(error),
        }
        self.disturbed();
        Ok(())
    }

    /// Lets nodes forget what waits, or hold a command to be hopeless.
    fn forget(&mut self) {
        let count = self.witness.commands.len();
        if count == 0 || self.fate.chance(500) {
            self.ground.nodes.iter().for_each(|node| node.lose_mempool());
            return self.note("all nodes forget what waits".to_owned());
        }
        let (which, node) = (self.some(count), self.some(self.plan.nodes));
        if let Some((key, command)) = self.witness.commands.iter().nth(which) {
            self.ground.nodes[node].bad_list(ChainId(command.chain), key);
            let what =
                format!("node {node} holds {} to be hopeless, attempt {}", command.interval, command.number);
            self.note(what);
        }
    }

    /// Lets all nodes be away for hours, or all ways to them be cut while they go on.
    fn go_away(&mut self) -> Result<()> {
        if self.fate.chance(500) {
            let blocks = self.plan.ttl / self.plan.block_time + self.plan.depth + self.fate.below(6);
            self.ground.cut_off(true);
            self.note(format!("the ways to all nodes are cut for {blocks} blocks"));
            self.end_after(Micros::try_from(blocks * self.plan.block_time)?, End::CutOff);
            return Ok(());
        }
        self.ground.nodes.iter().for_each(|node| node.set_down(true));
        let seconds = Micros::try_from(60 + self.fate.below(6 * 3_600))?;
        self.note(format!("all nodes are away for {seconds} s"));
        self.end_after(seconds, End::Away);
        Ok(())
    }

    /// Whether all nodes are away for long.
    pub fn is_away(&self) -> bool {
        self.ends.values().any(|end| *end == End::Away)
    }

    fn end_after(&mut self, seconds: Micros, end: End) {
        self.ends.insert(self.now + seconds * SECOND, end);
        self.disturbed();
    }

    fn some(&mut self, count: usize) -> usize {
        usize::try_from(self.fate.below(count as u64)).unwrap_or(0)
    }

    /// Ends all trouble that does not end by itself.
    pub fn settle(&mut self) -> Result<()> {
        self.plan = self.plan.at_rest();
        self.is_settled = true;
        self.note("trouble ends".to_owned());
        self.ends.clear();
        self.ground.cut_off(false);
        for node in &self.ground.nodes {
            node.set_faults(self.plan.faults.clone());
            node.set_down(false);
            node.set_lag(0);
        }
        self.ground.nodes[0].heal()?;
        self.disturbed();
        Ok(())
    }
}
