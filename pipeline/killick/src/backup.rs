//! `killick backup` and `killick restore`: the folder of the embedded side, also while it is at work.
//!
//! **What is in a backup**: the log's segments up to one instant, the catalog of the same instant, the development
//! network's blocks, the keys, `trust.json`; and at last `backup.json`, with length and SHA-256 of every file. Without it
//! a backup is not whole, and nothing is restored from it.
//!
//! **Why it is consistent**: it is what a `kill -9` at that instant would have left, and that is what every part of the
//! pipeline is made for. Whoever has the folder open holds the log's writer while it notes where the log ends and begins
//! to read the catalog. So the log is a run of whole, durable transactions; the catalog has nothing that the log has not
//! (prove puts only what it has read from the log), and all that the log says was put. The blocks are copied afterwards:
//! a chain that knows more than the log is one where a command was sent just before the kill.
//!
//! **While `killick run` has the folder** no other process opens it. It listens on `FOLDER/backup.sock`, which only its
//! user can reach: a request makes it hold the segments, so that none goes, and write the catalog of the instant into
//! `FOLDER/backup`. The one that asked copies, and says when it is done; if it dies, the connection ends and so does the
//! hold. If `run` dies, the copy is thrown away, since segments may have gone meanwhile. It never writes outside its
//! folder, so it may be kept from it.
//!
//! **Two histories**: a restored folder has the keys of the original. If both go on, they sign different checkpoints of the
//! same logs, which is what a dishonest operator would do: receipts of both verify, and whoever holds them against each
//! other sees it. Nobody can find that out in time but the operator. So `restore` leaves `restored.json`, and no pipeline
//! starts in such a folder until `killick run --confirm-restored` has taken it away.
//!
//! What was proven before the instant is in the restored log, and a copy of it is a copy. What the original took after it
//! is not there: its senders have to send it again.

pub mod files;
mod hold;
mod restore;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::cli::{Outcome, Output};
use crate::verify::time::Time;
use files::{Entry, Manifest};
use hold::{Source, Whole};

pub use hold::serve;
pub use restore::{RestoreArgs, confirm, may_start, restore};

/// Copies the folder of an embedded side to another folder, also while `killick run` is at work in it.
///
/// It is the folder of one instant, as a kill at that instant would have left it. `killick restore` makes a folder of it that
/// goes on there. It holds the keys of the logs: keep it as you keep them. The backup is whole when this says so; one that
/// was cut off has no backup.json and is refused. Meanwhile nothing is removed from the log, and the catalog is there twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  killick backup --embedded site/ --out /backup/site-2026-11-21/
  killick backup --embedded site/ --out today/ && tar -C today -c . | ssh elsewhere 'cat > today.tar'")]
pub struct BackupArgs {
    /// The folder of the embedded side.
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    embedded: PathBuf,

    /// Where the copy goes: a folder that is not there yet, or is empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Text for people, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Makes a backup.
pub fn run(args: &BackupArgs) -> Outcome {
    let manifest = back_up(&args.embedded, &args.out)?;
    let (bytes, files) = (manifest.bytes(), manifest.files.len());
    let mut out = io::stdout();
    match args.output {
        Output::Json => writeln!(
            out,
            "{}",
            json!({ "folder": args.out, "made": Time(manifest.made), "files": files, "bytes": bytes })
        )?,
        Output::Text => {
            writeln!(
                out,
                "{} is whole: {files} files, {bytes} bytes, as of {}",
                args.out.display(),
                Time(manifest.made)
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn back_up(folder: &Path, to: &Path) -> Result<Manifest> {
    let source = Source::of(folder)?;
    files::make_empty(to)?;
    let make = || {
        let whole = source.hold()?;
        let manifest = copy_all(folder, to, &whole)?;
        // Only now it is known that nothing went away below the copy.
        source.release()?;
        manifest.write(to)?;
        Ok(manifest)
    };
    make().map_err(|error: anyhow::Error| {
        // Nobody should have to clean up behind it; what stays all the same has no list.
        let _ = fs::remove_dir_all(to);
        error.context("no backup was made")
    })
}

/// Copies what is held, and everything else that belongs to a folder.
fn copy_all(folder: &Path, to: &Path, whole: &Whole) -> Result<Manifest> {
    let mut entries = Vec::new();
    let mut take = |from: &Path, name: String, len: Option<u64>| -> Result<()> {
        let (len, sha256) = files::copy(from, &to.join(&name), len)?;
        entries.push(Entry { name, len, sha256 });
        Ok(())
    };
    for sub in ["log", "chain", "keys"] {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(to.join(sub))
            .with_context(|| to.join(sub).display().to_string())?;
    }
    for segment in &whole.segments {
        let name =
            segment.path.file_name().and_then(|name| name.to_str()).context("a segment without a name")?;
        take(&segment.path, format!("log/{name}"), Some(segment.len))?;
    }
    take(&whole.catalog, "catalog.redb".to_owned(), None)?;
    let blocks = folder.join("chain/blocks");
    if blocks.exists() {
        // It grows: what is there now is enough, and a block that is written this moment is no block yet.
        let len = fs::metadata(&blocks)?.len();
        take(&blocks, "chain/blocks".to_owned(), Some(len))?;
    }
    for file in files::keys(&folder.join("keys"))? {
        take(&folder.join("keys").join(&file), format!("keys/{file}"), None)?;
    }
    let trust = folder.join("trust.json");
    if trust.exists() {
        take(&trust, "trust.json".to_owned(), None)?;
    }
    let found = killick_embedded::look(to, false)?;
    ensure!(
        found.damage.is_empty() && found.unfinished == 0,
        "the log did not arrive whole: {}",
        found.damage.join("; ")
    );
    for sub in ["log", "chain", "keys", "."] {
        File::open(to.join(sub)).and_then(|sub| sub.sync_all())?;
    }
    Ok(Manifest {
        format: files::FORMAT,
        made: whole.made,
        program: env!("KILLICK_VERSION").to_owned(),
        files: entries,
    })
}

/// This moment, in µs since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
