//! What a monitor remembers of a log: the newest checkpoint that it has seen, and how far it has checked the entries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use killick_proof::Algorithm;
use killick_proof::encoding::{MAX_COUNT, base64url, from_base64url};
use killick_proof::log::Log;
use killick_proof::note::VerifierKey;
use killick_proof::succession::Succession;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::shelf::make;
use super::{MAX_CHECKPOINT, Signed};
use crate::backup::files::write_whole;
use crate::verify::files::read_bounded;

/// What the file says it is.
const FORMAT: &str = "killick-monitor/1";
/// Its name in the folder of its log.
const FILE: &str = "state.json";
/// Bytes in the longest file: a checkpoint, escaped, and some.
const LARGEST: usize = 2 * MAX_CHECKPOINT + 4_096;

/// What is remembered of one log.
#[derive(Debug)]
pub struct Memory {
    /// The log's folder; without one it is forgotten when the process ends.
    folder: Option<PathBuf>,
    origin: Box<str>,
    /// The newest checkpoint that was seen, and is consistent with all before it.
    pub kept: Option<Signed>,
    /// The tree over the entries that were checked: at most as large as that of the checkpoint.
    pub log: Log,
    /// What the next entry has to say.
    pub next: Succession,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stored {
    format: String,
    origin: Box<str>,
    checkpoint: Box<str>,
    /// The tree: its size and right edge, in base64url.
    checked: String,
    next_offset: u64,
    time: i64,
}

impl Memory {
    /// What the folder of states remembers of a log; nothing where it knows none, or there is no folder.
    ///
    /// # Errors
    /// What is there is no such state, or its checkpoint is not signed by any of these keys.
    pub fn open(states: Option<&Path>, origin: &str, keys: &[VerifierKey]) -> Result<Self> {
        let mut memory = Self {
            folder: states.map(|states| states.join(origin)),
            origin: origin.into(),
            kept: None,
            log: Log::new(Algorithm::Sha256),
            next: Succession::default(),
        };
        let Some(path) = memory.folder.as_ref().map(|folder| folder.join(FILE)) else { return Ok(memory) };
        match read_bounded(&path, LARGEST) {
            Ok(bytes) => memory.take(&bytes, keys).with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        Ok(memory)
    }

    fn take(&mut self, bytes: &[u8], keys: &[VerifierKey]) -> Result<()> {
        let stored: Stored = serde_json::from_slice(bytes).context("this is no state of a monitor")?;
        ensure!(stored.format == FORMAT, "its format is {:?}, and not {FORMAT}", stored.format);
        ensure!(stored.origin == self.origin, "it is of {:?}", stored.origin);
        let kept = Signed::read(stored.checkpoint.as_bytes(), &self.origin, keys);
        let kept = kept.map_err(|why| anyhow!("the checkpoint in it is not believed: {why}"))?;
        self.log = Log::decode(&from_base64url(&stored.checked)?)?;
        let is_tree = self.log.algorithm() == Algorithm::Sha256 && self.log.size() <= kept.size;
        ensure!(is_tree && stored.next_offset <= MAX_COUNT + 1, "what it says of the entries cannot be");
        self.next = Succession { number: self.log.size(), offset: stored.next_offset, time: stored.time };
        self.kept = Some(kept);
        Ok(())
    }

    /// Writes it, whole or not at all; durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> Result<()> {
        let (Some(folder), Some(kept)) = (&self.folder, &self.kept) else { return Ok(()) };
        let stored = Stored {
            format: FORMAT.to_owned(),
            origin: self.origin.clone(),
            checkpoint: kept.note.clone(),
            checked: base64url(&self.log.encode()),
            next_offset: self.next.offset,
            time: self.next.time,
        };
        make(folder).with_context(|| folder.display().to_string())?;
        write_whole(folder, FILE, &serde_json::to_vec_pretty(&stored)?)
    }

    /// Writes two signed notes that no honest log signs both, and what they show; gives the folder. The same notes go into
    /// the same folder. `None` where nothing is kept in files.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write_evidence(&self, notes: [&str; 2], about: &serde_json::Value) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let mut hash = Sha256::new();
        notes.iter().for_each(|note| hash.update(note));
        let mut name = hex::encode(hash.finalize());
        name.truncate(16);
        let folder = folder.join("evidence").join(name);
        make(&folder).with_context(|| folder.display().to_string())?;
        for (name, note) in ["first.note", "second.note"].into_iter().zip(notes) {
            write_whole(&folder, name, note.as_bytes())?;
        }
        write_whole(&folder, "about.json", &serde_json::to_vec_pretty(about)?)?;
        Ok(Some(folder))
    }
}
