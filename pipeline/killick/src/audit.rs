//! `killick audit`: shows from the log that nothing was lost and nothing done twice, or what was, and where.

mod ending;
mod leaves;
mod show;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_stages::audit::{Committed, Finding, Observer, Report, Settings, audit, committed};
use killick_stages::ports::Reader;
use killick_stages::record::{Micros, Partition};
use killick_stages::route::EVENTS;
use killick_stages::span::{Span, SpanError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::{Failure, Outcome, Output};
use crate::config::Config;
use crate::process;
use crate::run::{CLOUD_EVENTS, ROWS};
use crate::stores::{self, Stores};
use crate::telemetry::{Otlp, Telemetry};
use ending::UntilEnd;
use leaves::OnDisk;

/// How long a committed transaction may take until all of it can be read on servers: the longest one, and some.
const SETTLE: Duration = Duration::from_secs(60);
/// Between two looks at the start, whether the log is there.
const AGAIN: Duration = Duration::from_secs(5);

/// Shows from the log that nothing was lost and nothing done twice, or what was, and where.
///
/// Reads the manifests, which every stage writes into `audit` in each transaction, and holds them against the log: they
/// tile what each stage read, what they count is there, and each accepted event has one end: a proof, a verdict as a copy,
/// or a rejection. Reads each topic once; the audit's own memory does not grow with them. What retention took is told as
/// not covered. On servers, what was written within the last minute is looked at twice, a minute apart, if it seems wrong.
///
/// With --every, on servers, it waits for the log and goes on until it is told to end, and what it finds is in the metrics: `[admin] listen`
/// says where, or the environment of OpenTelemetry.
///
/// Exit status: 0 nothing is wrong (with --every: it was told to end), 1 something is (or the log cannot be read), 2 usage.
#[derive(Debug, Args)]
#[command(after_help = "Examples: killick audit -c killick.toml --objective 15m --since 1h
          killick audit -c killick.toml --since 3h --every 1h")]
pub struct AuditArgs {
    #[command(flatten)]
    from: stores::From,

    /// How old an accepted event may be without a proof.
    #[arg(long, value_name = "SPAN", default_value = "15m", env = "KILLICK_OBJECTIVE")]
    objective: Span,

    /// Only what the log took in this last time. Default: all that it keeps.
    #[arg(long, value_name = "SPAN")]
    since: Option<Span>,

    /// Again and again, once in this time, and for metrics; a log that cannot be read is tried again the next time.
    #[arg(long, value_name = "SPAN", value_parser = every)]
    every: Option<Span>,

    /// Only whether the manifests tile: reads nothing else, and takes seconds.
    #[arg(long, conflicts_with_all = ["objective"])]
    manifests_only: bool,

    /// How many findings are printed; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    /// Text for people, or one JSON object for each finding and one for the whole.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl AuditArgs {
    /// Whether it goes on until it is told to end.
    pub fn goes_on(&self) -> bool {
        self.every.is_some()
    }
}

fn every(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: SpanError| error.to_string())?;
    if span < Span::secs(10) { Err("it is 10s or more".to_owned()) } else { Ok(span) }
}

/// Does what `killick audit` is asked to.
pub fn run(args: &AuditArgs, otlp: Otlp) -> Outcome {
    let config = Config::load(&args.from.config)?;
    let stores = args.from.find()?;
    let Some(every) = args.every else {
        let (report, heard) = once(args, &config, &stores, &CancellationToken::new())?;
        show::print(args.output, &report, &heard, args.limit)?;
        return Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    if let Stores::Folder(_) = &stores {
        let why = "--every is for servers: nobody else has a folder while it is audited, so that nothing could run in it";
        return Err(Failure::Usage(why.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    let telemetry = Telemetry::begin(&config, otlp, runtime.handle(), stop.clone())?;
    if !telemetry.is_heard() {
        let why = "--every is for metrics: set [admin] listen, or OTEL_EXPORTER_OTLP_ENDPOINT";
        return Err(Failure::Usage(why.to_owned()));
    }
    let audits = telemetry.audits();
    audits.begun(since(0));
    await_log(&sources(&config), &stores, &stop);
    telemetry.health().staffed();
    while !stop.is_cancelled() {
        let (begun, end) = (since(0), Instant::now() + every.duration());
        match once(args, &config, &stores, &stop) {
            // Cut short: its findings may be young.
            _ if stop.is_cancelled() => break,
            Ok((report, heard)) => {
                audits.found(begun, &report);
                show::print(args.output, &report, &heard, args.limit)?;
            }
            Err(error) => {
                audits.failed();
                warn!(error = format!("{error:#}"), %every, "the log cannot be audited; trying again with the next");
            }
        }
        process::pause(end.saturating_duration_since(Instant::now()), &stop);
    }
    telemetry.end();
    Ok(ExitCode::SUCCESS)
}

/// Waits until there is a log that may be read, or for the end: where all begin together, its topics are made meanwhile.
fn await_log(sources: &[String], stores: &Stores, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match stores.log().and_then(|mut reader| Ok(committed(&mut *reader, sources)?)) {
            Ok(_) => return,
            Err(error) => {
                warn!(error = format!("{error:#}"), "the log cannot be audited yet; trying again soon");
            }
        }
        process::pause(AGAIN, stop);
    }
}

/// One audit; looks twice where something is young.
fn once(
    args: &AuditArgs,
    config: &Config,
    stores: &Stores,
    stop: &CancellationToken,
) -> Result<(Report, Vec<Finding>)> {
    let mut reader = UntilEnd::new(stores.log()?, stop);
    let mut settings = settings(args, config);
    if let Stores::Folder(_) = stores {
        // What a folder may have, and where the input of a command goes. On servers they may be nobody's, of whom brokers refuse to speak.
        settings.sources.extend([EVENTS, ROWS, CLOUD_EVENTS].map(str::to_owned));
    }
    let before = committed(&mut reader, &settings.sources)?;
    let (mut report, mut heard) = match stores {
        // A folder shows each transaction whole or not at all.
        Stores::Folder(_) => look(&mut reader, &settings, &before, args.limit)?,
        Stores::Servers(_) => {
            let settle = Micros::try_from(SETTLE.as_micros()).unwrap_or(Micros::MAX);
            let settled = Some(settings.now.saturating_sub(settle));
            look(&mut reader, &Settings { settled, ..settings.clone() }, &before, args.limit)?
        }
    };
    if report.unsettled > 0 {
        let left = SETTLE.saturating_sub(since(settings.now));
        writeln!(io::stderr(), "{} findings are young: looking again in {left:.0?}", report.unsettled)?;
        process::pause(left, stop);
        let again = Settings { settled: Some(settings.now), ..settings };
        (report, heard) = look(&mut reader, &again, &before, args.limit)?;
        // What came up meanwhile is younger than the look: the next one's business.
        report.unsettled = 0;
    }
    Ok((report, heard))
}

fn settings(args: &AuditArgs, config: &Config) -> Settings {
    let now = Micros::try_from(since(0).as_micros()).unwrap_or(Micros::MAX);
    Settings {
        objective: (!args.manifests_only).then(|| args.objective.micros()),
        now,
        since: args.since.map(|span| now.saturating_sub(span.micros())),
        settled: None,
        window: config.dedup.window.micros(),
        sources: sources(config),
    }
}

/// The topics that ingest reads.
fn sources(config: &Config) -> Vec<String> {
    config.sources.iter().map(|source| source.topic.clone()).collect()
}

/// The time that passed since a log time, by this machine's clock.
fn since(time: Micros) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(u64::try_from(time).unwrap_or_default()))
}

/// One look at all of it.
fn look(
    reader: &mut dyn Reader,
    settings: &Settings,
    before: &Committed,
    limit: usize,
) -> Result<(Report, Vec<Finding>)> {
    let bar = ProgressBar::new(0);
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut hearer = Hearer { bar, limit, heard: Vec::new(), of: None };
    let outcome = audit(reader, settings, before, &mut hearer, &mut OnDisk::default());
    hearer.bar.finish_and_clear();
    Ok((outcome?, hearer.heard))
}

/// Keeps the first findings, and shows how far the audit is.
struct Hearer {
    bar: ProgressBar,
    limit: usize,
    heard: Vec<Finding>,
    /// The partition that is shown.
    of: Option<Partition>,
}

impl Observer for Hearer {
    fn found(&mut self, finding: Finding) {
        if self.heard.len() < self.limit {
            self.heard.push(finding);
        }
    }

    fn progress(&mut self, partition: &Partition, offset: u64, end: u64) {
        if self.of.as_ref() != Some(partition) {
            self.of = Some(partition.clone());
            self.bar.set_length(end);
            self.bar.set_message(partition.to_string());
        }
        self.bar.set_position(offset);
    }
}
