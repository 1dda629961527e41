//! Classes of tenants: by how long their events are kept, as `[catalog]` says it. There are few of them.

use std::collections::BTreeMap;

use killick_catalog::{Class, Settings};
use killick_proof::cbor::Reader as Cbor;
use killick_stages::avro::Reader;
use killick_stages::frame::read_batch_body;

/// The class where all tenants are of one.
const ALL: &str = "all";

/// Who is of which class.
#[derive(Debug, Default)]
pub struct Classes {
    tenants: BTreeMap<Box<str>, Class>,
    /// The class of all others; `None` where nobody is of any.
    others: Option<Class>,
}

impl Classes {
    /// The classes that the catalog has.
    pub fn of_catalog(settings: Option<&Settings>) -> Self {
        let Some(settings) = settings.filter(|settings| !settings.tenants.is_empty()) else {
            return Self::default();
        };
        let tenants = settings.tenants.iter().map(|(tenant, class)| (tenant.as_str().into(), *class));
        Self { tenants: tenants.collect(), others: Some(settings.retention) }
    }

    /// The classes of these tenants.
    pub fn of<'t>(&self, tenants: impl Iterator<Item = &'t str>) -> Vec<&'static str> {
        let Some(others) = self.others else { return vec![ALL] };
        let mut names: Vec<_> =
            tenants.map(|tenant| self.tenants.get(tenant).copied().unwrap_or(others).name()).collect();
        names.sort_unstable();
        names.dedup();
        // A message names no tenants where they are many.
        if names.is_empty() { vec![others.name()] } else { names }
    }

    /// The classes of the tenants of a record of `batches`: its statements are looked at only where there are classes.
    pub fn of_batch(&self, batch: &[u8]) -> Vec<&'static str> {
        if self.others.is_none() {
            return vec![ALL];
        }
        let statements = read_batch_body(&mut Reader::new(batch)).map(|(_, statements)| statements);
        self.of(statements.unwrap_or_default().into_iter().filter_map(tenant))
    }
}

/// The tenant of a statement: its second field.
fn tenant(statement: &[u8]) -> Option<&str> {
    let mut reader = Cbor::new(statement);
    reader.array().and_then(|_| reader.uint()).and_then(|_| reader.text()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_of_the_classes_that_the_catalog_has() {
        let mut settings = Settings { retention: Class::Year, ..Settings::default() };
        assert_eq!(Classes::of_catalog(Some(&settings)).of(["plant"].into_iter()), ["all"]);
        settings.tenants.insert("plant".to_owned(), Class::Days30);
        let classes = Classes::of_catalog(Some(&settings));
        assert_eq!(classes.of(["plant", "acme", "bolt"].into_iter()), ["1y", "30d"]);
        assert_eq!(classes.of([].into_iter()), ["1y"]);
        assert_eq!(Classes::of_catalog(None).of_batch(b"nonsense"), ["all"]);
        assert_eq!(classes.of_batch(b"nonsense"), ["1y"]);
    }

    #[test]
    fn the_tenant_of_a_statement_is_found_without_the_rest() {
        let statement = [&[0x8a, 1, 0x65][..], b"plant", &[0xff; 8]].concat();
        assert_eq!(tenant(&statement), Some("plant"));
        assert_eq!(tenant(&statement[..5]), None, "cut");
    }
}
