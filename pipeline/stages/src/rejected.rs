//! What is not let through: the record as it came, and why, in the headers that dead letters carry everywhere.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::record::{Header, Output, Partition, Record};
use crate::route::REJECTED;

/// Bytes of a record that `rejected` repeats in full: with our headers it still fits into a record of any log.
const KEPT: usize = 900_000;

/// Stands for a value that was too long to be repeated: its size in bytes, as a decimal.
pub const VALUE_SIZE: &str = "killick-value-size";
/// Stands for a value that was too long to be repeated: its SHA-256 in hexadecimal.
pub const VALUE_SHA256: &str = "killick-value-sha256";

/// The prefix of the headers that say what happened, as Kafka Connect names them.
pub const PREFIX: &str = "__connect.errors.";

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

/// The record of `rejected` for a whole record: value, key and headers byte for byte, our headers behind them. A record
/// too large to be repeated leaves size and hash of its value, and no headers.
pub fn record(record: &Record, stage: &str, code: Code, why: &str, partition: u32) -> Output {
    let headers: usize = record.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    let kept = record.value.len() + record.key.len() + headers <= KEPT;
    let mut output = Output::new(Partition::new(REJECTED, partition), Bytes::new(), Bytes::new());
    if kept {
        output.key = record.key.clone();
        output.value = record.value.clone();
        output.headers = record.headers.clone();
    } else {
        output.headers.push(header(VALUE_SIZE, record.value.len().to_string()));
        output.headers.push(header(VALUE_SHA256, hex::encode(Sha256::digest(&record.value))));
    }
    let origin = Origin {
        topic: record.partition.topic.as_str(),
        partition: record.partition.number,
        offset: record.offset,
    };
    output.headers.extend(reasons(origin, stage, code, why));
    output
}

/// The headers that say what happened to what stood at `origin`.
pub fn reasons(origin: Origin<'_>, stage: &str, code: Code, why: &str) -> [Header; 6] {
    let named = |name: &str, value: String| header(&format!("{PREFIX}{name}"), value);
    [
        named("topic", origin.topic.to_owned()),
        named("partition", origin.partition.to_string()),
        named("offset", origin.offset.to_string()),
        named("stage", stage.to_owned()),
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
            append_time: 0,
            key: Bytes::from_static(b"key"),
            value: vec![7; size].into(),
            headers: vec![Header { name: "ce_id".into(), value: Bytes::from_static(b"\xff") }],
        }
    }

    fn find<'a>(output: &'a Output, name: &str) -> Option<&'a [u8]> {
        output.headers.iter().find(|header| &*header.name == name).map(|header| &*header.value)
    }

    #[test]
    fn a_record_is_repeated_byte_for_byte_with_its_reason_behind() {
        let input = large(10);
        let output = record(&input, "ingest", Code::Stale, "a day old", 2);
        assert_eq!(output.partition, Partition::new("rejected", 2));
        assert_eq!((&output.key, &output.value), (&input.key, &input.value));
        assert_eq!(output.headers[0], input.headers[0]);
        for (name, value) in [
            ("topic", "events"),
            ("partition", "3"),
            ("offset", "41"),
            ("stage", "ingest"),
            ("exception.class.name", "stale"),
            ("exception.message", "a day old"),
        ] {
            assert_eq!(find(&output, &format!("{PREFIX}{name}")), Some(value.as_bytes()));
        }
    }

    #[test]
    fn a_record_as_large_as_a_log_takes_leaves_its_hash() {
        let output = record(&large(1_000_000), "ingest", Code::TooLarge, "", 0);
        assert!(output.value.is_empty() && output.key.is_empty());
        assert_eq!(find(&output, VALUE_SIZE), Some(&b"1000000"[..]));
        assert_eq!(find(&output, VALUE_SHA256).map(<[u8]>::len), Some(64));
        assert_eq!(find(&output, "ce_id"), None);
    }

    #[test]
    fn no_two_codes_have_one_name() {
        let names: std::collections::BTreeSet<&str> = Code::ALL.into_iter().map(Code::name).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
