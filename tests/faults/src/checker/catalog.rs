//! The catalog says what the proofs say.

use std::path::Path;

use anyhow::{Context as _, Result};
use killick_stages::derive::{Deriver, tree_of};
use killick_stages::ports::{Catalog, Place};

use super::{Findings, Proven, event_number};
use crate::events::Events;
use crate::ledger::{Ledger, Outcome};

/// How much is looked at one by one.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Receipts that are derived from the catalog and written as files.
    pub receipts: u64,
    /// Events that are looked up by their names.
    pub names: u64,
}

/// Holds each batch of the catalog against the batches that have proofs, looks some events up, and writes some receipts
/// into a folder, one file each.
///
/// # Errors
/// The catalog cannot be read.
pub fn check_catalog(
    catalog: &dyn Catalog,
    (ledger, events): (&Ledger, &Events),
    proven: &Proven,
    sample: Sample,
    folder: &Path,
    findings: &mut Findings,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut known = 0;
    for origin in catalog.origins()? {
        let size = catalog.log_size(&origin)?;
        for number in 0..size {
            known += 1;
            let Some(batch) = catalog.batch(&origin, number)? else {
                findings
                    .wrong
                    .add(None, format!("the catalog has {size} batches of {origin}, and not {number}"));
                continue;
            };
            if let Err(why) = tree_of(&batch) {
                findings.wrong.add(None, format!("the catalog's batch {number} of {origin}: {why}"));
            }
            match proven.get(&(origin.clone(), number)) {
                Some(header) if *header == batch.header => {}
                Some(_) => {
                    findings.wrong.add(None, format!("the catalog has another batch {number} of {origin}"));
                }
                None => findings.lost.add(
                    batch.statements.first().and_then(|statement| event_number(statement)),
                    format!("batch {number} of {origin} is in the catalog, and not in the proofs"),
                ),
            }
        }
    }
    if known < proven.len() as u64 {
        let why = format!("the catalog has {known} of {} batches that have proofs", proven.len());
        findings.wrong.add(None, why);
    }
    look_up(catalog, ledger, events, sample.names, findings)?;
    write_some(catalog, proven, sample.receipts, folder, findings)
}

/// Each name is in one place.
fn look_up(
    catalog: &dyn Catalog,
    ledger: &Ledger,
    events: &Events,
    count: u64,
    findings: &mut Findings,
) -> Result<()> {
    let step = (ledger.plan.events / count.max(1)).max(1);
    let is_wanted = |number: &u64| number.is_multiple_of(step) && events.mix.fate(*number).is_ok();
    for number in ledger.all(Outcome::Accepted).filter(is_wanted) {
        let name = events.mix.name(number);
        let places = catalog.find(name.tenant, &name.source, &name.id)?.len();
        if places != 1 {
            findings.wrong.add(Some(number), format!("the catalog has it in {places} places"));
        }
    }
    Ok(())
}

/// Receipts as the catalog makes them, evenly from all batches.
fn write_some(
    catalog: &dyn Catalog,
    proven: &Proven,
    count: u64,
    folder: &Path,
    findings: &mut Findings,
) -> Result<()> {
    let mut deriver = Deriver::new(catalog);
    let step = (proven.len() / usize::try_from(count)?.max(1)).max(1);
    for (origin, number) in proven.keys().step_by(step) {
        let place = Place { origin: origin.clone(), number: *number, index: 0 };
        match deriver.receipt_of(&place) {
            Ok(Some(receipt)) => {
                let name = format!("{}-{number}.json", origin.replace('/', "-"));
                std::fs::write(folder.join(name), receipt.to_json())?;
            }
            Ok(None) => {
                findings.wrong.add(None, format!("the catalog has no receipt in batch {number} of {origin}"))
            }
            Err(error) => findings.wrong.add(None, format!("batch {number} of {origin}: {error}")),
        }
    }
    Ok(())
}
