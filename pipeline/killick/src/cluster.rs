//! A deployment on servers: any of its stages, as workers of consumer groups on Kafka.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use killick_catalog::CqlCatalog;
use killick_kafka::topics::TopicsError;
use killick_kafka::{Figures, Join, KafkaLog, Sharing, Start, Starting};
use killick_nodes::NodeChain;
use killick_proof::note::{SignerKey, VerifierKey};
use killick_stages::deployment::Deployment;
use killick_stages::ports::{Catalog, Chain};
use killick_stages::stage::Stage;
use killick_stages::{anchor, batch, dedup, ingest, prove, route};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, needed};
use crate::counters::Counters;
use crate::crew::{Crew, Hand};
use crate::office::World;
use crate::registry::Registry;
use crate::telemetry::{Side, Telemetry};
use crate::worker::Tap;
use crate::{reanchor, secrets};

/// Between two looks for brokers that are away; one look takes some seconds itself.
const AWAY: Duration = Duration::from_secs(1);

/// Where the keys of a deployment are: `[keys]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The folder; a relative path begins at the configuration's folder. It holds `log-N.key` for each log (batch signs
    /// with it; prove wants only `log-N.pub`, its public part), and `anchor.key`, with which anchor signs. Where there are
    /// `anchor-1.key` to `anchor-15.key` too, or some of them, it signs with all.
    pub folder: Option<PathBuf>,
}

/// Stages at work on servers.
pub struct Cluster {
    crew: Crew,
    figures: Vec<(String, Arc<Figures>)>,
}

/// A stage to be put to work, with how its group shares its partitions.
struct Job {
    name: &'static str,
    group: String,
    /// The series that it is of, if it is.
    series: Option<String>,
    stage: Box<dyn Stage>,
    sharing: Sharing,
    slot: String,
}

impl Cluster {
    /// Puts the stages to work; none named: all. `tap` sees what each of them commits.
    ///
    /// Waits for brokers that are away, until `stop` is cancelled: then nobody is at work.
    ///
    /// # Errors
    /// The configuration has not what these stages need, keys are missing, a server refuses us, or a topic, a group or a
    /// right is not what a promise needs: with the remedy.
    pub fn start(
        config: &Config,
        stages: &[String],
        runtime: &Handle,
        stop: &CancellationToken,
        telemetry: Arc<Telemetry>,
        tap: Option<Tap>,
    ) -> Result<Self> {
        let kafka = needed(config.kafka.as_ref(), "kafka", "where is the log? (or give --embedded DIR)")?;
        let deployment = Deployment::new(&config.deployment)?;
        let slot = kafka.slot.clone().unwrap_or_else(host_name);
        let jobs = jobs(config, &deployment, stages, &slot)?;
        let mut cluster = Self { crew: Crew::new(telemetry), figures: Vec::new() };
        if !is_fit(config, kafka, &deployment, &jobs, stop)? {
            return Ok(cluster);
        }
        let mut world = world(config, &deployment, &jobs, runtime)?;
        world.catalog = world.catalog.map(|catalog| cluster.crew.consulted(catalog));
        for Job { name, group, series, stage, sharing, slot } in jobs {
            let mut world = world.clone();
            if let Some(settings) = series.and_then(|series| config.reanchor.get(&series)) {
                world.chain = Some(reanchor::chain(settings, &deployment, world.chain.as_ref(), runtime)?);
            }
            let topics = topics(name, config);
            let writes = writes(name);
            let start = Start::Committed;
            let join = Join { group: &group, slot: &slot, topics: &topics, writes: &writes, sharing, start };
            let log = KafkaLog::join(kafka, &join)?;
            let slot = format!("{group}-{slot}");
            cluster.figures.push((slot.clone(), log.figures()));
            let side = Side::of_brokers(log.figures());
            let hand = Hand { name, group, slot, stage, log, side };
            cluster.crew.hire(hand, (runtime, &world), deployment.logs(), tap.clone())?;
        }
        cluster.crew.is_complete(world.catalog, &deployment, runtime)?;
        let names: Vec<_> = cluster.figures.iter().map(|(name, _)| name.as_str()).collect();
        info!(workers = names.join(" "), logs = deployment.logs(), "the stages join their groups");
        Ok(cluster)
    }

    /// Cancelled when the stages stop, also of themselves.
    pub fn stopping(&self) -> &CancellationToken {
        self.crew.stopping()
    }

    /// What was committed here.
    pub fn counters(&self) -> &Counters {
        &self.crew.counters
    }

    /// Tells in the log what each worker does.
    pub fn report(&self) {
        for (worker, figures) in &self.figures {
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let commits = count(&figures.commits);
            let mean = count(&figures.commit_micros).checked_div(commits).unwrap_or(0);
            let lag = figures.lag();
            info!(
                worker,
                partitions = count(&figures.owned),
                records = count(&figures.records),
                lag = lag.values().map(|lag| lag.records).sum::<u64>(),
                commits,
                mean_commit = ?Duration::from_micros(mean),
                aborts = count(&figures.aborts),
                rebuilds = count(&figures.rebuilds),
                "at work"
            );
        }
    }

    /// Stops the stages: what is in hand is committed, everything else is others' now.
    ///
    /// # Errors
    /// A stage had failed.
    pub fn stop(&mut self) -> Result<()> {
        self.crew.stop()
    }
}

pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let allowed = |char: char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' };
    name.chars().map(allowed).take(64).collect()
}

/// The stages that are asked for, each made of its part of the configuration.
fn jobs(config: &Config, deployment: &Deployment, stages: &[String], slot: &str) -> Result<Vec<Job>> {
    for stage in stages {
        if route::hop(stage).is_none() {
            bail!("there is no stage {stage:?}; the stages are {}", reanchor::stage_names());
        }
    }
    let is_wanted = |name: &str| stages.is_empty() || stages.iter().any(|stage| stage == name);
    let keys = || needed(config.keys.folder.as_ref(), "keys", "folder: where are the keys of the logs?");
    let mut jobs = Vec::new();
    let mut job = |name: &'static str, stage: Box<dyn Stage>, sharing, slot: String| {
        jobs.push(Job { name, group: name.to_owned(), series: None, stage, sharing, slot });
    };
    if is_wanted("ingest") {
        if config.sources.is_empty() {
            needed(None::<&()>, "source", "which topics does ingest read?")?;
        }
        for number in 0..ingest_workers(config) {
            let stage = ingest::Ingest::new(deployment, &config.ingest())?;
            job("ingest", Box::new(stage), Sharing::Sticky, format!("{slot}.{number}"));
        }
    }
    if is_wanted("dedup") {
        job(
            "dedup",
            Box::new(dedup::Dedup::new(deployment, &config.dedup)?),
            Sharing::Sticky,
            slot.to_owned(),
        );
    }
    if is_wanted("batch") {
        let stage = batch::Batch::new(deployment, &config.batch, signers(keys()?, deployment)?)?;
        job("batch", Box::new(stage), Sharing::Sticky, slot.to_owned());
    }
    if is_wanted("anchor") {
        let keys = secrets::anchor_keys(keys()?)?;
        let stage = anchor::Anchor::new(deployment, &config.anchor, keys)?;
        job("anchor", Box::new(stage), Sharing::Sticky, slot.to_owned());
    }
    if is_wanted("prove") {
        let stage = prove::Prove::new(deployment, &config.prove, verifiers(keys()?, deployment)?)?;
        // The same partition of both its topics.
        job("prove", Box::new(stage), Sharing::Range, slot.to_owned());
    }
    if !config.reanchor.is_empty() && (is_wanted("reanchor") || is_wanted("lend")) {
        let signers = secrets::anchor_keys(keys()?)?;
        let known = known_logs(keys()?, deployment)?;
        let poll = config.prove.poll;
        for hand in reanchor::hands(&config.reanchor, deployment, poll, (&signers, &known), is_wanted)? {
            let reanchor::Hand { name, group, stage, series } = hand;
            let (series, slot) = (Some(series), slot.to_owned());
            jobs.push(Job { name, group, series, stage, sharing: Sharing::Sticky, slot });
        }
    }
    Ok(jobs)
}

/// Looks whether the brokers have what these stages need, as soon as there are brokers; false if it was stopped before.
fn is_fit(
    config: &Config,
    kafka: &killick_kafka::Settings,
    deployment: &Deployment,
    jobs: &[Job],
    stop: &CancellationToken,
) -> Result<bool> {
    let wanted = config.wanted_topics(deployment);
    let starting: Vec<_> =
        jobs.iter().map(|job| Starting { stage: job.name, group: &job.group, slot: &job.slot }).collect();
    while !stop.is_cancelled() {
        match killick_kafka::preflight(kafka, &wanted, &starting) {
            Err(TopicsError::Link(why)) if why.is_away() => {
                warn!(%why, "waiting for the brokers");
                std::thread::sleep(AWAY);
            }
            outcome => {
                for finding in outcome? {
                    warn!(%finding, "it can be run like this");
                }
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn ingest_workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let asked = config.kafka.as_ref().and_then(|kafka| kafka.ingest_workers);
    asked.map_or_else(cores, usize::from).max(1)
}

/// What the stages reach through requests: only what one of them needs.
fn world(config: &Config, deployment: &Deployment, jobs: &[Job], runtime: &Handle) -> Result<World> {
    let has = |names: &[&str]| jobs.iter().any(|job| names.contains(&job.name));
    let mut world = World::default();
    if has(&["prove", "reanchor", "lend"]) {
        world.catalog = Some(catalog(config)?);
    }
    if has(&["ingest"])
        && let Some(settings) = &config.registry
    {
        world.registry = Some(Arc::new(Registry::open(settings, runtime.clone())?));
    }
    let is_on_own = |job: &Job| match &job.series {
        Some(series) => config.reanchor.get(series).is_some_and(|settings| settings.chainweb.is_none()),
        None => ["anchor", "prove"].contains(&job.name),
    };
    if jobs.iter().any(is_on_own) {
        let settings = needed(config.chainweb.as_ref(), "chainweb", "which nodes are asked?")?;
        let chain: Arc<dyn Chain> =
            Arc::new(NodeChain::open(settings, deployment.network(), runtime.clone())?);
        world.chain = Some(chain);
    }
    Ok(world)
}

/// The catalog, for who waits where it is away: only what somebody has to change is an error.
fn catalog(config: &Config) -> Result<Arc<dyn Catalog>> {
    let settings = needed(config.catalog.as_ref(), "catalog", "where is the catalog that prove writes?")?;
    let catalog = CqlCatalog::new(settings)?;
    match catalog.open() {
        Err(error) if error.is_transient() => warn!(%error, "the catalog is away: proofs wait for it"),
        outcome => outcome?,
    }
    Ok(Arc::new(catalog))
}

/// The topics that a stage reads.
fn topics(stage: &str, config: &Config) -> Vec<String> {
    let hop = route::hop(stage);
    match stage {
        "ingest" => config.sources.iter().map(|source| source.topic.clone()).collect(),
        _ => hop.into_iter().flat_map(|hop| hop.reads).map(|topic| (*topic).to_owned()).collect(),
    }
}

/// The topics that a stage writes to.
fn writes(stage: &str) -> Vec<String> {
    let Some(hop) = route::hop(stage) else { return Vec::new() };
    let topics = hop.writes.iter().chain(&hop.state).chain([&route::AUDIT]);
    topics.map(|topic| (*topic).to_owned()).collect()
}

/// The keys that sign the logs' checkpoints.
///
/// # Errors
/// One of them is missing, or another log's: with the command that makes it.
pub fn signers(folder: &Path, deployment: &Deployment) -> Result<Vec<SignerKey>> {
    let signer = |(number, origin): (usize, &str)| {
        let path = folder.join(format!("log-{number}.key"));
        let text = secrets::read(&path).with_context(|| {
            format!("the key of log {origin}; `killick keys init` makes all that are missing")
        })?;
        secrets::parse_log_key(&text, &path, origin)
    };
    deployment.origins().iter().map(|origin| &**origin).enumerate().map(signer).collect()
}

/// The public keys of the logs: of `log-N.pub`, or else of `log-N.key`.
///
/// # Errors
/// As for [`signers`].
pub fn verifiers(folder: &Path, deployment: &Deployment) -> Result<Vec<VerifierKey>> {
    let verifier = |(number, origin): (usize, &str)| {
        let path = folder.join(format!("log-{number}.pub"));
        if !path.exists() {
            let path = folder.join(format!("log-{number}.key"));
            let text = secrets::read(&path).with_context(|| {
                format!("the public key of log {origin}; `killick keys init` makes all that are missing")
            })?;
            return Ok(secrets::parse_log_key(&text, &path, origin)?.verifier());
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let key: VerifierKey =
            text.trim().parse().with_context(|| format!("{} is no verifier key", path.display()))?;
        if key.name() != origin {
            bail!("{} is the key of {}, and not of {origin}", path.display(), key.name());
        }
        Ok(key)
    };
    deployment.origins().iter().map(|origin| &**origin).enumerate().map(verifier).collect()
}

/// The public keys of all logs that are known: those of the deployment, and of every other file in the folder that ends in
/// `.pub`, such as those of earlier generations.
///
/// # Errors
/// As for [`verifiers`], or a file holds no key.
pub fn known_logs(folder: &Path, deployment: &Deployment) -> Result<Vec<VerifierKey>> {
    let mut keys = verifiers(folder, deployment)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        files.extend(path.extension().is_some_and(|extension| extension == "pub").then_some(path));
    }
    files.sort();
    for path in files {
        let text = secrets::read_public(&path)?;
        let key: VerifierKey =
            text.trim().parse().with_context(|| format!("{} is no verifier key", path.display()))?;
        if !keys.iter().any(|known| known.name() == key.name()) {
            keys.push(key);
        }
    }
    Ok(keys)
}
