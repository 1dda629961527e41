//! The embedded side of the ports: a durable log and a catalog in one folder, for one process at a time.
//!
//! For trying Killick, for developing, and for small sites at the edge. What is acknowledged survives `kill -9` at any
//! instant, and a power cut as far as the disk keeps what it said it has written.
//!
//! ```text
//! FOLDER/lock              held by the one process that has the folder open
//! FOLDER/log/N.seg         the log: an append-only journal of transactions, in segments
//! FOLDER/catalog.redb      the catalog: written from the log, and readable without it
//! ```

pub mod catalog;
#[cfg(test)]
mod faults;
pub mod folder;
pub mod log;
mod store;

pub use catalog::{CatalogAt, EmbeddedCatalog};
pub use folder::{Folder, FolderError};
pub use log::{Cleanup, EmbeddedLog, Held, HeldSegment, LogFiles, Settings, TopicSpec, Worker, look};
