//! How old the oldest is of what was taken and is not done.

use std::collections::VecDeque;

use killick_stages::record::Micros;

/// What came within so much log time of another counts as old as that.
const STEP: Micros = 100_000;
/// Times that are kept of one partition; of more, every other one goes, and what it stood for counts as old as the one before.
const MOST: usize = 256;

/// What was taken of one sequence, such as a partition's records, and is not done. Never says that something is younger than it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// The first place that each time stands for; it stands for those up to the next one.
    waiting: VecDeque<(u64, Micros)>,
    /// Behind the last place that was taken.
    end: u64,
    /// The time of the last that was taken.
    last: Option<Micros>,
    /// What stands below is done.
    done: u64,
}

impl Progress {
    /// Takes what stands at `place`; places ascend.
    pub fn take(&mut self, place: u64, time: Micros) {
        self.pass(place, time);
        if self.waiting.back().is_none_or(|(_, newest)| time >= newest.saturating_add(STEP)) {
            self.waiting.push_back((place, time));
        }
        if self.waiting.len() > MOST {
            let mut keeps = [true, false].into_iter().cycle();
            self.waiting.retain(|_| keeps.next().unwrap_or(true));
        }
    }

    /// Takes what stands at `place` and holds nothing that could wait.
    pub fn pass(&mut self, place: u64, time: Micros) {
        self.end = self.end.max(place.saturating_add(1));
        self.last = self.last.max(Some(time));
    }

    /// What stands below `end` is done.
    pub fn done(&mut self, end: u64) {
        self.done = self.done.max(end);
        if end >= self.end {
            self.waiting.clear();
        }
        while self.waiting.get(1).is_some_and(|(next, _)| *next <= end) {
            self.waiting.pop_front();
        }
    }

    /// Learns of what stands at `place`, before all that was taken; of what was done since it was asked for there is nothing to learn.
    pub fn learn(&mut self, place: u64, time: Micros) {
        if place >= self.done && self.first().is_none_or(|first| place < first) {
            self.waiting.push_front((place, time));
            self.pass(place, time);
        }
    }

    /// The time of the oldest that waits.
    pub fn oldest(&self) -> Option<Micros> {
        self.waiting.front().map(|(_, time)| *time)
    }

    /// The first place that a time is known for.
    pub fn first(&self) -> Option<u64> {
        self.waiting.front().map(|(place, _)| *place)
    }

    /// Behind the last place that was taken.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The time of the last that was taken.
    pub fn last(&self) -> Option<Micros> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_done_leaves_the_oldest_of_the_rest() {
        let mut progress = Progress::default();
        assert_eq!(progress.oldest(), None);
        progress.take(4, 1_000_000);
        progress.take(5, 1_000_001);
        progress.take(9, 2_000_000);
        progress.done(5);
        assert_eq!(progress.oldest(), Some(1_000_000), "5 counts as old as 4");
        progress.done(9);
        assert_eq!(progress.oldest(), Some(2_000_000));
        progress.done(10);
        assert_eq!((progress.oldest(), progress.last()), (None, Some(2_000_000)));
    }

    #[test]
    fn what_was_there_before_is_learnt_once() {
        let mut progress = Progress::default();
        progress.learn(7, 5);
        progress.take(9, 1_000_000);
        progress.learn(8, 6);
        assert_eq!((progress.first(), progress.oldest()), (Some(7), Some(5)));
        progress.done(10);
        progress.learn(9, 7);
        assert_eq!(progress.oldest(), None);
    }

    proptest! {
        #[test]
        fn nothing_that_waits_is_older_than_what_is_said(
            gaps in prop::collection::vec((1_u64..5, 0_i64..400_000), 1..1_000),
            dones in prop::collection::vec(0_usize..1_000, 0..20),
        ) {
            let mut progress = Progress::default();
            let (mut place, mut time) = (0, 0);
            let mut records = Vec::new();
            for (gap, pause) in gaps {
                (place, time) = (place + gap, time + pause);
                progress.take(place, time);
                records.push((place, time));
                prop_assert!(progress.waiting.len() <= MOST);
            }
            let mut dones: Vec<_> = dones.into_iter().map(|at| at % (records.len() + 1)).collect();
            dones.sort_unstable();
            for done in dones {
                progress.done(records.get(done).map_or(u64::MAX, |(place, _)| *place));
                let oldest = records.get(done).map(|(_, time)| *time);
                prop_assert!(progress.oldest().is_some() == oldest.is_some());
                prop_assert!(progress.oldest() <= oldest);
            }
        }
    }
}
