//! `killick fsck`: computes a catalog anew from its bytes, and tells what is not as it should be.

mod state;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_proof::trust::Trust;
use killick_stages::fsck::{Fault, Figures, Fsck, Mark, Observer};
use killick_stages::ports::{Catalog, Reader};
use serde_json::json;

use crate::cli::{Failure, Outcome, Output};
use crate::stores::{self, own_trust, read_trust};
use crate::verify::shown_line;
use state::State;

/// How often the state is written.
const SAVE: Duration = Duration::from_secs(2);

/// Computes a catalog anew from its bytes, and tells what is not as it should be.
///
/// Of each batch the root, its place in the log's tree, every stored node, the checkpoint and its signature, and where the
/// index finds its events; of each anchor a receipt, passed by the verifier; and all of it against `batches` in the log,
/// as long as that is kept. One line names each thing that is wrong. What is wrong with a catalog is not lost: it can be
/// written anew from the log.
///
/// Exit status: 0 nothing is wrong, 1 something is (or it cannot be read), 2 usage.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick fsck --embedded site/ --full")]
pub struct FsckArgs {
    #[command(flatten)]
    from: stores::From,

    /// The keys of the logs, and the blocks that are trusted: a trust file. Default: `trust.json` of the folder, and the
    /// keys of the deployment.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,

    /// Looks for every event in the index, and not for one of each batch.
    #[arg(long)]
    full: bool,

    /// Does not hold the catalog against the log.
    #[arg(long)]
    catalog_only: bool,

    /// Goes on where the last check with this file ended, and notes there how far everything is right. Made if it is not
    /// there.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// How many faults are printed; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    limit: u64,

    /// Text for people, or one JSON object for each fault and one for the whole.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Does what `killick fsck` is asked to.
pub fn run(args: &FsckArgs) -> Outcome {
    let state = match &args.state {
        Some(path) => State::read(path, args.full).map_err(|why| Failure::Usage(format!("--state {why}")))?,
        None => State::new(args.full),
    };
    let given = args.trust.as_deref().map(read_trust).transpose();
    let given = given.map_err(|error| Failure::Usage(format!("--trust {error:#}")))?;
    let stores = args.from.find()?;
    let trust = match given {
        Some(trust) => trust,
        None => own_trust(&stores)?,
    };
    let trust = Trust::new(&trust).map_err(|error| Failure::Usage(format!("--trust: {error}")))?;
    let catalog = stores.catalog()?;
    let mut reader = if args.catalog_only { None } else { Some(stores.log()?) };
    let reader = reader.as_mut().map(|reader| &mut **reader as &mut dyn Reader);

    let mut hearer = Hearer::new(args, state.clone(), to_do(&*catalog, &state)?);
    let mut fsck = Fsck::new(&*catalog, reader, trust, args.full, &mut hearer);
    for origin in fsck.origins()? {
        fsck.check(&origin, state.mark(&origin)?)?;
    }
    let figures = fsck.figures();
    hearer.end()?;
    tell(args.output, &figures)?;
    Ok(if figures.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many batches have to be checked; what cannot be read is told of when it is their turn.
fn to_do(catalog: &dyn Catalog, state: &State) -> Result<u64> {
    let mut batches = 0;
    for origin in catalog.origins().unwrap_or_default() {
        let done = state.mark(&origin)?.map_or(0, |mark| mark.log.size());
        batches += catalog.log_size(&origin).unwrap_or(0).saturating_sub(done);
    }
    Ok(batches)
}

/// Prints faults as they are found, shows how far the check is, and keeps its state.
struct Hearer<'a> {
    args: &'a FsckArgs,
    bar: ProgressBar,
    told: u64,
    state: State,
    saved: Instant,
    failed: Option<anyhow::Error>,
}

impl<'a> Hearer<'a> {
    fn new(args: &'a FsckArgs, state: State, batches: u64) -> Self {
        let bar = ProgressBar::new(batches);
        if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {pos} of {len} batches, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { args, bar, told: 0, state, saved: Instant::now(), failed: None }
    }

    fn tell(&mut self, fault: &Fault) -> io::Result<()> {
        self.told += 1;
        if self.told > self.args.limit {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match self.args.output {
            Output::Text => writeln!(out, "{}", shown_line(&fault.to_string())),
            Output::Json => {
                let event = fault.event.as_ref();
                let event = event.map(|it| json!({"tenant": it.tenant, "source": it.source, "id": it.id}));
                let (part, origin) = (fault.part.name(), &fault.origin);
                let object = json!({
                    "fault": part, "origin": origin, "number": fault.number, "event": event, "why": fault.why,
                });
                writeln!(out, "{object}")
            }
        }
    }

    fn save(&mut self) -> Result<()> {
        self.saved = Instant::now();
        match &self.args.state {
            Some(path) => self.state.write(path),
            None => Ok(()),
        }
    }

    /// Ends the check; fails if anything could not be printed or kept.
    fn end(mut self) -> Result<()> {
        self.bar.finish_and_clear();
        self.save()?;
        if self.told > self.args.limit && self.args.output == Output::Text {
            let (more, limit) = (self.told - self.args.limit, self.args.limit);
            writeln!(io::stdout(), "… and {more} more; --limit {limit} prints no more")?;
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Observer for Hearer<'_> {
    fn found(&mut self, fault: Fault) {
        if let Err(error) = self.tell(&fault) {
            self.failed.get_or_insert(error.into());
        }
    }

    fn checked(&mut self, origin: &str, mark: &Mark, _: u64) {
        self.bar.inc(1);
        self.state.set(origin, mark);
        if self.saved.elapsed() > SAVE
            && let Err(error) = self.save()
        {
            self.failed.get_or_insert(error);
        }
    }
}

fn tell(output: Output, figures: &Figures) -> Result<()> {
    let Figures { logs, batches, leaves, nodes, events, anchors, trusted, compared, faults } = figures;
    let mut out = io::stdout().lock();
    if output == Output::Json {
        let object = json!({
            "clean": *faults == 0, "faults": faults, "logs": logs, "batches": batches, "leaves": leaves,
            "nodes": nodes, "events": events, "anchors": anchors, "trusted": trusted, "compared": compared,
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    writeln!(out, "{logs} logs, {batches} batches, {leaves} leaves, {nodes} nodes of trees")?;
    writeln!(out, "{anchors} anchors, {trusted} of them in blocks that are trusted")?;
    writeln!(out, "{events} events looked for in the index, {compared} batches the same in the log")?;
    match faults {
        0 => writeln!(out, "clean")?,
        1 => writeln!(out, "1 fault")?,
        more => writeln!(out, "{more} faults")?,
    }
    Ok(())
}
