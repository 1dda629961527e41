//! Measures the stages on real servers; `tests/load/run` starts it, with everything that it needs.

mod baseline;
mod events;
mod eye;
mod meter;
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
    #[arg(long)]
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let report = measure(&options)?;
    let mut out = stdout().lock();
    match options.output {
        Output::Text => writeln!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", report.to_json()?)?,
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Report> {
    let begun = Instant::now();
    let tell = |what: String| eprintln!("  {:>4}s  {what}", begun.elapsed().as_secs());
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
    let load_before = load()?;
    let kind = Kind {
        count: usize::try_from(options.events)?,
        payload: usize::try_from(options.payload)?,
        signed: options.signed,
    };
    // Their times lie in the past, so that none is ahead of the log.
    let start = i64::try_from(now.as_micros())? - 600_000_000;
    let events = Events::make(kind, start)?;
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

/// The machine's load, averaged over a minute.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}
