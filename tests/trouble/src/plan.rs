//! What a seed decides.

use chainweb::Graph;
use chainweb::devnet::{Fault, Faults};
use killick_sim::Dice;

/// What a scenario is about. Each has a bit of everything, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A bit of everything, at a higher rate.
    Everything,
    /// Blocks that were deep are lost.
    Deep,
    /// Nodes part, lag and differ.
    Parted,
    /// All nodes are away for hours, and commands expire.
    Away,
    /// Workers die, and lose partitions without knowing.
    Zombies,
    /// A command that was dead for certain comes back, on a branch that one node did not know.
    Revival,
    /// One worker dies at one boundary of a short story, in which all else is as it was without that.
    Point(Story),
}

/// A short story, always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// Nothing goes wrong.
    Calm,
    /// Commands are taken and forgotten until they expire.
    Expiry,
    /// Blocks are lost before they are deep.
    Orphans,
    /// A block is lost after it was deep.
    Deep,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Calm, Self::Expiry, Self::Orphans, Self::Deep];
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What decides the rest.
    pub seed: u64,
    /// What it is about.
    pub family: Family,
    /// The chains of the network.
    pub graph: Graph,
    /// Its nodes.
    pub nodes: usize,
    /// Chains that are anchored on.
    pub chains: u32,
    /// Logs.
    pub logs: u32,
    /// Blocks above a command's that make it final.
    pub depth: u64,
    /// Blocks above those for which it is looked after.
    pub watch: u64,
    /// How long commands live, in seconds.
    pub ttl: u64,
    /// Seconds between looks.
    pub poll: u64,
    /// Seconds that an interval takes.
    pub interval: u64,
    /// Seconds between blocks.
    pub block_time: u64,
    /// Intervals of one chain that wait at the same time.
    pub in_flight: usize,
    /// Batches that are made.
    pub batches: u64,
    /// Whether receipts are published too.
    pub receipts: bool,
    /// Whether who pays has nothing, until workers are given another key for the end.
    pub is_poor: bool,
    /// Whether a worker that starts anew may be configured otherwise.
    pub is_changed: bool,
    /// What goes wrong on the network and with answers by chance.
    pub faults: Faults,
    /// In a thousand: a worker dies at a boundary.
    pub crash: u64,
    /// In a thousand: a worker that died asks the nodes anew, and does not use the connections that it has.
    pub reopen: u64,
    /// In a thousand: an answer is lost on the way to the stage.
    pub lost: u64,
    /// In a thousand turns: a partition moves to another worker.
    pub moves: u64,
    /// In a thousand moves: who had it does not hear of that for a while.
    pub deaf: u64,
    /// In a thousand blocks: blocks are lost that were deep.
    pub deep: u64,
    /// In a thousand blocks: the nodes part for longer than blocks take to be deep.
    pub parted: u64,
    /// In a thousand blocks: a command is held to be hopeless by a node, or forgotten by all.
    pub forgotten: u64,
    /// In a thousand blocks: all nodes are away for long, or the ways to them.
    pub away: u64,
}

/// The faults of a network that goes on all the same. What waits, waits for milliseconds: so no scenario takes long.
const SPANS: &str = "pause=1ms,hang=2ms";
const MILD: &str = "orphans=5%,reorganize=1-2@2%,lag=1-3@2%,down=1-3@2%,lost-mempool=2%,restart=2%,lost-command=3%,\
    bad-list=1%,stuck=2%,failed-command=4%,taken-again=50%";
const ANSWERS: &str = "http-500=2%,http-502=1%,http-503=1%,reset=1%,lost-answer=2%,no-answer=0.3%,cut-answer=1%,delay=0.3%,\
    slow=0.05%,truncated=1%,html=1%,content-type=1%,huge=0.02%";

impl Plan {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let family = match seed % 8 {
            0 => Family::Everything,
            1 => Family::Deep,
            2 => Family::Parted,
            3 => Family::Away,
            4 => Family::Zombies,
            5 => Family::Revival,
            // Which point it is, the run decides.
            _ => return Self::of_story(Story::Calm),
        };
        let graphs =
            [Graph::Pair, Graph::Pair, Graph::Triangle, Graph::Triangle, Graph::Petersen, Graph::Twenty];
        let graph = graphs[pick(&mut dice, graphs.len())];
        let depth = 2 + dice.below(3);
        let mut plan = Self {
            seed,
            family,
            graph,
            nodes: 1 + pick(&mut dice, 3),
            chains: 1 + u32::from(dice.chance(400)),
            logs: 1 + u32::from(dice.chance(500)),
            depth,
            watch: depth + 8 + dice.below(4),
            ttl: 120 + 60 * dice.below(3),
            poll: 4 + dice.below(6),
            interval: 10 + dice.below(30),
            block_time: 8 + dice.below(16),
            in_flight: 1 + pick(&mut dice, 4),
            batches: 3 + dice.below(6),
            receipts: dice.chance(200),
            is_poor: dice.chance(100),
            is_changed: dice.chance(300),
            faults: faults(&[MILD, ANSWERS, SPANS]),
            crash: 2,
            reopen: 250,
            lost: 30,
            moves: 10,
            deaf: 300,
            deep: 0,
            parted: 5,
            forgotten: 20,
            away: 5,
        };
        plan.shape();
        plan
    }

    fn shape(&mut self) {
        match self.family {
            Family::Everything => {
                let heavy = "reorganize=1-4@5%,http-500=8%,lost-answer=5%,reset=4%,stuck=5%,lost-command=8%";
                self.faults = faults(&[MILD, ANSWERS, heavy, SPANS]);
                (self.crash, self.deep) = (8, 10);
            }
            Family::Deep => self.deep = 120,
            Family::Parted => {
                self.nodes = self.nodes.max(2);
                let parted = "partition=1-4@5%,lag=1-6@6%,down=1-6@6%";
                self.faults = faults(&[MILD, ANSWERS, parted, SPANS]);
                self.parted = 60;
            }
            Family::Away => self.away = 60,
            Family::Zombies => (self.crash, self.moves, self.deaf, self.lost) = (15, 80, 700, 100),
            Family::Revival => {
                self.nodes = self.nodes.max(2);
                self.faults = Faults::none();
                (self.parted, self.away, self.forgotten, self.moves) = (0, 0, 0, 0);
                (self.crash, self.is_poor, self.chains) = (1, false, 1);
                self.depth = self.depth.max(3);
                // The node is alone for long; what it had meanwhile is lost then.
                self.watch = 60;
            }
            Family::Point(_) => {}
        }
    }

    /// A short story without chance: the same always.
    pub fn of_story(story: Story) -> Self {
        Self {
            seed: 0,
            family: Family::Point(story),
            graph: Graph::Pair,
            nodes: 1,
            chains: 1,
            logs: 2,
            depth: 2,
            watch: 5,
            ttl: 120,
            poll: 4,
            interval: 12,
            block_time: 8,
            in_flight: 64,
            batches: 3,
            receipts: false,
            is_poor: false,
            is_changed: false,
            faults: Faults::none(),
            crash: 0,
            reopen: 0,
            lost: 0,
            moves: 0,
            deaf: 0,
            deep: 0,
            parted: 0,
            forgotten: 0,
            away: 0,
        }
    }

    /// Whether all that comes in is the same whatever workers do.
    pub fn is_exact(&self) -> bool {
        matches!(self.family, Family::Point(_))
    }

    /// The same without anything that goes wrong by chance: for the rest at the end.
    pub fn at_rest(&self) -> Self {
        let none = Self::of_story(Story::Calm);
        let Self { crash, lost, moves, deaf, deep, parted, forgotten, away, faults, .. } = none;
        Self {
            crash,
            lost,
            moves,
            deaf,
            deep,
            parted,
            forgotten,
            away,
            faults,
            is_changed: false,
            ..self.clone()
        }
    }
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.below(count as u64)).unwrap_or(0)
}

fn faults(parts: &[&str]) -> Faults {
    parts.join(",").parse().expect("the texts above are faults")
}

/// The faults of a plan, with commands that are all taken and forgotten.
pub fn all_lost(faults: &Faults) -> Faults {
    faults.clone().with(Fault::LostCommand, 1_000_000)
}
