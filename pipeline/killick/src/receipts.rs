//! `killick receipts`: what the catalog proves, as files that verify without it.

use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use killick_proof::batch::BatchHeader;
use killick_proof::receipt::Receipt;
use killick_stages::derive::Deriver;
use killick_stages::ports::{Catalog, Place};
use sha2::{Digest as _, Sha256};

use crate::cli::{Failure, Outcome};
use crate::stores::From;

mod cose;
mod derive;
mod export;
mod list;

pub use export::{Exported, export_all};

/// Gets, lists and exports receipts.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick receipts export --embedded site/ --out receipts/")]
pub struct ReceiptsArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints the receipt of one event, or the COSE Receipt of its batch.
    ///
    /// Exit status 1 if there is none: the event is not known, or not anchored yet.
    #[command(
        after_help = "Examples: killick receipts get --embedded site/ plant press-1 reading-17 > receipt.json
          killick receipts get --embedded site/ plant press-1 reading-17 --as tlog-proof > reading-17.tlog-proof"
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
        #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = AnyForm::Event(Form::Json))]
        form: AnyForm,
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
    /// Writes a receipt file of each event that is anchored; or of each batch, as cose.
    ///
    /// The files are named by a hash of tenant, source and id; a second proof of one event, which is a broken promise,
    /// stands beside the first as NAME-2. Exporting again adds what is new.
    ///
    /// As cose there are two files of each batch, ORIGIN-NUMBER.cose and .header, with _ for / in the origin: the receipt,
    /// and the batch header, which is the entry that it is about. The log's key signs them, which has to be at hand; it
    /// signs no root but that of a checkpoint which it has signed before. A batch that is the only one in its checkpoint has
    /// none, for such a receipt has a path of at least one hash.
    #[command(after_help = "Examples: killick receipts export --embedded site/ --out receipts/
          killick receipts export --embedded site/ --as tlog-proof --out proofs/
          killick receipts export -c killick.toml --as cose --out batches/")]
    Export {
        #[command(flatten)]
        from: From,
        /// The folder for the files; made if it is not there.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How receipts are written.
        #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = AnyForm::Event(Form::Json))]
        form: AnyForm,
        /// Only events of this tenant, or batches that hold some.
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
    /// Without anchors, as a C2SP tlog-proof: proves the event's batch in its log to any program that knows that form
    TlogProof,
}

/// How receipts of events, or of batches, are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnyForm {
    /// A receipt of each event.
    Event(Form),
    /// A COSE Receipt of each batch.
    Cose,
}

impl ValueEnum for AnyForm {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Event(Form::Json), Self::Event(Form::Cbor), Self::Event(Form::TlogProof), Self::Cose]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Event(form) => form.to_possible_value(),
            Self::Cose => {
                let help = "A COSE Receipt (RFC 9942) of each batch, signed by the log's key, which has to be at hand";
                Some(PossibleValue::new("cose").help(help))
            }
        }
    }
}

impl Form {
    const fn ending(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::TlogProof => "tlog-proof",
        }
    }

    /// # Errors
    /// The receipt's log is none that this form is for.
    fn write(self, receipt: &Receipt) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Json => receipt.to_json().into_bytes(),
            Self::Cbor => receipt.to_cbor(),
            Self::TlogProof => {
                let origin = BatchHeader::decode(&receipt.batch.header)?.origin;
                let proof = receipt.to_tlog_proof().with_context(|| {
                    format!("{origin} has no tlog-proofs: C2SP has no other hash than sha256")
                })?;
                proof.into_bytes()
            }
        })
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
            let stores = from.find()?;
            let receipts = get(&*stores.catalog()?, tenant, source, id)?;
            match *form {
                AnyForm::Event(form) => write_receipts(&receipts, form, out.as_deref())?,
                AnyForm::Cose => cose::get(&receipts, &mut cose::Keys::of(&stores)?, out.as_deref())?,
            }
        }
        Action::Derive(args) => derive::derive(args)?,
        Action::List(args) => list::list(args)?,
        Action::Export { from, out, form, tenant } => {
            let stores = from.find()?;
            let catalog = stores.catalog()?;
            let mut said = io::stderr();
            match *form {
                AnyForm::Event(form) => {
                    let exported = export::export(&*catalog, out, form, tenant.as_deref())?;
                    writeln!(said, "{}", exported.summary(out))?;
                    exported.check()?;
                }
                AnyForm::Cose => {
                    let mut keys = cose::Keys::of(&stores)?;
                    let exported = cose::export(&*catalog, &mut keys, out, tenant.as_deref())?;
                    writeln!(said, "{}", exported.summary(out))?;
                }
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
    let mut bytes = Vec::new();
    for receipt in receipts {
        print(receipt, form, &mut bytes)?;
    }
    write_out(&bytes, form != Form::Cbor, out)
}

/// Writes to a file, or to standard output, which may be a terminal only where it is text.
fn write_out(bytes: &[u8], is_text: bool, out: Option<&Path>) -> Result<(), Failure> {
    check_terminal(is_text, out)?;
    match out {
        Some(path) => fs::write(path, bytes).with_context(|| path.display().to_string())?,
        None => io::stdout().write_all(bytes)?,
    }
    Ok(())
}

fn check_terminal(is_text: bool, out: Option<&Path>) -> Result<(), Failure> {
    if !is_text && out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::Usage("CBOR is not for terminals: give --out".to_owned()));
    }
    Ok(())
}

/// Writes a receipt that others may follow.
fn print(receipt: &Receipt, form: Form, out: &mut impl Write) -> Result<()> {
    out.write_all(&form.write(receipt)?)?;
    if form == Form::Json {
        out.write_all(b"\n")?;
    }
    Ok(())
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
}
