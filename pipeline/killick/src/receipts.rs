//! `killick receipts`: what the catalog proves, as files that verify without it.

use std::fs;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use killick_proof::batch::BatchHeader;
use killick_proof::receipt::Receipt;
use killick_proof::statement::Statement;
use killick_stages::derive::Deriver;
use killick_stages::ports::{Catalog, Place};
use sha2::{Digest as _, Sha256};

use crate::cli::{Failure, Outcome, Output, shown};
use crate::stores::From;

mod derive;
mod list;

/// Gets, lists and exports receipts.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick receipts export --embedded site/ --out receipts/")]
pub struct ReceiptsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints the receipt of one event.
    ///
    /// Exit status 1 if there is none: the event is not known, or not anchored yet.
    #[command(
        after_help = "Example: killick receipts get --embedded site/ plant press-1 reading-17 > receipt.json"
    )]
    Get {
        #[command(flatten)]
        from: From,
        /// Whose event it is.
        tenant: String,
        /// The device or producer.
        source: String,
        /// The event's id.
        id: String,
        /// How the receipt is written.
        #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Json)]
        form: Form,
        /// The file to write. Default: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Derives the receipts of a batch from its message in the topic `proofs`, offline and with nothing else.
    ///
    /// Exit status 1 if the file is no such message, or anything in it is wrong; then no receipt is written. What the
    /// receipts prove is for `killick verify` to say. The files are named as by `export`.
    #[command(
        after_help = "Example: kcat -C -b localhost -t killick.proofs -c 1 -q -f %s | killick receipts derive - \
                      --out receipts/"
    )]
    Derive(derive::DeriveArgs),
    /// Lists the events of the catalog in the order of their logs.
    #[command(after_help = "Example: killick receipts list --embedded site/ --tenant plant --day 2026-05-04")]
    List(list::ListArgs),
    /// Writes a receipt file of each event that is anchored.
    ///
    /// The files are named by a hash of tenant, source and id; a second proof of one event, which is a broken promise,
    /// stands beside the first as NAME-2. Exporting again adds what is new.
    #[command(after_help = "Example: killick receipts export --embedded site/ --out receipts/")]
    Export {
        #[command(flatten)]
        from: From,
        /// The folder for the files; made if it is not there.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How receipts are written.
        #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Json)]
        form: Form,
        /// Only events of this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// How a receipt is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// JSON
    Json,
    /// Its CBOR twin
    Cbor,
}

impl Form {
    const fn ending(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    fn write(self, receipt: &Receipt) -> Vec<u8> {
        match self {
            Self::Json => receipt.to_json().into_bytes(),
            Self::Cbor => receipt.to_cbor(),
        }
    }
}

/// The name of an event's files: 20 hex digits of a hash, since the texts themselves may hold what no path should.
pub fn event_name(tenant: &str, source: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    for name in [tenant, source, id] {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(20);
    digits
}

/// Does what `killick receipts` is asked to.
pub fn run(args: &ReceiptsArgs) -> Outcome {
    match &args.command {
        Action::Get { from, tenant, source, id, form, out } => {
            let receipts = get(&*from.find()?.catalog()?, tenant, source, id)?;
            write_receipts(&receipts, *form, out.as_deref())?;
        }
        Action::Derive(args) => derive::derive(args)?,
        Action::List(args) => list::list(args)?,
        Action::Export { from, out, form, tenant } => {
            let catalog = from.find()?.catalog()?;
            let exported = export(&*catalog, out, *form, tenant.as_deref())?;
            let mut said = io::stderr();
            writeln!(
                said,
                "{} receipts of {} batches in {}; {} events wait for an anchor",
                exported.receipts,
                exported.batches,
                out.display(),
                exported.waiting
            )?;
            if exported.doubled > 0 {
                let why = format!("{} events are proven more than once: look for *-2.*", exported.doubled);
                return Err(anyhow::anyhow!(why).into());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The receipts of an event: one, unless a promise was broken.
fn get(catalog: &dyn Catalog, tenant: &str, source: &str, id: &str) -> Result<Vec<Receipt>> {
    let places = catalog.find(tenant, source, id)?;
    if places.is_empty() {
        bail!("no event {source}, {id} of {tenant} is in the catalog");
    }
    if places.len() > 1 {
        tracing::error!(places = places.len(), "this event is proven more than once: a promise is broken");
    }
    let mut deriver = Deriver::new(catalog);
    let mut receipts = Vec::new();
    for place in &places {
        receipts.extend(deriver.receipt_of(place)?);
    }
    if receipts.is_empty() {
        let Place { origin, number, .. } = &places[0];
        bail!("the event is in batch {number} of {origin}, which is not anchored yet: try again later");
    }
    Ok(receipts)
}

fn write_receipts(receipts: &[Receipt], form: Form, out: Option<&Path>) -> Result<(), Failure> {
    check_terminal(form, out)?;
    let mut bytes = Vec::new();
    for receipt in receipts {
        print(receipt, form, &mut bytes)?;
    }
    match out {
        Some(path) => fs::write(path, bytes).with_context(|| path.display().to_string())?,
        None => io::stdout().write_all(&bytes)?,
    }
    Ok(())
}

/// Whether receipts of this form may go where they would.
fn check_terminal(form: Form, out: Option<&Path>) -> Result<(), Failure> {
    if form == Form::Cbor && out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage("CBOR is not for terminals: give --out".to_owned()));
    }
    Ok(())
}

/// Writes a receipt that others may follow.
fn print(receipt: &Receipt, form: Form, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&form.write(receipt))?;
    if form == Form::Json { out.write_all(b"\n") } else { Ok(()) }
}

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

fn export(catalog: &dyn Catalog, out: &Path, form: Form, tenant: Option<&str>) -> Result<Exported> {
    let origins = catalog.origins()?;
    let mut batches = 0;
    for origin in &origins {
        batches += catalog.log_size(origin)?;
    }
    let bar = ProgressBar::new(batches);
    if io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} batches, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    } else {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let outcome =
        export_from(catalog, &origins, out, form, tenant, &mut |exported| bar.set_position(exported.batches));
    bar.finish_and_clear();
    outcome
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
fn write_file(out: &Path, name: &str, form: Form, receipt: &Receipt) -> Result<u32> {
    for copy in 1.. {
        let suffix = if copy == 1 { String::new() } else { format!("-{copy}") };
        let path = out.join(format!("{name}{suffix}.{}", form.ending()));
        match fs::read(&path) {
            Ok(old) if !is_same_leaf(&old, receipt) => continue,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        // Never half a receipt under a receipt's name.
        let fresh = out.join(format!("{name}.{}.new", form.ending()));
        fs::write(&fresh, form.write(receipt))
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| path.display().to_string())?;
        return Ok(copy);
    }
    bail!("{name} has more receipts than can be counted")
}

/// Whether a file is an earlier receipt of the same leaf; its anchors may have become more since.
fn is_same_leaf(old: &[u8], receipt: &Receipt) -> bool {
    Receipt::parse(old).is_ok_and(|old| {
        let (a, b) = (&old.batch, &receipt.batch);
        old.statement == receipt.statement && a.header == b.header && a.index == b.index
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_event_is_no_part_of_it_and_tells_events_apart() {
        assert_eq!(event_name("plant", "press", "1"), "d6fee8708eb373ed88d4");
        let name = event_name("plant", "../../etc", "a/b\0\u{202e}");
        assert!(name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(event_name("a", "bc", "d"), event_name("ab", "c", "d"));
        assert_ne!(event_name("a", "b", "cd"), event_name("a", "bc", "d"));
    }

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
            for form in [Form::Json, Form::Cbor] {
                assert_eq!(write_file(folder.path(), "name", form, &first).unwrap(), 1);
                assert_eq!(write_file(folder.path(), "name", form, &second).unwrap(), 2);
            }
        }
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["name-2.cbor", "name-2.json", "name.cbor", "name.json"]);
        let read = |name: &str| Receipt::parse(&fs::read(folder.path().join(name)).unwrap()).unwrap();
        assert_eq!((read("name.json"), read("name-2.cbor")), (first, second));
    }
}
