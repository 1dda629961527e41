//! `killick rejected`: what was not let through, and why.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use killick_stages::record::Record;
use killick_stages::rejected::{PREFIX, VALUE_SIZE};
use killick_stages::route::REJECTED;
use serde_json::json;

use crate::cli::{Outcome, Output, shown};
use crate::stores;
use crate::verify::time::Time;

/// Bytes of a rejected event that are shown.
const SHOWN: usize = 96;
/// Bytes of records read at a time.
const TOGETHER: usize = 4 << 20;

/// Lists the events that were rejected, each with its reason.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick rejected --embedded site/")]
pub struct RejectedArgs {
    #[command(flatten)]
    from: stores::From,

    /// Text for people, or one JSON object for each event and line.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Does what `killick rejected` is asked to.
pub fn run(args: &RejectedArgs) -> Outcome {
    let mut log = args.from.find()?.log()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0_u64;
    for partition in log.partitions(REJECTED)? {
        let (mut next, end) = log.range(&partition)?;
        while next < end {
            let records = log.read(&partition, next, TOGETHER)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in records.iter().filter(|record| !record.is_tick()) {
                count += 1;
                write(&mut out, args.output, record)?;
            }
        }
    }
    out.flush()?;
    writeln!(io::stderr(), "{count} rejected")?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut dyn Write, output: Output, record: &Record) -> io::Result<()> {
    let header = |name: &str| record.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let about = |name: &str| header(&format!("{PREFIX}{name}"));
    let said = |name: &str| about(name).unwrap_or_default();
    let number = |name: &str| about(name).and_then(|text| text.parse::<u64>().ok());
    let size = header(VALUE_SIZE).and_then(|size| size.parse().ok()).unwrap_or(record.value.len() as u64);
    let start = record.value[..record.value.len().min(SHOWN)].escape_ascii().to_string();
    match output {
        Output::Json => {
            let object = json!({
                "code": said("exception.class.name"),
                "reason": said("exception.message"),
                "stage": said("stage"),
                "topic": said("topic"),
                "partition": number("partition"),
                "offset": number("offset"),
                "logged": Time(record.append_time),
                "bytes": size,
                "start": start,
            });
            writeln!(out, "{object}")
        }
        Output::Text => {
            let place = format!("{}/{}/{}", said("topic"), said("partition"), said("offset"));
            let (code, why) = (said("exception.class.name"), said("exception.message"));
            writeln!(out, "{:<16}  {}: {}", shown(&code), shown(&place), shown(&why))?;
            let more = if size > SHOWN as u64 { "…" } else { "" };
            writeln!(out, "{:<16}  {size} bytes: {start}{more}", "")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use killick_stages::record::Partition;

    use super::*;
    use crate::input::Bad;

    fn record(bytes: &'static [u8]) -> Record {
        let bad = Bad { line: 7, reason: "not JSON\u{1b}[2J".into(), bytes: Bytes::from_static(bytes) };
        let output = bad.rejected("file.ndjson", 2);
        Record {
            partition: Partition::new(REJECTED, 2),
            offset: 0,
            append_time: 0,
            key: output.key,
            value: output.value,
            headers: output.headers,
        }
    }

    #[test]
    fn a_rejected_line_is_shown_without_what_a_terminal_obeys() {
        let mut out = Vec::new();
        write(&mut out, Output::Text, &record(b"{\x1b[2J\xff")).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("malformed         file.ndjson/0/7: not JSON\\u{1b}[2J\n"), "{text:?}");
        assert!(text.contains(r"6 bytes: {\x1b[2J\xff"), "{text:?}");
    }

    #[test]
    fn a_rejected_line_is_an_object_for_programs() {
        let mut out = Vec::new();
        write(&mut out, Output::Json, &record(&[b'x'; 500])).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&object["code"], &object["offset"], &object["bytes"]),
            (&json!("malformed"), &json!(7), &json!(500))
        );
        assert_eq!(object["start"].as_str().map(str::len), Some(SHOWN));
    }
}
