//! Drives a network by the clock, keeps it in a folder, and answers from any thread.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;

use crate::cut::Cut;
use crate::graph::{ChainId, Graph};
use crate::hash::Hash;
use crate::header::Header;
use crate::pact::Command;
use crate::payload::PayloadWithOutputs;
use crate::spv::Proof;
use crate::version::Version;

use super::journal::Journal;
use super::network::Network;
use super::nodes::{Node, NodeState, Shared, lock};
use super::trouble::Trouble;
use super::{BANNER, Config, ConfigError, RoundError, SendError, SpvError, StartError, Tip, http, text};

/// Most nodes of a network. Each has its own blocks in memory.
pub(super) const MAX_NODES: usize = 16;

/// How long a node lets a client listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(180);

/// Tells the time in µs since 1970.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// A node of a running development network: the first one, unless it comes from [`Devnet::node`]. Dropping the one that
/// was started stops the network.
pub struct Devnet {
    pub(super) shared: Arc<Shared>,
    pub(super) node: usize,
    maker: Option<JoinHandle<()>>,
}

impl Devnet {
    /// Starts the network of `config`, at genesis or where its folder left it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with_clock(config, Box::new(system_time))
    }

    /// As [`Devnet::start`], with all times from `clock`: the same calls at the same times make the same blocks.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_with_clock(config: Config, clock: Clock) -> Result<Self, StartError> {
        if !(1..=MAX_NODES).contains(&config.nodes) {
            return Err(ConfigError::Nodes(config.nodes).into());
        }
        let mut network = Network::new(
            version(config.graph, config.block_interval, config.block_delay)?,
            &config.accounts,
            &config.miner_key,
            config.retain_heights,
        )?;
        let journal =
            config.folder.as_deref().map(|folder| Journal::open(folder, &mut network)).transpose()?;
        let height = network.cut(None).height;
        let (graph, name) = (network.graph(), network.version().name.clone());
        tracing::warn!(network = %name, %graph, interval = ?config.block_interval, cut_height = height, "{BANNER}");
        let others: Vec<Node> = (1..config.nodes).map(|_| Node::new(network.copy())).collect();
        let shared = Arc::new(Shared {
            nodes: std::iter::once(Node::new(network)).chain(others).collect(),
            states: Mutex::new(vec![NodeState::default(); config.nodes]),
            journal: Mutex::new(journal),
            // A network that goes on does not meet the same chances again.
            trouble: Mutex::new(Trouble::new(config.faults, config.seed.wrapping_add(height), config.nodes)),
            stop: Mutex::new(false),
            stopping: Condvar::new(),
            clock,
            name,
            graph,
        });
        let maker = if config.block_interval.is_zero() {
            None
        } else {
            let (shared, interval) = (Arc::clone(&shared), config.block_interval);
            let thread = std::thread::Builder::new().name("devnet".into());
            Some(thread.spawn(move || make_rounds(&shared, interval)).map_err(StartError::Thread)?)
        };
        Ok(Self { shared, node: 0, maker })
    }

    /// The network's name, which commands carry.
    pub fn network_name(&self) -> &str {
        &self.shared.name
    }

    /// The graph that braids the chains.
    pub fn graph(&self) -> Graph {
        self.shared.graph
    }

    /// How many nodes the network has.
    pub fn nodes(&self) -> usize {
        self.shared.nodes.len()
    }

    /// Another node of the same network, counted from 0. It is there as long as the network is.
    pub fn node(&self, node: usize) -> Option<Self> {
        let shared = Arc::clone(&self.shared);
        (node < self.nodes()).then_some(Self { shared, node, maker: None })
    }

    /// Makes a block on every chain now, on all nodes; durable when this returns. Whatever trouble is due happens now.
    ///
    /// # Errors
    /// [`RoundError`]; then there are no new blocks, at least on the first node.
    pub fn make_round(&self) -> Result<(), RoundError> {
        self.shared.make_round()
    }

    /// Looks at the network between two rounds. `look` must not call this `Devnet`: it would wait for itself.
    pub fn read<T>(&self, look: impl FnOnce(&Network) -> T) -> T {
        look(&self.shared.network(self.node))
    }

    /// Looks at the network now and after each round, until `look` finds something or `timeout` is over. `look`
    /// must not call this `Devnet`.
    pub fn wait_for<T>(&self, timeout: Duration, mut look: impl FnMut(&Network) -> Option<T>) -> Option<T> {
        let deadline = Instant::now().checked_add(timeout);
        let mut network = self.shared.network(self.node);
        loop {
            if let Some(found) = look(&network) {
                return Some(found);
            }
            let left =
                deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.nodes[self.node].has_blocks.wait_timeout(network, left);
            network = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends commands, all or none. See [`Network::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_all(&self, chain: ChainId, commands: &[Command]) -> Result<Vec<Hash>, SendError> {
        self.shared.send(self.node, chain, commands)
    }

    /// Sends one command; its request key.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, chain: ChainId, command: &Command) -> Result<Hash, SendError> {
        self.send_all(chain, std::slice::from_ref(command))?;
        Ok(command.hash)
    }

    /// Results of commands at least `depth` blocks below the tip. See [`Network::poll`].
    pub fn poll(&self, chain: ChainId, keys: &[Hash], depth: u64) -> Vec<(Hash, String)> {
        self.read(|network| network.poll(chain, keys, depth))
    }

    /// Waits until a command is mined; its result as poll has it, or `None` after `timeout`.
    pub fn listen(&self, chain: ChainId, key: &Hash, timeout: Duration) -> Option<String> {
        self.wait_for(timeout, |network| network.poll(chain, &[*key], 0).pop()).map(|(_, result)| result)
    }

    /// As [`Devnet::listen`], for asynchronous callers and as long as a node lets them wait.
    pub(super) async fn listen_async(&self, chain: ChainId, key: &Hash) -> Option<String> {
        let mut rounds = self.rounds();
        let mined = async {
            loop {
                rounds.mark_unchanged();
                if let Some((_, result)) = self.poll(chain, &[*key], 0).pop() {
                    return Some(result);
                }
                rounds.changed().await.ok()?;
            }
        };
        tokio::time::timeout(LISTEN_TIMEOUT, mined).await.ok().flatten()
    }

    /// Counts rounds, for who waits for the next one.
    pub(super) fn rounds(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.nodes[self.node].rounds.subscribe()
    }

    /// The proof that a mined command's output is in a block of `target`. See [`Network::spv`].
    ///
    /// # Errors
    /// [`SpvError`].
    pub fn spv(&self, chain: ChainId, key: &Hash, target: ChainId) -> Result<Proof, SpvError> {
        self.read(|network| network.spv(chain, key, target))
    }

    /// A header by its hash.
    pub fn header(&self, chain: ChainId, hash: &Hash) -> Option<Header> {
        self.read(|network| network.header(chain, hash).cloned())
    }

    /// Headers from `upper` down to above `lower`. See [`Network::branch`].
    pub fn branch(&self, chain: ChainId, lower: Option<&Hash>, upper: &Hash) -> Option<Vec<Header>> {
        self.read(|network| Some(network.branch(chain, lower, upper)?.into_iter().cloned().collect()))
    }

    /// The newest block of a chain.
    pub fn tip(&self, chain: ChainId) -> Option<Tip> {
        self.read(|network| network.tip(chain))
    }

    /// The newest block of each chain.
    pub fn cut(&self) -> Cut {
        self.read(|network| network.cut(None))
    }

    /// A payload with its outputs by its hash.
    pub fn payload(&self, hash: &Hash) -> Option<PayloadWithOutputs> {
        self.read(|network| network.payload(hash))
    }

    /// What a node says about itself: the JSON of `/info`.
    pub fn info(&self) -> String {
        self.read(text::info)
    }

    /// Answers the service API of a node on `listener`, until the returned future is dropped.
    ///
    /// Needs a tokio runtime. There is no protection against hostile clients: bind to loopback.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        http::serve(listener, self).await
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Some(maker) = self.maker.take() {
            *lock(&self.shared.stop) = true;
            self.shared.stopping.notify_all();
            // It panics only if a round does; there is nothing more to save then.
            let _ = maker.join();
        }
    }
}

/// Makes a round at every interval until told to stop.
fn make_rounds(shared: &Shared, interval: Duration) {
    let mut stop = lock(&shared.stop);
    let mut last_error = String::new();
    loop {
        let waited = shared.stopping.wait_timeout_while(stop, interval, |stop| !*stop);
        stop = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *stop {
            return;
        }
        drop(stop);
        let error = shared.make_round().err().map_or_else(String::new, |error| error_text(&error));
        if error != last_error && !error.is_empty() {
            tracing::error!(error, "no blocks are made");
        }
        last_error = error;
        stop = lock(&shared.stop);
    }
}

/// An error with all its causes.
fn error_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The rules for a graph: `development` for twenty chains, a test network for others. Its block delay is the
/// interval, so that the difficulty stays where it is, or the one for blocks that are made by hand.
fn version(graph: Graph, interval: Duration, by_hand: Duration) -> Result<Version, ConfigError> {
    let range = Duration::from_millis(10)..=Duration::from_secs(3600);
    if !interval.is_zero() && !range.contains(&interval) {
        return Err(ConfigError::BlockInterval(interval));
    }
    if !range.contains(&by_hand) {
        return Err(ConfigError::BlockDelay(by_hand));
    }
    let delay = if interval.is_zero() { by_hand } else { interval };
    let delay = u64::try_from(delay.as_micros()).map_err(|_| ConfigError::BlockDelay(delay))?;
    if let (Graph::Twenty, Some(development)) = (graph, Version::by_name("development")) {
        return Ok(Version { block_delay: delay, ..development.clone() });
    }
    Ok(Version::test(format!("development-{graph}"), 0x8000_0000 + graph.order(), graph, delay))
}

/// µs since 1970 by the system's clock.
fn system_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
