//! Series of later anchors: `[reanchor.NAME]`, and `killick reanchor`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use killick_kafka::KafkaProducer;
use killick_nodes::NodeChain;
use killick_proof::note::{SignerKey, VerifierKey};
use killick_proof::signature::SecretKey;
use killick_stages::anchor::{self, Anchor, Series};
use killick_stages::deployment::Deployment;
use killick_stages::lend::Lend;
use killick_stages::ports::{Catalog, Chain, ChainId, Producer};
use killick_stages::record::{Output as Record, Partition};
use killick_stages::route::{self, NOW, REANCHOR, REANCHORING, ROUTE};
use killick_stages::series;
use killick_stages::span::Span;
use killick_stages::stage::Stage;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::{Failure, Outcome, Output, shown};
use crate::cluster::{self, Cluster};
use crate::config::{Config, ConfigArgs, needed};
use crate::site::{Plan, Site};
use crate::{process, secrets, stores};

/// How often the wish is told again to whoever could not do it then.
const WISH: Duration = Duration::from_secs(30);
/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(200);

/// `[reanchor.NAME]`: the newest checkpoint of every log, anchored once more on another chain or network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The network, as receipts name it. Default: that of the deployment.
    pub network: Option<String>,
    /// The chains that commands go to. At least one; default `[0]`.
    pub chains: Vec<ChainId>,
    /// A file with the key that signs, 64 hex digits. Default: that of the deployment's anchors.
    pub key_file: Option<PathBuf>,
    /// How it is anchored, as in `[anchor]`; but `interval` is 1 d by default, and 1 min to 366 d.
    #[serde(deserialize_with = "with_pace")]
    pub anchor: anchor::Config,
    /// The nodes, where the network is another one.
    pub chainweb: Option<killick_nodes::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { network: None, chains: vec![0], key_file: None, anchor: slow(), chainweb: None }
    }
}

/// How often a series is anchored where nobody says otherwise.
fn slow() -> anchor::Config {
    anchor::Config { interval: Span::secs(86_400), ..anchor::Config::default() }
}

/// Reads the settings of an anchor whose default interval is that of a series.
fn with_pace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<anchor::Config, D::Error> {
    let mut table = toml::Table::deserialize(deserializer)?;
    table.entry("interval").or_insert_with(|| slow().interval.to_string().into());
    anchor::Config::deserialize(table).map_err(serde::de::Error::custom)
}

impl Settings {
    /// Makes relative paths begin at the configuration's folder.
    pub fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.key_file {
            *file = folder.join(&*file);
        }
        if let Some(chainweb) = &mut self.chainweb {
            chainweb.resolve(Some(folder));
        }
    }

    /// Whether they can work.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, name: &str, deployment: &Deployment) -> Result<()> {
        let network = self.network(deployment);
        match &self.chainweb {
            Some(chainweb) => drop(chainweb.client(network)?),
            None if network != deployment.network() => {
                bail!("it needs a section [reanchor.{name}.chainweb] with the nodes of {network}")
            }
            None => {}
        }
        // Any keys do for a check.
        let key = SecretKey::from_seed(&[1; 32]);
        let origins = deployment.origins().iter();
        let keys = origins.map(|origin| Ok(SignerKey::new(origin, key.clone())?.verifier()));
        self.stages(name, deployment, Span::secs(1), vec![key.clone()], keys.collect::<Result<_>>()?)
            .map(drop)
    }

    fn network<'s>(&'s self, deployment: &'s Deployment) -> &'s str {
        self.network.as_deref().unwrap_or(deployment.network())
    }

    /// The two stages; `signers` sign commands, `keys` are those of the logs that are anchored, and `poll` is prove's.
    fn stages(
        &self,
        name: &str,
        deployment: &Deployment,
        poll: Span,
        signers: Vec<SecretKey>,
        keys: Vec<VerifierKey>,
    ) -> Result<[(&'static str, Box<dyn Stage>); 2]> {
        let network = self.network(deployment).to_owned();
        let origins = keys.iter().map(|key| key.name().into()).collect();
        let lend = Lend::new(name, &network, poll, keys)?;
        let series = Series { name: name.to_owned(), network, chains: self.chains.clone(), origins };
        let anchor = Anchor::of_series(deployment, &series, &self.anchor, signers)?;
        Ok([("reanchor", Box::new(anchor)), ("lend", Box::new(lend))])
    }
}

/// One stage of a series, ready to be put to work.
pub struct Hand {
    /// The stage.
    pub name: &'static str,
    /// Its consumer group: each series has its own.
    pub group: String,
    /// The stage itself.
    pub stage: Box<dyn Stage>,
    /// The series that it is of.
    pub series: String,
}

/// The stages of all series that are wanted here.
///
/// # Errors
/// A key cannot be read.
pub fn hands(
    all: &BTreeMap<String, Settings>,
    deployment: &Deployment,
    poll: Span,
    (signers, keys): (&[SecretKey], &[VerifierKey]),
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Hand>> {
    let mut hands = Vec::new();
    for (series, settings) in all {
        let signers = match &settings.key_file {
            Some(file) => vec![secrets::read_seed(file)?],
            None => signers.to_vec(),
        };
        let stages = settings.stages(series, deployment, poll, signers, keys.to_vec());
        for (name, stage) in stages.with_context(|| format!("[reanchor.{series}]"))? {
            if is_wanted(name) {
                hands.push(Hand { name, group: route::group(name, series), stage, series: series.clone() });
            }
        }
    }
    Ok(hands)
}

/// The names of all stages, as an error lists them.
pub fn stage_names() -> String {
    let stages = ROUTE.iter().chain(&REANCHORING).map(|hop| hop.stage);
    stages.collect::<Vec<_>>().join(", ")
}

/// The chain of a series: its own nodes, or else the deployment's.
///
/// # Errors
/// Its nodes are of another network.
pub fn chain(
    settings: &Settings,
    deployment: &Deployment,
    own: Option<&Arc<dyn Chain>>,
    runtime: &Handle,
) -> Result<Arc<dyn Chain>> {
    match &settings.chainweb {
        Some(nodes) => Ok(Arc::new(NodeChain::open(nodes, settings.network(deployment), runtime.clone())?)),
        None => own.cloned().context("[chainweb]: which nodes are asked?"),
    }
}

/// Anchors the newest checkpoint of every log on another chain or network, now.
///
/// A section [reanchor.NAME] says where. All events that the logs have gain the new anchor: receipts that are read from then on
/// carry it beside the one they had. `killick run` does the same by itself, each `interval`. What is anchored there already is
/// left alone, and a command that was begun is never made twice: stopped, it goes on where it was, here or in `killick run`.
///
/// Also logs of earlier generations are anchored, if the folder of keys has their public keys, in files that end in .pub.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  killick reanchor -c killick.toml community
  killick reanchor -c killick.toml --embedded site/ community --output json")]
pub struct ReanchorArgs {
    /// The series: NAME of a section [reanchor.NAME].
    #[arg(value_name = "NAME")]
    series: String,

    /// The folder of the embedded side; no other process may have it open. Without it the servers of the configuration are
    /// used: [kafka], [catalog], [chainweb].
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    embedded: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgs,

    /// Text for people, or one JSON object for each log and line.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Anchors a series now, and waits until that is done.
pub fn run(args: &ReanchorArgs) -> Outcome {
    let mut config = Config::load(&args.config)?;
    let name = &args.series;
    let Some(settings) = config.reanchor.remove(name) else {
        let known: Vec<_> = config.reanchor.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Usage(format!(
            "the configuration has no section [reanchor.{}]; it has {known}",
            shown(name)
        )));
    };
    // Whatever else is configured: nothing else is done here.
    config.reanchor = BTreeMap::from([(name.clone(), settings)]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    let stages = ["reanchor".to_owned(), "lend".to_owned()];
    let is_done = match &args.embedded {
        Some(folder) => {
            let mut site = Site::open(folder, Plan { stages: stages.to_vec(), ..Plan::of(&config) })?;
            let (catalog, log) = (site.catalog.clone(), site.log.clone());
            let keys = site.verifiers().to_vec();
            let wish = Wish { series: name, keys: &keys, catalog: &catalog, producer: &log, stop: &stop };
            site.start(runtime.handle(), None)?;
            let failed = site.stopping().clone();
            let is_done = wish.pursue(&failed);
            site.write_trust(&[])?;
            site.stop()?;
            tell(args, &catalog)?;
            is_done?
        }
        None => {
            // Beside a `killick run` of the same slot.
            if let Some(kafka) = &mut config.kafka {
                let slot = kafka.slot.take().unwrap_or_else(cluster::host_name);
                kafka.slot = Some(format!("{slot}.now"));
            }
            let catalog = stores::catalog_of(&config)?;
            let mut cluster =
                Cluster::start(&config, &stages, runtime.handle(), &stop, Arc::default(), None)?;
            let kafka = needed(config.kafka.as_ref(), "kafka", "where is the log?")?;
            let producer = KafkaProducer::open(kafka, "reanchor")?;
            let folder =
                needed(config.keys.folder.as_ref(), "keys", "folder: where are the keys of the logs?")?;
            let keys = cluster::known_logs(folder, &Deployment::new(&config.deployment)?)?;
            let wish =
                Wish { series: name, keys: &keys, catalog: &*catalog, producer: &producer, stop: &stop };
            let failed = cluster.stopping().clone();
            let is_done = wish.pursue(&failed);
            cluster.stop()?;
            tell(args, &*catalog)?;
            is_done?
        }
    };
    if !is_done {
        return Err(anyhow!(
            "stopped before all was anchored: nothing is lost, and it goes on where it was with the next `killick reanchor` or \
             `killick run`"
        )
        .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// The wish to have a series anchored now.
struct Wish<'w> {
    series: &'w str,
    /// Of the logs that are anchored.
    keys: &'w [VerifierKey],
    catalog: &'w dyn Catalog,
    producer: &'w dyn Producer,
    stop: &'w CancellationToken,
}

impl Wish<'_> {
    /// Tells it to whoever has the stage, and waits until what was the newest at the beginning is anchored; false if it was
    /// stopped before.
    fn pursue(&self, failed: &CancellationToken) -> Result<bool> {
        let mut wanted: Vec<(Box<str>, u64)> = Vec::new();
        for origin in self.catalog.origins()? {
            if self.keys.iter().any(|key| key.name() == &*origin) {
                let size = self.catalog.log_size(&origin)?;
                wanted.push((origin, size));
            } else {
                warn!(
                    log = &*origin,
                    "no public key: it is not anchored; put its key into the folder of keys as a file that ends in .pub"
                );
            }
        }
        let mut told: Option<Instant> = None;
        loop {
            let is_left = |(origin, size): &(Box<str>, u64)| {
                let Some(last) = size.checked_sub(1) else { return Ok(false) };
                series::anchors_in(self.catalog, origin, self.series, last).map(|anchors| anchors.is_empty())
            };
            let mut left = Vec::new();
            for log in wanted {
                if is_left(&log)? {
                    left.push(log);
                }
            }
            wanted = left;
            if wanted.is_empty() {
                return Ok(true);
            }
            if self.stop.is_cancelled() || failed.is_cancelled() {
                return Ok(false);
            }
            if told.is_none_or(|told| told.elapsed() > WISH) {
                told = Some(Instant::now());
                self.producer.produce(&[Record::new(
                    Partition::new(REANCHOR, 0),
                    self.series.to_owned(),
                    NOW,
                )])?;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Says how far each log is anchored in the series.
fn tell(args: &ReanchorArgs, catalog: &dyn Catalog) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for origin in catalog.origins()? {
        let size = catalog.log_size(&origin)?;
        let covered = series::covered(catalog, &origin, &args.series, size)?;
        let last = match covered.checked_sub(1) {
            Some(last) => series::anchors_in(catalog, &origin, &args.series, last)?.pop(),
            None => None,
        };
        let anchor =
            last.map(|anchor| serde_json::from_slice::<serde_json::Value>(&anchor.anchor)).transpose()?;
        let block = anchor.map_or(serde_json::Value::Null, |mut anchor| {
            let mut block = anchor["block"].take();
            if let Some(block) = block.as_object_mut() {
                block.remove("header");
            }
            block
        });
        match args.output {
            Output::Json => {
                let series = &args.series;
                writeln!(
                    out,
                    "{}",
                    json!({ "series": series, "log": origin, "batches": size, "anchored": covered, "block": block })
                )?;
            }
            Output::Text => {
                let place = match &block {
                    serde_json::Value::Null => "nowhere yet".to_owned(),
                    block => format!(
                        "by block {} of chain {} of {} at height {}",
                        block["hash"].as_str().unwrap_or("?"),
                        block["chain"],
                        block["network"].as_str().unwrap_or("?"),
                        block["height"]
                    ),
                };
                writeln!(
                    out,
                    "{}: {covered} of {size} batches in {}, {}",
                    shown(&origin),
                    args.series,
                    shown(&place)
                )?;
            }
        }
    }
    Ok(())
}
