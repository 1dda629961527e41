//! The statements, prepared once a session. All of them can be repeated, and say so to the driver.

use std::time::Duration;

use futures::try_join;
use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use crate::error::Error;
use crate::settings::{Class, Settings};

/// Rows of different partitions in one request: as many as Cassandra takes without a warning, and far below the sizes
/// at which either server warns.
pub const TOGETHER: usize = 10;

/// Statements about all classes.
pub struct Statements {
    pub log: PreparedStatement,
    pub logs: PreparedStatement,
    pub put_log: PreparedStatement,
    pub put_log_anchored: PreparedStatement,
    pub tile: PreparedStatement,
    pub hash: PreparedStatement,
    pub put_hash: PreparedStatement,
    pub anchored: PreparedStatement,
    pub put_anchored: PreparedStatement,
    pub anchors: PreparedStatement,
    pub ranks: PreparedStatement,
    pub put_anchor: PreparedStatement,
    pub series: SeriesStatements,
    classes: [OfClass; Class::ALL.len()],
}

/// Statements about the anchors of a series that was made later, elsewhere.
pub struct SeriesStatements {
    pub put_log: PreparedStatement,
    pub anchored: PreparedStatement,
    pub put_anchored: PreparedStatement,
    pub anchors: PreparedStatement,
    pub ranks: PreparedStatement,
    pub put_anchor: PreparedStatement,
}

/// Statements about one class.
pub struct OfClass {
    pub batch: PreparedStatement,
    pub put_part: PreparedStatement,
    pub events: PreparedStatement,
    pub put_event: PreparedStatement,
    /// [`TOGETHER`] times `put_event`.
    pub put_events: Batch,
    pub days: PreparedStatement,
    pub days_from: PreparedStatement,
    pub put_day: PreparedStatement,
    pub run: PreparedStatement,
    pub put_run: PreparedStatement,
}

/// Makes statements.
struct Preparer<'a> {
    session: &'a Session,
    settings: &'a Settings,
}

impl Preparer<'_> {
    async fn statement(&self, text: &str, timeout: Duration) -> Result<PreparedStatement, Error> {
        let failed = |error: scylla::errors::PrepareError| Error::Request {
            statement: text.to_owned(),
            why: error.to_string(),
        };
        let mut statement = self.session.prepare(text).await.map_err(failed)?;
        statement.set_is_idempotent(true);
        statement.set_request_timeout(Some(timeout));
        Ok(statement)
    }

    /// `SELECT columns FROM keyspace.table WHERE …`, that many rows a page.
    async fn read(
        &self,
        columns: &str,
        table: &str,
        rest: &str,
        page: i32,
    ) -> Result<PreparedStatement, Error> {
        let text = format!("SELECT {columns} FROM {}.{table} {rest}", self.settings.keyspace);
        let mut statement = self.statement(&text, self.settings.read_timeout.duration()).await?;
        statement.set_page_size(page);
        Ok(statement)
    }

    /// `INSERT INTO keyspace.table (columns) VALUES (…) USING TIMESTAMP ?`, with a time to live where rows expire.
    async fn put(&self, table: &str, columns: &str, expires: bool) -> Result<PreparedStatement, Error> {
        let marks = columns.split(',').map(|_| "?").collect::<Vec<_>>().join(", ");
        let expiry = if expires { " AND TTL ?" } else { "" };
        let keyspace = &self.settings.keyspace;
        let text =
            format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP ?{expiry}");
        self.statement(&text, self.settings.write_timeout.duration()).await
    }

    async fn series(&self) -> Result<SeriesStatements, Error> {
        let checkpoint = "WHERE origin = ? AND series = ? AND size = ?";
        // One entry of the map, which has its own time of writing as a column has.
        let keyspace = &self.settings.keyspace;
        let put_log = format!("UPDATE {keyspace}.logs USING TIMESTAMP ? SET series[?] = ? WHERE origin = ?");
        let behind = "WHERE origin = ? AND series = ? AND size > ? LIMIT 1";
        let (put_log, anchored, put_anchored, anchors, ranks, put_anchor) = try_join!(
            self.statement(&put_log, self.settings.write_timeout.duration()),
            self.read("size", "series_anchored", behind, 1),
            self.put("series_anchored", "origin, series, size", false),
            self.read("checkpoint, anchor, digest", "series_anchors", checkpoint, 32),
            self.read("rank, digest", "series_anchors", checkpoint, 1_000),
            self.put("series_anchors", "origin, series, size, rank, digest, checkpoint, anchor", false),
        )?;
        Ok(SeriesStatements { put_log, anchored, put_anchored, anchors, ranks, put_anchor })
    }

    async fn class(&self, class: Class) -> Result<OfClass, Error> {
        let [batches, events, days, runs] =
            ["batches", "events", "days", "runs"].map(|name| format!("{name}_{class}"));
        let day = "WHERE tenant = ? AND day = ?";
        let from = format!("{day} AND (origin, run) >= (?, ?)");
        let of_run = format!("{day} AND origin = ? AND run = ? AND number > ?");
        let (batch, put_part, events_of, put_event, days_of, days_from, put_day, run, put_run) = try_join!(
            self.read("part, parts, content", &batches, "WHERE origin = ? AND number = ?", 16),
            self.put(&batches, "origin, number, part, parts, content", true),
            self.read("origin, number, leaf", &events, "WHERE event = ? LIMIT 16", 16),
            self.put(&events, "event, origin, number, leaf", true),
            self.read("origin, run", &days, day, 1_000),
            self.read("origin, run", &days, &from, 1_000),
            self.put(&days, "tenant, day, origin, run", true),
            self.read("number", &runs, &of_run, 1_000),
            self.put(&runs, "tenant, day, origin, run, number", true),
        )?;
        let mut put_events = unlogged(&put_event, TOGETHER);
        put_events.set_request_timeout(Some(self.settings.write_timeout.duration()));
        Ok(OfClass {
            batch,
            put_part,
            events: events_of,
            put_event,
            put_events,
            days: days_of,
            days_from,
            put_day,
            run,
            put_run,
        })
    }
}

/// So many rows of one statement, each for itself.
pub fn unlogged(statement: &PreparedStatement, rows: usize) -> Batch {
    let statements = std::iter::repeat_n(statement.clone().into(), rows).collect();
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_is_idempotent(true);
    batch.set_request_timeout(statement.get_request_timeout());
    batch
}

impl Statements {
    /// Prepares all statements.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn prepare(session: &Session, settings: &Settings) -> Result<Self, Error> {
        let preparer = Preparer { session, settings };
        let tile = "WHERE origin = ? AND level = ? AND tile = ?";
        let of_tile = format!("{tile} AND position = ?");
        let checkpoint = "WHERE origin = ? AND size = ?";
        let (log, logs, put_log, put_log_anchored, tile, hash, put_hash) = try_join!(
            preparer.read("tree, anchored, series", "logs", "WHERE origin = ?", 1),
            preparer.read("origin, tree", "logs", "", 1_000),
            preparer.put("logs", "origin, tree", false),
            preparer.put("logs", "origin, anchored", false),
            preparer.read("position, hash", "tiles", tile, 256),
            preparer.read("hash", "tiles", &of_tile, 1),
            preparer.put("tiles", "origin, level, tile, position, hash", false),
        )?;
        let (anchored, put_anchored, anchors, ranks, put_anchor) = try_join!(
            preparer.read("size", "anchored", "WHERE origin = ? AND span = ? AND size > ? LIMIT 1", 1),
            preparer.put("anchored", "origin, span, size", false),
            preparer.read("checkpoint, anchor, digest", "anchors", checkpoint, 32),
            preparer.read("rank, digest", "anchors", checkpoint, 1_000),
            preparer.put("anchors", "origin, size, rank, digest, checkpoint, anchor", false),
        )?;
        let series = preparer.series().await?;
        let classes = try_join!(
            preparer.class(Class::Days30),
            preparer.class(Class::Year),
            preparer.class(Class::Years7),
            preparer.class(Class::Forever),
        )?;
        Ok(Self {
            log,
            logs,
            put_log,
            put_log_anchored,
            tile,
            hash,
            put_hash,
            anchored,
            put_anchored,
            anchors,
            ranks,
            put_anchor,
            series,
            classes: classes.into(),
        })
    }

    /// The statements about a class.
    pub const fn of(&self, class: Class) -> &OfClass {
        match class {
            Class::Days30 => &self.classes[0],
            Class::Year => &self.classes[1],
            Class::Years7 => &self.classes[2],
            Class::Forever => &self.classes[3],
        }
    }
}
