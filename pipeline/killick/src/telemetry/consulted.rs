//! Stands between this process and its catalog, and tells how long each call took.

use std::sync::Arc;
use std::time::Instant;

use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use opentelemetry::KeyValue;

use super::metrics::Instruments;

/// A catalog whose calls are measured.
pub struct Consulted {
    catalog: Arc<dyn Catalog>,
    instruments: Arc<Instruments>,
}

impl Consulted {
    /// Measures the calls of a catalog.
    pub fn new(catalog: Arc<dyn Catalog>, instruments: Arc<Instruments>) -> Self {
        Self { catalog, instruments }
    }

    fn measured<T>(
        &self,
        call: &'static str,
        ask: impl FnOnce(&dyn Catalog) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let begun = Instant::now();
        let outcome = ask(&*self.catalog);
        let how = if outcome.is_ok() { "ok" } else { "failed" };
        let labels = [KeyValue::new("call", call), KeyValue::new("outcome", how)];
        self.instruments.catalog_time.record(begun.elapsed().as_secs_f64(), &labels);
        outcome
    }
}

impl Catalog for Consulted {
    fn put_batch(&self, batch: &BatchRecord) -> Result<(), CatalogError> {
        self.measured("put_batch", |catalog| catalog.put_batch(batch))
    }

    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError> {
        self.measured("put_anchor", |catalog| catalog.put_anchor(anchor))
    }

    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        self.measured("origins", |catalog| catalog.origins())
    }

    fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        self.measured("log_size", |catalog| catalog.log_size(origin))
    }

    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        self.measured("batch", |catalog| catalog.batch(origin, number))
    }

    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        self.measured("log_hash", |catalog| catalog.log_hash(origin, level, index))
    }

    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        self.measured("anchors_of", |catalog| catalog.anchors_of(origin, number))
    }

    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        self.measured("find", |catalog| catalog.find(tenant, source, id))
    }

    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        self.measured("list", |catalog| catalog.list(tenant, day, after, limit))
    }
}
