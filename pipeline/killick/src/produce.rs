//! `killick produce`: signs the events of a file, for whoever takes CloudEvents.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use killick_proof::encoding::base64url;
use killick_proof::signature::{PublicKey, SIGNATURE_LEN};
use killick_proof::statement;
use killick_stages::cloudevents::{KEY, SIGNATURE, TENANT};
use serde_json::{Map, Value};

use crate::cli::{Failure, Outcome};
use crate::input::{Event, Format, Input, InputArgs, Item};
use crate::keys::DeviceKey;
use crate::verify::time::Time;

/// Signs the events of a file with a device's key; writes them as CloudEvents, one a line.
///
/// A line that is no event is reported and left out. Exit status: 0 every event is signed, 1 some are not.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: killick produce --key press-1.key --input readings.csv | killick run --embedded site/ --input - --format cloudevents --freshness off -c killick.toml"
)]
pub struct ProduceArgs {
    /// The device's key (`killick keys new device`).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Whose events they are. Default: the tenant that the key was made for.
    #[arg(long)]
    tenant: Option<String>,

    /// The events, CSV or NDJSON; - is standard input. Without --source or --source-column their device is the key's.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,

    #[command(flatten)]
    form: InputArgs,

    /// Where signed events go; - is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Does what `killick produce` is asked to.
pub fn run(args: &ProduceArgs) -> Outcome {
    let key = DeviceKey::load(&args.key)?;
    let tenant = args.tenant.as_deref().unwrap_or(key.tenant());
    let mut form = args.form.clone();
    if form.format == Some(Format::Cloudevents) {
        return Err(Failure::Usage("--format cloudevents: these are signed already".to_owned()));
    }
    if form.source.is_none() && form.source_column.is_none() {
        form.source = Some(key.source().to_owned());
    }
    let input = Input::open(&args.input, &form)?;
    let mut out = BufWriter::new(open(&args.output)?);
    let (mut signed, mut refused) = (0_u64, 0_u64);
    for item in input {
        let (line, outcome) = match item.context("the input cannot be read")? {
            Item::Event(event) => {
                (event.line, cloud_event(&key, tenant, &event).map_err(|error| error.to_string()))
            }
            Item::Bad(bad) => (bad.line, Err(bad.reason)),
            Item::CloudEvent { line, .. } => (line, Err("it is signed already".to_owned())),
        };
        match outcome {
            Ok(event) => {
                signed += 1;
                out.write_all(&event)?;
            }
            Err(why) => {
                refused += 1;
                tracing::warn!(line, why, "left out");
            }
        }
    }
    out.flush()?;
    let ignored = writeln!(io::stderr(), "{signed} events signed, {refused} lines left out");
    drop(ignored);
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout().lock()));
    }
    Ok(Box::new(File::create(path).with_context(|| format!("{}", path.display()))?))
}

/// The structured CloudEvent of an event, signed, as a line.
///
/// The payload's bytes are what is signed: `data_base64` carries them whatever they are.
///
/// # Errors
/// The event breaks a rule of statements.
fn cloud_event(key: &DeviceKey, tenant: &str, event: &Event) -> anyhow::Result<Vec<u8>> {
    let statement = event.statement(tenant);
    let signature = key.sign(&statement)?;
    line(&statement, &event.payload, &key.public(), &signature)
}

/// The structured CloudEvent of an event that is signed, as a line.
///
/// # Errors
/// It cannot be written in JSON.
pub fn line(
    event: &statement::Event<'_>,
    payload: &[u8],
    key: &PublicKey,
    signature: &[u8; SIGNATURE_LEN],
) -> anyhow::Result<Vec<u8>> {
    let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, payload);
    let attributes: [(&str, Cow<'_, str>); 9] = [
        ("specversion", "1.0".into()),
        ("id", event.id.into()),
        ("source", event.source.into()),
        ("type", event.kind.into()),
        ("time", Time(event.time).to_string().into()),
        (TENANT, event.tenant.into()),
        (KEY, base64url(key.as_bytes()).into()),
        (SIGNATURE, base64url(signature).into()),
        ("data_base64", payload.into()),
    ];
    let object: Map<String, Value> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned().into())).collect();
    let mut line = serde_json::to_vec(&object)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use killick_stages::record::{Header, Partition, Record};

    use super::*;

    #[test]
    fn a_signed_event_is_what_ingest_reads() {
        let key = DeviceKey::generate("plant", "press").unwrap();
        let event = Event {
            line: 1,
            source: "press".into(),
            id: "7".into(),
            time: 1_386_018_900_000_001,
            kind: "record".into(),
            payload: Bytes::from_static(b"\xff\"\x00"),
        };
        let mut value = cloud_event(&key, "plant", &event).unwrap();
        assert_eq!(value.pop(), Some(b'\n'));
        assert!(!value.contains(&b'\n'));
        let record = Record {
            partition: Partition::new("events", 0),
            offset: 0,
            append_time: 0,
            key: Bytes::new(),
            value: value.into(),
            headers: vec![Header {
                name: "content-type".into(),
                value: Bytes::from_static(b"application/cloudevents+json"),
            }],
        };
        let envelope = killick_stages::cloudevents::read(&record).unwrap();
        assert_eq!((&*envelope.payload, envelope.time), (&*event.payload, event.time));
        assert_eq!((&*envelope.id, envelope.tenant.as_deref()), ("7", Some("plant")));
        assert_eq!(envelope.key, Some(*key.public().as_bytes()));
        assert_eq!(envelope.signature, Some(key.sign(&event.statement("plant")).unwrap()));
        assert!(cloud_event(&key, "Plant", &event).is_err());
    }
}
