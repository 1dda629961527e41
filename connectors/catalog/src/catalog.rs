//! The catalog as the port has it: blocking, for many threads.

use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;
use crate::link::Link;
use crate::migrate::{self, Migrated};
use crate::schema::Difference;
use crate::settings::{Settings, SettingsError};
use crate::side::Side;

/// Threads that serve the connections. What is sent and received is made and read by those who call.
const THREADS: usize = 2;

/// A catalog in a cluster.
///
/// Has a small runtime of its own for its connections, so that it serves tools and tests as well as programs that have
/// one. Calls block; they are not for the threads of an async runtime (`spawn_blocking` is made for them).
pub struct CqlCatalog {
    side: Side,
    runtime: Option<Runtime>,
}

impl CqlCatalog {
    /// Prepares a catalog: reads the files that the settings name, and asks no node. The first call connects.
    ///
    /// # Errors
    /// [`SettingsError`], also where the system gives no threads.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("catalog")
            .enable_all()
            .build()
            .map_err(SettingsError::Threads)?;
        Ok(Self { side: Side::new(Link::new(settings)?), runtime: Some(runtime) })
    }

    /// Connects, if it is not connected, and holds the cluster's tables against this program's.
    ///
    /// # Errors
    /// [`Error`]; [`Error::is_transient`] tells what passes by itself from what somebody has to change.
    pub fn open(&self) -> Result<(), Error> {
        self.wait(self.side.link.open()).map(drop)
    }

    /// Makes the keyspace and its tables, or brings them to this program's version. May be called again, and by several
    /// at once.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migrate(&self) -> Result<Migrated, Error> {
        let link = &self.side.link;
        self.wait(async {
            let migrated = migrate::migrate(&link.session().await?, link.settings()).await;
            link.forget().await;
            migrated
        })
    }

    /// How the cluster's keyspace differs from what this program needs; empty if it does not.
    ///
    /// # Errors
    /// [`Error`].
    pub fn differences(&self) -> Result<Vec<Difference>, Error> {
        let link = &self.side.link;
        self.wait(async { migrate::differences(&link.session().await?, link.settings()).await })
    }

    /// The clock of the node that answers, in ms since 1970.
    ///
    /// # Errors
    /// [`Error`].
    pub fn clock(&self) -> Result<i64, Error> {
        let link = &self.side.link;
        self.wait(async { migrate::clock(&link.session().await?).await })
    }

    /// Puts a batch as [`Catalog::put_batch`] does, and writes its rows again where the catalog has it already: so that
    /// rows come back that the cluster has lost.
    ///
    /// # Errors
    /// As for [`Catalog::put_batch`].
    pub fn put_batch_again(&self, batch: &BatchRecord) -> Result<(), CatalogError> {
        self.wait(self.side.put_batch(batch, true))
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("there until it is dropped").block_on(future)
    }
}

impl Drop for CqlCatalog {
    fn drop(&mut self) {
        // The last owner may be a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Catalog for CqlCatalog {
    fn put_batch(&self, batch: &BatchRecord) -> Result<(), CatalogError> {
        self.wait(self.side.put_batch(batch, false))
    }

    fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError> {
        self.wait(self.side.put_anchor(anchor))
    }

    fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        self.wait(self.side.origins())
    }

    fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        self.wait(self.side.log_size(origin))
    }

    fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        self.wait(self.side.batch(origin, number))
    }

    fn log_hash(&self, origin: &str, level: u8, index: u64) -> Result<Option<[u8; 32]>, CatalogError> {
        self.wait(self.side.log_hash(origin, level, index))
    }

    fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        self.wait(self.side.anchors_of(origin, number))
    }

    fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        self.wait(self.side.find(tenant, source, id))
    }

    fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        self.wait(self.side.list(tenant, day, after, limit))
    }
}
