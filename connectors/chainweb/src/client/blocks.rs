//! What a node knows of blocks: itself, its cut, headers, payloads.

use serde::Deserialize;
use serde_json::json;

use super::node::Node;
use super::wire::{BINARY, LARGE, Question};
use super::{NodeError, Trouble};
use crate::cut::Cut;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;
use crate::payload::PayloadWithOutputs;

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

/// Where a page goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The block where it goes on.
    pub hash: Hash,
    /// Whether that block is the first of the next page, or the last of this one.
    pub is_inclusive: bool,
}

impl Next {
    fn parse(text: &str) -> Option<Self> {
        let (kind, hash) = text.split_once(':')?;
        let is_inclusive = match kind {
            "inclusive" => true,
            "exclusive" => false,
            _ => return None,
        };
        Some(Self { hash: hash.parse().ok()?, is_inclusive })
    }

    fn query(&self) -> String {
        format!("{}:{}", if self.is_inclusive { "inclusive" } else { "exclusive" }, self.hash)
    }
}

/// Part of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the collection's order.
    pub items: Vec<T>,
    /// Where it goes on; `None` at its end.
    pub next: Option<Next>,
}

/// Which part of a collection is asked for. Heights are inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Most items of a page; a node has a limit of its own, 360 headers.
    pub limit: Option<u64>,
    /// Where to go on.
    pub next: Option<Next>,
    /// The lowest height.
    pub min_height: Option<u64>,
    /// The highest height.
    pub max_height: Option<u64>,
}

impl Bounds {
    fn query(&self) -> String {
        let parameters = [
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("next", self.next.map(|next| next.query())),
            ("minheight", self.min_height.map(|height| height.to_string())),
            ("maxheight", self.max_height.map(|height| height.to_string())),
        ];
        let mut query = String::new();
        for (name, value) in parameters {
            let Some(value) = value else { continue };
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{name}={value}"));
        }
        query
    }
}

#[derive(Deserialize)]
struct WirePage {
    items: Vec<String>,
    next: Option<String>,
}

/// 404 with a body is about a hash; without one, about the path: the chain or the network.
fn is_unknown_hash(body: &[u8]) -> bool {
    !body.is_empty()
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
            404 if is_unknown_hash(&reply.body) => return Ok(None),
            _ => return Err(self.unexpected(WHAT, &reply).await),
        };
        if header.hash != *hash {
            return Err(self.nonsense(WHAT, format!("it has the hash {}, not {hash}", header.hash)));
        }
        self.check(WHAT, chain, &header)?;
        Ok(Some(header))
    }

    /// A page of the blocks that are ancestors of one of `upper`, or one of them, and neither ancestors of one of
    /// `lower` nor one of them; the highest first. `None` if the node does not know one of `upper`, or the block where
    /// the page begins. Hashes are checked, links are not.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn branch(
        &self,
        chain: ChainId,
        lower: &[Hash],
        upper: &[Hash],
        bounds: &Bounds,
    ) -> Result<Option<Page<Header>>, NodeError> {
        const WHAT: &str = "header/branch";
        let path = self.of_chain(chain, WHAT) + &bounds.query();
        let body = json!({ "lower": lower, "upper": upper }).to_string();
        let reply = self.ask(Question::post(WHAT, path, body)).await?;
        if reply.status == 404 && is_unknown_hash(&reply.body) {
            return Ok(None);
        }
        let page: WirePage = self.read(WHAT, &reply).await?;
        let next = page.next.map(|text| {
            Next::parse(&text)
                .ok_or_else(|| self.nonsense(WHAT, format!("{text:.100?} is no place to go on")))
        });
        let mut items = Vec::with_capacity(page.items.len());
        for item in page.items {
            let header =
                Header::from_base64url(&item).map_err(|error| self.nonsense(WHAT, error.to_string()))?;
            self.check(WHAT, chain, &header)?;
            items.push(header);
        }
        Ok(Some(Page { items, next: next.transpose()? }))
    }

    /// The payload with a payload hash, with its outputs; `None` if the node has none. All hashes are checked.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn payload_with_outputs(
        &self,
        chain: ChainId,
        hash: &Hash,
    ) -> Result<Option<PayloadWithOutputs>, NodeError> {
        const WHAT: &str = "payload/outputs";
        let mut question = Question::get(WHAT, self.of_chain(chain, &format!("payload/{hash}/outputs")));
        (question.accept, question.limit) = (BINARY, LARGE);
        let reply = self.ask(question).await?;
        let payload = match reply.status {
            200 => PayloadWithOutputs::decode(&reply.body)
                .map_err(|error| self.nonsense(WHAT, error.to_string()))?,
            404 if is_unknown_hash(&reply.body) => return Ok(None),
            _ => return Err(self.unexpected(WHAT, &reply).await),
        };
        payload.verify().map_err(|error| self.nonsense(WHAT, error.to_string()))?;
        if payload.payload_hash != *hash {
            return Err(self.nonsense(WHAT, format!("it has the hash {}, not {hash}", payload.payload_hash)));
        }
        Ok(Some(payload))
    }

    /// Whether a header is what it says, and of this chain and network.
    fn check(&self, what: &'static str, chain: ChainId, header: &Header) -> Result<(), NodeError> {
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
