//! Prove.
use crate::deployment::Deployment;
use crate::record::{Micros, Partition, Record};
use crate::span::Span;
use crate::stage::{Answer, Halt, Part, Request, Stage};
use serde::Deserialize;

use killick_proof::note::VerifierKey;
/// How proofs are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long to wait before a chain is asked again for a proof that it could not give. 10 ms to 10 min; default 5 s.
    pub poll: Span,
}
impl Default for Config {
    fn default() -> Self {
        Self { poll: Span::secs(5) }
    }
}
/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No key for a log.
    #[error("no key for log {0}")]
    NoKey(String),
}
/// The stage.
#[derive(Debug)]
pub struct Prove {}
impl Prove {
    /// The stage; `keys` holds the public keys of the logs, named after their origins.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(
        _deployment: &Deployment,
        _config: &Config,
        _keys: Vec<VerifierKey>,
    ) -> Result<Self, ConfigError> {
        todo!()
    }
}
impl Stage for Prove {
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
