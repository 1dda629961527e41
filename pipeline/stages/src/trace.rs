//! How an event is followed: by the trace of its producer up to its batch, and from there on by its batch's own.
//!
//! A record that comes in may carry a `traceparent` (W3C Trace Context, version 00). Of those that are marked as sampled, a few
//! in each frame go along, in headers beside it, until batch knows where their events are; inner topics carry nothing else
//! of the kind, and a record that carries none costs a look at its headers. The trace of a batch is made of its id, so that whoever knows the
//! batch knows the trace, and nobody has to carry it.

use std::fmt;

use killick_proof::Hash;

use crate::record::{Header, Record};

/// The name of the header with the context that a record belongs to.
pub const TRACEPARENT: &str = "traceparent";
/// The names of such headers in records that come in: a CloudEvent in binary mode has the second.
const NAMES: [&str; 2] = [TRACEPARENT, "ce_traceparent"];
/// The name of the headers of a frame of `accepted`: an offset of the input, a slash, and the context of the event there.
const CARRIED: &str = "killick-trace";

/// Contexts that one frame carries at most.
pub const IN_FRAME: usize = 16;
/// Contexts that one batch carries at most: as many as a span has links by default.
pub const IN_BATCH: usize = 128;

/// A span that others belong below, in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id; not all zero.
    pub trace: [u8; 16],
    /// The span's id; not all zero.
    pub span: [u8; 8],
    /// Whether whoever made the span records it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads a header's value; `None` for what breaks the form of version 00.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_lower =
            text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_lower || version != "00" || parts.next().is_some() {
            return None;
        }
        let (mut id, mut of_span, mut of_flags) = ([0; 16], [0; 8], [0; 1]);
        hex::decode_to_slice(trace, &mut id).ok()?;
        hex::decode_to_slice(span, &mut of_span).ok()?;
        hex::decode_to_slice(flags, &mut of_flags).ok()?;
        let is_one = id != [0; 16] && of_span != [0; 8];
        is_one.then_some(Self { trace: id, span: of_span, is_sampled: of_flags[0] & 1 == 1 })
    }

    /// The span that all work on the batch of this id belongs below: its trace's id is the first 16 bytes of the batch's id, and
    /// its own the next 8. So a replay names the same. Marked as sampled, or consumers that follow the mark would record
    /// nothing of their own work.
    pub fn of_batch(batch: &Hash) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&batch.as_bytes()[..16]);
        span.copy_from_slice(&batch.as_bytes()[16..24]);
        Self { trace, span, is_sampled: true }
    }

    /// The context of a record, if it has one that is sampled.
    pub fn of(record: &Record) -> Option<Self> {
        let named = record.headers.iter().rev().find(|header| NAMES.contains(&&*header.name));
        named.and_then(|header| Self::parse(&header.value)).filter(|parent| parent.is_sampled)
    }

    /// The header of a record that belongs to it.
    pub fn header(&self) -> Header {
        Header { name: TRACEPARENT.into(), value: self.to_string().into() }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{}-{}-{flags:02x}", hex::encode(self.trace), hex::encode(self.span))
    }
}

/// The contexts that headers carry, in order, as many as a batch has at most.
pub fn carried(headers: &[Header]) -> impl Iterator<Item = TraceParent> {
    let named = headers.iter().filter(|header| &*header.name == TRACEPARENT);
    named.filter_map(|header| TraceParent::parse(&header.value)).take(IN_BATCH)
}

/// The header of a frame of `accepted` for the context of the event at that offset of the input.
pub(crate) fn of_event(offset: u64, parent: &TraceParent) -> Header {
    Header { name: CARRIED.into(), value: format!("{offset}/{parent}").into() }
}

/// The contexts of the events of a frame of `accepted`, with the offsets of these in the input.
pub fn of_events(headers: &[Header]) -> Vec<(u64, TraceParent)> {
    let read = |value: &[u8]| {
        let (offset, parent) = std::str::from_utf8(value).ok()?.split_once('/')?;
        Some((offset.parse().ok()?, TraceParent::parse(parent.as_bytes())?))
    };
    let named = headers.iter().filter(|header| &*header.name == CARRIED);
    named.filter_map(|header| read(&header.value)).take(IN_FRAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_reads_back() {
        let parent = TraceParent::parse(TEXT.as_bytes()).unwrap();
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), TEXT);
        let unsampled = TraceParent::parse(TEXT.replace("-01", "-00").as_bytes()).unwrap();
        assert!(!unsampled.is_sampled);
        assert_eq!(of_events(&[of_event(7, &parent)]), [(7, parent)]);
        assert_eq!(carried(&[parent.header(), of_event(7, &parent)]).collect::<Vec<_>>(), [parent]);
    }

    #[test]
    fn what_breaks_the_form_is_no_context() {
        for wrong in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }
}
