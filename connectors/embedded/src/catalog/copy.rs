//! The catalog as it was at one instant, written to another file.

use std::path::Path;

use killick_stages::ports::CatalogError;
use redb::{Durability, ReadTransaction, ReadableTable as _};

use super::{Disk, EmbeddedCatalog, TABLES, failed};

/// Bytes that are written before they are committed: they are in memory.
const TOGETHER: usize = 16 << 20;

/// The catalog as it was at one instant. What is put later takes disk beside it while it lives.
pub struct CatalogAt(pub(super) ReadTransaction);

impl CatalogAt {
    /// Writes all of it to a file that is not there yet; durable when it returns.
    ///
    /// # Errors
    /// [`CatalogError`], also if `stop` says so; then the file is of no use.
    pub fn write_to(&self, path: &Path, mut stop: impl FnMut() -> bool) -> Result<(), CatalogError> {
        if path.exists() {
            return Err(CatalogError::Failed(format!("{} is there already", path.display()).into()));
        }
        let store = EmbeddedCatalog::store(path, Disk::default())?;
        for definition in TABLES {
            let from = self.0.open_table(definition).map_err(failed)?;
            let mut rows = from.iter().map_err(failed)?;
            let mut is_left = true;
            while is_left {
                if stop() {
                    return Err(CatalogError::Failed("nobody waits for the copy any more".into()));
                }
                is_left = store.with(|database| {
                    let mut write = database.begin_write().map_err(failed)?;
                    // The last commit makes all of them durable.
                    write.set_durability(Durability::None).map_err(failed)?;
                    let mut to = write.open_table(definition).map_err(failed)?;
                    let mut bytes = 0;
                    while bytes < TOGETHER {
                        let Some(row) = rows.next() else { break };
                        let (key, value) = row.map_err(failed)?;
                        to.insert(key.value(), value.value()).map_err(failed)?;
                        bytes += key.value().len() + value.value().len();
                    }
                    drop(to);
                    write.commit().map_err(failed)?;
                    Ok(bytes >= TOGETHER)
                })?;
            }
        }
        store.with(|database| {
            let mut write = database.begin_write().map_err(failed)?;
            write.set_durability(Durability::Immediate).map_err(failed)?;
            write.set_quick_repair(true);
            write.commit().map_err(failed)
        })
    }
}
