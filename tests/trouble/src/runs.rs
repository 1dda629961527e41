//! Many scenarios, and what they add up to.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::bug::Bug;
use crate::judge::Verdict;
use crate::plan::{Family, Plan, Story};
use crate::scenario::{Outcome, Tale, play};

/// Scenarios under which a planted bug has to be caught, at most.
const PATIENCE: u64 = 160;

/// Boundaries between two that are tried one after the other: a prime, so that all come.
const STRIDE: u64 = 7_919;

/// What scenarios add up to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Scenarios.
    pub scenarios: u64,
    /// Intervals that are anchored.
    pub anchors: usize,
    /// The counted, by name.
    pub counted: BTreeMap<&'static str, usize>,
}

impl Sum {
    fn add(&mut self, verdict: &Verdict) {
        self.scenarios += 1;
        self.anchors += verdict.anchors;
        for (name, wrong) in verdict.counted() {
            *self.counted.entry(name).or_default() += wrong.len();
        }
    }

    /// Whether nothing that is counted happened.
    pub fn is_clean(&self) -> bool {
        self.counted.values().all(|count| *count == 0)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scenarios={} anchors={}", self.scenarios, self.anchors)?;
        for name in ["unanchored", "doubled", "above_orphan", "changed_bytes", "alarms_missed"] {
            write!(f, " {name}={}", self.counted.get(name).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}

/// Plays scenarios by their seeds.
pub struct Player {
    runtime: Runtime,
    /// What the short stories are without any death.
    stories: BTreeMap<Story, Told>,
}

/// A short story without any death.
struct Told {
    boundaries: u64,
    attempts: BTreeMap<(String, u64), Bytes>,
}

impl Player {
    /// A player with a thread that serves the nodes.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new() -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().context("no threads")?;
        Ok(Self { runtime, stories: BTreeMap::new() })
    }

    /// Plays the scenario of a seed; its verdict, and what happened in it.
    ///
    /// # Errors
    /// The harness itself failed.
    pub fn play(&mut self, seed: u64, bug: Option<Bug>) -> Result<(Verdict, Tale)> {
        let plan = Plan::of(seed);
        if !matches!(plan.family, Family::Point(_)) {
            let Outcome { verdict, tale, .. } = play(plan, bug, None, self.runtime.handle())?;
            return Ok((verdict, tale));
        }
        // Of eight seeds two are for points: one of each story after another.
        let point = seed / 8 * 2 + seed % 2;
        let story = Story::ALL[usize::try_from(point % 4)?];
        // Far from each other, since many that are next to each other are alike.
        let boundary = (point / 4).wrapping_mul(STRIDE) % self.told(story)?.boundaries;
        self.play_point(story, boundary + 1, bug)
    }

    /// Plays a short story in which a worker dies at a boundary.
    fn play_point(&mut self, story: Story, deadly: u64, bug: Option<Bug>) -> Result<(Verdict, Tale)> {
        let plan = Plan::of_story(story);
        let Outcome { mut verdict, attempts, mut tale, .. } =
            play(plan, bug, Some(deadly), self.runtime.handle())?;
        let told = self.told(story)?;
        for ((interval, number), bytes) in &attempts {
            let without = told.attempts.get(&(interval.clone(), *number));
            // Later attempts depend on what the chain had when it was looked at.
            if without.map_or(*number == 0, |without| without != bytes) {
                let why = format!("{interval}: attempt {number} is another one than without the death");
                verdict.changed_bytes.insert(why);
            }
        }
        tale.short += &format!(", a death at boundary {deadly} of {}", told.boundaries);
        Ok((verdict, tale))
    }

    fn told(&mut self, story: Story) -> Result<&Told> {
        if !self.stories.contains_key(&story) {
            let plan = Plan::of_story(story);
            let Outcome { verdict, attempts, boundaries, .. } =
                play(plan, None, None, self.runtime.handle())?;
            anyhow::ensure!(
                verdict.is_clean(),
                "the story {story:?} is wrong without any death: {verdict:?}"
            );
            self.stories.insert(story, Told { boundaries, attempts });
        }
        self.stories.get(&story).context("it was put there")
    }

    /// Plays scenarios one after another, and tells of each to `each`.
    ///
    /// # Errors
    /// The harness itself failed.
    pub fn run(
        &mut self,
        seeds: std::ops::Range<u64>,
        mut each: impl FnMut(u64, &Verdict, &Tale),
    ) -> Result<Sum> {
        let mut sum = Sum::default();
        for seed in seeds {
            let (verdict, tale) = self.play(seed, None).with_context(|| format!("seed {seed}"))?;
            each(seed, &verdict, &tale);
            sum.add(&verdict);
        }
        Ok(sum)
    }

    /// Lets a worker die at every boundary of the short stories, and tells of each to `each`, with the story and the number
    /// of the boundary.
    ///
    /// # Errors
    /// The harness itself failed.
    pub fn run_points(&mut self, mut each: impl FnMut(&str, &Verdict)) -> Result<Sum> {
        let mut sum = Sum::default();
        for story in Story::ALL {
            for boundary in 1..=self.told(story)?.boundaries {
                let name = format!("{story:?} {boundary}");
                let (verdict, _) = self.play_point(story, boundary, None).with_context(|| name.clone())?;
                each(&name, &verdict);
                sum.add(&verdict);
            }
        }
        Ok(sum)
    }

    /// Plays scenarios with a bug until it is caught: after how many, and by what. `None` if it survives.
    ///
    /// # Errors
    /// The harness itself failed.
    pub fn hunt(&mut self, seed: u64, bug: Bug) -> Result<Option<(u64, String)>> {
        for count in 0..PATIENCE {
            let seed = seed.wrapping_add(count);
            let (verdict, _) = self.play(seed, Some(bug))?;
            if let Some((name, wrong)) = verdict.counted().into_iter().find(|(_, wrong)| !wrong.is_empty()) {
                let first = wrong.first().map_or("", String::as_str);
                return Ok(Some((count + 1, format!("seed {seed}, {name}: {first}"))));
            }
        }
        Ok(None)
    }
}

/// The bugs that can be planted, by name.
pub fn bugs() -> impl Iterator<Item = (&'static str, Bug)> {
    Bug::ALL.into_iter()
}
