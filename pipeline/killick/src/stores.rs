//! Where commands find the log and the catalog: in a folder, or on servers.

mod keys;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use killick_catalog::CqlCatalog;
use killick_embedded::{EmbeddedCatalog, EmbeddedLog, Folder};
use killick_kafka::KafkaReader;
use killick_stages::ports::{Catalog, Reader};

use crate::config::{Config, ConfigArgs, needed};
pub use keys::{own_trust, read_trust};

/// The log and the catalog that a command reads.
#[derive(Debug, Args)]
pub struct From {
    /// The folder of the embedded side; no other process may have it open. Without it the servers of the configuration are
    /// asked: [kafka] and [catalog].
    #[arg(long, value_name = "DIR", env = "KILLICK_EMBEDDED")]
    pub embedded: Option<PathBuf>,

    #[command(flatten)]
    pub config: ConfigArgs,
}

impl From {
    /// Finds them; nothing is connected yet but what has to be.
    ///
    /// # Errors
    /// The folder is not there or in use, or the configuration cannot work.
    pub fn find(&self) -> Result<Stores> {
        if let Some(folder) = &self.embedded {
            return Ok(Stores::Folder(Arc::new(Folder::open_existing(folder)?)));
        }
        Ok(Stores::Servers(Box::new(Config::load(&self.config)?)))
    }
}

/// Where the log and the catalog are.
pub enum Stores {
    /// In a folder.
    Folder(Arc<Folder>),
    /// On servers.
    Servers(Box<Config>),
}

impl Stores {
    /// The log.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn log(&self) -> Result<Box<dyn Reader>> {
        match self {
            // Whatever topics the folder has: none is asked for.
            Self::Folder(folder) => {
                Ok(Box::new(EmbeddedLog::open(folder, &[], killick_embedded::Settings::default())?))
            }
            Self::Servers(config) => log_of(config),
        }
    }

    /// The catalog.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn catalog(&self) -> Result<Arc<dyn Catalog>> {
        match self {
            Self::Folder(folder) => Ok(Arc::new(EmbeddedCatalog::open(folder)?)),
            Self::Servers(config) => catalog_of(config),
        }
    }
}

/// The log of a deployment on servers.
///
/// # Errors
/// The configuration does not say where it is.
pub fn log_of(config: &Config) -> Result<Box<dyn Reader>> {
    let settings = needed(config.kafka.as_ref(), "kafka", "where is the log? (or give --embedded DIR)")?;
    Ok(Box::new(KafkaReader::open(settings, "killick")?))
}

/// The catalog of a deployment on servers.
///
/// # Errors
/// The configuration does not say where it is, or it does not take us.
pub fn catalog_of(config: &Config) -> Result<Arc<dyn Catalog>> {
    let settings =
        needed(config.catalog.as_ref(), "catalog", "where is the catalog? (or give --embedded DIR)")?;
    let catalog = CqlCatalog::new(settings)?;
    catalog.open()?;
    Ok(Arc::new(catalog))
}
