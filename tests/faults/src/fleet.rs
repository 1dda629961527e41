//! The processes under test: some of every stage, which are killed, stopped, started and kept alive.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::process::{is_stopped, signal};
use crate::timeline::Timeline;

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(50);
/// A process that ends of itself is started again after this; doubled each time that it ends soon again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// It has lived so long if it was well.
const WELL: Duration = Duration::from_secs(20);
/// How long the processes may take to end when they are told to.
const GRACE: Duration = Duration::from_secs(60);

/// The program, and how each stage reaches its servers.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The program under test.
    pub program: PathBuf,
    /// The same with fault points, where there is one.
    pub planted: Option<PathBuf>,
    /// A bug that is planted in the processes.
    pub bug: Option<Bug>,
    /// The configuration's file.
    pub config: PathBuf,
    /// Where the processes write.
    pub logs: PathBuf,
    /// What each stage is told in its environment.
    pub environment: BTreeMap<&'static str, Vec<(String, String)>>,
}

/// A bug that is planted in the processes of a stage, in the form of `FAILPOINTS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// The stage.
    pub stage: &'static str,
    /// What is planted in all of them.
    pub always: &'static str,
    /// What those meet that begin first: it takes the bug to where it does harm.
    pub once: &'static str,
}

impl Bug {
    fn points(&self, is_first: bool) -> String {
        let once = if is_first { self.once } else { "" };
        [self.always, once].into_iter().filter(|points| !points.is_empty()).collect::<Vec<_>>().join(";")
    }
}

/// One place for a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The stage.
    pub stage: &'static str,
    /// What tells it from the others of its stage.
    pub name: String,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stage, self.name)
    }
}

/// What is in a slot.
#[derive(Debug)]
struct Member {
    process: Option<Child>,
    started: Instant,
    /// When an empty slot is filled again; `None`: by whoever emptied it.
    due: Option<Instant>,
    backoff: Duration,
    /// Somebody does something with it.
    is_taken: bool,
    /// The fault points that it is started with next.
    points: Option<String>,
}

/// What happened to the processes.
#[derive(Debug, Default)]
pub struct Counts {
    /// Killed by us, or by a fault point in them.
    pub kills: AtomicU64,
    /// Stopped and let go on.
    pub pauses: AtomicU64,
    /// Came beside those that were there, and went again.
    pub moves: AtomicU64,
    /// Ended of themselves: they met what they cannot go on with.
    pub exits: AtomicU64,
}

/// The processes.
#[derive(Debug)]
pub struct Fleet {
    shape: Shape,
    timeline: Arc<Timeline>,
    members: Mutex<BTreeMap<Slot, Member>>,
    /// What happened to them.
    pub counts: Counts,
    stop: AtomicBool,
}

/// Keeps a fleet alive until it is dropped.
pub struct Keeper {
    fleet: Arc<Fleet>,
    thread: Option<JoinHandle<()>>,
}

/// A slot that nobody else does anything with.
pub struct Taken {
    fleet: Arc<Fleet>,
    /// Which it is.
    pub slot: Slot,
}

impl Fleet {
    /// A fleet without processes.
    pub fn new(shape: Shape, timeline: Arc<Timeline>) -> Arc<Self> {
        let members = Mutex::new(BTreeMap::new());
        Arc::new(Self { shape, timeline, members, counts: Counts::default(), stop: AtomicBool::new(false) })
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Slot, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a process.
    ///
    /// # Errors
    /// It does not start, or the slot is filled.
    pub fn add(&self, slot: &Slot) -> Result<()> {
        let mut members = self.members();
        if members.contains_key(slot) {
            bail!("the slot {slot} is filled");
        }
        let process = Some(self.start(slot, None, true)?);
        let (started, backoff) = (Instant::now(), BACKOFF.0);
        let member = Member { process, started, due: None, backoff, is_taken: false, points: None };
        members.insert(slot.clone(), member);
        Ok(())
    }

    /// A process beside the one in a slot, with its name: the two have to find out.
    ///
    /// # Errors
    /// It does not start.
    pub fn twin(&self, slot: &Slot) -> Result<Child> {
        self.start(slot, None, false)
    }

    fn start(&self, slot: &Slot, points: Option<&str>, is_first: bool) -> Result<Child> {
        let bug = self.shape.bug.filter(|bug| bug.stage == slot.stage).map(|bug| bug.points(is_first));
        let points = match (bug, points) {
            (Some(bug), Some(points)) => Some(format!("{bug};{points}")),
            (bug, points) => bug.or_else(|| points.map(str::to_owned)),
        };
        let path = self.shape.logs.join(format!("{slot}.log"));
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        let program = match &points {
            Some(_) => self.shape.planted.as_ref().context("no program with fault points was named")?,
            None => &self.shape.program,
        };
        let mut command = Command::new(program);
        command.args(["run", "--stages", slot.stage, "--output", "json", "--config"]).arg(&self.shape.config);
        command.env("KILLICK_KAFKA__SLOT", &slot.name);
        command.envs(self.shape.environment.get(slot.stage).into_iter().flatten().cloned());
        command.env_remove("FAILPOINTS").envs(points.map(|points| ("FAILPOINTS", points)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("{} does not start", program.display()))
    }

    /// The slots of a stage.
    pub fn slots(&self, stage: &str) -> Vec<Slot> {
        self.members().keys().filter(|slot| slot.stage == stage).cloned().collect()
    }

    /// Takes the first of these slots that nobody has and that is filled.
    pub fn take(self: &Arc<Self>, slots: impl IntoIterator<Item = Slot>) -> Option<Taken> {
        let mut members = self.members();
        slots.into_iter().find_map(|slot| {
            let member = members.get_mut(&slot)?;
            let is_free = !member.is_taken && member.process.is_some();
            member.is_taken |= is_free;
            is_free.then(|| Taken { fleet: Arc::clone(self), slot })
        })
    }

    /// Starts what has to be started, and notices what has ended.
    fn look(&self) {
        let mut members = self.members();
        for (slot, member) in members.iter_mut() {
            if let Some(process) = &mut member.process
                && let Ok(Some(status)) = process.try_wait()
            {
                member.process = None;
                self.ended(slot, member, status);
            }
            if member.process.is_none() && member.due.is_some_and(|due| due <= Instant::now()) {
                member.due = None;
                match self.start(slot, member.points.take().as_deref(), false) {
                    Ok(process) => (member.process, member.started) = (Some(process), Instant::now()),
                    Err(error) => {
                        self.timeline.note(format_args!("{slot} does not start: {error:#}"));
                        member.due = Some(Instant::now() + BACKOFF.1);
                    }
                }
            }
        }
    }

    fn ended(&self, slot: &Slot, member: &mut Member, status: ExitStatus) {
        // We took our own kills out before: this was one that it sent itself.
        if status.signal() == Some(Signal::KILL.as_raw()) {
            self.timeline.note(format_args!("{slot} died at a fault point"));
            self.counts.kills.fetch_add(1, Ordering::Relaxed);
        } else {
            self.timeline.note(format_args!("{slot} ended of itself, {status}: {}", self.last_words(slot)));
            self.counts.exits.fetch_add(1, Ordering::Relaxed);
        }
        member.backoff =
            if member.started.elapsed() > WELL { BACKOFF.0 } else { (member.backoff * 2).min(BACKOFF.1) };
        member.due = Some(Instant::now() + member.backoff);
    }

    /// The last line that a process wrote that is an error.
    fn last_words(&self, slot: &Slot) -> String {
        let log = std::fs::read(self.shape.logs.join(format!("{slot}.log"))).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(4_096)..]).into_owned();
        tail.lines().rev().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    }

    /// Ends all processes as an operator does, and tells which did not end well.
    ///
    /// # Errors
    /// Names them.
    pub fn stop(&self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut members = std::mem::take(&mut *self.members());
        for process in members.values_mut().filter_map(|member| member.process.as_mut()) {
            signal(process, Signal::CONT);
            signal(process, Signal::TERM);
        }
        let end = Instant::now() + GRACE;
        let mut unclean = Vec::new();
        for (slot, member) in &mut members {
            let Some(process) = &mut member.process else { continue };
            while process.try_wait()?.is_none() && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
            match process.try_wait()? {
                Some(status) if status.success() => {}
                Some(status) => unclean.push(format!("{slot}: {status} {}", self.last_words(slot))),
                None => {
                    process.kill()?;
                    process.wait()?;
                    unclean.push(format!("{slot} did not end within {GRACE:?}"));
                }
            }
        }
        if !unclean.is_empty() {
            bail!("{}", unclean.join("; "));
        }
        Ok(())
    }
}

impl Keeper {
    /// Begins to keep.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(fleet: &Arc<Fleet>) -> Result<Self> {
        let kept = Arc::clone(fleet);
        let work = move || {
            while !kept.stop.load(Ordering::Relaxed) {
                kept.look();
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(work)?;
        Ok(Self { fleet: Arc::clone(fleet), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.fleet.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked of was printed.
            let _ = thread.join();
        }
        for member in self.fleet.members().values_mut() {
            if let Some(mut process) = member.process.take() {
                let _ = (process.kill(), process.wait());
            }
        }
    }
}

impl Taken {
    fn with<T>(&self, act: impl FnOnce(&mut Member) -> T) -> Option<T> {
        self.fleet.members().get_mut(&self.slot).map(act)
    }

    /// Kills it; it is started again after `down`, with these fault points.
    pub fn kill(&self, down: Duration, points: Option<String>) {
        let is_killed = self.with(|member| {
            let Some(mut process) = member.process.take() else { return false };
            // It may have ended meanwhile, which is as good.
            let _ = (process.kill(), process.wait());
            member.points = points;
            member.due = Some(Instant::now() + down);
            true
        });
        if is_killed == Some(true) {
            self.fleet.counts.kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Stops it in its tracks.
    pub fn pause(&self) {
        self.with(|member| member.process.as_ref().map(|process| signal(process, Signal::STOP)));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.with(|member| member.process.as_ref().map(|process| signal(process, Signal::CONT)));
        self.fleet.counts.pauses.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until it stands still; false if it does not.
    pub fn stands_still(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let is_still = || {
            let is_still = |member: &mut Member| member.process.as_ref().is_some_and(is_stopped);
            self.with(is_still) == Some(true)
        };
        while Instant::now() < end {
            if is_still() {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        false
    }

    /// Takes it out: it is told to end, and its place is empty when this returns.
    pub fn remove(self) {
        let Some(mut member) = self.fleet.members().remove(&self.slot) else { return };
        self.fleet.counts.moves.fetch_add(1, Ordering::Relaxed);
        let Some(process) = &mut member.process else { return };
        signal(process, Signal::TERM);
        let end = Instant::now() + GRACE;
        while matches!(process.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.fleet.timeline.note(format_args!("{} did not end within {GRACE:?}", self.slot));
                let _ = (process.kill(), process.wait());
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.with(|member| member.is_taken = false);
    }
}
