//! What is done to the pipeline while it works, in an order that a seed decides.
//!
//! A plan is made before anything begins; so a seed says what happens, and only the machine says how long it takes. Each
//! action waits for what it needs (a process that nobody has, the one broker) and undoes what it did.

mod act;

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

pub use self::act::{Locks, Scene, perform};
use crate::proxy::{Direction, Fault, Strike};
use crate::servers::Outage;

/// The stages, in their order.
pub const STAGES: [&str; 5] = ["ingest", "dedup", "batch", "anchor", "prove"];

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL to a stage, anywhere.
    Kill,
    /// A stage dies at a named point of its commit.
    Crash,
    /// A stage is stopped for longer than its session lasts, and goes on.
    Pause,
    /// The same at a named point of its commit.
    PausePoint,
    /// The broker ends, is killed, or stands still.
    Broker,
    /// The end of a transaction arrives late, in the next one.
    LateEnd,
    /// A link is cut, swallows, delays, holds, resets.
    Link,
    /// Processes of a stage come and go every few seconds.
    Storm,
    /// A stage works longer on what it took than it may.
    Stall,
    /// The catalog is away or slow.
    Catalog,
    /// The node of the chain is away.
    Chain,
    /// Two processes in one place.
    Twins,
    /// Dedup reads its state back, again and again.
    Restore,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Kill,
        Self::Crash,
        Self::Pause,
        Self::PausePoint,
        Self::Broker,
        Self::LateEnd,
        Self::Link,
        Self::Storm,
        Self::Stall,
        Self::Catalog,
        Self::Chain,
        Self::Twins,
        Self::Restore,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::PausePoint => "pause-point",
            Self::Broker => "broker",
            Self::LateEnd => "late-end",
            Self::Link => "link",
            Self::Storm => "storm",
            Self::Stall => "stall",
            Self::Catalog => "catalog",
            Self::Chain => "chain",
            Self::Twins => "twins",
            Self::Restore => "restore",
        }
    }

    /// Whether it needs a program with fault points.
    pub const fn needs_points(self) -> bool {
        matches!(self, Self::Crash | Self::PausePoint | Self::Stall)
    }

    /// About how often it happens; kills are counted instead.
    const fn every(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kill => 0,
            Self::Link => 12,
            Self::LateEnd => 15,
            Self::Crash | Self::Pause => 25,
            Self::PausePoint | Self::Restore => 40,
            Self::Broker | Self::Storm | Self::Stall | Self::Catalog | Self::Chain => 50,
            Self::Twins => 80,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Kills a process of the stage; it is away for so long.
    Kill {
        /// The stage.
        stage: &'static str,
        /// How long it is away.
        down: Duration,
    },
    /// Lets a process of the stage die at a point.
    Crash {
        /// The stage.
        stage: &'static str,
        /// The point.
        point: &'static str,
        /// How often it passes there before.
        after: u32,
    },
    /// Stops a process of the stage for so long.
    Pause {
        /// The stage.
        stage: &'static str,
        /// How long.
        span: Duration,
    },
    /// Stops a process of the stage at a point for so long.
    PausePoint {
        /// The stage.
        stage: &'static str,
        /// The point.
        point: &'static str,
        /// How long.
        span: Duration,
    },
    /// Lets the stage's thread sleep in its work for so long, while the process lives on.
    Stall {
        /// The stage.
        stage: &'static str,
        /// How long.
        span: Duration,
    },
    /// Takes the broker away for so long.
    Broker(Outage, Duration),
    /// Holds back the next end of a transaction of the stage.
    LateEnd {
        /// The stage.
        stage: &'static str,
    },
    /// Does something to a link for so long.
    Link {
        /// The link.
        link: &'static str,
        /// What.
        fault: Fault,
        /// How long.
        span: Duration,
    },
    /// Strikes a link once.
    Strike {
        /// The link.
        link: &'static str,
        /// How.
        strike: Strike,
    },
    /// Adds a process to the stage and takes one out, so many times.
    Storm {
        /// The stage.
        stage: &'static str,
        /// How often.
        rounds: u32,
    },
    /// Takes the catalog away for so long.
    Catalog(Outage, Duration),
    /// Takes the node of the chain away for so long.
    Chain(Outage, Duration),
    /// Starts a second process in the place of another, and ends it after so long.
    Twins {
        /// The stage.
        stage: &'static str,
        /// How long.
        span: Duration,
    },
}

/// How much is done.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What everything is made of.
    pub seed: u64,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// How many kills, of those kinds that kill.
    pub kills: u32,
    /// How long it goes on.
    pub span: Duration,
    /// How long a session lasts: a pause is longer.
    pub session: Duration,
}

/// The points of a commit where a process can die or stand still, in their order.
pub const POINTS: [&str; 8] = [
    "in_hand",
    "before_begin",
    "after_send",
    "after_send_offsets",
    "before_commit",
    "after_commit",
    "before_apply",
    "before_request",
];

/// The actions of a run, each with its time.
pub fn plan(wanted: &Wanted) -> Vec<(Duration, Action)> {
    let mut dice = StdRng::seed_from_u64(wanted.seed);
    let mut planned = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| wanted.kinds.contains(kind)) {
        let count = match kind {
            Kind::Kill => wanted.kills,
            _ => (wanted.span.as_secs() / kind.every().as_secs()).max(1) as u32,
        };
        for place in 0..count {
            // Spread evenly, with some play, so that each kind meets quiet times and others.
            let at = (f64::from(place) + dice.random_range(0.0..1.0)) / f64::from(count);
            planned.push((wanted.span.mul_f64(at), action(kind, wanted, &mut dice)));
        }
    }
    if wanted.kinds.contains(&Kind::Catalog) && wanted.span >= LONG.0 {
        planned
            .push((wanted.span.mul_f64(dice.random_range(0.3..0.6)), Action::Catalog(Outage::Stop, LONG.1)));
    }
    planned.sort_by_key(|(at, _)| *at);
    planned
}

/// A run of at least the first has the catalog away for the second, once.
const LONG: (Duration, Duration) = (Duration::from_mins(10), Duration::from_mins(2));

fn action(kind: Kind, wanted: &Wanted, dice: &mut StdRng) -> Action {
    let stage = one_of(&STAGES, dice);
    let point = one_of(&POINTS, dice);
    let mut millis = |from, to| Duration::from_millis(dice.random_range(from..to));
    let beyond = wanted.session.mul_f64(1.3) + millis(0, 6_000);
    match kind {
        Kind::Kill => Action::Kill { stage, down: millis(0, 3_000) },
        Kind::Restore => Action::Kill { stage: "dedup", down: millis(0, 200) },
        Kind::Crash => Action::Crash { stage, point, after: dice.random_range(0..20) },
        Kind::Pause => Action::Pause { stage, span: beyond },
        Kind::PausePoint => Action::PausePoint { stage, point, span: beyond },
        Kind::Stall => Action::Stall { stage, span: wanted.session * 4 },
        Kind::Broker => {
            let span = millis(1_000, 8_000);
            match outage(dice) {
                Outage::Pause => Action::Broker(Outage::Pause, span + Duration::from_secs(4)),
                outage => Action::Broker(outage, span),
            }
        }
        Kind::LateEnd => Action::LateEnd { stage },
        Kind::Link => link(dice),
        Kind::Storm => Action::Storm { stage, rounds: dice.random_range(2..5) },
        Kind::Catalog => {
            let span = millis(3_000, 15_000);
            match dice.random_range(0..4) {
                0 => Action::Link { link: "catalog", fault: Fault::Slow(20_000), span },
                _ => Action::Catalog(outage(dice), span),
            }
        }
        Kind::Chain => {
            let span = millis(2_000, 12_000);
            Action::Chain(outage(dice), span)
        }
        Kind::Twins => Action::Twins { stage, span: millis(4_000, 10_000) },
    }
}

fn one_of<T: Copy>(all: &[T], dice: &mut StdRng) -> T {
    *all.choose(dice).expect("no list of kinds is empty")
}

fn outage(dice: &mut StdRng) -> Outage {
    one_of(&[Outage::Stop, Outage::Kill, Outage::Pause], dice)
}

fn link(dice: &mut StdRng) -> Action {
    let link = one_of(&LINKS, dice);
    let span = Duration::from_millis(dice.random_range(500..9_000));
    let way = one_of(&[Direction::ToServer, Direction::ToClient], dice);
    let fault = match dice.random_range(0..7) {
        0 => Fault::Cut,
        1 => Fault::Blackhole,
        2 => Fault::Delay(Duration::from_millis(dice.random_range(20..800))),
        3 => Fault::Slow(dice.random_range(1_000..50_000)),
        4 => Fault::Hold(way),
        5 => return Action::Strike { link, strike: Strike::Reset },
        _ => return Action::Strike { link, strike: Strike::HalfClose(way) },
    };
    Action::Link { link, fault, span }
}

/// The links that have faults: each stage's to the broker, the load's, and those to the catalog and to the chain.
pub const LINKS: [&str; 8] = ["ingest", "dedup", "batch", "anchor", "prove", "load", "catalog", "chain"];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { stage, down } => write!(f, "kill {stage}, away for {down:?}"),
            Self::Crash { stage, point, after } => {
                write!(f, "{stage} is to die at {point} after {after} times")
            }
            Self::Pause { stage, span } => write!(f, "pause {stage} for {span:?}"),
            Self::PausePoint { stage, point, span } => write!(f, "pause {stage} at {point} for {span:?}"),
            Self::Stall { stage, span } => write!(f, "{stage} is to sleep for {span:?}"),
            Self::Broker(outage, span) => write!(f, "broker: {outage:?} for {span:?}"),
            Self::LateEnd { stage } => write!(f, "hold back an end of a transaction of {stage}"),
            Self::Link { link, fault, span } => write!(f, "link {link}: {fault:?} for {span:?}"),
            Self::Strike { link, strike } => write!(f, "link {link}: {strike:?}"),
            Self::Storm { stage, rounds } => write!(f, "processes of {stage} come and go {rounds} times"),
            Self::Catalog(outage, span) => write!(f, "catalog: {outage:?} for {span:?}"),
            Self::Chain(outage, span) => write!(f, "chain: {outage:?} for {span:?}"),
            Self::Twins { stage, span } => write!(f, "a twin of {stage} for {span:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn wanted(seed: u64) -> Wanted {
        let (kinds, span) = (Kind::ALL.to_vec(), Duration::from_secs(300));
        Wanted { seed, kinds, kills: 40, span, session: Duration::from_secs(6) }
    }

    #[test]
    fn a_seed_decides_all_and_another_seed_decides_otherwise() {
        assert_eq!(plan(&wanted(1)), plan(&wanted(1)));
        assert_ne!(plan(&wanted(1)), plan(&wanted(2)));
    }

    #[test]
    fn a_plan_has_the_kills_that_are_wanted_and_every_kind() {
        let plan = plan(&wanted(3));
        let is_kill = |action: &Action| matches!(action, Action::Kill { stage, down } if *stage != "dedup" || *down > Duration::from_millis(200));
        assert!(plan.iter().filter(|(_, action)| is_kill(action)).count() >= 38);
        let texts: BTreeSet<_> = plan
            .iter()
            .map(|(_, action)| format!("{action:?}").split([' ', '(']).next().unwrap().to_owned())
            .collect();
        assert!(texts.len() >= 12, "{texts:?}");
        assert!(plan.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert!(plan.iter().all(|(at, _)| *at <= Duration::from_secs(300)));
    }

    #[test]
    fn only_what_is_wanted_is_planned() {
        let only = Wanted { kinds: vec![Kind::Pause], ..wanted(5) };
        let planned = plan(&only);
        assert!(planned.len() >= 10);
        assert!(
            planned
                .iter()
                .all(|(_, action)| matches!(action, Action::Pause { span, .. } if *span > only.session))
        );
    }
}
