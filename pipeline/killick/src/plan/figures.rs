//! What was measured: `figures.toml`, which says when and on what.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

/// All figures.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// When they were measured.
    pub date: String,
    /// On what machine.
    pub machine: String,
    /// Bytes of an event's payload.
    pub payload: u64,
    /// Each stage by its name.
    pub stages: BTreeMap<String, Stage>,
    /// Of ingest, where events are signed.
    pub signed: Signed,
    /// Of the catalog.
    pub catalog: Catalog,
    /// Bytes at the brokers, by topic, as they are compressed there.
    pub topics: BTreeMap<String, Bytes>,
    /// A receipt.
    pub receipt: Receipt,
    /// An anchor.
    pub anchor: Anchor,
    /// The most that was measured in one piece, in events a second.
    pub line: Line,
}

/// One process of a stage.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Events a second from a backlog; none where something else held it up.
    pub rate: Option<f64>,
    /// CPU of an event, in µs.
    pub micros: f64,
    /// Memory in MB, without the keys of dedup.
    pub memory: f64,
}

/// What is different where events are signed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Events a second of one process of ingest.
    pub rate: f64,
    /// CPU of an event there, in µs.
    pub micros: f64,
    /// Bytes that a signed statement has more, wherever it is kept.
    pub statement: f64,
    /// Bytes that a receipt has more.
    pub receipt: f64,
}

/// What the catalog needs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// CPU of a replica for an event, in µs.
    pub micros: f64,
    /// Bytes of a replica.
    pub bytes: Bytes,
}

/// Bytes of something that has a part for each event and one for each batch.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// For each event.
    pub event: f64,
    /// For each batch.
    #[serde(default)]
    pub batch: f64,
    /// For each byte of an event as it comes in.
    #[serde(default)]
    pub payload: f64,
    /// How many statements of each event are in it.
    #[serde(default)]
    pub statements: f64,
}

/// The size of a receipt file.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Bytes, without its paths.
    pub bytes: f64,
    /// Bytes for each doubling of the batch, or of the log.
    pub level: f64,
}

/// What a command costs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Its gas.
    pub gas: f64,
    /// The price of a unit, in coins.
    pub price: f64,
}

/// The most that was measured in one piece, in events a second.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// To the signed checkpoint.
    pub checkpoint: f64,
    /// To the proof.
    pub proof: f64,
}

impl Figures {
    /// The figures of this program.
    ///
    /// # Errors
    /// The file that was built in is not what it should be, which is a defect.
    pub fn ours() -> anyhow::Result<Self> {
        toml::from_str(include_str!("figures.toml")).context("the figures that were built in")
    }

    /// A stage.
    ///
    /// # Errors
    /// There is none, which is a defect.
    pub fn stage(&self, name: &str) -> anyhow::Result<Stage> {
        self.stages.get(name).copied().with_context(|| format!("the figures have no stage {name}"))
    }
}
