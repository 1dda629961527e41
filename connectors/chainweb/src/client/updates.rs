//! The stream of new blocks that a node pushes.

use std::time::Duration;

use reqwest::Response;
use serde::Deserialize;

use super::error::excerpt;
use super::node::Node;
use super::wire::Opened;
use super::{NodeError, Trouble};
use crate::header::{Header, HeaderObject};
use crate::json::parse_strict;

/// Bytes in the longest event: a header of fifty chains has 1.2 KB.
const MAX_EVENT: usize = 1 << 16;

/// What is asked for, in errors.
const WHAT: &str = "header/updates";

/// A block that entered a node's cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its header.
    pub header: Header,
    /// Transactions in it.
    pub transactions: u64,
}

/// Blocks as they enter a node's cut.
///
/// A block of another branch comes at a height that was there before; nothing says that a block left. What entered while
/// nobody listened does not come again.
pub struct Updates {
    node: Box<str>,
    network: Box<str>,
    code: u32,
    response: Response,
    silence: Duration,
    events: Events,
}

impl Node {
    /// Lets the node push new blocks; `None` where it runs without the stream, as it does by default. `silence` is how
    /// long nothing may come before the node counts as gone; all chains together have a block every few seconds.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn updates(&self, silence: Duration) -> Result<Option<Updates>, NodeError> {
        let code = match self.code {
            Some(code) => code,
            None => self.learn_code().await?,
        };
        match self.open(WHAT, self.of_network(WHAT), silence).await? {
            Opened::Stream(response) => Ok(Some(Updates {
                node: self.address().into(),
                network: self.network.clone(),
                code,
                response,
                silence,
                events: Events::default(),
            })),
            Opened::Reply(reply) => match self.unexpected(WHAT, &reply).await {
                NodeError { trouble: Trouble::Status { status: 404, .. }, .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The code that the headers of a network carry which is not a public one, from a header of the node.
    async fn learn_code(&self) -> Result<u32, NodeError> {
        let cut = self.cut().await?;
        let Some((chain, block)) = cut.hashes.first_key_value() else {
            return Err(self.nonsense("cut", "it has no chains"));
        };
        let header = self.header(*chain, &block.hash).await?;
        let header = header.ok_or_else(|| self.nonsense("header", "a block of its cut is not there"))?;
        Ok(header.version)
    }
}

impl Updates {
    /// The next block, its hashes checked. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// [`NodeError`], also when the node ends the stream or nothing comes for too long. Then it is of no more use: ask
    /// for another one, and for what came between.
    pub async fn next(&mut self) -> Result<Update, NodeError> {
        loop {
            while let Some(event) = self.events.next().map_err(|trouble| self.error(trouble))? {
                if event.name == "BlockHeader" {
                    return self.read(&event.data).map_err(|trouble| self.error(trouble));
                }
            }
            let chunk = tokio::time::timeout(self.silence, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| self.error(Trouble::Timeout(self.silence)))?;
            match chunk {
                Ok(Some(bytes)) => self.events.push(&bytes),
                Ok(None) => return Err(self.error(Trouble::Broken("the node ended the stream".to_owned()))),
                Err(error) => return Err(self.error(Trouble::Broken(super::wire::cause(&error)))),
            }
        }
    }

    fn error(&self, trouble: Trouble) -> NodeError {
        NodeError { node: self.node.clone(), what: WHAT, trouble }
    }

    fn read(&self, data: &[u8]) -> Result<Update, Trouble> {
        let malformed = |error: &dyn std::fmt::Display| Trouble::Malformed(error.to_string());
        let event = parse_strict(data).map_err(|error| malformed(&error))?;
        let event: WireUpdate = serde_json::from_value(event).map_err(|error| malformed(&error))?;
        if *event.header.chainweb_version != *self.network {
            let found = excerpt(event.header.chainweb_version.as_bytes());
            return Err(Trouble::Network { wanted: self.network.to_string(), found });
        }
        let header = event.header.to_header(self.code).map_err(|error| malformed(&error))?;
        let is_other = |what: &str| malformed(&format_args!("block {} has another {what}", header.hash));
        if !header.verify_hash() {
            return Err(is_other("hash"));
        }
        // Both are numbers, written with the highest digit first.
        let reversed = |mut bytes: [u8; 32]| {
            bytes.reverse();
            hex::encode(bytes)
        };
        if event.pow_hash != reversed(header.pow_hash().0) {
            return Err(is_other("hash of its proof of work"));
        }
        if event.target != reversed(header.target.to_le_bytes()) {
            return Err(is_other("target"));
        }
        Ok(Update { header, transactions: event.tx_count })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUpdate {
    header: HeaderObject,
    pow_hash: String,
    target: String,
    tx_count: u64,
}

/// Cuts bytes into server-sent events, as the HTML standard has them; lines end with a line feed.
#[derive(Debug, Default)]
struct Events {
    /// What came and is not a whole line yet, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// How far there is no end of a line.
    searched: usize,
    name: String,
    data: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: Vec<u8>,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event.
    fn next(&mut self) -> Result<Option<Event>, Trouble> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                let pending = self.buffer.len() - self.at + self.data.len();
                return if pending > MAX_EVENT { Err(Trouble::TooLarge(MAX_EVENT)) } else { Ok(None) };
            };
            let line = self.at..self.searched + end;
            (self.at, self.searched) = (line.end + 1, line.end + 1);
            let line = &self.buffer[line];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                if data.is_empty() {
                    continue;
                }
                return Ok(Some(Event { name, data }));
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let (field, value) = line.split_at(colon.unwrap_or(line.len()));
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if value.len() + self.data.len() > MAX_EVENT {
                return Err(Trouble::TooLarge(MAX_EVENT));
            }
            match field {
                b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
                b"data" => {
                    if !self.data.is_empty() {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value);
                }
                _ => {} // comments, and fields that we have no use for
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a text that comes in pieces of some size.
    fn events(text: &str, size: usize) -> Result<Vec<(String, String)>, Trouble> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            events.push(piece);
            while let Some(event) = events.next()? {
                found.push((event.name, String::from_utf8(event.data).unwrap()));
            }
        }
        Ok(found)
    }

    #[test]
    fn events_are_the_same_however_their_bytes_come() {
        let text = ": hello\n\nevent:BlockHeader\ndata:{\"a\":1}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\n\
                    event:none\n\ndata:bare\nid:7\nretry\n\ndata:unfinished\n";
        let expected = [("BlockHeader", "{\"a\":1}"), ("x", "one\ntwo"), ("", "bare")]
            .map(|(name, data)| (name.to_owned(), data.to_owned()));
        for size in 1..=text.len() {
            assert_eq!(events(text, size).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_left_where_it_gets_too_long() {
        let endless = ["x".repeat(MAX_EVENT + 1), format!("data:{}", "x\ndata:".repeat(MAX_EVENT / 2 + 1))];
        for text in &endless {
            for size in [1, 7, 4096, text.len()] {
                assert_eq!(events(text, size), Err(Trouble::TooLarge(MAX_EVENT)), "{size}");
            }
        }
        let many = "event:x\ndata:y\n\n".repeat(MAX_EVENT);
        assert_eq!(events(&many, 1 << 20).unwrap().len(), MAX_EVENT, "each counts alone");
    }
}
