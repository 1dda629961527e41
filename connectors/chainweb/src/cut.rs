//! Cuts: one block of every chain, the state of the whole network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::graph::{ChainId, Graph};
use crate::hash::Hash;
use crate::header::Header;
use crate::uint::U256;

/// The block of one chain in a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutBlock {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A cut as a node returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The block of each chain.
    #[serde(with = "by_chain")]
    pub hashes: BTreeMap<ChainId, CutBlock>,
    /// Who sent it; null in an answer.
    #[serde(default)]
    pub origin: Option<serde_json::Value>,
    /// Sum of the weights of its blocks.
    pub weight: U256,
    /// Sum of the heights of its blocks.
    pub height: u64,
    /// Name of the network.
    pub instance: String,
    /// An opaque identifier.
    #[serde(default)]
    pub id: Option<String>,
}

/// What is wrong with a cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The chains are not those of the graph.
    #[error("cut of {actual} chains, the graph {graph} has {}", graph.order())]
    Chains {
        /// The graph.
        graph: Graph,
        /// Number of chains in the cut.
        actual: usize,
    },
    /// The stated height is not the sum.
    #[error("height is {stated}, the sum is {sum}")]
    Height {
        /// The height stated.
        stated: u64,
        /// The sum of the heights.
        sum: u128,
    },
    /// No header for a block of the cut.
    #[error("no header for chain {chain} with hash {hash}")]
    NoHeader {
        /// The chain.
        chain: ChainId,
        /// The hash in the cut.
        hash: Hash,
    },
    /// A header is on another chain or height than the cut says.
    #[error("header {hash} is on chain {chain} at height {height}")]
    Header {
        /// Its hash.
        hash: Hash,
        /// Its chain.
        chain: ChainId,
        /// Its height.
        height: u64,
    },
    /// The stated weight is not the sum.
    #[error("weight is {stated}, the sum is {sum:?}")]
    Weight {
        /// The weight stated.
        stated: U256,
        /// The sum of the weights; `None` where it needs more than 256 bits.
        sum: Option<U256>,
    },
    /// Two adjacent chains do not fit together.
    #[error("chains {0} and {1} are not braided")]
    Braid(ChainId, ChainId),
}

impl Cut {
    /// Sum of the heights of the blocks.
    pub fn height_sum(&self) -> u128 {
        self.hashes.values().map(|block| u128::from(block.height)).sum()
    }

    /// Checks that the stated height is the sum of the heights.
    ///
    /// # Errors
    /// [`CutError::Height`].
    pub fn verify_height(&self) -> Result<(), CutError> {
        let (stated, sum) = (self.height, self.height_sum());
        if u128::from(stated) == sum { Ok(()) } else { Err(CutError::Height { stated, sum }) }
    }

    /// Checks chains, height, weight and braiding, with the header of each block.
    ///
    /// The headers' own hashes are not checked here.
    ///
    /// # Errors
    /// The first [`CutError`] found.
    pub fn verify<'a>(
        &self,
        graph: Graph,
        header: impl Fn(&Hash) -> Option<&'a Header>,
    ) -> Result<(), CutError> {
        if !self.hashes.keys().copied().eq(graph.chains()) {
            return Err(CutError::Chains { graph, actual: self.hashes.len() });
        }
        self.verify_height()?;
        let mut headers = BTreeMap::new();
        for (&chain, block) in &self.hashes {
            let found = header(&block.hash).ok_or(CutError::NoHeader { chain, hash: block.hash })?;
            if (found.chain, found.height, found.hash) != (chain, block.height, block.hash) {
                let (hash, chain, height) = (found.hash, found.chain, found.height);
                return Err(CutError::Header { hash, chain, height });
            }
            headers.insert(chain, found);
        }
        let sum = headers.values().try_fold(U256::ZERO, |sum, header| sum.checked_add(header.weight));
        if sum != Some(self.weight) {
            return Err(CutError::Weight { stated: self.weight, sum });
        }
        verify_braiding(graph, &headers)
    }
}

/// Checks that the blocks of adjacent chains refer to one another: heights differ by at most one; at equal heights
/// each refers to the other's parent, else the higher to the lower.
///
/// # Errors
/// [`CutError::Braid`] for the first two chains that do not fit.
pub fn verify_braiding(graph: Graph, headers: &BTreeMap<ChainId, &Header>) -> Result<(), CutError> {
    for (&chain, header) in headers {
        for &next in graph.neighbours(chain) {
            let Some(other) = headers.get(&next) else { continue };
            let is_braided = match header.height.checked_sub(other.height) {
                Some(0) => is_at_one_height(header, other),
                Some(1) => header.adjacent(next) == Some(other.hash),
                Some(_) => false,
                None => continue, // the other chain is higher, and looks at this one in its turn
            };
            if !is_braided {
                return Err(CutError::Braid(chain, next));
            }
        }
    }
    Ok(())
}

/// Two blocks of one height: each refers to the parent of the other. Two genesis blocks refer to nothing real.
fn is_at_one_height(header: &Header, other: &Header) -> bool {
    header.adjacent(other.chain) == Some(other.parent)
}

mod by_chain {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{ChainId, CutBlock};

    pub(super) fn serialize<S: Serializer>(
        hashes: &BTreeMap<ChainId, CutBlock>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(hashes.iter().map(|(chain, block)| (chain.to_string(), block)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ChainId, CutBlock>, D::Error> {
        let by_text = BTreeMap::<String, CutBlock>::deserialize(deserializer)?;
        let parse = |(text, block): (String, CutBlock)| {
            let chain = text.parse().map(ChainId).ok().filter(|chain| chain.to_string() == text);
            Ok((chain.ok_or_else(|| D::Error::custom(format_args!("{text:?} is not a chain")))?, block))
        };
        by_text.into_iter().map(parse).collect()
    }
}
