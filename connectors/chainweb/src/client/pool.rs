//! Several nodes of one network: which is asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::local::{Balance, Tried, Try};
use super::node::{Health, Node};
use super::pact::Found;
use super::said::{Meaning, Said};
use super::updates::Updates;
use super::{Config, ConfigError, Error, Info, NodeError};
use crate::cut::Cut;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;
use crate::pact::Command;
use crate::payload::PayloadWithOutputs;
use crate::spv::Proof;

/// How long what nodes said of their cuts is believed.
const FRESH: Duration = Duration::from_secs(5);
/// How long the first question waits until it is known how nodes are.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Blocks a chain that a node's cut may be behind another's: nodes hear of blocks at different times.
const BEHIND: u64 = 3;

/// The nodes of one network. Calls may come from many tasks; they need a tokio runtime.
pub struct Client {
    network: Box<str>,
    nodes: Vec<Arc<Node>>,
    /// When all were last asked how far they are.
    looked: Mutex<Option<Instant>>,
    /// The node that was asked first the last time.
    first: AtomicUsize,
}

impl Client {
    /// A client for the nodes of `config`; nothing is asked yet.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=64).contains(&config.network.len()) || !config.network.chars().all(is_name) {
            return Err(ConfigError::Network(config.network.chars().take(64).collect()));
        }
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for address in &config.nodes {
            let node = Node::new(address, config)?;
            if nodes.iter().any(|other| other.address() == node.address()) {
                return Err(ConfigError::Twice(node.address().to_owned()));
            }
            nodes.push(Arc::new(node));
        }
        if nodes.is_empty() {
            return Err(ConfigError::NoNodes);
        }
        Ok(Self {
            network: config.network.as_str().into(),
            nodes,
            looked: Mutex::default(),
            first: AtomicUsize::new(0),
        })
    }

    /// The network's name.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// All nodes, in the order of the configuration.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Asks every node what it is and how far; for a start, and for operators.
    pub async fn look(&self) -> Vec<(Arc<Node>, Result<Cut, NodeError>)> {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let asked: Vec<_> =
            self.nodes.iter().map(|node| (Arc::clone(node), tokio::spawn(look(Arc::clone(node))))).collect();
        let mut seen = Vec::with_capacity(asked.len());
        for (node, look) in asked {
            let outcome = look.await.unwrap_or_else(|gone| Err(node.nonsense("cut", gone.to_string())));
            seen.push((node, outcome));
        }
        seen
    }

    /// Asks one node after another, the best first, until one answers. All that `question` asks, it asks of one node.
    ///
    /// # Errors
    /// [`Error`] with what each of them did instead.
    pub async fn ask<T, F>(&self, question: impl Fn(Arc<Node>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, NodeError>>,
    {
        let mut errors = Vec::new();
        for node in self.by_preference().await {
            match question(Arc::clone(&node)).await {
                Ok(answer) => {
                    node.worked();
                    return Ok(answer);
                }
                Err(error) => {
                    node.failed(&error);
                    errors.push(error);
                }
            }
        }
        Err(Error { nodes: errors })
    }

    /// The nodes as they are asked: those that answer before those that failed just now, those whose cut is as high as
    /// any before those that are behind, and else in the order of the configuration.
    async fn by_preference(&self) -> Vec<Arc<Node>> {
        if self.nodes.len() > 1 {
            self.keep_looking().await;
        }
        let now = Instant::now();
        let health: Vec<Health> = self.nodes.iter().map(|node| node.health()).collect();
        let cuts = health.iter().filter(|health| !health.is_resting(now)).filter_map(|health| health.cut);
        let highest = cuts.max();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&index| {
            let health = &health[index];
            (health.is_resting(now), highest.is_some_and(|highest| is_behind(health.cut, highest)))
        });
        if self.first.swap(order[0], Ordering::Relaxed) != order[0] {
            tracing::info!(node = self.nodes[order[0]].address(), "this node is asked first now");
        }
        order.into_iter().map(|index| Arc::clone(&self.nodes[index])).collect()
    }

    /// Asks all nodes how far they are, if it is long ago: the first time it waits for what they say.
    async fn keep_looking(&self) {
        let last = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|last| last.elapsed() < FRESH) {
                return;
            }
            looked.replace(Instant::now())
        };
        let looks = self.nodes.iter().map(|node| tokio::spawn(look(Arc::clone(node)))).collect::<Vec<_>>();
        if last.is_some() {
            return;
        }
        let all = async {
            for look in looks {
                // Its outcome is in the node's health.
                let _ = look.await;
            }
        };
        // Who is slower than that is asked later.
        let _ = tokio::time::timeout(FIRST_LOOK, all).await;
    }

    /// What a node says about itself.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn info(&self) -> Result<Info, Error> {
        self.ask(|node| async move { node.info().await }).await
    }

    /// The newest block of every chain.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn cut(&self) -> Result<Cut, Error> {
        self.ask(|node| async move { node.cut().await }).await
    }

    /// The header with a hash; `None` if the node that was asked has none.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn header(&self, chain: ChainId, hash: Hash) -> Result<Option<Header>, Error> {
        self.ask(|node| async move { node.header(chain, &hash).await }).await
    }

    /// The payload with a payload hash; `None` if the node that was asked has none.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn payload_with_outputs(
        &self,
        chain: ChainId,
        hash: Hash,
    ) -> Result<Option<PayloadWithOutputs>, Error> {
        self.ask(|node| async move { node.payload_with_outputs(chain, &hash).await }).await
    }

    /// Which of these commands are in a block that has at least `depth` blocks above it.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn poll(
        &self,
        chain: ChainId,
        keys: &[Hash],
        depth: u64,
    ) -> Result<BTreeMap<Hash, Found>, Error> {
        self.ask(|node| async move { node.poll(chain, keys, depth).await }).await
    }

    /// Waits until a command is in a block; `None` after three minutes without. See [`Node::listen`].
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn listen(&self, chain: ChainId, key: Hash) -> Result<Option<Found>, Error> {
        self.ask(|node| async move { node.listen(chain, &key).await }).await
    }

    /// Lets a node try a command without sending it. See [`Node::local`].
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn local(&self, chain: ChainId, command: &Command, how: &Try) -> Result<Tried, Error> {
        self.ask(|node| async move { node.local(chain, command, how).await }).await
    }

    /// What an account has on a chain; `None` if it does not exist there.
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn balance(&self, chain: ChainId, account: &str) -> Result<Option<Balance>, Error> {
        self.ask(|node| async move { node.balance(chain, account).await }).await
    }

    /// New blocks, pushed by the first node that does so; `None` if none of those that answer does. See
    /// [`Node::updates`].
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn updates(&self, silence: Duration) -> Result<Option<Updates>, Error> {
        let mut errors = Vec::new();
        let mut is_answered = false;
        for node in self.by_preference().await {
            match node.updates(silence).await {
                Ok(updates) => {
                    node.worked();
                    if updates.is_some() {
                        return Ok(updates);
                    }
                    is_answered = true;
                }
                Err(error) => {
                    node.failed(&error);
                    errors.push(error);
                }
            }
        }
        if is_answered { Ok(None) } else { Err(Error { nodes: errors }) }
    }

    /// The proof of a command's output. See [`Node::spv`].
    ///
    /// # Errors
    /// [`Error`] if no node answers.
    pub async fn spv(&self, chain: ChainId, key: Hash, target: ChainId) -> Result<Option<Proof>, Error> {
        self.ask(|node| async move { node.spv(chain, &key, target).await }).await
    }

    /// Gives commands to a node, and to the next one where that says nothing certain, until one does: the same bytes
    /// may go to many. A node that stopped before it answered may have taken them: then it is [`Said::Unclear`].
    ///
    /// # Errors
    /// [`Error`] if no node was reached.
    pub async fn send(&self, chain: ChainId, commands: &[Command]) -> Result<Said, Error> {
        let mut errors: Vec<NodeError> = Vec::new();
        let mut unclear = None;
        for node in self.by_preference().await {
            match node.send(chain, commands).await {
                Ok(said) => {
                    node.worked();
                    if is_certain(&said) {
                        return Ok(said);
                    }
                    tracing::debug!(node = node.address(), ?said, "nothing certain about the commands");
                    unclear.get_or_insert(said);
                }
                Err(error) => {
                    node.failed(&error);
                    errors.push(error);
                }
            }
        }
        match unclear {
            Some(said) => Ok(said),
            None if errors.iter().any(|error| error.trouble.is_unknown()) => {
                Ok(Said::Unclear(Error { nodes: errors }.to_string()))
            }
            None => Err(Error { nodes: errors }),
        }
    }
}

/// Whether another node could say nothing else.
fn is_certain(said: &Said) -> bool {
    match said {
        Said::Accepted(_) | Said::Unreadable(_) => true,
        Said::Refused(refusals) => refusals.iter().all(|refusal| refusal.meaning() != Meaning::NotNow),
        Said::Unclear(_) => false,
    }
}

/// Whether a node's cut is behind the highest; each is a sum of heights, with the number of chains. A node that has
/// not said how far it is may be anywhere.
fn is_behind(cut: Option<(u64, u64)>, (highest, chains): (u64, u64)) -> bool {
    cut.is_none_or(|(height, _)| height.saturating_add(BEHIND.saturating_mul(chains)) < highest)
}

/// Asks a node what it is, if that is not known, and how far it is.
async fn look(node: Arc<Node>) -> Result<Cut, NodeError> {
    let asked = async {
        if !node.health().is_known {
            node.info().await?;
        }
        node.cut().await
    };
    let outcome = asked.await;
    match &outcome {
        Ok(_) => node.worked(),
        Err(error) => node.failed(error),
    }
    outcome
}
