//! Headers that come beside receipts: files of binary headers, or of JSON.
//!
//! They make nothing trusted; they only link blocks to those that the trust file names. So it does not matter who made
//! the file, but what is wrong in it is refused by name.

use chainweb::header::Header;
use chainweb::version::Version;

use crate::chain;
use crate::encoding::from_base64url;
use crate::json;
use crate::value::Value;

/// Bytes in the largest file of headers: 128 MiB.
pub const MAX_HEADERS_FILE: usize = 128 << 20;

/// Headers that are taken from all files together: 4.5 days of all 20 chains, or 3 months of one.
pub const MAX_HEADERS: usize = 1 << 18;

/// Bytes of a header before its count of adjacent parents, and without any.
const COUNT_AT: usize = 48;
const LEAST: usize = 210;

/// Members of a page of headers, with room for some that are not known.
const MOST_MEMBERS: usize = 16;

/// Headers of known networks, each checked by itself.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    headers: Vec<Header>,
}

/// A file of headers that cannot be used as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// Too many bytes.
    #[error("a file of headers has at most {MAX_HEADERS_FILE} bytes")]
    TooLarge,
    /// Too many headers.
    #[error("there are more than {MAX_HEADERS} headers")]
    TooMany,
    /// Neither form.
    #[error("is neither binary headers nor a JSON list of headers in base64url: {0}")]
    Form(String),
    /// A header that does not decode, has another hash than it says or breaks a rule of its network.
    #[error("header {at}: {why}")]
    Header {
        /// Its place in the file, from 0.
        at: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the headers of a file, in any order; returns how many there are in it.
    ///
    /// The file holds binary headers one after the other, or a JSON list of headers in base64url, or the JSON object of
    /// a node's page of headers, with the list as `items`.
    ///
    /// # Errors
    /// [`HeadersError`]; nothing of the file is added then.
    pub fn add(&mut self, file: &[u8]) -> Result<usize, HeadersError> {
        if file.len() > MAX_HEADERS_FILE {
            return Err(HeadersError::TooLarge);
        }
        let room = MAX_HEADERS - self.headers.len();
        // A binary header can begin with any byte; a JSON text is UTF-8, which the hashes in a header are not.
        let is_json =
            file.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"[{".contains(byte))
                && std::str::from_utf8(file).is_ok();
        let headers = if is_json { from_json(file, room)? } else { from_binary(file, room)? };
        let count = headers.len();
        self.headers.extend(headers);
        Ok(count)
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The headers of one network.
    pub(crate) fn of<'h>(&'h self, version: &'h Version) -> impl Iterator<Item = &'h Header> {
        self.headers.iter().filter(|header| header.version == version.code)
    }
}

fn from_json(file: &[u8], room: usize) -> Result<Vec<Header>, HeadersError> {
    // Values are parted by commas, and base64url has none: so a text of many small values is not read at all.
    if file.iter().filter(|byte| **byte == b',').count() > room + MOST_MEMBERS {
        return Err(HeadersError::TooMany);
    }
    let value = json::parse(file).map_err(|error| HeadersError::Form(error.to_string()))?;
    let items = match &value {
        Value::Object(_) => value.get("items"),
        list => Some(list),
    };
    let Some(Value::Array(items)) = items else {
        return Err(HeadersError::Form("it has no list".to_owned()));
    };
    if items.len() > room {
        return Err(HeadersError::TooMany);
    }
    let read = |(at, item): (usize, &Value<'_>)| {
        let wrong = |why: String| HeadersError::Header { at, why };
        let Value::Text(text) = item else { return Err(wrong(format!("is {}, not a text", item.kind()))) };
        let bytes = from_base64url(text).map_err(|error| wrong(error.to_string()))?;
        chain::sound_header(&bytes).map_err(wrong)
    };
    items.iter().enumerate().map(read).collect()
}

fn from_binary(mut file: &[u8], room: usize) -> Result<Vec<Header>, HeadersError> {
    let mut headers = Vec::new();
    while !file.is_empty() {
        let at = headers.len();
        if at == room {
            return Err(HeadersError::TooMany);
        }
        let wrong = |why: String| HeadersError::Header { at, why };
        let count = match file.get(COUNT_AT..COUNT_AT + 2) {
            Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
            _ => return Err(wrong(format!("ends after {} bytes", file.len()))),
        };
        let length = LEAST + 36 * count;
        let Some((header, rest)) = file.split_at_checked(length) else {
            return Err(wrong(format!("has {} bytes where {length} are due", file.len())));
        };
        headers.push(chain::sound_header(header).map_err(wrong)?);
        file = rest;
    }
    Ok(headers)
}
