//! The contract of the catalog, on a real server.

use std::sync::Arc;

use killick_contract::catalog;
use killick_stages::ports::Catalog;

mod support;

struct Cql(support::Keyspace);

impl catalog::Subject for Cql {
    fn open(&mut self) -> Arc<dyn Catalog> {
        Arc::new(self.0.catalog())
    }
}

#[test]
fn the_catalog_keeps_its_contract() {
    catalog::suite(|| Cql(support::Keyspace::made()));
}
