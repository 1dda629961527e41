//! An event as it comes in, whatever it came in as; and our own envelope.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::avro::{AvroError, Reader, Writer, long_len};
use crate::record::Micros;

mod written;

pub(crate) use written::Written;

/// An event that nothing has been checked of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The tenant, if the event names one.
    pub tenant: Option<Cow<'a, str>>,
    /// The device or producer.
    pub source: Cow<'a, str>,
    /// The idempotency key.
    pub id: Cow<'a, str>,
    /// The event's own time.
    pub time: Micros,
    /// The type.
    pub kind: Cow<'a, str>,
    /// The payload's bytes.
    pub payload: Cow<'a, [u8]>,
    /// The public key it is said to be signed with.
    pub key: Option<[u8; 32]>,
    /// The signature.
    pub signature: Option<[u8; 64]>,
}

/// A record that is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {why}")]
pub struct Malformed {
    /// The part that is wrong.
    pub part: &'static str,
    /// What is wrong with it; short.
    pub why: Box<str>,
}

impl Malformed {
    /// That `part` is wrong, and why. What came in may stand in it, but no control character of it.
    pub fn new(part: &'static str, why: impl fmt::Display) -> Self {
        let mut why = why.to_string().replace(char::is_control, "\u{fffd}");
        why.truncate(why.floor_char_boundary(200));
        Self { part, why: why.into() }
    }
}

impl From<AvroError> for Malformed {
    fn from(error: AvroError) -> Self {
        Self::new("envelope", error)
    }
}

/// Our own envelope: what producers of ours put into a record's value (`schemas/avro/event.avsc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The device or producer.
    pub source: &'a str,
    /// The idempotency key.
    pub id: &'a str,
    /// The event's own time.
    pub time: Micros,
    /// The type.
    pub kind: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The key and the signature of a signed event.
    pub signed: Option<(&'a [u8; 32], &'a [u8; 64])>,
}

impl Event<'_> {
    /// The datum: a record's value under bare framing.
    pub fn encode(&self) -> Bytes {
        // All of it, and no more.
        let parts = [self.tenant, self.source, self.id, self.kind]
            .map(str::len)
            .into_iter()
            .chain([self.payload.len()]);
        let parts: usize = parts.map(|len| long_len(len as i64) + len).sum();
        let unions = if self.signed.is_some() { 2 + 32 + 64 } else { 2 };
        let mut out = Writer::with_capacity(parts + long_len(self.time) + unions);
        for text in [self.tenant, self.source, self.id] {
            out.string(text);
        }
        out.long(self.time);
        out.string(self.kind);
        out.bytes(self.payload);
        out.optional(self.signed, |out, (key, _)| out.fixed(key));
        out.optional(self.signed, |out, (_, signature)| out.fixed(signature));
        out.into_bytes()
    }
}

/// Reads our own envelope as we write it: the whole of `datum`.
///
/// # Errors
/// [`Malformed`].
pub fn read(datum: &[u8]) -> Result<Envelope<'_>, Malformed> {
    let mut reader = Reader::new(datum);
    let envelope = Envelope {
        tenant: Some(reader.string()?.into()),
        source: reader.string()?.into(),
        id: reader.string()?.into(),
        time: reader.long()?,
        kind: reader.string()?.into(),
        payload: reader.bytes()?.into(),
        key: reader.optional(Reader::fixed)?.copied(),
        signature: reader.optional(Reader::fixed)?.copied(),
    };
    reader.end()?;
    Ok(envelope)
}

/// Reads a time of RFC 3339; what is finer than a microsecond is cut off.
///
/// # Errors
/// [`Malformed`].
pub fn rfc3339(text: &str) -> Result<Micros, Malformed> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| Malformed::new("time", error))?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000))
        .map_err(|_| Malformed::new("time", "out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Event<'static> = Event {
        tenant: "acme",
        source: "pump-1",
        id: "7",
        time: -5,
        kind: "reading",
        payload: b"21.5",
        signed: Some((&[1; 32], &[2; 64])),
    };

    #[test]
    fn an_envelope_reads_back() {
        let bytes = EVENT.encode();
        let envelope = read(&bytes).unwrap();
        assert_eq!((&*envelope.source, &*envelope.id, envelope.time), ("pump-1", "7", -5));
        assert_eq!((envelope.key, envelope.signature), (Some([1; 32]), Some([2; 64])));
        for event in [EVENT, Event { signed: None, payload: &[7; 300], ..EVENT }] {
            let bytes = Vec::from(event.encode());
            assert_eq!(bytes.capacity(), bytes.len(), "there was room for all of it, and no more");
        }
    }

    #[test]
    fn an_envelope_cut_anywhere_or_prolonged_is_malformed() {
        let whole = EVENT.encode();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        assert!(read(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn times_are_read_to_the_microsecond_in_every_zone() {
        assert_eq!(rfc3339("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(rfc3339("1970-01-01T01:00:00.000001+01:00"), Ok(1));
        assert_eq!(rfc3339("1969-12-31T23:59:59.9999999Z"), Ok(-1));
        for wrong in ["", "now", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z", "0"] {
            assert!(rfc3339(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reason_is_short_and_harmless_whatever_came_in() {
        assert_eq!(Malformed::new("time", "é".repeat(500)).why.len(), 200);
        assert_eq!(&*Malformed::new("time", "\u{1b}[2J\n").why, "\u{fffd}[2J\u{fffd}");
    }
}
