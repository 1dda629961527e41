//! From a load and what was measured to what it needs.
//!
//! A process is planned for a share of what one was measured to do ([`SHARE`]), and for as many cores as its events cost.
//! Dedup is planned by the keys of its window as well. Prove is planned by its CPU alone: the one that was measured was held up by a catalog on the same two cores. The number
//! of logs is for life, so it is twice what the processes need today.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use killick_catalog::Class;
use killick_kafka::Settings;
use killick_kafka::topics::{Wanted, plan};
use killick_stages::audit::track::MOST_BYTES;
use killick_stages::deployment::{self, Deployment, MAX_LOGS};
use killick_stages::route::{CHECKPOINTS, ROUTE, is_inner};
use killick_stages::source::Source;
use killick_stages::span::Span;
use serde::Serialize;

use super::figures::{Bytes, Figures};

/// The share of what was measured that a process is planned for: the rest is for catching up and for what comes.
const SHARE: f64 = 0.6;
/// Workers in a process of ingest, as in what was measured.
const INGEST_WORKERS: f64 = 2.0;
/// The largest batch: `[batch] max_leaves` by default.
const MAX_LEAVES: f64 = 1_024.0;
/// Bytes that dedup needs in memory for a key of its window: up to so many, as its module says.
const KEY: f64 = 60.0;
/// Bytes of keys that one process of dedup is planned for: it reads them back at each start.
const KEYS: f64 = 32e9;
/// Memory of an audit beside the manifests, in MB: a million leaves, and what its clients read ahead.
const AUDIT_MEGABYTES: f64 = 100.0;
/// Replicas at the brokers and in the catalog.
const REPLICAS: f64 = 3.0;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// What comes, and how it is kept.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Events a second.
    pub events_per_second: u64,
    /// Bytes of an event.
    pub event_bytes: u64,
    /// `[batch] width`.
    #[serde(serialize_with = "shown")]
    pub window: Span,
    /// The number of chains.
    pub chains: u32,
    /// `[anchor] interval`.
    #[serde(serialize_with = "shown")]
    pub interval: Span,
    /// `[dedup] window`.
    #[serde(serialize_with = "shown")]
    pub dedup_window: Span,
    /// How long the catalog keeps events.
    #[serde(serialize_with = "named")]
    pub retention: Class,
    /// Whether devices sign them.
    pub signed: bool,
}

fn shown<S: serde::Serializer>(span: &Span, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(span)
}

fn named<S: serde::Serializer>(class: &Class, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(class.name())
}

/// What a load needs.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The load.
    pub load: Load,
    /// When the figures were measured, and on what.
    pub measured: String,
    /// Logs: partitions of each inner topic.
    pub logs: u32,
    /// Partitions of the input.
    pub input_partitions: u32,
    /// Events in a batch, on average.
    pub batch_events: f64,
    /// Batches a second of all logs.
    pub batches_per_second: f64,
    /// Each stage, in the order of the route.
    pub stages: Vec<Stage>,
    /// Memory of an audit that goes on, in MB, at the most.
    pub audit_megabytes: f64,
    /// The log.
    pub kafka: Kafka,
    /// The catalog.
    pub catalog: Catalog,
    /// Bytes of a receipt file.
    pub receipt_bytes: f64,
    /// Commands a day.
    pub anchors_per_day: f64,
    /// What they cost, in coins, at the gas price of the figures.
    pub coins_per_day: f64,
    /// How many times the most that was measured in one piece this load is: to the checkpoint, and to the proof.
    pub times_measured: (f64, f64),
    /// What this plan does not know.
    pub leaves_out: Vec<String>,
}

/// The processes of a stage.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// Its name.
    pub stage: &'static str,
    /// How many.
    pub replicas: u32,
    /// Cores that all of them keep busy.
    pub cores: f64,
    /// Memory of each, in MB.
    pub memory_megabytes: f64,
}

/// What the brokers keep.
#[derive(Debug, Clone, Serialize)]
pub struct Kafka {
    /// Bytes a second that are written, before they are replicated.
    pub bytes_per_second: f64,
    /// Bytes of all replicas of what goes after a time.
    pub bytes_kept: f64,
    /// Bytes of all replicas that each year adds to what is kept for ever.
    pub bytes_per_year: f64,
    /// Bytes of one replica for an event, by topic.
    pub bytes_per_event: BTreeMap<String, f64>,
}

/// What the catalog needs.
#[derive(Debug, Clone, Serialize)]
pub struct Catalog {
    /// Cores that all replicas keep busy.
    pub cores: f64,
    /// Bytes of all replicas: of all that is kept, or of each year.
    pub bytes: f64,
}

impl Plan {
    /// The plan for a load.
    ///
    /// # Errors
    /// It needs more logs than a deployment has, or the figures lack something.
    pub fn of(load: &Load, figures: &Figures) -> Result<Self> {
        let rate = load.events_per_second as f64;
        let mut stages = Vec::new();
        for name in ROUTE.iter().map(|hop| hop.stage) {
            stages.push(stage(name, load, figures)?);
        }
        let by_log = stages.iter().filter(|stage| ["dedup", "batch", "prove"].contains(&stage.stage));
        let logs = by_log
            .map(|stage| stage.replicas)
            .max()
            .unwrap_or(1)
            .saturating_mul(2)
            .max(4)
            .next_multiple_of(4);
        ensure!(
            logs <= MAX_LOGS,
            "that takes {logs} logs, and a deployment has at most {MAX_LOGS}: share the events between several deployments"
        );
        let ingest = stages.iter().find(|stage| stage.stage == "ingest").map_or(1, |stage| stage.replicas);
        let input_partitions = (f64::from(ingest) * INGEST_WORKERS * 2.0) as u32;
        let in_window = rate / f64::from(logs) * load.window.micros() as f64 / 1e6;
        let batch_events = in_window.clamp(1.0, MAX_LEAVES);
        let sizes = Sizes { load, figures, batch_events };
        let anchors_per_day = DAY * 1e6 / load.interval.micros() as f64 * f64::from(load.chains);
        Ok(Self {
            load: load.clone(),
            measured: format!("{}, {}, events of {} bytes", figures.date, figures.machine, figures.payload),
            logs,
            input_partitions,
            batch_events,
            batches_per_second: rate / batch_events,
            stages,
            audit_megabytes: audit(input_partitions, logs, load.chains),
            kafka: sizes.kafka(logs)?,
            catalog: sizes.catalog(),
            receipt_bytes: sizes.receipt(logs),
            anchors_per_day,
            coins_per_day: anchors_per_day * figures.anchor.gas * figures.anchor.price,
            times_measured: (rate / figures.line.checkpoint, rate / figures.line.proof),
            leaves_out: left_out(load, figures),
        })
    }
}

/// What an audit has in memory: manifests of each partition that a stage reads, and leaves of one log.
fn audit(input_partitions: u32, logs: u32, chains: u32) -> f64 {
    let by_log =
        ROUTE.iter().flat_map(|hop| hop.reads).filter(|topic| is_inner(topic) && **topic != CHECKPOINTS);
    let partitions =
        f64::from(input_partitions) + by_log.count() as f64 * f64::from(logs) + f64::from(chains);
    AUDIT_MEGABYTES + partitions * MOST_BYTES as f64 / 1e6
}

/// The processes of one stage.
fn stage(name: &'static str, load: &Load, figures: &Figures) -> Result<Stage> {
    let figure = figures.stage(name)?;
    let (rate, micros) = match name {
        "ingest" if load.signed => (Some(figures.signed.rate), figures.signed.micros),
        _ => (figure.rate, figure.micros),
    };
    let events = load.events_per_second as f64;
    let cores = events * micros / 1e6;
    let by_rate = rate.map_or(0.0, |rate| events / (rate * SHARE));
    let replicas = by_rate.max(cores / SHARE).ceil().max(1.0) as u32;
    // One acts for each chain, and one stands by; it has little to do.
    let replicas = if name == "anchor" { 2 } else { replicas };
    let mut stage = Stage { stage: name, replicas, cores: cores / SHARE, memory_megabytes: figure.memory };
    if name == "dedup" {
        let keys = events * load.dedup_window.whole_secs() as f64 * KEY;
        stage.replicas = stage.replicas.max((keys / KEYS).ceil() as u32);
        stage.memory_megabytes += keys / 1e6 / f64::from(stage.replicas);
    }
    Ok(stage)
}

/// How much of everything there is.
struct Sizes<'s> {
    load: &'s Load,
    figures: &'s Figures,
    batch_events: f64,
}

impl Sizes<'_> {
    /// What signatures add to so many statements.
    fn signed(&self, statements: f64) -> f64 {
        if self.load.signed { statements * self.figures.signed.statement } else { 0.0 }
    }

    /// Bytes for each event.
    fn of(&self, bytes: Bytes) -> f64 {
        let Bytes { event, batch, payload, statements } = bytes;
        event + batch / self.batch_events + payload * self.load.event_bytes as f64 + self.signed(statements)
    }

    fn kafka(&self, logs: u32) -> Result<Kafka> {
        let config = deployment::Config {
            logs,
            chains: (0..self.load.chains).collect(),
            ..deployment::Config::default()
        };
        let deployment = Deployment::new(&config)?;
        let sources = [Source::new("events")];
        let wanted = Wanted {
            deployment: &deployment,
            window: self.load.dedup_window,
            sources: &sources,
            series: Vec::new(),
            input_partitions: None,
        };
        let events = self.load.events_per_second as f64;
        let mut kafka = Kafka {
            bytes_per_second: 0.0,
            bytes_kept: 0.0,
            bytes_per_year: 0.0,
            bytes_per_event: BTreeMap::new(),
        };
        for topic in plan(&Settings::default(), &wanted) {
            let Some(bytes) = self.figures.topics.get(&topic.topic) else { continue };
            let each = self.of(*bytes);
            let rules = topic.rules.iter().map(|rule| (rule.key, &rule.value));
            let made = topic.made_with.iter().map(|(key, value)| (*key, value));
            let retention = made.chain(rules).find(|(key, _)| *key == "retention.ms");
            let (_, millis) = retention.with_context(|| format!("{} has no retention", topic.topic))?;
            let millis: f64 = millis.parse()?;
            kafka.bytes_per_second += each * events;
            if millis < 0.0 {
                kafka.bytes_per_year += each * events * DAY * 365.0 * REPLICAS;
            } else {
                kafka.bytes_kept += each * events * millis / 1e3 * REPLICAS;
            }
            kafka.bytes_per_event.insert(topic.topic, each);
        }
        let missing = self.figures.topics.keys().find(|topic| !kafka.bytes_per_event.contains_key(*topic));
        ensure!(missing.is_none(), "the figures have a topic {missing:?} that no deployment has");
        Ok(kafka)
    }

    /// A receipt of a log that is a year old: its paths grow with the batch and with the log.
    fn receipt(&self, logs: u32) -> f64 {
        let batches = self.load.events_per_second as f64 / self.batch_events / f64::from(logs) * DAY * 365.0;
        let levels = self.batch_events.log2().ceil() + batches.max(1.0).log2().ceil();
        let signature = if self.load.signed { self.figures.signed.receipt } else { 0.0 };
        self.figures.receipt.bytes + self.figures.receipt.level * levels + signature
    }

    fn catalog(&self) -> Catalog {
        let events = self.load.events_per_second as f64;
        let days = self.load.retention.span().map_or(365.0, |span| span.whole_secs() as f64 / DAY);
        Catalog {
            cores: events * self.figures.catalog.micros / 1e6 * REPLICAS / SHARE,
            bytes: self.of(self.figures.catalog.bytes) * events * DAY * days * REPLICAS,
        }
    }
}

fn left_out(load: &Load, figures: &Figures) -> Vec<String> {
    let mut left_out = vec![
        "CPU and network of the brokers, and how many there are: measure yours with its own tools, as tests/load/run does".to_owned(),
        "prove was measured with a catalog that held it up: its replicas follow from its CPU, and the catalog's from Cassandra's, \
         one node; ScyllaDB was not measured"
            .to_owned(),
        "disk that compaction of the catalog needs beside what is kept: as much again, at worst".to_owned(),
        "peaks above the rate that you gave, and the time to read state back at a start: dedup reads all keys of its window".to_owned(),
        "a second process of a stage, which takes over sooner where the only one is lost".to_owned(),
        "`receipts` as messages ([prove] receipts), rejected events, copies, and series of later anchors".to_owned(),
    ];
    if load.event_bytes > 4 * figures.payload {
        left_out.push(format!(
            "CPU for the bytes of an event: ingest was measured with {} bytes, and reads and hashes all of yours",
            figures.payload
        ));
    }
    left_out
}
