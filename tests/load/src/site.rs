//! Deployments to measure: each with topics, a keyspace, keys and a chain of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use killick_kafka::{Names, Settings, client_config};
use killick_stages::route;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::runtime::Runtime;

use crate::events::Events;
use crate::process::Running;

/// Logs of a deployment, and partitions of its input.
pub const LOGS: u32 = 4;
/// Workers of ingest in a process: as many as stand in the configuration below.
pub const INGEST_WORKERS: usize = 2;
/// How long a command that prepares something may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what a process says.
const LOOK: Duration = Duration::from_millis(10);

/// Where all of it happens.
pub struct Site {
    /// The program.
    pub killick: PathBuf,
    /// The folder for configurations, keys and logs.
    pub folder: PathBuf,
    /// What no other run on these servers is called.
    pub run: String,
    /// The brokers.
    pub brokers: String,
    /// The nodes of the catalog.
    pub nodes: String,
    /// The brokers' process, where it is known.
    pub broker: Option<u32>,
    /// The catalog's process, where it is known.
    pub catalog: Option<u32>,
}

impl Site {
    /// How to reach the brokers, with a prefix for inner topics.
    pub fn settings(&self, prefix: &str) -> Settings {
        let brokers = self.brokers.split(',').map(str::to_owned).collect();
        Settings { brokers, prefix: prefix.to_owned(), replication: 1, min_in_sync: 1, ..Settings::default() }
    }

    /// Makes a topic as input topics are.
    ///
    /// # Errors
    /// The brokers refuse.
    pub fn make_topic(&self, name: &str) -> Result<()> {
        let partitions = i32::try_from(LOGS)?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime");
        let made = self.admin(async |admin| admin.create_topics([&topic], &options()).await)?;
        made.into_iter()
            .try_for_each(|made| made.map(drop).map_err(|(_, why)| why))
            .with_context(|| format!("the brokers at {} do not make the topic {name}", self.brokers))
    }

    /// Removes topics; those that are not there are none the worse.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub fn remove_topics(&self, names: &[String]) -> Result<()> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.admin(async |admin| admin.delete_topics(&names, &options()).await).map(drop)
    }

    fn admin<T>(
        &self,
        ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>) -> rdkafka::error::KafkaResult<T>,
    ) -> Result<T> {
        let admin = client_config(&self.settings(""), "load")?.create()?;
        let asked = Runtime::new()?.block_on(ask(&admin));
        asked.with_context(|| format!("the brokers at {} do not answer", self.brokers))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

/// A deployment with nothing in it yet.
pub struct Deployment<'s> {
    site: &'s Site,
    /// How to reach its log.
    pub settings: Settings,
    /// Where its events come in.
    pub input: String,
    /// For its configuration, keys and logs.
    pub folder: PathBuf,
    /// Its chain and the address of that, if it has one.
    chain: Option<(Running, String)>,
}

impl<'s> Deployment<'s> {
    /// Makes one, as its users would.
    ///
    /// # Errors
    /// A step of it fails.
    pub fn make(site: &'s Site, name: &str, events: &Events) -> Result<Self> {
        let (mut made, account) = Self::begin(site, name, events)?;
        made.chain = Some(chain(site, &made.folder, &account)?);
        prepare(site, &made.folder, &["catalog", "migrate"])?;
        Ok(made)
    }

    /// Makes one for the stages up to a signed checkpoint, which need neither a chain nor a catalog.
    ///
    /// # Errors
    /// A step of it fails.
    pub fn make_log(site: &'s Site, name: &str, events: &Events) -> Result<Self> {
        Self::begin(site, name, events).map(|(made, _)| made)
    }

    /// The part that needs the brokers alone; says which account pays for anchors, too.
    fn begin(site: &'s Site, name: &str, events: &Events) -> Result<(Self, String)> {
        let folder = site.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let (own, input) = (format!("{}.{name}", site.run), format!("{}.{name}.in", site.run));
        let settings = site.settings(&format!("{own}."));
        let config = configuration(site, &own) + &events.configuration(&input);
        fs::write(folder.join("killick.toml"), config)?;
        site.make_topic(&input)?;
        let keys = prepare(site, &folder, &["keys", "init"])?;
        let account =
            keys.split_once("paid by ").map(|(_, account)| account.lines().next().unwrap_or_default());
        let account = account.with_context(|| format!("killick keys init names no account: {keys}"))?;
        prepare(site, &folder, &["topics", "apply"])?;
        Ok((Self { site, settings, input, folder, chain: None }, account.to_owned()))
    }

    /// The process of its chain, if it has one.
    pub fn chain(&self) -> Option<u32> {
        self.chain.as_ref().map(|(process, _)| process.id())
    }

    /// Starts a process of some stages, or of all.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, name: &str, stages: Option<&str>) -> Result<Running> {
        let mut command = self.command(&["run"]);
        command.env("KILLICK_LOG_FORMAT", "json");
        if let Some((_, node)) = &self.chain {
            command.env("KILLICK_CHAINWEB__NODES", format!("[\"{node}\"]"));
        }
        if let Some(stages) = stages {
            command.args(["--stages", stages]);
        }
        Running::start(&mut command, &self.folder, name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.site, &self.folder, arguments)
    }

    /// Removes its topics.
    ///
    /// # Errors
    /// The brokers cannot be asked.
    pub fn remove(self) -> Result<()> {
        let names = Names::new(&self.settings.prefix);
        let inner = |hop: &route::Hop| [hop.reads, hop.writes, hop.state.as_slice()].concat();
        let mut topics: Vec<_> = route::ROUTE.iter().flat_map(inner).collect();
        topics.push(route::AUDIT);
        topics.retain(|topic| route::is_inner(topic));
        topics.sort_unstable();
        topics.dedup();
        let mut topics: Vec<_> = topics.into_iter().map(|topic| names.topic(topic)).collect();
        topics.push(self.input.clone());
        self.site.remove_topics(&topics)
    }
}

/// Starts a chain, and says where it is.
fn chain(site: &Site, folder: &Path, account: &str) -> Result<(Running, String)> {
    let mut command = Command::new(&site.killick);
    command.args(["devnet", "--listen", "127.0.0.1:0", "--block-interval", "250ms", "--account", account]);
    let mut chain = Running::start(&mut command, folder, "devnet")?;
    let begun = Instant::now();
    loop {
        chain.expect_alive()?;
        if let Some((_, node)) = chain.output()?.split_once("http://")
            && let Some((node, _)) = node.split_once('\n')
        {
            return Ok((chain, format!("http://{node}")));
        }
        ensure!(begun.elapsed() < PATIENCE, "killick devnet says no address");
        sleep(LOOK);
    }
}

fn command(site: &Site, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&site.killick);
    command.args(arguments).arg("-c").arg(folder.join("killick.toml"));
    command
}

/// Runs a command to its good end; returns what it wrote to standard output.
fn prepare(site: &Site, folder: &Path, arguments: &[&str]) -> Result<String> {
    let name = arguments.join("-");
    let running = Running::start(&mut command(site, folder, arguments), folder, &name)?;
    running.finish(PATIENCE)?;
    Ok(fs::read_to_string(folder.join(format!("{name}.out")))?)
}

/// The configuration of a deployment: what is not named is at its default, as users have it.
fn configuration(site: &Site, own: &str) -> String {
    let list = |text: &str| {
        text.split(',').map(|each| format!("\"{}\"", each.trim())).collect::<Vec<_>>().join(", ")
    };
    let brokers = list(&site.brokers);
    // The stages up to a checkpoint do without.
    let catalog = if site.nodes.is_empty() {
        String::new()
    } else {
        let (nodes, keyspace) = (list(&site.nodes), own.replace('.', "_"));
        format!(
            "[catalog]\nnodes = [{nodes}]\nkeyspace = \"{keyspace}\"\nreplication = {{ datacenter1 = 1 }}\n\n"
        )
    };
    format!(
        r#"# A deployment to measure.
[deployment]
name = "load.example"
logs = {LOGS}
network = "development"
chains = [0]

[anchor]
interval = "2s"
depth = 3
poll = "200ms"

[prove]
poll = "200ms"

[kafka]
brokers = [{brokers}]
prefix = "{own}."
slot = "0"
# Workers are paused for as long as it takes to send the events.
session_timeout = "20s"
ingest_workers = {INGEST_WORKERS}
replication = 1
min_in_sync = 1

{catalog}[keys]
folder = "keys"

"#
    )
}
