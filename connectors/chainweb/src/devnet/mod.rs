//! A development network in the process: braided blocks, byte for byte as a node makes them.
//!
//! **It proves nothing to anyone else.** There is no proof of work, and whoever runs it can make any history at
//! any time. It is there to develop, to try and to test against, and for a single machine that wants no network.
//!
//! What is real: headers, adjacency, difficulty, weights, payloads, outputs, proofs, the checks and error texts
//! of a node's mempool, gas and fees; and forks: blocks that were undone, with what the braid built on them, are known by
//! their hashes as on a node. What is not: contracts, and the hash of database rows in outputs (`logs`). Executed are
//! constants, `(read-msg)`, `(read-msg 'key)` and `(+ integer integer)`; any other code becomes a failed transaction that
//! pays its whole gas limit, as failures do on a node. Code without any form is refused: a node takes it and makes no more
//! blocks. A command that is only tried may also ask for `(coin.get-balance "account")`.
//!
//! Several nodes make the same blocks, unless they are parted. What goes wrong, by chance from a seed ([`Faults`]) or on
//! command ([`Devnet::reorganize`], [`Devnet::partition`], …; over HTTP under `/devnet`, which no node has), is a function
//! of the seed and the calls. So can accounts be given coins ([`Devnet::give`]): no command of theirs moves any, but for gas.
//!
//! | layer | what it does |
//! |---|---|
//! | [`Network`] | pure: commands and times in, blocks out; goes back and takes other ones |
//! | [`Devnet`] | drives the networks of some nodes by the clock, keeps the first in a folder, answers from any thread |
//! | [`Devnet::serve`] | the service API of a node over HTTP, and what goes wrong with its answers |

mod block;
mod chain;
mod code;
mod coins;
mod control;
mod dice;
mod execute;
mod faults;
mod fork;
mod http;
mod journal;
mod json;
mod local;
mod mempool;
mod network;
mod nodes;
mod payload;
mod runner;
mod store;
mod text;
mod trouble;
mod value;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use crate::decimal;
use crate::graph::{ChainId, Graph};
use crate::hash::Hash;

pub use coins::{Coins, CoinsError};
pub use faults::{Fault, Faults, FaultsError};
pub use fork::{ForkError, Orphaned};
pub use network::{MakeError, Network};
pub use nodes::NodeState;
pub use runner::{Clock, Devnet};
pub use store::StoreError;

/// The version of the node whose behaviour is repeated.
pub const NODE_VERSION: &str = "2.32.0";

/// What a development network has to say about itself wherever it starts.
pub const BANNER: &str = "DEVELOPMENT NETWORK: no proof of work, one maker of all blocks. \
    Its blocks prove nothing about time to anyone else.";

/// What a development network is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chains and how they are braided. Default: twenty, under the name and rules of `development`; other
    /// graphs are test networks named `development-<graph>`.
    pub graph: Graph,
    /// Time between two blocks of a chain. 10 ms to 1 h, or zero: then blocks are made by
    /// [`Devnet::make_round`] only. Default 1 s.
    pub block_interval: Duration,
    /// Time between two blocks of a chain that difficulty aims at, where they are made by [`Devnet::make_round`] only: with
    /// blocks much slower than that, a branch can outweigh a newer one that has more blocks. 10 ms to 1 h; default 1 s.
    pub block_delay: Duration,
    /// Accounts on every chain. Default: the published development accounts, `sender00` first.
    pub accounts: Vec<Account>,
    /// Key that all blocks pay, 64 lower-case hex digits.
    pub miner_key: String,
    /// Where the network is kept. Default: nowhere, it ends with the process.
    pub folder: Option<PathBuf>,
    /// Heights that are kept below the newest block; older blocks, results and proofs are gone. At least 16,
    /// default 2,000 (about 30 MB of memory with twenty chains).
    pub retain_heights: u64,
    /// Nodes, 1 to 16, each with all blocks. Default 1. The folder keeps the first one; the others begin as it is.
    pub nodes: usize,
    /// What goes wrong. Default: nothing.
    pub faults: Faults,
    /// What decides when. The same seed, the same calls, the same trouble. Default 0.
    pub seed: u64,
}

/// An account guarded by one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// 3 to 256 characters.
    pub name: String,
    /// The ed25519 public key, 64 lower-case hex digits.
    pub public_key: String,
    /// What it has on each chain at genesis, or from when the network knows it.
    pub balance: Coins,
}

/// Name and public key of the published development accounts.
const DEVELOPMENT_ACCOUNTS: [(&str, &str); 3] = [
    ("sender00", "368820f80c324bbc7c2b0610688a7da43e39f91d118732671cd9c7500ff43cca"),
    ("sender01", "6be2f485a7af75fedb4b7f153a903f7e6000ca4aa501179c91a2450b777bd2a7"),
    ("sender02", "3a9dd532d73dace195dbb64d1dba6572fb783d0fdd324685e32fbda2f89f99a6"),
];

impl Default for Config {
    fn default() -> Self {
        let account = |(name, key): (&str, &str)| Account {
            name: name.to_owned(),
            public_key: key.to_owned(),
            balance: Coins::whole(100_000_000),
        };
        Self {
            graph: Graph::Twenty,
            block_interval: Duration::from_secs(1),
            block_delay: Duration::from_secs(1),
            accounts: DEVELOPMENT_ACCOUNTS.map(account).to_vec(),
            miner_key: DEVELOPMENT_ACCOUNTS[0].1.to_owned(),
            folder: None,
            retain_heights: 2_000,
            nodes: 1,
            faults: Faults::none(),
            seed: 0,
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not 64 lower-case hex digits.
    #[error("not a public key of 64 lower-case hex digits: {0:?}")]
    Key(String),
    /// A name that the coin contract refuses.
    #[error("not an account name of 3 to 256 Latin-1 characters: {0:?}")]
    AccountName(String),
    /// The interval is out of its range.
    #[error("block interval of {0:?} is not zero and not between 10 ms and 1 h")]
    BlockInterval(Duration),
    /// The delay is out of its range.
    #[error("block delay of {0:?} is not between 10 ms and 1 h")]
    BlockDelay(Duration),
    /// Too few heights for a proof to be made.
    #[error("{0} heights to keep, at least 16 are needed")]
    RetainHeights(u64),
    /// No nodes, or too many.
    #[error("{0} nodes: 1 to {max} are possible", max = runner::MAX_NODES)]
    Nodes(usize),
    /// The rules ask for what this network does not do.
    #[error("network {0} has proof of work, or more than one graph")]
    Version(String),
}

/// Why a development network does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread could be started.
    #[error("cannot start the thread that makes blocks")]
    Thread(#[source] std::io::Error),
}

/// Why no round of blocks was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundError {
    /// No chain can have a block.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The blocks could not be made durable, so they do not exist.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why trouble that was asked for does not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TroubleError {
    /// The blocks cannot be undone, or no others made.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// The change could not be made durable, so it does not exist.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network has not so many nodes.
    #[error("no node {node}: there are {nodes}, from 0")]
    NoNode {
        /// The node.
        node: usize,
        /// How many there are.
        nodes: usize,
    },
    /// A node in two groups.
    #[error("node {0} is named twice")]
    Twice(usize),
    /// The node is down.
    #[error("node {0} is down")]
    Down(usize),
}

/// Why an account is given no coins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveError {
    /// It is not there, and its name does not say whose it is.
    #[error("no account {0:?}: one that is k: and a public key in 64 lower-case hex digits would be made")]
    NoAccount(String),
    /// It is not there, and there are too many.
    #[error("there are {max} accounts, and no more are made", max = coins::MAX_ACCOUNTS)]
    TooMany,
    /// The coins could not be made durable, so they do not exist.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A refused request to send: the status and text that a node answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused with status {status}: {text}")]
pub struct SendError {
    /// 400; 404 for an unknown chain; 500, behind which a node hides most refusals of its mempool; 503 if it is down.
    pub status: u16,
    /// The reason in the words of a node.
    pub text: String,
}

impl SendError {
    fn refused(text: String) -> Self {
        Self { status: 400, text }
    }

    fn swallowed() -> Self {
        Self { status: 500, text: "Something went wrong".into() }
    }

    fn down() -> Self {
        Self { status: 503, text: "the node is down".into() }
    }

    fn unknown_chain() -> Self {
        Self { status: 404, text: String::new() }
    }
}

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpvError {
    /// The network has no such chain.
    #[error("no chain {0}")]
    UnknownChain(ChainId),
    /// Not mined on this chain, or so long ago that the block is not kept. In the words of a node.
    #[error("Transaction hash not found: \"{0}\"")]
    NotFound(Hash),
    /// The target chain has not reached the height yet: ask again. In the words of a node.
    #[error("SPV target not reachable: target chain not reachable. Chainweb instance is too young")]
    NotReachable,
}

/// The newest block of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Height.
    pub height: u64,
    /// Block hash.
    pub hash: Hash,
    /// µs since 1970.
    pub creation_time: i64,
}
