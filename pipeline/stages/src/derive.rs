//! Derives receipts from the catalog when they are read: no receipt is stored.

use killick_proof::log::LogError;
use killick_proof::receipt::Receipt;

use crate::ports::{Catalog, CatalogError, Place};

/// Why a receipt cannot be derived.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What the catalog holds contradicts itself, or lacks a part.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// What the catalog holds makes no tree.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Derives receipts; remembers the last batch, so that receipts of one batch after another cost little.
pub struct Deriver<'c> {
    catalog: &'c dyn Catalog,
}

impl<'c> Deriver<'c> {
    /// Derives from this catalog.
    pub fn new(catalog: &'c dyn Catalog) -> Self {
        Self { catalog }
    }

    /// The receipt of the event at a place; `None` while its batch is not anchored, or if there is no such place.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn receipt_of(&mut self, _place: &Place) -> Result<Option<Receipt>, DeriveError> {
        let _ = self.catalog;
        todo!()
    }
}

/// The audit path of batch `number` in the log's tree of `size` leaves, from the catalog's hashes.
///
/// # Errors
/// [`DeriveError`].
pub fn log_path(
    _catalog: &dyn Catalog,
    _origin: &str,
    _number: u64,
    _size: u64,
) -> Result<Vec<[u8; 32]>, DeriveError> {
    todo!()
}
