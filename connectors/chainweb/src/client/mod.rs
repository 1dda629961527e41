//! Asks nodes over their service API.
//!
//! Every question has a deadline and every answer a limit; JSON is read strictly, and what carries a hash is held
//! against it. Several nodes can be named: the one whose cut is high enough is asked, in the order of the list, and the
//! next one where it does not answer as a node does.
//!
//! | what | calls |
//! |---|---|
//! | nodes | [`Client::info`], [`Client::cut`], [`Client::look`] |
//! | blocks | [`Client::header`], [`Node::headers`], [`Node::hashes`], [`Node::branch`], [`Node::hash_branch`], [`Client::updates`] |
//! | payloads | [`Node::payload`], [`Node::payloads`], and both with outputs |
//! | commands | [`Client::send`], [`Client::poll`], [`Client::listen`], [`Client::local`], [`Client::balance`] |
//! | proofs | [`Node::proof`], [`Client::spv`], [`Branches`] |
//!
//! What only a [`Node`] has is asked of the best one by [`Client::ask`].
//!
//! What nodes say is taken for no more than what live ones were observed to mean by it:
//!
//! - An accepted command may never be mined; a 500 says nothing about it, and nothing about the node's health; that
//!   it exists already may mean success. Only [`Client::poll`] tells.
//! - A result without a place in a block is made up by the node: [`Found::MadeUp`] is evidence of nothing.
//! - A command that is only tried ([`Client::local`]) tells what the node thinks now, and proves nothing.
//! - A question that ends without an answer may have been done all the same ([`Trouble::is_unknown`]).

mod blocks;
mod branch;
mod error;
mod local;
mod node;
mod pact;
mod pages;
mod payloads;
mod pool;
mod said;
mod updates;
mod wire;

use std::time::Duration;

pub use blocks::Info;
pub use branch::Branches;
pub use error::{Error, NodeError, Trouble};
pub use local::{Balance, Ran, Tried, TriedIn, Try};
pub use node::Node;
pub use pact::{Found, Mined, Spv};
pub use pages::{Bounds, Next, Page};
pub use pool::Client;
pub use said::{Meaning, Refusal, Said};
pub use updates::{Update, Updates};

/// Which nodes are asked, and how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network's name, such as `mainnet01`.
    pub network: String,
    /// Addresses of nodes, `http://…` or `https://…`, in the order of preference. At least one.
    pub nodes: Vec<String>,
    /// How long a connection may take to be made. Default 3 s.
    pub connect_timeout: Duration,
    /// How long one question may take, from the connection to the end of the answer. Default 20 s.
    pub timeout: Duration,
    /// Certificates of authorities, PEM: they alone are trusted for `https`. Default: the system's.
    pub authorities: Option<Vec<u8>>,
}

impl Config {
    /// The defaults for some nodes of a network.
    pub fn new(network: impl Into<String>, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            network: network.into(),
            nodes: nodes.into_iter().map(Into::into).collect(),
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(20),
            authorities: None,
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No nodes.
    #[error("no node is named: name one at least")]
    NoNodes,
    /// An address that cannot be used.
    #[error("{address} is no address of a node: {why}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// A node twice.
    #[error("the node {0} is named twice")]
    Twice(String),
    /// A name that no network has.
    #[error("{0:?} is no name of a network: 1 to 64 of a-z A-Z 0-9 . _ -")]
    Network(String),
    /// Certificates that cannot be read.
    #[error("the certificates of authorities cannot be used: {0}")]
    Authorities(String),
}
