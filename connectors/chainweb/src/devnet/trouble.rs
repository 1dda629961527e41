//! What goes wrong when: decides by chance, and takes note.

use crate::graph::{ChainId, Graph};

use super::dice::Dice;
use super::faults::{Fault, Faults};

/// The sequences of chance: the network's, the commands', and those of each node's answers from here on.
const NETWORK: u64 = 0;
const COMMANDS: u64 = 1;
const ANSWERS: u64 = 2;

/// What happens to nodes at the beginning of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The nodes in the list part from the others.
    Part(Vec<usize>),
    Heal,
    Lag {
        node: usize,
        rounds: u64,
    },
    Down {
        node: usize,
        is_down: bool,
    },
    LoseMempool {
        node: usize,
    },
    Restart {
        node: usize,
    },
}

/// The faults of a network and their chances.
pub(super) struct Trouble {
    faults: Faults,
    network: Dice,
    commands: Dice,
    answers: Vec<Dice>,
    /// What ends when, in rounds: at most one a kind and node.
    ends: Vec<(u64, Event)>,
    round: u64,
    /// How often each kind has happened, in the order of [`Fault::all`].
    happened: Vec<u64>,
}

impl Trouble {
    pub(super) fn new(faults: Faults, seed: u64, nodes: usize) -> Self {
        Self {
            faults,
            network: Dice::new(seed, NETWORK),
            commands: Dice::new(seed, COMMANDS),
            answers: (0..nodes as u64).map(|node| Dice::new(seed, ANSWERS + node)).collect(),
            ends: Vec::new(),
            round: 0,
            happened: vec![0; Fault::all().count()],
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn happened(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::all().zip(self.happened.iter().copied())
    }

    pub(super) fn count(&mut self, fault: Fault) {
        self.happened[fault as usize] += 1;
    }

    /// Lets something not end by itself: it has ended.
    pub(super) fn forget_end(&mut self, ended: &Event) {
        self.ends.retain(|(_, event)| event != ended);
    }

    /// What begins and ends in this round.
    pub(super) fn begin_round(&mut self) -> Vec<Event> {
        self.round += 1;
        let round = self.round;
        let mut events: Vec<Event> =
            self.ends.extract_if(.., |(at, _)| *at <= round).map(|(_, event)| event).collect();
        let nodes = self.answers.len() as u64;
        if nodes > 1
            && self.rolls(Fault::Partition)
            && !self.ends.iter().any(|(_, event)| *event == Event::Heal)
        {
            // At least one node on each side: of the numbers of all subsets, neither the first nor the last.
            let side = 1 + self.network.below((1 << nodes) - 2);
            let nodes = (0..self.answers.len()).filter(|node| side >> node & 1 == 1).collect();
            self.begin(&mut events, Fault::Partition, Event::Part(nodes), Event::Heal);
        }
        if self.rolls(Fault::Lag) {
            let node = self.node();
            let rounds = self.size(Fault::Lag);
            self.begin(&mut events, Fault::Lag, Event::Lag { node, rounds }, Event::Lag { node, rounds: 0 });
        }
        if self.rolls(Fault::Down) {
            let node = self.node();
            let (down, up) = (Event::Down { node, is_down: true }, Event::Down { node, is_down: false });
            self.begin(&mut events, Fault::Down, down, up);
        }
        for fault in [Fault::LostMempool, Fault::Restart] {
            if self.rolls(fault) {
                self.count(fault);
                let node = self.node();
                events.push(match fault {
                    Fault::Restart => Event::Restart { node },
                    _ => Event::LoseMempool { node },
                });
            }
        }
        events
    }

    /// Begins something that ends by itself, unless the same is going on.
    fn begin(&mut self, events: &mut Vec<Event>, fault: Fault, begin: Event, end: Event) {
        let rounds = self.size(fault);
        if self.ends.iter().all(|(_, pending)| *pending != end) {
            self.count(fault);
            events.push(begin);
            self.ends.push((self.round + rounds, end));
        }
    }

    /// Which chains are reorganised in this round, how deep, and why.
    pub(super) fn forks(&mut self, graph: Graph) -> Vec<(Fault, ChainId, u64)> {
        let mut forks = Vec::new();
        if self.faults.has(Fault::Orphans) {
            let chains = graph.chains().filter(|_| self.rolls(Fault::Orphans));
            forks.extend(chains.map(|chain| (Fault::Orphans, chain, 1)));
        }
        if self.rolls(Fault::Reorganize) {
            let chain = self.network.below(u64::from(graph.order()));
            let depth = self.size(Fault::Reorganize);
            forks.push((Fault::Reorganize, ChainId(u32::try_from(chain).unwrap_or(0)), depth));
        }
        forks
    }

    /// Whether the blocks that come instead of others have their commands too.
    pub(super) fn are_mined_again(&mut self) -> bool {
        self.network.below(2) == 0
    }

    /// What becomes of a command that was taken.
    pub(super) fn of_command(&mut self) -> Option<Fault> {
        let faults = [Fault::LostCommand, Fault::BadList, Fault::Stuck, Fault::FailedCommand];
        let fault = faults
            .into_iter()
            .find(|fault| self.faults.has(*fault) && self.commands.hits(self.faults.rate(*fault)));
        fault.inspect(|fault| self.count(*fault))
    }

    /// Whether a command that is known is taken again.
    pub(super) fn takes_again(&mut self) -> bool {
        let rate = self.faults.rate(Fault::TakenAgain);
        let takes = rate > 0 && self.commands.hits(rate);
        if takes {
            self.count(Fault::TakenAgain);
        }
        takes
    }

    /// What becomes of the answer to a request.
    pub(super) fn of_answer(&mut self, node: usize) -> Option<Fault> {
        let dice = self.answers.get_mut(node)?;
        let faults = &self.faults;
        let fault = Fault::of_answers().find(|fault| faults.has(*fault) && dice.hits(faults.rate(*fault)));
        fault.inspect(|fault| self.count(*fault))
    }

    /// A number below `count`, for the details of an answer.
    pub(super) fn below(&mut self, node: usize, count: u64) -> u64 {
        self.answers.get_mut(node).map_or(0, |dice| dice.below(count))
    }

    fn rolls(&mut self, fault: Fault) -> bool {
        self.faults.has(fault) && self.network.hits(self.faults.rate(fault))
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.network.below(self.answers.len() as u64)).unwrap_or(0)
    }

    fn size(&mut self, fault: Fault) -> u64 {
        let size = self.faults.size(fault);
        size.start() + self.network.below(size.end() - size.start() + 1)
    }
}
