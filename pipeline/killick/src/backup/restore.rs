//! Making a folder of a backup, and keeping it from starting by accident.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use killick_embedded::{EmbeddedCatalog, EmbeddedLog, Folder, Settings};
use killick_stages::ports::Catalog as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::files::{self, Manifest};
use crate::cli::{Outcome, Output};
use crate::verify::time::Time;

/// What is in a folder that was restored and has not gone on yet.
const MARKER: &str = "restored.json";
/// Bytes in the longest marker.
const LONGEST: u64 = 4_096;

/// Makes a folder of a backup, in which the embedded side goes on.
///
/// Every file is held against its SHA-256, and log and catalog are opened. Nothing starts in the folder until `killick run
/// --confirm-restored`: it has the keys of the original, and if both go on, there are two histories under one key. Receipts of
/// both verify, and nothing but holding them against each other shows it. So make sure first that the original never goes on
/// again. What it took after the backup is not there: send it again; copies of what is there are found.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  killick restore --from /backup/site-2026-11-21/ --embedded site/
  killick audit --embedded site/ && killick fsck --embedded site/
  killick run --embedded site/ --confirm-restored --input readings.ndjson")]
pub struct RestoreArgs {
    /// The backup: the folder that `killick backup` has made.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,

    /// The folder to be made; one that is there has to be empty.
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    embedded: PathBuf,

    /// Text for people, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Where a restored folder comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    /// The instant that the backup shows, in µs since 1970.
    made: i64,
    /// Whether all of it is there.
    complete: bool,
}

impl Marker {
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MARKER);
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            about if about.as_ref().is_ok_and(|about| about.len() > LONGEST) => Vec::new(),
            about => about.and_then(|_| fs::read(&path)).with_context(|| path.display().to_string())?,
        };
        // Whatever stands in it: it is there.
        Ok(Some(serde_json::from_slice(&bytes).unwrap_or(Self { made: 0, complete: false })))
    }
}

/// Restores a backup.
pub fn restore(args: &RestoreArgs) -> Outcome {
    let manifest = Manifest::read(&args.from)?;
    files::make_empty(&args.embedded)?;
    let batches = fill(&args.from, &args.embedded, &manifest)
        .context("the folder is not whole: remove it, and restore into another one")?;
    let (made, folder) = (Time(manifest.made), args.embedded.display());
    let mut out = io::stdout();
    match args.output {
        Output::Json => {
            let bytes = manifest.bytes();
            writeln!(
                out,
                "{}",
                json!({ "folder": args.embedded, "made": made, "bytes": bytes, "batches": batches })
            )?;
        }
        Output::Text => {
            writeln!(out, "{folder} is as the original was at {made}: {batches} batches in the catalog")?;
            writeln!(
                out,
                "when the original is gone for good: killick run --embedded {folder} --confirm-restored"
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Fills a folder; gives the number of batches in its catalog.
fn fill(from: &Path, to: &Path, manifest: &Manifest) -> Result<u64> {
    let mark = |complete| {
        let marker = Marker { made: manifest.made, complete };
        files::write_whole(to, MARKER, &serde_json::to_vec(&marker)?)
    };
    // First: a folder that is half there must not start.
    mark(false)?;
    let folder = Arc::new(Folder::open(to)?);
    for sub in ["log", "chain", "keys"] {
        DirBuilder::new()
            .mode(0o700)
            .create(to.join(sub))
            .with_context(|| to.join(sub).display().to_string())?;
    }
    for entry in &manifest.files {
        let (path, target) = (from.join(&entry.name), to.join(&entry.name));
        let (len, sha256) = files::copy(&path, &target, None)?;
        ensure!(
            len == entry.len && sha256 == entry.sha256,
            "{} is not what was backed up: {len} bytes with SHA-256 {sha256}, and not {} with {}",
            path.display(),
            entry.len,
            entry.sha256
        );
    }
    let log = EmbeddedLog::open(&folder, &[], Settings::default())?;
    let catalog = EmbeddedCatalog::open(&folder)?;
    let mut batches = 0;
    for origin in catalog.origins()? {
        batches += catalog.log_size(&origin)?;
    }
    drop((log, catalog));
    for sub in ["log", "chain", "keys"] {
        File::open(to.join(sub)).and_then(|sub| sub.sync_all())?;
    }
    mark(true)?;
    Ok(batches)
}

/// Whether the pipeline may start in a folder.
///
/// # Errors
/// It was restored, and nobody has said that the original is gone.
pub fn may_start(folder: &Path) -> Result<()> {
    let shown = folder.display();
    match Marker::read(folder)? {
        None => Ok(()),
        Some(Marker { complete: false, .. }) => {
            bail!(
                "{shown} was not restored to the end: remove it, and restore the backup into another folder"
            )
        }
        Some(Marker { made, .. }) => bail!(
            "{shown} was restored from a backup of {}. If the original goes on too, there are two histories under one key: \
             receipts of both verify, and only who holds them against each other sees it. When the original is gone for good: \
             `killick run --embedded {shown} --confirm-restored`",
            Time(made)
        ),
    }
}

/// Takes note that the original of a restored folder is gone; durable when it returns.
///
/// # Errors
/// The folder is not whole, or it cannot be noted.
pub fn confirm(folder: &Path) -> Result<()> {
    match Marker::read(folder)? {
        Some(marker) if marker.complete => {
            let path = folder.join(MARKER);
            fs::remove_file(&path)
                .and_then(|()| File::open(folder)?.sync_all())
                .with_context(|| path.display().to_string())
        }
        _ => may_start(folder),
    }
}
