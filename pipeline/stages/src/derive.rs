//! Derives receipts where they are read: no receipt is stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::log::{LogError, inclusion_path};
use killick_proof::note::Note;
use killick_proof::origin::Origin;
use killick_proof::receipt::{Anchor, AnchorLog, BatchProof, LogProof, MAX_RECEIPT, Receipt};
use killick_proof::statement::Statement;
use killick_proof::tree::Tree;
use killick_proof::{Algorithm, Hash};

use crate::batch::MAX_LEAVES;
use crate::ports::{BatchRecord, Catalog, CatalogError, Place};
use crate::ready::{Block, MAX_ANCHOR, MAX_TENANTS, ProofReady};
use crate::series::OWN;

/// Bytes of anchors in a receipt, in JSON: the rest of it is much smaller than what this leaves.
const MAX_ANCHORS: usize = MAX_RECEIPT - (64 << 10);

/// Why a receipt cannot be derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What the catalog holds contradicts itself, or lacks a part.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// What the catalog holds of the log makes no proof.
    #[error("the catalog is damaged: {0}")]
    Log(#[from] LogError),
}

/// Derives receipts; remembers the last batch, so that receipts of one batch after another cost little. They all carry
/// the anchors that there were when the batch was first asked for.
pub struct Deriver<'c> {
    catalog: &'c dyn Catalog,
    last: Option<Known>,
}

/// The receipts of the batch that was asked for last.
struct Known {
    origin: Box<str>,
    number: u64,
    receipts: Receipts,
}

/// The receipts of one batch: what they have in common, and the tree that gives each its path.
#[derive(Debug)]
pub struct Receipts {
    header: Bytes,
    statements: Vec<Bytes>,
    tree: Tree,
    log: LogProof,
    anchors: Vec<Anchor>,
}

impl Receipts {
    /// The receipts of a batch with this header and these statements, in leaf order.
    ///
    /// # Errors
    /// The header is none, or has another root than the statements.
    pub fn new(
        header: Bytes,
        statements: Vec<Bytes>,
        log: LogProof,
        anchors: Vec<Anchor>,
    ) -> Result<Self, String> {
        let (tree, _) = tree_over(&header, &statements)?;
        Ok(Self { header, statements, tree, log, anchors })
    }

    /// The receipts that a message of `proofs` holds: of a message that says what they say, and nothing else. What they
    /// prove is not looked at.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn of(ready: &ProofReady) -> Result<Self, String> {
        if ready.statements.len() > MAX_LEAVES {
            return Err(format!("{} events; a batch has at most {MAX_LEAVES}", ready.statements.len()));
        }
        if let Some(anchor) = ready.anchors.iter().find(|anchor| anchor.len() > MAX_ANCHOR) {
            return Err(format!("an anchor of {} bytes; {MAX_ANCHOR} are the most", anchor.len()));
        }
        let anchors: Result<Vec<_>, _> =
            ready.anchors.iter().map(|anchor| Anchor::parse(anchor.as_bytes())).collect();
        let anchors = anchors.map_err(|fault| format!("an anchor: {fault}"))?;
        let log = LogProof {
            checkpoint: ready.checkpoint.to_string(),
            index: ready.number,
            path: ready.path.iter().copied().map(Hash::new).collect(),
        };
        let receipts = Self::new(ready.header.clone(), ready.statements.clone(), log, anchors)?;
        if receipts.ready()? != *ready {
            return Err("what it says of its batch is not what its parts say".to_owned());
        }
        Ok(receipts)
    }

    /// The message of `proofs` that holds them.
    ///
    /// # Errors
    /// A statement, the checkpoint or the first anchor's block does not decode. Those of receipts that were verified do.
    pub fn ready(&self) -> Result<ProofReady, String> {
        let header = BatchHeader::decode(&self.header).map_err(|error| error.to_string())?;
        let mut tenants = BTreeSet::new();
        for (index, statement) in self.statements.iter().enumerate() {
            let statement =
                Statement::decode(statement).map_err(|error| format!("statement {index}: {error}"))?;
            tenants.insert(statement.event.tenant);
        }
        if tenants.len() > MAX_TENANTS {
            tenants.clear();
        }
        let note = Note::parse(&self.log.checkpoint).map_err(|error| format!("the checkpoint: {error}"))?;
        let checkpoint =
            Checkpoint::parse(note.text()).map_err(|error| format!("the checkpoint: {error}"))?;
        let block = self.anchors.first().map(Block::of).transpose();
        Ok(ProofReady {
            origin: header.origin.as_str().into(),
            number: header.number,
            batch: self.batch().to_string().into(),
            leaves: header.leaf_count,
            first_time: header.first_time,
            last_time: header.last_time,
            tenants: tenants.into_iter().map(Into::into).collect(),
            size: checkpoint.size,
            block: block.map_err(|why| format!("the block: {why}"))?,
            header: self.header.clone(),
            statements: self.statements.clone(),
            path: self.log.path.iter().map(|hash| *hash.as_bytes()).collect(),
            checkpoint: self.log.checkpoint.as_str().into(),
            anchors: self.anchors.iter().map(|anchor| anchor.to_json().into()).collect(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.tree.size()
    }

    /// The batch's id: its header's leaf hash.
    pub fn batch(&self) -> Hash {
        self.tree.algorithm().leaf(&self.header)
    }

    /// The statement of the event at this leaf index, in CBOR.
    pub fn statement(&self, index: u64) -> Option<&Bytes> {
        self.statements.get(usize::try_from(index).ok()?)
    }

    /// The receipt of the event at this leaf index.
    pub fn get(&self, index: u64) -> Option<Receipt> {
        Some(Receipt {
            statement: self.statement(index)?.to_vec(),
            batch: BatchProof {
                header: self.header.to_vec(),
                index,
                path: self.tree.inclusion_path(index).ok()?,
            },
            log: self.log.clone(),
            anchors: self.anchors.clone(),
        })
    }
}

/// The first batch of a log whose receipts stand on its checkpoint of this size, which is anchored in the own series:
/// below it, a smaller one that is anchored there as well does. Asks the catalog about the logarithm of `size` times.
///
/// # Errors
/// [`CatalogError`].
pub fn first_covered(catalog: &dyn Catalog, origin: &str, size: u64) -> Result<u64, CatalogError> {
    let (mut low, mut high) = (0, size.saturating_sub(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let anchors = catalog.anchors_of(origin, middle)?;
        if anchors.first().is_some_and(|anchor| &*anchor.series == OWN && anchor.size < size) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

impl<'c> Deriver<'c> {
    /// Derives from this catalog.
    pub fn new(catalog: &'c dyn Catalog) -> Self {
        Self { catalog, last: None }
    }

    /// The receipt of the event at a place; `None` while its batch is not anchored, or if there is no such place.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn receipt_of(&mut self, place: &Place) -> Result<Option<Receipt>, DeriveError> {
        let is_it = |known: &Known| known.origin == place.origin && known.number == place.number;
        if !self.last.as_ref().is_some_and(is_it) {
            self.last = self.know(&place.origin, place.number)?;
        }
        let Some(known) = &self.last else { return Ok(None) };
        Ok(known.receipts.get(place.index))
    }

    fn know(&self, origin: &str, number: u64) -> Result<Option<Known>, DeriveError> {
        let damaged =
            |why: &dyn std::fmt::Display| DeriveError::Damaged(format!("batch {number} of {origin}: {why}"));
        let Some(batch) = self.catalog.batch(origin, number)? else { return Ok(None) };
        let records = self.catalog.anchors_of(origin, number)?;
        let Some(first) = records.first() else { return Ok(None) };
        let mut paths = BTreeMap::new();
        let mut path_to = |size| -> Result<Vec<Hash>, DeriveError> {
            if let Some(path) = paths.get(&size) {
                return Ok(Vec::clone(path));
            }
            let path = log_path(self.catalog, origin, number, size)?;
            Ok(paths.entry(size).or_insert(path.into_iter().map(Hash::new).collect()).clone())
        };
        let log =
            LogProof { checkpoint: first.checkpoint.to_string(), index: number, path: path_to(first.size)? };
        let (mut anchors, mut left) = (Vec::with_capacity(records.len()), MAX_ANCHORS);
        for record in &records {
            let mut anchor = Anchor::parse(&record.anchor).map_err(|fault| damaged(&fault))?;
            if &*record.series != OWN {
                anchor.log = if record.checkpoint == first.checkpoint {
                    None
                } else {
                    let checkpoint = record.checkpoint.to_string();
                    Some(AnchorLog { checkpoint, path: path_to(record.size)? })
                };
            }
            // Nobody reads a receipt that is too large: it goes without what does not fit, and stays good.
            let size = anchor.to_json().len();
            if size <= left || &*record.series == OWN {
                left = left.saturating_sub(size);
                anchors.push(anchor);
            }
        }
        let receipts =
            Receipts::new(batch.header, batch.statements, log, anchors).map_err(|why| damaged(&why))?;
        Ok(Some(Known { origin: origin.into(), number, receipts }))
    }
}

/// The tree over the statements of a batch, and the batch's header, if the tree is the header's.
///
/// # Errors
/// What is wrong with the batch.
pub fn tree_of(batch: &BatchRecord) -> Result<(Tree, BatchHeader<'_>), String> {
    tree_over(&batch.header, &batch.statements)
}

fn tree_over<'h>(header: &'h [u8], statements: &[Bytes]) -> Result<(Tree, BatchHeader<'h>), String> {
    let header = BatchHeader::decode(header).map_err(|error| error.to_string())?;
    let algorithm = header.algorithm().ok_or("its hash is not understood")?;
    let tree = Tree::new(algorithm, algorithm.leaves(statements.iter().map(AsRef::as_ref)));
    if tree.size() != header.leaf_count || tree.root() != header.root {
        return Err("its statements are not those of its header".to_owned());
    }
    Ok((tree, header))
}

/// The audit path of batch `number` in the log's tree of `size` leaves, from the catalog's hashes.
///
/// # Errors
/// [`DeriveError`].
pub fn log_path(
    catalog: &dyn Catalog,
    origin: &str,
    number: u64,
    size: u64,
) -> Result<Vec<[u8; 32]>, DeriveError> {
    let algorithm: Option<Algorithm> = Origin::parse(origin).ok().and_then(|origin| origin.algorithm());
    let algorithm =
        algorithm.ok_or_else(|| DeriveError::Damaged(format!("{origin:?} is no log that is understood")))?;
    let mut failed = None;
    let path = inclusion_path(algorithm, number, size, |node| {
        let level = u8::try_from(node.level).ok()?;
        let found = catalog.log_hash(origin, level, node.index);
        found
            .unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
            .map(Hash::new)
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(path?.iter().map(|hash| *hash.as_bytes()).collect()),
    }
}
