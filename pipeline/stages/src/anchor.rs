//! Anchor.
use crate::deployment::Deployment;
use crate::record::{Micros, Partition, Record};
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage};
use serde::Deserialize;

use killick_proof::signature::SecretKey;
/// How checkpoints are anchored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long checkpoints are gathered for one command, in log time. 100 ms to 1 h; default 30 s.
    pub interval: Span,
    /// Blocks above a command's until it counts as final. 1 to 120; default 20.
    pub depth: u64,
    /// How long to wait between looks at the chain. 10 ms to 10 min; default 5 s.
    pub poll: Span,
    /// How long a command may wait for a block. 2 min to 1 d; default 20 min.
    pub ttl: Span,
    /// Intervals of a chain that wait for their command at the same time. 1 to 1,000; default 64.
    pub in_flight: usize,
    /// The most gas a command may use. 100 to 150,000; default 400.
    pub gas_limit: u64,
    /// The price of a unit of gas in the chain's coin, as a decimal with at most 12 places. Default `0.00000001`.
    pub gas_price: String,
    /// The account that pays. Default: `k:` and the public key.
    pub sender: Option<String>,
}
impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::secs(30),
            depth: 20,
            poll: Span::secs(5),
            ttl: Span::secs(1200),
            in_flight: 64,
            gas_limit: 400,
            gas_price: "0.00000001".into(),
            sender: None,
        }
    }
}
/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Out of range.
    #[error("{name} is {found}; it is {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: String,
        /// What it may be.
        range: &'static str,
    },
}
/// The stage.
#[derive(Debug)]
pub struct Anchor {}
impl Anchor {
    /// The stage; `key` signs the commands and pays for them.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(_deployment: &Deployment, _config: &Config, _key: SecretKey) -> Result<Self, ConfigError> {
        todo!()
    }
}
impl Stage for Anchor {
    fn assign(&mut self, _: &Partition, _: u64) {
        todo!()
    }
    fn restore_since(&self, _: Micros) -> Option<Micros> {
        todo!()
    }
    fn restore(&mut self, _: &Record) -> Result<(), Halt> {
        todo!()
    }
    fn revoke(&mut self, _: &Partition) {
        todo!()
    }
    fn step(&mut self, _: &Record, _: &mut Part) -> Result<(), Halt> {
        todo!()
    }
    fn seal(&mut self, _: &Partition, _: &mut Part) -> Result<(), Halt> {
        todo!()
    }
    fn tick_due(&self, _: &Partition) -> Option<Micros> {
        todo!()
    }
    fn requests(&mut self) -> Vec<(Partition, Request)> {
        todo!()
    }
    fn answer(&mut self, _: &Partition, _: Answer, _: &mut Part) -> Result<(), Halt> {
        todo!()
    }
    fn held(&self) -> usize {
        todo!()
    }
}
