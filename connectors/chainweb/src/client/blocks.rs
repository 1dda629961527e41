//! What a node says of itself, its cut, and single headers.

use serde::Deserialize;

use super::node::Node;
use super::wire::{BINARY, Question, Reply};
use super::{NodeError, Trouble};
use crate::cut::Cut;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// The name of its network.
    #[serde(rename = "nodeVersion")]
    pub network: String,
    /// The version of its program.
    #[serde(rename = "nodePackageVersion", default)]
    pub package_version: String,
    /// The version of its API: `0.0`.
    #[serde(rename = "nodeApiVersion")]
    pub api_version: String,
    /// The chains of its present graph, in any order, as texts.
    #[serde(rename = "nodeChains", default)]
    pub chains: Vec<String>,
    /// The time between two blocks of a chain that it aims at, in µs.
    #[serde(rename = "nodeBlockDelay", default)]
    pub block_delay: Option<u64>,
}

/// 404 with a body is about a hash; without one, about the path: the chain or the network.
pub(super) fn is_unknown_hash(reply: &Reply) -> bool {
    reply.status == 404 && !reply.body.is_empty()
}

impl Node {
    /// What the node says about itself.
    ///
    /// # Errors
    /// [`NodeError`], also if it is a node of another network.
    pub async fn info(&self) -> Result<Info, NodeError> {
        const WHAT: &str = "info";
        let reply = self.ask(Question::get(WHAT, "/info".to_owned())).await?;
        let info: Info = reply.json().map_err(|trouble| self.error(WHAT, trouble))?;
        if *info.network != *self.network {
            let found = super::error::excerpt(info.network.as_bytes());
            let trouble = Trouble::Network { wanted: self.network.to_string(), found };
            return Err(self.error(WHAT, trouble));
        }
        self.is_of_network();
        Ok(info)
    }

    /// When the node, or what stands before it, says that it answers: the `Date` of HTTP (RFC 9110, section 6.6.1) in whole
    /// seconds, as it is written there. `None` if it does not say.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn date(&self) -> Result<Option<Box<str>>, NodeError> {
        Ok(self.ask(Question::get("date", "/info".to_owned())).await?.date)
    }

    /// The newest block of every chain.
    ///
    /// # Errors
    /// [`NodeError`], also if the cut is of another network or does not add up.
    pub async fn cut(&self) -> Result<Cut, NodeError> {
        const WHAT: &str = "cut";
        let reply = self.ask(Question::get(WHAT, self.of_network(WHAT))).await?;
        let cut: Cut = self.read(WHAT, &reply).await?;
        if *cut.instance != *self.network {
            let found = super::error::excerpt(cut.instance.as_bytes());
            let trouble = Trouble::Network { wanted: self.network.to_string(), found };
            return Err(self.error(WHAT, trouble));
        }
        cut.verify_height().map_err(|error| self.nonsense(WHAT, error.to_string()))?;
        self.has_cut(cut.height, cut.hashes.len() as u64);
        Ok(cut)
    }

    /// The header with a hash; `None` if the node has none. Its hash is checked.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn header(&self, chain: ChainId, hash: &Hash) -> Result<Option<Header>, NodeError> {
        const WHAT: &str = "header";
        let mut question = Question::get(WHAT, self.of_chain(chain, &format!("header/{hash}")));
        question.accept = BINARY;
        let reply = self.ask(question).await?;
        let header = match reply.status {
            200 => Header::decode(&reply.body).map_err(|error| self.nonsense(WHAT, error.to_string()))?,
            _ if is_unknown_hash(&reply) => return Ok(None),
            _ => return Err(self.unexpected(WHAT, &reply).await),
        };
        if header.hash != *hash {
            return Err(self.nonsense(WHAT, format!("it has the hash {}, not {hash}", header.hash)));
        }
        self.check(WHAT, chain, &header)?;
        Ok(Some(header))
    }

    /// Whether a header is what it says, and of this chain and network.
    pub(super) fn check(&self, what: &'static str, chain: ChainId, header: &Header) -> Result<(), NodeError> {
        if !header.verify_hash() {
            return Err(self.nonsense(what, format!("{} is not the hash of its header", header.hash)));
        }
        if header.chain != chain {
            return Err(self.nonsense(what, format!("{} is a block of chain {}", header.hash, header.chain)));
        }
        if self.code.is_some_and(|code| header.version != code) {
            let why = format!("{} is a block of the network with code {:#010x}", header.hash, header.version);
            return Err(self.nonsense(what, why));
        }
        Ok(())
    }
}
