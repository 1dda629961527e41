//! Every effect on the disk fails once, in each way in which it can, and the power is cut at every one of them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use killick_stages::ports::{Log, LogError};
use killick_stages::record::{Output, Partition};
use killick_stages::stage::Part;

use super::disk::Disk;
use super::{Cleanup, EmbeddedLog, Settings, TopicSpec, Worker, segment};
use crate::faults::{Faults, Mode};
use crate::folder::Folder;

const INPUT: &str = "in";
const TRANSACTIONS: u64 = 15;
const SMALL: Settings = Settings { segment_bytes: 800, max_record: 1_000 };

fn topics() -> Vec<TopicSpec> {
    // What was written may go at once, so that old segments are removed all the time.
    let kept =
        [Cleanup::Delete(Duration::from_secs(3_600)), Cleanup::Delete(Duration::ZERO), Cleanup::Compact];
    let topics = [INPUT, "out", "state"].into_iter().zip(kept);
    let spec =
        |(name, cleanup): (&str, _)| TopicSpec { name: name.into(), partitions: 2, cleanup, readers: vec![] };
    topics.map(spec).collect()
}

/// A process that commits one number after the other, is started again when its log ends, and holds what it finds
/// against what it was told.
struct Process<'a> {
    place: &'a Path,
    faults: Faults,
    log: EmbeddedLog,
    worker: Worker,
    /// Transactions that were acknowledged.
    done: u64,
    starts: u32,
    /// Whether it is killed and started again after each failure, or tries again itself.
    is_killed_when_refused: bool,
}

impl<'a> Process<'a> {
    fn start(place: &'a Path, faults: Faults) -> Self {
        let (log, worker) = Self::open(place, &faults).expect("the power is on");
        let (done, starts, is_killed_when_refused) = (0, 1, false);
        Self { place, faults, log, worker, done, starts, is_killed_when_refused }
    }

    /// Opens the log; `None` if the power goes off meanwhile.
    fn open(place: &Path, faults: &Faults) -> Option<(EmbeddedLog, Worker)> {
        let folder = Arc::new(Folder::open(place).unwrap());
        let open = || EmbeddedLog::open_on(Disk { faults: faults.clone() }, &folder, &topics(), SMALL);
        // A fault while it opens is told of, and the next start does not meet it.
        let opened =
            open().or_else(|error| if matches!(error, LogError::Failed(_)) { open() } else { Err(error) });
        if faults.has_fired(Mode::Off) {
            return None;
        }
        let log = opened.unwrap();
        let worker = log.worker("group", &[Partition::new(INPUT, 0)]).unwrap();
        Some((log, worker))
    }

    /// Killed and started again, if the power stays on; else how many transactions were acknowledged.
    fn restart(self) -> Result<Self, u64> {
        let Self { place, faults, log, worker, .. } = self;
        drop((log, worker));
        let (log, worker) = Self::open(place, &faults).ok_or(self.done)?;
        Ok(Self { place, faults, log, worker, starts: self.starts + 1, ..self })
    }

    /// All that was acknowledged, and of the transaction whose end is unclear, if there is one, all or nothing.
    fn check(mut self, unclear: u64) -> Self {
        let committed = self.log.committed("group", &Partition::new(INPUT, 0)).unwrap().unwrap_or(0);
        assert!((self.done..=self.done + unclear).contains(&committed), "{committed} of {}", self.done);
        self.done = committed;
        for output in [0, 1] {
            let partition = Partition::new("out", output);
            let (start, end) = self.log.range(&partition).unwrap();
            assert_eq!(end, self.done, "{partition}");
            let mut next = start;
            while next < end {
                for record in self.log.read(&partition, next, 200).unwrap() {
                    assert_eq!((record.offset, &*record.value), (next, next.to_string().as_bytes()));
                    next += 1;
                }
            }
        }
        let state = self.log.read(&Partition::new("state", 1), 0, 1 << 20).unwrap();
        let state: Vec<_> = state.iter().map(|record| (&*record.key, &*record.value)).collect();
        let newest = (self.done.saturating_sub(3)..self.done).map(|number| (number % 3, number));
        let wanted: Vec<_> = newest.map(|(key, value)| (key.to_string(), format!("{value:0200}"))).collect();
        let wanted: Vec<_> = wanted.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
        assert_eq!(state, wanted);
        self
    }

    fn commit(&mut self) -> Result<(), LogError> {
        let number = self.done;
        let out = |output| Output::new(Partition::new("out", output), "", number.to_string());
        let key = (number % 3).to_string();
        let state = Output::new(Partition::new("state", 1), key, format!("{number:0200}"));
        let part = Part { outputs: vec![out(0), state, out(1)], through: Some(number + 1) };
        self.worker.commit(&[(Partition::new(INPUT, 0), part)])?;
        self.done += 1;
        Ok(())
    }

    /// Works to the end, or until the power goes off; then how many transactions were acknowledged.
    fn run(mut self) -> Result<Self, u64> {
        while self.done < TRANSACTIONS {
            match self.commit() {
                Ok(()) => {}
                Err(_) if self.faults.has_fired(Mode::Off) => return Err(self.done),
                // Nothing was left, neither here nor in what another start would find.
                Err(LogError::Failed(_)) if self.is_killed_when_refused => self = self.restart()?.check(0),
                Err(LogError::Failed(_)) => self = self.check(0),
                Err(LogError::Damaged(_)) => self = self.restart()?.check(1),
                Err(other) => panic!("{other}"),
            }
        }
        if self.faults.has_fired(Mode::Off) { Err(self.done) } else { Ok(self) }
    }
}

#[test]
fn whatever_effect_fails_each_transaction_is_there_once_and_whole() {
    for (mode, is_killed_when_refused) in
        [Mode::Before, Mode::Half, Mode::After].into_iter().flat_map(|mode| [(mode, false), (mode, true)])
    {
        let mut ends = 0;
        for effect in 1.. {
            let place = tempfile::tempdir().unwrap();
            let faults = Faults::at(&[(effect, mode)]);
            let process = Process { is_killed_when_refused, ..Process::start(place.path(), faults.clone()) };
            let process = process.run().expect("the power stays on");
            ends += process.starts - 1;
            let process = process.restart().expect("the power stays on").check(0);
            assert_eq!(process.done, TRANSACTIONS, "{mode:?} at effect {effect}");
            if faults.0.lock().unwrap().count < effect {
                assert!(effect > 60, "only {effect} effects");
                break;
            }
            assert!(faults.has_fired(mode) || faults.has_fired(Mode::Before) || mode == Mode::Half);
        }
        // Each transaction had a sync that failed, and that ends the log for the process.
        assert!(u64::from(ends) >= TRANSACTIONS, "{mode:?}: only {ends} failures ended the log");
    }
}

/// What is not durable may be there, in part, as nulls, or not at all.
fn lose_power(folder: &Path, durable: &BTreeMap<u64, u64>, way: usize) {
    for number in segment::list(folder).unwrap() {
        let file = OpenOptions::new().write(true).open(segment::path(folder, number)).unwrap();
        let (ino, len) = {
            let data = file.metadata().unwrap();
            (data.ino(), data.len())
        };
        let durable = durable.get(&ino).copied().unwrap_or(0);
        assert!(durable > 0, "a segment had its name before it was durable");
        if len > durable {
            let lost = usize::try_from(len - durable).unwrap();
            match way {
                0 => file.set_len(durable).unwrap(),
                1 => file.write_all_at(&vec![0; lost], durable).unwrap(),
                2 => file.write_all_at(&vec![0; lost / 2], durable).unwrap(),
                3 => file.set_len(len - 1).unwrap(),
                _ => {}
            }
        }
    }
}

#[test]
fn wherever_the_power_is_cut_what_was_acknowledged_is_there_and_whole() {
    for earlier in [None, Some(Mode::Before), Some(Mode::Half), Some(Mode::After)] {
        let cuts = (1..).flat_map(|effect| (0..5).map(move |way| (effect, way)));
        for (torn, (effect, way)) in cuts.enumerate() {
            let place = tempfile::tempdir().unwrap();
            // The first start makes the folder: a cut in it leaves no process that could have acknowledged anything.
            drop(Process::start(place.path(), Faults::none()));
            let faults = Faults::none();
            let process = Process::start(place.path(), faults.clone());
            {
                // Also soon after something else went wrong.
                let mut plan = faults.0.lock().unwrap();
                let first = plan.count + effect;
                plan.faults = earlier.map(|mode| (first, mode)).into_iter().collect();
                plan.faults.push((first + earlier.map_or(0, |_| 1 + way), Mode::Off));
            }
            let Err(done) = process.run() else {
                assert!(effect > 40 && torn > 200, "{effect} effects, {torn} torn");
                break;
            };
            let durable = std::mem::take(&mut faults.0.lock().unwrap().durable);
            lose_power(&place.path().join("log"), &durable, way);
            let process = Process { done, ..Process::start(place.path(), Faults::none()) };
            let process = process.check(1).run().and_then(Process::restart).expect("the power stays on");
            assert_eq!(process.check(0).done, TRANSACTIONS, "cut at effect {effect}, way {way}");
        }
    }
}
