//! `killick doctor`: looks at a live installation, and says of each thing that is wrong what causes it and what to do.
//!
//! | part | looks at |
//! |---|---|
//! | `configuration` | whether the parts that stages need are there |
//! | `kafka` | brokers, topics, rights, where each stage's group stands, who is at work in it, and how much waits |
//! | `catalog` | whether it answers, its replication, tables and their version |
//! | `registry` | whether the schema registry answers |
//! | `chain`, `chain NAME` | each node: its network, how far it is, the chains; what the accounts hold that pay there |
//! | `keys` | whether they are there, are those of their logs, and who may read them; password files too |
//! | `certificates` | when those end that the configuration names |
//! | `folder` | of an embedded side: its files, size, free space, and who has it |
//!
//! All parts are looked at side by side, and each is bounded: one that does not answer in time is a finding. Clocks are
//! compared where somebody tells the time: nodes by the `Date` of HTTP, the catalog by a query. Brokers tell nobody.

mod chain;
mod files;
mod folder;
mod servers;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use killick_kafka::topics::{Finding, Weight};
use killick_stages::span::Span;
use serde::Serialize;

use crate::cli::{Outcome, Output, shown};
use crate::config::{Config, ConfigArgs, needed};

/// A clock that differs by more, in ms, is told of.
const DIFFERS: i64 = 5_000;
/// One that differs by more, in ms, breaks something: nodes refuse a command that was made a minute and a half ahead of
/// their own time, and sources an event that is too far ahead or too old.
const BREAKS: i64 = 60_000;

/// Looks at a live installation, and says of each thing that is wrong what causes it and what to do.
///
/// Configuration, topics, rights, groups and what waits for them; catalog and schema registry; the nodes of the chain and
/// what the accounts hold that pay for anchors; clocks; keys, password files and who may read them; the ends of
/// certificates. It changes nothing. What cannot be reached is a finding. With --embedded the folder of the embedded side
/// is looked at instead of servers, also while `killick run` has it.
///
/// Exit status: 0 all is well, or there is advice only; 1 something breaks; 2 usage, or the configuration cannot work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  killick doctor -c killick.toml
  killick doctor -c killick.toml --output json
  killick doctor --embedded site/")]
pub struct DoctorArgs {
    /// The folder of the embedded side. Without it the servers of the configuration are looked at.
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    embedded: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgs,

    /// How long all of it may take: 1s to 10m.
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = within)]
    within: Span,

    /// Text for people, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn within(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: killick_stages::span::SpanError| error.to_string())?;
    let is_in = (Span::secs(1)..=Span::secs(600)).contains(&span);
    if is_in { Ok(span) } else { Err(format!("it is 1s to 10m, not {span}")) }
}

/// What was looked at in one part, and what was found.
#[derive(Debug, Default, Serialize)]
pub struct Look {
    looked_at: Vec<String>,
    findings: Vec<Finding>,
}

impl Look {
    /// Takes note of something that was looked at.
    fn saw(&mut self, what: impl Into<String>) {
        self.looked_at.push(what.into());
    }

    /// Something breaks.
    fn breaks(
        &mut self,
        about: impl Into<String>,
        found: impl Into<String>,
        wanted: &str,
        remedy: impl Into<String>,
    ) {
        self.find(Weight::Breaks, about, found, wanted, remedy);
    }

    /// It can be run like that.
    fn advice(
        &mut self,
        about: impl Into<String>,
        found: impl Into<String>,
        wanted: &str,
        remedy: impl Into<String>,
    ) {
        self.find(Weight::Advice, about, found, wanted, remedy);
    }

    fn find(
        &mut self,
        weight: Weight,
        about: impl Into<String>,
        found: impl Into<String>,
        wanted: &str,
        remedy: impl Into<String>,
    ) {
        let finding = Finding::new(weight, about.into(), found.into(), wanted.to_owned(), remedy.into());
        self.findings.push(finding);
    }

    /// Holds our clock against another's, which was `theirs` ms since 1970 between `asked` and now, and may be that much
    /// later than it says.
    fn clock(&mut self, whose: &str, theirs: i64, asked: i64, coarse: i64) {
        // Nothing is said of what lies within the time of the question.
        let (least, most) = (theirs - now(), theirs + coarse - asked);
        let ahead = if least > 0 {
            least
        } else if most < 0 {
            most
        } else {
            0
        };
        let place = if ahead > 0 { "ahead of" } else { "behind" };
        let by = Duration::from_millis(ahead.unsigned_abs());
        self.saw(match ahead {
            0 => format!("the clock of {whose} agrees with ours"),
            _ => format!("the clock of {whose} is {by:?} {place} ours"),
        });
        let weight = match ahead.abs() {
            ahead if ahead <= DIFFERS => return,
            ahead if ahead <= BREAKS => Weight::Advice,
            _ => Weight::Breaks,
        };
        self.find(
            weight,
            "clock",
            format!("that of {whose} is {by:?} {place} ours"),
            "clocks that agree: commands and events that seem too old or too early are refused",
            "synchronise this machine, and that one, with NTP",
        );
    }
}

/// This machine's clock, in ms since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One part, and how it is looked at.
type Part = (String, Box<dyn FnOnce() -> Look + Send>);

/// A part that was looked at.
#[derive(Debug, Serialize)]
struct Seen {
    part: String,
    #[serde(flatten)]
    look: Look,
}

/// Looks at everything, and says what it found.
pub fn run(args: &DoctorArgs) -> Outcome {
    let config = Arc::new(Config::load(&args.config)?);
    let parts = match &args.embedded {
        Some(folder) => {
            let (folder, config) = (folder.clone(), Arc::clone(&config));
            vec![part("folder", move || folder::look(&folder, &config))]
        }
        None => {
            needed(config.kafka.as_ref(), "kafka", "where is the log? (or give --embedded DIR)")?;
            parts(&config, args.config.config.as_deref().and_then(|file| file.parent()))
        }
    };
    let seen = side_by_side(parts, args.within.duration());
    let breaks = seen.iter().flat_map(|seen| &seen.look.findings).filter(|finding| finding.is_breaking());
    let breaks = breaks.count();
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => {
            writeln!(out, "{}", serde_json::json!({ "well": breaks == 0, "parts": seen }))?;
        }
        Output::Text => tell(&mut out, &seen, breaks)?,
    }
    out.flush()?;
    Ok(if breaks == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn part(name: &str, look: impl FnOnce() -> Look + Send + 'static) -> Part {
    (name.to_owned(), Box::new(look))
}

/// The parts of a deployment on servers.
fn parts(config: &Arc<Config>, folder: Option<&std::path::Path>) -> Vec<Part> {
    fn of(name: &str, config: &Arc<Config>, look: fn(&Config) -> Look) -> Part {
        let config = Arc::clone(config);
        part(name, move || look(&config))
    }
    let mut parts = vec![
        of("configuration", config, servers::configuration),
        of("kafka", config, servers::kafka),
        of("catalog", config, servers::catalog),
        of("chain", config, chain::own),
        of("certificates", config, files::certificates),
    ];
    if config.registry.is_some() {
        parts.push(of("registry", config, servers::registry));
    }
    let (all, folder) = (Arc::clone(config), folder.map(PathBuf::from));
    parts.push(part("keys", move || files::keys(&all, folder.as_deref())));
    for series in config.reanchor.keys() {
        let (config, series) = (Arc::clone(config), series.clone());
        parts.push(part(&format!("chain {series}"), move || chain::series(&config, &series)));
    }
    parts
}

/// Looks at all parts at the same time. One that takes longer is left to itself: it ends with the process.
fn side_by_side(parts: Vec<Part>, within: Duration) -> Vec<Seen> {
    let deadline = Instant::now() + within;
    let (sender, looks) = mpsc::channel();
    let mut seen = Vec::with_capacity(parts.len());
    for (index, (part, look)) in parts.into_iter().enumerate() {
        let sender = sender.clone();
        let started = std::thread::Builder::new().name(part.clone()).spawn(move || {
            // Nobody listens any more where it took too long.
            let _ = sender.send((index, look()));
        });
        let mut look = Look::default();
        let found = match started {
            Ok(_) => format!("no answer within {within:?}"),
            Err(error) => format!("it cannot be looked at: {error}"),
        };
        look.breaks(
            part.clone(),
            found,
            "an answer in time",
            format!("look whether its servers are reachable and busy, or give more time: --within; the other parts are not touched by {part}"),
        );
        seen.push(Seen { part, look });
    }
    drop(sender);
    while let Ok((index, look)) = looks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(seen) = seen.get_mut(index) {
            seen.look = look;
        }
    }
    seen
}

fn tell(out: &mut impl std::io::Write, seen: &[Seen], breaks: usize) -> std::io::Result<()> {
    for Seen { part, look } in seen {
        writeln!(out, "{}", shown(part))?;
        for what in &look.looked_at {
            writeln!(out, "  looked at: {}", shown(what))?;
        }
        for finding in &look.findings {
            let weight = if finding.is_breaking() { "wrong" } else { "advice" };
            writeln!(out, "  {weight}: {}: {}", shown(&finding.about), shown(&finding.found))?;
            writeln!(out, "    wanted: {}", shown(&finding.wanted))?;
            writeln!(out, "    remedy: {}", shown(&finding.remedy))?;
        }
    }
    let advice = seen.iter().map(|seen| seen.look.findings.len()).sum::<usize>() - breaks;
    let well = if breaks == 0 { "all is well" } else { "not all is well" };
    writeln!(out, "{well}: {breaks} wrong, {advice} advice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_does_not_answer_or_panics_is_a_finding_and_keeps_no_other_from_being_seen() {
        let slow = part("slow", || {
            std::thread::sleep(Duration::from_secs(60));
            Look::default()
        });
        let bad = part("bad", || panic!("a defect"));
        let well = part("well", || {
            let mut look = Look::default();
            look.saw("everything");
            look
        });
        let seen = side_by_side(vec![slow, bad, well], Duration::from_millis(500));
        let found =
            |index: usize| seen[index].look.findings.iter().map(|it| it.found.as_str()).collect::<String>();
        assert!(found(0).contains("no answer within") && found(1).contains("no answer within"), "{seen:?}");
        assert_eq!(
            (found(2).as_str(), seen[2].look.looked_at.as_slice()),
            ("", &["everything".to_owned()][..])
        );
    }

    #[test]
    fn a_clock_is_told_of_by_how_much_it_must_be_wrong() {
        let weights = |theirs: i64, coarse| {
            let mut look = Look::default();
            let now = now();
            look.clock("a node", now + theirs, now, coarse);
            look.findings.iter().map(|finding| finding.weight).collect::<Vec<_>>()
        };
        assert_eq!(weights(0, 1_000), []);
        assert_eq!(weights(-5_900, 1_000), [], "a whole second may have passed since it was cut off");
        assert_eq!(weights(30_000, 1_000), [Weight::Advice]);
        assert_eq!(weights(-30_000, 1_000), [Weight::Advice]);
        assert_eq!(weights(-90_000, 0), [Weight::Breaks]);
        assert_eq!(weights(90_000, 0), [Weight::Breaks]);
    }
}
