//! Doing what was planned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Action;
use crate::fleet::{Fleet, Slot, Taken};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Devnet, Outage, Servers};
use crate::timeline::Timeline;

/// How long an action waits for a process that nobody else has.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a process has to come to a fault point.
const TO_THE_POINT: Duration = Duration::from_secs(30);
/// Between two of a storm.
const STORM: Duration = Duration::from_secs(3);

/// All that something can be done to.
pub struct Scene {
    /// The processes.
    pub fleet: Arc<Fleet>,
    /// The most processes that a stage has at a time.
    pub most: usize,
    /// Broker and catalog.
    pub servers: Arc<Servers>,
    /// The chain's node.
    pub devnet: Mutex<Devnet>,
    /// The links by name.
    pub links: BTreeMap<&'static str, Arc<Proxy>>,
    /// What was done.
    pub timeline: Arc<Timeline>,
    /// Who has the broker; who has the catalog.
    pub locks: Locks,
    /// Transactions that the broker forgot, and an operator ended.
    pub hanging: AtomicU64,
    /// Broker, catalog and chain that went and came.
    pub outages: AtomicU64,
    /// Set when a server does not come back: the run is over.
    pub is_broken: AtomicBool,
    /// Set when what is done is to be undone.
    pub stop: AtomicBool,
}

/// One outage at a time for each server.
#[derive(Debug, Default)]
pub struct Locks {
    broker: Mutex<()>,
    catalog: Mutex<()>,
    chain: Mutex<()>,
}

/// Does all that is planned, each at its time, until the scene is to stop; returns when all is undone.
pub fn perform(scene: &Scene, plan: &[(Duration, Action)]) {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (at, action) in plan {
            scene.wait(at.saturating_sub(begun.elapsed()));
            if scene.is_over() {
                return;
            }
            scope.spawn(move || {
                if let Err(error) = scene.act(action) {
                    scene.timeline.note(format_args!("{action}: {error:#}"));
                }
            });
        }
    });
}

impl Scene {
    /// Ends transactions that the broker forgot when it restarted: with them the pipeline would wait for ever.
    pub fn end_hanging(&self) {
        let _nobody_takes_it_away = self.locks.broker.lock().unwrap_or_else(PoisonError::into_inner);
        match self.servers.end_hanging() {
            Ok(ended) => {
                self.hanging.fetch_add(ended.len() as u64, Ordering::Relaxed);
                ended.iter().for_each(|what| self.timeline.note(what));
            }
            Err(error) => self.timeline.note(format_args!("nobody knows which transactions hang: {error:#}")),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.is_broken.load(Ordering::Relaxed)
    }

    /// Lets time pass, unless it is over.
    fn wait(&self, span: Duration) {
        let end = Instant::now() + span;
        while !self.is_over() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            std::thread::sleep(rest.min(Duration::from_millis(100)));
        }
    }

    fn act(&self, action: &Action) -> Result<()> {
        match action {
            Action::Kill { stage, down } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                taken.kill(*down, None);
                self.wait(*down);
            }
            Action::Crash { stage, point, after } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                taken.kill(Duration::ZERO, Some(format!("{point}={after}*off->1*return(exit)")));
            }
            Action::Pause { stage, span } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                taken.pause();
                self.wait(*span);
                taken.resume();
            }
            Action::PausePoint { stage, point, span } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                taken.kill(Duration::ZERO, Some(format!("{point}=3*off->1*return(stop)")));
                if taken.stands_still(TO_THE_POINT) {
                    self.wait(*span);
                    taken.resume();
                } else {
                    self.timeline.note(format_args!("{} did not come to {point}", taken.slot));
                }
            }
            Action::Stall { stage, span } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                let points = format!("before_begin=3*off->1*sleep({})", span.as_millis());
                taken.kill(Duration::ZERO, Some(points));
            }
            Action::Broker(outage, span) => {
                self.outage("kafka", &self.locks.broker, *outage, *span, action)?
            }
            Action::Catalog(outage, span) => {
                self.outage("cassandra", &self.locks.catalog, *outage, *span, action)?;
            }
            Action::Chain(outage, span) => self.chain(*outage, *span, action)?,
            Action::LateEnd { stage } => {
                self.timeline.note(action);
                self.link(stage)?.hold_back_end();
            }
            Action::Link { link, fault, span } => {
                let proxy = self.link(link)?;
                self.timeline.note(action);
                proxy.set(*fault);
                self.wait(*span);
                proxy.set(Fault::None);
            }
            Action::Strike { link, strike } => {
                self.timeline.note(action);
                self.link(link)?.strike(*strike);
            }
            Action::Storm { stage, rounds } => self.storm(stage, *rounds, action)?,
            Action::Twins { stage, span } => {
                let taken = self.take(stage)?;
                self.note(action, &taken);
                let mut twin = self.fleet.twin(&taken.slot)?;
                self.wait(*span);
                twin.kill()?;
                twin.wait()?;
            }
        }
        Ok(())
    }

    fn note(&self, action: &Action, taken: &Taken) {
        self.timeline.note(format_args!("{}: {action}", taken.slot));
    }

    fn link(&self, name: &str) -> Result<&Proxy> {
        self.links.get(name).map(Arc::as_ref).with_context(|| format!("there is no link {name}"))
    }

    /// A process of a stage, as soon as there is one that nobody has.
    fn take(&self, stage: &str) -> Result<Taken> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut slots = self.fleet.slots(stage);
            // Not always the first of them.
            let turn = self.timeline.begun().elapsed().subsec_micros() as usize % slots.len().max(1);
            slots.rotate_left(turn);
            if let Some(taken) = self.fleet.take(slots) {
                return Ok(taken);
            }
            anyhow::ensure!(Instant::now() < end, "no process of {stage} was free within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn outage(
        &self,
        server: &str,
        lock: &Mutex<()>,
        outage: Outage,
        span: Duration,
        action: &Action,
    ) -> Result<()> {
        let _one_at_a_time = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.timeline.note(action);
        self.servers.take_away(server, outage)?;
        self.wait(span);
        let back = self.servers.bring_back(server, outage);
        self.outages.fetch_add(1, Ordering::Relaxed);
        match &back {
            Ok(()) => self.timeline.note(format_args!("{server} is back")),
            Err(_) => self.is_broken.store(true, Ordering::Relaxed),
        }
        back
    }

    fn chain(&self, outage: Outage, span: Duration, action: &Action) -> Result<()> {
        let _one_at_a_time = self.locks.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut devnet = self.devnet.lock().unwrap_or_else(PoisonError::into_inner);
        self.timeline.note(action);
        devnet.take_away(outage)?;
        self.wait(span);
        let back = devnet.bring_back();
        self.outages.fetch_add(1, Ordering::Relaxed);
        self.is_broken.fetch_or(back.is_err(), Ordering::Relaxed);
        back
    }

    /// Processes come, and others go.
    fn storm(&self, stage: &'static str, rounds: u32, action: &Action) -> Result<()> {
        self.timeline.note(action);
        let name = |round| format!("storm-{}-{round}", self.timeline.begun().elapsed().as_millis());
        let mut added: VecDeque<Slot> = VecDeque::new();
        for round in 0..rounds {
            if self.fleet.slots(stage).len() >= self.most
                && let Some(slot) = added.pop_front()
            {
                self.go(slot);
            }
            if self.fleet.slots(stage).len() < self.most {
                let slot = Slot { stage, name: name(round) };
                self.fleet.add(&slot)?;
                self.timeline.note(format_args!("{slot} comes"));
                added.push_back(slot);
            }
            self.wait(STORM);
        }
        for slot in added {
            self.go(slot);
            self.wait(STORM / 2);
        }
        Ok(())
    }

    fn go(&self, slot: Slot) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(taken) = self.fleet.take([slot.clone()]) {
                self.timeline.note(format_args!("{slot} goes"));
                return taken.remove();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
