//! Rows of comma-separated values (RFC 4180), each with its exact bytes.

use std::io;

use super::lines::{Line, MAX_LINE, without_end};
use super::{
    Bad, Given, InputArgs, Item, Numbered, OpenError, Parts, TIME_NAMES, time, time_of, too_long,
    warn_timeless,
};

/// Lines in the longest row: a quote that nobody closed ends here, and costs no more than these.
const MAX_LINES: usize = 256;

/// The rows below the header.
pub struct Rows {
    lines: Numbered,
    given: Given,
    header: Vec<String>,
    columns: Columns,
    /// Rows read, whatever became of them: so that a bad one moves no ids.
    rows: u64,
}

/// Where the parts of an event are.
struct Columns {
    time: Time,
    source: Option<usize>,
    id: Option<usize>,
    kind: Option<usize>,
}

enum Time {
    /// Nobody named it: the first good row tells.
    Wanted,
    At(usize),
    Nowhere,
}

/// A row as it stands.
struct Row {
    line: u64,
    /// Without its end.
    bytes: Vec<u8>,
    fields: Result<Vec<Vec<u8>>, String>,
}

impl Rows {
    /// Reads the header and finds the columns that were named.
    pub fn open(mut lines: Numbered, given: Given, args: &InputArgs) -> Result<Self, OpenError> {
        let header = next_row(&mut lines).map_err(|cause| OpenError::Io { name: String::new(), cause })?;
        let header = match header.map(|row| row.fields).transpose() {
            Ok(header) => header.unwrap_or_default(),
            Err(why) => return Err(OpenError::Usage(format!("the header row cannot be read: {why}"))),
        };
        let header: Vec<String> =
            header.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect();
        let find = |option: &str, name: &Option<String>| {
            name.as_ref().map(|name| column(&header, option, name)).transpose()
        };
        let columns = Columns {
            time: find("--time-column", &args.time_column)?.map_or(Time::Wanted, Time::At),
            source: find("--source-column", &args.source_column)?,
            id: find("--id-column", &args.id_column)?,
            kind: find("--type-column", &args.type_column)?,
        };
        Ok(Self { lines, given, header, columns, rows: 0 })
    }

    /// The next row as an event.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        let Some(row) = next_row(&mut self.lines)? else { return Ok(None) };
        self.rows += 1;
        let (line, payload) = (row.line, row.bytes.into());
        Ok(Some(match row.fields.and_then(|fields| self.parts(&fields)) {
            Ok(parts) => self.given.event(line, self.rows, parts, payload),
            Err(reason) => Item::Bad(Bad { line, reason, bytes: payload }),
        }))
    }

    fn parts(&mut self, fields: &[Vec<u8>]) -> Result<Parts, String> {
        if fields.len() != self.header.len() {
            return Err(format!("{} fields; the header has {}", fields.len(), self.header.len()));
        }
        let text = |part: &str, at: usize| {
            String::from_utf8(fields[at].clone()).map_err(|_| format!("{part}: not UTF-8"))
        };
        let time = match self.columns.time {
            Time::At(at) => Some(at),
            Time::Nowhere => None,
            Time::Wanted => {
                let found = find_time(&self.header, fields);
                if found.is_none() {
                    warn_timeless(&self.given.source);
                }
                self.columns.time = found.map_or(Time::Nowhere, Time::At);
                found
            }
        };
        Ok(Parts {
            source: self.columns.source.map(|at| text("source", at)).transpose()?,
            id: self.columns.id.map(|at| text("id", at)).transpose()?,
            time: time.map(|at| time_of(&text("time", at)?)).transpose()?,
            kind: self.columns.kind.map(|at| text("type", at)).transpose()?,
        })
    }
}

fn column(header: &[String], option: &str, name: &str) -> Result<usize, OpenError> {
    let mut found = (0..header.len()).filter(|at| header[*at] == name);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(OpenError::Usage(format!("{option}: two columns are called `{name}`"))),
        (None, _) => {
            let columns = header.join(", ");
            Err(OpenError::Usage(format!(
                "{option}: there is no column `{name}`; the columns are: {columns}"
            )))
        }
    }
}

/// The column that is called like a time and holds one, or else the first that holds a date.
fn find_time(header: &[String], fields: &[Vec<u8>]) -> Option<usize> {
    let value = |at: usize| std::str::from_utf8(&fields[at]).unwrap_or_default();
    let named = TIME_NAMES.iter().find_map(|name| {
        (0..header.len())
            .find(|at| header[*at].eq_ignore_ascii_case(name) && time::parse(value(*at)).is_some())
    });
    named.or_else(|| (0..header.len()).find(|at| time::dated(value(*at)).is_some()))
}

/// The next row that is not empty. A row that is broken is its first line, and the next line begins another one: so a
/// stray quote spoils its own line only.
fn next_row(lines: &mut Numbered) -> io::Result<Option<Row>> {
    loop {
        let Some((number, first)) = lines.next_line()? else { return Ok(None) };
        let first = match first {
            Line::Whole(first) => first,
            Line::TooLong(start, length) => {
                let Bad { line, reason, bytes } = too_long(number, start, length);
                return Ok(Some(Row { line, bytes: bytes.into(), fields: Err(reason) }));
            }
        };
        if first.trim_ascii().is_empty() {
            continue;
        }
        let broken = |first: &[u8], why: &str| Row {
            line: number,
            bytes: without_end(first).to_vec(),
            fields: Err(why.to_owned()),
        };
        let mut parser = Parser::default();
        let mut row = first.clone();
        let mut ahead = Vec::new();
        let mut taken = parser.take(&first);
        while taken == Ok(Taken::Open) {
            let enough = ahead.len() + 1 == MAX_LINES || row.len() >= MAX_LINE;
            let next = if enough { None } else { lines.next_line()?.map(|(_, line)| line) };
            taken = match &next {
                Some(Line::Whole(line)) if row.len() + line.len() <= MAX_LINE => {
                    row.extend_from_slice(line);
                    parser.take(line)
                }
                _ => Err("a quote that is not closed"),
            };
            ahead.extend(next);
        }
        return Ok(Some(match taken {
            Ok(_) => {
                row.truncate(without_end(&row).len());
                Row { line: number, bytes: row, fields: Ok(parser.fields) }
            }
            Err(why) => {
                lines.give_back(ahead);
                broken(&first, why)
            }
        }));
    }
}

/// Divides a row into fields, line by line.
#[derive(Default)]
struct Parser {
    fields: Vec<Vec<u8>>,
    field: Vec<u8>,
    at: At,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or half of a doubled quote.
    Quote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The row ends with this line.
    Done,
    /// A quoted field goes on.
    Open,
}

impl Parser {
    fn take(&mut self, line: &[u8]) -> Result<Taken, &'static str> {
        let content = without_end(line);
        for byte in content {
            self.at = match (self.at, *byte) {
                (At::Start, b'"') => At::Quoted,
                (At::Quoted, b'"') => At::Quote,
                (At::Start | At::Plain | At::Quote, b',') => {
                    self.fields.push(std::mem::take(&mut self.field));
                    At::Start
                }
                (At::Quote, b'"') | (At::Quoted, _) => {
                    self.field.push(*byte);
                    At::Quoted
                }
                (At::Quote, _) => return Err("text behind a closing quote"),
                (At::Start | At::Plain, _) => {
                    self.field.push(*byte);
                    At::Plain
                }
            };
        }
        if self.at == At::Quoted {
            self.field.extend_from_slice(&line[content.len()..]);
            return Ok(Taken::Open);
        }
        self.fields.push(std::mem::take(&mut self.field));
        Ok(Taken::Done)
    }
}
