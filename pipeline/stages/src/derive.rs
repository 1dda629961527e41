//! Derives receipts from the catalog when they are read: no receipt is stored.

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::log::{LogError, inclusion_path};
use killick_proof::origin::Origin;
use killick_proof::receipt::{Anchor, BatchProof, LogProof, Receipt};
use killick_proof::tree::Tree;
use killick_proof::{Algorithm, Hash};

use crate::ports::{BatchRecord, Catalog, CatalogError, Place};

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

/// Derives receipts; remembers the last batch, so that receipts of one batch after another cost little.
pub struct Deriver<'c> {
    catalog: &'c dyn Catalog,
    last: Option<Known>,
}

/// What the receipts of one batch have in common.
struct Known {
    origin: Box<str>,
    number: u64,
    header: Vec<u8>,
    statements: Vec<Bytes>,
    tree: Tree,
    log: LogProof,
    anchors: Vec<Anchor>,
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
        let index = usize::try_from(place.index).ok();
        let Some(statement) = index.and_then(|index| known.statements.get(index)) else { return Ok(None) };
        let path = known.tree.inclusion_path(place.index).map_err(|error| damaged(place, &error))?;
        Ok(Some(Receipt {
            statement: statement.to_vec(),
            batch: BatchProof { header: known.header.clone(), index: place.index, path },
            log: known.log.clone(),
            anchors: known.anchors.clone(),
        }))
    }

    fn know(&self, origin: &str, number: u64) -> Result<Option<Known>, DeriveError> {
        let damaged =
            |why: &dyn std::fmt::Display| DeriveError::Damaged(format!("batch {number} of {origin}: {why}"));
        let Some(batch) = self.catalog.batch(origin, number)? else { return Ok(None) };
        let anchors = self.catalog.anchors_of(origin, number)?;
        let Some(first) = anchors.first() else { return Ok(None) };
        let (size, checkpoint) = (first.size, first.checkpoint.to_string());
        let path = log_path(self.catalog, origin, number, size)?.into_iter().map(Hash::new).collect();
        let parsed: Result<_, _> = anchors.iter().map(|anchor| Anchor::parse(&anchor.anchor)).collect();
        let (tree, _) = tree_of(&batch).map_err(|why| damaged(&why))?;
        Ok(Some(Known {
            origin: origin.into(),
            number,
            header: batch.header.to_vec(),
            statements: batch.statements,
            tree,
            log: LogProof { checkpoint, index: number, path },
            anchors: parsed.map_err(|fault| damaged(&fault))?,
        }))
    }
}

fn damaged(place: &Place, why: &dyn std::fmt::Display) -> DeriveError {
    DeriveError::Damaged(format!(
        "event {} of batch {} of {}: {why}",
        place.index, place.number, place.origin
    ))
}

/// The tree over the statements of a batch, and the batch's header, if the tree is the header's.
///
/// # Errors
/// What is wrong with the batch.
pub fn tree_of(batch: &BatchRecord) -> Result<(Tree, BatchHeader<'_>), String> {
    let header = BatchHeader::decode(&batch.header).map_err(|error| error.to_string())?;
    let algorithm = header.algorithm().ok_or("its hash is not understood")?;
    let leaves = batch.statements.iter().map(|statement| algorithm.leaf(statement)).collect();
    let tree = Tree::new(algorithm, leaves);
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
