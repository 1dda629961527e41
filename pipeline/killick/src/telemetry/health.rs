//! Whether this process lives, has begun, and can do its work: what the probes of a supervisor ask.
//!
//! Only its own loops decide whether it lives. Brokers, a catalog or nodes that are away are waited for, and a process that
//! waits is not to be killed for it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::station::Station;

/// A loop that has not turned for so long hangs: a turn takes milliseconds.
const TURN: Duration = Duration::from_secs(60);
/// The same of a turn that waits for the log: each of these calls has a deadline, and all of them a shorter one.
const CALL: Duration = Duration::from_secs(30 * 60);

/// When a loop turned last, and whether it waits for somebody else.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun`.
    turned: AtomicU64,
    calls: AtomicBool,
}

impl Pulse {
    /// The pulse of a loop that turns now.
    pub fn new() -> Self {
        Self { begun: Instant::now(), turned: AtomicU64::new(0), calls: AtomicBool::new(false) }
    }

    /// The loop turns.
    pub fn beat(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned.store(since, Ordering::Relaxed);
    }

    /// Does what waits for somebody else.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.beat();
        self.calls.store(true, Ordering::Relaxed);
        let outcome = call();
        self.beat();
        self.calls.store(false, Ordering::Relaxed);
        outcome
    }

    /// For how long it has not turned, where that is too long.
    fn hangs(&self, elapsed: Duration) -> Option<Duration> {
        let still = elapsed.saturating_sub(Duration::from_millis(self.turned.load(Ordering::Relaxed)));
        let limit = if self.calls.load(Ordering::Relaxed) { CALL } else { TURN };
        (still > limit).then_some(still)
    }

    fn check(&self) -> Result<(), String> {
        match self.hangs(self.begun.elapsed()) {
            Some(still) => Err(format!("has not turned for {} s", still.as_secs())),
            None => Ok(()),
        }
    }
}

/// What is known of the process.
#[derive(Debug, Default)]
pub struct Health {
    /// The loop that watches over the workers, once there is one.
    main: OnceLock<Pulse>,
    stations: Mutex<Vec<Arc<Station>>>,
    /// Whether all workers that will be are there.
    is_staffed: AtomicBool,
    is_ending: AtomicBool,
    /// What the catalog said when it was last asked, where one is needed.
    catalog: Mutex<Option<Result<(), String>>>,
}

/// One thing that was looked at.
pub struct Check {
    name: String,
    outcome: Result<(), String>,
}

/// What came of a probe.
pub struct Checked {
    /// Whether all is well.
    pub is_ok: bool,
    /// Each check in a line, the failed ones with the reason.
    pub list: String,
}

impl Checked {
    fn new(checks: Vec<Check>) -> Self {
        let mut list = String::new();
        let is_ok = checks.iter().all(|check| check.outcome.is_ok());
        for Check { name, outcome } in checks {
            let line = match outcome {
                Ok(()) => writeln!(list, "[+] {name} ok"),
                Err(why) => {
                    writeln!(list, "[-] {name} failed: {}", crate::cli::shown(&why).replace('\n', "; "))
                }
            };
            line.expect("writing to a string does not fail");
        }
        Self { is_ok, list }
    }
}

impl Health {
    /// The loop that watches over the workers turns.
    pub fn turned(&self) {
        self.main.get_or_init(Pulse::new).beat();
    }

    /// A worker is there.
    pub fn joined(&self, station: Arc<Station>) {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner).push(station);
    }

    /// All workers that will be are there.
    pub fn staffed(&self) {
        self.is_staffed.store(true, Ordering::Relaxed);
    }

    /// The process was told to end.
    pub fn ending(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// What the catalog said.
    pub fn catalog_said(&self, outcome: Result<(), String>) {
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    /// The workers.
    pub fn stations(&self) -> Vec<Arc<Station>> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Whether the process's loops turn. One that ends is left to end.
    pub fn lives(&self) -> Checked {
        let mut checks = Vec::new();
        if !self.is_ending() {
            if let Some(main) = self.main.get() {
                checks.push(Check { name: "main".to_owned(), outcome: main.check() });
            }
            let stations = self.stations();
            let workers = stations.iter();
            checks.extend(
                workers.map(|station| Check {
                    name: station.slot().to_owned(),
                    outcome: station.pulse().check(),
                }),
            );
        }
        Checked::new(checks)
    }

    /// Whether all workers are there, and each has had what it was given, with its state.
    pub fn began(&self) -> Checked {
        let has_begun = |station: &Station| match station.has_begun() {
            true => Ok(()),
            false => station.is_ready().and_then(|()| Err("it begins".to_owned())),
        };
        Checked::new(self.each(has_begun))
    }

    /// Whether every worker can do its work, or stands by for it.
    pub fn is_ready(&self) -> Checked {
        let mut checks = self.each(Station::is_ready);
        if let Some(outcome) = self.catalog.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            checks.push(Check { name: "catalog".to_owned(), outcome });
        }
        Checked::new(checks)
    }

    fn each(&self, check: impl Fn(&Station) -> Result<(), String>) -> Vec<Check> {
        let staffed = match (self.is_ending(), self.is_staffed.load(Ordering::Relaxed)) {
            (true, _) => Err("it was told to end".to_owned()),
            (false, true) => Ok(()),
            (false, false) => Err("it waits for what the workers need; see its log".to_owned()),
        };
        let mut checks = vec![Check { name: "process".to_owned(), outcome: staffed }];
        checks.extend(
            self.stations()
                .iter()
                .map(|station| Check { name: station.slot().to_owned(), outcome: check(station) }),
        );
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_turn_hangs_sooner_than_one_that_waits_for_the_log() {
        let pulse = Pulse::new();
        assert_eq!(pulse.hangs(TURN), None);
        assert!(pulse.hangs(TURN + Duration::from_secs(1)).is_some());
        let (waits, hangs) = pulse.call(|| (pulse.hangs(CALL), pulse.hangs(CALL + TURN)));
        assert_eq!(waits, None);
        assert!(hangs.is_some());
        assert!(pulse.hangs(CALL).is_some(), "it waits no more");
    }

    #[test]
    fn a_process_is_ready_once_it_is_staffed_and_no_more_when_it_ends() {
        let health = Health::default();
        assert!(health.lives().is_ok && !health.is_ready().is_ok && !health.began().is_ok);
        health.staffed();
        assert!(health.is_ready().is_ok && health.began().is_ok);
        health.catalog_said(Err("no node\nanswers".to_owned()));
        let checked = health.is_ready();
        assert!(!checked.is_ok);
        assert_eq!(checked.list, "[+] process ok\n[-] catalog failed: no node; answers\n");
        health.catalog_said(Ok(()));
        health.ending();
        assert!(health.lives().is_ok && !health.is_ready().is_ok);
    }
}
