//! What the log holds: records in ordered partitions, and what a stage wants written.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Microseconds since 1970-01-01T00:00:00Z; negative before.
pub type Micros = i64;

/// The name of a topic; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The name as it stands in the log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One ordered partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// Its number in the topic, from 0.
    pub number: u32,
}

impl Partition {
    /// Partition `number` of `topic`.
    pub fn new(topic: impl Into<Topic>, number: u32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// A header of a record. Names may repeat; the last one of a name wins, as in Kafka.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The name, compared byte for byte.
    pub name: Arc<str>,
    /// The value: any bytes.
    pub value: Bytes,
}

/// A record as it stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it stands.
    pub partition: Partition,
    /// Its offset there; offsets ascend, but need not be dense.
    pub offset: u64,
    /// When the log took it. May step back between records of a partition; whoever needs order takes the maximum.
    pub append_time: Micros,
    /// The key; empty when there is none.
    pub key: Bytes,
    /// The value; empty when there is none.
    pub value: Bytes,
    /// The headers in order.
    pub headers: Vec<Header>,
}

/// The name of the header that marks a tick: a record that carries only time.
pub const TICK: &str = "killick-tick";

impl Record {
    /// Whether this record carries only time.
    pub fn is_tick(&self) -> bool {
        self.value.is_empty() && self.headers.iter().any(|header| &*header.name == TICK)
    }

    /// The value of the last header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|header| &*header.name == name).map(|header| &*header.value)
    }
}

/// A record to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Where to.
    pub partition: Partition,
    /// The key; empty for none.
    pub key: Bytes,
    /// The value; empty for none. On a compacted topic an empty value ends the key.
    pub value: Bytes,
    /// The headers in order.
    pub headers: Vec<Header>,
}

impl Output {
    /// An output without headers.
    pub fn new(partition: Partition, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { partition, key: key.into(), value: value.into(), headers: Vec::new() }
    }

    /// The tick of `partition`.
    pub fn tick(partition: Partition) -> Self {
        let headers = vec![Header { name: TICK.into(), value: Bytes::new() }];
        Self { partition, key: Bytes::new(), value: Bytes::new(), headers }
    }
}
