//! Writing.
//!
//! A batch is written in three steps, each durable before the next: its leaf hash in the log's tree, which claims the
//! number for this batch and no other; its parts, the places of its events and its days, in any order and side by side;
//! and then the state of its log. Only the last step lets it be seen, and after a crash anywhere before it the same put
//! writes the same rows again. So nothing here needs a transaction, a lock, or a lightweight transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use futures::{TryFutureExt as _, try_join};
use killick_proof::Hash;
use killick_proof::log::Log;
use killick_stages::ports::{AnchorRecord, BatchRecord, CatalogError};
use killick_stages::record::Micros;
use killick_stages::series::{MAX_SERIES, OWN};

use crate::error::Error;
use crate::given::{DAY, GivenBatch, check_anchor, parts};
use crate::link::Open;
use crate::settings::Class;
use crate::side::{DayRow, RUN, SPAN, Side, damaged, signed};
use crate::statements::{TOGETHER, unlogged};
use crate::tiles::{self, TileId, WIDTH};

/// The columns of an event, its time of writing, and its time to live.
type EventRow<'a> = (&'a [u8], &'a str, i64, i32, i64, i32);

/// What is written in any order with the rest of its batch.
enum Row<'a> {
    Part(i16, i16, Bytes),
    Events(Class, Vec<EventRow<'a>>),
    Day(&'a str, Class),
    Hash(u8, u64, Hash),
}

impl Side {
    /// Writes a batch. One that the log has is left as it is, unless it is to be written `again` or cannot be read.
    pub async fn put_batch(&self, batch: &BatchRecord, again: bool) -> Result<(), CatalogError> {
        let given = GivenBatch::of(batch, self.link.settings())?;
        let (origin, number) = (given.origin, given.number);
        let other = || CatalogError::Conflict(format!("batch {number} of {origin}"));
        let open = self.link.open().await?;
        let (log, claimed) = try_join!(self.log(&open, origin), self.leaf(&open, origin, number))?;
        let mut log = log.unwrap_or_else(|| Log::new(given.algorithm));
        if number > log.size() {
            let size = log.size();
            return Err(CatalogError::Conflict(format!("next batch of {origin}: {size}, and not {number}")));
        }
        if claimed.is_some_and(|claimed| claimed != given.leaf) {
            return Err(other());
        }
        if number < log.size() {
            let stored = self.stored_batch(&open, origin, number).await?;
            if stored.as_ref().is_some_and(|stored| stored != batch) {
                return Err(other());
            }
            if stored.is_none() || again {
                self.put_rows(&open, &given, batch, Vec::new()).await?;
                self.put_above(&open, &given).await?;
            }
            return Ok(());
        }
        let mut above = Vec::new();
        log.append(given.leaf, |id, hash| {
            let level = u8::try_from(id.level).unwrap_or(u8::MAX);
            if level > 0 && tiles::is_stored(level) {
                above.push(Row::Hash(level, id.index, hash));
            }
        })
        .map_err(|error| damaged(format!("a batch was given beyond its log: {error}")))?;
        self.put_rows(&open, &given, batch, above).await?;
        let row = (origin, log.encode(), signed(log.size())?);
        self.link.write(&open, &open.statements.put_log, row).await?;
        self.know_size(origin, log.size());
        Ok(())
    }

    /// The first two steps of three.
    async fn put_rows(
        &self,
        open: &Arc<Open>,
        given: &GivenBatch<'_>,
        batch: &BatchRecord,
        mut rows: Vec<Row<'_>>,
    ) -> Result<(), CatalogError> {
        let now = now();
        rows.extend(parts(batch)?.into_iter().map(|(part, parts, content)| Row::Part(part, parts, content)));
        rows.extend(given.tenants.iter().map(|(tenant, class)| Row::Day(tenant, *class)));
        rows.extend(self.events(open, given, now)?);
        self.put_row(open, given, now, Row::Hash(0, given.number, given.leaf)).await?;
        stream::iter(rows)
            .map(|row| self.put_row(open, given, now, row))
            .buffer_unordered(self.link.settings().in_flight)
            .try_collect::<()>()
            .await
    }

    /// The rows of the events, in groups that one request takes to nodes that keep all of them.
    fn events<'g>(
        &self,
        open: &Open,
        given: &'g GivenBatch<'_>,
        now: Micros,
    ) -> Result<Vec<Row<'g>>, CatalogError> {
        let number = signed(given.number)?;
        let cluster = open.session.get_cluster_state();
        let keyspace = self.link.settings().keyspace.as_str();
        let datacenter = self.link.settings().datacenter.as_str();
        let mut groups: HashMap<_, Vec<EventRow<'g>>> = HashMap::new();
        for (class, event, leaf) in &given.events {
            let Some(expiry) = time_to_live(*class, given.first_time, now) else { continue };
            let row = (event.as_slice(), given.origin, number, *leaf, given.last_time, expiry);
            let statement = &open.statements.of(*class).put_event;
            let token =
                statement.calculate_token(&row).map_err(|error| CatalogError::Failed(error.into()))?;
            let table = statement.get_table_name().unwrap_or_default();
            let replicas =
                token.map(|token| cluster.get_token_endpoints(keyspace, table, token)).unwrap_or_default();
            let shard = replicas.first().map(|(_, shard)| *shard);
            let local = replicas.iter().filter(|(node, _)| node.datacenter.as_deref() == Some(datacenter));
            let mut nodes: Vec<_> = local.map(|(node, _)| node.host_id).collect();
            nodes.sort_unstable();
            groups.entry((*class, shard, nodes)).or_default().push(row);
        }
        let groups = groups.into_iter().flat_map(|((class, ..), rows)| {
            let chunks: Vec<_> =
                rows.chunks(TOGETHER).map(|rows| Row::Events(class, rows.to_vec())).collect();
            chunks
        });
        Ok(groups.collect())
    }

    async fn put_row(
        &self,
        open: &Arc<Open>,
        given: &GivenBatch<'_>,
        now: Micros,
        row: Row<'_>,
    ) -> Result<(), CatalogError> {
        let (origin, number, time) = (given.origin, signed(given.number)?, given.last_time);
        match row {
            Row::Part(part, parts, content) => {
                let Some(expiry) = time_to_live(given.class, given.first_time, now) else { return Ok(()) };
                let statement = &open.statements.of(given.class).put_part;
                let row = (origin, number, part, parts, content, time, expiry);
                self.link.write(open, statement, row).await?;
            }
            Row::Events(class, rows) => self.put_events(open, class, &rows).await?,
            Row::Day(tenant, class) => {
                let Some(expiry) = time_to_live(class, given.first_time, now) else { return Ok(()) };
                let run = signed(given.number / RUN)?;
                self.put_day(open, given, now, tenant, class).await?;
                let row = (tenant, given.day, origin, run, number, time, expiry);
                self.link.write(open, &open.statements.of(class).put_run, row).await?;
            }
            Row::Hash(level, index, hash) => {
                let Some(span) = tiles::span(origin, level, index) else {
                    return Err(damaged(format!("batch {number} of {origin} is beyond every log")));
                };
                let position = i16::try_from(span.positions.start).unwrap_or(i16::MAX);
                let row = (origin, span.id.level, span.id.tile, position, hash.as_bytes().as_slice(), time);
                self.link.write(open, &open.statements.put_hash, row).await?;
            }
        }
        Ok(())
    }

    async fn put_events(&self, open: &Arc<Open>, class: Class, rows: &[EventRow<'_>]) -> Result<(), Error> {
        let statements = open.statements.of(class);
        let statement = &statements.put_event;
        match rows {
            [row] => self.link.write(open, statement, row).await,
            rows if rows.len() == TOGETHER => {
                self.link.write_batch(open, statement.get_statement(), &statements.put_events, rows).await
            }
            rows => {
                let batch = unlogged(statement, rows.len());
                self.link.write_batch(open, statement.get_statement(), &batch, rows).await
            }
        }
    }

    /// Lists the run of a batch on its day. The row is a function of its key alone, so that whoever writes it writes the
    /// same, and it lives as long as the last batch of the day may.
    async fn put_day(
        &self,
        open: &Arc<Open>,
        given: &GivenBatch<'_>,
        now: Micros,
        tenant: &str,
        class: Class,
    ) -> Result<(), CatalogError> {
        let run = signed(given.number / RUN)?;
        let row = DayRow { class, tenant: tenant.into(), day: given.day, origin: given.origin.into(), run };
        if self.is_listed(&row) {
            return Ok(());
        }
        let begin = Micros::from(given.day) * DAY;
        let Some(expiry) = time_to_live(class, begin + DAY, now) else { return Ok(()) };
        let values = (tenant, given.day, given.origin, run, begin, expiry);
        self.link.write(open, &open.statements.of(class).put_day, values).await?;
        self.know_listed(row);
        Ok(())
    }

    /// Writes what stands above the tiles that this batch completed, from what stands in them.
    async fn put_above(&self, open: &Arc<Open>, given: &GivenBatch<'_>) -> Result<(), CatalogError> {
        let mut count = given.number + 1;
        for level in 1.. {
            if !count.is_multiple_of(WIDTH) {
                break;
            }
            count /= WIDTH;
            let below = TileId { origin: given.origin.into(), level: level - 1, tile: signed(count - 1)? };
            let tile = self.read_tile(open, &below).await?;
            if let Some(hash) = tile.root(given.algorithm, 0..256) {
                let row = Row::Hash(8 * level.unsigned_abs(), count - 1, hash);
                self.put_row(open, given, now(), row).await?;
            }
        }
        Ok(())
    }

    /// See [`killick_stages::ports::Catalog::put_anchor`]. Its row comes before the row that lets it be found.
    pub async fn put_anchor(&self, anchor: &AnchorRecord) -> Result<(), CatalogError> {
        let digest = check_anchor(anchor)?;
        if &*anchor.series != OWN {
            return self.put_series_anchor(anchor, digest).await;
        }
        let (origin, size) = (&*anchor.origin, signed(anchor.size)?);
        let open = self.link.open().await?;
        let known: Vec<(i32, Bytes)> =
            self.link.read(&open, &open.statements.ranks, (origin, size), usize::MAX).await?;
        let (rank, digest) = (rank_of(&known, &digest), digest.as_slice());
        let row = (origin, size, rank, digest, &*anchor.checkpoint, &anchor.anchor, size);
        self.link.write(&open, &open.statements.put_anchor, row).await?;
        let row = (origin, signed(anchor.size / SPAN)?, size, size);
        self.link.write(&open, &open.statements.put_anchored, row).await?;
        // The largest wins, since its time of writing is itself.
        self.link.write(&open, &open.statements.put_log_anchored, (origin, size, size)).await?;
        Ok(())
    }

    /// The same in a series that was made later, elsewhere.
    async fn put_series_anchor(&self, anchor: &AnchorRecord, digest: [u8; 32]) -> Result<(), CatalogError> {
        let (origin, series, size) = (&*anchor.origin, &*anchor.series, signed(anchor.size)?);
        let open = self.link.open().await?;
        let statements = &open.statements.series;
        let key = (origin, series, size);
        let (row, known) = try_join!(
            self.log_row(&open, origin),
            self.link.read::<(i32, Bytes)>(&open, &statements.ranks, key, usize::MAX).map_err(Into::into),
        )?;
        if row.series.len() >= MAX_SERIES && !row.series.contains_key(series) {
            return Err(damaged(format!(
                "an anchor of {origin} was given in the series {series}: it has {MAX_SERIES} series"
            )));
        }
        let (rank, digest) = (rank_of(&known, &digest), digest.as_slice());
        let row = (origin, series, size, rank, digest, &*anchor.checkpoint, &anchor.anchor, size);
        self.link.write(&open, &statements.put_anchor, row).await?;
        self.link.write(&open, &statements.put_anchored, (origin, series, size, size)).await?;
        self.link.write(&open, &statements.put_log, (size, series, size, origin)).await?;
        Ok(())
    }
}

/// The rank of an anchor beside those that are known of its checkpoint. In the order in which they came: the oldest is
/// the first.
fn rank_of(known: &[(i32, Bytes)], digest: &[u8; 32]) -> i32 {
    let own = known.iter().find(|(_, known)| **known == digest[..]).map(|(rank, _)| *rank);
    own.unwrap_or_else(|| known.last().map_or(0, |(rank, _)| rank.saturating_add(1)))
}

/// Microseconds since 1970 by this machine's clock: only for how long rows still have to live.
fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// The seconds that a row of that class still has, counted from log time, so that writing it again does not prolong its
/// life; 0 for ever, `None` if its time is over.
fn time_to_live(class: Class, from: Micros, now: Micros) -> Option<i32> {
    let Some(span) = class.span() else { return Some(0) };
    let left = from.saturating_add(span.micros()).saturating_sub(now);
    // A day more than the class where a day's listing outlives its first batch.
    let left = left.min(span.micros() + DAY);
    i32::try_from(left.div_euclid(1_000_000)).ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_die_when_their_class_says_however_often_they_are_written() {
        let day = 86_400;
        assert_eq!(time_to_live(Class::Forever, 0, Micros::MAX), Some(0));
        assert_eq!(time_to_live(Class::Days30, 5 * DAY, 5 * DAY), Some(30 * day));
        assert_eq!(time_to_live(Class::Days30, 5 * DAY, 34 * DAY), Some(day));
        assert_eq!(time_to_live(Class::Days30, 5 * DAY, 35 * DAY), None);
        assert_eq!(time_to_live(Class::Days30, 5 * DAY, Micros::MAX), None);
        assert_eq!(time_to_live(Class::Days30, Micros::MIN, 0), None);
        assert_eq!(
            time_to_live(Class::Years7, Micros::MAX, 0),
            Some((7 * 365 + 1) * day),
            "a clock far ahead"
        );
    }
}
