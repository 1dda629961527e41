//! Braid: blocks that go on from a cut by the rules of their network, and the work that is in them.
//!
//! Back from a block that is trusted, hashes prove everything. On from it nothing does: anybody can make headers that
//! name trusted blocks as their parents, and what makes one branch better than another is the work in it. So of headers
//! that go on from a cut everything is computed anew that a node computes: hash, neighbours, height, weight, target,
//! epoch, creation time, fork state, proof of work. That takes the headers of *all* chains, since a target is a mean over
//! adjacent chains, and a block is only followed where its parent and all its adjacent parents are.
//!
//! **What work above a block proves**: that somebody computed about that many hashes (a block of target t stands for
//! (2^256 − 1) / t) after the block was made, and after the cut was. Each block counts for its own difficulty, and for no
//! more than a block of the cut did on average. The first because whoever chooses creation times lowers the difficulty
//! without bound once the epoch of the cut is over, at most 120 blocks a chain. The second because he can raise it without
//! bound too, and one lucky block would then stand for all the work that is asked for: who has a tenth of it would
//! succeed one time in ten. So nothing but blocks as many and as hard as the cut's will do.
//!
//! **What it does not prove**: *when* it was done, nor that no heavier branch exists. Whoever can pay for the work can
//! make a branch that claims any time after the cut, once, for as many receipts as he likes, and also long after the
//! network has died and its miners are for hire. So how much work is enough is for whoever trusts to say, in units of the
//! work of the cut itself. A newer cut that is trusted is worth more than any depth: all before it is a matter of hashes.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::cut::verify_braiding;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;
use crate::rules::{self, Failure};
use crate::uint::U256;
use crate::version::Version;

/// The blocks that follow a cut, as far as headers were given.
#[derive(Clone, Debug)]
pub struct Braid {
    /// Parents stand before their children.
    blocks: Vec<Block>,
    places: HashMap<Hash, usize>,
    cut_work: U256,
    /// What one block counts for at most: the work of the cut, divided by its blocks.
    most_work: U256,
    gap: Option<Gap>,
}

/// A block that follows the cut.
#[derive(Clone, Debug)]
struct Block {
    /// The places of those of its parents that follow the cut too.
    parents: Vec<usize>,
    /// What it counts for: the difficulty of its target, within [`Braid::most_work`].
    work: U256,
}

/// A header above the cut that could not be checked, since one of its parents is not given or not checked itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The chain of the parent.
    pub chain: ChainId,
    /// The height of the parent.
    pub height: u64,
    /// The hash of the parent.
    pub hash: Hash,
}

/// Why nothing follows a cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BraidError {
    /// Without proof of work any branch is as good as another.
    #[error("{0} has no proof of work, so nothing tells a branch that goes on from another")]
    NoWork(String),
    /// Not one block of each chain, or not of this network.
    #[error("a cut of {network} has one block of each of its {chains} chains, and this has not")]
    Chains {
        /// The network.
        network: String,
        /// How many chains it has.
        chains: u32,
    },
    /// The cut lies where older rules hold.
    #[error("the cut has a block of height {height}; rules that can be checked hold from height {least} on")]
    TooLow {
        /// The height of the block.
        height: u64,
        /// The least height that will do.
        least: u64,
    },
    /// Two blocks of the cut do not fit together.
    #[error("the blocks are no cut: {0}")]
    Unbraided(#[from] crate::cut::CutError),
    /// A block of the cut breaks a rule by itself.
    #[error("block {hash} of the cut: {failure}")]
    Cut {
        /// Its hash.
        hash: Hash,
        /// The rule.
        failure: Failure,
    },
    /// A header whose parents all follow the cut breaks a rule.
    #[error("block {hash} of chain {chain} at height {height} does not follow its parents: {failure}")]
    Refused {
        /// Its hash.
        hash: Hash,
        /// Its chain.
        chain: ChainId,
        /// Its height.
        height: u64,
        /// The first rule that it breaks.
        failure: Failure,
    },
}

impl Braid {
    /// Follows a cut by headers in any order; of one that is given twice the second counts for nothing.
    ///
    /// `headers` may hold the cut, and has to hold the parents of those of its blocks that a neighbour is behind of.
    /// Headers of other branches, of lower heights, or with parents that are not given are left out: see [`Braid::gap`].
    /// Takes time and memory in proportion to the headers; some 20 µs each.
    ///
    /// # Errors
    /// [`BraidError`]; one header that breaks a rule spoils all.
    pub fn follow(version: &Version, cut: &[&Header], headers: &[&Header]) -> Result<Self, BraidError> {
        let heights = check_cut(version, cut)?;
        let mut work = cut.iter().map(|header| rules::difficulty(header.target));
        let cut_work = work.try_fold(U256::ZERO, |sum, term| sum.checked_add(term?)).unwrap_or(U256::MAX);
        let most_work = cut_work.checked_div(U256::from(cut.len() as u64)).unwrap_or(U256::ZERO);
        let mut braid = Self { blocks: Vec::new(), places: HashMap::new(), cut_work, most_work, gap: None };

        // A neighbour that is behind by one builds beside the parent of a block of the cut.
        let before: HashSet<Hash> = cut.iter().map(|header| header.parent).collect();
        let is_before = |header: &&&Header| {
            before.contains(&header.hash) && rules::check_alone(header, version).is_empty()
        };
        let before = headers.iter().filter(is_before);
        let mut known: HashMap<Hash, &Header> =
            before.chain(cut).map(|header| (header.hash, *header)).collect();
        let is_above =
            |header: &&&Header| heights.get(&header.chain).is_some_and(|height| header.height > *height);
        let mut above: Vec<&Header> = headers.iter().filter(is_above).copied().collect();
        above.sort_unstable_by_key(|header| (header.height, header.chain, header.hash.0));
        above.dedup_by_key(|header| header.hash);
        for header in above {
            braid.take(version, &mut known, header)?;
        }
        Ok(braid)
    }

    /// Takes the next header, if its parents are known.
    fn take<'h>(
        &mut self,
        version: &Version,
        known: &mut HashMap<Hash, &'h Header>,
        header: &'h Header,
    ) -> Result<(), BraidError> {
        let parents = std::iter::once((header.chain, header.parent)).chain(header.adjacents.iter().copied());
        let mut found = Vec::with_capacity(1 + header.adjacents.len());
        let mut places = Vec::with_capacity(1 + header.adjacents.len());
        for (chain, hash) in parents {
            let Some(parent) = known.get(&hash) else {
                let gap = Gap { chain, height: header.height.saturating_sub(1), hash };
                self.gap.get_or_insert(gap);
                return Ok(());
            };
            found.push(*parent);
            places.extend(self.places.get(&hash));
        }
        let [parent, adjacents @ ..] = &found[..] else { return Ok(()) };
        let failures = rules::check(header, version, parent, adjacents);
        let is_beside = |other: &&Header| {
            other.height == parent.height && other.adjacent(header.chain) == Some(parent.parent)
        };
        let unbraided = (!adjacents.iter().all(is_beside)).then_some(Failure::Unbraided);
        if let Some(failure) = failures.into_iter().chain(unbraided).next() {
            let Header { hash, chain, height, .. } = *header;
            return Err(BraidError::Refused { hash, chain, height, failure });
        }
        // The rules just made sure of a target that has a difficulty.
        let work = rules::difficulty(header.target).unwrap_or(U256::ZERO).min(self.most_work);
        self.places.insert(header.hash, self.blocks.len());
        self.blocks.push(Block { parents: places, work });
        known.insert(header.hash, header);
        Ok(())
    }

    /// Whether a block follows the cut.
    pub fn follows(&self, block: &Hash) -> bool {
        self.places.contains_key(block)
    }

    /// How many blocks follow the cut.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no block follows the cut.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The first thing that is missing, by height, where headers above the cut were left out.
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// The work of all blocks that descend from a block, in units of the work of the cut, rounded down: 1 for a block
    /// of each chain at the difficulty that it had there, or a higher one. `None` for a block that does not follow the cut.
    ///
    /// Takes time in proportion to the blocks above it.
    pub fn work_above(&self, block: &Hash) -> Option<u64> {
        let first = *self.places.get(block)?;
        let mut descends = vec![false; self.blocks.len() - first];
        descends[0] = true;
        let mut sum = U256::ZERO;
        for (at, block) in self.blocks.iter().enumerate().skip(first + 1) {
            let is_in = |parent: &usize| parent.checked_sub(first).is_some_and(|parent| descends[parent]);
            if block.parents.iter().any(is_in) {
                descends[at - first] = true;
                sum = sum.checked_add(block.work).unwrap_or(U256::MAX);
            }
        }
        let bytes = sum.checked_div(self.cut_work)?.to_le_bytes();
        let (low, high) = bytes.split_first_chunk()?;
        Some(if high.iter().all(|byte| *byte == 0) { u64::from_le_bytes(*low) } else { u64::MAX })
    }
}

/// Checks that these are the blocks of one cut that can be followed; returns the height of each chain.
fn check_cut(version: &Version, cut: &[&Header]) -> Result<HashMap<ChainId, u64>, BraidError> {
    if !version.has_pow {
        return Err(BraidError::NoWork(version.name.to_string()));
    }
    let graph = version.latest_graph();
    let by_chain: BTreeMap<ChainId, &Header> = cut.iter().map(|header| (header.chain, *header)).collect();
    if cut.len() != by_chain.len() || !by_chain.keys().copied().eq(graph.chains()) {
        return Err(BraidError::Chains { network: version.name.to_string(), chains: graph.order() });
    }
    for header in by_chain.values() {
        let (height, least) = (header.height, version.settled_height());
        if height < least {
            return Err(BraidError::TooLow { height, least });
        }
        if let Some(&failure) = rules::check_alone(header, version).first() {
            return Err(BraidError::Cut { hash: header.hash, failure });
        }
    }
    verify_braiding(graph, &by_chain)?;
    Ok(by_chain.values().map(|header| (header.chain, header.height)).collect())
}
