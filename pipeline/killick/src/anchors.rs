//! `killick anchors`: the intervals that the anchor stage looks after, and what became of their commands.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use killick_nodes::NodeChain;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;
use killick_stages::ports::{Chain, Look, Reader, Sent};
use killick_stages::record::Partition;
use killick_stages::route::{ANCHOR_LOG, REANCHOR_LOG};
use killick_stages::state::{AnchorState, Interval};
use serde_json::{Value, json};

use crate::cli::{Failure, Outcome, Output, shown};
use crate::config::{Config, needed};
use crate::stores::{self, Stores};
use crate::verify::time::Time;

/// Bytes of records read at a time.
const TOGETHER: usize = 4 << 20;

/// Shows the intervals that are being anchored, and sends their commands again.
///
/// An interval is named by its partition of `checkpoints` and its id there, like 0/512; one of a series of later anchors by the
/// series before them, like later/0/3. It is here from the time it is cut until
/// its block is so deep that nobody looks after it any more; then its anchors are in the catalog and in the topic `anchors`.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick anchors list -c killick.toml")]
pub struct AnchorsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the intervals, those that wait longest first.
    #[command(after_help = "Example: killick anchors list -c killick.toml --output json")]
    List {
        #[command(flatten)]
        from: stores::From,
        /// Text for people, or one JSON object for each interval and line.
        #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Shows one interval: what it covers, its commands, and its block.
    #[command(after_help = "Example: killick anchors show -c killick.toml 0/512")]
    Show {
        #[command(flatten)]
        from: stores::From,
        /// The interval: partition/id, or series/partition/id.
        interval: String,
        /// Text for people, or one JSON object.
        #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Gives the newest command of an interval to the nodes once more, and says where it is.
    ///
    /// The bytes are those that the stage has logged, so this can be done at any time and by anyone. Another command is made by
    /// the stage alone, once all before are dead for certain. Exit status 1 if no node could be asked, or all refuse it.
    #[command(after_help = "Example: killick anchors retry -c killick.toml 0/512")]
    Retry {
        #[command(flatten)]
        from: stores::From,
        /// The interval: partition/id, or series/partition/id.
        interval: String,
    },
}

/// Does what `killick anchors` is asked to.
pub fn run(args: &AnchorsArgs) -> Outcome {
    match &args.command {
        Action::List { from, output } => list(&mut *from.find()?.log()?, *output)?,
        Action::Show { from, interval, output } => {
            show(&named(&mut *from.find()?.log()?, interval)?, *output)?;
        }
        Action::Retry { from, interval } => {
            let Stores::Servers(config) = from.find()? else {
                let why =
                    "the network of a folder is in the process that runs there: there is no node to send to";
                return Err(Failure::Usage(why.to_owned()));
            };
            retry(&config, &named(&mut *stores::log_of(&config)?, interval)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An interval, and the partition of `checkpoints` that it is of.
struct Known {
    /// The series and a slash; empty for the deployment's own anchors.
    prefix: String,
    lane: u32,
    interval: Interval,
}

impl Known {
    fn name(&self) -> String {
        format!("{}{}/{}", self.prefix, self.lane, self.interval.id)
    }

    /// Where it stands, in a word.
    fn state(&self) -> &'static str {
        match &self.interval.landing {
            None => "waits",
            Some(landing) if landing.is_lost => "lost",
            Some(_) => "deep",
        }
    }

    /// The origin and the size of each checkpoint that it covers.
    fn covers(&self) -> Vec<(String, u64)> {
        let covered = |note: &str| {
            let text = Note::parse(note).ok()?.text();
            let checkpoint = Checkpoint::parse(text).ok()?;
            Some((checkpoint.origin.to_owned(), checkpoint.size))
        };
        self.interval.checkpoints.iter().filter_map(|note| covered(note)).collect()
    }

    fn json(&self) -> Value {
        let Interval { id: _, chain, cut, checkpoints: _, attempts, version, landing } = &self.interval;
        let attempts: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                json!({ "number": attempt.number, "key": attempt.key, "expires": Time(attempt.expires) })
            })
            .collect();
        let covers: Vec<_> = self
            .covers()
            .into_iter()
            .map(|(origin, size)| json!({ "origin": origin, "size": size }))
            .collect();
        json!({
            "interval": self.name(),
            "state": self.state(),
            "chain": chain,
            "cut": Time(*cut),
            "told": version,
            "checkpoints": covers,
            "attempts": attempts,
            "block": landing.as_ref().map(|landing| {
                json!({ "key": landing.key, "height": landing.height, "hash": landing.block })
            }),
        })
    }
}

/// The intervals that `anchor-log` has now.
fn known(log: &mut dyn Reader) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for topic in [ANCHOR_LOG, REANCHOR_LOG] {
        for partition in log.partitions(topic)? {
            known.extend(known_in(log, &partition)?);
        }
    }
    known.sort_by_key(|known| known.interval.cut);
    Ok(known)
}

fn known_in(log: &mut dyn Reader, partition: &Partition) -> Result<Vec<Known>> {
    let mut intervals = BTreeMap::new();
    let (mut next, end) = log.range(partition)?;
    while next < end {
        let records = log.read(partition, next, TOGETHER)?;
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        for record in records.iter().filter(|record| !record.is_tick()) {
            if record.value.is_empty() {
                intervals.remove(&record.key);
                continue;
            }
            let state = AnchorState::decode(&record.value);
            match state.with_context(|| format!("{partition} at offset {}", record.offset))? {
                AnchorState::Position(_) => {}
                AnchorState::Interval(interval) => {
                    intervals.insert(record.key.clone(), interval);
                }
            }
        }
    }
    let known = intervals.into_iter().map(|(key, interval)| {
        let prefix = key.strip_suffix(interval.id.as_bytes()).unwrap_or_default();
        Known { prefix: String::from_utf8_lossy(prefix).into_owned(), lane: partition.number, interval }
    });
    Ok(known.collect())
}

fn named(log: &mut dyn Reader, name: &str) -> Result<Known> {
    let known = known(log)?;
    let names: Vec<_> = known.iter().map(Known::name).collect();
    match known.into_iter().find(|known| known.name() == name) {
        Some(known) => Ok(known),
        None if names.is_empty() => bail!("no interval is looked after now"),
        None => bail!("no interval {name} is looked after; there are {}", names.join(", ")),
    }
}

fn list(log: &mut dyn Reader, output: Output) -> Result<()> {
    let known = known(log)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for known in &known {
        match output {
            Output::Json => writeln!(out, "{}", known.json())?,
            Output::Text => {
                let Interval { chain, cut, checkpoints, attempts, .. } = &known.interval;
                let newest = attempts.last().map_or("-", |attempt| &attempt.key);
                writeln!(
                    out,
                    "{:<12} {:<6} chain {chain:<4} cut {}  {} logs, {} commands, the newest {}",
                    known.name(),
                    known.state(),
                    Time(*cut),
                    checkpoints.len(),
                    attempts.len(),
                    shown(newest)
                )?;
            }
        }
    }
    out.flush()?;
    let count = |state: &str| known.iter().filter(|known| known.state() == state).count();
    let (waits, lost, deep) = (count("waits"), count("lost"), count("deep"));
    writeln!(
        io::stderr(),
        "{waits} wait for a deep block, {lost} have lost theirs, {deep} are looked after"
    )?;
    Ok(())
}

fn show(known: &Known, output: Output) -> Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", known.json())?;
        return Ok(());
    }
    let Interval { chain, cut, attempts, version, landing, .. } = &known.interval;
    writeln!(
        out,
        "{} {} on chain {chain}, cut {}, told of {version} times",
        known.name(),
        known.state(),
        Time(*cut)
    )?;
    for (origin, size) in known.covers() {
        writeln!(out, "  covers   {} at {size}", shown(&origin))?;
    }
    for attempt in attempts {
        let (key, expires) = (shown(&attempt.key), Time(attempt.expires));
        writeln!(out, "  command  {key}, attempt {}, can be mined until {expires}", attempt.number)?;
    }
    if let Some(landing) = landing {
        writeln!(out, "  block    {} at height {}", shown(&landing.block), landing.height)?;
    }
    Ok(())
}

fn retry(config: &Config, known: &Known) -> Result<()> {
    let settings = needed(config.chainweb.as_ref(), "chainweb", "where are the nodes?")?;
    let runtime = tokio::runtime::Runtime::new().context("no threads")?;
    let chain = NodeChain::open(settings, &config.deployment.network, runtime.handle().clone())?;
    let Interval { chain: number, attempts, .. } = &known.interval;
    let newest = attempts.last().context("it has no command")?;
    let said = chain.send(*number, &newest.command)?;
    let mut out = io::stdout().lock();
    let (word, why) = match &said {
        Sent::Taken => ("taken for relay, or known already", ""),
        Sent::Unclear(why) => ("no clear answer: ", &**why),
        Sent::Refused(why) => ("refused: ", &**why),
    };
    writeln!(out, "{}: {word}{}", shown(&newest.key), shown(why))?;
    let keys: Vec<_> = attempts.iter().map(|attempt| attempt.key.clone()).collect();
    let Look { tip_height, mined, .. } = chain.look(*number, &keys, 0)?;
    match mined {
        Some(mined) => {
            let (depth, result) =
                (tip_height.saturating_sub(mined.height), if mined.success { "success" } else { "failure" });
            writeln!(
                out,
                "{}: in block {} at height {}, {depth} deep, a {result}",
                shown(&mined.key),
                shown(&mined.block),
                mined.height
            )?;
        }
        None => writeln!(out, "in no block below the tip at height {tip_height} yet")?,
    }
    drop(out);
    match said {
        Sent::Refused(why) => bail!("the nodes refuse it: {}", shown(&why)),
        Sent::Taken | Sent::Unclear(_) => Ok(()),
    }
}
