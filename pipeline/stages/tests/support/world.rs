//! All together, under a seed.

use std::collections::BTreeMap;

use killick_proof::note::{SignerKey, VerifierKey};
use killick_proof::signature::SecretKey;
use killick_stages::deployment::{self, Deployment};
use killick_stages::ports::ChainId;
use killick_stages::record::{Micros, Partition};
use killick_stages::route::{REANCHORING, ROUTE};
use killick_stages::span::Span;
use killick_stages::stage::Stage;
use killick_stages::{anchor, batch, dedup, ingest, lend, prove};

use super::catalog::SimCatalog;
use super::chain::{NETWORK, SimChain};
use super::log::SimLog;
use super::producer::{self, INPUTS, Producer};
use super::shell::{Make, Shell};
use super::{Dice, SECOND, START, registry};

/// How often what fails, in a thousand.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// A worker dies: at the start of a turn, before a commit, after one.
    pub crash: u64,
    /// A worker loses a partition.
    pub lose: u64,
    /// A partition stays without an owner for a turn.
    pub wait: u64,
    /// A request gets no answer: it did not happen, or it did.
    pub lost: u64,
    /// Whether the chain forgets, delays, refuses, fails and turns.
    pub chain: bool,
    /// Whether the chain also turns deeper than what counts as final.
    pub deep: bool,
    /// Whether hours pass in the middle, within which copies are fresh.
    pub hours: bool,
}

impl Faults {
    pub fn all() -> Self {
        Self { crash: 40, lose: 40, wait: 300, lost: 150, chain: true, deep: false, hours: false }
    }
}

/// A bug to be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The input offset is committed before the outputs.
    OffsetsBeforeOutputs,
    /// The outputs are committed before the input offset.
    OutputsBeforeOffsets,
    /// The state of this stage is not read back.
    StateNotRestored(&'static str),
    /// The catalog says that a batch is stored before it is.
    AnswerWithoutEffect,
    /// A question without an answer counts as answered: the registry does not have the schema.
    SilenceIsMissing,
    /// Every block counts as deep.
    DepthIgnored,
    /// Batches are cut by the clock of the worker and not by the log's.
    ClockCuts,
    /// Leaves stand in the order of a hash map and not in that of the log.
    LeavesByHash,
    /// A command that is sent again is signed anew.
    SignedAnew,
    /// An attempt counts as dead while it can still be mined.
    AttemptTooSoon,
    /// Dedup forgets sooner than copies go stale.
    WindowShort,
}

/// Everything outside the stages.
pub struct World {
    pub now: Micros,
    pub dice: Dice,
    pub log: SimLog,
    pub catalog: SimCatalog,
    pub chains: BTreeMap<ChainId, SimChain>,
    /// What the stages wanted an operator to know.
    pub alarms: Vec<Box<str>>,
    pub bug: Option<Bug>,
}

pub struct Sim {
    pub world: World,
    pub deployment: Deployment,
    pub batch: batch::Config,
    pub produced: u64,
    shells: Vec<Shell>,
    pub faults: Faults,
}

pub const CHAINS: [ChainId; 2] = [4, 9];
pub const DEPTH: u64 = 3;
/// The series of later anchors, and its chain.
pub const SERIES: &str = "later";
pub const SERIES_CHAIN: ChainId = 12;
/// The key that pays for anchors.
pub const ANCHOR_KEY: [u8; 32] = [99; 32];
/// What ingest reads.
pub const INPUT_TOPICS: [&str; 3] = ["events", "open", registry::TOPIC];

pub fn deployment() -> Deployment {
    let config = deployment::Config {
        name: "sim.example".into(),
        logs: 3,
        network: NETWORK.into(),
        chains: CHAINS.to_vec(),
        ..deployment::Config::default()
    };
    Deployment::new(&config).unwrap()
}

pub fn signers(deployment: &Deployment) -> Vec<SignerKey> {
    let signer =
        |(origin, seed): (&str, u8)| SignerKey::new(origin, SecretKey::from_seed(&[seed; 32])).unwrap();
    deployment.origins().iter().map(AsRef::as_ref).zip(100..).map(signer).collect()
}

pub fn batch_config() -> batch::Config {
    batch::Config { max_leaves: 6, max_bytes: 64 << 10, width: Span::millis(500) }
}

fn anchor_config() -> anchor::Config {
    anchor::Config {
        interval: Span::secs(4),
        depth: DEPTH,
        poll: Span::secs(1),
        ttl: Span::secs(120),
        in_flight: 3,
        watch: DEPTH,
        ..anchor::Config::default()
    }
}

pub fn verifiers(deployment: &Deployment) -> Vec<VerifierKey> {
    signers(deployment).iter().map(SignerKey::verifier).collect()
}

fn series(deployment: &Deployment) -> anchor::Series {
    let origins = deployment.origins().iter().cloned().collect();
    anchor::Series { name: SERIES.into(), network: NETWORK.into(), chains: vec![SERIES_CHAIN], origins }
}

pub fn prove_config() -> prove::Config {
    let schema_ids = prove::SchemaIds { proof_ready: 7, receipt: 8 };
    prove::Config { poll: Span::secs(1), receipts: true, schema_ids }
}

/// The stages, each as often as it has to be made anew.
fn shells(deployment: &Deployment, batch: &batch::Config, dedup: &dedup::Config) -> Vec<Shell> {
    let make = |name: &'static str| -> Make {
        let (deployment, batch, dedup) = (deployment.clone(), batch.clone(), dedup.clone());
        Box::new(move || -> Box<dyn Stage> {
            match name {
                "ingest" => Box::new(ingest::Ingest::new(&deployment, &producer::config()).unwrap()),
                "dedup" => Box::new(dedup::Dedup::new(&deployment, &dedup).unwrap()),
                "batch" => Box::new(batch::Batch::new(&deployment, &batch, signers(&deployment)).unwrap()),
                "anchor" => {
                    let key = SecretKey::from_seed(&ANCHOR_KEY);
                    Box::new(anchor::Anchor::new(&deployment, &anchor_config(), vec![key]).unwrap())
                }
                "reanchor" => {
                    let config = anchor::Config { interval: Span::secs(60), ..anchor_config() };
                    let (series, key) = (series(&deployment), SecretKey::from_seed(&ANCHOR_KEY));
                    Box::new(anchor::Anchor::of_series(&deployment, &series, &config, vec![key]).unwrap())
                }
                "lend" => {
                    let keys = verifiers(&deployment);
                    Box::new(lend::Lend::new(SERIES, NETWORK, Span::secs(1), keys).unwrap())
                }
                _ => {
                    let keys = verifiers(&deployment);
                    Box::new(prove::Prove::new(&deployment, &prove_config(), keys).unwrap())
                }
            }
        })
    };
    let shell = |hop: &killick_stages::route::Hop| {
        let topics = if hop.stage == "ingest" { &INPUT_TOPICS[..] } else { hop.reads };
        let count = match hop.stage {
            "ingest" => INPUTS,
            "anchor" => CHAINS.len() as u32,
            "reanchor" | "lend" => 1,
            _ => deployment.logs(),
        };
        let inputs = topics.iter().flat_map(|topic| (0..count).map(|number| Partition::new(*topic, number)));
        Shell::new(hop.stage, hop.state, inputs.collect(), make(hop.stage), deployment.logs())
    };
    ROUTE.iter().chain(&REANCHORING).map(shell).collect()
}

impl Sim {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with_batches(batch_config(), seed, faults)
    }

    pub fn with_batches(batch: batch::Config, seed: u64, faults: Faults) -> Self {
        let deployment = deployment();
        let chains =
            CHAINS.into_iter().chain([SERIES_CHAIN]).map(|id| (id, SimChain::new(id, START))).collect();
        let world = World {
            now: START,
            dice: Dice::new(seed),
            log: SimLog::default(),
            catalog: SimCatalog::default(),
            chains,
            alarms: Vec::new(),
            bug: None,
        };
        let shells = shells(&deployment, &batch, &dedup::Config::default());
        Self { world, shells, deployment, batch, produced: 0, faults }
    }

    pub fn with(mut self, bug: Bug) -> Self {
        self.world.bug = Some(bug);
        if bug == Bug::WindowShort {
            let short = dedup::Config { window: Span::secs(3_600) };
            self.shells = shells(&self.deployment, &self.batch, &short);
        }
        self
    }

    /// Produces so many records while everything fails, then lets everything come to rest.
    ///
    /// # Errors
    /// A stage halted, or does not come to rest.
    pub fn run(&mut self, count: u64) -> Result<(), String> {
        let mut producer = Producer::new();
        let faults = self.faults.clone();
        while self.produced < count {
            let before = self.produced;
            for _ in 0..self.world.dice.below(6) {
                let output = producer.next(self.world.now, &mut self.world.dice);
                self.world.log.append(&output, self.world.now, &mut self.world.dice);
                self.produced += 1;
            }
            if faults.hours && before <= count / 2 && self.produced > count / 2 {
                self.world.now += 2 * 3_600 * SECOND;
            }
            self.pass(&faults)?;
        }
        for _ in 0..3_000 {
            self.pass(&Faults::default())?;
            let world = &self.world;
            if self.shells.iter().all(|shell| shell.is_idle(world)) {
                return Ok(());
            }
        }
        let busy = self.shells.iter().filter(|shell| !shell.is_idle(&self.world));
        Err(format!("no rest: {:?}", busy.map(|shell| shell.name).collect::<Vec<_>>()))
    }

    /// Produces so many records at once.
    pub fn flood(&mut self, count: u64) {
        let mut producer = Producer::new();
        for _ in 0..count {
            let output = producer.next(self.world.now, &mut self.world.dice);
            self.world.log.append(&output, self.world.now, &mut self.world.dice);
        }
        self.produced += count;
    }

    /// Lets a little time pass, and every shell have a turn.
    pub fn pass(&mut self, faults: &Faults) -> Result<(), String> {
        let world = &mut self.world;
        world.now += world.dice.below(600_000) as Micros;
        for chain in world.chains.values_mut() {
            if world.dice.chance(150) {
                chain.mine(world.now, &mut world.dice, faults.chain);
            }
            if faults.chain && world.dice.chance(20) {
                let depth = 1 + world.dice.below(DEPTH) as usize;
                chain.turn(depth, world.now, &mut world.dice);
            }
            if faults.deep && world.dice.chance(40) {
                let depth = 1 + DEPTH + world.dice.below(2);
                chain.turn(depth as usize, world.now, &mut world.dice);
            }
            if faults.chain && world.dice.chance(5) {
                // Time passes for the chains alone: commands die.
                world.now += 70 * SECOND;
            }
        }
        for shell in &mut self.shells {
            shell.turn(&mut self.world, faults)?;
        }
        Ok(())
    }
}
