//! A batch of the catalog: what it holds, its place in the log, and its checkpoint.

use killick_proof::Hash;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::log::{Log, NodeId};
use killick_proof::note::{Note, Verdict};

use super::{Fsck, FsckError, Mark, Part, Topic, shown};
use crate::derive::tree_of;
use crate::ports::BatchRecord;

impl Fsck<'_> {
    /// Checks the next batch of a log; whether the one behind it can be checked too.
    pub(super) fn check_batch(
        &mut self,
        origin: &str,
        mark: &mut Mark,
        topic: &mut Topic,
    ) -> Result<bool, FsckError> {
        let number = mark.log.size();
        let faults = self.figures.faults;
        let read = self.catalog.batch(origin, number);
        let batch = self.sound(Part::Batch, origin, number, read)?.flatten();
        let read = self.catalog.log_hash(origin, 0, number);
        let stored = self.sound(Part::Node, origin, number, read)?.flatten().map(Hash::new);
        let Some(batch) = batch else {
            if self.figures.faults == faults {
                self.find(Part::Batch, origin, number, "it is not there");
            }
            self.compare(origin, number, None, topic)?;
            mark.next_offset = None;
            // Its leaf hash alone lets the tree go on.
            return Ok(stored.is_some_and(|leaf| mark.log.append(leaf, |_, _| {}).is_ok()));
        };
        self.check_header(origin, mark, &batch);
        self.compare(origin, number, Some(&batch), topic)?;
        self.check_index(origin, number, &batch)?;
        let leaf = mark.log.algorithm().leaf(&batch.header);
        let mut grown = mark.log.clone();
        let mut made = Vec::new();
        if let Err(error) = grown.append(leaf, |id, hash| made.push((id, hash))) {
            self.find(Part::Log, origin, number, error.to_string());
            return Ok(false);
        }
        self.check_nodes(origin, number, &made)?;
        let signed = self.check_checkpoint(origin, &batch, &grown);
        if *batch.edge != *grown.encode() {
            self.find(Part::Edge, origin, number, "it is not that of the log's tree");
        }
        mark.log = goes_on(&mark.log, grown, stored, &batch, signed);
        self.figures.batches += 1;
        self.figures.leaves += batch.statements.len() as u64;
        Ok(true)
    }

    /// What the header says, and that its statements are those of its root.
    fn check_header(&mut self, origin: &str, mark: &mut Mark, batch: &BatchRecord) {
        let number = mark.log.size();
        if let Err(why) = tree_of(batch) {
            self.find(Part::Batch, origin, number, why);
        }
        let next_offset = mark.next_offset.take();
        let Ok(header) = BatchHeader::decode(&batch.header) else {
            return; // told of above
        };
        if (header.origin.as_str(), header.number) != (origin, number) {
            let why = format!("it says that it is batch {} of {}", header.number, header.origin);
            self.find(Part::Batch, origin, number, why);
        }
        if let Some(next) = next_offset.filter(|next| *next != header.first_offset) {
            let why = format!("it begins at offset {}, and {next} is next", header.first_offset);
            self.find(Part::Batch, origin, number, why);
        }
        if header.first_time < mark.time {
            let (time, before) = (header.first_time, mark.time);
            let why = format!("its time, {time} µs, lies before that of the last batch, {before} µs");
            self.find(Part::Batch, origin, number, why);
        }
        mark.next_offset = header.last_offset.checked_add(1);
        mark.time = header.last_time.max(mark.time);
    }

    fn check_nodes(&mut self, origin: &str, number: u64, made: &[(NodeId, Hash)]) -> Result<(), FsckError> {
        for (node, hash) in made {
            let level = u8::try_from(node.level).unwrap_or(u8::MAX);
            let read = self.catalog.log_hash(origin, level, node.index);
            let Some(stored) = self.sound(Part::Node, origin, number, read)? else { continue };
            self.figures.nodes += 1;
            if stored != Some(*hash.as_bytes()) {
                let NodeId { level, index } = node;
                let why = format!("node {index} of level {level} is {}, and {hash} is stored", shown(stored));
                self.find(Part::Node, origin, number, why);
            }
        }
        Ok(())
    }

    /// The checkpoint is of this tree, and signed by a key of the log; gives its root, if it is.
    fn check_checkpoint(&mut self, origin: &str, batch: &BatchRecord, grown: &Log) -> Option<Hash> {
        let number = grown.size().saturating_sub(1);
        let checked = checkpoint(&batch.checkpoint, origin, grown.size());
        let (note, root) = match checked {
            Ok(checked) => checked,
            Err(why) => {
                self.find(Part::Checkpoint, origin, number, why);
                return None;
            }
        };
        let keys = self.verifier.trust().log_keys(origin);
        let mut verdicts = keys.iter().map(|key| note.verdict(&key.key));
        if keys.is_empty() {
            self.find(
                Part::Checkpoint,
                origin,
                number,
                "no key of this log is known: name a trust file that has it",
            );
            return None;
        }
        if !verdicts.any(|verdict| verdict == Verdict::Valid) {
            self.find(Part::Checkpoint, origin, number, "no key of this log signed it");
            return None;
        }
        if root != grown.root() {
            let why = format!("its root is {root}, and that of the batches is {}", grown.root());
            self.find(Part::Checkpoint, origin, number, why);
        }
        Some(root)
    }
}

/// Reads a checkpoint that has to be of this log at this size.
pub(super) fn checkpoint<'n>(note: &'n str, origin: &str, size: u64) -> Result<(Note<'n>, Hash), String> {
    let note = Note::parse(note).map_err(|error| format!("it is no note: {error}"))?;
    let (of, its_size, root) = {
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
        (checkpoint.origin == origin, checkpoint.size, checkpoint.root)
    };
    if !of || its_size != size {
        return Err(format!(
            "it is of another log or size: {:?}",
            note.text().lines().next().unwrap_or_default()
        ));
    }
    Ok((note, root))
}

/// The tree with which to go on behind a batch: what was computed, or, where that is not what the log signed, what is.
/// So one bad byte is one fault, and not one in each batch behind it.
fn goes_on(before: &Log, grown: Log, stored: Option<Hash>, batch: &BatchRecord, signed: Option<Hash>) -> Log {
    let Some(root) = signed.filter(|root| *root != grown.root()) else { return grown };
    let of_leaf = stored.and_then(|leaf| {
        let mut log = before.clone();
        log.append(leaf, |_, _| {}).ok().map(|()| log)
    });
    let of_edge = Log::decode(&batch.edge).ok().filter(|log| log.size() == grown.size());
    of_leaf.into_iter().chain(of_edge).find(|log| log.root() == root).unwrap_or(grown)
}
