//! `killick receipts export`: receipts of all events, a file each.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use killick_proof::receipt::{BatchProof, Parts};
use killick_proof::statement::Statement;

use super::*;

/// What an export did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Receipts in the folder, each of another leaf.
    pub receipts: u64,
    /// Batches that were looked at.
    pub batches: u64,
    /// Events whose batch is not anchored yet.
    pub waiting: u64,
    /// Receipts of an event that has another one too: a broken promise.
    pub doubled: u64,
}

impl Exported {
    pub(super) fn summary(&self, out: &Path) -> String {
        let Self { receipts, batches, waiting, .. } = self;
        let out = out.display();
        format!("{receipts} receipts of {batches} batches in {out}; {waiting} events wait for an anchor")
    }

    /// # Errors
    /// A promise is broken.
    pub(super) fn check(&self) -> Result<()> {
        if self.doubled > 0 {
            bail!("{} events are proven more than once: look for *-2.*", self.doubled);
        }
        Ok(())
    }
}

/// Writes a JSON receipt of every anchored event into a folder; `progress` hears of every batch.
///
/// Goes leaf by leaf over the batches of all logs and not by the index of events: so each leaf has its own file, also
/// one that should not be there.
///
/// # Errors
/// The catalog is damaged, or the folder cannot be written.
pub fn export_all(
    catalog: &dyn Catalog,
    out: &Path,
    progress: &mut dyn FnMut(&Exported),
) -> Result<Exported> {
    export_from(catalog, &catalog.origins()?, out, Form::Json, None, progress)
}

pub(super) fn export(
    catalog: &dyn Catalog,
    out: &Path,
    form: Form,
    tenant: Option<&str>,
) -> Result<Exported> {
    let origins = catalog.origins()?;
    let bar = progress(catalog, &origins)?;
    let outcome =
        export_from(catalog, &origins, out, form, tenant, &mut |exported| bar.set_position(exported.batches));
    bar.finish_and_clear();
    outcome
}

/// A bar over all batches, for who watches.
pub(super) fn progress(catalog: &dyn Catalog, origins: &[Box<str>]) -> Result<ProgressBar> {
    let mut batches = 0;
    for origin in origins {
        batches += catalog.log_size(origin)?;
    }
    let bar = ProgressBar::new(batches);
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} batches, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    Ok(bar)
}

fn export_from(
    catalog: &dyn Catalog,
    origins: &[Box<str>],
    out: &Path,
    form: Form,
    tenant: Option<&str>,
    progress: &mut dyn FnMut(&Exported),
) -> Result<Exported> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut deriver = Deriver::new(catalog);
    let mut exported = Exported::default();
    for origin in origins {
        for number in 0..catalog.log_size(origin)? {
            let batch = catalog.batch(origin, number)?;
            let batch = batch.with_context(|| format!("the catalog has no batch {number} of {origin}"))?;
            for (index, statement) in (0..).zip(&batch.statements) {
                let statement = Statement::decode(statement)
                    .with_context(|| format!("leaf {index} of batch {number} of {origin}"))?;
                let event = statement.event;
                if tenant.is_some_and(|tenant| tenant != event.tenant) {
                    continue;
                }
                let place = Place { origin: origin.clone(), number, index };
                let Some(receipt) = deriver.receipt_of(&place)? else {
                    exported.waiting += 1;
                    continue;
                };
                let name = event_name(event.tenant, event.source, event.id);
                let copy = write_file(out, &name, form, &receipt)?;
                exported.receipts += 1;
                exported.doubled += u64::from(copy > 1);
            }
            exported.batches += 1;
            progress(&exported);
        }
    }
    Ok(exported)
}

/// Writes a receipt under the first of NAME, NAME-2, NAME-3 … that is free or holds a receipt of the same leaf; returns
/// which one it was.
pub(super) fn write_file(out: &Path, name: &str, form: Form, receipt: &Receipt) -> Result<u32> {
    for copy in 1.. {
        let suffix = if copy == 1 { String::new() } else { format!("-{copy}") };
        let path = out.join(format!("{name}{suffix}.{}", form.ending()));
        match fs::read(&path) {
            Ok(old) if !is_same_leaf(&old, receipt) => continue,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        replace(&path, &form.write(receipt)?)?;
        return Ok(copy);
    }
    bail!("{name} has more receipts than can be counted")
}

/// Writes a file anew: never half a receipt under a receipt's name.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| path.display().to_string())
}

/// Whether a file is an earlier receipt of the same leaf; its anchors may have become more since.
fn is_same_leaf(old: &[u8], receipt: &Receipt) -> bool {
    Parts::parse(old).is_ok_and(|old| {
        let is_same_place =
            |old: BatchProof| old.header == receipt.batch.header && old.index == receipt.batch.index;
        old.statement.is_ok_and(|old| old == receipt.statement) && old.batch.is_ok_and(is_same_place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../schemas/vectors/receipts/good/block-of-mainnet.json");
        Receipt::parse(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_second_proof_of_an_event_stands_beside_the_first_and_an_export_again_adds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = receipt();
        let mut second = first.clone();
        second.batch.index += 1;
        for _ in 0..2 {
            for form in [Form::Json, Form::Cbor, Form::TlogProof] {
                assert_eq!(write_file(folder.path(), "name", form, &first).unwrap(), 1);
                assert_eq!(write_file(folder.path(), "name", form, &second).unwrap(), 2);
            }
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let expected =
            ["name-2.cbor", "name-2.json", "name-2.tlog-proof", "name.cbor", "name.json", "name.tlog-proof"];
        assert_eq!(names, expected);
        let read = |name: &str| Receipt::parse(&fs::read(folder.path().join(name)).unwrap()).unwrap();
        assert_eq!((read("name.json"), read("name-2.cbor")), (first, second));
    }
}
