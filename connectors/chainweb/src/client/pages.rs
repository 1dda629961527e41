//! Collections: headers and hashes of a chain, a page at a time.

use serde::Deserialize;
use serde_json::json;

use super::NodeError;
use super::blocks::is_unknown_hash;
use super::node::Node;
use super::wire::{LARGE, Question};
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

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
    /// Most items of a page; a node has a limit of its own, 360 headers or 4,096 hashes.
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

impl Node {
    /// A page of all blocks of a chain that the node knows, also those of forks that were left; the lowest first. Its
    /// end is no end: it names the place where the chain will go on. `None` if the node does not know the block where
    /// the page begins. Hashes are checked, links are not.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn headers(&self, chain: ChainId, bounds: &Bounds) -> Result<Option<Page<Header>>, NodeError> {
        const WHAT: &str = "header";
        let question = Question::get(WHAT, self.of_chain(chain, WHAT) + &bounds.query());
        self.page(question, bounds, |item| self.item(WHAT, chain, item)).await
    }

    /// As [`Node::headers`], the hashes alone.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn hashes(&self, chain: ChainId, bounds: &Bounds) -> Result<Option<Page<Hash>>, NodeError> {
        const WHAT: &str = "hash";
        let question = Question::get(WHAT, self.of_chain(chain, WHAT) + &bounds.query());
        self.page(question, bounds, |item| self.hash(WHAT, item)).await
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
        let question = self.branch_question(WHAT, chain, lower, upper, bounds);
        self.page(question, bounds, |item| self.item(WHAT, chain, item)).await
    }

    /// As [`Node::branch`], the hashes alone.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn hash_branch(
        &self,
        chain: ChainId,
        lower: &[Hash],
        upper: &[Hash],
        bounds: &Bounds,
    ) -> Result<Option<Page<Hash>>, NodeError> {
        const WHAT: &str = "hash/branch";
        let question = self.branch_question(WHAT, chain, lower, upper, bounds);
        self.page(question, bounds, |item| self.hash(WHAT, item)).await
    }

    fn branch_question(
        &self,
        what: &'static str,
        chain: ChainId,
        lower: &[Hash],
        upper: &[Hash],
        bounds: &Bounds,
    ) -> Question {
        let path = self.of_chain(chain, what) + &bounds.query();
        Question::post(what, path, json!({ "lower": lower, "upper": upper }).to_string())
    }

    async fn page<T>(
        &self,
        mut question: Question,
        bounds: &Bounds,
        read: impl Fn(&str) -> Result<T, NodeError>,
    ) -> Result<Option<Page<T>>, NodeError> {
        let what = question.what;
        question.limit = LARGE;
        let reply = self.ask(question).await?;
        if is_unknown_hash(&reply) {
            return Ok(None);
        }
        let page: WirePage = self.read(what, &reply).await?;
        if bounds.limit.is_some_and(|limit| page.items.len() as u64 > limit) {
            return Err(self.nonsense(what, format!("{} items, more than asked for", page.items.len())));
        }
        let next = page.next.map(|text| {
            Next::parse(&text)
                .ok_or_else(|| self.nonsense(what, format!("{text:.100?} is no place to go on")))
        });
        let items = page.items.iter().map(|item| read(item)).collect::<Result<_, _>>()?;
        Ok(Some(Page { items, next: next.transpose()? }))
    }

    fn item(&self, what: &'static str, chain: ChainId, item: &str) -> Result<Header, NodeError> {
        let header = Header::from_base64url(item).map_err(|error| self.nonsense(what, error.to_string()))?;
        self.check(what, chain, &header)?;
        Ok(header)
    }

    fn hash(&self, what: &'static str, item: &str) -> Result<Hash, NodeError> {
        item.parse().map_err(|_| self.nonsense(what, format!("{item:.64?} is no hash")))
    }
}
