//! The program of `tests/faults/run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use killick_faults::events::Mix;
use killick_faults::faults::{Kind, Wanted, plan};
use killick_faults::mutations::suite;
use killick_faults::run::{Options, folder_of, interrupt, run};
use killick_faults::stand::{Ground, Recipe, SESSION};
use killick_tests::program::killick;
use tokio::signal::unix::{SignalKind, signal};

/// The pipeline is stuck when nothing moves for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sends events through the pipeline on real servers while faults happen, and counts what became of every event.
///
/// Starts Kafka, Cassandra and a chain for itself, several processes of every stage, and a proxy on every link; stops all
/// of it. The last line says what was done, and how many events were lost, duplicated, proven though nobody sent them
/// (phantom), or proven wrongly; how many ranges of input no transaction took (gaps), or two (overlaps); and what
/// `killick audit` and `killick fsck` found. Exit status 0 only if nothing of that happened, 1 if it did, 2 if there is no
/// verdict. The folder of the run stays: ledger, timeline.txt, logs of the processes, data of the servers.
#[derive(Debug, Parser)]
struct Args {
    /// How many events.
    #[arg(long, default_value_t = 100_000)]
    events: u64,

    /// How many kills of processes of the pipeline.
    #[arg(long, default_value_t = 40)]
    kills: u32,

    /// How long events are sent and faults happen.
    #[arg(long, default_value_t = 4.0)]
    minutes: f64,

    /// What decides everything. Default: another one each time; it is printed.
    #[arg(long)]
    seed: Option<u64>,

    /// Kinds of faults, or `all`, or `none`.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    faults: Vec<String>,

    /// Processes of each stage: so many, or always the first and at most the second number.
    #[arg(long, default_value = "2..4", value_parser = processes)]
    processes: (u32, u32),

    /// Threads that send.
    #[arg(long, default_value_t = 2)]
    senders: usize,

    /// Signed events in a thousand.
    #[arg(long, default_value_t = 300)]
    signed: u64,

    /// Records in a thousand that have to be rejected.
    #[arg(long, default_value_t = 10)]
    poison: u64,

    /// Events in a thousand that are sent again.
    #[arg(long, default_value_t = 50)]
    repeated: u64,

    /// Events in a thousand of which changed copies follow.
    #[arg(long, default_value_t = 10)]
    changed: u64,

    /// Events in a thousand of one device, and so of one partition.
    #[arg(long, default_value_t = 200)]
    hot: u64,

    /// Where the run is kept: ledger, timeline, logs, data. It must not be there. Default: target/faults/SEED.
    #[arg(long)]
    dir: Option<PathBuf>,

    /// The program with fault points; without it, faults that need them do not happen.
    #[arg(long, env = "KILLICK_PLANTED")]
    planted: Option<PathBuf>,

    /// Plants bugs one after another, and wants each to be caught. Needs the program with fault points.
    #[arg(long)]
    mutations: bool,

    /// Plants only this bug. Can be repeated.
    #[arg(long, requires = "mutations")]
    bug: Vec<String>,

    /// Tells what is done to the pipeline as it is done.
    #[arg(long, short)]
    verbose: bool,
}

/// `2` or `2..4`.
fn processes(text: &str) -> Result<(u32, u32), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if 1 <= least && least <= most && most <= 16 => Ok((least, most)),
        _ => Err("it is a number from 1 to 16, or two with `..` between them, the smaller first".to_owned()),
    }
}

fn main() -> ExitCode {
    match work(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("no verdict: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn work(args: &Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let kinds = kinds(&args.faults, args.planted.is_some())?;
    let folder = args.dir.clone().unwrap_or_else(|| folder_of(seed));
    std::fs::create_dir_all(folder.parent().context("the folder has no parent")?)?;
    // A ledger in which two runs stand proves nothing.
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let folder = folder.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.spawn(listen());
    if args.mutations {
        eprintln!("seed {seed}, in {}", folder.display());
        let program = args.planted.as_deref().context("no program with fault points was named")?;
        return suite(&args.bug, program, &folder, seed, runtime.handle());
    }
    let Args { signed, poison, repeated, changed, hot, .. } = *args;
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    eprintln!("seed {seed}, in {}, faults: {}", folder.display(), names.join(" "));
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let wanted = Wanted { seed, kinds, kills: args.kills, span, session: SESSION };
    let ground = Ground::up(&folder.join("servers"), runtime.handle())?;
    let options = Options {
        recipe: Recipe {
            folder,
            program: killick().to_owned(),
            planted: args.planted.clone(),
            bug: None,
            processes: args.processes,
            is_told: args.verbose,
        },
        events: args.events,
        senders: args.senders,
        mix: Mix { seed, start: 0, signed, poison, repeated, changed, hot },
        plan: plan(&wanted),
        span,
        patience: PATIENCE,
    };
    let outcome = run(&options, &ground)?;
    eprintln!("seed {seed}: {} receipts verified", outcome.findings.receipts);
    println!("{outcome}");
    Ok(outcome.findings.are_clean())
}

/// Ends the run at the first signal to end, so that nothing stays behind.
async fn listen() {
    let Ok(mut end) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = end.recv() => {}
    }
    eprintln!("ending: what was begun is undone first");
    interrupt();
}

fn kinds(names: &[String], has_points: bool) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for name in names.iter().filter(|name| *name != "none") {
        if name == "all" {
            kinds.extend(Kind::ALL.into_iter().filter(|kind| has_points || !kind.needs_points()));
            continue;
        }
        let known = || Kind::ALL.map(Kind::name).join(", ");
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        kinds.push(kind.with_context(|| format!("there is no fault {name:?}; there are {}", known()))?);
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_a_number_or_two_in_order() {
        assert_eq!(processes("2"), Ok((2, 2)));
        assert_eq!(processes("2..4"), Ok((2, 4)));
        for wrong in ["", "0", "4..2", "2..", "..3", "2...4", "two", "1..17", "-1..2"] {
            assert!(processes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn faults_that_need_points_happen_only_where_there_are_some() {
        let all = ["all".to_owned()];
        assert_eq!(kinds(&all, true).unwrap(), Kind::ALL);
        let without = kinds(&all, false).unwrap();
        assert!(!without.is_empty() && without.iter().all(|kind| !kind.needs_points()));
        assert_eq!(kinds(&["none".to_owned()], true).unwrap(), []);
        assert!(kinds(&["flood".to_owned()], true).unwrap_err().to_string().contains("late-end"));
    }
}
