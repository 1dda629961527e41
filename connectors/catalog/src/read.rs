//! Reading. What a put has not finished is not seen: a batch is there when the state of its log says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use futures::try_join;
use killick_proof::Hash;
use killick_proof::log::Log;
use killick_proof::origin::Origin;
use killick_stages::ports::{AnchorRecord, BatchRecord, CatalogError, Place};
use killick_stages::series::OWN;

use crate::given::event_key;
use crate::link::Open;
use crate::settings::Class;
use crate::side::{RUN, SPAN, Side, damaged, signed};
use crate::tiles::{self, Tile, TileId};

/// Bytes in the longest origin and the longest tenant: no row is kept under a longer name.
const LONGEST: usize = 256;
/// A log as it is stored: its tree, and how far it is anchored in the own series and in each other one.
type StoredLog = (Option<Bytes>, Option<i64>, Option<BTreeMap<String, i64>>);
/// Parts of a batch as they are stored: its number, their count, its bytes.
type Part = (i16, Option<i16>, Option<Bytes>);

/// What the catalog knows of a log as a whole.
#[derive(Debug, Default)]
pub struct LogRow {
    /// The state of its tree, if it has batches.
    pub log: Option<Log>,
    /// The size of its largest checkpoint that is anchored in the deployment's own series; 0 for none.
    pub anchored: u64,
    /// The same of each other series, by its name.
    pub series: BTreeMap<Box<str>, u64>,
}

impl Side {
    /// The state of a log, if it has batches.
    pub async fn log(&self, open: &Arc<Open>, origin: &str) -> Result<Option<Log>, CatalogError> {
        Ok(self.log_row(open, origin).await?.log)
    }

    /// What there is of a log; nothing of one that is not known.
    pub async fn log_row(&self, open: &Arc<Open>, origin: &str) -> Result<LogRow, CatalogError> {
        if !is_name(origin) {
            return Ok(LogRow::default());
        }
        let rows: Vec<StoredLog> = self.link.read(open, &open.statements.log, (origin,), 1).await?;
        let Some((tree, anchored, series)) = rows.into_iter().next() else { return Ok(LogRow::default()) };
        let log = tree.map(|tree| {
            Log::decode(&tree).map_err(|error| damaged(format!("the tree of {origin}: {error}")))
        });
        let log = log.transpose()?;
        if let Some(log) = &log {
            self.know_size(origin, log.size());
        }
        let size = |size: i64| u64::try_from(size).unwrap_or(0);
        let series = series.unwrap_or_default().into_iter();
        Ok(LogRow {
            log,
            anchored: size(anchored.unwrap_or(0)),
            series: series.map(|(name, anchored)| (name.into(), size(anchored))).collect(),
        })
    }

    /// Whether a batch is complete.
    async fn has(&self, open: &Arc<Open>, origin: &str, number: u64) -> Result<bool, CatalogError> {
        if self.is_known(origin, number) {
            return Ok(true);
        }
        Ok(self.log(open, origin).await?.is_some_and(|log| number < log.size()))
    }

    /// The leaf hash that claims a number, whether its batch is complete or not.
    pub async fn leaf(
        &self,
        open: &Arc<Open>,
        origin: &str,
        number: u64,
    ) -> Result<Option<Hash>, CatalogError> {
        let Some(span) = tiles::span(origin, 0, number) else { return Ok(None) };
        let position = i16::try_from(span.positions.start).unwrap_or(i16::MAX);
        let key = (origin, span.id.level, span.id.tile, position);
        let rows: Vec<(Option<Bytes>,)> = self.link.read(open, &open.statements.hash, key, 1).await?;
        rows.into_iter().next().map(|(hash,)| stored_hash(origin, hash)).transpose()
    }

    /// Reads a tile.
    pub async fn read_tile(&self, open: &Arc<Open>, id: &TileId) -> Result<Tile, CatalogError> {
        let key = (&*id.origin, id.level, id.tile);
        let rows: Vec<(i16, Option<Bytes>)> =
            self.link.read(open, &open.statements.tile, key, usize::MAX).await?;
        let mut tile = Tile::default();
        for (position, hash) in rows {
            tile.put(usize::try_from(position).unwrap_or(usize::MAX), stored_hash(&id.origin, hash)?);
        }
        Ok(tile)
    }

    pub async fn origins(&self) -> Result<Vec<Box<str>>, CatalogError> {
        let open = self.link.open().await?;
        let rows: Vec<(String, Option<Bytes>)> =
            self.link.read(&open, &open.statements.logs, (), usize::MAX).await?;
        // A log that has an anchor and no batches yet is none.
        let mut origins: Vec<Box<str>> =
            rows.into_iter().filter_map(|(origin, tree)| tree.map(|_| origin.into())).collect();
        origins.sort_unstable();
        Ok(origins)
    }

    pub async fn log_size(&self, origin: &str) -> Result<u64, CatalogError> {
        let open = self.link.open().await?;
        Ok(self.log(&open, origin).await?.map_or(0, |log| log.size()))
    }

    pub async fn batch(&self, origin: &str, number: u64) -> Result<Option<BatchRecord>, CatalogError> {
        if !is_name(origin) {
            return Ok(None);
        }
        let open = self.link.open().await?;
        let (has, batch) =
            try_join!(self.has(&open, origin, number), self.stored_batch(&open, origin, number))?;
        Ok(batch.filter(|_| has))
    }

    /// A batch as it is stored, whether it may be seen or not. Which class it was stored under is not asked: the
    /// configuration may have been another then.
    pub async fn stored_batch(
        &self,
        open: &Arc<Open>,
        origin: &str,
        number: u64,
    ) -> Result<Option<BatchRecord>, CatalogError> {
        let Ok(key) = signed(number) else { return Ok(None) };
        let classes = Class::ALL.map(|class| async move {
            let statement = &open.statements.of(class).batch;
            self.link.read::<Part>(open, statement, (origin, key), usize::MAX).await
        });
        let classes = try_join_all(classes).await?;
        // Parts expire at the same instant, and a put that was cut off leaves some: neither is damage.
        let Some(parts) = classes.into_iter().find(|parts| is_whole(parts)) else { return Ok(None) };
        let mut whole = BytesMut::new();
        for (_, _, content) in parts {
            whole.extend_from_slice(&content.unwrap_or_default());
        }
        let batch = BatchRecord::decode(&whole.freeze());
        batch.map(Some).map_err(|error| damaged(format!("batch {number} of {origin}: {error}")))
    }

    pub async fn log_hash(
        &self,
        origin: &str,
        level: u8,
        index: u64,
    ) -> Result<Option<[u8; 32]>, CatalogError> {
        let algorithm = Origin::parse(origin).ok().and_then(|origin| origin.algorithm());
        let (Some(algorithm), Some(span)) = (algorithm, tiles::span(origin, level, index)) else {
            return Ok(None);
        };
        let last = (index << level) | ((1_u64 << level) - 1);
        let open = self.link.open().await?;
        if !self.has(&open, origin, last).await? {
            return Ok(None);
        }
        let mut hash = self.tiles.root(algorithm, &span);
        if hash.is_none() {
            let tile = self.read_tile(&open, &span.id).await?;
            hash = tile.root(algorithm, span.positions);
            self.tiles.keep(span.id, tile);
        }
        match hash {
            Some(hash) => Ok(Some(*hash.as_bytes())),
            None => Err(damaged(format!("hash {index} of level {level} of {origin} is missing"))),
        }
    }

    pub async fn anchors_of(&self, origin: &str, number: u64) -> Result<Vec<AnchorRecord>, CatalogError> {
        let open = self.link.open().await?;
        let row = self.log_row(&open, origin).await?;
        let Ok(after) = signed(number) else { return Ok(Vec::new()) };
        let open = &open;
        // Side by side: they do not wait for each other.
        let covering = row.series.iter().filter(|(_, largest)| number < **largest);
        let others = covering.map(|(series, _)| async move {
            let key = (origin, &**series, after);
            let sizes: Vec<(i64,)> = self.link.read(open, &open.statements.series.anchored, key, 1).await?;
            let Some((size,)) = sizes.first() else { return Ok(Vec::new()) };
            self.anchors_at(open, origin, series, *size).await
        });
        let (mut anchors, others) =
            try_join!(self.own_anchors_of(open, origin, number, row.anchored), try_join_all(others))?;
        anchors.extend(others.into_iter().flatten());
        Ok(anchors)
    }

    /// The anchors of the deployment's own series, of which the largest checkpoint has that size.
    async fn own_anchors_of(
        &self,
        open: &Arc<Open>,
        origin: &str,
        number: u64,
        largest: u64,
    ) -> Result<Vec<AnchorRecord>, CatalogError> {
        if number >= largest {
            return Ok(Vec::new());
        }
        for span in number.saturating_add(1) / SPAN..=largest / SPAN {
            let key = (origin, signed(span)?, signed(number)?);
            let sizes: Vec<(i64,)> = self.link.read(open, &open.statements.anchored, key, 1).await?;
            if let Some((size,)) = sizes.first() {
                return self.anchors_at(open, origin, OWN, *size).await;
            }
        }
        Ok(Vec::new())
    }

    async fn anchors_at(
        &self,
        open: &Arc<Open>,
        origin: &str,
        series: &str,
        size: i64,
    ) -> Result<Vec<AnchorRecord>, CatalogError> {
        let statements = &open.statements;
        let rows: Vec<(Option<String>, Option<Bytes>, Bytes)> = if series == OWN {
            self.link.read(open, &statements.anchors, (origin, size), usize::MAX).await?
        } else {
            self.link.read(open, &statements.series.anchors, (origin, series, size), usize::MAX).await?
        };
        // Several that put the same at once may have given it several ranks.
        let mut seen = BTreeSet::new();
        let anchor = |(checkpoint, anchor, digest): (Option<String>, Option<Bytes>, Bytes)| {
            seen.insert(digest).then(|| {
                let (Some(checkpoint), Some(anchor)) = (checkpoint, anchor) else {
                    return Err(damaged(format!("an anchor of {origin} at {size} is not whole")));
                };
                let size = u64::try_from(size).map_err(|_| damaged("the size of an anchor"))?;
                let checkpoint = checkpoint.into();
                Ok(AnchorRecord { origin: origin.into(), series: series.into(), size, checkpoint, anchor })
            })
        };
        rows.into_iter().filter_map(anchor).collect()
    }

    pub async fn find(&self, tenant: &str, source: &str, id: &str) -> Result<Vec<Place>, CatalogError> {
        let open = self.link.open().await?;
        let event = event_key(tenant, source, id);
        // All classes: the tenant's may have been another once, and a second place shows nowhere else.
        let classes = Class::ALL.map(|class| {
            let (open, event) = (&open, event.as_slice());
            async move {
                let statement = &open.statements.of(class).events;
                self.link.read::<(String, i64, i32)>(open, statement, (event,), 16).await
            }
        });
        let mut places = BTreeSet::new();
        for (origin, number, leaf) in try_join_all(classes).await?.into_iter().flatten() {
            let (Ok(number), Ok(index)) = (u64::try_from(number), u64::try_from(leaf)) else {
                return Err(damaged(format!("the place of an event in {origin}")));
            };
            if self.has(&open, &origin, number).await? {
                places.insert(Place { origin: origin.into(), number, index });
            }
        }
        Ok(places.into_iter().collect())
    }

    pub async fn list(
        &self,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, u64)>, CatalogError> {
        if !is_name(tenant) || limit == 0 {
            return Ok(Vec::new());
        }
        let open = self.link.open().await?;
        let mut listed = Vec::new();
        let mut sizes: HashMap<Box<str>, u64> = HashMap::new();
        for ((origin, run), classes) in self.runs(&open, tenant, day, after).await? {
            let size = match sizes.get(&origin) {
                Some(size) => *size,
                None => {
                    let size = self.log(&open, &origin).await?.map_or(0, |log| log.size());
                    *sizes.entry(origin.clone()).or_insert(size)
                }
            };
            let behind = after
                .filter(|(last, _)| *last == origin)
                .map_or(-1, |(_, number)| i64::try_from(*number).unwrap_or(i64::MAX));
            let left = limit - listed.len();
            let (origin_text, open) = (&*origin, &open);
            let numbers = classes.into_iter().map(|class| async move {
                let key = (tenant, day, origin_text, run, behind);
                self.link.read::<(i64,)>(open, &open.statements.of(class).run, key, left).await
            });
            let numbers: BTreeSet<i64> =
                try_join_all(numbers).await?.into_iter().flatten().map(|(number,)| number).collect();
            let complete = numbers.into_iter().filter_map(|number| u64::try_from(number).ok());
            let complete = complete.filter(|number| *number < size).take(left);
            listed.extend(complete.map(|number| (origin.clone(), number)));
            if listed.len() == limit {
                break;
            }
        }
        Ok(listed)
    }

    /// The runs of a day in order, from that of `after` on, and the classes that have it.
    async fn runs(
        &self,
        open: &Arc<Open>,
        tenant: &str,
        day: i32,
        after: Option<&(Box<str>, u64)>,
    ) -> Result<BTreeMap<(Box<str>, i64), Vec<Class>>, CatalogError> {
        let from = match after {
            Some((origin, number)) => Some((&**origin, signed(number / RUN)?)),
            None => None,
        };
        let classes = Class::ALL.map(|class| async move {
            let statements = open.statements.of(class);
            match from {
                Some((origin, run)) => {
                    let key = (tenant, day, origin, run);
                    self.link.read::<(String, i64)>(open, &statements.days_from, key, usize::MAX).await
                }
                None => self.link.read(open, &statements.days, (tenant, day), usize::MAX).await,
            }
        });
        let mut runs: BTreeMap<_, Vec<Class>> = BTreeMap::new();
        for (class, rows) in Class::ALL.into_iter().zip(try_join_all(classes).await?) {
            for (origin, run) in rows {
                runs.entry((origin.into_boxed_str(), run)).or_default().push(class);
            }
        }
        Ok(runs)
    }
}

/// Whether a row can be kept under that name.
fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
}

/// Whether all parts of a batch are there, in order.
fn is_whole(parts: &[Part]) -> bool {
    let count = parts.first().and_then(|(_, count, _)| *count);
    let follows =
        |(place, (part, of, content)): (i16, &Part)| *part == place && *of == count && content.is_some();
    count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| count == parts.len()))
        && (0..).zip(parts).all(follows)
}

fn stored_hash(origin: &str, hash: Option<Bytes>) -> Result<Hash, CatalogError> {
    hash.and_then(|hash| Hash::from_slice(&hash)).ok_or_else(|| damaged(format!("a hash of {origin}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_whole_when_every_part_is_there_in_its_place() {
        let part = |part, parts| (part, Some(parts), Some(Bytes::from_static(b"x")));
        assert!(is_whole(&[part(0, 1)]));
        assert!(is_whole(&[part(0, 2), part(1, 2)]));
        for parts in [
            vec![],
            vec![part(0, 2)],
            vec![part(1, 2)],
            vec![part(0, 2), part(1, 3)],
            vec![part(0, 1), part(1, 1)],
            vec![(0, None, Some(Bytes::new()))],
            vec![(0, Some(1), None)],
            vec![part(1, 2), part(2, 2)],
        ] {
            assert!(!is_whole(&parts), "{parts:?}");
        }
    }
}
