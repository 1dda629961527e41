//! The ground that all stand on: a development network whose time is the scenario's, on nodes that answer over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use chainweb::devnet::{Account, Coins, Config, Devnet, Faults};
use chainweb::{ChainId, Graph};
use killick_nodes::{NodeChain, Settings};
use killick_proof::signature::SecretKey;
use killick_sim::SECOND;
use killick_stages::ports::{Chain, ChainError, Look, Sent, Spv};
use killick_stages::record::Micros;
use killick_stages::span::Span;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Keys that pay for anchors: the first, and those that a worker is given where its configuration changes.
pub const KEYS: [[u8; 32]; 2] = [[99; 32], [98; 32]];

/// Heights that are made before anything else: in the first ones blocks become much easier, since genesis was years ago,
/// and an old branch could outweigh a newer one that has more blocks.
const FIRST: Micros = 26;

/// A development network and its nodes.
pub struct Ground {
    /// One for each node; the first keeps the network.
    pub nodes: Vec<Arc<Devnet>>,
    addresses: Vec<String>,
    clock: Arc<AtomicI64>,
    /// Whether the ways to all nodes are cut.
    is_cut_off: Arc<AtomicBool>,
    serving: Vec<JoinHandle<()>>,
    runtime: Handle,
}

/// What a network is made of.
pub struct Recipe {
    /// The chains.
    pub graph: Graph,
    /// Nodes, 1 to 16.
    pub nodes: usize,
    /// Seconds between two blocks.
    pub block_time: u64,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// What decides when.
    pub seed: u64,
    /// Whether who pays for anchors has nothing.
    pub is_poor: bool,
    /// When it begins.
    pub start: Micros,
}

impl Ground {
    /// Starts a network, with its nodes on free ports of loopback.
    pub fn new(recipe: Recipe, runtime: &Handle) -> Result<Self> {
        let clock = Arc::new(AtomicI64::new(recipe.start));
        let public = KEYS.map(|seed| hex::encode(SecretKey::from_seed(&seed).public().as_bytes()));
        let account = |public_key: &String| Account {
            name: format!("k:{public_key}"),
            public_key: public_key.clone(),
            balance: Coins::whole(u64::from(!recipe.is_poor || *public_key != public[0])),
        };
        let config = Config {
            graph: recipe.graph,
            block_interval: Duration::ZERO,
            // A bit less than what they take, so that they catch up with the clock after blocks that come at once.
            block_delay: Duration::from_secs(recipe.block_time) * 3 / 4,
            accounts: public.iter().map(account).collect(),
            miner_key: public[0].clone(),
            nodes: recipe.nodes,
            seed: recipe.seed,
            ..Config::default()
        };
        let time = Arc::clone(&clock);
        let devnet = Devnet::start_with_clock(config, Box::new(move || time.load(Ordering::Relaxed)))?;
        let devnet = Arc::new(devnet);
        let others = (1..recipe.nodes).filter_map(|node| devnet.node(node).map(Arc::new));
        let nodes: Vec<_> = std::iter::once(Arc::clone(&devnet)).chain(others).collect();
        let (mut addresses, mut serving) = (Vec::new(), Vec::new());
        for node in &nodes {
            let listener =
                runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("no port on loopback")?;
            addresses.push(format!("http://{}", listener.local_addr()?));
            let node = Arc::clone(node);
            // It ends when the scenario does; until then nothing ends it but a listener that fails, which shows.
            serving.push(runtime.spawn(async move { drop(node.serve(listener).await) }));
        }
        let ground =
            Self { nodes, addresses, clock, is_cut_off: Arc::default(), serving, runtime: runtime.clone() };
        for block in (0..FIRST).rev() {
            ground.set_time(recipe.start - block * Micros::try_from(recipe.block_time)? * SECOND);
            ground.nodes[0].make_round()?;
        }
        ground.nodes[0].set_faults(recipe.faults);
        Ok(ground)
    }

    /// The network's name.
    pub fn network(graph: Graph) -> String {
        match graph {
            Graph::Twenty => "development".to_owned(),
            other => format!("development-{other}"),
        }
    }

    /// Lets it be another time.
    pub fn set_time(&self, now: Micros) {
        self.clock.store(now, Ordering::Relaxed);
    }

    /// Cuts the ways to all nodes, or opens them again. The nodes go on.
    pub fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    /// The way of one worker to the chain: the real one, over HTTP.
    pub fn way(&self) -> Result<Way> {
        let settings =
            Settings { nodes: self.addresses.clone(), timeout: Span::secs(5), ..Settings::default() };
        let chain = NodeChain::open(&settings, self.nodes[0].network_name(), self.runtime.clone())?;
        Ok(Way { chain: Arc::new(chain), is_cut_off: Arc::clone(&self.is_cut_off) })
    }

    /// What is at a height of a chain, as a node has it: the block's hash in base64url.
    pub fn block_at(&self, node: usize, chain: u32, height: u64) -> Option<String> {
        self.nodes[node].read(|network| Some(network.header_at(ChainId(chain), height)?.hash.to_string()))
    }

    /// The height of a chain's newest block, as a node has it.
    pub fn height(&self, node: usize, chain: u32) -> u64 {
        self.nodes[node].tip(ChainId(chain)).map_or(0, |tip| tip.height)
    }

    /// The nodes that are not away.
    pub fn up(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| !self.nodes[*node].state().is_down)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// A way to the chain that can be cut.
#[derive(Clone)]
pub struct Way {
    chain: Arc<NodeChain>,
    is_cut_off: Arc<AtomicBool>,
}

impl Way {
    fn open(&self, chain: u32) -> Result<&NodeChain, ChainError> {
        if self.is_cut_off.load(Ordering::Relaxed) {
            return Err(ChainError { chain, why: "the ways to all nodes are cut".to_owned() });
        }
        Ok(&self.chain)
    }
}

impl Chain for Way {
    fn network(&self) -> &str {
        self.chain.network()
    }

    fn send(&self, chain: u32, command: &[u8]) -> Result<Sent, ChainError> {
        self.open(chain)?.send(chain, command)
    }

    fn look(&self, chain: u32, keys: &[Box<str>], depth: u64) -> Result<Look, ChainError> {
        self.open(chain)?.look(chain, keys, depth)
    }

    fn spv(&self, chain: u32, key: &str) -> Result<Option<Spv>, ChainError> {
        self.open(chain)?.spv(chain, key)
    }

    fn balance(&self, chain: u32, account: &str) -> Result<Option<u128>, ChainError> {
        self.open(chain)?.balance(chain, account)
    }
}
