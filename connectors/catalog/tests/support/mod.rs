//! A cluster for tests: the one that `CASSANDRA_NODES` names, else the local one of `deploy/local`, started if need be.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "not every test that has this module needs all of it")]

pub mod own;
pub mod proxy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use killick_catalog::{CqlCatalog, Settings};
use killick_stages::span::Span;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// The scripts that start and stop servers.
pub fn local() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local")
}

/// Where the first nodes are.
pub fn nodes() -> Vec<String> {
    static NODES: OnceLock<String> = OnceLock::new();
    let nodes = NODES.get_or_init(|| match std::env::var("CASSANDRA_NODES") {
        Ok(nodes) if !nodes.is_empty() => nodes,
        _ => {
            let output = Command::new(local().join("up")).arg("cassandra").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "deploy/local/up cassandra: {said}");
            variable(&local().join("../../target/local/env"), "CASSANDRA_NODES")
        }
    });
    nodes.split(',').map(str::to_owned).collect()
}

/// The value of a variable in a file that a shell could source.
pub fn variable(file: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
    value.expect("the file sets the variable").trim_matches('\'').to_owned()
}

/// Settings for a keyspace of one replica on these nodes.
pub fn settings(nodes: Vec<String>) -> Settings {
    Settings {
        nodes,
        keyspace: format!("test_{:016x}", rand::random::<u64>()),
        replication: [("datacenter1".to_owned(), 1)].into(),
        // Tests share the machine with servers and compilers.
        connect_timeout: Span::secs(20),
        read_timeout: Span::secs(30),
        write_timeout: Span::secs(30),
        ..Settings::default()
    }
}

/// A keyspace of its own that goes with the test.
pub struct Keyspace {
    pub settings: Settings,
}

impl Keyspace {
    /// A keyspace that is not there yet.
    pub fn unmade() -> Self {
        Self { settings: settings(nodes()) }
    }

    /// A keyspace with all tables.
    pub fn made() -> Self {
        let keyspace = Self::unmade();
        keyspace.catalog().migrate().unwrap();
        keyspace
    }

    /// The catalog in it.
    pub fn catalog(&self) -> CqlCatalog {
        CqlCatalog::new(&self.settings).unwrap()
    }

    /// Runs a statement, with `KS` for the keyspace.
    pub fn cql(&self, statement: &str) {
        cql(&self.settings.nodes, &statement.replace("KS", &self.settings.keyspace));
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.cql("DROP KEYSPACE IF EXISTS KS");
    }
}

/// Does something in a session of its own.
pub fn with_session<T>(nodes: &[String], act: impl AsyncFnOnce(&Session) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = SessionBuilder::new().known_nodes(nodes).build().await.unwrap();
        act(&session).await
    })
}

/// Runs a statement in a session of its own.
pub fn cql(nodes: &[String], statement: &str) {
    with_session(nodes, async |session| {
        let mut statement = scylla::statement::unprepared::Statement::new(statement);
        statement.set_request_timeout(Some(std::time::Duration::from_secs(60)));
        session.query_unpaged(statement, ()).await.unwrap();
    });
}
