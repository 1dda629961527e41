//! What the inner topics carry: frames, each many events in one record, in Avro (`schemas/avro`).
//!
//! Decoding shares the record's buffer: no statement is copied between `accepted` and `batches`.

use bytes::Bytes;

use crate::avro::{AvroError, Reader, Writer};
use crate::ports::{AnchorRecord, BatchRecord};

/// Bytes from which ingest closes a frame: far below any log's limit for a record, far above what a record costs.
pub const MAX_FRAME: usize = 256 << 10;

/// Statements that ingest accepted from one input partition for one log: a record of `accepted`. The statements are shared,
/// or borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedFrame<S = Bytes> {
    /// The topic that the events came from.
    pub topic: Box<str>,
    /// The partition of that topic.
    pub partition: u32,
    /// The events in order.
    pub events: Vec<AcceptedEvent<S>>,
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedEvent<S = Bytes> {
    /// Its offset where it came from.
    pub offset: u64,
    /// The statement's CBOR.
    pub statement: S,
}

impl AcceptedFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let size: usize = self.events.iter().map(|event| event.statement.len() + 16).sum();
        let mut out = Writer::with_capacity(size + 300);
        out.string(&self.topic);
        out.long(self.partition.into());
        out.array(self.events.iter(), |out, event| {
            out.count(event.offset);
            out.bytes(&event.statement);
        });
        out.into_bytes()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let AcceptedFrame { topic, partition, events } = AcceptedFrame::read(value)?;
        let shared = |event: AcceptedEvent<&[u8]>| AcceptedEvent {
            offset: event.offset,
            statement: value.slice_ref(event.statement),
        };
        Ok(Self { topic, partition, events: events.into_iter().map(shared).collect() })
    }
}

impl<'a> AcceptedFrame<&'a [u8]> {
    /// Reads a frame, and borrows its statements.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn read(value: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let topic = reader.string()?.into();
        let partition = reader.number()?;
        let events = reader
            .array(|reader| Ok(AcceptedEvent { offset: reader.count()?, statement: reader.bytes()? }))?;
        reader.end()?;
        Ok(Self { topic, partition, events })
    }
}

/// What dedup let through of one record of `accepted`, and what it did not: a record of `unique`. The statements are shared,
/// or borrowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UniqueFrame<S = Bytes> {
    /// The offset in `accepted` of the record that this came of.
    pub offset: u64,
    /// The CBOR of the statements that are new, in order.
    pub statements: Vec<S>,
    /// Copies of events that had been let through before, byte for byte as signed.
    pub duplicates: Vec<Copy>,
    /// Events that bear the names of another that had been let through before.
    pub conflicts: Vec<Copy>,
}

/// An event that came again, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Its tenant.
    pub tenant: Box<str>,
    /// Its source.
    pub source: Box<str>,
    /// Its id.
    pub id: Box<str>,
    /// The topic that the copy came from.
    pub topic: Box<str>,
    /// The partition of that topic.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
}

impl<S: AsRef<[u8]>> UniqueFrame<S> {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let size: usize = self.statements.iter().map(|statement| statement.as_ref().len() + 3).sum();
        let mut out = Writer::with_capacity(size + 24);
        out.count(self.offset);
        out.array(self.statements.iter(), |out, statement| out.bytes(statement.as_ref()));
        out.array(self.duplicates.iter(), write_copy);
        out.array(self.conflicts.iter(), write_copy);
        out.into_bytes()
    }
}

impl UniqueFrame {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let offset = reader.count()?;
        let statements = reader.array(|reader| Ok(value.slice_ref(reader.bytes()?)))?;
        let duplicates = reader.array(read_copy)?;
        let conflicts = reader.array(read_copy)?;
        reader.end()?;
        Ok(Self { offset, statements, duplicates, conflicts })
    }
}

fn write_copy(out: &mut Writer, copy: &Copy) {
    for text in [&copy.tenant, &copy.source, &copy.id, &copy.topic] {
        out.string(text);
    }
    out.long(copy.partition.into());
    out.count(copy.offset);
}

fn read_copy(reader: &mut Reader<'_>) -> Result<Copy, AvroError> {
    Ok(Copy {
        tenant: reader.string()?.into(),
        source: reader.string()?.into(),
        id: reader.string()?.into(),
        topic: reader.string()?.into(),
        partition: reader.number()?,
        offset: reader.count()?,
    })
}

/// A batch's header and statements: what stands before the edge and the checkpoint in a record of `batches`. Apart, so
/// that the root can be computed from these bytes before anything is signed.
pub fn write_batch_body(header: &[u8], statements: &[Bytes]) -> Writer {
    let size: usize = statements.iter().map(|statement| statement.len() + 3).sum();
    let mut out = Writer::with_capacity(size + header.len() + 4_096);
    out.bytes(header);
    out.array(statements.iter(), |out, statement| out.bytes(statement));
    out
}

/// Reads what [`write_batch_body`] wrote, borrowed.
///
/// # Errors
/// [`AvroError`].
pub fn read_batch_body<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Vec<&'a [u8]>), AvroError> {
    Ok((reader.bytes()?, reader.array(Reader::bytes)?))
}

impl BatchRecord {
    /// The record of `batches`.
    pub fn encode(&self) -> Bytes {
        let mut out = write_batch_body(&self.header, &self.statements);
        out.bytes(&self.edge);
        out.string(&self.checkpoint);
        out.into_bytes()
    }

    /// Reads a record of `batches`.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let (header, statements) = read_batch_body(&mut reader)?;
        let edge = value.slice_ref(reader.bytes()?);
        let checkpoint = reader.string()?.into();
        reader.end()?;
        let statements = statements.into_iter().map(|statement| value.slice_ref(statement)).collect();
        Ok(Self { header: value.slice_ref(header), statements, edge, checkpoint })
    }
}

impl AnchorRecord {
    /// The record of `lent`.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(self.anchor.len() + self.checkpoint.len() + 200);
        out.string(&self.origin);
        out.string(&self.series);
        out.count(self.size);
        out.string(&self.checkpoint);
        // A string and bytes are written alike.
        out.bytes(&self.anchor);
        out.into_bytes()
    }

    /// Reads a record of `lent`.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let record = Self {
            origin: reader.string()?.into(),
            series: reader.string()?.into(),
            size: reader.count()?,
            checkpoint: reader.string()?.into(),
            anchor: value.slice_ref(reader.string()?.as_bytes()),
        };
        reader.end()?;
        Ok(record)
    }
}

/// A log's checkpoint in an anchor: a record of `anchors`, or of `reanchors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorFrame {
    /// The chain that the command was sent to.
    pub chain: u32,
    /// The interval that the anchor closes: its partition of `checkpoints`, and its id there; before them, its series.
    pub interval: Box<str>,
    /// The request key of the command that was found in a block.
    pub key: Box<str>,
    /// The block's height.
    pub height: u64,
    /// The block's hash, base64url. The command may come to stand in another one.
    pub block: Box<str>,
    /// 1; more where the block that was told of before was lost after it had been deep enough.
    pub version: u32,
    /// The log's origin.
    pub origin: Box<str>,
    /// The size of the checkpoint.
    pub size: u64,
    /// The signed checkpoint.
    pub checkpoint: Box<str>,
    /// The anchor text, as the chain has it.
    pub text: Box<str>,
    /// The checkpoint's index in the anchor tree.
    pub index: u64,
    /// The audit path of the checkpoint's note text in the anchor tree.
    pub path: Vec<[u8; 32]>,
}

impl AnchorFrame {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(2_048);
        out.long(self.chain.into());
        out.string(&self.interval);
        out.string(&self.key);
        out.count(self.height);
        out.string(&self.block);
        out.long(self.version.into());
        out.string(&self.origin);
        out.count(self.size);
        out.string(&self.checkpoint);
        out.string(&self.text);
        out.count(self.index);
        out.array(self.path.iter(), |out, hash| out.fixed(hash));
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &[u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let frame = Self {
            chain: reader.number()?,
            interval: reader.string()?.into(),
            key: reader.string()?.into(),
            height: reader.count()?,
            block: reader.string()?.into(),
            version: reader.number()?,
            origin: reader.string()?.into(),
            size: reader.count()?,
            checkpoint: reader.string()?.into(),
            text: reader.string()?.into(),
            index: reader.count()?,
            path: reader.array(|reader| reader.fixed().copied())?,
        };
        reader.end()?;
        Ok(frame)
    }
}
