//! The language-neutral contracts as constants: what the topics are, what their records look like, and the tables of the
//! catalog.

/// Every topic: partitions, schema, key, cleanup, retention, and what it is for. YAML.
pub const TOPICS: &str = include_str!("../topics.yaml");

/// What programs of others write and read: channels, messages, headers. AsyncAPI 3.1, YAML.
pub const ASYNCAPI: &str = include_str!("../asyncapi.yaml");

/// An Avro schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Its name in the list of topics: the file's name in `avro/` without its ending.
    pub name: &'static str,
    /// The schema in JSON.
    pub json: &'static str,
}

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        [$(Schema { name: $name, json: include_str!(concat!("../avro/", $name, ".avsc")) }),*]
    };
}

/// Every Avro schema.
pub const SCHEMAS: [Schema; 13] = schemas![
    "accepted",
    "anchor",
    "anchor-state",
    "audit-manifest",
    "batch",
    "batch-state",
    "dedup-delta",
    "event",
    "lent",
    "proof-ready",
    "prove-state",
    "receipt",
    "unique",
];

/// The Avro schema of that name, in JSON.
pub fn schema(name: &str) -> Option<&'static str> {
    SCHEMAS.iter().find(|schema| schema.name == name).map(|schema| schema.json)
}

/// A step from one version of the catalog's tables to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The version that it leads to: 1, 2, 3 …
    pub version: i32,
    /// The file's name in `cql/` without its ending.
    pub name: &'static str,
    /// Its statements in CQL, for the catalog's keyspace. Each can be repeated.
    pub cql: &'static str,
}

/// Every migration of the catalog, in order. What has been released is never changed, only added to.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "001-catalog", cql: include_str!("../cql/001-catalog.cql") },
    Migration { version: 2, name: "002-series", cql: include_str!("../cql/002-series.cql") },
];
