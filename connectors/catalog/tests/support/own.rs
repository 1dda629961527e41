//! A node of a test's own, to be stopped and killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(dead_code, reason = "not every test that has this module needs all of it")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use super::{local, variable};

/// The node. It goes with the test, and its data with it.
pub struct Node {
    pub dir: PathBuf,
    pub address: String,
    ports: [u16; 2],
    flags: Vec<&'static str>,
}

impl Node {
    /// Starts a node on ports that are free; ready when it returns.
    pub fn start(flags: &[&'static str]) -> Self {
        let dir = local().join(format!("../../target/catalog-test-{:08x}", rand::random::<u32>()));
        let mut node = Self { dir, address: String::new(), ports: free(), flags: flags.to_vec() };
        node.up();
        node.address = variable(&node.dir.join("env"), "CASSANDRA_NODES");
        node
    }

    /// Starts it again.
    pub fn up(&self) {
        self.call("up", &["cassandra"], &self.flags);
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.join("cassandra/pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
    }

    fn call(&self, script: &str, arguments: &[&str], flags: &[&str]) {
        let output = Command::new(local().join(script))
            .args(arguments)
            .arg("--dir")
            .arg(&self.dir)
            .args(flags)
            .env("CASSANDRA_PORT", self.ports[0].to_string())
            .env("CASSANDRA_STORAGE_PORT", self.ports[1].to_string())
            .env_remove("KILLICK_LOCAL")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "deploy/local/{script}: {said}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.call("down", &["cassandra", "--erase"], &[]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Two ports that were free a moment ago; the one behind the second is Cassandra's too.
fn free() -> [u16; 2] {
    loop {
        let all = [0; 2].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        let ports = all.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let behind = ports[1].checked_add(1).filter(|behind| *behind != ports[0]);
        if behind.is_some_and(|behind| TcpListener::bind(("127.0.0.1", behind)).is_ok()) {
            return ports;
        }
    }
}
