//! `killick monitor`: follows logs that somebody publishes, and tells whether they only grow.

mod show;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_proof::note::VerifierKey;
use killick_stages::span::Span;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::cli::{Failure, Outcome, Output};
use crate::process;
use crate::stores::read_trust;
use crate::tiles::memory::Memory;
use crate::tiles::place::Place;
use crate::tiles::shelf::Hold;
use crate::tiles::watch::{Checked, Trouble, View, check};
use crate::tiles::{SPLIT, every, folder_of};
use show::show;

/// Status where what is published is not right.
const DAMAGED: u8 = 1;
/// Status where something is missing.
const UNDECIDED: u8 = 4;

/// Follows logs that are published as static files (C2SP tlog-tiles), and tells whether they only grow.
///
/// Of each log: the checkpoint and its signature; that it is consistent with the newest one that was seen before, by a proof
/// made from the tiles; every new entry, which has to be the batch header that is next in this log; and every tile that has
/// them. With --also, that two publications of a log are one history. A split view is told with both signed notes, which
/// stay in the folder of --state: whoever has them can show it to anyone.
///
/// What it shows is that there is one history, as far as this monitor sees it; not that the statements in it are true, nor
/// when they were made: see `killick verify`.
///
/// Exit status: 0 all is well (with --every: it was told to end), 3 a log shows two histories, became smaller, or signed what
/// no such log has, 1 what is published is damaged or anything else failed, 4 something is missing, 2 usage. Of several logs
/// the gravest, in this order.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: killick monitor https://plant.example/ --trust logs.json --state seen/ --every 1m\n          killick monitor public/ --key plant.example/1/sha256/0+1f2e3d4c+AaBb… --output json"
)]
pub struct MonitorArgs {
    /// Where the logs are published: an address or a folder. Each log in the folder that is called like its origin, or one
    /// log at the place itself.
    #[arg(value_name = "URL|DIR")]
    place: String,

    /// A second place where the same logs are published: both have to be one history. It may lag behind.
    #[arg(long, value_name = "URL|DIR")]
    also: Option<String>,

    /// The key of a log, in the text form of note verifiers. Can be repeated.
    #[arg(long = "key", value_name = "KEY", required_unless_present = "trust")]
    keys: Vec<VerifierKey>,

    /// A trust file with keys of logs. Those that count until a certain time only do not count here: a monitor sees no blocks.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,

    /// Only the log with this origin. Can be repeated. Default: all whose keys are known, as far as they are published.
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// The folder where what was seen is remembered; made if it is not there. Without it each call sees the logs for the
    /// first time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Again and again, once in this time, until it is told to end, or a log shows two histories.
    #[arg(long, value_name = "SPAN", value_parser = every)]
    every: Option<Span>,

    /// Once; so it is without --every.
    #[arg(long, conflicts_with = "every")]
    once: bool,

    /// How long one file may take to come. 1 s to 5 min.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = timeout)]
    timeout: Span,

    /// Certificates (PEM) of authorities: they alone are trusted for https. Default: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Text for people, or one JSON object for each log and line.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl MonitorArgs {
    /// Whether it goes on until it is told to end.
    pub fn goes_on(&self) -> bool {
        self.every.is_some()
    }

    fn place(&self, text: &str, runtime: &Handle) -> Result<Place, Failure> {
        let place = Place::parse(text, self.ca_file.as_deref(), self.timeout.duration(), runtime);
        place.map_err(|error| Failure::Usage(format!("{error:#}")))
    }
}

fn timeout(text: &str) -> Result<Span, String> {
    let span = every(text)?;
    if span > Span::secs(300) { Err("it is 5m or less".to_owned()) } else { Ok(span) }
}

/// A log that is followed.
struct Followed<'a> {
    origin: &'a str,
    /// Whether it was asked for by its name: it has to be there.
    is_named: bool,
    view: View<'a>,
    also: Option<View<'a>>,
    memory: Memory,
}

/// Does what `killick monitor` is asked to.
pub fn run(args: &MonitorArgs) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = CancellationToken::new();
    if args.goes_on() {
        process::drain_at_signals(runtime.handle(), stop.clone())?;
    }
    let place = args.place(&args.place, runtime.handle())?;
    let also = args.also.as_deref().map(|also| args.place(also, runtime.handle())).transpose()?;
    let keys = keys(args)?;
    let origins = origins(args, &keys)?;
    let _hold = args.state.as_deref().map(Hold::take).transpose()?;
    let mut logs = Vec::new();
    for (origin, is_named) in &origins {
        logs.push(Followed {
            origin,
            is_named: *is_named,
            view: View::new(&place, origin, &keys),
            also: also.as_ref().map(|also| View::new(also, origin, &keys)),
            memory: Memory::open(args.state.as_deref(), origin, &keys)?,
        });
    }
    loop {
        let begun = Instant::now();
        let status = round(args, &mut logs, &stop)?;
        let Some(every) = args.every else { return Ok(ExitCode::from(status)) };
        if status == SPLIT {
            return Ok(ExitCode::from(SPLIT));
        }
        process::pause(every.duration().saturating_sub(begun.elapsed()), &stop);
        if stop.is_cancelled() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The keys that are believed.
fn keys(args: &MonitorArgs) -> Result<Vec<VerifierKey>, Failure> {
    let mut keys = args.keys.clone();
    if let Some(path) = &args.trust {
        let trust = read_trust(path).map_err(|error| Failure::Usage(format!("--trust {error:#}")))?;
        keys.extend(trust.logs.into_iter().filter(|log| log.until.is_none()).map(|log| log.key));
    }
    Ok(keys)
}

/// The logs that are followed, and whether each was asked for by its name.
fn origins(args: &MonitorArgs, keys: &[VerifierKey]) -> Result<Vec<(String, bool)>, Failure> {
    let mut origins = Vec::new();
    for name in &args.origins {
        folder_of(name).map_err(|why| Failure::Usage(format!("--origin {why}")))?;
        if !keys.iter().any(|key| key.name() == name) {
            return Err(Failure::Usage(format!("--origin {name}: no key of this log is given")));
        }
        origins.push((name.clone(), true));
    }
    if args.origins.is_empty() {
        for key in &args.keys {
            folder_of(key.name()).map_err(|why| Failure::Usage(format!("--key {why}")))?;
        }
        let is_own = |name: &str| args.keys.iter().any(|key| key.name() == name);
        let names = keys.iter().map(VerifierKey::name).filter(|name| folder_of(name).is_ok());
        origins.extend(names.map(|name| (name.to_owned(), is_own(name))));
    }
    origins.sort();
    origins.dedup();
    if origins.is_empty() {
        let why = "--trust: it has no key that counts always of a log with SHA-256".to_owned();
        return Err(Failure::Usage(why));
    }
    Ok(origins)
}

/// Looks at each log once; gives the gravest status.
fn round(args: &MonitorArgs, logs: &mut [Followed<'_>], stop: &CancellationToken) -> Result<u8> {
    let mut found = Vec::with_capacity(logs.len());
    for log in logs.iter_mut() {
        if stop.is_cancelled() {
            break; // the rest has its turn when it begins again
        }
        found.push(look(log, stop));
    }
    let is_any_there = found.iter().any(|found| !matches!(found, Err(Trouble::Absent(_))));
    let mut statuses = Vec::with_capacity(found.len());
    for (log, found) in logs.iter().zip(&found) {
        let status = match found {
            Ok(_) => 0,
            Err(Trouble::Stopped) => continue,
            // A trust file may name logs that have no batches yet.
            Err(Trouble::Absent(_)) if is_any_there && !log.is_named => 0,
            Err(Trouble::Split(_) | Trouble::Wrong(_)) => SPLIT,
            Err(Trouble::Damaged(_) | Trouble::Failed(_)) => DAMAGED,
            Err(Trouble::Missing(_) | Trouble::Absent(_)) => UNDECIDED,
        };
        statuses.push(status);
        show(args.output, log.origin, &log.view.at(), &log.memory, found)?;
    }
    let gravest = [SPLIT, DAMAGED, UNDECIDED].into_iter().find(|status| statuses.contains(status));
    Ok(gravest.unwrap_or(0))
}

fn look(log: &mut Followed<'_>, stop: &CancellationToken) -> Result<Checked, Trouble> {
    let bar = ProgressBar::no_length();
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{spinner} {pos} entries of {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(log.origin.to_owned());
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut progress = |checked| {
        bar.set_position(checked);
        !stop.is_cancelled()
    };
    let found = check(&mut log.view, log.also.as_mut(), &mut log.memory, &mut progress);
    bar.finish_and_clear();
    found
}
