//! `killick verify`: checks receipts offline, each by itself and all against each other.
//!
//! Reads receipts one after the other and keeps only hashes of them, so that any number fits in little memory.

pub mod files;
mod json;
mod text;
pub mod time;

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use killick_proof::fault::{Fault, Missing, Wrong};
use killick_proof::headers::{Headers, MAX_HEADERS_FILE};
use killick_proof::report::{Level, Report, Verdict};
use killick_proof::together::Together;
use killick_proof::trust::{MAX_TRUST, Trust};
use killick_proof::verify::Verifier;

use crate::cli::Failure;
use files::{Payload, Payloads};
pub use text::shown as shown_line;

/// Receipts from which on a progress bar is worth its line.
const MANY: usize = 200;

/// Verifies receipts offline, with nothing but the files.
///
/// Exit status: 0 every receipt reaches the level, 2 usage, 3 a receipt is wrong,
/// 4 cannot decide (something is missing), 1 any other failure.
///
/// Examples: killick verify receipts/ --payload payloads/ --trust trust.json
///           killick verify receipts/ --trust trust.json --headers archive.bin
///           killick verify event.tlog-proof --trust trust.json --level logged
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct VerifyArgs {
    /// Receipts, JSON or CBOR, or tlog-proofs, which get as far as `logged`; of a folder every *.json, *.cbor and
    /// *.tlog-proof file in it. `-` is standard input.
    #[arg(required = true, value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,

    /// The payload of the one receipt; or a folder of payloads that are named as the receipts are, without
    /// their endings.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,

    /// What to believe: networks with trusted blocks, keys of logs and devices. Without it nothing is trusted, and
    /// no receipt gets beyond `batched`.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,

    /// Headers that link the receipts' blocks to those of the trust file: binary ones one after the other, a JSON list of
    /// base64url, or a node's page as it is. They make nothing trusted by themselves. Can be repeated.
    #[arg(long, value_name = "FILE", requires = "trust")]
    headers: Vec<PathBuf>,

    /// The level that has to be reached. Only `trusted` says something about time.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Wanted::Trusted)]
    level: Wanted,

    /// Text for people, or one JSON object for each receipt and line.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Levels that can be wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// The statement is well formed, its signature right under its own key
    Stated,
    /// ... and it is in a batch
    Batched,
    /// ... and the batch is in a log whose key is trusted
    Logged,
    /// ... and the log's checkpoint is in a block
    Anchored,
    /// ... and the block is trusted: the event existed by then
    Trusted,
}

impl Wanted {
    const fn level(self) -> Level {
        match self {
            Self::Stated => Level::Stated,
            Self::Batched => Level::Batched,
            Self::Logged => Level::Logged,
            Self::Anchored => Level::Anchored,
            Self::Trusted => Level::Trusted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// How one receipt, or all of them, ended; the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Reached,
    Short,
    Failed,
    Wrong,
}

impl Status {
    const fn code(self) -> u8 {
        match self {
            Self::Reached => 0,
            Self::Failed => 1,
            Self::Wrong => 3,
            Self::Short => 4,
        }
    }
}

/// Why nothing was verified at all.
pub enum Refusal {
    /// The call makes no sense: exit status 2.
    Usage(String),
    /// Something could not be read or written: exit status 1.
    Failure(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Usage(why) => Self::Usage(why),
            Refusal::Failure(error) => Self::Failed(error),
        }
    }
}

/// What is said about one receipt.
struct Line<'f> {
    file: &'f str,
    report: &'f Report,
    /// Why the file could not be read, if so.
    unread: Option<&'f str>,
    /// Why a payload could not be compared, though payloads were given.
    no_payload: Option<&'f str>,
    status: Status,
}

/// Runs the command; says on standard output what each receipt proves.
pub fn run(args: &VerifyArgs) -> ExitCode {
    match verify(args) {
        Ok(status) => ExitCode::from(status.code()),
        Err(Refusal::Usage(why)) => {
            eprintln!("error: {}", text::shown(&why));
            ExitCode::from(2)
        }
        // Whoever reads our output has seen enough.
        Err(Refusal::Failure(error)) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(Refusal::Failure(error)) => {
            eprintln!("error: {}", text::shown(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn verify(args: &VerifyArgs) -> Result<Status, Refusal> {
    let trust = read_trust(args)?;
    let receipts = files::expand(&args.receipts)?;
    let payloads = Payloads::open(args.payload.as_deref(), receipts.len())?;
    let names: Vec<String> = receipts.iter().map(|path| path.display().to_string()).collect();

    let mut verifier = Verifier::new(trust);
    let mut together = Together::new();
    let mut summary = text::Summary::new(args.level.level(), names.len());
    let bar = progress(names.len());
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, (path, name)) in receipts.iter().zip(&names).enumerate() {
        let payload = payloads.of(path);
        let (report, unread) = match files::read_receipt(path) {
            Ok(receipt) => (verifier.verify(&receipt, payload.digest()), None),
            Err(error) => (Report::default(), Some(error.to_string())),
        };
        let report = hold_together(report, number, &names, &mut together);
        let no_payload = match &payload {
            Payload::Absent(why) => Some(why.as_str()),
            Payload::NotGiven | Payload::Digest(_) => None,
        };
        let status = status(&report, unread.is_some(), no_payload.is_some(), args.level.level());
        let line = Line { file: name, report: &report, unread: unread.as_deref(), no_payload, status };
        summary.count(&line);
        bar.inc(1);
        let written = match args.output {
            Output::Json => json::write(&mut out, &line),
            Output::Text if summary.is_worth_saying(&line) => text::write(&mut out, &line, names.len()),
            Output::Text => Ok(()),
        };
        written?;
        if bar.is_hidden() || number % 64 == 0 {
            bar.suspend(|| out.flush())?;
        }
    }
    bar.finish_and_clear();
    if args.output == Output::Text {
        summary.write(&mut out)?;
    }
    out.flush()?;
    Ok(summary.worst())
}

fn read_trust(args: &VerifyArgs) -> Result<Trust, Refusal> {
    let Some(path) = &args.trust else {
        eprintln!("note: without --trust nothing is trusted, and no receipt gets beyond `batched`");
        return Ok(Trust::default());
    };
    let shown = path.display();
    let file = files::read_bounded(path, MAX_TRUST).with_context(|| format!("cannot read {shown}"))?;
    let headers = read_headers(&args.headers)?;
    let trust = Trust::parse_with(&file, &headers)
        .map_err(|error| Refusal::Usage(format!("trust file {shown}: {error}")))?;
    for member in trust.ignored() {
        let warning = format!("warning: trust file {shown}: nobody knows the member {member}; it is ignored");
        eprintln!("{}", text::shown(&warning));
    }
    Ok(trust)
}

fn read_headers(paths: &[PathBuf]) -> Result<Headers, Refusal> {
    let mut headers = Headers::new();
    for path in paths {
        let shown = path.display();
        let file =
            files::read_bounded(path, MAX_HEADERS_FILE).with_context(|| format!("cannot read {shown}"))?;
        headers.add(&file).map_err(|error| Refusal::Usage(format!("headers {shown}: {error}")))?;
    }
    Ok(headers)
}

/// Holds a receipt against the earlier ones; a conflict makes it wrong and names both files.
fn hold_together(mut report: Report, number: usize, names: &[String], together: &mut Together) -> Report {
    let Some(held) = &report.held else { return report };
    if let Err(conflict) = together.hold(number, held) {
        let why = format!("{} and {}: {}", names[conflict.earlier], names[number], conflict.about);
        report.fault = Some(Fault::Wrong(Wrong { field: conflict.field.to_owned(), why }));
    }
    report
}

fn status(report: &Report, is_unread: bool, lacks_payload: bool, wanted: Level) -> Status {
    match report.verdict(wanted) {
        _ if is_unread => Status::Failed,
        Verdict::Wrong => Status::Wrong,
        Verdict::Short => Status::Short,
        Verdict::Reached if lacks_payload => Status::Short,
        Verdict::Reached => Status::Reached,
    }
}

/// A bar on standard error where many receipts are verified for somebody who watches.
fn progress(receipts: usize) -> ProgressBar {
    if receipts < MANY || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} receipts, {eta} left");
    ProgressBar::new(receipts as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What keeps a receipt from being all that was asked for, where nothing is wrong.
fn missing(line: &Line<'_>) -> Option<String> {
    let missing = line.report.missing().map(Missing::to_string);
    missing.or_else(|| line.no_payload.map(|why| format!("payload: {why}")))
}
