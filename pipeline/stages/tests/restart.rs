//! Anchor and prove, dying at every point: before and after each step, commit, effect and answer. What was sent for an attempt, and
//! what is told in the end, is byte for byte what it is without a death.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::{BTreeMap, VecDeque};

use killick_proof::Algorithm;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_stages::anchor::{Anchor, Config};
use killick_stages::deployment::{self, Deployment};
use killick_stages::frame::AnchorFrame;
use killick_stages::ports::Balance;
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::span::Span;
use killick_stages::stage::{Answer, Part, Request, Stage};
use support::chain::{NETWORK, SimChain};
use support::story::Story;
use support::world::{Faults, Sim, prove_config};
use support::{Dice, SECOND, START};

const CHAIN: u32 = 4;
/// The world moves in steps of this length; a block comes with every eighth.
const STEP: Micros = 5 * SECOND;
const BLOCK: i64 = 8;
/// The last step: all is over then.
const END: i64 = 204;

fn deployment() -> Deployment {
    let name = "sim.example".into();
    let config = deployment::Config {
        name,
        logs: 2,
        network: NETWORK.into(),
        chains: vec![CHAIN],
        ..Default::default()
    };
    Deployment::new(&config).unwrap()
}

fn stage() -> Anchor {
    let config = Config {
        interval: Span::secs(5),
        poll: Span::secs(5),
        ttl: Span::secs(120),
        depth: 2,
        watch: 3,
        ..Config::default()
    };
    let keys = [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]));
    Anchor::new(&deployment(), &config, keys.into()).unwrap()
}

fn input() -> Partition {
    Partition::new("checkpoints", 0)
}

/// The anchor stage in a world that goes the same way every time, but for one death.
struct Run {
    stage: Anchor,
    chain: SimChain,
    now: i64,
    /// What stands in the log: the input, the state, and what was put out.
    checkpoints: Vec<Output>,
    times: Vec<Micros>,
    state: Vec<Output>,
    anchors: Vec<Output>,
    /// How far the input is done, and how far it is stepped.
    committed: usize,
    stepped: usize,
    asked: VecDeque<(Request, i64)>,
    alarms: Vec<Box<str>>,
    points: usize,
    death: usize,
}

impl Run {
    /// All of it, with a death at this point.
    fn with_death_at(death: usize) -> Self {
        let mut run = Self {
            stage: stage(),
            chain: SimChain::new(CHAIN, START),
            now: 0,
            checkpoints: Vec::new(),
            times: Vec::new(),
            state: Vec::new(),
            anchors: Vec::new(),
            committed: 0,
            stepped: 0,
            asked: VecDeque::new(),
            alarms: Vec::new(),
            points: 0,
            death,
        };
        run.live();
        for now in 0..=END {
            run.now = now;
            run.happen();
            while run.act() {}
        }
        run
    }

    fn time(&self) -> Micros {
        START + self.now * STEP
    }

    /// What the world does, whoever lives.
    fn happen(&mut self) {
        // A mempool that forgets the first interval once, and the second until its command is dead.
        if self.now == 8 || (62..=100).contains(&self.now) {
            self.chain.forget();
        }
        self.chain.fails = self.now == 136;
        if self.now > 0 && self.now % BLOCK == 0 {
            self.chain.mine(self.time(), &mut Dice::new(0), false);
        }
        match self.now {
            // The block that has the first interval is orphaned; and the next one, deep as it is by then, when its command is dead.
            17 => self.chain.orphan(1),
            41 => self.chain.orphan(3),
            0 => [0, 1].into_iter().for_each(|log| self.checkpoint(log, 3)),
            60 => [0, 1].into_iter().for_each(|log| self.checkpoint(log, 5)),
            130 => self.checkpoint(1, 8),
            _ => {}
        }
    }

    fn checkpoint(&mut self, log: u32, size: u64) {
        let deployment = deployment();
        let origin = deployment.origin(log).unwrap();
        let signer = SignerKey::new(origin, SecretKey::from_seed(&[9; 32])).unwrap();
        let root = Algorithm::Sha256.digest(format!("{origin} {size}").as_bytes());
        let note = Checkpoint { origin, size, root, extensions: "" }.sign(&signer).unwrap();
        self.append(Output::new(input(), origin.to_owned(), note));
    }

    fn append(&mut self, record: Output) {
        self.checkpoints.push(record);
        self.times.push(self.time());
    }

    /// A point where it may die. Whether it did: then it lives again, with what the log has.
    fn dies(&mut self) -> bool {
        self.points += 1;
        let dies = self.points == self.death;
        if dies {
            self.live();
        }
        dies
    }

    fn live(&mut self) {
        self.stage = stage();
        self.asked.clear();
        self.stepped = self.committed;
        self.stage.assign(&input(), self.committed as u64);
        for (offset, state) in (0..).zip(&self.state) {
            self.stage.restore(&record(state, offset, START)).unwrap();
        }
        self.ask();
    }

    fn ask(&mut self) {
        for (_, request) in self.stage.requests() {
            let after = match &request {
                Request::Look { after, .. } | Request::Balance { after, .. } => after.as_micros() as Micros,
                _ => 0,
            };
            self.asked.push_back((request, self.now + after / STEP));
        }
    }

    /// Does one thing that is due now, if any is.
    fn act(&mut self) -> bool {
        let due = self.asked.iter().position(|(_, due)| *due <= self.now);
        if let Some(next) = self.checkpoints.get(self.stepped) {
            let record = record(next, self.stepped as u64, self.times[self.stepped]);
            let mut part = Part::default();
            self.stage.step(&record, &mut part).unwrap();
            self.stepped += 1;
            self.commit(part);
        } else if let Some(due) = due {
            let (request, _) = self.asked.remove(due).unwrap();
            let answer = self.perform(&request);
            if self.dies() {
                return true;
            }
            let mut part = Part::default();
            self.stage.answer(&input(), answer, &mut part).unwrap();
            self.commit(part);
        } else if self.stage.tick_due(&input()).is_some_and(|due| due <= self.time()) {
            self.append(Output::tick(input()));
        } else {
            return false;
        }
        true
    }

    fn commit(&mut self, mut part: Part) {
        self.stage.seal(&input(), &mut part).unwrap();
        if self.dies() {
            return;
        }
        for output in part.outputs {
            match output.partition.topic.as_str() {
                "anchor-log" => self.state.push(output),
                "anchors" => self.anchors.push(output),
                other => panic!("{other}"),
            }
        }
        self.committed = part.through.map_or(self.committed, |through| through as usize);
        if self.dies() {
            return;
        }
        self.alarms.extend(self.stage.alarms().into_iter().map(|(_, why)| why));
        self.ask();
        self.dies();
    }

    fn perform(&mut self, request: &Request) -> Answer {
        match request {
            Request::Send { key, command, .. } => {
                let sent = self.chain.send(key, command, &mut Dice::new(0), false);
                Answer::Sent(key.clone(), sent)
            }
            Request::Look { keys, depth, .. } => Answer::Seen(keys.clone(), self.chain.look(keys, *depth)),
            Request::Balance { account, .. } => Answer::Balance(account.clone(), Balance::Units(1 << 60)),
            other => panic!("{other:?}"),
        }
    }
}

fn record(output: &Output, offset: u64, append_time: Micros) -> Record {
    Record {
        partition: output.partition.clone(),
        offset,
        append_time,
        key: output.key.clone(),
        value: output.value.clone(),
        headers: output.headers.clone(),
    }
}

#[test]
fn an_anchor_that_dies_at_any_point_sends_and_tells_the_same_bytes() {
    let alive = Run::with_death_at(0);
    // The story has all that it should: versions by interval, and how many commands there were.
    let mut versions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for output in &alive.anchors {
        let frame = AnchorFrame::decode(&output.value).unwrap();
        versions.entry(frame.interval.to_string()).or_default().push(frame.version);
    }
    let versions: Vec<_> = versions.into_values().collect();
    assert_eq!(versions, [vec![1, 1, 2, 2], vec![1, 1], vec![1]]);
    assert_eq!(alive.chain.sent.len(), 6, "two commands for each interval");
    assert_eq!(alive.alarms.len(), 1, "{:?}", alive.alarms);
    assert_eq!(alive.chain.too_soon, 0);
    for death in 1..=alive.points {
        let run = Run::with_death_at(death);
        assert_eq!(run.chain.sent, alive.chain.sent, "death at {death}");
        assert_eq!(run.anchors, alive.anchors, "death at {death}");
        assert_eq!(run.checkpoints, alive.checkpoints, "death at {death}");
        // The state that counts is the last of each key.
        let last = |run: &Run| {
            run.state.iter().map(|state| (state.key.clone(), state.value.clone())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(last(&run), last(&alive), "death at {death}");
    }
}

/// A log that prove works off, dying at an answer: before what came of it is committed, or after. How many answers there were.
fn told(story: &mut Story, death: Option<(usize, bool)>) -> usize {
    story.step("batches").unwrap();
    story.step("anchors").unwrap();
    for answers in 1.. {
        let is_in_vain = death == Some((answers, false));
        let is_more =
            if is_in_vain { story.answer_in_vain() } else { story.answer(|answer| answer).unwrap() };
        if death.is_some_and(|(at, _)| at == answers) {
            story.crash();
        } else if !is_more {
            return answers;
        }
    }
    unreachable!("there are not so many answers")
}

fn story() -> Story {
    let mut sim = Sim::new(3, Faults::default());
    sim.run(60).unwrap();
    Story::of(sim, prove_config())
}

#[test]
fn a_prove_that_dies_at_any_answer_tells_the_same() {
    let mut alive = story();
    let answers = told(&mut alive, None);
    assert!(alive.is_complete() && alive.told.len() > 3 && !alive.receipts.is_empty());
    for death in 1..answers {
        for is_committed in [false, true] {
            let mut story = story();
            told(&mut story, Some((death, is_committed)));
            assert_eq!(story.told, alive.told, "death at {death}, committed: {is_committed}");
            assert_eq!(story.receipts, alive.receipts, "death at {death}, committed: {is_committed}");
        }
    }
}
