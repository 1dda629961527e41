//! Measures the stages on real servers; `tests/load/run` starts it, with everything that it needs.

mod baseline;
mod events;
mod eye;
mod meter;
mod peers;
mod process;
mod report;
mod runs;
mod site;

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::baseline::{Baseline, Tools};
use crate::events::{Events, Kind};
use crate::report::Report;
use crate::site::Site;

/// Measures the stages on real servers. `tests/load/run --help` is for people; this is what it calls.
#[derive(Debug, Parser)]
struct Options {
    /// Events of each measurement.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    events: u32,
    /// Bytes of payload in each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    payload: u32,
    /// Devices sign the events.
    #[arg(long)]
    signed: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The program.
    #[arg(long)]
    killick: PathBuf,
    /// An empty folder.
    #[arg(long)]
    folder: PathBuf,
    /// The brokers, with commas between them.
    #[arg(long)]
    brokers: String,
    /// The nodes of the catalog, with commas between them.
    #[arg(long, required_unless_present = "peers", default_value = "")]
    nodes: String,
    /// The process of the brokers, if it is on this machine.
    #[arg(long)]
    broker_process: Option<u32>,
    /// The process of the catalog, if it is on this machine.
    #[arg(long)]
    catalog_process: Option<u32>,
    /// Java, for the brokers' own tools.
    #[arg(long)]
    java: PathBuf,
    /// The folder with the jars of these tools.
    #[arg(long)]
    jars: PathBuf,
    /// Measures these peers beside the stages that they can be held against, and nothing else; `tests/bench/peers/run`
    /// calls it so. Always JSON.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEERS")]
    peers: Vec<Peer>,
    /// How often each peer is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// The folder with the jars of the Kafka Streams program.
    #[arg(long)]
    streams: Option<PathBuf>,
}

/// Whom the stages are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// The same topology as a Kafka Streams program.
    Streams,
    /// The brokers' own tools.
    Tools,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut out = stdout().lock();
    if !options.peers.is_empty() {
        let report = serde_json::to_string(&measure_peers(&options)?)?;
        return Ok(writeln!(out, "{report}")?);
    }
    let report = measure(&options)?;
    match options.output {
        Output::Text => writeln!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", report.to_json()?)?,
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Report> {
    let tell = teller();
    let load_before = load()?;
    let (site, events, kind) = prepare(options)?;
    let (count, bytes) = (events.count(), events.record_bytes());
    tell(format!("{count} events made, {bytes} bytes each"));

    let tools = Tools::new(&site, options.java.clone(), options.jars.clone())?;
    let baseline = |when: &str| -> Result<Baseline> {
        let ran = tools.run(count, bytes)?;
        let [produced, consumed] = [ran.producer, ran.consumer].map(|tool| tool.records_per_second);
        tell(format!("the broker's own tools {when}: {produced:.0} records/s in, {consumed:.0} out"));
        Ok(ran)
    };
    // The first run is for the broker's compiler.
    baseline("to warm up")?;
    let before = baseline("before")?;
    let hops = runs::hops(&site, &events, &tell)?;
    tell("the whole line in five processes".to_owned());
    let five = runs::line(&site, &events, false, &tell)?;
    tell("the whole line in one process".to_owned());
    let one = runs::line(&site, &events, true, &tell)?;
    let after = baseline("after")?;
    tools.remove()?;
    Ok(Report {
        events: count,
        signed: kind.signed,
        payload: kind.payload,
        record_bytes: bytes,
        cores: meter::cores(),
        load_before,
        tools: Baseline::better(&before, &after),
        tools_each: [before, after],
        hops,
        lines: vec![five, one],
    })
}

fn measure_peers(options: &Options) -> Result<peers::Report> {
    let tell = teller();
    let load_before = load()?;
    let (site, events, _) = prepare(options)?;
    let (count, bytes) = (events.count(), events.record_bytes());
    tell(format!("{count} events made, {bytes} bytes each"));
    let is_wanted = |peer| options.peers.contains(&peer);
    let tools = is_wanted(Peer::Tools).then(|| Tools::new(&site, options.java.clone(), options.jars.clone()));
    let tools = tools.transpose()?;
    let streams = is_wanted(Peer::Streams).then(|| {
        let jars = options.streams.clone().context("--streams says where the Kafka Streams program is")?;
        anyhow::Ok(peers::Streams { java: options.java.clone(), jars })
    });
    let streams = streams.transpose()?;
    let rounds = peers::rounds(&site, &events, streams.as_ref(), tools.as_ref(), options.rounds, &tell)?;
    tools.map(Tools::remove).transpose()?;
    Ok(peers::Report { events: count, record_bytes: bytes, cores: meter::cores(), load_before, rounds })
}

/// Says what goes on, and since when.
fn teller() -> impl Fn(String) {
    let begun = Instant::now();
    move |what| eprintln!("  {:>4}s  {what}", begun.elapsed().as_secs())
}

/// The place, and the events that are measured with.
fn prepare(options: &Options) -> Result<(Site, Events, Kind)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let site = Site {
        killick: options.killick.clone(),
        folder: options.folder.clone(),
        // No two runs see each other.
        run: format!("load{}{}", now.as_secs(), std::process::id()),
        brokers: options.brokers.clone(),
        nodes: options.nodes.clone(),
        broker: options.broker_process,
        catalog: options.catalog_process,
    };
    let kind = Kind {
        count: usize::try_from(options.events)?,
        payload: usize::try_from(options.payload)?,
        signed: options.signed,
    };
    // Their times lie in the past, so that none is ahead of the log.
    let start = i64::try_from(now.as_micros())? - 600_000_000;
    Ok((site, Events::make(kind, start)?, kind))
}

/// The machine's load, averaged over a minute.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}
