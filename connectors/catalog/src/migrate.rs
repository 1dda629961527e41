//! Makes the keyspace and its tables, and says how they differ from what this program needs.
//!
//! Each statement of a migration can be repeated, and a migration is written down in `schema_version` behind its last
//! statement: a crash leaves nothing that the next call does not finish. Two that migrate at once send their statements
//! to the same node (the first by its id), which works off changes of the schema one after another; ScyllaDB orders them
//! for the whole cluster. After each statement all nodes that are up have to agree on the schema.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use killick_schemas::{MIGRATIONS, Migration};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use scylla::value::CqlTimestamp;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Remedy, remedy};
use crate::schema::{self, Added, Column, Difference, Role, Table, Tables};
use crate::settings::Settings;

/// How long one change of the schema may take: it touches every node.
const CHANGE: Duration = Duration::from_secs(60);
/// So long a change may need until a node that told of it knows it, and how often it is looked for.
const SETTLING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);
/// The only partition of `schema_version`.
const PART: &str = "catalog";

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Whether the keyspace was made.
    pub keyspace: bool,
    /// The version before, 0 for none.
    pub from: i32,
    /// The version now.
    pub to: i32,
}

/// Brings the keyspace to the version that this program needs.
///
/// # Errors
/// [`Error`]; it may be called again.
pub async fn migrate(session: &Session, settings: &Settings) -> Result<Migrated, Error> {
    let keyspace = &settings.keyspace;
    let is_new = replication(session, keyspace).await?.is_none();
    if is_new {
        let replication = replication_text(&settings.replication());
        let create = format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication} AND durable_writes = true"
        );
        change_as(session, &create).await?;
    }
    let applied = applied(session, keyspace).await?;
    let from = applied.keys().next_back().copied().unwrap_or(0);
    if let Some(wrong) = not_ours(&applied) {
        return Err(Error::Schema(vec![wrong]));
    }
    for migration in MIGRATIONS {
        // Also those that were applied: what was dropped since is made again.
        for statement in schema::statements(&migration) {
            change(session, keyspace, &statement).await?;
        }
        // Where another was quicker, nothing was changed and nothing waited for.
        session.await_schema_agreement().await.map_err(|error| Error::Request {
            statement: migration.name.to_owned(),
            why: format!("the nodes do not agree on the schema: {error}"),
        })?;
        if !applied.contains_key(&migration.version) {
            let insert = format!(
                "INSERT INTO {keyspace}.schema_version (part, version, name, digest) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
            );
            let MigrationRow { version, name, digest } = MigrationRow::of(&migration);
            run(session, &insert, (PART, version, name, digest, i64::from(version))).await?;
        }
    }
    let to = MIGRATIONS.last().map_or(0, |migration| migration.version);
    Ok(Migrated { keyspace: is_new, from, to })
}

/// How the keyspace differs from what this program needs; empty if it does not.
///
/// # Errors
/// [`Error`].
pub async fn differences(session: &Session, settings: &Settings) -> Result<Vec<Difference>, Error> {
    let keyspace = &settings.keyspace;
    let Some(found) = replication(session, keyspace).await? else {
        return Ok(vec![Difference::NoKeyspace(keyspace.clone())]);
    };
    let mut differences = Vec::new();
    let wanted = settings.replication();
    if found != Replication::of(&wanted) {
        differences.push(Difference::Replication {
            keyspace: keyspace.clone(),
            found: found.text(),
            wanted: replication_text(&wanted),
        });
    }
    let applied = applied(session, keyspace).await?;
    let latest = applied.keys().next_back().copied().unwrap_or(0);
    let needed = MIGRATIONS.last().map_or(0, |migration| migration.version);
    match not_ours(&applied) {
        Some(wrong) => differences.push(wrong),
        None if latest < needed => differences.push(Difference::Older { found: latest, wanted: needed }),
        None => {}
    }
    // What an older version lacks is what the migrations bring.
    if latest >= needed {
        differences.extend(schema::differences(&tables(session, keyspace).await?));
    }
    Ok(differences)
}

/// The clock of the node that answers, in ms since 1970.
///
/// # Errors
/// [`Error`].
pub async fn clock(session: &Session) -> Result<i64, Error> {
    let select = "SELECT toTimestamp(now()) FROM system.local";
    let rows: Vec<(CqlTimestamp,)> = read(session, select, ()).await?;
    let first = rows.into_iter().next().map(|(CqlTimestamp(millis),)| millis);
    first.ok_or_else(|| Error::Request { statement: select.to_owned(), why: "there is no row".to_owned() })
}

/// What was applied and is not ours.
fn not_ours(applied: &BTreeMap<i32, Vec<u8>>) -> Option<Difference> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let latest = applied.keys().next_back().copied().unwrap_or(0);
    if latest > known {
        return Some(Difference::Newer { found: latest, wanted: known });
    }
    let other = MIGRATIONS.iter().find(|migration| {
        applied.get(&migration.version).is_some_and(|digest| *digest != MigrationRow::of(migration).digest)
    });
    other.map(|migration| Difference::Foreign(migration.version))
}

/// A migration as `schema_version` has it.
struct MigrationRow {
    version: i32,
    name: &'static str,
    digest: Vec<u8>,
}

impl MigrationRow {
    /// The digest is of the statements alone: comments may be put better.
    fn of(migration: &Migration) -> Self {
        let text = schema::statements(migration).join(";\n");
        let digest = Sha256::digest(text).to_vec();
        Self { version: migration.version, name: migration.name, digest }
    }
}

/// A statement of a migration, about a table of this keyspace.
fn qualified(statement: &str, keyspace: &str) -> String {
    ["CREATE TABLE IF NOT EXISTS ", "ALTER TABLE "]
        .into_iter()
        .fold(statement.to_owned(), |text, begin| text.replacen(begin, &format!("{begin}{keyspace}."), 1))
}

fn replication_text(replication: &BTreeMap<String, u16>) -> String {
    let datacenters =
        replication.iter().map(|(datacenter, replicas)| format!(", '{datacenter}': {replicas}"));
    format!("{{'class': 'NetworkTopologyStrategy'{}}}", datacenters.collect::<String>())
}

/// A keyspace's replication, whatever the server calls the strategy in full.
#[derive(Debug, PartialEq, Eq)]
struct Replication {
    class: String,
    replicas: BTreeMap<String, String>,
}

impl Replication {
    fn of(wanted: &BTreeMap<String, u16>) -> Self {
        let replicas = wanted.iter().map(|(datacenter, replicas)| (datacenter.clone(), replicas.to_string()));
        Self { class: "NetworkTopologyStrategy".to_owned(), replicas: replicas.collect() }
    }

    fn text(&self) -> String {
        let replicas =
            self.replicas.iter().map(|(datacenter, replicas)| format!(", '{datacenter}': {replicas}"));
        format!("{{'class': '{}'{}}}", self.class, replicas.collect::<String>())
    }
}

async fn replication(session: &Session, keyspace: &str) -> Result<Option<Replication>, Error> {
    let select = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found: Vec<(HashMap<String, String>,)> = read(session, select, (keyspace,)).await?;
    Ok(found.into_iter().next().map(|(mut replication,)| {
        let class = replication.remove("class").unwrap_or_default();
        let class = class.rsplit('.').next().unwrap_or_default().to_owned();
        Replication { class, replicas: replication.into_iter().collect() }
    }))
}

/// The digests of the migrations that were applied, by version.
async fn applied(session: &Session, keyspace: &str) -> Result<BTreeMap<i32, Vec<u8>>, Error> {
    let select = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let found: Vec<(String,)> = read(session, select, (keyspace, "schema_version")).await?;
    if found.is_empty() {
        return Ok(BTreeMap::new());
    }
    let select = format!("SELECT version, digest FROM {keyspace}.schema_version WHERE part = ?");
    let rows: Vec<(i32, Option<Vec<u8>>)> = read(session, &select, (PART,)).await?;
    Ok(rows.into_iter().map(|(version, digest)| (version, digest.unwrap_or_default())).collect())
}

async fn tables(session: &Session, keyspace: &str) -> Result<Tables, Error> {
    let select = "SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = ?";
    let rows: Vec<(String, Option<i32>)> = read(session, select, (keyspace,)).await?;
    let table = |seconds: Option<i32>| Table { time_to_live: seconds.unwrap_or(0), ..Table::default() };
    let mut tables: Tables = rows.into_iter().map(|(name, seconds)| (name, table(seconds))).collect();
    let select = "SELECT table_name, column_name, type, kind, position FROM system_schema.columns WHERE keyspace_name = ?";
    let rows: Vec<(String, String, String, String, i32)> = read(session, select, (keyspace,)).await?;
    for (name, column, kind, part, position) in rows {
        let role = match part.as_str() {
            "partition_key" => Role::Partition(position),
            "clustering" => Role::Clustering(position),
            _ => Role::Regular,
        };
        if let Some(table) = tables.get_mut(&name) {
            table.columns.insert(column, Column { kind, role });
        }
    }
    Ok(tables)
}

/// Makes one change of a migration. A column that is there is not added again: the servers have no common word for that.
async fn change(session: &Session, keyspace: &str, statement: &str) -> Result<(), Error> {
    let text = qualified(statement, keyspace);
    let Some(added) = schema::added(statement) else { return change_as(session, &text).await };
    if has(session, keyspace, added).await? {
        return Ok(());
    }
    match change_as(session, &text).await {
        // Another that migrates was quicker.
        Err(_) if has(session, keyspace, added).await? => Ok(()),
        outcome => outcome,
    }
}

/// Whether a column is there.
async fn has(session: &Session, keyspace: &str, column: Added<'_>) -> Result<bool, Error> {
    let select = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ? AND column_name = ?";
    let found: Vec<(String,)> = read(session, select, (keyspace, column.table, column.column)).await?;
    Ok(!found.is_empty())
}

/// Makes one change of the schema, and waits until all nodes that are up know of it if there was something to change.
async fn change_as(session: &Session, text: &str) -> Result<(), Error> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(CHANGE));
    let cluster = session.get_cluster_state();
    if let Some(first) =
        cluster.get_nodes_info().iter().filter(|node| node.is_connected()).min_by_key(|node| node.host_id)
    {
        let first = NodeIdentifier::Node(std::sync::Arc::clone(first));
        statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(first, None)));
    }
    ask(session, statement, ()).await.map(drop)
}

async fn run(session: &Session, text: &str, values: impl SerializeRow) -> Result<(), Error> {
    let mut statement = Statement::new(text);
    statement.set_consistency(Consistency::LocalQuorum);
    ask(session, statement, values).await.map(drop)
}

async fn read<R>(session: &Session, text: &str, values: impl SerializeRow) -> Result<Vec<R>, Error>
where
    R: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let wrong = |why: String| Error::Request { statement: text.to_owned(), why };
    let result = ask(session, Statement::new(text), values).await?;
    let result = result.into_rows_result().map_err(|error| wrong(error.to_string()))?;
    let rows = result.rows::<R>().map_err(|error| wrong(error.to_string()))?;
    rows.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))
}

/// Makes a request. A node may tell of a table, or that it is there already, a moment before it knows it itself.
async fn ask(
    session: &Session,
    mut statement: Statement,
    values: impl SerializeRow,
) -> Result<QueryResult, Error> {
    statement.set_is_idempotent(true);
    let begun = Instant::now();
    loop {
        let error = match session.query_unpaged(statement.clone(), &values).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_passing = matches!(remedy(&error), Remedy::Again | Remedy::LookAgain);
        if !is_passing || begun.elapsed() > SETTLING {
            return Err(Error::Request { statement: statement.contents, why: error.to_string() });
        }
        tokio::time::sleep(LOOK).await;
    }
}
