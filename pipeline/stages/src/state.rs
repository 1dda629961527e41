//! What the state topics carry: what each stage has to know after a crash, in Avro (`schemas/avro`).

use bytes::Bytes;

use crate::avro::{AvroError, Reader, Writer};
use crate::record::Micros;

/// What dedup took in: a record of `dedup-log`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DedupDelta {
    /// The first input offset that it tells of.
    pub from: u64,
    /// The input offset after the last that it tells of: the next delta's `from`.
    pub to: u64,
    /// The largest append time of the partition below `to`.
    pub time: Micros,
    /// New keys by the log time at which they came, in order.
    pub groups: Vec<DeltaGroup>,
}

/// Keys that came at one log time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaGroup {
    /// The largest append time of the partition up to there.
    pub time: Micros,
    /// 24 bytes for each: the key (16) and the tag (8).
    pub keys: Bytes,
}

impl DedupDelta {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let size: usize = self.groups.iter().map(|group| group.keys.len() + 16).sum();
        let mut out = Writer::with_capacity(size + 32);
        out.count(self.from);
        out.count(self.to);
        out.long(self.time);
        out.array(self.groups.iter(), |out, group| {
            out.long(group.time);
            out.bytes(&group.keys);
        });
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let delta = Self {
            from: reader.count()?,
            to: reader.count()?,
            time: reader.long()?,
            groups: reader.array(|reader| {
                Ok(DeltaGroup { time: reader.long()?, keys: value.slice_ref(reader.bytes()?) })
            })?,
        };
        reader.end()?;
        Ok(delta)
    }
}

/// Where batch stands in one log: the one record of a partition of `batch-log` that counts is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchState {
    /// The next input offset.
    pub next: u64,
    /// The first offset that no batch covers yet.
    pub first: u64,
    /// The largest append time below `next`.
    pub time: Micros,
    /// The log: its size and right edge, as `killick_proof` encodes it.
    pub log: Bytes,
}

impl BatchState {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(self.log.len() + 40);
        out.count(self.next);
        out.count(self.first);
        out.long(self.time);
        out.bytes(&self.log);
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let state = Self {
            next: reader.count()?,
            first: reader.count()?,
            time: reader.long()?,
            log: value.slice_ref(reader.bytes()?),
        };
        reader.end()?;
        Ok(state)
    }
}

/// A record of `anchor-log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorState {
    /// How far the input is done; one record, with the key `position`.
    Position(Position),
    /// An interval that is looked after; the key is its id, and an empty value ends it.
    Interval(Interval),
}

/// How far an input is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next input offset.
    pub next: u64,
    /// The largest append time below it.
    pub time: Micros,
    /// The last day on which a command was made, in days since 1970 (UTC).
    pub day: i64,
    /// What the commands of that day may cost, in 10^-12 of the chain's coin.
    pub spent: i64,
    /// The same of the day before it.
    pub before: i64,
}

/// An interval with the commands made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Its id, unique for its partition of `checkpoints`: the input offset before which it ends.
    pub id: Box<str>,
    /// The chain that its commands go to.
    pub chain: u32,
    /// The log time of its cut.
    pub cut: Micros,
    /// The signed checkpoints that it covers, ascending by origin.
    pub checkpoints: Vec<Box<str>>,
    /// The commands in order: the last is the one to send.
    pub attempts: Vec<Attempt>,
    /// How often it was told of: again for each block that was lost after it.
    pub version: u32,
    /// The block that it was told of in last; none before it was told of.
    pub landing: Option<Landing>,
}

/// A block that has an interval's command, deep enough to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// The command's request key.
    pub key: Box<str>,
    /// The block's height.
    pub height: u64,
    /// The block's hash, base64url.
    pub block: Box<str>,
    /// Whether the chain went on without it, deep as it was.
    pub is_lost: bool,
}

/// A command made for an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number: whole minutes between the cut and the command's creation time.
    pub number: u64,
    /// The block time from which on it cannot enter a block any more.
    pub expires: Micros,
    /// Its request key.
    pub key: Box<str>,
    /// Its exact text.
    pub command: Bytes,
}

impl AnchorState {
    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(4_096);
        match self {
            Self::Position(position) => {
                out.long(0);
                out.count(position.next);
                out.long(position.time);
                out.long(position.day);
                out.long(position.spent);
                out.long(position.before);
            }
            Self::Interval(interval) => {
                out.long(1);
                out.string(&interval.id);
                out.long(interval.chain.into());
                out.long(interval.cut);
                out.array(interval.checkpoints.iter(), |out, checkpoint| out.string(checkpoint));
                out.array(interval.attempts.iter(), |out, attempt| {
                    out.count(attempt.number);
                    out.long(attempt.expires);
                    out.string(&attempt.key);
                    out.bytes(&attempt.command);
                });
                out.long(interval.version.into());
                out.optional(interval.landing.as_ref(), |out, landing| {
                    out.string(&landing.key);
                    out.count(landing.height);
                    out.string(&landing.block);
                    out.bool(landing.is_lost);
                });
            }
        }
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &Bytes) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let state = match reader.long()? {
            0 => Self::Position(Position {
                next: reader.count()?,
                time: reader.long()?,
                day: reader.long()?,
                spent: reader.long()?,
                before: reader.long()?,
            }),
            1 => Self::Interval(Interval {
                id: reader.string()?.into(),
                chain: reader.number()?,
                cut: reader.long()?,
                checkpoints: reader.array(|reader| reader.string().map(Into::into))?,
                attempts: reader.array(|reader| {
                    Ok(Attempt {
                        number: reader.count()?,
                        expires: reader.long()?,
                        key: reader.string()?.into(),
                        command: value.slice_ref(reader.bytes()?),
                    })
                })?,
                version: reader.number()?,
                landing: reader.optional(|reader| {
                    Ok(Landing {
                        key: reader.string()?.into(),
                        height: reader.count()?,
                        block: reader.string()?.into(),
                        is_lost: reader.bool()?,
                    })
                })?,
            }),
            other => return Err(AvroError::Branch(other)),
        };
        reader.end()?;
        Ok(state)
    }
}

/// How far prove is with one of its inputs: a record of `prove-log`, with the key `batches` or `anchors`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProveState {
    /// The next input offset.
    pub next: u64,
    /// For `batches`: how many batches of the log are stored. For `anchors`: how many are proven.
    pub size: u64,
    /// For `anchors`: how many receipts of the next batch are published already. Otherwise 0.
    pub receipts: u64,
    /// For `anchors`: the next batch to be told of again, where the anchor at `next` stands for one that was lost; from
    /// `size` on nothing is.
    pub again: Option<u64>,
    /// For `anchors`: which batches the newest intervals told of, at most [`MAX_TURNS`]. The catalog does not say: a smaller
    /// anchor that came later than a larger one has its batches there.
    pub turns: Vec<Turn>,
}

/// The most intervals of which is remembered what they told of: as many as have blocks that are still looked after, mostly.
const MAX_TURNS: usize = 128;

/// What an interval told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The interval.
    pub interval: Box<str>,
    /// The first batch that it told of; its anchor's size where it told of none.
    pub first: u64,
}

impl ProveState {
    /// The next batch to be told of, or to be told of again.
    pub fn next_told(&self) -> u64 {
        self.again.map_or(self.size, |again| again.min(self.size))
    }

    /// Notes that an interval tells of batches from `first` on, or of more if it did so before.
    pub fn begin_turn(&mut self, interval: &str, first: u64) {
        if let Some(turn) = self.turns.iter_mut().find(|turn| *turn.interval == *interval) {
            turn.first = turn.first.min(first);
            return;
        }
        self.turns.push(Turn { interval: interval.into(), first });
        let old = self.turns.len().saturating_sub(MAX_TURNS);
        self.turns.drain(..old);
    }

    /// The first batch that an interval told of, if that is remembered.
    pub fn first_of(&self, interval: &str) -> Option<u64> {
        self.turns.iter().find(|turn| *turn.interval == *interval).map(|turn| turn.first)
    }

    /// Whether that batch is one that was told of before.
    pub fn is_again(&self) -> bool {
        self.next_told() < self.size
    }

    /// The record's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(40);
        out.count(self.next);
        out.count(self.size);
        out.count(self.receipts);
        out.optional(self.again, Writer::count);
        out.array(self.turns.iter(), |out, turn| {
            out.string(&turn.interval);
            out.count(turn.first);
        });
        out.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`AvroError`].
    pub fn decode(value: &[u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(value);
        let state = Self {
            next: reader.count()?,
            size: reader.count()?,
            receipts: reader.count()?,
            again: reader.optional(Reader::count)?,
            turns: reader
                .array(|reader| Ok(Turn { interval: reader.string()?.into(), first: reader.count()? }))?,
        };
        reader.end()?;
        Ok(state)
    }
}
