//! `killick logs tiles`: publishes logs as static files.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_proof::note::VerifierKey;
use killick_proof::origin::Origin;
use killick_stages::ports::Catalog;
use killick_stages::span::Span;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cli::{Failure, Outcome, Output};
use crate::process;
use crate::stores::{self, Stores, own_trust, read_trust};
use crate::tiles::publish::{PublishError, Published, publish};
use crate::tiles::shelf::{Folder, Hold};
use crate::tiles::{SPLIT, every, folder_of};
use crate::verify::shown_line;

#[derive(Debug, Args)]
pub struct TilesArgs {
    #[command(flatten)]
    from: stores::From,

    /// Which log: its origin, its number, or `all`.
    #[arg(long, value_name = "ORIGIN|NUMBER|all", default_value = "all")]
    origin: String,

    /// The folder to publish; made if it is not there. Each log gets a folder below it that is called like its origin.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Again and again, once in this time, until it is told to end. A folder is opened for each round anew: while `killick run`
    /// has it, rounds are left out.
    #[arg(long, value_name = "SPAN", value_parser = every)]
    every: Option<Span>,

    /// The keys of the logs: a trust file. Default: `trust.json` of the folder, and the keys of the deployment.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,

    /// Text for people, or one JSON object for each log and line.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl TilesArgs {
    /// Whether it goes on until it is told to end.
    pub fn goes_on(&self) -> bool {
        self.every.is_some()
    }
}

/// How a round ended that could go on.
enum Ended {
    /// All that was asked for is published.
    Whole,
    /// What is published is another history than the catalog's.
    Split,
    /// Something else is wrong; it was told.
    Short,
}

/// Does what `killick logs tiles` is asked to.
pub fn tiles(args: &TilesArgs) -> Outcome {
    let _hold = Hold::take(&args.out)?;
    let Some(every) = args.every else {
        return Ok(match round(args, &mut None, &CancellationToken::new())? {
            Ended::Whole => ExitCode::SUCCESS,
            Ended::Split => ExitCode::from(SPLIT),
            Ended::Short => ExitCode::FAILURE,
        });
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    let mut servers = None;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match round(args, &mut servers, &stop) {
            Ok(Ended::Split) => return Ok(ExitCode::from(SPLIT)),
            Ok(_) => {}
            Err(Failure::Usage(why)) => return Err(Failure::Usage(why)),
            Err(Failure::Failed(error)) => {
                servers = None;
                warn!(error = format!("{error:#}"), %every, "nothing is published now; trying again with the next round");
            }
        }
        process::pause(every.duration().saturating_sub(begun.elapsed()), &stop);
    }
    Ok(ExitCode::SUCCESS)
}

/// The catalog of servers, and the keys of their logs: they stay open.
type Open = (Arc<dyn Catalog>, Vec<VerifierKey>);

/// Publishes what is new.
fn round(args: &TilesArgs, servers: &mut Option<Open>, stop: &CancellationToken) -> Result<Ended, Failure> {
    let (catalog, keys) = match servers {
        Some(open) => open.clone(),
        None => {
            let stores = args.from.find()?;
            let open: Open = (stores.catalog()?, keys(args, &stores)?);
            // A folder is let go of: whoever works in it has to get in.
            if let (Stores::Servers(_), Some(_)) = (&stores, args.every) {
                *servers = Some(open.clone());
            }
            open
        }
    };
    let mut ended = Ended::Whole;
    for origin in chosen(&*catalog, &args.origin)? {
        match publish_one(args, &*catalog, &origin, &keys, stop) {
            Ok(published) => show(args.output, &origin, &published)?,
            Err(PublishError::Stopped) => break,
            Err(error @ PublishError::Split(_)) => {
                complain(&format!("error: {error}"))?;
                ended = Ended::Split;
            }
            Err(PublishError::Catalog(error)) => return Err(anyhow::Error::from(error).into()),
            Err(error) => {
                complain(&format!("error: {error}"))?;
                if !matches!(ended, Ended::Split) {
                    ended = Ended::Short;
                }
            }
        }
    }
    Ok(ended)
}

fn complain(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{}", shown_line(what))
}

fn keys(args: &TilesArgs, stores: &Stores) -> Result<Vec<VerifierKey>, Failure> {
    let trust = match &args.trust {
        Some(path) => read_trust(path).map_err(|error| Failure::Usage(format!("--trust {error:#}")))?,
        None => own_trust(stores)?,
    };
    Ok(trust.logs.into_iter().map(|log| log.key).collect())
}

/// The logs that were asked for. Of all of them, those that cannot be published as tiles are left out, with a word.
fn chosen(catalog: &dyn Catalog, asked: &str) -> Result<Vec<Box<str>>, Failure> {
    let origins = catalog.origins()?;
    let number = asked.parse::<u64>().ok();
    let is_asked = |origin: &str| match number {
        Some(number) => Origin::parse(origin).is_ok_and(|origin| origin.log() == number),
        None => asked == "all" || asked == origin,
    };
    let mut chosen: Vec<_> = origins.into_iter().filter(|origin| is_asked(origin)).collect();
    if asked == "all" {
        for origin in chosen.extract_if(.., |origin| folder_of(origin).is_err()) {
            warn!(%origin, "left out: C2SP tlog-tiles has SHA-256 and nothing else");
        }
        return Ok(chosen);
    }
    match chosen.as_slice() {
        [] => Err(Failure::Failed(anyhow::anyhow!("the catalog has no log {asked}"))),
        [origin] => match folder_of(origin) {
            Ok(_) => Ok(chosen),
            Err(why) => Err(Failure::Usage(format!("--origin {why}"))),
        },
        several => Err(Failure::Usage(format!("--origin {asked}: which of {}?", several.join(", ")))),
    }
}

fn publish_one(
    args: &TilesArgs,
    catalog: &dyn Catalog,
    origin: &str,
    keys: &[VerifierKey],
    stop: &CancellationToken,
) -> Result<Published, PublishError> {
    let folder = folder_of(origin).map_err(PublishError::Wrong)?;
    let shelf = Folder::open(args.out.join(Path::new(folder)))?;
    let bar = ProgressBar::no_length();
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{spinner} {pos} batches of {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(origin.to_owned());
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let published = publish(catalog, origin, keys, &shelf, &mut |batches| {
        bar.set_position(batches);
        !stop.is_cancelled()
    });
    bar.finish_and_clear();
    published
}

fn show(output: Output, origin: &str, published: &Published) -> Result<()> {
    let Published { size, before, files, bytes } = published;
    let mut out = io::stdout().lock();
    if output == Output::Json {
        let object =
            json!({ "origin": origin, "batches": size, "before": before, "files": files, "bytes": bytes });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "{origin}  {size} batches, {} more: {files} files, {bytes} bytes", size - before)?;
    }
    Ok(())
}
