//! What tests on real servers share: the program, the servers, names of their own.
//!
//! The servers are those that `KAFKA_BROKERS` and `CASSANDRA_NODES` name, else the local ones of `deploy/local`, started
//! if need be.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "not every test that has this module needs all of it")]

pub mod running;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use scylla::client::session_builder::SessionBuilder;

/// The program, without settings from this process's environment.
pub fn command<S: AsRef<str>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KILLICK_")) {
        command.env_remove(name);
    }
    command.args(args.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    command
}

/// What it prints when it ends with this status: standard output, and where it fails standard error too.
pub fn ends(status: i32, line: &str, more: &[&Path]) -> String {
    let mut args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.extend(more.iter().map(|path| path.display().to_string()));
    let output = command(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    if status == 0 { out } else { out + &err }
}

/// The names and contents of the files of a folder.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(file).collect()
}

/// Where the brokers are.
pub fn brokers() -> String {
    server("kafka", "KAFKA_BROKERS")
}

/// Where the nodes of the catalog are.
pub fn nodes() -> String {
    server("cassandra", "CASSANDRA_NODES")
}

fn server(name: &str, variable: &str) -> String {
    if let Some(there) = std::env::var(variable).ok().filter(|there| !there.is_empty()) {
        return there;
    }
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local");
    let output: Output = Command::new(local.join("up")).arg(name).output().unwrap();
    assert!(output.status.success(), "deploy/local/up {name}: {output:?}");
    let env = std::fs::read_to_string(local.join("../../target/local/env")).unwrap();
    let there = env.lines().find_map(|line| line.strip_prefix(&format!("export {variable}=")));
    there.unwrap().trim_matches('\'').to_owned()
}

/// A keyspace that goes with the test.
pub struct Keyspace {
    nodes: String,
    pub name: String,
}

impl Keyspace {
    pub fn new() -> Self {
        Self { nodes: nodes(), name: format!("test_{:016x}", rand::random::<u64>()) }
    }

    /// `[catalog]` of a configuration.
    pub fn section(&self) -> String {
        let nodes: Vec<_> = self.nodes.split(',').collect();
        format!(
            "[catalog]\nnodes = {nodes:?}\nkeyspace = \"{}\"\nreplication = {{ datacenter1 = 1 }}\n\
             read_timeout = \"30s\"\nwrite_timeout = \"30s\"\nconnect_timeout = \"20s\"\n",
            self.name
        )
    }

    /// Runs a statement in which `KS` stands for the keyspace.
    pub fn cql(&self, statement: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = SessionBuilder::new().known_nodes(self.nodes.split(',')).build().await.unwrap();
            session.query_unpaged(statement.replace("KS", &self.name), ()).await.unwrap();
        });
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.cql("DROP KEYSPACE IF EXISTS KS");
    }
}
