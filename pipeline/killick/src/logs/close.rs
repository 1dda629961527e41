//! `killick logs close`: the last checkpoint of each log as an event for the next generation.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use killick_proof::Algorithm;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::encoding::base64url;
use killick_proof::note::{Note, SignerKey, Verdict};
use killick_proof::receipt::Anchor;
use killick_proof::statement::Event;
use killick_stages::continuation::{CONTINUED, Continuation, pairs};
use killick_stages::deployment::Deployment;
use killick_stages::ports::Catalog;
use killick_stages::ready::Block;
use killick_stages::record::Micros;
use killick_stages::series::{OWN, anchors_in};
use serde_json::json;

use crate::cli::Failure;
use crate::config::Config;
use crate::pending::pending;
use crate::run::{CLOUD_EVENTS, ROWS};
use crate::verify::shown_line;
use crate::{cluster, keys, produce, stores};

#[derive(Debug, Args)]
pub(super) struct CloseArgs {
    #[command(flatten)]
    from: stores::From,
    /// The configuration of the next generation: its [deployment] says which logs there will be. Only the file counts, not
    /// the environment.
    #[arg(long, value_name = "FILE")]
    next: PathBuf,
    /// The tenant of the events.
    #[arg(long, value_name = "TENANT", default_value = "killick")]
    tenant: String,
    /// Where the events go, one CloudEvent a line.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A log as it ended.
struct Closed {
    ended: Continuation,
    /// The last checkpoint.
    note: Box<str>,
    /// When the first block was made that anchors it.
    anchored: Micros,
    /// When the last of them was made: one may stand for another that was lost.
    until: Micros,
    signer: SignerKey,
}

pub(super) fn close(args: &CloseArgs) -> Result<(), Failure> {
    let config = Config::load(&args.from.config)?;
    let deployment = Deployment::new(&config.deployment)?;
    let next = Deployment::new(&Config::from_parts(Some(&args.next), &[])?.deployment)?;
    if let Some(same) = next.origins().iter().find(|origin| deployment.log_of_origin(origin).is_some()) {
        let why = format!(
            "--next {}: log {same} is one of those to be closed; give [deployment] another generation",
            args.next.display()
        );
        return Err(Failure::Usage(why));
    }
    let digest = Algorithm::Sha256.digest(&[]);
    Event { tenant: &args.tenant, source: deployment.name(), id: "any", time: 0, kind: CONTINUED, digest }
        .check()
        .map_err(|error| Failure::Usage(format!("--{error}")))?;
    let folder = match (&args.from.embedded, &config.keys.folder) {
        (Some(site), _) => site.join("keys"),
        (None, Some(folder)) => folder.clone(),
        (None, None) => {
            return Err(Failure::Usage("[keys] folder: where are the keys of the logs?".to_owned()));
        }
    };
    let stores = args.from.find()?;
    let (mut reader, catalog) = (stores.log()?, stores.catalog()?);
    let sources = config.sources.iter().map(|source| source.topic.as_str()).chain([ROWS, CLOUD_EVENTS]);
    if let Some(what) = pending(&mut *reader, &*catalog, &deployment, sources)? {
        return Err(anyhow::anyhow!(
            "{what}: the logs cannot be closed before all is proven; stop what produces, and let `killick run` finish"
        )
        .into());
    }
    let mut closed = Vec::new();
    for signer in cluster::signers(&folder, &deployment)? {
        closed.extend(last_of(&*catalog, signer)?);
    }
    if closed.is_empty() {
        return Err(anyhow::anyhow!(
            "no log of {} has batches: there is nothing to continue",
            deployment.name()
        )
        .into());
    }
    let mut events = Vec::new();
    for (old, new) in pairs(closed.len(), next.logs()) {
        events.extend(event(&closed[old], &args.tenant, new, next.logs())?);
    }
    write(&args.out, &events)?;
    tell(args, &closed)?;
    Ok(())
}

/// Reads how a log ended, from the anchor of its last checkpoint: that stays when batches expire. Nothing of a log without
/// batches.
fn last_of(catalog: &dyn Catalog, signer: SignerKey) -> Result<Option<Closed>> {
    let origin = signer.name();
    let Some(last) = catalog.log_size(origin)?.checked_sub(1) else { return Ok(None) };
    let about = || format!("the end of {origin}");
    let anchors = anchors_in(catalog, origin, OWN, last)?;
    let first =
        anchors.first().with_context(|| format!("the last checkpoint of {origin} is not anchored"))?;
    let note = Note::parse(&first.checkpoint).with_context(about)?;
    let checkpoint = Checkpoint::parse(note.text()).with_context(about)?;
    ensure!(
        (checkpoint.origin, checkpoint.size) == (origin, last + 1),
        "the last anchor of {origin} is of {} at size {}, and the log has {} batches: `killick fsck` says more",
        checkpoint.origin,
        checkpoint.size,
        last + 1
    );
    if note.verdict(&signer.verifier()) != Verdict::Valid {
        bail!("the last checkpoint of {origin} is not signed by the key of the log that is there");
    }
    let mut blocks = Vec::with_capacity(anchors.len());
    for anchor in &anchors {
        let block = Anchor::parse(&anchor.anchor).map_err(|fault| fault.to_string());
        let block = block.and_then(|anchor| Block::of(&anchor)).map_err(anyhow::Error::msg);
        blocks.push(block.with_context(about)?.time);
    }
    Ok(Some(Closed {
        ended: Continuation { origin: origin.into(), size: checkpoint.size, root: checkpoint.root },
        note: first.checkpoint.clone(),
        anchored: blocks[0],
        until: blocks.iter().copied().fold(blocks[0], Micros::max),
        signer,
    }))
}

/// The line by which a log goes on in a new one.
fn event(closed: &Closed, tenant: &str, log: u32, logs: u32) -> Result<Vec<u8>> {
    let Closed { ended, note, anchored: time, signer, .. } = closed;
    let id = ended.id(tenant, log, logs).context("no id leads to the log that is wanted")?;
    let digest = Algorithm::Sha256.digest(note.as_bytes());
    let event = Event { tenant, source: &ended.origin, id: &id, time: *time, kind: CONTINUED, digest };
    produce::line(&event, note.as_bytes(), signer.verifier().key(), &signer.sign_event(&event)?)
}

/// Writes the file; never half of one under its name.
fn write(path: &Path, events: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    std::fs::write(&fresh, events).with_context(|| fresh.display().to_string())?;
    std::fs::rename(&fresh, path).with_context(|| path.display().to_string())
}

/// Says what to do next, as lines that can be put behind the configuration of the next generation.
fn tell(args: &CloseArgs, closed: &[Closed]) -> Result<()> {
    let [file, next] = [&args.out, &args.next].map(|path| shown_line(&path.display().to_string()));
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "# {} logs end here; none of their stages may run again. The keys that speak for them,",
        closed.len()
    )?;
    writeln!(out, "# for {next}:")?;
    for Closed { ended, signer, .. } in closed {
        writeln!(
            out,
            "\n{}",
            keys::device_section(&args.tenant, &ended.origin, signer.verifier().key())?.trim_end()
        )?;
    }
    writeln!(out, "\n# The first input of the next generation, alone until it is proven:")?;
    writeln!(
        out,
        "#   killick run --embedded DIR -c {next} --input {file} --format cloudevents --freshness off"
    )?;
    writeln!(out, "# or on servers: a [[source]] with decoder = \"cloudevents\" and freshness = \"off\".")?;
    writeln!(
        out,
        "#\n# Trust files: \"logs\". With an end, a key counts for blocks up to the last own anchor alone:"
    )?;
    for Closed { signer, until, .. } in closed {
        writeln!(out, "#   {}", json!({ "key": signer.verifier().to_string(), "until": until }))?;
    }
    writeln!(out, "# Trust files: \"devices\", for receipts of the continuation:")?;
    for Closed { ended, signer, .. } in closed {
        let key = base64url(signer.verifier().key().as_bytes());
        writeln!(out, "#   {}", json!({ "tenant": args.tenant, "source": ended.origin, "key": key }))?;
    }
    Ok(())
}
