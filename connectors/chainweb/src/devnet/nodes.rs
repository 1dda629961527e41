//! The nodes of a development network: which of them make blocks together, and how they come to the same ones.
//!
//! Nodes that know of each other are a group. Its heaviest node makes the blocks, and the others take them over, so that
//! they make different ones only while they do not know of each other.

use std::borrow::Cow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::graph::{ChainId, Graph};
use crate::hash::Hash;
use crate::pact::Command;

use super::faults::Fault;
use super::fork::{Change, Orphaned, Way};
use super::journal::Journal;
use super::network::Network;
use super::runner::Clock;
use super::trouble::{Event, Trouble};
use super::{RoundError, SendError, StoreError, TroubleError};

/// How a node stands to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Nodes of the same group know of each other.
    pub group: usize,
    /// It shows what the others had so many rounds ago.
    pub lag: u64,
    /// It does nothing and answers nobody.
    pub is_down: bool,
}

pub(super) struct Node {
    pub(super) network: Mutex<Network>,
    /// Told after each change of blocks, with `network`.
    pub(super) has_blocks: Condvar,
    pub(super) rounds: watch::Sender<u64>,
}

impl Node {
    pub(super) fn new(network: Network) -> Self {
        Self { network: Mutex::new(network), has_blocks: Condvar::new(), rounds: watch::Sender::new(0) }
    }

    fn tell(&self) {
        self.has_blocks.notify_all();
        self.rounds.send_modify(|rounds| *rounds += 1);
    }
}

/// What all handles of a development network share.
pub(super) struct Shared {
    /// At least one. Whoever locks two of them holds `journal`.
    pub(super) nodes: Vec<Node>,
    /// One for each node.
    pub(super) states: Mutex<Vec<NodeState>>,
    /// The life of the first node. Whoever changes blocks holds it: so there is one change at a time, and mostly no lock
    /// on a network while it is synced.
    pub(super) journal: Mutex<Option<Journal>>,
    pub(super) trouble: Mutex<Trouble>,
    pub(super) stop: Mutex<bool>,
    pub(super) stopping: Condvar,
    pub(super) clock: Clock,
    pub(super) name: Cow<'static, str>,
    pub(super) graph: Graph,
}

impl Shared {
    pub(super) fn network(&self, node: usize) -> MutexGuard<'_, Network> {
        lock(&self.nodes[node].network)
    }

    pub(super) fn state(&self, node: usize) -> NodeState {
        lock(&self.states)[node]
    }

    /// The right to change blocks, with a file that is good for it.
    pub(super) fn journal(&self) -> Result<MutexGuard<'_, Option<Journal>>, StoreError> {
        let mut guard = lock(&self.journal);
        if let Some(journal) = guard.as_mut() {
            let network = self.network(0);
            if journal.wants_rewrite(&network) {
                journal.rewrite(&network)?;
            }
        }
        Ok(guard)
    }

    /// Makes a round in each group, and whatever else happens now.
    pub(super) fn make_round(&self) -> Result<(), RoundError> {
        let mut journal = self.journal()?;
        let events = lock(&self.trouble).begin_round();
        events.into_iter().for_each(|event| self.act(event));
        for group in self.groups() {
            if let Some(leader) = self.leader(&group) {
                self.make_in_group(leader, &mut journal)?;
            }
        }
        self.level(&mut journal)?;
        self.nodes.iter().for_each(Node::tell);
        Ok(())
    }

    fn make_in_group(&self, leader: usize, journal: &mut Option<Journal>) -> Result<(), RoundError> {
        let (forks, orphaned) = {
            let mut trouble = lock(&self.trouble);
            let forks = trouble.forks(self.graph);
            let is_mined_again = !forks.is_empty() && trouble.are_mined_again();
            (forks, if is_mined_again { Orphaned::MinedAgain } else { Orphaned::Wait })
        };
        if !forks.is_empty() {
            let depths: Vec<_> = forks.iter().map(|(_, chain, depth)| (*chain, *depth)).collect();
            match self.fork(leader, &depths, orphaned, journal) {
                Ok(()) => {
                    self.note(leader, orphaned, &forks);
                    return Ok(());
                }
                Err(TroubleError::Store(error)) => return Err(error.into()),
                Err(_) => {} // so many blocks are not there yet
            }
        }
        let blocks = self.network(leader).build_round((self.clock)(), maker(leader))?;
        // A crash before this line: the blocks never were. After it: they are, though nobody saw them yet.
        Ok(self.install(leader, Change { rewinds: Vec::new(), blocks }, journal)?)
    }

    /// Takes note of reorganisations by chance.
    fn note(&self, node: usize, orphaned: Orphaned, forks: &[(Fault, ChainId, u64)]) {
        let mut trouble = lock(&self.trouble);
        for (fault, chain, depth) in forks {
            trouble.count(*fault);
            if *fault == Fault::Reorganize {
                tracing::info!(%chain, depth, ?orphaned, node, "a chain is reorganised");
            }
        }
    }

    /// Reorganises chains of a node; durable when this returns.
    fn fork(
        &self,
        node: usize,
        depths: &[(ChainId, u64)],
        orphaned: Orphaned,
        journal: &mut Option<Journal>,
    ) -> Result<(), TroubleError> {
        let mut network = self.network(node);
        let (done, undo) = network.fork(depths, orphaned, (self.clock)(), maker(node))?;
        // The network is locked until now: so nobody has seen what cannot be made durable.
        if let Some(journal) = journal.as_mut().filter(|_| node == 0)
            && let Err(error) = journal.append(&done)
        {
            network.apply_change(undo);
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes a change durable, where the node is kept, and then visible.
    fn install(&self, node: usize, change: Change, journal: &mut Option<Journal>) -> Result<(), StoreError> {
        if let Some(journal) = journal.as_mut().filter(|_| node == 0) {
            journal.append(&change)?;
        }
        self.network(node).apply_change(change);
        Ok(())
    }

    /// Brings the nodes of each group to the blocks of its heaviest, and tells that one what waits at the others.
    pub(super) fn level(&self, journal: &mut Option<Journal>) -> Result<(), StoreError> {
        for group in self.groups().into_iter().filter(|group| group.len() > 1) {
            let Some(leader) = self.leader(&group) else { continue };
            for node in group.into_iter().filter(|node| *node != leader) {
                self.follow(node, leader, journal)?;
            }
        }
        Ok(())
    }

    fn follow(&self, node: usize, leader: usize, journal: &mut Option<Journal>) -> Result<(), StoreError> {
        let lag = self.state(node).lag;
        let way = {
            let heaviest = self.network(leader);
            let cap = if lag == 0 { u64::MAX } else { heaviest.height().saturating_sub(lag) };
            self.network(node).way_to(&heaviest, cap)
        };
        match way {
            Way::Stay => {}
            Way::Change(change) => {
                // Orphans are nothing to speak of.
                if let Some(undone) = change.deepest(&self.network(node)).filter(|undone| *undone > 1) {
                    tracing::info!(
                        node,
                        from = leader,
                        undone,
                        "a node takes over the heavier blocks of another"
                    );
                }
                self.install(node, change, journal)?;
            }
            Way::Unrelated => {
                tracing::warn!(
                    node,
                    from = leader,
                    "a node is replaced by another: no common blocks are kept"
                );
                let copy = self.network(leader).copy();
                if let Some(journal) = journal.as_mut().filter(|_| node == 0) {
                    journal.rewrite(&copy)?;
                }
                *self.network(node) = copy;
            }
        }
        if lag == 0 {
            let now = (self.clock)();
            let mut heaviest = self.network(leader);
            for (chain, command) in self.network(node).waiting_unknown_to(&heaviest) {
                // It may refuse: what waits here may be in a block there.
                let _ = heaviest.send(chain, &[command], now);
            }
        }
        Ok(())
    }

    /// The nodes of each group that are not down, ascending.
    fn groups(&self) -> Vec<Vec<usize>> {
        let states = lock(&self.states);
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (node, state) in states.iter().enumerate().filter(|(_, state)| !state.is_down) {
            match groups.iter_mut().find(|(group, _)| *group == state.group) {
                Some((_, nodes)) => nodes.push(node),
                None => groups.push((state.group, vec![node])),
            }
        }
        groups.into_iter().map(|(_, nodes)| nodes).collect()
    }

    /// The heaviest node of a group, the first of several; of those that do not lag, while there are such.
    fn leader(&self, group: &[usize]) -> Option<usize> {
        let [_, _, ..] = group else { return group.first().copied() };
        let lags = |node: usize| self.state(node).lag > 0;
        let all_lag = group.iter().all(|node| lags(*node));
        let candidates = group.iter().copied().filter(|node| all_lag || !lags(*node));
        let weights = candidates.map(|node| (node, self.network(node).weight(u64::MAX)));
        weights.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(node, _)| node)
    }

    /// Undoes blocks of a chain and makes others, in the group of a node.
    pub(super) fn reorganize(
        &self,
        node: usize,
        chain: ChainId,
        depth: u64,
        orphaned: Orphaned,
    ) -> Result<(), TroubleError> {
        let mut journal = self.journal()?;
        let group = self.groups().into_iter().find(|group| group.contains(&node));
        let leader = group.and_then(|group| self.leader(&group)).ok_or(TroubleError::Down(node))?;
        self.fork(leader, &[(chain, depth)], orphaned, &mut journal)?;
        tracing::info!(%chain, depth, ?orphaned, node = leader, "a chain is reorganised, as it was asked for");
        self.level(&mut journal)?;
        self.nodes.iter().for_each(Node::tell);
        Ok(())
    }

    /// Parts the nodes in these groups; those that are in none form one of their own.
    pub(super) fn partition(&self, groups: &[Vec<usize>]) -> Result<(), TroubleError> {
        let mut states = lock(&self.states);
        let mut places = vec![0; states.len()];
        for (index, node) in
            groups.iter().enumerate().flat_map(|(index, nodes)| nodes.iter().map(move |n| (index, *n)))
        {
            match places.get_mut(node) {
                None => return Err(TroubleError::NoNode { node, nodes: states.len() }),
                Some(0) => places[node] = index + 1,
                Some(_) => return Err(TroubleError::Twice(node)),
            }
        }
        states.iter_mut().zip(places).for_each(|(state, group)| state.group = group);
        Ok(())
    }

    /// Lets all nodes know of each other, and takes over the heaviest blocks.
    pub(super) fn heal(&self) -> Result<(), StoreError> {
        lock(&self.trouble).forget_end(&Event::Heal);
        self.act(Event::Heal);
        let mut journal = self.journal()?;
        self.level(&mut journal)?;
        self.nodes.iter().for_each(Node::tell);
        Ok(())
    }

    /// Does what begins or ends for nodes. Blocks follow with the next round.
    pub(super) fn act(&self, event: Event) {
        tracing::info!(?event, "something happens to the nodes");
        match event {
            Event::Part(nodes) => {
                // The numbers are of existing nodes, each once.
                let _ = self.partition(&[nodes]);
            }
            Event::Heal => lock(&self.states).iter_mut().for_each(|state| state.group = 0),
            Event::Lag { node, rounds } => lock(&self.states)[node].lag = rounds,
            Event::Down { node, is_down } => lock(&self.states)[node].is_down = is_down,
            Event::LoseMempool { node } => self.network(node).lose_mempool(),
            Event::Restart { node } => self.network(node).restart(),
        }
    }

    /// Sends commands to a node, which tells those of its group.
    pub(super) fn send(
        &self,
        node: usize,
        chain: ChainId,
        commands: &[Command],
    ) -> Result<Vec<Hash>, SendError> {
        let now = (self.clock)();
        if self.state(node).is_down {
            return Err(SendError::down());
        }
        let mut news = Vec::new();
        {
            let mut network = self.network(node);
            let is_known: Vec<bool> =
                commands.iter().map(|command| network.knows(chain, &command.hash)).collect();
            match network.send(chain, commands, now) {
                Ok(_) => {}
                Err(_) if !is_known.contains(&false) && lock(&self.trouble).takes_again() => {}
                Err(refusal) => return Err(refusal),
            }
            for (command, _) in commands.iter().zip(is_known).filter(|(_, is_known)| !is_known) {
                let fate = lock(&self.trouble).of_command();
                suffer(&mut network, chain, &command.hash, fate, now);
                if fate != Some(Fault::LostCommand) {
                    news.push((command, fate));
                }
            }
        }
        for peer in self.peers(node) {
            let mut network = self.network(peer);
            for (command, fate) in &news {
                // It may refuse what it sees otherwise.
                if network.send(chain, std::slice::from_ref(*command), now).is_ok() {
                    suffer(&mut network, chain, &command.hash, *fate, now);
                }
            }
        }
        Ok(commands.iter().map(|command| command.hash).collect())
    }

    /// The other nodes of a node's group.
    fn peers(&self, node: usize) -> Vec<usize> {
        let states = lock(&self.states);
        let is_peer = |peer: &usize| {
            *peer != node && !states[*peer].is_down && states[*peer].group == states[node].group
        };
        (0..states.len()).filter(is_peer).collect()
    }
}

/// Does to a command that was just taken what its fate is.
fn suffer(network: &mut Network, chain: ChainId, key: &Hash, fate: Option<Fault>, now: i64) {
    match fate {
        Some(Fault::LostCommand) => network.forget(chain, key),
        Some(Fault::BadList) => network.bad_list(chain, key, now),
        Some(Fault::Stuck) => network.hold(chain, key),
        Some(Fault::FailedCommand) => network.fail(chain, key),
        _ => {}
    }
}

/// The number that a node puts in what it makes.
fn maker(node: usize) -> u32 {
    u32::try_from(node).unwrap_or(u32::MAX)
}

/// Nothing panics while it holds a lock; if something did, going on is better than to stop every caller.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
