//! What this process says of itself, to those who run it.
//!
//! | file | what |
//! |---|---|
//! | `admin.rs` | the port for probes and scrapes |
//! | `health.rs` | what the probes answer |
//! | `watched.rs` | stands between a stage and its log, and tells of what passes |
//! | `station.rs` | what is seen of one worker |
//! | `progress.rs` | how old the oldest is of what is not done |
//! | `classes.rs` | classes of tenants |
//! | `metrics.rs` | the metrics, by their names |
//! | `consulted.rs` | stands between the process and its catalog, and tells how long calls took |
//! | `watching.rs` | what is asked for at each scrape |
//! | `traces.rs` | how an event, or a batch, is followed through all stages |
//! | `otlp.rs` | what is pushed, as the environment of OpenTelemetry says |
//! | `logs.rs` | the log: to standard error, and where it is pushed |

mod admin;
mod classes;
mod consulted;
mod health;
pub mod logs;
mod metrics;
mod otlp;
mod progress;
mod station;
mod traces;
mod watched;
mod watching;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use killick_proof::batch::BatchHeader;
use killick_stages::deployment::Deployment;
use killick_stages::ports::Catalog;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::counters::Counters;
use classes::Classes;
use consulted::Consulted;
use health::Health;
pub use metrics::Audits;
use metrics::Metrics;
use otlp::Connections;
pub use otlp::Otlp;
use station::Shared;
pub use station::{Lags, Side, Station};
use traces::Traces;
pub use watched::Watched;

/// Between two questions to the catalog, whether it is there.
const ASK: Duration = Duration::from_secs(5);
/// Batches that are looked up in the catalog each time, for when their first events came.
const LOOK_UP: usize = 16;

/// The port for those who run it: `[admin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where `/livez`, `/readyz`, `/startupz` and `/metrics` are served, plainly and to everyone who reaches it: an address of
    /// this machine and a port. Nothing can be changed there and no event be seen, but figures of all that is done. Default:
    /// nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is said of this process.
#[derive(Default)]
pub struct Telemetry {
    health: Arc<Health>,
    metrics: Metrics,
    classes: Arc<Classes>,
    traces: Option<Traces>,
    logs: Option<opentelemetry_sdk::logs::SdkLoggerProvider>,
    /// Whether anybody may ask, or is told.
    is_heard: bool,
    /// Where what is pushed is pushed from. Last, so that it goes last.
    _connections: Connections,
}

impl Telemetry {
    /// Begins: listens where the configuration says so, and pushes what `otlp` has. `ending` is cancelled when the process is
    /// told to end.
    ///
    /// # Errors
    /// Nobody can listen there.
    pub fn begin(
        config: &Config,
        otlp: Otlp,
        runtime: &Handle,
        ending: CancellationToken,
    ) -> Result<Arc<Self>> {
        let health = Arc::<Health>::default();
        let Otlp { metrics, traces, logs, connections } = otlp;
        let is_heard = config.admin.listen.is_some() || metrics.is_some();
        let metrics =
            if is_heard { Metrics::new(&health, otlp::resource(), metrics)? } else { Metrics::default() };
        let classes = Arc::new(Classes::of_catalog(config.catalog.as_ref()));
        let telemetry =
            Arc::new(Self { health, metrics, classes, traces, logs, is_heard, _connections: connections });
        if let Some(address) = config.admin.listen {
            let address = admin::listen(address, runtime, Arc::clone(&telemetry))?;
            info!(%address, "the admin port is open");
        }
        let told = Arc::clone(&telemetry);
        runtime.spawn(async move {
            ending.cancelled().await;
            told.health.ending();
        });
        Ok(telemetry)
    }

    /// What the probes ask.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The metrics as text for Prometheus.
    fn scrape(&self) -> Result<String> {
        self.metrics.text()
    }

    /// A catalog whose calls are measured, where anybody may want to know.
    pub fn consulted(&self, catalog: Arc<dyn Catalog>) -> Arc<dyn Catalog> {
        match self.is_heard {
            true => Arc::new(Consulted::new(catalog, self.metrics.instruments())),
            false => catalog,
        }
    }

    /// What came of audits, in a process that audits.
    pub fn audits(&self) -> Audits {
        self.metrics.audits()
    }

    /// Whether anybody may ask, or is told.
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// What is to be seen of a worker of this stage that is about to begin.
    pub fn hired(
        &self,
        stage: &'static str,
        slot: &str,
        side: Side,
        counters: Arc<Counters>,
    ) -> Arc<Station> {
        let (instruments, classes) = (self.metrics.instruments(), Arc::clone(&self.classes));
        let shared = Shared { counters, instruments, classes, traces: self.traces.clone() };
        let station = Arc::new(Station::new(stage, slot, side, shared));
        self.health.joined(Arc::clone(&station));
        station
    }

    /// Asks the catalog now and then, where anybody may want to know and until `stop`, whether it is there, and when the first
    /// event came of batches that wait since before this process began.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn ask(
        self: &Arc<Self>,
        catalog: Arc<dyn Catalog>,
        deployment: Deployment,
        stop: CancellationToken,
        runtime: &Handle,
    ) -> Result<()> {
        if !self.is_heard {
            return Ok(());
        }
        self.health.catalog_said(Err("it has not answered yet".to_owned()));
        let (telemetry, runtime) = (Arc::clone(self), runtime.clone());
        let asks = move || {
            while !stop.is_cancelled() {
                let said = catalog.log_size(deployment.origin(0).unwrap_or_default());
                let is_there = said.is_ok();
                telemetry.health.catalog_said(said.map(drop).map_err(|error| error.to_string()));
                if is_there {
                    telemetry.look_up(&*catalog, &deployment);
                }
                let rest = stop.cancelled();
                // Whether it is time or the end: the loop asks.
                let _ = runtime.block_on(async { tokio::time::timeout(ASK, rest).await });
            }
        };
        let thread = std::thread::Builder::new().name("ask-catalog".into()).spawn(asks);
        thread.map(drop).context("no thread to ask the catalog with")
    }

    fn look_up(&self, catalog: &dyn Catalog, deployment: &Deployment) {
        let stations = self.health.stations();
        let wanted =
            stations.iter().flat_map(|station| station.unknown().into_iter().map(move |of| (station, of)));
        for (station, (log, number)) in wanted.take(LOOK_UP) {
            let Some(origin) = deployment.origin(log) else { continue };
            if let Ok(Some(batch)) = catalog.batch(origin, number)
                && let Ok(header) = BatchHeader::decode(&batch.header)
            {
                station.learn(log, number, header.first_time);
            }
        }
    }

    /// Sends the last of what is pushed. To be called when the workers have ended, and outside of any runtime.
    pub fn end(&self) {
        let outcomes = [
            self.traces.as_ref().map_or(Ok(()), Traces::end),
            self.metrics.end(),
            self.logs.as_ref().map_or(Ok(()), |logs| logs.shutdown().map_err(Into::into)),
        ];
        for error in outcomes.into_iter().filter_map(Result::err) {
            warn!(error = format!("{error:#}"), "the last of the telemetry was not taken");
        }
    }
}
