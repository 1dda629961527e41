//! A site: the whole pipeline on one machine, in one folder.
//!
//! ```text
//! FOLDER/log, lock, catalog.redb   the embedded log and catalog
//! FOLDER/chain                     the development network's blocks
//! FOLDER/keys                      log keys, the key that signs anchors, secrets of tenants
//! FOLDER/trust.json                what a verifier of this site's receipts may choose to trust
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use chainweb::devnet::{self, Devnet};
use killick_embedded::{Cleanup, EmbeddedCatalog, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_kafka::Lag;
use killick_nodes::DevChain;
use killick_proof::note::VerifierKey;
use killick_proof::signature::SecretKey;
use killick_proof::trust::DeviceKey;
use killick_stages::deployment::{self, Deployment};
use killick_stages::ports::Chain;
use killick_stages::record::Partition;
use killick_stages::source::Unsigned;
use killick_stages::stage::Stage;
use killick_stages::{anchor, batch, dedup, ingest, prove, route};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::counters::Counters;
use crate::crew::{Crew, Hand};
use crate::office::World;
use crate::pending::pending;
use crate::registry::{self, Registry};
use crate::telemetry::{Lags, Side, Telemetry};
use crate::worker::Tap;
use crate::{backup, reanchor, secrets, trust};

/// Partitions of an input topic: so many workers can check signatures at the same time.
pub const INPUT_PARTITIONS: u32 = 4;

/// Everything that a site needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Logs, names, chains.
    pub deployment: deployment::Config,
    /// Sources, devices, tenants.
    pub ingest: ingest::Config,
    /// Where schemas are asked for.
    pub registry: Option<registry::Settings>,
    /// The window of dedup.
    pub dedup: dedup::Config,
    /// When batches are cut.
    pub batch: batch::Config,
    /// How checkpoints are anchored.
    pub anchor: anchor::Config,
    /// How proofs are made.
    pub prove: prove::Config,
    /// Time between two blocks of a chain of the development network.
    pub block_interval: Duration,
    /// How long records are kept in the log after all have read them.
    pub retention: Duration,
    /// Series of later anchors, by name.
    pub reanchor: BTreeMap<String, reanchor::Settings>,
    /// The stages that run here; none: all.
    pub stages: Vec<String>,
}

impl Plan {
    /// What a configuration says of a site where all stages run.
    pub fn of(config: &Config) -> Self {
        Self {
            deployment: config.deployment.clone(),
            ingest: config.ingest(),
            registry: config.registry.clone(),
            dedup: config.dedup.clone(),
            batch: config.batch.clone(),
            anchor: config.anchor.clone(),
            prove: config.prove.clone(),
            block_interval: Duration::from_micros(config.devnet.block_interval.micros().unsigned_abs()),
            retention: Duration::from_micros(config.embedded.retention.micros().unsigned_abs()),
            reanchor: config.reanchor.clone(),
            stages: Vec::new(),
        }
    }
}

/// A stage to be put to work.
struct Job {
    name: &'static str,
    group: String,
    stage: Box<dyn Stage>,
    inputs: Vec<Partition>,
    /// The series that it is of, if it is.
    series: Option<String>,
}

impl Job {
    fn new(name: &'static str, stage: impl Stage + 'static, inputs: Vec<Partition>) -> Self {
        Self { name, group: name.to_owned(), stage: Box::new(stage), inputs, series: None }
    }
}

/// An open site, and its stages once they are started.
pub struct Site {
    path: PathBuf,
    plan: Plan,
    deployment: Deployment,
    /// The log.
    pub log: EmbeddedLog,
    /// The catalog.
    pub catalog: EmbeddedCatalog,
    /// The development network.
    pub devnet: Arc<Devnet>,
    verifiers: Vec<VerifierKey>,
    jobs: Vec<Job>,
    crew: Crew,
}

impl Site {
    /// Opens the site in a folder, making what is not there; nothing runs yet but the development network.
    ///
    /// # Errors
    /// The plan cannot work, the folder is in use, or something in it is damaged.
    pub fn open(path: &Path, mut plan: Plan) -> Result<Self> {
        for stage in &plan.stages {
            if route::hop(stage).is_none() {
                bail!("there is no stage {stage:?}; the stages are {}", reanchor::stage_names());
            }
        }
        let deployment = Deployment::new(&plan.deployment)?;
        // The configuration of the stages is checked before anything is made.
        ingest::Checker::new(&deployment, &plan.ingest)?;
        dedup::Dedup::new(&deployment, &plan.dedup)?;
        backup::may_start(path)?;
        let folder = Arc::new(Folder::open(path)?);
        let keys = path.join("keys");
        fill_secrets(&keys, &mut plan.ingest)?;
        let log = EmbeddedLog::open(&folder, &topics(&plan, &deployment), Settings::default())?;
        let catalog = EmbeddedCatalog::open(&folder)?;
        let signers = (0_u32..).zip(deployment.origins());
        let signers =
            signers.map(|(number, origin)| secrets::log_key(&keys.join(format!("log-{number}.key")), origin));
        let signers = signers.collect::<Result<Vec<_>>>()?;
        let verifiers: Vec<VerifierKey> = signers.iter().map(|signer| signer.verifier()).collect();
        let anchor_keys = secrets::make_anchor_keys(&keys, 1)?;
        let account = |key: &SecretKey| {
            let public_key = hex::encode(key.public().as_bytes());
            let (name, balance) = (format!("k:{public_key}"), devnet::Coins::whole(100_000_000));
            devnet::Account { name, public_key, balance }
        };
        let mut network = devnet::Config {
            block_interval: plan.block_interval,
            folder: Some(path.join("chain")),
            ..devnet::Config::default()
        };
        network.accounts.extend(anchor_keys.iter().map(account));
        let devnet = Arc::new(Devnet::start(network)?);
        if devnet.network_name() != deployment.network() {
            let (ours, wanted) = (devnet.network_name(), deployment.network());
            bail!(
                "this site's chain is the development network {ours:?}, and the configuration wants {wanted:?}"
            );
        }
        let mut jobs = Vec::new();
        for inputs in shares(&log, plan.ingest.sources.iter().map(|source| source.topic.as_str())) {
            jobs.push(Job::new("ingest", ingest::Ingest::new(&deployment, &plan.ingest)?, inputs));
        }
        let all = |topics: &[&str]| topics.iter().flat_map(|topic| log.partitions(topic)).collect::<Vec<_>>();
        let dedup = dedup::Dedup::new(&deployment, &plan.dedup)?;
        jobs.push(Job::new("dedup", dedup, all(&[route::ACCEPTED])));
        let batch = batch::Batch::new(&deployment, &plan.batch, signers)?;
        jobs.push(Job::new("batch", batch, all(&[route::UNIQUE])));
        let later = (anchor_keys.as_slice(), verifiers.as_slice());
        for hand in reanchor::hands(&plan.reanchor, &deployment, plan.prove.poll, later, |_| true)? {
            let reads = route::hop(hand.name).map_or(&[][..], |hop| hop.reads);
            let reanchor::Hand { name, group, stage, series } = hand;
            jobs.push(Job { name, group, stage, inputs: all(reads), series: Some(series) });
        }
        let anchor = anchor::Anchor::new(&deployment, &plan.anchor, anchor_keys)?;
        jobs.push(Job::new("anchor", anchor, all(&[route::CHECKPOINTS])));
        let prove = prove::Prove::new(&deployment, &plan.prove, verifiers.clone())?;
        jobs.push(Job::new("prove", prove, all(&[route::BATCHES, route::ANCHORS])));
        jobs.retain(|job| plan.stages.is_empty() || plan.stages.iter().any(|stage| stage == job.name));
        Ok(Self {
            path: path.to_owned(),
            plan,
            deployment,
            log,
            catalog,
            devnet,
            verifiers,
            jobs,
            crew: Crew::default(),
        })
    }

    /// Has what the stages do told of, before they are started.
    pub fn observe(&mut self, telemetry: Arc<Telemetry>) {
        self.crew = Crew::new(telemetry);
    }

    /// Starts the stages; `tap` sees what each of them commits.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(&mut self, runtime: &Handle, tap: Option<Tap>) -> Result<()> {
        let chain: Arc<dyn Chain> = Arc::new(DevChain(Arc::clone(&self.devnet)));
        let open = |settings| Registry::open(settings, runtime.clone()).map(Arc::new);
        let registry = self.plan.registry.as_ref().map(open).transpose()?;
        let catalog = self.crew.consulted(Arc::new(self.catalog.clone()));
        let world = World { catalog: Some(Arc::clone(&catalog)), chain: Some(chain), registry };
        for (number, Job { name, group, stage, inputs, series }) in self.jobs.drain(..).enumerate() {
            let mut world = world.clone();
            if let Some(settings) = series.and_then(|series| self.plan.reanchor.get(&series)) {
                let chain = reanchor::chain(settings, &self.deployment, world.chain.as_ref(), runtime)?;
                world.chain = Some(chain);
            }
            let log = self.log.worker(&group, &inputs)?;
            let side = Side { figures: None, lags: lags(self.log.clone(), group.clone(), inputs) };
            let hand = Hand { name, slot: format!("{group}-{number}"), group, stage, log, side };
            self.crew.hire(hand, (runtime, &world), self.deployment.logs(), tap.clone())?;
        }
        self.crew.is_complete(Some(catalog), &self.deployment, runtime)?;
        info!(folder = %self.path.display(), logs = self.deployment.logs(), "the pipeline runs");
        Ok(())
    }

    /// The public keys of the logs.
    pub fn verifiers(&self) -> &[VerifierKey] {
        &self.verifiers
    }

    /// The deployment.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Cancelled when the site stops, also of itself.
    pub fn stopping(&self) -> &CancellationToken {
        self.crew.stopping()
    }

    /// What was committed.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.crew.counters
    }

    /// What is not done yet of all that was accepted; `None` when everything has its end.
    ///
    /// # Errors
    /// The log or the catalog cannot be read.
    pub fn unfinished(&self) -> Result<Option<String>> {
        let sources = self.plan.ingest.sources.iter().map(|source| source.topic.as_str());
        pending(&mut self.log.clone(), &self.catalog, &self.deployment, sources)
    }

    /// Writes the trust file of this site: its log keys, the given devices, and the blocks of all its anchors.
    ///
    /// # Errors
    /// The catalog cannot be read or the file not written.
    pub fn write_trust(&self, devices: &[DeviceKey]) -> Result<PathBuf> {
        let mut known = trust::configured_devices(&self.plan.ingest)?;
        known.extend_from_slice(devices);
        let trust = trust::own(&self.catalog, &self.deployment, &self.verifiers, known)?;
        let path = self.path.join("trust.json");
        trust::write(&trust, &path)?;
        Ok(path)
    }

    /// Stops the stages: what is in hand is committed, everything else goes on at the next start.
    ///
    /// # Errors
    /// A stage had failed.
    pub fn stop(&mut self) -> Result<()> {
        self.crew.stop()
    }
}

/// Tells how far a group is behind in its inputs.
fn lags(log: EmbeddedLog, group: String, inputs: Vec<Partition>) -> Lags {
    let behind = move |partition: &Partition| {
        let (start, end) = log.range(partition).ok()?;
        let next = log.committed(&group, partition).ok()?.unwrap_or(start).max(start);
        Some((partition.clone(), Lag { records: end.saturating_sub(next), end }))
    };
    Box::new(move || inputs.iter().filter_map(&behind).collect())
}

/// The partitions of the input topics, dealt out to as many workers as there are cores.
fn shares<'a>(log: &EmbeddedLog, topics: impl Iterator<Item = &'a str>) -> Vec<Vec<Partition>> {
    let partitions: Vec<_> = topics.flat_map(|topic| log.partitions(topic)).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = cores.min(partitions.len()).max(1);
    let share = |worker| partitions.iter().skip(worker).step_by(workers).cloned().collect();
    (0..workers).map(share).collect()
}

/// The topics of an embedded log.
fn topics(plan: &Plan, deployment: &Deployment) -> Vec<TopicSpec> {
    let chains = u32::try_from(deployment.chains().len()).unwrap_or(u32::MAX);
    let logs = deployment.logs();
    let kept = Cleanup::Delete(plan.retention);
    // Read back from so long before the clock: see dedup.
    let window = Duration::from_micros(plan.dedup.window.micros().unsigned_abs());
    let keys = Cleanup::Delete(window + Duration::from_secs(25 * 3_600));
    // Each series has a group of its own.
    let lenders: Vec<_> = plan.reanchor.keys().map(|series| route::group("lend", series)).collect();
    let lenders: Vec<_> = lenders.iter().map(String::as_str).collect();
    let spec = |name: &str, partitions, cleanup, readers: &[&str]| TopicSpec {
        name: name.into(),
        partitions,
        cleanup,
        readers: readers.iter().map(|reader| (*reader).into()).collect(),
    };
    let sources =
        plan.ingest.sources.iter().map(|source| spec(&source.topic, INPUT_PARTITIONS, kept, &["ingest"]));
    let mut topics: Vec<_> = sources.collect();
    topics.extend([
        spec(route::ACCEPTED, logs, kept, &["dedup"]),
        spec(route::REJECTED, logs, kept, &[]),
        spec(route::UNIQUE, logs, kept, &["batch"]),
        spec(route::BATCHES, logs, kept, &["prove"]),
        spec(route::CHECKPOINTS, chains, kept, &["anchor"]),
        spec(route::ANCHORS, logs, kept, &["prove"]),
        spec(route::PROOFS, logs, kept, &[]),
        spec(route::RECEIPTS, logs, kept, &[]),
        spec(route::DEDUP_LOG, logs, keys, &[]),
        spec(route::BATCH_LOG, logs, Cleanup::Compact, &[]),
        spec(route::ANCHOR_LOG, chains, Cleanup::Compact, &[]),
        spec(route::PROVE_LOG, logs, Cleanup::Compact, &[]),
        spec(route::AUDIT, logs, kept, &[]),
        spec(route::REANCHOR, 1, kept, &[]),
        spec(route::REANCHOR_LOG, 1, Cleanup::Compact, &[]),
        spec(route::REANCHORS, 1, kept, &lenders),
        spec(route::LENT, 1, kept, &[]),
    ]);
    topics
}

/// Gives the tenants whose unsigned events are taken a secret each, where the configuration has none.
fn fill_secrets(keys: &Path, config: &mut ingest::Config) -> Result<()> {
    for source in &config.sources {
        if let (Unsigned::Accept, Some(tenant)) = (source.unsigned, &source.tenant)
            && !config.tenants.contains_key(tenant)
        {
            let fresh = || zeroize::Zeroizing::new(hex::encode(rand::random::<[u8; 32]>()));
            let secret = secrets::read_or_make(&keys.join(format!("tenant-{tenant}.secret")), fresh)?;
            let secret = ingest::Secret::new(secret.as_str());
            config.tenants.insert(tenant.clone(), ingest::Tenant { secret });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
