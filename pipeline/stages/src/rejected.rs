//! What is not let through: the record as it came, and why, in the headers that dead letters carry everywhere.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::record::{Header, Output, Partition, Record};
use crate::route::REJECTED;

/// Bytes of a record that `rejected` repeats in full: with our headers it still fits into a record of any log.
const KEPT: usize = 900_000;
/// What a header takes beside its name and value, at most: the lengths of both.
const HEADER: usize = 10;

/// Stands for a value that was too long to be repeated: its size in bytes, as a decimal.
pub const VALUE_SIZE: &str = "killick-value-size";
/// Stands for a value that was too long to be repeated: its SHA-256 in hexadecimal.
pub const VALUE_SHA256: &str = "killick-value-sha256";
/// When the log took the record, in µs since 1970, as a decimal: what freshness and keys were judged by.
pub const APPEND_TIME: &str = "killick-append-time";
/// How often the record was rejected, as a decimal, if it came back after it was: with its first place.
pub const ATTEMPT: &str = "killick-attempt";
/// Where the record stood when it was first rejected, if it came back: topic, partition, offset, as it says itself.
pub const FIRST: &str = "killick-first";

/// The prefix of the headers that say what happened, as Kafka Connect names them.
pub const PREFIX: &str = "__connect.errors.";
/// What stands as the connector's name: tools that show dead letters group them by it.
const CONNECTOR: &str = "killick";

/// Why an event is rejected. The names never change: people filter and count by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The record is no event in the form of its source, or a part of it breaks a rule.
    Malformed,
    /// The payload is larger than its source allows.
    TooLarge,
    /// The event's time lies too far before the log's.
    Stale,
    /// The event's time lies too far after the log's.
    Future,
    /// The event is not signed, and its source wants signatures.
    Unsigned,
    /// The event names no tenant, another one than its source's, or one without the secret that unsigned events need.
    Tenant,
    /// No such key is known for this tenant and source.
    UnknownKey,
    /// The key is one that would sign anything, or none at all.
    WeakKey,
    /// The key does not count yet.
    EarlyKey,
    /// The key counts no more.
    RevokedKey,
    /// The signature is not one of this event by this key.
    WrongSignature,
    /// The schema registry does not have the schema that the record names.
    UnknownSchema,
    /// The schema that the record names is no Avro, or none that an event of its source can be read by.
    UnfitSchema,
    /// Another event with the same tenant, source and id was let through before.
    Conflict,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Stale,
        Self::Future,
        Self::Unsigned,
        Self::Tenant,
        Self::UnknownKey,
        Self::WeakKey,
        Self::EarlyKey,
        Self::RevokedKey,
        Self::WrongSignature,
        Self::UnknownSchema,
        Self::UnfitSchema,
        Self::Conflict,
    ];

    /// The name, as it stands in the header `__connect.errors.exception.class.name`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Unsigned => "unsigned",
            Self::Tenant => "tenant",
            Self::UnknownKey => "unknown-key",
            Self::WeakKey => "weak-key",
            Self::EarlyKey => "key-not-yet-valid",
            Self::RevokedKey => "revoked-key",
            Self::WrongSignature => "wrong-signature",
            Self::UnknownSchema => "unknown-schema",
            Self::UnfitSchema => "unfit-schema",
            Self::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a rejected event stood.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition of that topic.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
}

/// The record of `rejected` for a whole record: value, key and headers byte for byte, our headers behind them.
///
/// What says of an earlier rejection why it was is replaced, or there would be two reasons; how often and where it began
/// stays. A value too long to be repeated leaves its size and hash, and so do key and headers that are too long without
/// it.
pub fn record(record: &Record, stage: &str, code: Code, why: &str, partition: u32) -> Output {
    let mut output = Output::new(Partition::new(REJECTED, partition), Bytes::new(), Bytes::new());
    let size_of = |header: &Header| header.name.len() + header.value.len() + HEADER;
    let around = record.key.len() + record.headers.iter().map(size_of).sum::<usize>();
    if around <= KEPT {
        output.key = record.key.clone();
        output.headers = record.headers.iter().filter(|header| !is_ours(&header.name)).cloned().collect();
        output.headers.extend(earlier(record).into_iter().flatten());
    }
    if record.value.len() + around <= KEPT {
        output.value = record.value.clone();
    } else {
        output.headers.push(header(VALUE_SIZE, record.value.len().to_string()));
        output.headers.push(header(VALUE_SHA256, hex::encode(Sha256::digest(&record.value))));
    }
    output.headers.push(header(APPEND_TIME, record.append_time.to_string()));
    let origin = Origin {
        topic: record.partition.topic.as_str(),
        partition: record.partition.number,
        offset: record.offset,
    };
    output.headers.extend(reasons(origin, stage, code, why));
    output
}

/// Whether a header says what we say of a rejection.
fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || [VALUE_SIZE, VALUE_SHA256, APPEND_TIME, ATTEMPT, FIRST].contains(&name)
}

/// What a record that was rejected before says of it: how often with this time, and where first.
fn earlier(record: &Record) -> Option<[Header; 2]> {
    let text = |name: &str| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
    let named = |name: &str| text(&format!("{PREFIX}{name}"));
    let place = match text(FIRST) {
        Some(first) => first.to_owned(),
        None => format!("{}/{}/{}", named("topic")?, named("partition")?, named("offset")?),
    };
    let attempts = text(ATTEMPT).and_then(|attempt| attempt.parse::<u64>().ok()).unwrap_or(1);
    Some([header(ATTEMPT, attempts.saturating_add(1).to_string()), header(FIRST, place)])
}

/// The headers that say what happened to what stood at `origin`.
pub fn reasons(origin: Origin<'_>, stage: &str, code: Code, why: &str) -> [Header; 8] {
    let named = |name: &str, value: String| header(&format!("{PREFIX}{name}"), value);
    [
        named("topic", origin.topic.to_owned()),
        named("partition", origin.partition.to_string()),
        named("offset", origin.offset.to_string()),
        named("connector.name", CONNECTOR.to_owned()),
        named("stage", stage.to_owned()),
        named("class.name", format!("{CONNECTOR}.{stage}")),
        named("exception.class.name", code.name().to_owned()),
        named("exception.message", why.to_owned()),
    ]
}

fn header(name: &str, value: String) -> Header {
    Header { name: name.into(), value: value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(size: usize) -> Record {
        Record {
            partition: Partition::new("events", 3),
            offset: 41,
            append_time: -7,
            key: Bytes::from_static(b"key"),
            value: vec![7; size].into(),
            headers: vec![Header { name: "ce_id".into(), value: Bytes::from_static(b"\xff") }; 2],
        }
    }

    /// The one header of that name.
    fn find<'a>(output: &'a Output, name: &str) -> Option<&'a [u8]> {
        let mut found = output.headers.iter().filter(|header| &*header.name == name);
        let first = found.next().map(|header| &*header.value);
        assert!(found.next().is_none(), "{name} is there twice");
        first
    }

    #[test]
    fn a_record_is_repeated_byte_for_byte_with_its_reason_behind() {
        let input = large(10);
        let output = record(&input, "ingest", Code::Stale, "a day old", 2);
        assert_eq!(output.partition, Partition::new("rejected", 2));
        assert_eq!((&output.key, &output.value), (&input.key, &input.value));
        assert_eq!(output.headers[..2], input.headers);
        for (name, value) in [
            ("topic", "events"),
            ("partition", "3"),
            ("offset", "41"),
            ("connector.name", "killick"),
            ("stage", "ingest"),
            ("class.name", "killick.ingest"),
            ("exception.class.name", "stale"),
            ("exception.message", "a day old"),
        ] {
            assert_eq!(find(&output, &format!("{PREFIX}{name}")), Some(value.as_bytes()));
        }
        assert_eq!(find(&output, APPEND_TIME), Some(&b"-7"[..]));
        assert_eq!((find(&output, ATTEMPT), find(&output, VALUE_SIZE)), (None, None));
        assert_eq!(output.headers.len(), 2 + 8 + 1);
    }

    #[test]
    fn a_value_too_long_to_be_repeated_leaves_its_hash() {
        let output = record(&large(1_000_000), "ingest", Code::TooLarge, "", 0);
        assert!(output.value.is_empty());
        assert_eq!(find(&output, VALUE_SIZE), Some(&b"1000000"[..]));
        assert_eq!(find(&output, VALUE_SHA256).map(<[u8]>::len), Some(64));
        assert_eq!((&*output.key, &*output.headers[1].name), (&b"key"[..], "ce_id"));
    }

    #[test]
    fn key_and_headers_too_long_to_be_repeated_are_left_out_however_short_each_is() {
        let mut input = large(10);
        input.headers = vec![Header { name: "".into(), value: Bytes::new() }; 100_000];
        let output = record(&input, "ingest", Code::TooLarge, "", 0);
        assert!(output.value.is_empty() && output.key.is_empty() && output.headers.len() < 20);
        assert_eq!(find(&output, VALUE_SIZE), Some(&b"10"[..]));
        input.headers.clear();
        input.key = vec![0; 950_000].into();
        assert!(record(&input, "ingest", Code::TooLarge, "", 0).key.is_empty());
    }

    #[test]
    fn a_record_that_comes_back_has_one_reason_and_remembers_where_it_began() {
        let again = |output: Output, offset| Record { headers: output.headers, offset, ..large(10) };
        let first = record(&large(10), "ingest", Code::Stale, "old", 2);
        let second = record(&again(first, 50), "ingest", Code::Unsigned, "no signature", 2);
        let third = record(&again(second.clone(), 60), "ingest", Code::Unsigned, "no signature", 2);
        for (output, offset, attempt) in [(&second, "50", "2"), (&third, "60", "3")] {
            assert_eq!(find(output, &format!("{PREFIX}offset")), Some(offset.as_bytes()));
            assert_eq!(find(output, &format!("{PREFIX}exception.class.name")), Some(&b"unsigned"[..]));
            assert_eq!(find(output, ATTEMPT), Some(attempt.as_bytes()));
            assert_eq!(find(output, FIRST), Some(&b"events/3/41"[..]));
            assert_eq!(output.headers[..2], large(10).headers);
        }
    }

    #[test]
    fn no_two_codes_have_one_name() {
        let names: std::collections::BTreeSet<&str> = Code::ALL.into_iter().map(Code::name).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
