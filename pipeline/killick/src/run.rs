//! `killick run`: the pipeline, until it is told to stop.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use killick_stages::record::Output as Record;
use killick_stages::source::{Decoder, Freshness, Source, Unsigned};
use killick_stages::span::Span;
use killick_stages::{anchor, prove};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::{Failure, Outcome, Output};
use crate::cluster::Cluster;
use crate::config::{Config, ConfigArgs, Devnet};
use crate::counters::Counts;
use crate::feed::{Feed, Form};
use crate::input::{Format, Input, InputArgs, Item, time};
use crate::site::{Plan, Site};
use crate::telemetry::{Otlp, Telemetry};
use crate::watch::Watch;
use crate::{backup, process};

/// The topic of rows and lines from the input of this command.
pub const ROWS: &str = "input";
/// The topic of its CloudEvents.
pub const CLOUD_EVENTS: &str = "input-cloudevents";
/// How long an event may wait for others before it is made durable with them.
const LINGER: Duration = Duration::from_millis(5);
/// Items that are read ahead of what is durable.
const AHEAD: usize = 1_024;
/// How long a drain may take: with a slower chain, proofs go on at the next start.
const GRACE: Duration = Duration::from_secs(90);
/// How soon a signal or a failed stage is noticed on servers.
const WATCH: Duration = Duration::from_millis(50);
/// How long workers may take to finish what is in hand.
const STOP: Duration = Duration::from_secs(45);
/// How often it is told what the workers do.
const REPORT: Duration = Duration::from_secs(10);
/// How often the trust file is brought up to date.
const TRUST: Duration = Duration::from_secs(60);

/// Runs the pipeline, on one machine or as one of many processes, and takes up what an earlier run left.
///
/// With --embedded all of it is in one folder. What is accepted survives a kill at any instant. When the input ends, and
/// all of it has its receipts, so does the run; without an input it runs on. The first signal (Ctrl-C, SIGTERM) drains,
/// for at most 90 s, a second ends at once. Without a configuration file the development network has a quick pace: blocks
/// every 250 ms, anchors every 2 s.
///
/// Without --embedded any stages of a deployment run on Kafka, in as many processes as you like; each needs a slot of its
/// own ([kafka] slot, default the host's name). The first signal finishes what is in hand and leaves the rest to others.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tail -F readings.ndjson | killick run --embedded site/ --input - --format ndjson\n  killick run -c killick.toml --stages dedup,batch"
)]
pub struct RunArgs {
    /// The folder of the embedded side: log, catalog and keys of one machine. Made if it is not there. Without it the
    /// stages run on the servers of the configuration: [kafka], [catalog], [chainweb].
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    pub embedded: Option<PathBuf>,

    /// Says that the original of this folder, which `killick restore` has made, is gone for good: then it goes on here.
    #[arg(long, requires = "embedded")]
    pub confirm_restored: bool,

    /// Events from this file, CSV, NDJSON or signed CloudEvents; - is standard input. Default: what the log has.
    #[arg(long, value_name = "FILE", env = "KILLICK_INPUT")]
    pub input: Option<PathBuf>,

    #[command(flatten)]
    pub form: InputArgs,

    /// Whose events the rows and lines of the input are. CloudEvents name their tenant.
    #[arg(long, value_name = "TENANT", default_value = "local")]
    pub tenant: String,

    /// How much older than now the input's events may be, or `off` for history. Default: 24h for CloudEvents, else off.
    #[arg(long, value_name = "SPAN", value_parser = freshness)]
    pub freshness: Option<Freshness>,

    /// Only these stages of ingest, dedup, batch, anchor, prove; reanchor, lend where there is a [reanchor.NAME]. Default: all.
    #[arg(long, value_name = "STAGES", env = "KILLICK_STAGES", value_delimiter = ',')]
    pub stages: Vec<String>,

    #[command(flatten)]
    pub config: ConfigArgs,

    /// A live table and a summary, or one object with the same figures at the end.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

fn freshness(text: &str) -> Result<Freshness, String> {
    match text {
        "off" => Ok(Freshness::Off),
        span => span
            .parse()
            .map(Freshness::Within)
            .map_err(|error: killick_stages::span::SpanError| error.to_string()),
    }
}

/// What a run did; printed at its end.
#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    counts: Counts,
    seconds: f64,
    /// What goes on at the next start, if anything.
    unfinished: Option<String>,
    folder: PathBuf,
}

/// Runs the pipeline.
pub fn run(args: RunArgs, otlp: Otlp) -> Outcome {
    let mut config = Config::load(&args.config).map_err(|error| Failure::Usage(error.to_string()))?;
    let Some(folder) = args.embedded.clone() else { return run_on_servers(&args, &config, otlp) };
    if args.config.config.is_none() {
        quicken(&mut config);
    }
    // An input that cannot be opened is found out before anything is made.
    let input = args.input.as_deref().map(|path| Input::open(path, &args.form));
    let input = input.transpose().map_err(|error| Failure::Usage(error.to_string()))?;
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let drain = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), drain.clone())?;
    let telemetry = Telemetry::begin(&config, otlp, runtime.handle(), drain.clone())?;
    if args.confirm_restored {
        backup::confirm(&folder)?;
    }
    let mut site = Site::open(&folder, plan(&args, &config))?;
    site.observe(Arc::clone(&telemetry));
    let _listening = backup::serve(&folder, site.log.clone(), site.catalog.clone())?;
    site.start(runtime.handle(), None)?;

    let is_json = args.output == Output::Json;
    let feeding = input.map(|input| Feeding::start(&args, input, &site, drain.clone())).transpose()?;
    let watch = Watch::begin(is_json);
    let mut trusted = Instant::now();
    let mut deadline = None;
    let mut unfinished = None;
    watch.until(&site, || {
        telemetry.health().turned();
        if trusted.elapsed() > TRUST {
            trusted = Instant::now();
            site.write_trust(&[])?;
        }
        let is_fed = feeding.as_ref().is_some_and(Feeding::is_over);
        if !is_fed && !drain.is_cancelled() {
            return Ok(false);
        }
        if drain.is_cancelled() {
            deadline.get_or_insert_with(|| Instant::now() + GRACE);
        } else if !args.stages.is_empty() {
            // Others have the other stages: nobody here can say when all is done.
            return Ok(false);
        }
        unfinished = site.unfinished()?;
        Ok(unfinished.is_none() || deadline.is_some_and(|deadline| Instant::now() > deadline))
    })?;
    let failed_feed = feeding.map(Feeding::end).transpose();
    site.write_trust(&[])?;
    let stopped = site.stop();
    telemetry.end();
    stopped?;
    failed_feed?;
    tell(&args, &folder, &site, begun, unfinished)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs stages of a deployment on servers, until a signal comes or one of them cannot go on.
fn run_on_servers(args: &RunArgs, config: &Config, otlp: Otlp) -> Outcome {
    if args.input.is_some() {
        let why = "--input goes with --embedded; on Kafka, events come from the topics of [[source]]";
        return Err(Failure::Usage(why.to_owned()));
    }
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    let telemetry = Telemetry::begin(config, otlp, runtime.handle(), stop.clone())?;
    let mut cluster =
        Cluster::start(config, &args.stages, runtime.handle(), &stop, Arc::clone(&telemetry), None)?;
    let mut reported = Instant::now();
    while !stop.is_cancelled() && !cluster.stopping().is_cancelled() {
        telemetry.health().turned();
        std::thread::sleep(WATCH);
        if reported.elapsed() > REPORT {
            reported = Instant::now();
            cluster.report();
        }
    }
    // A client of the brokers may hang where they are away; what it had in hand is committed or will be done again.
    std::thread::spawn(|| {
        std::thread::sleep(STOP);
        tracing::error!("not all workers have stopped after {STOP:?}: ending the process");
        std::process::exit(1);
    });
    let outcome = cluster.stop();
    telemetry.end();
    cluster.report();
    let counts = cluster.counters().counts();
    let mut out = std::io::stdout().lock();
    let seconds = begun.elapsed().as_secs_f64();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::json!({ "counts": counts, "seconds": seconds }))?,
        Output::Text => {
            let Counts { duplicates, conflicts, rejected, proven, batches, anchors, .. } = counts;
            writeln!(
                out,
                "committed here: duplicates {duplicates}, conflicts {conflicts}, rejected {rejected}"
            )?;
            writeln!(out, "{batches} batches, {anchors} anchors, {proven} events proven, {seconds:.1} s")?;
        }
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Who configures nothing tries things out: the development network need not keep the pace of a real one.
fn quicken(config: &mut Config) {
    if config.anchor == anchor::Config::default() {
        config.anchor.interval = Span::secs(2);
        config.anchor.depth = 3;
        config.anchor.poll = Span::millis(200);
    }
    if config.prove == prove::Config::default() {
        config.prove.poll = Span::millis(200);
    }
    if config.devnet == Devnet::default() {
        config.devnet.block_interval = Span::millis(250);
    }
}

fn plan(args: &RunArgs, config: &Config) -> Plan {
    let mut ingest = config.ingest();
    let mut rows = Source::new(ROWS);
    rows.tenant = Some(args.tenant.clone());
    rows.unsigned = Unsigned::Accept;
    rows.freshness = args.freshness.unwrap_or(Freshness::Off);
    let mut cloud_events = Source::new(CLOUD_EVENTS);
    cloud_events.decoder = Decoder::CloudEvents;
    cloud_events.freshness = args.freshness.unwrap_or_default();
    for own in [rows, cloud_events] {
        // Who configures the topic knows better.
        if !ingest.sources.iter().any(|source| source.topic == own.topic) {
            ingest.sources.push(own);
        }
    }
    Plan { ingest, stages: args.stages.clone(), ..Plan::of(config) }
}

/// The input on its way into the log.
struct Feeding(std::thread::JoinHandle<Result<()>>);

impl Feeding {
    fn start(args: &RunArgs, input: Input, site: &Site, drain: CancellationToken) -> Result<Self> {
        let is_cloud_events = args.form.format == Some(Format::Cloudevents);
        let topic = if is_cloud_events { CLOUD_EVENTS } else { ROWS };
        let (log, counters) = (site.log.clone(), Arc::clone(site.counters()));
        let logs = site.deployment().logs();
        let form = Form::new(topic, &args.tenant, logs);
        let feed = Feed::new(log, &form, counters, site.stopping().clone());
        let name = input.name().to_owned();
        // The rows of a pipe are numbered anew in every run: without ids of their own they must not look like copies.
        let is_pipe = args.input.as_deref() == Some(Path::new("-"));
        let id_prefix = (is_pipe && args.form.id_column.is_none()).then(|| format!("{}-", time::now()));
        let tells = args.output == Output::Json;
        let (sender, records) = sync_channel(AHEAD);
        // It may wait for a line for ever, and ends with the process.
        std::thread::Builder::new().name("read".into()).spawn(move || {
            for item in input {
                let record = item
                    .map_err(Into::into)
                    .and_then(|item| record(&form, &name, id_prefix.as_deref(), item));
                if sender.send(record).is_err() {
                    break;
                }
            }
        })?;
        let thread = std::thread::Builder::new().name("feed".into());
        Ok(Self(thread.spawn(move || Feeder { feed, tells, told: 0 }.work(&records, &drain))?))
    }

    fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    fn end(self) -> Result<()> {
        match self.0.join() {
            Ok(outcome) => outcome.context("the input"),
            Err(_) => bail!("the feed ended in a panic: this is a defect, please report it"),
        }
    }
}

/// The record of an item of the input of this name.
fn record(form: &Form, name: &str, id_prefix: Option<&str>, item: Item) -> Result<Record> {
    Ok(match item {
        Item::Event(mut event) => {
            if let Some(prefix) = id_prefix {
                event.id.insert_str(0, prefix);
            }
            form.event(&event, None)?
        }
        Item::CloudEvent { value, .. } => form.cloud_event(value),
        Item::Bad(bad) => form.bad(name, &bad),
    })
}

struct Feeder {
    feed: Feed,
    /// Says on standard output how many items are accepted, so that a sender knows what it need not send again.
    tells: bool,
    told: u64,
}

impl Feeder {
    fn work(mut self, records: &Receiver<Result<Record>>, drain: &CancellationToken) -> Result<()> {
        // Since when something may wait for company; no clock is asked while records are there.
        let mut since = None;
        loop {
            let record = match records.try_recv() {
                Ok(record) => Some(record),
                Err(TryRecvError::Disconnected) => return self.flush(),
                Err(TryRecvError::Empty) => {
                    let waited = since.get_or_insert_with(Instant::now).elapsed();
                    match records.recv_timeout(LINGER.saturating_sub(waited)) {
                        Ok(record) => Some(record),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => return self.flush(),
                    }
                }
            };
            let (given, is_late) = (self.feed.given(), record.is_none());
            match record {
                Some(record) => {
                    self.feed.add(record?)?;
                    self.tell(self.feed.given())?;
                }
                None => self.flush()?,
            }
            if is_late || self.feed.given() > given {
                since = None;
                if drain.is_cancelled() {
                    return self.flush();
                }
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        let given = self.feed.flush()?;
        self.tell(given)
    }

    fn tell(&mut self, given: u64) -> Result<()> {
        if self.tells && given > self.told {
            self.told = given;
            writeln!(std::io::stdout(), "{{\"accepted\":{given}}}")?;
        }
        Ok(())
    }
}

fn tell(
    args: &RunArgs,
    folder: &Path,
    site: &Site,
    begun: Instant,
    unfinished: Option<String>,
) -> Result<()> {
    let summary = Summary {
        counts: site.counters().counts(),
        seconds: begun.elapsed().as_secs_f64(),
        unfinished,
        folder: folder.to_owned(),
    };
    let mut out = std::io::stdout().lock();
    if args.output == Output::Json {
        writeln!(out, "{}", serde_json::to_string(&summary)?)?;
        return Ok(());
    }
    let Counts { events, duplicates, conflicts, rejected, proven, batches, anchors } = summary.counts;
    let seconds = summary.seconds;
    writeln!(out, "{events} events taken, {proven} proven in this run")?;
    writeln!(out, "duplicates {duplicates}, conflicts {conflicts}, rejected {rejected}")?;
    writeln!(out, "{batches} batches, {anchors} anchors, {seconds:.1} s")?;
    if let Some(unfinished) = &summary.unfinished {
        writeln!(out, "{unfinished}: that goes on at the next start")?;
    }
    let folder = folder.display();
    writeln!(out, "killick receipts export --embedded {folder} --out receipts/")?;
    writeln!(out, "killick verify receipts/ --trust {folder}/trust.json")?;
    Ok(())
}
