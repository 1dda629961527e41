//! The manifests of one stage about one input partition: whether they tile it, and whether they tell the truth.

use crate::manifest::Manifest;
use crate::record::Micros;
use crate::stage::{Sum, Tally};

/// Manifests that are kept apart at the most: beyond, two neighbours become one.
const MOST: usize = 1 << 16;
/// Bytes of the manifests of one stage about one input partition at the most.
pub const MOST_BYTES: usize = MOST * size_of::<Span>();

/// How many events, and which, as told or as found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events taken from the input.
    pub taken: Sum,
    /// Events passed on.
    pub passed: Sum,
    /// Events rejected.
    pub rejected: u64,
    /// Copies.
    pub duplicates: u64,
}

impl Counts {
    fn of(tally: &Tally) -> Self {
        let Tally { taken, passed, rejected, duplicates, batches: _ } = *tally;
        Self { taken, passed, rejected, duplicates }
    }

    fn add(&mut self, more: &Self) {
        self.taken += more.taken;
        self.passed += more.passed;
        self.rejected = self.rejected.saturating_add(more.rejected);
        self.duplicates = self.duplicates.saturating_add(more.duplicates);
    }
}

/// One manifest, or several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first input offset.
    pub from: u64,
    /// The input offset behind the last.
    pub to: u64,
    /// Batches of the log that were done before, where that is known, and after.
    pub batches: (Option<u64>, u64),
    /// The log's time of the first manifest and of the last.
    pub times: (Micros, Micros),
    /// What the manifests tell.
    pub told: Counts,
    /// What was found in the log.
    pub found: Counts,
}

/// What is wrong with a manifest by itself, or behind the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The first manifest there ever was begins here, and not at the first offset there can be.
    Begins(u64),
    /// Nobody tells of these offsets: from the first to before the last.
    Gap(u64, u64),
    /// These offsets were told of before.
    Overlap(u64, u64),
    /// It ends before it begins, or counts fewer batches than before, or its counts do not add up.
    Contradiction(String),
}

/// What was told and what was found differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The first input offset concerned.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
    /// The log's time of the last manifest concerned.
    pub time: Micros,
    /// What differs, with both figures.
    pub why: String,
}

/// From where on what the manifests tell can be held against the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Covered {
    /// Nothing can.
    #[default]
    Nothing,
    /// From this input offset on.
    Offset(u64),
    /// From this batch on.
    Batch(u64),
    /// Manifests that the log took at this time or later.
    Time(Micros),
}

impl Covered {
    fn covers(self, span: &Span) -> bool {
        match self {
            Self::Nothing => false,
            Self::Offset(offset) => span.from >= offset,
            Self::Batch(number) => span.batches.0.is_some_and(|below| below >= number),
            Self::Time(time) => span.times.0 >= time,
        }
    }
}

/// The manifests of one stage about one input partition, in order.
#[derive(Debug, Clone, Default)]
pub struct Track {
    spans: Vec<Span>,
    /// How many manifests there were.
    pub manifests: u64,
    /// Whether nothing came before the first of them.
    pub is_whole: bool,
    /// Whether events taken can be held against the log, and from where on.
    pub taken: Covered,
    /// The same of events passed on, and of copies.
    pub passed: Covered,
    /// The same of events rejected.
    pub rejected: Covered,
}

impl Track {
    /// A track that begins with the first manifest there ever was, or with a later one.
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    /// Takes the next manifest, and says what is wrong with it.
    pub fn add(&mut self, manifest: &Manifest, time: Micros) -> Vec<Flaw> {
        let mut flaws: Vec<Flaw> = contradiction(manifest).map(Flaw::Contradiction).into_iter().collect();
        let last = self.spans.last();
        let (next, done) = last.map_or((None, None), |last| (Some(last.to), Some(last.batches.1)));
        match next {
            Some(next) if manifest.from > next => flaws.push(Flaw::Gap(next, manifest.from)),
            Some(next) if manifest.from < next => {
                flaws.push(Flaw::Overlap(manifest.from, next.min(manifest.to.max(manifest.from + 1))));
            }
            None if self.is_whole && manifest.from > 0 => flaws.push(Flaw::Begins(manifest.from)),
            _ => {}
        }
        let batches = manifest.tally.batches.unwrap_or_default();
        if done.is_some_and(|done| batches < done) {
            let done = done.unwrap_or_default();
            flaws.push(Flaw::Contradiction(format!("{batches} batches were done after {done} had been")));
        }
        // Behind a gap nobody can say which batches are this one's.
        let has_gap = flaws.iter().any(|flaw| matches!(flaw, Flaw::Gap(..) | Flaw::Begins(_)));
        let below = done.or(self.is_whole.then_some(0)).filter(|_| !has_gap);
        // Clipped to ascend, so that every offset and every batch belongs to one span at the most.
        let from = manifest.from.max(next.unwrap_or(0));
        let span = Span {
            from,
            to: manifest.to.max(from),
            batches: (below, batches.max(done.unwrap_or(0))),
            times: (time, time),
            told: Counts::of(&manifest.tally),
            found: Counts::default(),
        };
        self.spans.push(span);
        self.manifests += 1;
        if self.spans.len() > MOST {
            self.join();
        }
        flaws
    }

    /// Makes one span of each two that follow each other.
    fn join(&mut self) {
        let mut joined: Vec<Span> = Vec::with_capacity(self.spans.len() / 2 + 1);
        let mut is_full = true;
        for span in self.spans.drain(..) {
            match joined.last_mut().filter(|last| !is_full && last.to == span.from) {
                Some(last) => {
                    last.to = span.to;
                    last.batches.1 = span.batches.1;
                    last.times.1 = last.times.1.max(span.times.1);
                    last.told.add(&span.told);
                    last.found.add(&span.found);
                    is_full = true;
                }
                None => {
                    joined.push(span);
                    is_full = false;
                }
            }
        }
        self.spans = joined;
    }

    /// The first offset told of, and the one behind the last; `None` without manifests.
    pub fn range(&self) -> Option<(u64, u64)> {
        Some((self.spans.first()?.from, self.spans.last()?.to))
    }

    /// Batches that are done after the last manifest.
    pub fn batches(&self) -> Option<u64> {
        self.spans.last().map(|last| last.batches.1)
    }

    /// The spans, in order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Everything that was told.
    pub fn told(&self) -> Counts {
        let mut all = Counts::default();
        self.spans.iter().for_each(|span| all.add(&span.told));
        all
    }

    /// The span that tells of an input offset.
    pub fn at(&mut self, offset: u64) -> Option<&mut Span> {
        let place = self.spans.partition_point(|span| span.to <= offset);
        self.spans.get_mut(place).filter(|span| span.from <= offset)
    }

    /// The span with which a batch was done.
    pub fn of_batch(&mut self, number: u64) -> Option<&mut Span> {
        let place = self.spans.partition_point(|span| span.batches.1 <= number);
        self.spans.get_mut(place).filter(|span| span.batches.0.is_some_and(|below| below <= number))
    }

    /// What differs, of what is covered.
    pub fn differences(&self) -> impl Iterator<Item = Difference> {
        self.spans.iter().flat_map(|span| {
            let Span { told, found, from, to, times, .. } = span;
            let sum = |name: &str, covered: Covered, told: Sum, found: Sum| {
                let differs = covered.covers(span) && told != found;
                differs.then(|| differing(name, told, found))
            };
            let count = |name: &str, covered: Covered, told: u64, found: u64| {
                let differs = covered.covers(span) && told != found;
                differs.then(|| format!("{told} events are told to be {name}, and the log has {found}"))
            };
            let whys = [
                sum("taken", self.taken, told.taken, found.taken),
                sum("passed on", self.passed, told.passed, found.passed),
                count("rejected", self.rejected, told.rejected, found.rejected),
                count("copies", self.passed, told.duplicates, found.duplicates),
            ];
            let difference = |why| Difference { from: *from, to: *to, time: times.1, why };
            whys.into_iter().flatten().map(difference)
        })
    }
}

fn differing(name: &str, told: Sum, found: Sum) -> String {
    if told.events == found.events {
        return format!("{} events are told to be {name}; the log has as many, but others", told.events);
    }
    format!("{} events are told to be {name}, and the log has {}", told.events, found.events)
}

/// What a manifest says against itself.
fn contradiction(manifest: &Manifest) -> Option<String> {
    let Manifest { from, to, tally, .. } = manifest;
    let Tally { taken, passed, rejected, duplicates, .. } = tally;
    if to < from {
        return Some(format!("it ends at {to}, before it begins"));
    }
    match &*manifest.stage {
        "dedup" => {
            let known = passed.events.saturating_add(*rejected).saturating_add(*duplicates);
            let why = || format!("{} events taken, but a verdict on {known}", taken.events);
            (taken.events != known).then(why)
        }
        "batch" if taken != passed => {
            Some(format!("{} events taken, and {} or others passed on", taken.events, passed.events))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
