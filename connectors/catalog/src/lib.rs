//! The catalog on ScyllaDB or Apache Cassandra.
mod catalog;
mod error;
mod given;
mod link;
mod migrate;
mod put;
mod read;
mod schema;
mod settings;
mod side;
mod statements;
mod tiles;
mod tls;

pub use catalog::CqlCatalog;
pub use error::Error;
pub use migrate::Migrated;
pub use schema::{Difference, Role};
pub use settings::{Class, Security, Settings, SettingsError};
