//! Batches as they are kept: in parts, with the rows that grow with them.

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes};
use killick_proof::batch::BatchHeader;
use killick_proof::log::{Log, NodeId};
use killick_proof::statement::Statement;
use killick_proof::{Algorithm, Hash};
use killick_stages::ports::{BatchRecord, CatalogError};
use redb::{AccessGuard, ReadableTable, TableDefinition, WriteTransaction};

use super::places::{self, Entry, PLACES, RUNS, fingerprint};
use super::{
    Bytewise, DAYS, Key, LOGS, NODES, damaged, day_key, decode_log, failed, key, node, numbered, put_bytes,
    take_bytes,
};

/// origin, number → the first [`PART`] of the batch; with the number of a part behind them, from 1 on → that part.
/// An earlier program put batches whole
pub(super) const BATCHES: Bytewise = TableDefinition::new("batches");

/// Bytes of a batch in one row. The store keeps a large row in a page whose size is a power of two: this with its key fits
/// into 64 KiB, and a whole batch would leave a quarter of its page empty as a rule.
pub(super) const PART: usize = (64 << 10) - 512;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A batch as it is written: what can be made of it alone, before it is its turn.
pub(super) struct Prepared {
    origin: Box<str>,
    number: u64,
    algorithm: Algorithm,
    leaf: Hash,
    row: Vec<u8>,
    /// Rows of [`DAYS`].
    days: BTreeSet<Key>,
    /// Ascending.
    entries: Vec<Entry>,
}

impl Prepared {
    pub(super) fn new(batch: &BatchRecord) -> Result<Self, CatalogError> {
        let header = BatchHeader::decode(&batch.header)
            .map_err(|error| refused(&format_args!("has no good header: {error}")))?;
        let origin = header.origin.as_str();
        let algorithm = header.algorithm().ok_or_else(|| refused(&"names an unknown hash"))?;
        let day = i32::try_from(header.first_time.div_euclid(DAY)).map_err(|error| refused(&error))?;
        let mut days = BTreeSet::new();
        let mut entries = Vec::with_capacity(batch.statements.len());
        let mut last_tenant = None;
        for (index, statement) in (0_u64..).zip(&batch.statements) {
            let event = Statement::decode(statement).map_err(|error| refused(&error))?.event;
            let entry = Entry::new(fingerprint(event.tenant, event.source, event.id), index);
            entries.push(entry.ok_or_else(|| refused(&"has more leaves than the index takes"))?);
            if last_tenant != Some(event.tenant) {
                last_tenant = Some(event.tenant);
                days.insert([day_key(event.tenant, day), numbered(origin, header.number)].concat());
            }
        }
        entries.sort_unstable();
        Ok(Self {
            origin: origin.into(),
            number: header.number,
            algorithm,
            leaf: algorithm.leaf(&batch.header),
            row: encode_batch(batch),
            days,
            entries,
        })
    }
}

fn refused(why: &dyn std::fmt::Display) -> CatalogError {
    damaged(&format!("a batch was given that {why}"))
}

pub(super) fn put_batch(write: &WriteTransaction, batch: &Prepared) -> Result<(), CatalogError> {
    let Prepared { origin, number, .. } = batch;
    let batch_key = numbered(origin, *number);
    let mut batches = write.open_table(BATCHES).map_err(failed)?;
    if let Some(stored) = stored_batch(&batches, &batch_key)? {
        let same = stored == batch.row;
        return if same {
            Ok(())
        } else {
            Err(CatalogError::Conflict(format!("batch {number} of {origin}")))
        };
    }
    let mut logs = write.open_table(LOGS).map_err(failed)?;
    let log_key = key(origin);
    let state = logs.get(log_key.as_slice()).map_err(failed)?.map(|state| decode_log(origin, state.value()));
    let mut log = state.unwrap_or_else(|| Ok(Log::new(batch.algorithm)))?;
    if log.size() != *number {
        let size = log.size();
        return Err(CatalogError::Conflict(format!("next batch of {origin}: {size}, and not {number}")));
    }
    let mut made: Vec<(NodeId, [u8; 32])> = Vec::new();
    log.append(batch.leaf, |id, hash| made.push((id, *hash.as_bytes()))).map_err(|error| refused(&error))?;
    let mut nodes = write.open_table(NODES).map_err(failed)?;
    for (id, hash) in made {
        let level = u8::try_from(id.level).map_err(|error| refused(&error))?;
        nodes.insert(node(origin, level, id.index).as_slice(), hash.as_slice()).map_err(failed)?;
    }
    let mut days = write.open_table(DAYS).map_err(failed)?;
    for day in &batch.days {
        days.insert(day.as_slice(), [].as_slice()).map_err(failed)?;
    }
    let mut runs = write.open_table(RUNS).map_err(failed)?;
    let mut places = write.open_table(PLACES).map_err(failed)?;
    places::add(&mut runs, &mut places, &batch_key, &batch.entries)?;
    for (part, bytes) in (0..).zip(batch.row.chunks(PART)) {
        batches.insert(part_key(&batch_key, part).as_slice(), bytes).map_err(failed)?;
    }
    logs.insert(log_key.as_slice(), log.encode().as_slice()).map_err(failed)?;
    Ok(())
}

/// An encoded batch, of its parts.
pub(super) fn stored_batch(
    batches: &impl ReadableTable<&'static [u8], &'static [u8]>,
    batch_key: &[u8],
) -> Result<Option<Vec<u8>>, CatalogError> {
    let mut parts = Vec::new();
    for part in 0.. {
        let Some(row) = batches.get(part_key(batch_key, part).as_slice()).map_err(failed)? else { break };
        let is_full = row.value().len() == PART;
        parts.push(row);
        if !is_full {
            break;
        }
    }
    let parts: Vec<_> = parts.iter().map(AccessGuard::value).collect();
    Ok((!parts.is_empty()).then(|| parts.concat()))
}

/// The key of a part of a batch.
fn part_key(batch_key: &[u8], part: u32) -> Key {
    let mut key = batch_key.to_vec();
    if part > 0 {
        key.put_u32(part);
    }
    key
}

fn encode_batch(batch: &BatchRecord) -> Vec<u8> {
    let size = batch.statements.iter().map(|statement| statement.len() + 8).sum::<usize>() + 1024;
    let mut out = Vec::with_capacity(size);
    put_bytes(&mut out, &batch.header);
    put_bytes(&mut out, &batch.edge);
    put_bytes(&mut out, batch.checkpoint.as_bytes());
    batch.statements.iter().for_each(|statement| put_bytes(&mut out, statement));
    out
}

pub(super) fn decode_batch(mut bytes: Bytes) -> Option<BatchRecord> {
    let header = take_bytes(&mut bytes)?;
    let edge = take_bytes(&mut bytes)?;
    let checkpoint = std::str::from_utf8(&take_bytes(&mut bytes)?).ok()?.into();
    let mut statements = Vec::new();
    while !bytes.is_empty() {
        statements.push(take_bytes(&mut bytes)?);
    }
    Some(BatchRecord { header, statements, edge, checkpoint })
}

/// One statement of an encoded batch.
pub(super) fn statement_of(batch: &[u8], index: u64) -> Option<Statement<'_>> {
    let mut rest = batch;
    for _ in 0..3 + index {
        rest = take_part(rest)?.1;
    }
    Statement::decode(take_part(rest)?.0).ok()
}

/// The first part of an encoded batch, and what is behind it.
fn take_part(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = from.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}
