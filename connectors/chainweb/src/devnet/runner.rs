//! Drives a network by the clock, keeps it in a folder, and answers from any thread.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::watch;

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
use super::{BANNER, Config, ConfigError, RoundError, SendError, SpvError, StartError, Tip, http, text};

/// The block delay of networks whose blocks are made by hand.
const MANUAL_DELAY: Duration = Duration::from_secs(1);

/// How long a node lets a client listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(180);

/// Tells the time in µs since 1970.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// A running development network. Dropping it stops it.
pub struct Devnet {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

struct Shared {
    network: Mutex<Network>,
    /// Whoever makes a round holds it: so there is one at a time, and no lock on the network while it is synced.
    journal: Mutex<Option<Journal>>,
    /// Told after each round, with `network`.
    has_blocks: Condvar,
    rounds: watch::Sender<u64>,
    stop: Mutex<bool>,
    stopping: Condvar,
    clock: Clock,
    name: Cow<'static, str>,
    graph: Graph,
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
        let mut network = Network::new(
            version(config.graph, config.block_interval)?,
            &config.accounts,
            &config.miner_key,
            config.retain_heights,
        )?;
        let journal =
            config.folder.as_deref().map(|folder| Journal::open(folder, &mut network)).transpose()?;
        let height = network.cut(None).height;
        let (graph, name) = (network.graph(), network.version().name.clone());
        tracing::warn!(network = %name, %graph, interval = ?config.block_interval, cut_height = height, "{BANNER}");
        let shared = Arc::new(Shared {
            network: Mutex::new(network),
            journal: Mutex::new(journal),
            has_blocks: Condvar::new(),
            rounds: watch::Sender::new(0),
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
            Some(thread.spawn(move || shared.make_rounds(interval)).map_err(StartError::Thread)?)
        };
        Ok(Self { shared, maker })
    }

    /// The network's name, which commands carry.
    pub fn network_name(&self) -> &str {
        &self.shared.name
    }

    /// The graph that braids the chains.
    pub fn graph(&self) -> Graph {
        self.shared.graph
    }

    /// Makes a block on every chain now; durable when this returns.
    ///
    /// # Errors
    /// [`RoundError`]; then there are no new blocks.
    pub fn make_round(&self) -> Result<(), RoundError> {
        self.shared.make_round()
    }

    /// Looks at the network between two rounds. `look` must not call this `Devnet`: it would wait for itself.
    pub fn read<T>(&self, look: impl FnOnce(&Network) -> T) -> T {
        look(&lock(&self.shared.network))
    }

    /// Looks at the network now and after each round, until `look` finds something or `timeout` is over. `look`
    /// must not call this `Devnet`.
    pub fn wait_for<T>(&self, timeout: Duration, mut look: impl FnMut(&Network) -> Option<T>) -> Option<T> {
        let deadline = Instant::now().checked_add(timeout);
        let mut network = lock(&self.shared.network);
        loop {
            if let Some(found) = look(&network) {
                return Some(found);
            }
            let left =
                deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.has_blocks.wait_timeout(network, left);
            network = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends commands, all or none. See [`Network::send`].
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_all(&self, chain: ChainId, commands: &[Command]) -> Result<Vec<Hash>, SendError> {
        lock(&self.shared.network).send(chain, commands, (self.shared.clock)())
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
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.shared.rounds.subscribe()
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
        axum::serve(listener, http::router(self)).await
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        *lock(&self.shared.stop) = true;
        self.shared.stopping.notify_all();
        if let Some(maker) = self.maker.take() {
            // It panics only if a round does; there is nothing more to save then.
            let _ = maker.join();
        }
    }
}

impl Shared {
    /// Makes a round at every interval until told to stop.
    fn make_rounds(&self, interval: Duration) {
        let mut stop = lock(&self.stop);
        let mut last_error = String::new();
        loop {
            let waited = self.stopping.wait_timeout_while(stop, interval, |stop| !*stop);
            stop = waited.unwrap_or_else(PoisonError::into_inner).0;
            if *stop {
                return;
            }
            drop(stop);
            let error = self.make_round().err().map_or_else(String::new, |error| error_text(&error));
            if error != last_error && !error.is_empty() {
                tracing::error!(error, "no blocks are made");
            }
            last_error = error;
            stop = lock(&self.stop);
        }
    }

    fn make_round(&self) -> Result<(), RoundError> {
        let mut journal = lock(&self.journal);
        let round = {
            let network = lock(&self.network);
            if let Some(journal) = journal.as_mut().filter(|journal| journal.wants_rewrite(&network)) {
                journal.rewrite(&network)?;
            }
            network.build_round((self.clock)())?
        };
        // A crash before this line: the blocks never were. After it: they are, though nobody saw them yet.
        journal.as_mut().map_or(Ok(()), |journal| journal.append(&round))?;
        let mut network = lock(&self.network);
        round.into_iter().for_each(|new| network.apply(new));
        drop(network);
        self.has_blocks.notify_all();
        self.rounds.send_modify(|rounds| *rounds += 1);
        Ok(())
    }
}

/// An error with all its causes.
fn error_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The rules for a graph: `development` for twenty chains, a test network for others. Its block delay is the
/// interval, so that the difficulty stays where it is.
fn version(graph: Graph, interval: Duration) -> Result<Version, ConfigError> {
    let is_in_range = (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&interval);
    if !interval.is_zero() && !is_in_range {
        return Err(ConfigError::BlockInterval(interval));
    }
    let delay = if interval.is_zero() { MANUAL_DELAY } else { interval };
    let delay = u64::try_from(delay.as_micros()).map_err(|_| ConfigError::BlockInterval(interval))?;
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

/// Nothing panics while it holds a lock; if something did, going on is better than to stop every caller.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
