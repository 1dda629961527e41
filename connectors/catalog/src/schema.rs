//! What the catalog's tables have to be, read from the migrations themselves, and how a cluster's differ from that.

use std::collections::BTreeMap;
use std::fmt;

use killick_schemas::{MIGRATIONS, Migration};

/// A column's part in its table, in the words of `system_schema.columns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of the partition key, at this position.
    Partition(i32),
    /// Of the clustering key, at this position.
    Clustering(i32),
    /// None.
    Regular,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(position) => write!(f, "part {position} of the partition key"),
            Self::Clustering(position) => write!(f, "part {position} of the clustering key"),
            Self::Regular => f.write_str("no part of the key"),
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its type in CQL.
    pub kind: String,
    /// Its part in the key.
    pub role: Role,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its columns by name.
    pub columns: BTreeMap<String, Column>,
    /// Seconds that its rows live; 0 for ever.
    pub time_to_live: i32,
}

/// Tables by name.
pub type Tables = BTreeMap<String, Table>;

/// How a cluster's keyspace differs from what this program needs, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// There is no such keyspace.
    #[error("keyspace {0} is missing: run `killick catalog migrate`")]
    NoKeyspace(String),
    /// The keyspace has other replicas.
    #[error(
        "keyspace {keyspace} has the replication {found}, and the configuration says {wanted}: set [catalog] \
         replication, or run ALTER KEYSPACE {keyspace} WITH replication = {wanted} and then a full repair"
    )]
    Replication {
        /// The keyspace.
        keyspace: String,
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// A migration was not applied.
    #[error(
        "the tables are at version {found}, and this program needs {wanted}: run `killick catalog migrate`"
    )]
    Older {
        /// The version of the tables.
        found: i32,
        /// What it should be.
        wanted: i32,
    },
    /// A later program has changed the tables.
    #[error("the tables are at version {found}, and this program knows {wanted}: use a later program")]
    Newer {
        /// The version of the tables.
        found: i32,
        /// The latest that this program knows.
        wanted: i32,
    },
    /// A migration of that version was applied which is not ours.
    #[error(
        "migration {0} was applied with another text: this keyspace was made by another program; use another one"
    )]
    Foreign(i32),
    /// There is no such table.
    #[error(
        "table {0} is missing: run `killick catalog migrate`; if it was dropped, then `killick catalog rebuild --all` \
         fills it again"
    )]
    NoTable(String),
    /// There is no such column.
    #[error("column {table}.{column} is missing: {REMAKE}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column is something else.
    #[error("column {table}.{column} is {found}, and not {wanted}: {REMAKE}")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// Rows live longer or shorter than their class says.
    #[error(
        "rows of table {table} live {found} s by default, and not {wanted}: run ALTER TABLE {table} WITH \
         default_time_to_live = {wanted}"
    )]
    TimeToLive {
        /// The table.
        table: String,
        /// What it is, in seconds; 0 is for ever.
        found: i32,
        /// What it should be.
        wanted: i32,
    },
}

/// What helps where a table is another one.
const REMAKE: &str = "drop the table, run `killick catalog migrate` and then `killick catalog rebuild --all`, or use \
                      another keyspace";

/// The tables after all migrations.
pub fn wanted() -> Tables {
    let mut tables = Tables::new();
    for statement in MIGRATIONS.iter().flat_map(statements) {
        if let Some((name, table)) = table(&statement) {
            tables.insert(name, table);
        } else if let Some(Added { table, column, kind }) = added(&statement) {
            let column = (column.to_owned(), Column { kind: kind.to_owned(), role: Role::Regular });
            tables.entry(table.to_owned()).or_default().columns.extend([column]);
        }
    }
    tables
}

/// How `found` differs from what this program needs.
pub fn differences(found: &Tables) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, wanted) in wanted() {
        let Some(found) = found.get(&name) else {
            differences.push(Difference::NoTable(name));
            continue;
        };
        for (column, wanted) in &wanted.columns {
            let (table, column) = (name.clone(), column.clone());
            match found.columns.get(&column) {
                None => differences.push(Difference::NoColumn { table, column }),
                Some(found) if found != wanted => {
                    let [found, wanted] =
                        [found, wanted].map(|column| format!("{}, {}", column.kind, column.role));
                    differences.push(Difference::Column { table, column, found, wanted });
                }
                Some(_) => {}
            }
        }
        if found.time_to_live != wanted.time_to_live {
            let (found, wanted) = (found.time_to_live, wanted.time_to_live);
            differences.push(Difference::TimeToLive { table: name, found, wanted });
        }
    }
    differences
}

/// The statements of a migration, without comments.
pub fn statements(migration: &Migration) -> Vec<String> {
    let lines = migration.cql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The table that a statement makes: `CREATE TABLE IF NOT EXISTS name (columns, PRIMARY KEY ((…), …)) WITH …`, in the
/// one form in which migrations are written.
fn table(statement: &str) -> Option<(String, Table)> {
    let rest = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
    let (name, rest) = rest.split_once(" (\n")?;
    let (columns, options) = rest.split_once("\n) WITH ")?;
    let (columns, key) = columns.split_once("PRIMARY KEY ((")?;
    let (partition, clustering) = key.strip_suffix(')')?.split_once(')')?;
    let names = |list: &str| -> Vec<String> {
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (partition, clustering) = (names(partition), names(clustering));
    let place = |list: &[String], name: &str| {
        list.iter().position(|part| part == name).and_then(|place| i32::try_from(place).ok())
    };
    let mut table = Table::default();
    for column in names(columns) {
        let (name, kind) = column.split_once(' ')?;
        let role = match (place(&partition, name), place(&clustering, name)) {
            (Some(position), _) => Role::Partition(position),
            (None, Some(position)) => Role::Clustering(position),
            (None, None) => Role::Regular,
        };
        table.columns.insert(name.to_owned(), Column { kind: kind.to_owned(), role });
    }
    if let Some((_, seconds)) = options.split_once("default_time_to_live = ") {
        table.time_to_live = seconds.parse().ok()?;
    }
    Some((name.to_owned(), table))
}

/// A column that a statement adds to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added<'s> {
    /// The table.
    pub table: &'s str,
    /// The column.
    pub column: &'s str,
    /// Its type in CQL.
    pub kind: &'s str,
}

/// What a statement adds: `ALTER TABLE name ADD column type`, in the one form in which migrations are written.
pub fn added(statement: &str) -> Option<Added<'_>> {
    let (table, rest) = statement.strip_prefix("ALTER TABLE ")?.split_once(" ADD ")?;
    let (column, kind) = rest.split_once(' ')?;
    Some(Added { table, column, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Class;

    #[test]
    fn every_statement_of_every_migration_is_understood() {
        for (version, migration) in (1..).zip(&MIGRATIONS) {
            assert_eq!(migration.version, version, "versions have no gap");
            assert!(!statements(migration).is_empty());
            for statement in statements(migration) {
                if let Some(Added { table, column, .. }) = added(&statement) {
                    assert!(wanted()[table].columns.len() > 1 && !column.contains(' '), "{statement}");
                    continue;
                }
                let (name, table) = table(&statement).expect(&statement);
                let has = |role| table.columns.values().any(|column| column.role == role);
                assert!(has(Role::Partition(0)), "{name}");
                assert!(!statement.contains("compression") && !statement.contains("tablets"), "{name}");
                let shared = ["LeveledCompactionStrategy", "TimeWindowCompactionStrategy"];
                assert!(shared.iter().any(|strategy| statement.contains(strategy)), "{name}");
            }
        }
    }

    #[test]
    fn each_class_has_its_tables_and_each_of_them_its_time_to_live() {
        let tables = wanted();
        for class in Class::ALL {
            let seconds = class.span().map_or(0, |span| span.whole_secs());
            for name in ["batches", "events", "days", "runs"] {
                let table = &tables[&format!("{name}_{class}")];
                assert_eq!(i64::from(table.time_to_live), i64::try_from(seconds).unwrap(), "{name}_{class}");
            }
        }
        assert_eq!(tables.len(), 7 + 4 * Class::ALL.len());
        let series = &tables["logs"].columns["series"];
        assert_eq!(*series, Column { kind: "map<text, bigint>".to_owned(), role: Role::Regular });
        let event = &tables["events_1y"].columns;
        assert_eq!(event["event"], Column { kind: "blob".to_owned(), role: Role::Partition(0) });
        assert_eq!(event["leaf"], Column { kind: "int".to_owned(), role: Role::Clustering(2) });
    }

    #[test]
    fn each_way_to_differ_is_named_with_what_to_do() {
        assert_eq!(differences(&wanted()), []);
        let mut tables = wanted();
        tables.remove("anchors");
        let logs = tables.get_mut("logs").unwrap();
        logs.columns.remove("anchored");
        logs.columns.get_mut("tree").unwrap().kind = "text".to_owned();
        tables.get_mut("tiles").unwrap().columns.get_mut("tile").unwrap().role = Role::Clustering(0);
        tables.get_mut("events_30d").unwrap().time_to_live = 5;
        tables
            .get_mut("days_1y")
            .unwrap()
            .columns
            .insert("more".to_owned(), Column { kind: "int".to_owned(), role: Role::Regular });
        let texts: Vec<_> = differences(&tables).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 5, "{texts:?}");
        for (text, parts) in texts.iter().zip([
            ["table anchors is missing", "migrate"],
            ["rows of table events_30d live 5 s", "default_time_to_live = 2592000"],
            ["logs.anchored is missing", "drop the table"],
            ["logs.tree is text", "blob"],
            ["tiles.tile is bigint, part 0 of the clustering key", "part 2 of the partition key"],
        ]) {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
