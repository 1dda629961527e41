//! One node: how it is reached, and how it was found to be.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::wire::{Opened, Question, Reply, Wire};
use super::{Config, ConfigError, NodeError, Trouble};
use crate::graph::ChainId;
use crate::version::Version;

/// How long a node that failed is asked last: doubling from the first to the last.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One node of the network. What it is asked here, it alone answers.
pub struct Node {
    pub(super) wire: Wire,
    pub(super) network: Box<str>,
    /// The code that headers of the network carry, where the network is a public one.
    pub(super) code: Option<u32>,
    health: Mutex<Health>,
}

/// How a node was found to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// Failures since the last answer.
    failures: u32,
    /// Until when it is asked last.
    rests_until: Option<Instant>,
    /// The height of its newest known cut, and how many chains that has.
    pub(super) cut: Option<(u64, u64)>,
    /// Whether it said that it is of the network.
    pub(super) is_known: bool,
}

impl Health {
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

impl Node {
    pub(super) fn new(address: &str, config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            wire: Wire::new(address, config)?,
            network: config.network.as_str().into(),
            code: Version::by_name(&config.network).map(|version| version.code),
            health: Mutex::default(),
        })
    }

    /// The node's address, without a slash at its end.
    pub fn address(&self) -> &str {
        self.wire.base()
    }

    pub(super) fn health(&self) -> Health {
        *self.lock()
    }

    /// Takes note that it answered.
    pub(super) fn worked(&self) {
        let mut health = self.lock();
        if health.failures > 0 {
            tracing::info!(node = self.address(), failures = health.failures, "the node answers again");
        }
        health.failures = 0;
        health.rests_until = None;
    }

    /// Takes note that it did not answer as a node does.
    pub(super) fn failed(&self, error: &NodeError) {
        let mut health = self.lock();
        if health.failures == 0 {
            tracing::warn!(node = self.address(), what = error.what, error = %error.trouble, "the node does not answer");
        }
        let rest = REST.0.saturating_mul(1 << health.failures.min(16)).min(REST.1);
        health.failures = health.failures.saturating_add(1);
        health.rests_until = Instant::now().checked_add(rest);
        if matches!(error.trouble, Trouble::Network { .. }) {
            health.is_known = false;
        }
    }

    pub(super) fn has_cut(&self, height: u64, chains: u64) {
        self.lock().cut = Some((height, chains));
    }

    pub(super) fn is_of_network(&self) {
        self.lock().is_known = true;
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // Nothing panics while it holds the lock; if something did, the numbers are still numbers.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of_network(&self, path: &str) -> String {
        format!("/chainweb/0.0/{}/{path}", self.network)
    }

    pub(super) fn of_chain(&self, chain: ChainId, path: &str) -> String {
        format!("/chainweb/0.0/{}/chain/{chain}/{path}", self.network)
    }

    pub(super) async fn ask(&self, question: Question) -> Result<Reply, NodeError> {
        self.wire.ask(question).await
    }

    pub(super) async fn open(
        &self,
        what: &'static str,
        path: String,
        silence: Duration,
    ) -> Result<Opened, NodeError> {
        self.wire.open(what, path, silence).await
    }

    /// The error for a status that answers nothing. Where the path is unknown, the node may be of another network.
    pub(super) async fn unexpected(&self, what: &'static str, reply: &Reply) -> NodeError {
        if reply.status == 404
            && let Err(error) = self.info().await
            && matches!(error.trouble, Trouble::Network { .. })
        {
            return error;
        }
        self.error(what, reply.unexpected())
    }

    /// Reads a 200 as strict JSON of a type.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        what: &'static str,
        reply: &Reply,
    ) -> Result<T, NodeError> {
        if reply.status != 200 {
            return Err(self.unexpected(what, reply).await);
        }
        reply.json().map_err(|trouble| self.error(what, trouble))
    }

    /// Names an error after what was asked.
    pub(super) fn error(&self, what: &'static str, trouble: Trouble) -> NodeError {
        self.wire.error(what, trouble)
    }

    /// The error for an answer of this node that contradicts itself, or what is known.
    pub fn nonsense(&self, what: &'static str, why: impl Into<String>) -> NodeError {
        self.error(what, Trouble::Malformed(why.into()))
    }
}
