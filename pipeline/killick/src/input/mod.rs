//! Events from a file or a pipe, one by one: CSV, NDJSON, or CloudEvents that are signed already.
//!
//! Memory is bounded by the longest line. A line that is no event is an item as well, with its reason: it never stops
//! the rest. What an event is called and claims follows from the file alone, so that a file read again gives the same.

mod csv;
mod lines;
pub mod machine;
mod ndjson;
pub mod time;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use killick_proof::statement::{self, StatementError};
use killick_proof::{Algorithm, Hash};
use killick_stages::record::{Micros, Output, Partition, Record};
use killick_stages::rejected::{self, Code};

use lines::{Line, Lines, without_end};

/// The type of events that name none.
pub const DEFAULT_TYPE: &str = "record";

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values (RFC 4180) below a header row; the payload is the row
    Csv,
    /// One JSON value a line; the payload is the line
    Ndjson,
    /// One structured CloudEvent a line, signed already
    Cloudevents,
}

/// Where an input's events have their parts.
#[derive(Debug, Clone, Default, Args)]
pub struct InputArgs {
    /// How the input is written. Default: by the ending of the file's name (.csv; .ndjson, .jsonl, .json).
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// The column (CSV), or the member or JSON pointer (NDJSON), that holds an event's time: RFC 3339, `YYYY-MM-DD
    /// HH:MM:SS` in UTC, or a number since 1970. Default: found by its name or content; else 1970-01-01 is claimed.
    #[arg(long, visible_alias = "time-pointer", value_name = "NAME")]
    pub time_column: Option<String>,

    /// The same for the device. Default: all events have the source that --source says.
    #[arg(long, visible_alias = "source-pointer", value_name = "NAME")]
    pub source_column: Option<String>,

    /// The same for the id that tells the events of a source apart. Default: the number of the row, from 1.
    #[arg(long, visible_alias = "id-pointer", value_name = "NAME")]
    pub id_column: Option<String>,

    /// The same for the type. Default: all events have the type that --type says.
    #[arg(long, visible_alias = "type-pointer", value_name = "NAME")]
    pub type_column: Option<String>,

    /// The device of all events. Default: the file's name.
    #[arg(long, value_name = "TEXT", conflicts_with = "source_column")]
    pub source: Option<String>,

    /// The type of all events. Default: record.
    #[arg(long, value_name = "TEXT", conflicts_with = "type_column")]
    pub r#type: Option<String>,
}

/// An event of an input, within the bounds of a statement; its tenant is whoever's reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The line where it begins, from 1; 0 if it stands in no file.
    pub line: u64,
    /// The device or producer.
    pub source: String,
    /// What tells it from others of its source.
    pub id: String,
    /// The time it claims.
    pub time: Micros,
    /// The type.
    pub kind: String,
    /// The payload: the exact bytes of the row or line, without its end.
    pub payload: Bytes,
}

impl Event {
    /// What its device would sign.
    pub fn statement<'a>(&'a self, tenant: &'a str) -> statement::Event<'a> {
        self.claims(tenant, Algorithm::Sha256.digest(&self.payload))
    }

    /// Whether each part keeps the bounds of a statement. Whoever's event it will be, the tenant is no matter of the
    /// file; and no payload has a digest that breaks a rule, so none is taken.
    fn check(&self) -> Result<(), StatementError> {
        self.claims("any", Hash::new([0; Hash::LEN])).check()
    }

    fn claims<'a>(&'a self, tenant: &'a str, digest: Hash) -> statement::Event<'a> {
        let Self { source, id, time, kind, .. } = self;
        statement::Event { tenant, source, id, time: *time, kind, digest }
    }
}

/// A line or row that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The line where it begins, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Its bytes without their end; only the first of a line beyond the bound.
    pub bytes: Bytes,
}

impl Bad {
    /// The record of `rejected` that keeps it: as if it had stood at that offset of a topic named after the input.
    pub fn rejected(&self, input: &str, partition: u32) -> Output {
        let record = Record {
            partition: Partition::new(input, 0),
            offset: self.line,
            append_time: 0,
            key: Bytes::new(),
            value: self.bytes.clone(),
            headers: Vec::new(),
        };
        rejected::record(&record, "input", Code::Malformed, &self.reason, partition)
    }
}

/// What an input gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event to be signed.
    Event(Event),
    /// A structured CloudEvent, as it stands: nothing is checked of it.
    CloudEvent {
        /// The line, from 1.
        line: u64,
        /// Its bytes.
        value: Bytes,
    },
    /// No event.
    Bad(Bad),
}

/// Why an input cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options do not fit the input.
    #[error("{0}")]
    Usage(String),
    /// It cannot be read.
    #[error("cannot read {name}: {cause}")]
    Io {
        /// The file.
        name: String,
        /// What happened.
        cause: io::Error,
    },
}

/// An open input.
pub struct Input {
    name: String,
    reader: Reader,
    failed: bool,
}

enum Reader {
    Csv(csv::Rows),
    Ndjson(ndjson::Values),
    CloudEvents(Numbered),
}

/// What any input is read from.
type Source = Box<dyn Read + Send>;

impl Input {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, args: &InputArgs) -> Result<Self, OpenError> {
        if path == Path::new("-") {
            let format =
                args.format.ok_or_else(|| OpenError::Usage("standard input needs --format".to_owned()))?;
            return Self::read(Box::new(io::stdin()), "stdin", format, args);
        }
        let format = args.format.or_else(|| format_of(path)).ok_or_else(|| {
            OpenError::Usage(format!("the name of {} says no format; give --format", path.display()))
        })?;
        let io = |cause| OpenError::Io { name: path.display().to_string(), cause };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::read(Box::new(file), &name, format, args)
    }

    /// Reads events of this format from anywhere; `name` is what the source is called if nothing else says.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read(source: Source, name: &str, format: Format, args: &InputArgs) -> Result<Self, OpenError> {
        let lines = Numbered::new(source);
        let given = Given {
            source: args.source.clone().unwrap_or_else(|| name.to_owned()),
            kind: args.r#type.clone().unwrap_or_else(|| DEFAULT_TYPE.to_owned()),
        };
        let reader = match format {
            Format::Csv => {
                let rows = csv::Rows::open(lines, given, args);
                Reader::Csv(rows.map_err(|error| match error {
                    OpenError::Io { cause, .. } => OpenError::Io { name: name.to_owned(), cause },
                    usage @ OpenError::Usage(_) => usage,
                })?)
            }
            Format::Ndjson => Reader::Ndjson(ndjson::Values::new(lines, given, args)),
            Format::Cloudevents => match args.names_a_part() {
                Some(option) => {
                    return Err(OpenError::Usage(format!("{option}: a CloudEvent names its parts itself")));
                }
                None => Reader::CloudEvents(lines),
            },
        };
        Ok(Self { name: name.to_owned(), reader, failed: false })
    }

    /// What the input is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl InputArgs {
    /// The first option given that says where a part of an event is.
    fn names_a_part(&self) -> Option<&'static str> {
        let options = [
            ("--time-column", &self.time_column),
            ("--source-column", &self.source_column),
            ("--id-column", &self.id_column),
            ("--type-column", &self.type_column),
            ("--source", &self.source),
            ("--type", &self.r#type),
        ];
        options.into_iter().find(|(_, value)| value.is_some()).map(|(option, _)| option)
    }
}

impl Iterator for Input {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = match &mut self.reader {
            Reader::Csv(rows) => rows.next_item(),
            Reader::Ndjson(values) => values.next_item(),
            Reader::CloudEvents(lines) => lines.next_filled().map(|next| {
                next.map(|line| match line.content {
                    Ok(bytes) => Item::CloudEvent { line: line.number, value: bytes.into() },
                    Err(bad) => Item::Bad(bad),
                })
            }),
        };
        self.failed = next.is_err();
        next.transpose()
    }
}

fn format_of(path: &Path) -> Option<Format> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "csv" => Some(Format::Csv),
        "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
        _ => None,
    }
}

/// What events have that name no part of their own.
struct Given {
    source: String,
    kind: String,
}

/// The parts that an event names itself.
#[derive(Default)]
struct Parts {
    source: Option<String>,
    id: Option<String>,
    time: Option<Micros>,
    kind: Option<String>,
}

impl Given {
    /// The event of these parts, if it keeps the bounds of a statement.
    fn event(&self, line: u64, row: u64, parts: Parts, payload: Bytes) -> Item {
        let event = Event {
            line,
            source: parts.source.unwrap_or_else(|| self.source.clone()),
            id: parts.id.unwrap_or_else(|| row.to_string()),
            time: parts.time.unwrap_or(0),
            kind: parts.kind.unwrap_or_else(|| self.kind.clone()),
            payload,
        };
        match event.check() {
            Ok(()) => Item::Event(event),
            Err(error) => Item::Bad(Bad { line, reason: error.to_string(), bytes: event.payload }),
        }
    }
}

/// Lines with their numbers.
struct Numbered {
    lines: Lines<Source>,
    /// Lines that were looked at and given back, first come first.
    back: std::collections::VecDeque<Line>,
    number: u64,
}

/// A line that is not empty, without its end.
struct Filled {
    number: u64,
    content: Result<Vec<u8>, Bad>,
}

impl Numbered {
    fn new(source: Source) -> Self {
        Self { lines: Lines::new(source), back: std::collections::VecDeque::new(), number: 0 }
    }

    fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        let line = match self.back.pop_front() {
            Some(line) => Some(line),
            None => self.lines.next_line()?,
        };
        Ok(line.map(|line| {
            self.number += 1;
            (self.number, line)
        }))
    }

    /// Gives back the lines read last.
    fn give_back(&mut self, lines: Vec<Line>) {
        self.number -= lines.len() as u64;
        for line in lines.into_iter().rev() {
            self.back.push_front(line);
        }
    }

    fn next_filled(&mut self) -> io::Result<Option<Filled>> {
        while let Some((number, line)) = self.next_line()? {
            let content = match line {
                Line::TooLong(start, length) => Err(too_long(number, start, length)),
                Line::Whole(mut line) => {
                    line.truncate(without_end(&line).len());
                    if line.trim_ascii().is_empty() {
                        continue;
                    }
                    Ok(line)
                }
            };
            return Ok(Some(Filled { number, content }));
        }
        Ok(None)
    }
}

fn too_long(line: u64, start: Vec<u8>, length: u64) -> Bad {
    let reason = format!("a line of {length} bytes; at most {} are read", lines::MAX_LINE);
    Bad { line, reason, bytes: start.into() }
}

/// A part that has to be a time.
fn time_of(text: &str) -> Result<Micros, String> {
    time::parse(text).ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        format!("time: {text:?} is none that is understood")
    })
}

/// Names by which a time is known that nobody has named, the likeliest first.
const TIME_NAMES: [&str; 10] = [
    "time",
    "timestamp",
    "@timestamp",
    "ts",
    "datetime",
    "date_time",
    "event_time",
    "eventtime",
    "date",
    "created_at",
];

/// Says once that an input has no time.
fn warn_timeless(input: &str) {
    tracing::warn!(input, "no time is found: events claim 1970-01-01; name one with --time-column");
}

#[cfg(test)]
mod tests;
