//! COSE Receipts of batches, for `killick receipts get` and `export`: signed here, by the keys of the logs.

use std::collections::BTreeMap;

use killick_proof::cose::{self, CoseError};
use killick_proof::note::SignerKey;
use killick_proof::origin::Origin;
use killick_proof::statement::Statement;

use super::*;
use crate::config::needed;
use crate::secrets;
use crate::stores::Stores;

/// The keys of the logs that receipts are asked of; each is read when it is needed first.
pub(super) struct Keys {
    folder: PathBuf,
    read: BTreeMap<String, SignerKey>,
}

impl Keys {
    /// The keys of a folder, or those of the configuration.
    ///
    /// # Errors
    /// The configuration does not say where they are.
    pub(super) fn of(stores: &Stores) -> Result<Self> {
        let folder = match stores {
            Stores::Folder(folder) => folder.path().join("keys"),
            Stores::Servers(config) => {
                let why = "folder: where are the keys of the logs? They sign COSE receipts";
                needed(config.keys.folder.as_ref(), "keys", why)?.clone()
            }
        };
        Ok(Self { folder, read: BTreeMap::new() })
    }

    /// The key of a log.
    fn key(&mut self, origin: &str) -> Result<&SignerKey> {
        if !self.read.contains_key(origin) {
            let number = Origin::parse(origin)?.log();
            let path = self.folder.join(format!("log-{number}.key"));
            let text = secrets::read(&path).with_context(|| {
                format!("COSE receipts of {origin} are signed by its key, which has to be at hand")
            })?;
            let key = secrets::parse_log_key(&text, &path, origin)?;
            self.read.insert(origin.to_owned(), key);
        }
        self.read.get(origin).with_context(|| format!("no key of {origin}"))
    }

    /// The COSE Receipt of the batch that a receipt is of.
    fn sign(&mut self, receipt: &Receipt) -> Result<Result<Vec<u8>, CoseError>> {
        let header = BatchHeader::decode(&receipt.batch.header)?;
        let key = self.key(header.origin.as_str())?;
        Ok(cose::receipt(&receipt.batch.header, &receipt.log, key))
    }
}

/// Writes the COSE Receipts of the batches of an event: one, unless a promise was broken.
pub(super) fn get(receipts: &[Receipt], keys: &mut Keys, out: Option<&Path>) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    for receipt in receipts {
        bytes.extend(keys.sign(receipt)?.context("no COSE receipt")?);
    }
    write_out(&bytes, false, out)
}

/// What an export did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Exported {
    receipts: u64,
    /// Batches that were looked at.
    batches: u64,
    /// Batches that are not anchored yet.
    waiting: u64,
    /// Batches that are the only one in their checkpoint.
    alone: u64,
}

impl Exported {
    pub(super) fn summary(&self, out: &Path) -> String {
        let Self { receipts, batches, waiting, alone } = self;
        let out = out.display();
        let alone = match alone {
            0 => String::new(),
            alone => format!(", and {alone} can have none: each is the only one in its checkpoint"),
        };
        format!(
            "{receipts} COSE receipts of {batches} batches in {out}; {waiting} batches wait for an anchor{alone}"
        )
    }
}

/// Writes a receipt and the header of each batch that is anchored and holds events of the tenant.
pub(super) fn export(
    catalog: &dyn Catalog,
    keys: &mut Keys,
    out: &Path,
    tenant: Option<&str>,
) -> Result<Exported> {
    let origins = catalog.origins()?;
    let bar = export::progress(catalog, &origins)?;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut deriver = Deriver::new(catalog);
    let mut exported = Exported::default();
    for origin in &origins {
        for number in 0..catalog.log_size(origin)? {
            bar.inc(1);
            if !holds_any_of(catalog, origin, number, tenant)? {
                continue;
            }
            exported.batches += 1;
            let place = Place { origin: origin.clone(), number, index: 0 };
            let Some(receipt) = deriver.receipt_of(&place)? else {
                exported.waiting += 1;
                continue;
            };
            match keys.sign(&receipt)? {
                Ok(signed) => {
                    let name = format!("{}-{number}", origin.replace('/', "_"));
                    export::replace(&out.join(format!("{name}.header")), &receipt.batch.header)?;
                    export::replace(&out.join(format!("{name}.cose")), &signed)?;
                    exported.receipts += 1;
                }
                Err(CoseError::OnlyLeaf) => exported.alone += 1,
                Err(error) => return Err(error).with_context(|| format!("batch {number} of {origin}")),
            }
        }
    }
    bar.finish_and_clear();
    Ok(exported)
}

/// Whether a batch holds events of the tenant.
fn holds_any_of(catalog: &dyn Catalog, origin: &str, number: u64, tenant: Option<&str>) -> Result<bool> {
    let Some(tenant) = tenant else { return Ok(true) };
    let batch = catalog.batch(origin, number)?;
    let batch = batch.with_context(|| format!("the catalog has no batch {number} of {origin}"))?;
    for statement in &batch.statements {
        let statement =
            Statement::decode(statement).with_context(|| format!("batch {number} of {origin}"))?;
        if statement.event.tenant == tenant {
            return Ok(true);
        }
    }
    Ok(false)
}
