//! The test stand: servers, links, configuration and processes of one run, all in one folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use killick_kafka::Settings;
use killick_stages::span::Span;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;

use crate::events::{Events, PARTITIONS, TOPICS};
use crate::faults::{LINKS, Locks, STAGES, Scene};
use crate::fleet::{Bug, Fleet, Keeper, Shape, Slot};
use crate::proxy::{Framing, Proxy};
use crate::servers::{Devnet, Listener, Servers, free_ports, loopback};
use crate::timeline::Timeline;

/// How long a session lasts here: the least that brokers allow.
pub const SESSION: Duration = Duration::from_secs(6);
/// The links to the broker: the first of [`LINKS`].
const TO_BROKER: usize = 6;

/// Servers, with a link before each: several runs can stand on them, one after another.
pub struct Ground {
    servers: Arc<Servers>,
    links: BTreeMap<&'static str, Arc<Proxy>>,
    runtime: Handle,
    /// Runs that stood here.
    runs: AtomicU64,
}

impl Ground {
    /// Brings the servers up, with what they have in `folder`.
    ///
    /// # Errors
    /// They do not come up: with what they said.
    pub fn up(folder: &Path, runtime: &Handle) -> Result<Self> {
        let mut links = BTreeMap::new();
        let mut listeners = Vec::new();
        for link in LINKS.into_iter().take(TO_BROKER) {
            let [port, shown] = free_ports()?;
            let proxy = Proxy::start(runtime, loopback(shown), loopback(port), Framing::Kafka)?;
            links.insert(link, Arc::new(proxy));
            listeners.push(Listener { name: link.to_uppercase(), port, shown });
        }
        let servers = Arc::new(Servers::start(folder, &listeners)?);
        let catalog = Proxy::start(runtime, loopback(0), servers.cassandra, Framing::Bytes)?;
        links.insert("catalog", Arc::new(catalog));
        Ok(Self { servers, links, runtime: runtime.clone(), runs: AtomicU64::new(0) })
    }
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Where everything is kept.
    pub folder: PathBuf,
    /// The program under test.
    pub program: PathBuf,
    /// The same with fault points.
    pub planted: Option<PathBuf>,
    /// A bug that is planted in it.
    pub bug: Option<Bug>,
    /// Processes of each stage: always so many, and at most so many for a while.
    pub processes: (u32, u32),
    /// Whether the timeline is told as it grows.
    pub is_told: bool,
}

/// A stand at work.
pub struct Stand {
    /// What faults are done to.
    pub scene: Scene,
    /// The configuration's file, for tools: it names the servers themselves and no proxy.
    pub config: PathBuf,
    /// The settings of clients that are to meet no faults.
    pub kafka: Settings,
    /// The settings of the load, which meets them.
    pub load: Settings,
    // Ends the processes before the servers go.
    keeper: Keeper,
}

impl Stand {
    /// Brings all of it up.
    ///
    /// # Errors
    /// Something does not come up: with what it said.
    pub fn up(recipe: &Recipe, events: &Events, ground: &Ground) -> Result<Self> {
        let Ground { servers, runtime, runs, .. } = ground;
        let mut links = ground.links.clone();
        let run = runs.fetch_add(1, Ordering::Relaxed);
        let folder = &recipe.folder;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let timeline = Arc::new(Timeline::new(&folder.join("timeline.txt"), recipe.is_told)?);
        let names = (format!("run{run}."), format!("run{run}"));
        let kafka = settings(servers.kafka, &names.0);
        let load = settings(links["load"].address(), &names.0);

        let config = folder.join("killick.toml");
        let catalog = (servers.cassandra, &*names.1);
        write_config(&config, events, &kafka, catalog, loopback(1))?;
        let said = tool(&recipe.program, &config, &["keys", "init"])?;
        let account = said.split_whitespace().find(|word| word.starts_with("k:"));
        let account = account.with_context(|| format!("keys init names no account: {said}"))?;
        let devnet = Devnet::start(&recipe.program, &folder.join("chain"), account, logs.join("devnet.log"))?;
        let chain = Proxy::start(runtime, loopback(0), devnet.address, Framing::Bytes)?;
        links.insert("chain", Arc::new(chain));
        write_config(&config, events, &kafka, catalog, devnet.address)?;
        make_inputs(runtime, servers.kafka)?;
        tool(&recipe.program, &config, &["topics", "apply"])?;
        tool(&recipe.program, &config, &["catalog", "migrate"])?;

        let shape = Shape {
            program: recipe.program.clone(),
            planted: recipe.planted.clone(),
            bug: recipe.bug,
            config: config.clone(),
            logs,
            environment: STAGES.map(|stage| (stage, environment(stage, &links))).into(),
        };
        let fleet = Fleet::new(shape, Arc::clone(&timeline));
        let (least, most) = recipe.processes;
        for stage in STAGES {
            for number in 0..least {
                fleet.add(&Slot { stage, name: number.to_string() })?;
            }
        }
        timeline.note(format_args!("{least} processes of each stage begin"));
        let keeper = Keeper::start(&fleet)?;
        let scene = Scene {
            fleet,
            most: usize::try_from(most)?,
            servers: Arc::clone(servers),
            devnet: Mutex::new(devnet),
            links,
            timeline,
            locks: Locks::default(),
            hanging: AtomicU64::new(0),
            outages: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        Ok(Self { scene, config, kafka, load, keeper })
    }

    /// Ends the processes as an operator does; the servers stay.
    ///
    /// # Errors
    /// Names those that did not end well.
    pub fn stop_processes(&self) -> Result<()> {
        self.scene.fleet.stop()
    }

    /// Ends everything but the servers.
    pub fn down(self) {
        drop(self.keeper);
    }
}

/// Settings that find out quickly what a production site may take its time with.
fn settings(broker: SocketAddr, prefix: &str) -> Settings {
    Settings {
        prefix: prefix.to_owned(),
        brokers: vec![broker.to_string()],
        replication: 1,
        min_in_sync: 1,
        session_timeout: Span::secs(SESSION.as_secs()),
        transaction_timeout: Span::secs(5),
        poll_timeout: Span::secs(12),
        ..Settings::default()
    }
}

fn write_config(
    path: &Path,
    events: &Events,
    kafka: &Settings,
    (catalog, keyspace): (SocketAddr, &str),
    chain: SocketAddr,
) -> Result<()> {
    let Settings { brokers, prefix, session_timeout, transaction_timeout, poll_timeout, .. } = kafka;
    let text = format!(
        r#"[deployment]
name = "faults.example"
logs = 4
network = "development"
chains = [0, 7, 19]

[kafka]
brokers = {brokers:?}
prefix = "{prefix}"
replication = 1
min_in_sync = 1
ingest_workers = 1
session_timeout = "{session_timeout}"
transaction_timeout = "{transaction_timeout}"
poll_timeout = "{poll_timeout}"

[catalog]
nodes = ["{catalog}"]
keyspace = "{keyspace}"
replication = {{ datacenter1 = 1 }}

[chainweb]
nodes = ["http://{chain}"]

[keys]
folder = "keys"

[anchor]
interval = "1s"
depth = 3
poll = "300ms"

[prove]
poll = "300ms"
{}"#,
        events.configuration()
    );
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// What a stage is told in its environment: the links instead of the servers.
fn environment(stage: &'static str, links: &BTreeMap<&'static str, Arc<Proxy>>) -> Vec<(String, String)> {
    let address = |link: &str| links[link].address();
    let mut environment = vec![("KILLICK_KAFKA__BROKERS".to_owned(), format!("[\"{}\"]", address(stage)))];
    let catalog = ("KILLICK_CATALOG__NODES".to_owned(), format!("[\"{}\"]", address("catalog")));
    let chain = ("KILLICK_CHAINWEB__NODES".to_owned(), format!("[\"http://{}\"]", address("chain")));
    match stage {
        "anchor" => environment.push(chain),
        "prove" => environment.extend([catalog, chain]),
        _ => {}
    }
    environment
}

/// Runs a command of the program to its end; returns what it wrote to standard output.
///
/// # Errors
/// It fails: with what it said.
pub fn tool(program: &Path, config: &Path, command: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(command)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} does not start", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "killick {} ended with {}: {said}", command.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// How long topics of an earlier run may take to go.
const GONE: Duration = Duration::from_secs(20);

/// Makes the topics that people already have; what an earlier run left of them goes first.
fn make_inputs(runtime: &Handle, broker: SocketAddr) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.to_string()).create()?;
    let topics = TOPICS.map(|name| {
        NewTopic::new(name, PARTITIONS.cast_signed(), TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", "-1")
    });
    let options = AdminOptions::new().operation_timeout(Some(GONE));
    // Those that are not there do not go, which is as good.
    drop(runtime.block_on(admin.delete_topics(&TOPICS, &options))?);
    let end = Instant::now() + GONE;
    for topic in &topics {
        loop {
            let made = runtime.block_on(admin.create_topics([topic], &options))?;
            match made.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(_) => break,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err((name, error)) => bail!("the topic {name} cannot be made: {error}"),
            }
        }
    }
    Ok(())
}
