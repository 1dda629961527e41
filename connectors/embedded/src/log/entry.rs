//! The bytes of the journal: entries, one a transaction, and the records in them.
//!
//! ```text
//! entry   marker u64 | header length u32 | CRC-32 of the header u32 | header | blobs
//! header  synced u64 | kind u8 | [head: segment u64, marker u64, time i64, topics, ends] | batches | offsets
//! batch   partition u32 | first offset u64 | records u32 | append time i64 | blob length u32 | CRC-32 of the blob u32
//! record  key length u32 | value length u32 | headers u16 | key | value | (name length u16 | value length u32 | name | value)…
//! ```
//! All numbers are little-endian. `synced` is how much of the segment was durable when the entry was written: a bad
//! place below what a later entry knew to be durable is damage, and not the torn end of an unfinished write.
//!
//! The first entry of a segment is its head and begins with [`MAGIC`]; it draws a marker by chance, with which all
//! others begin. So nobody who chooses what records hold can make bytes that look like an entry of the segment.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use killick_stages::record::{Header, Micros, Output, Partition, Record};

/// The marker of a segment's first entry; its last byte counts the versions of this format.
pub const MAGIC: u64 = u64::from_le_bytes(*b"killick1");
/// Bytes before the header.
pub const FRAME: usize = 16;
/// The longest name of a header of a record, and how many headers it may have.
pub const MAX_HEADERS: usize = u16::MAX as usize;
/// The longest name of a topic or a group in bytes: Kafka's.
pub const MAX_NAME: usize = 249;

/// What does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not decode")]
pub struct Malformed;

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}

/// Consecutive records of one partition, written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The partition's number in the table of the folder.
    pub partition: u32,
    /// The offset of the first record; the others follow it without gaps.
    pub base: u64,
    /// How many records.
    pub count: u32,
    /// When the log took them.
    pub append_time: Micros,
    /// Bytes of the blob.
    pub len: u32,
    /// CRC-32 of the blob.
    pub crc: u32,
}

/// Where a group goes on reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The group.
    pub group: Arc<str>,
    /// The partition's number in the table.
    pub partition: u32,
    /// The offset of the next record to read.
    pub next: u64,
}

/// A topic in the table: its partitions are numbered on from those of the topics before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    /// The name.
    pub name: Arc<str>,
    /// How many partitions.
    pub partitions: u32,
    /// Whether only the newest record of a key is kept.
    pub compact: bool,
}

/// The state of everything when a segment began: the first entry of each segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The segment's number.
    pub segment: u64,
    /// What the other entries of the segment begin with.
    pub marker: u64,
    /// When it began.
    pub time: Micros,
    /// The table.
    pub topics: Vec<TopicRow>,
    /// The end of each partition: the offset of the next record.
    pub ends: Vec<u64>,
}

/// An entry's header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// How much of the segment was durable when this was written.
    pub synced: u64,
    /// In the first entry of a segment only.
    pub head: Option<Head>,
    /// The batches, in the order of their blobs.
    pub batches: Vec<Batch>,
    /// The moves.
    pub moves: Vec<Move>,
}

impl Entry {
    /// Bytes of all blobs.
    pub fn blob_len(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.len)).sum()
    }

    /// Appends frame and header to `out`; the blobs have to follow. `marker` is the segment's.
    pub fn encode(&self, marker: u64, out: &mut Vec<u8>) {
        let frame = out.len();
        out.put_u64_le(if self.head.is_some() { MAGIC } else { marker });
        out.put_u64_le(0);
        let start = out.len();
        out.put_u64_le(self.synced);
        match &self.head {
            None => out.put_u8(0),
            Some(head) => {
                out.put_u8(1);
                out.put_u64_le(head.segment);
                out.put_u64_le(head.marker);
                out.put_i64_le(head.time);
                put_count(out, head.topics.len());
                for topic in &head.topics {
                    put_text(out, &topic.name);
                    out.put_u32_le(topic.partitions);
                    out.put_u8(u8::from(topic.compact));
                }
                put_count(out, head.ends.len());
                head.ends.iter().for_each(|end| out.put_u64_le(*end));
            }
        }
        put_count(out, self.batches.len());
        for batch in &self.batches {
            out.put_u32_le(batch.partition);
            out.put_u64_le(batch.base);
            out.put_u32_le(batch.count);
            out.put_i64_le(batch.append_time);
            out.put_u32_le(batch.len);
            out.put_u32_le(batch.crc);
        }
        put_count(out, self.moves.len());
        for step in &self.moves {
            put_text(out, &step.group);
            out.put_u32_le(step.partition);
            out.put_u64_le(step.next);
        }
        let crc = crc32fast::hash(&out[start..]);
        let len = u32::try_from(out.len() - start).expect(BOUNDED);
        out[frame + 8..frame + 12].copy_from_slice(&len.to_le_bytes());
        out[frame + 12..frame + 16].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header, the bytes after the frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let from = &mut bytes;
        let synced = from.try_get_u64_le()?;
        let head = match from.try_get_u8()? {
            0 => None,
            1 => Some(decode_head(from)?),
            _ => return Err(Malformed),
        };
        let batches = many(from, |from| {
            Ok(Batch {
                partition: from.try_get_u32_le()?,
                base: from.try_get_u64_le()?,
                count: from.try_get_u32_le()?,
                append_time: from.try_get_i64_le()?,
                len: from.try_get_u32_le()?,
                crc: from.try_get_u32_le()?,
            })
        })?;
        let moves = many(from, |from| {
            Ok(Move { group: text(from)?, partition: from.try_get_u32_le()?, next: from.try_get_u64_le()? })
        })?;
        if from.has_remaining() { Err(Malformed) } else { Ok(Self { synced, head, batches, moves }) }
    }
}

fn decode_head(from: &mut &[u8]) -> Result<Head, Malformed> {
    Ok(Head {
        segment: from.try_get_u64_le()?,
        marker: from.try_get_u64_le()?,
        time: from.try_get_i64_le()?,
        topics: many(from, |from| {
            Ok(TopicRow {
                name: text(from)?,
                partitions: from.try_get_u32_le()?,
                compact: from.try_get_u8()? != 0,
            })
        })?,
        ends: many(from, |from| Ok(from.try_get_u64_le()?))?,
    })
}

/// A transaction moves each partition once at the most; a head lists what lives in memory many times over.
const BOUNDED: &str = "a header has fewer than 2^32 bytes";

fn many<T>(from: &mut &[u8], one: impl Fn(&mut &[u8]) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let count = from.try_get_u32_le()?;
    (0..count).map(|_| one(from)).collect()
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32_le(u32::try_from(count).expect(BOUNDED));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16_le(
        u16::try_from(text.len()).expect("names of topics and groups are checked when they are given"),
    );
    out.put_slice(text.as_bytes());
}

fn text(from: &mut &[u8]) -> Result<Arc<str>, Malformed> {
    let len = usize::from(from.try_get_u16_le()?);
    let bytes = from.get(..len).ok_or(Malformed)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?.into();
    from.advance(len);
    Ok(text)
}

/// The size of a record as it stands in a blob.
pub fn record_len(output: &Output) -> usize {
    let headers: usize = output.headers.iter().map(|header| 6 + header.name.len() + header.value.len()).sum();
    10 + output.key.len() + output.value.len() + headers
}

/// Appends a record to a blob. Its size has been checked.
pub fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8], headers: &[Header]) {
    let bounded = "the size of a record is checked before it is written";
    out.put_u32_le(u32::try_from(key.len()).expect(bounded));
    out.put_u32_le(u32::try_from(value.len()).expect(bounded));
    out.put_u16_le(u16::try_from(headers.len()).expect(bounded));
    out.put_slice(key);
    out.put_slice(value);
    for header in headers {
        out.put_u16_le(u16::try_from(header.name.len()).expect(bounded));
        out.put_u32_le(u32::try_from(header.value.len()).expect(bounded));
        out.put_slice(header.name.as_bytes());
        out.put_slice(&header.value);
    }
}

/// Reads the records of a blob. They share its memory.
///
/// # Errors
/// [`Malformed`].
pub fn records(batch: &Batch, partition: &Partition, mut blob: Bytes) -> Result<Vec<Record>, Malformed> {
    let take = |blob: &mut Bytes, len: usize| {
        if blob.len() < len { Err(Malformed) } else { Ok(blob.split_to(len)) }
    };
    let records = (0..u64::from(batch.count)).map(|index| {
        let key_len = blob.try_get_u32_le()? as usize;
        let value_len = blob.try_get_u32_le()? as usize;
        let count = blob.try_get_u16_le()?;
        let key = take(&mut blob, key_len)?;
        let value = take(&mut blob, value_len)?;
        let mut headers = Vec::with_capacity(usize::from(count.min(64)));
        for _ in 0..count {
            let name_len = usize::from(blob.try_get_u16_le()?);
            let len = blob.try_get_u32_le()? as usize;
            let name = take(&mut blob, name_len)?;
            let name = std::str::from_utf8(&name).map_err(|_| Malformed)?.into();
            headers.push(Header { name, value: take(&mut blob, len)? });
        }
        let append_time = batch.append_time;
        Ok(Record {
            partition: partition.clone(),
            offset: batch.base + index,
            append_time,
            key,
            value,
            headers,
        })
    });
    let records = records.collect::<Result<Vec<_>, Malformed>>()?;
    if blob.is_empty() { Ok(records) } else { Err(Malformed) }
}
