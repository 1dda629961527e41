//! Logs as static files (C2SP `tlog-tiles`): publishing them, and watching those that others publish.
//!
//! Each log has a folder that is called like its origin; in it `checkpoint`, `tile/<level>/…` and `tile/entries/…`.

pub mod memory;
pub mod place;
pub mod publish;
pub mod shelf;
pub mod watch;

use killick_proof::Algorithm;
use killick_proof::Hash;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::{MAX_NOTE, Note, Verdict, VerifierKey};
use killick_proof::origin::Origin;

/// The status of a command that found that a log has two histories.
pub const SPLIT: u8 = 3;
/// The longest pause between two rounds is whatever a span can be; the shortest keeps servers from being hammered.
pub const SHORTEST: &str = "1s";

/// A checkpoint that a known key of its log signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The whole note.
    pub note: Box<str>,
    /// How many batches the log has: at least 1.
    pub size: u64,
    /// The root of its tree.
    pub root: Hash,
}

impl Signed {
    /// Reads a note that has to be a checkpoint of this log, signed by one of these keys; a wrong signature of any of them
    /// is too much.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn read(note: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<Self, String> {
        let read = Note::from_bytes(note).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(read.text()).map_err(|error| error.to_string())?;
        checkpoint.log_origin().map_err(|error| error.to_string())?;
        if checkpoint.origin != origin {
            return Err(format!("it is a checkpoint of {}, and not of {origin}", checkpoint.origin));
        }
        let own = keys.iter().filter(|key| key.name() == origin);
        let verdicts: Vec<_> = own.map(|key| read.verdict(key)).collect();
        if verdicts.contains(&Verdict::Wrong) {
            return Err(format!("the signature of {origin} is wrong"));
        }
        if !verdicts.contains(&Verdict::Valid) {
            return Err(format!("no known key of {origin} signed it"));
        }
        let (size, root) = (checkpoint.size, checkpoint.root);
        let note = std::str::from_utf8(note).map_err(|error| error.to_string())?.into();
        Ok(Self { note, size, root })
    }
}

/// Bytes in the longest checkpoint that is read.
pub const MAX_CHECKPOINT: usize = MAX_NOTE;

/// Where the log with this origin is below a folder or an address: the origin itself.
///
/// # Errors
/// The origin is none, or its log cannot be published as tiles: it has another hash than SHA-256, or the name `.` or `..`,
/// which is a way out of every folder.
pub fn folder_of(origin: &str) -> Result<&str, String> {
    let parsed = Origin::parse(origin).map_err(|error| format!("{origin:?}: {error}"))?;
    if parsed.algorithm() != Some(Algorithm::Sha256) {
        return Err(format!(
            "{origin} is a log of {}: C2SP tlog-tiles has SHA-256 and nothing else",
            parsed.hash_name()
        ));
    }
    if matches!(parsed.name(), "." | "..") {
        return Err(format!("{origin:?} is no name for a folder"));
    }
    Ok(origin)
}

/// Reads the pause between two rounds.
///
/// # Errors
/// It is no length of time, or too short.
pub fn every(text: &str) -> Result<killick_stages::span::Span, String> {
    use killick_stages::span::{Span, SpanError};
    let span: Span = text.parse().map_err(|error: SpanError| error.to_string())?;
    if span < Span::secs(1) { Err(format!("it is {SHORTEST} or more")) } else { Ok(span) }
}

#[cfg(test)]
mod tests;
