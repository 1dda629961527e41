//! A catalog in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use killick_proof::batch::BatchHeader;
use killick_proof::log::Log;
use killick_proof::statement::Statement;
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};

/// A catalog.
#[derive(Debug, Default)]
pub struct SimCatalog {
    inner: Mutex<Inner>,
}

/// The tables, as they are.
#[derive(Debug, Default)]
pub struct Inner {
    /// By origin and number.
    pub batches: BTreeMap<(String, u64), BatchRecord>,
    /// By origin.
    pub logs: BTreeMap<String, Log>,
    /// By origin, level and index.
    pub nodes: BTreeMap<(String, u8, u64), [u8; 32]>,
    /// Origin, series, size.
    pub anchors: BTreeMap<(String, String, u64), Vec<AnchorRecord>>,
    /// By tenant, source and id.
    pub places: BTreeMap<(String, String, String), Vec<Place>>,
    /// Tenant, day, origin, number.
    pub days: BTreeSet<(String, i32, String, u64)>,
}

impl SimCatalog {
    /// Changes what is stored of a batch behind everyone's back.
    ///
    /// # Panics
    /// It is not there.
    pub fn damage(&self, origin: &str, number: u64, change: impl FnOnce(&mut BatchRecord)) {
        change(self.tables().batches.get_mut(&(origin.to_owned(), number)).expect("a batch"));
    }

    /// Changes all hashes of trees.
    pub fn damage_nodes(&self) {
        self.tables().nodes.values_mut().for_each(|node| node[0] ^= 1);
    }

    /// The tables, to be changed behind everyone's back.
    pub fn tables(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where all events are.
    pub fn places(&self) -> Vec<Place> {
        self.tables().places.values().flatten().cloned().collect()
    }
}

impl Catalog for SimCatalog {
    fn put_batch(&self, batch: &BatchRecord) -> Result<(), CatalogError> {
        let mut inner = self.tables();
        let header = BatchHeader::decode(&batch.header).expect("a header");
        let name = (header.origin.to_string(), header.number);
        if let Some(stored) = inner.batches.get(&name) {
            return if stored == batch {
                Ok(())
            } else {
                Err(CatalogError::Conflict(format!("batch {name:?}")))
            };
        }
        let algorithm = header.algorithm().expect("a known hash");
        let log = inner.logs.entry(name.0.clone()).or_insert_with(|| Log::new(algorithm));
        if log.size() != header.number {
            return Err(CatalogError::Conflict(format!("next batch: {}, not {}", log.size(), header.number)));
        }
        let mut made = Vec::new();
        log.append(algorithm.leaf(&batch.header), |node, hash| made.push((node, hash))).expect("a small log");
        for (node, hash) in made {
            inner.nodes.insert(
                (name.0.clone(), u8::try_from(node.level).expect("a level is small"), node.index),
                *hash.as_bytes(),
            );
        }
        let day = i32::try_from(header.first_time / 86_400_000_000).expect("a day");
        for (index, statement) in (0..).zip(&batch.statements) {
            let event = Statement::decode(statement).expect("a statement").event;
            inner.days.insert((event.tenant.to_owned(), day, name.0.clone(), name.1));
            let place = Place { origin: name.0.as_str().into(), number: name.1, index };
            let event = (event.tenant.to_owned(), event.source.to_owned(), event.id.to_owned());
            inner.places.entry(event).or_default().push(place);
        }
        inner.batches.insert(name, batch.clone());
        Ok(())
    }

    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError> {
        let mut inner = self.tables();
        let name = (anchor.origin.to_string(), anchor.series.to_string(), anchor.size);
        let anchors = inner.anchors.entry(name).or_default();
        if !anchors.contains(anchor) {
            anchors.push(anchor.clone());
        }
        Ok(())
    }

    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        Ok(self.tables().logs.keys().map(|origin| origin.as_str().into()).collect())
    }

    fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        Ok(self.tables().logs.get(origin).map_or(0, Log::size))
    }

    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        Ok(self.tables().batches.get(&(origin.to_owned(), number)).cloned())
    }

    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        Ok(self.tables().nodes.get(&(origin.to_owned(), level, index)).copied())
    }

    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        let inner = self.tables();
        let mut last = None;
        let of_log = inner.anchors.iter().filter(|((of, _, size), _)| of == origin && *size > number);
        let smallest = of_log.filter(|((_, series, _), _)| last.replace(series) != Some(series));
        Ok(smallest.flat_map(|(_, anchors)| anchors.clone()).collect())
    }

    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        let name = (tenant.to_owned(), source.to_owned(), id.to_owned());
        Ok(self.tables().places.get(&name).cloned().unwrap_or_default())
    }

    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        let inner = self.tables();
        let listed = inner.days.iter().filter(|(of, on, ..)| of == tenant && *on == day);
        let listed = listed.map(|(_, _, origin, number)| (Box::from(origin.as_str()), *number));
        Ok(listed.filter(|batch| after.is_none_or(|after| batch > after)).take(limit).collect())
    }
}
