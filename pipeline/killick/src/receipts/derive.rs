//! `killick receipts derive`: receipts from a message of the topic `proofs`, with nothing else.

use std::io::{BufWriter, Read};

use bytes::Bytes;
use killick_proof::report::Level;
use killick_proof::statement::Statement;
use killick_proof::verify::Verifier;
use killick_stages::derive::Receipts;
use killick_stages::ready::{MAX_MESSAGE, ProofReady};

use super::export::write_file;
use super::*;

#[derive(Debug, Args)]
pub(super) struct DeriveArgs {
    /// The value of one message, byte for byte; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder for the files; made if it is not there. Default: standard output, one receipt after another.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How receipts are written.
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Json)]
    form: Form,
}

/// Writes the receipts of all events of the message's batch; none if anything in it is wrong.
pub(super) fn derive(args: &DeriveArgs) -> Result<(), Failure> {
    let form = args.form;
    check_terminal(form != Form::Cbor, args.out.as_deref())?;
    if form == Form::TlogProof && args.out.is_none() {
        let why = "tlog-proofs cannot follow one another: give --out";
        return Err(Failure::Usage(why.to_owned()));
    }
    let ready = ProofReady::decode(&read(&args.file)?).context("this is no message of `proofs`")?;
    let receipts = receipts_of(&ready).context("the message is wrong")?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let mut printed = BufWriter::new(io::stdout().lock());
    for receipt in (0..receipts.count()).filter_map(|index| receipts.get(index)) {
        match &args.out {
            None => print(&receipt, form, &mut printed)?,
            Some(out) => {
                let event = Statement::decode(&receipt.statement)?.event;
                write_file(out, &event_name(event.tenant, event.source, event.id), form, &receipt)?;
            }
        }
    }
    printed.flush()?;
    let place = args.out.as_ref().map(|out| format!(" in {}", out.display())).unwrap_or_default();
    let (count, number, origin) = (receipts.count(), ready.number, &ready.origin);
    writeln!(io::stderr(), "{count} receipts of batch {number} of {origin}{place}")?;
    Ok(())
}

/// Reads the message, and not more than the largest has.
fn read(path: &Path) -> Result<Bytes> {
    let about = || path.display().to_string();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(fs::File::open(path).with_context(about)?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes).with_context(about)?;
    Ok(bytes.into())
}

/// The receipts that the message holds, each looked at as far as that can be done without trusting anyone.
fn receipts_of(ready: &ProofReady) -> Result<Receipts> {
    let receipts = Receipts::of(ready).map_err(anyhow::Error::msg)?;
    let mut verifier = Verifier::default();
    for index in 0..receipts.count() {
        let receipt = receipts.get(index).with_context(|| format!("event {index} is missing"))?;
        let report = verifier.verify_parts(&receipt.into(), None);
        if let Some(wrong) = report.wrong() {
            bail!("event {index}: {wrong}");
        }
        if report.level < Level::Batched {
            bail!("event {index} cannot be found in its batch");
        }
    }
    Ok(receipts)
}
