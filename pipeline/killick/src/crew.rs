//! The workers of a process: one thread each, and what stops them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use killick_stages::deployment::Deployment;
use killick_stages::manifest::Bookkeeper;
use killick_stages::ports::{Catalog, Log};
use killick_stages::route;
use killick_stages::stage::Stage;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::counters::Counters;
use crate::office::{Office, World};
use crate::telemetry::{Side, Telemetry, Watched};
use crate::worker::{Tap, Worker};

/// Workers that run, and end together.
#[derive(Default)]
pub struct Crew {
    workers: Vec<JoinHandle<()>>,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
    stop: CancellationToken,
    /// What they committed.
    pub counters: Arc<Counters>,
    telemetry: Arc<Telemetry>,
}

/// Who is hired.
pub struct Hand<L> {
    /// The stage's name.
    pub name: &'static str,
    /// Its consumer group, under which its manifests stand.
    pub group: String,
    /// What tells the worker from others of its stage, in manifests.
    pub slot: String,
    /// The stage.
    pub stage: Box<dyn Stage>,
    /// Its hold on the log.
    pub log: L,
    /// What else is known of that.
    pub side: Side,
}

impl Crew {
    /// Nobody yet; what they do is told of by `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, ..Self::default() }
    }

    /// Puts a worker to work. `tap` sees what it commits; `logs` is the number of partitions of `audit`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn hire<L: Log + 'static>(
        &mut self,
        hand: Hand<L>,
        (runtime, world): (&Handle, &World),
        logs: u32,
        tap: Option<Tap>,
    ) -> Result<()> {
        let Hand { name, group, slot, stage, log, side } = hand;
        let station = self.telemetry.hired(name, &slot, side, Arc::clone(&self.counters));
        let log = Watched::new(log, Arc::clone(&station));
        let office = Office::open(runtime.clone(), world.clone(), self.stop.clone());
        let tap = tap.unwrap_or_else(|| Arc::new(|_, _| {}));
        let state = route::hop(name).and_then(|hop| hop.state);
        let books = Bookkeeper::new(&group, &slot, logs);
        let worker = Worker::new(name, state, stage, log, office, books, (tap, station));
        let (stop, failure) = (self.stop.clone(), Arc::clone(&self.failure));
        let work = move || {
            if let Err(why) = worker.run(&stop) {
                error!(stage = name, error = format!("{why:#}"), "a stage cannot go on");
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
                stop.cancel();
            }
        };
        let thread = std::thread::Builder::new().name(slot).spawn(work);
        self.workers.push(thread.with_context(|| format!("no thread for stage {name}"))?);
        Ok(())
    }

    /// A catalog as the workers use it.
    pub fn consulted(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        self.telemetry.consulted(catalog)
    }

    /// All are hired. `catalog` is what they need to reach.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn is_complete(
        &self,
        catalog: Option<Arc<dyn Catalog>>,
        deployment: &Deployment,
        runtime: &Handle,
    ) -> Result<()> {
        if let Some(catalog) = catalog {
            self.telemetry.ask(catalog, deployment.clone(), self.stop.clone(), runtime)?;
        }
        self.telemetry.health().staffed();
        Ok(())
    }

    /// Cancelled when the workers are to stop, or one of them cannot go on.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Stops the workers: what is in hand is committed, everything else goes on at the next start.
    ///
    /// # Errors
    /// A stage had failed.
    pub fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                bail!("a stage ended in a panic: this is a defect, please report it");
            }
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}
