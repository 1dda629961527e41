//! Checkpoints: the signed note, and the batch header in the tree it commits to.

use std::collections::HashMap;
use std::sync::Arc;

use super::statement::CheckedHeader;
use super::{in_path, known};
use crate::checkpoint::Checkpoint;
use crate::fault::{Fault, Part};
use crate::hash::Hash;
use crate::note::{Note, Verdict};
use crate::receipt::LogProof;
use crate::tree::verify_inclusion;
use crate::trust::Trust;

/// What a well-formed signed note of a log says, and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckedCheckpoint {
    /// The lines before the signatures: the leaf of an anchor tree.
    pub(super) text: String,
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: Hash,
    signed: Signed,
}

/// Whether a log key of the trust file signed a checkpoint; a later one counts for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Signed {
    /// None did.
    No,
    /// One that counts with a trusted block created at this time or before, in µs since 1970.
    Until(i64),
    /// One that always counts.
    Always,
}

impl CheckedCheckpoint {
    /// Checks that a log key signed and counts; `oldest` is the creation time of the oldest trusted block.
    pub(super) fn check_signed(&self, oldest: Option<i64>) -> Part<()> {
        match (self.signed, oldest) {
            (Signed::Always, _) => Ok(()),
            (Signed::Until(until), Some(oldest)) if oldest <= until => Ok(()),
            (Signed::Until(_), Some(_)) => Err(Fault::missing("the log key ended before the trusted block")),
            (Signed::Until(_), None) => {
                Err(Fault::missing("the log key has an end, and no block is trusted"))
            }
            (Signed::No, _) => Err(Fault::missing(format_args!(
                "no log key of the trust file for {} signed it",
                self.origin
            ))),
        }
    }

    /// Whether a log key of the trust file signed, even if it ended.
    pub(super) fn is_signed(&self) -> bool {
        self.signed != Signed::No
    }
}

/// Reads a signed note and checks every signature in it by a key that the trust file lists.
pub(super) fn check(note: &str, trust: &Trust) -> Part<CheckedCheckpoint> {
    let note = Note::parse(note).map_err(Fault::wrong)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(Fault::wrong)?;
    let origin = checkpoint.log_origin().map_err(Fault::wrong)?;
    let mut signed = Signed::No;
    let mut asked = Vec::new();
    for signature in note.signatures() {
        if asked.contains(&(signature.name, signature.id)) {
            continue;
        }
        asked.push((signature.name, signature.id));
        for log in trust.log_keys(signature.name).iter().filter(|log| log.key.id() == signature.id) {
            let counts = log.until.map_or(Signed::Always, Signed::Until);
            match note.verdict(&log.key) {
                Verdict::Wrong => {
                    return Err(Fault::wrong(format_args!("the signature of {} is wrong", log.key.name())));
                }
                Verdict::Valid if log.key.name() == origin.as_str() => signed = signed.max(counts),
                Verdict::Valid | Verdict::Absent => {}
            }
        }
    }
    Ok(CheckedCheckpoint {
        text: note.text().to_owned(),
        origin: origin.to_string(),
        size: checkpoint.size,
        root: checkpoint.root,
        signed,
    })
}

/// Checks that the batch header is a leaf of the receipt's checkpoint.
pub(super) fn check_in_log(
    log: &Part<LogProof>,
    checkpoint: &Part<Arc<CheckedCheckpoint>>,
    header: &Part<CheckedHeader<'_>>,
    in_logs: &mut InLogs,
) -> Part<()> {
    let (log, checkpoint, header) = (known(log)?, known(checkpoint)?, known(header)?);
    let place = |fault: Fault| fault.within("log");
    check_origin(checkpoint, header.fields.origin.as_str()).map_err(place)?;
    let number = header.fields.number;
    if log.index != number {
        let why = format!("is {}, and the batch header has the number {number}", log.index);
        return Err(place(Fault::wrong(why).within("index")));
    }
    in_logs.check(checkpoint, header, &log.path).map_err(place)
}

/// Checks an anchor's own checkpoint: it is of the same log, and the batch header is a leaf of it too.
pub(super) fn check_own(
    own: &CheckedCheckpoint,
    path: &[Hash],
    main: &Part<Arc<CheckedCheckpoint>>,
    header: &Part<CheckedHeader<'_>>,
    in_logs: &mut InLogs,
) -> Part<()> {
    if let Ok(main) = main {
        check_origin(own, &main.origin)?;
        if own.size == main.size && own.root != main.root {
            let why = format!("another root for size {} than the receipt's own checkpoint has", own.size);
            return Err(Fault::wrong(why).within("checkpoint"));
        }
    }
    let header = known(header)?;
    check_origin(own, header.fields.origin.as_str())?;
    in_logs.check(own, header, path)
}

fn check_origin(checkpoint: &CheckedCheckpoint, origin: &str) -> Part<()> {
    if checkpoint.origin == origin {
        return Ok(());
    }
    Err(Fault::wrong(format_args!("is of {}, not of {origin}", checkpoint.origin)).within("checkpoint"))
}

/// Bytes of paths that are remembered; when there are more, all are forgotten.
const MAX_KEPT: usize = 8 << 20;

/// Headers that were found in the trees of their checkpoints.
#[derive(Debug, Default)]
pub(super) struct InLogs {
    /// By the checkpoint's root and the header's leaf hash: the tree's size and the path. The header itself says the rest.
    known: HashMap<(Hash, Hash), (u64, Vec<Hash>)>,
    /// Bytes in it, about.
    kept: usize,
}

impl InLogs {
    /// Checks that a header is in the checkpoint's tree, or remembers that it is.
    fn check(
        &mut self,
        checkpoint: &CheckedCheckpoint,
        header: &CheckedHeader<'_>,
        path: &[Hash],
    ) -> Part<()> {
        let (size, root) = (checkpoint.size, checkpoint.root);
        if self.known.get(&(root, header.id)).is_some_and(|known| (known.0, &*known.1) == (size, path)) {
            return Ok(());
        }
        verify_inclusion(header.algorithm, &header.id, header.fields.number, size, path, &root)
            .map_err(in_path)?;
        self.kept += size_of_val(path) + 256;
        if self.kept > MAX_KEPT {
            *self = Self { kept: size_of_val(path) + 256, ..Self::default() };
        }
        self.known.insert((root, header.id), (size, path.to_vec()));
        Ok(())
    }
}
