//! Trouble on command.

use super::faults::{Fault, Faults};
use super::fork::Orphaned;
use super::nodes::{NodeState, lock};
use super::trouble::Event;
use super::{Devnet, StoreError, TroubleError};
use crate::graph::ChainId;
use crate::hash::Hash;

impl Devnet {
    /// Undoes `depth` blocks of a chain and makes others instead, on all nodes that know of this one; a round comes on top.
    /// See [`super::Network::reorganize`].
    ///
    /// # Errors
    /// [`TroubleError`]; then nothing has changed, at least on the first node.
    pub fn reorganize(&self, chain: ChainId, depth: u64, orphaned: Orphaned) -> Result<(), TroubleError> {
        self.shared.reorganize(self.node, chain, depth, orphaned)
    }

    /// Parts the nodes: those in different groups do not know of each other, and make blocks of their own. Nodes in no
    /// group are one together.
    ///
    /// # Errors
    /// [`TroubleError::NoNode`], [`TroubleError::Twice`]; then nothing has changed.
    pub fn partition(&self, groups: &[Vec<usize>]) -> Result<(), TroubleError> {
        self.shared.partition(groups)?;
        self.ends_not_by_itself(&Event::Heal);
        tracing::info!(?groups, "the nodes are parted");
        Ok(())
    }

    /// Lets all nodes know of each other again. The heaviest blocks win, from the last common ones on; of equal ones,
    /// those that get the next block.
    ///
    /// # Errors
    /// [`StoreError`]; then they come together with a later round.
    pub fn heal(&self) -> Result<(), StoreError> {
        self.shared.heal()
    }

    /// How this node stands to the others.
    pub fn state(&self) -> NodeState {
        self.shared.state(self.node)
    }

    /// Lets this node show what the others had so many rounds ago; 0 ends it. It never goes back by itself.
    pub fn set_lag(&self, rounds: u64) {
        self.ends_not_by_itself(&Event::Lag { node: self.node, rounds: 0 });
        self.shared.act(Event::Lag { node: self.node, rounds });
    }

    /// Takes this node away, or brings it back: it makes and takes no blocks and answers nobody over HTTP.
    pub fn set_down(&self, is_down: bool) {
        self.ends_not_by_itself(&Event::Down { node: self.node, is_down: false });
        self.shared.act(Event::Down { node: self.node, is_down });
    }

    /// Lets this node forget all commands that wait. Others that know them may tell it again.
    pub fn lose_mempool(&self) {
        self.shared.act(Event::LoseMempool { node: self.node });
    }

    /// Lets this node forget all commands that wait, and which ones it held to be hopeless.
    pub fn restart(&self) {
        self.shared.act(Event::Restart { node: self.node });
    }

    /// Lets this node hold a command to be hopeless. See [`super::Network::bad_list`].
    pub fn bad_list(&self, chain: ChainId, key: &Hash) {
        let now = (self.shared.clock)();
        self.shared.network(self.node).bad_list(chain, key, now);
    }

    /// What was asked for lasts: what came by chance before does not end it.
    fn ends_not_by_itself(&self, end: &Event) {
        lock(&self.shared.trouble).forget_end(end);
    }

    /// What goes wrong by chance.
    pub fn faults(&self) -> Faults {
        lock(&self.shared.trouble).faults().clone()
    }

    /// Lets other things go wrong from now on. What is under way ends as it would have.
    pub fn set_faults(&self, faults: Faults) {
        tracing::info!(%faults, "other things go wrong from now on");
        lock(&self.shared.trouble).set(faults);
    }

    /// How often each kind of trouble came by chance.
    pub fn happened(&self) -> Vec<(Fault, u64)> {
        lock(&self.shared.trouble).happened().collect()
    }

    /// What becomes of the answer to a request, and a number for its details.
    pub(super) fn fault_of_answer(&self) -> Option<(Fault, u64)> {
        let mut trouble = lock(&self.shared.trouble);
        let fault = trouble.of_answer(self.node)?;
        Some((fault, trouble.below(self.node, 1 << 32)))
    }
}
