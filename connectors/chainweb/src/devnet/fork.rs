//! Other branches: blocks are undone and others made, or taken from another node.

use crate::graph::ChainId;

use super::block::NewBlock;
use super::chain::Chain;
use super::network::{MakeError, Network};

/// What becomes of the commands in blocks that are undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphaned {
    /// They wait again, as on a node: whoever made the other blocks had not heard of them.
    #[default]
    Wait,
    /// The other blocks have them too, as far as they still can.
    MinedAgain,
    /// Nobody knows them any more.
    Lost,
}

/// Why blocks are not undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// The network has no such chain.
    #[error("no chain {0}")]
    UnknownChain(ChainId),
    /// Depth zero is no fork.
    #[error("a depth of 0 blocks: 1 at least")]
    NoDepth,
    /// Blocks so old are not kept, or are not there at all.
    #[error("chain {chain} cannot go back by {depth} blocks: so many are not kept")]
    TooDeep {
        /// The chain.
        chain: ChainId,
        /// Blocks.
        depth: u64,
    },
    /// No block can be made on the other branch.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// A change of the chains that is seen as a whole or not at all.
#[derive(Default)]
pub(super) struct Change {
    /// The heights that chains go back to.
    pub(super) rewinds: Vec<(ChainId, u64)>,
    /// The blocks that come then, parents first.
    pub(super) blocks: Vec<NewBlock>,
}

impl Change {
    /// Most blocks of a chain that it undoes; `None` if it undoes none.
    pub(super) fn deepest(&self, network: &Network) -> Option<u64> {
        let depth = |(chain, height): &(ChainId, u64)| {
            Some(network.chain(*chain)?.tip().header.height.saturating_sub(*height))
        };
        self.rewinds.iter().filter_map(depth).max()
    }
}

/// How a network becomes the same as another one.
pub(super) enum Way {
    /// It stays: the other one is not heavier.
    Stay,
    /// From their last common blocks.
    Change(Change),
    /// Not at all: of some chain, no common block is kept.
    Unrelated,
}

impl Network {
    /// Undoes `depth` blocks of a chain and makes others in their place, then a round on top, so that the new cut is
    /// heavier. What the braid builds on the undone blocks goes with them: `depth - k` blocks of the chains at
    /// distance `k`.
    ///
    /// # Errors
    /// [`ForkError`]; then nothing has changed.
    pub fn reorganize(
        &mut self,
        chain: ChainId,
        depth: u64,
        orphaned: Orphaned,
        now: i64,
    ) -> Result<(), ForkError> {
        self.fork(&[(chain, depth)], orphaned, now, 0).map(|_| ())
    }

    /// As [`Network::reorganize`], on several chains at once. What was done, and what would undo it.
    pub(super) fn fork(
        &mut self,
        depths: &[(ChainId, u64)],
        orphaned: Orphaned,
        now: i64,
        maker: u32,
    ) -> Result<(Change, Change), ForkError> {
        let kept = self.kept(depths)?;
        let tips: Vec<u64> = self.chains().iter().map(|chain| chain.tip().header.height).collect();
        let mut done = Change::default();
        for (&(chain, keep), tip) in kept.iter().zip(tips) {
            if keep < tip {
                done.rewinds.push((chain, keep));
            }
        }
        let mut undo = Change { rewinds: kept, blocks: self.rewind(&done.rewinds) };
        if orphaned == Orphaned::MinedAgain {
            self.take_back(&undo.blocks);
            done.rewinds.iter().for_each(|(chain, _)| self.prepare(*chain));
        }
        if let Err(error) = self.build_beside(&undo.blocks, now, maker, &mut done.blocks) {
            self.apply_change(undo);
            return Err(error.into());
        }
        if orphaned == Orphaned::Wait {
            self.take_back(&undo.blocks);
        }
        undo.blocks.sort_by_key(|new| new.block.header.height);
        Ok((done, undo))
    }

    /// The height that each chain keeps if these go back by so many blocks.
    fn kept(&self, depths: &[(ChainId, u64)]) -> Result<Vec<(ChainId, u64)>, ForkError> {
        let mut kept: Vec<_> =
            self.chains().iter().map(|chain| (chain.id, chain.tip().header.height)).collect();
        for &(chain, depth) in depths {
            let tip = self.chain(chain).ok_or(ForkError::UnknownChain(chain))?.tip().header.height;
            if depth == 0 {
                return Err(ForkError::NoDepth);
            }
            let too_deep = ForkError::TooDeep { chain, depth };
            let base = tip.checked_sub(depth).ok_or(too_deep)?;
            for (other, keep) in &mut kept {
                let distance = self.graph().distance(chain, *other).unwrap_or(0);
                *keep = (*keep).min(base.saturating_add(u64::from(distance)));
                if self.chain(*other).is_none_or(|other| *keep < other.first_height()) {
                    return Err(too_deep);
                }
            }
        }
        Ok(kept)
    }

    /// Makes a block beside each of `undone`, at the same time and so of the same weight; then a round.
    fn build_beside(
        &mut self,
        undone: &[NewBlock],
        now: i64,
        maker: u32,
        made: &mut Vec<NewBlock>,
    ) -> Result<(), MakeError> {
        let mut places: Vec<_> = undone.iter().map(|new| &new.block.header).collect();
        places.sort_by_key(|header| (header.height, header.chain));
        for place in places {
            let new = self.build(place.chain, place.creation_time, maker)?;
            self.apply(new.clone());
            made.push(new);
        }
        let round = self.build_round(now, maker)?;
        self.apply_all(round.iter().cloned());
        made.extend(round);
        Ok(())
    }

    /// What makes this network the same as `other` up to the height `cap`, if that is heavier.
    pub(super) fn way_to(&self, other: &Self, cap: u64) -> Way {
        if other.weight(cap) <= self.weight(u64::MAX) {
            return Way::Stay;
        }
        let mut change = Change::default();
        for (own, other) in self.chains().iter().zip(other.chains()) {
            let (own_tip, other_tip) = (own.tip().header.height, other.tip().header.height.min(cap));
            let hash = |chain: &Chain, height| chain.at(height).map(|block| block.header.hash);
            let mut heights = (0..=own_tip.min(other_tip)).rev();
            let is_common = |height: &u64| hash(own, *height) == hash(other, *height);
            let Some(common) = heights.find(is_common).filter(|height| own.at(*height).is_some()) else {
                return Way::Unrelated;
            };
            if common < own_tip {
                change.rewinds.push((own.id, common));
            }
            let theirs = (common + 1..=other_tip).filter_map(|height| other.at(height).cloned());
            match theirs.map(NewBlock::of).collect::<Option<Vec<_>>>() {
                Some(blocks) => change.blocks.extend(blocks),
                None => return Way::Unrelated,
            }
        }
        change.blocks.sort_by_key(|new| new.block.header.height);
        Way::Change(change)
    }

    /// Undoes the blocks above these heights. All of them are kept.
    fn rewind(&mut self, rewinds: &[(ChainId, u64)]) -> Vec<NewBlock> {
        let mut undone = Vec::new();
        for &(id, keep) in rewinds {
            // A change is made from what is kept, and checked when it is read back: each chain can go back so far.
            undone.extend(self.chain_mut(id).and_then(|chain| chain.rewind(keep)).unwrap_or_default());
            self.prepare(id);
        }
        undone
    }

    /// Goes back and takes other blocks. Commands of undone blocks wait again.
    pub(super) fn apply_change(&mut self, change: Change) {
        let undone = self.rewind(&change.rewinds);
        self.apply_all(change.blocks);
        self.take_back(&undone);
    }

    fn take_back(&mut self, undone: &[NewBlock]) {
        for new in undone {
            if let Some(chain) = self.chain_mut(new.block.header.chain) {
                chain.take_back(std::slice::from_ref(new));
            }
        }
    }
}
