//! What this process says of itself, to those who run it.
//!
//! | file | what |
//! |---|---|
//! | `admin.rs` | the port for probes and scrapes |
//! | `health.rs` | what the probes answer |
//! | `station.rs` | what is seen of one worker: it stands between the stage and its log |
//! | `metrics.rs` | the metrics: their names, and what is asked for at each scrape |

mod admin;
mod health;
mod metrics;
mod station;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use killick_kafka::Figures;
use killick_stages::ports::Catalog;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use health::Health;
use metrics::Metrics;
use station::Station;
pub use station::Watched;

/// Between two questions to the catalog, whether it is there.
const ASK: Duration = Duration::from_secs(5);

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
#[derive(Debug, Default)]
pub struct Telemetry {
    health: Health,
    metrics: Metrics,
    /// Whether anybody may ask.
    is_heard: bool,
}

impl Telemetry {
    /// Begins, and listens where the settings say so. `ending` is cancelled when the process is told to end.
    ///
    /// # Errors
    /// Nobody can listen there.
    pub fn begin(settings: &Settings, runtime: &Handle, ending: CancellationToken) -> Result<Arc<Self>> {
        let telemetry = Arc::new(Self {
            health: Health::default(),
            metrics: Metrics::new()?,
            is_heard: settings.listen.is_some(),
        });
        if let Some(address) = settings.listen {
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

    /// What is to be seen of a worker that is about to begin.
    pub fn hired(&self, slot: &str, figures: Option<Arc<Figures>>) -> Arc<Station> {
        let station = Arc::new(Station::new(slot, figures));
        self.health.joined(Arc::clone(&station));
        station
    }

    /// Asks the catalog now and then, where anybody may want to know, until `stop`, whether it is there: by the size of the log of this origin.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn ask(
        self: &Arc<Self>,
        catalog: Arc<dyn Catalog>,
        origin: Box<str>,
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
                let said = catalog.log_size(&origin);
                telemetry.health.catalog_said(said.map(drop).map_err(|error| error.to_string()));
                let rest = stop.cancelled();
                let _ = runtime.block_on(async { tokio::time::timeout(ASK, rest).await });
            }
        };
        let thread = std::thread::Builder::new().name("ask-catalog".into()).spawn(asks);
        thread.map(drop).context("no thread to ask the catalog with")
    }
}
