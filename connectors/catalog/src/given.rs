//! What is given to be stored, taken apart and checked before a row is written.

use std::collections::BTreeMap;

use bytes::Bytes;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;
use killick_proof::statement::Statement;
use killick_proof::{Algorithm, Hash};
use killick_stages::ports::{AnchorRecord, BatchRecord, CatalogError};
use killick_stages::record::Micros;
use killick_stages::series::{OWN, is_series_name};
use sha2::{Digest as _, Sha256};

use crate::settings::{Class, Settings};

/// Bytes in a part of a batch: no cell is larger, and none is a burden to either server. Written batches are cut so: it
/// changes only with a migration.
pub const PART: usize = 64 << 10;
/// Microseconds of a day.
pub const DAY: Micros = 86_400_000_000;

/// A batch to be stored.
pub struct GivenBatch<'a> {
    /// Its log's origin.
    pub origin: &'a str,
    /// Its number in the log.
    pub number: u64,
    /// The log's hash.
    pub algorithm: Algorithm,
    /// Its leaf hash in the log.
    pub leaf: Hash,
    /// When the log took its first event.
    pub first_time: Micros,
    /// When the log took its last event: what its rows bear.
    pub last_time: Micros,
    /// The UTC day of its first event, in days since 1970.
    pub day: i32,
    /// The class of the batch itself: the longest of its tenants'.
    pub class: Class,
    /// Each tenant and its class.
    pub tenants: BTreeMap<&'a str, Class>,
    /// Each event's class, key and leaf index.
    pub events: Vec<(Class, [u8; 32], i32)>,
}

impl<'a> GivenBatch<'a> {
    /// Takes a batch apart.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if it is none.
    pub fn of(batch: &'a BatchRecord, settings: &Settings) -> Result<Self, CatalogError> {
        let refused =
            |why: &dyn std::fmt::Display| CatalogError::Damaged(format!("a batch was given that {why}"));
        let header = BatchHeader::decode(&batch.header)
            .map_err(|error| refused(&format!("has no good header: {error}")))?;
        let algorithm = header.algorithm().ok_or_else(|| refused(&"names an unknown hash"))?;
        let mut tenants = BTreeMap::new();
        let mut events = Vec::with_capacity(batch.statements.len());
        for (index, statement) in (0_i32..).zip(&batch.statements) {
            let event = Statement::decode(statement)
                .map_err(|error| refused(&format!("has no good statement {index}: {error}")))?
                .event;
            let class = *tenants.entry(event.tenant).or_insert_with(|| settings.class_of(event.tenant));
            events.push((class, event_key(event.tenant, event.source, event.id), index));
        }
        let class = tenants.values().max().ok_or_else(|| refused(&"has no statements"))?;
        Ok(Self {
            origin: header.origin.as_str(),
            number: header.number,
            algorithm,
            leaf: algorithm.leaf(&batch.header),
            first_time: header.first_time,
            last_time: header.last_time,
            day: i32::try_from(header.first_time.div_euclid(DAY)).map_err(|error| refused(&error))?,
            class: *class,
            tenants,
            events,
        })
    }
}

/// The parts of a batch: its record of `batches`, cut.
///
/// # Errors
/// [`CatalogError::Damaged`] if they are more than can be counted.
pub fn parts(batch: &BatchRecord) -> Result<Vec<(i16, i16, Bytes)>, CatalogError> {
    let mut whole = batch.encode();
    let count = i16::try_from(whole.len().div_ceil(PART));
    let count =
        count.map_err(|_| CatalogError::Damaged(format!("a batch was given of {} bytes", whole.len())))?;
    Ok((0..count).map(|part| (part, count, whole.split_to(PART.min(whole.len())))).collect())
}

/// The key of an event: the SHA-256 of tenant, source and id, each after its length in 8 bytes, big-endian. So a key has
/// a bounded length whatever the names are, and names cannot be shifted into one another.
pub fn event_key(tenant: &str, source: &str, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for name in [tenant, source, id] {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
    }
    hash.finalize().into()
}

/// Checks an anchor: it is read back under what its checkpoint says of itself. Returns the digest that it is told by.
///
/// # Errors
/// [`CatalogError::Damaged`] if it is none.
pub fn check_anchor(anchor: &AnchorRecord) -> Result<[u8; 32], CatalogError> {
    let refused = |why: &dyn std::fmt::Display| {
        CatalogError::Damaged(format!(
            "an anchor of {} at {} was given whose checkpoint {why}",
            anchor.origin, anchor.size
        ))
    };
    let (origin, series) = (&anchor.origin, &*anchor.series);
    if series != OWN && !is_series_name(series) {
        let why = format!("an anchor of {origin} was given in a series named {series:?}");
        return Err(CatalogError::Damaged(why));
    }
    let note = Note::parse(&anchor.checkpoint).map_err(|error| refused(&format!("is no note: {error}")))?;
    let named = Checkpoint::parse(note.text()).map_err(|error| refused(&format!("is none: {error}")))?;
    if (named.origin, named.size) != (&*anchor.origin, anchor.size) {
        return Err(refused(&format!("is of {} at {}", named.origin, named.size)));
    }
    let mut hash = Sha256::new();
    for bytes in [anchor.checkpoint.as_bytes(), &anchor.anchor] {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().into())
}
