//! The program of `tests/trouble/run`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use killick_trouble::runs::{Player, bugs};

/// Scenarios without any bug that have to end well beside those with one.
const CONTROL: u64 = 24;

/// Plays random trouble of nodes, networks and workers, and counts what became of anchors and proofs.
///
/// Each scenario is a development network with its faults, answering over HTTP, and workers of the stages anchor and prove
/// that die, part and lose partitions; in virtual time. The last line is
///
/// scenarios=N anchors=… unanchored=0 doubled=0 above_orphan=0 changed_bytes=0 alarms_missed=0
///
/// Exit status 0 only if it ends as here (of mutations: if all are caught), 1 if not, 2 if there is no verdict. Each
/// scenario that fails is told on standard error, with the seed that repeats it.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  tests/trouble/run --scenarios 1000 --seed 1\n  tests/trouble/run --scenarios 1 --seed 417 --verbose\n  tests/trouble/run --mutations"
)]
struct Args {
    /// How many scenarios.
    #[arg(long, value_name = "N", default_value_t = 60)]
    scenarios: u64,

    /// The seed of the first; the next ones follow. Default: another one each time; it is printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Lets a worker die at every boundary of four short stories, in place of random scenarios.
    #[arg(long, conflicts_with_all = ["scenarios", "seed"])]
    points: bool,

    /// Plants bugs one after another, and wants each to be caught.
    #[arg(long, conflicts_with_all = ["scenarios", "points"])]
    mutations: bool,

    /// Tells what happened in each scenario; of a single one, what became of each interval.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let outcome = if args.points {
        points()
    } else {
        eprintln!("seed {seed}");
        if args.mutations { mutations(seed) } else { scenarios(&args, seed) }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("no verdict: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn scenarios(args: &Args, seed: u64) -> Result<bool> {
    let end = seed.checked_add(args.scenarios).context("the seed is too large")?;
    let (begun, is_watched) = (Instant::now(), std::io::stderr().is_terminal());
    let mut last = Instant::now();
    let sum = Player::new()?.run(seed..end, |seed_of, verdict, tale| {
        if args.verbose {
            eprintln!(
                "seed {seed_of}: {} anchors in {:.0?}; {}",
                verdict.anchors,
                last.elapsed(),
                tale.short
            );
            if args.scenarios == 1 {
                eprint!("{}", tale.long);
            }
            last = Instant::now();
        } else if is_watched {
            eprint!("\r{} of {}", seed_of - seed + 1, args.scenarios);
        }
        if !verdict.is_clean() {
            eprintln!("\rfailed: --seed {seed_of} --scenarios 1: {verdict}");
        }
    })?;
    eprintln!("\r{:.0?}", begun.elapsed());
    println!("{sum}");
    Ok(sum.is_clean())
}

fn points() -> Result<bool> {
    let (begun, is_watched) = (Instant::now(), std::io::stderr().is_terminal());
    let sum = Player::new()?.run_points(|name, verdict| {
        if is_watched {
            eprint!("\r{name:20}");
        }
        if !verdict.is_clean() {
            eprintln!("\rfailed: {name}: {verdict}");
        }
    })?;
    eprintln!("\r{:.0?}", begun.elapsed());
    println!("{sum}");
    Ok(sum.is_clean())
}

fn mutations(seed: u64) -> Result<bool> {
    let mut player = Player::new()?;
    let control = player.run(seed..seed.saturating_add(CONTROL), |_, _, _| {})?;
    println!("without a bug: {control}");
    let mut all = control.is_clean();
    for (name, bug) in bugs() {
        match player.hunt(seed, bug)? {
            Some((count, how)) => println!("caught {name} after {count} scenarios: {how}"),
            None => {
                println!("SURVIVED {name}");
                all = false;
            }
        }
    }
    Ok(all)
}
