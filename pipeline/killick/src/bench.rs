//! `killick bench`: what an event costs on this machine, beside what it must cost at least.

mod chain;
mod events;
mod floor;
mod kafka;
mod line;
mod meter;
mod peers;
mod receipts;
mod state;
mod table;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::cli::{Outcome, Output};
use events::Maker;
use table::Figures;

/// Keys of dedup that are read back, and events whose rate is set beside that of the first 100,000.
const MANY: usize = 10_000_000;
const SOME: usize = 1_000_000;
/// How long a rate is held where it has to be quick.
const QUICK: Duration = Duration::from_secs(15);

/// Measures the pipeline on this machine: ratios to the floor, which is measured in the same run, in turn with it.
///
/// A floor is the least that has to be done, by hand, with the same libraries: decode, check the signature, look the
/// event up, hash it and its tree, copy its path out. `e_signed` is the floor's CPU time over that of the stages. On a machine
/// that does other things the ratios stay, and what goes by the clock (rates, latencies, `core_scaling`) does not.
///
/// With --quick it takes two or three minutes. Without it two rates are held for --minutes each; an event takes some 0.8 KB of
/// --dir until its run ends: 200,000 a second for five minutes 46 GB.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  killick bench --quick\n  killick bench --only chain,receipts --output json\n  killick bench --only kafka --brokers 127.0.0.1:9092\n  killick bench --quick --peers tests/bench/peers/run"
)]
pub struct BenchArgs {
    /// Leaves out what is long: 10 million events, rates held for minutes.
    #[arg(long)]
    quick: bool,

    /// Only these parts. Default: all; `kafka` where there are --brokers.
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// How long each rate is held for its latencies.
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    minutes: u64,

    /// Brokers to measure on: topics of a new name are made there, and removed at the end.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    brokers: Vec<String>,

    /// Measures peers beside us with this program, which builds what it needs: in a checkout tests/bench/peers/run.
    #[arg(long, value_name = "PROGRAM")]
    peers: Option<PathBuf>,

    /// Where folders of the embedded line are made and removed. Default: the system's folder for temporary files.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// A table, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The stages on one core, and on two.
    Chain,
    /// Receipts: made, verified, weighed.
    Receipts,
    /// State in memory.
    State,
    /// The embedded line.
    Line,
    /// How long events take in it.
    Latency,
    /// One hop, and three, on real brokers.
    Kafka,
}

impl BenchArgs {
    fn wants(&self, part: Part) -> bool {
        if self.only.is_empty() {
            part != Part::Kafka || !self.brokers.is_empty()
        } else {
            self.only.contains(&part)
        }
    }
}

/// Measures.
pub fn run(args: &BenchArgs) -> Outcome {
    if args.only.contains(&Part::Kafka) && args.brokers.is_empty() {
        let why = "--only kafka wants --brokers HOST:PORT; `deploy/local/up kafka` starts one here";
        return Err(crate::cli::Failure::Usage(why.to_owned()));
    }
    let begun = Instant::now();
    let mut figures = Figures::new(args.output == Output::Json);
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("killick-bench-").tempdir_in(&base);
    let folder = folder.with_context(|| format!("no folder can be made in {}", base.display()))?;
    measure(args, folder.path(), &mut figures)?;
    let about = about(begun.elapsed())?;
    let mut out = io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", figures.to_json(&about))?,
        Output::Text => figures.write(&mut out, &line_about(&about))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &BenchArgs, folder: &Path, figures: &mut Figures) -> Result<()> {
    let maker = Maker::new();
    // Memory first: what follows leaves the allocator with what it may keep.
    if args.wants(Part::State) {
        let keys = if args.quick { SOME } else { MANY };
        state::measure(&maker, keys as u64, figures)?;
    }
    if args.wants(Part::Chain) {
        chain::measure(&maker, figures)?;
    }
    if args.wants(Part::Receipts) {
        receipts::measure(&maker, folder, figures)?;
    }
    if args.wants(Part::Line) {
        let counts: &[usize] = if args.quick { &[SOME] } else { &[SOME, MANY] };
        line::measure(&maker, folder, counts, figures)?;
    }
    if args.wants(Part::Latency) {
        let held = if args.quick { QUICK } else { Duration::from_secs(60 * args.minutes) };
        line::latency(&maker, folder, held, figures)?;
    }
    if args.wants(Part::Kafka) {
        let many = (!args.quick).then_some(MANY);
        kafka::measure(&maker, &args.brokers, folder, many, figures)?;
    }
    if let Some(program) = &args.peers {
        peers::measure(program, figures)?;
    }
    Ok(())
}

/// This program, this machine and this day.
fn about(took: Duration) -> Result<Value> {
    let date = OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]"))?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = cpus.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let flags = value("flags").unwrap_or_default();
    let has: Vec<_> = ["sha_ni", "avx2", "avx512ifma"]
        .into_iter()
        .filter(|flag| flags.split(' ').any(|known| known == *flag))
        .collect();
    Ok(json!({
        "date": date,
        "version": env!("KILLICK_VERSION"),
        "processor": value("model name").unwrap_or_else(|| "unknown".to_owned()),
        "instructions": has,
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "load_before": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next(),
        "seconds": took.as_secs(),
    }))
}

fn line_about(about: &Value) -> String {
    let text = |name: &str| about[name].as_str().map_or_else(|| about[name].to_string(), str::to_owned);
    let has: Vec<_> =
        about["instructions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "killick {} on {}, {} cores, {} ({}), {} s",
        text("version"),
        text("date"),
        text("cores"),
        text("processor"),
        has.join(" "),
        text("seconds"),
    )
}
