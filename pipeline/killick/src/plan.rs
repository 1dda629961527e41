//! `killick plan`: how many machines a rate needs, from what was measured.
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | what is asked, and the plan as text, JSON and Helm values |
//! | `plan/figures.toml`, `plan/figures.rs` | what was measured, when, and on what |
//! | `plan/model.rs` | from the one to the other, and what is left out |

mod figures;
mod model;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use killick_catalog::Class;
use killick_stages::span::Span;

use crate::cli::{Failure, Outcome};
use figures::Figures;
use model::{Load, Plan};

/// Says how many partitions, processes, memory, disk and coins a rate needs, from what was measured.
///
/// It asks nobody and changes nothing. What the figures are, when and on what machine they were measured, and what the model
/// leaves out, stands in docs/planning.md; every plan ends with the last of these. Measure your own machines with
/// tests/load/run before you buy many.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  killick plan --events-per-second 1000 --event-bytes 500
  killick plan --events-per-second 100000 --event-bytes 1000 --signed --retention 7y --chains 2
  killick plan --events-per-second 100000 --event-bytes 1000 --output helm > values.yaml")]
pub struct PlanArgs {
    /// Events a second at the busiest time: 1 to 10,000,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events_per_second: u64,

    /// Bytes of an event as it comes in: 1 to 1,000,000.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    event_bytes: u64,

    /// How long a batch stays open, [batch] width: 1ms to 1h.
    #[arg(long, value_name = "SPAN", default_value = "100ms")]
    window: Span,

    /// How many chains anchors go to: 1 to 1024.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    chains: u32,

    /// How long checkpoints are gathered for one command, [anchor] interval: 10ms to 1h.
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    interval: Span,

    /// How long copies are found, [dedup] window: 1h to 90d.
    #[arg(long, value_name = "SPAN", default_value = "25h")]
    dedup_window: Span,

    /// How long the catalog keeps events: 30d, 1y, 7y, or forever, of which a year is counted.
    #[arg(long, value_name = "CLASS", default_value = "1y", value_parser = class)]
    retention: Class,

    /// Devices sign the events; else their tenant takes them unsigned.
    #[arg(long)]
    signed: bool,

    /// Text for people, one JSON object, or values for the Helm chart.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Helm,
}

fn class(text: &str) -> Result<Class, String> {
    let class = Class::ALL.into_iter().find(|class| class.name() == text);
    class.ok_or_else(|| "it is 30d, 1y, 7y or forever".to_owned())
}

/// Prints a plan.
pub fn run(args: &PlanArgs) -> Outcome {
    for (name, span, least, most) in [
        ("--window", args.window, Span::millis(1), Span::secs(3_600)),
        ("--interval", args.interval, Span::millis(10), Span::secs(3_600)),
        ("--dedup-window", args.dedup_window, Span::secs(3_600), Span::secs(90 * 86_400)),
    ] {
        if !(least..=most).contains(&span) {
            return Err(Failure::Usage(format!("{name} is {span}; it is {least} to {most}")));
        }
    }
    let load = Load {
        events_per_second: args.events_per_second,
        event_bytes: args.event_bytes,
        window: args.window,
        chains: args.chains,
        interval: args.interval,
        dedup_window: args.dedup_window,
        retention: args.retention,
        signed: args.signed,
    };
    let plan = Plan::of(&load, &Figures::ours()?)?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Form::Text => show::text(&mut out, &plan)?,
        Form::Json => writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?,
        Form::Helm => show::helm(&mut out, &plan)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
