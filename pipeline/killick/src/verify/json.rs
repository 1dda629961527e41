//! What a verification found, as one JSON object a line.

use std::io::{self, Write};

use serde::Serialize;

use super::time::Time;
use super::{Line, missing};

#[derive(Serialize)]
struct Object<'l> {
    file: &'l str,
    level: &'static str,
    device: Option<String>,
    payload: Option<&'static str>,
    time: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Block<'l>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error<'l>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logged: Option<[Time; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Time>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Block<'l> {
    network: &'l str,
    chain: u32,
    height: u64,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    work_above: Option<u64>,
}

#[derive(Serialize)]
struct Error<'l> {
    field: &'l str,
    why: &'l str,
}

/// Writes the object of one receipt.
pub(super) fn write(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let report = line.report;
    let error = match (line.unread, report.wrong()) {
        (Some(why), _) => Some(Error { field: "file", why }),
        (None, wrong) => wrong.map(|wrong| Error {
            field: if wrong.field.is_empty() { "receipt" } else { &wrong.field },
            why: &wrong.why,
        }),
    };
    let object = Object {
        file: line.file,
        level: report.level.name(),
        device: report.device.map(|device| device.to_string()),
        payload: report.payload_matches.then_some("matches"),
        time: Times {
            claimed: report.claimed.map(Time),
            logged: report.logged.map(|(first, last)| [Time(first), Time(last)]),
            not_after: report.not_after.map(Time),
        },
        block: report.block.as_ref().map(|block| Block {
            network: &block.network,
            chain: block.chain,
            height: block.height,
            hash: block.hash.to_string(),
            work_above: report.work_above,
        }),
        missing: if error.is_none() { missing(line) } else { None },
        error,
    };
    let text = serde_json::to_string(&object)?;
    writeln!(out, "{}", escape_controls(&text))
}

/// Escapes what JSON lets stand but a terminal could obey: DEL and the C1 control characters.
fn escape_controls(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_that_json_allows_are_escaped_and_read_back() {
        let text = serde_json::to_string("a\u{1b}[2J\u{7f}\u{9b}ä").unwrap();
        let escaped = escape_controls(&text);
        assert!(!escaped.chars().any(char::is_control));
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), "a\u{1b}[2J\u{7f}\u{9b}ä");
    }
}
