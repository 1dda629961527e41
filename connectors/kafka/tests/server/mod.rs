//! A broker that demands TLS, passwords, certificates and ACLs, for as long as a test holds it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use killick_kafka::{Mechanism, Security, Settings};
use tempfile::TempDir;

use crate::support;

/// The broker.
pub struct Server {
    folder: TempDir,
    plain: u16,
    scram: u16,
    mtls: u16,
}

/// The broker that the tests of this process share.
pub fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    })
}

fn local() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local")
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that no two are the same.
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let mut up = Command::new(local().join("up"));
        up.args(["kafka", "--acl", "--dir"]).arg(folder.path());
        let names = ["KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "KAFKA_SASL_PORT", "KAFKA_MTLS_PORT"];
        up.envs(names.into_iter().zip(ports.iter().map(u16::to_string))).env_remove("KAFKA_EXTRA_LISTENERS");
        let server = Self { folder, plain: ports[0], scram: ports[2], mtls: ports[3] };
        let output = up.output().unwrap();
        assert!(output.status.success(), "deploy/local/up: {}", String::from_utf8_lossy(&output.stderr));
        server
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("kafka").join(name)
    }

    fn settings(&self, port: u16, security: Security) -> Settings {
        let brokers = vec![format!("127.0.0.1:{port}")];
        Settings { brokers, security, slot: Some("0".to_owned()), ..support::quick() }
    }

    /// Without any security: whoever comes this way may do all.
    pub fn plain(&self) -> Settings {
        self.settings(self.plain, Security::default())
    }

    /// By a password over TLS.
    pub fn scram(&self) -> Settings {
        let security = Security {
            tls: true,
            ca_file: Some(self.file("ca.pem")),
            mechanism: Some(Mechanism::ScramSha512),
            username: Some("killick".to_owned()),
            password_file: Some(self.file("killick.password")),
            ..Security::default()
        };
        self.settings(self.scram, security)
    }

    /// By a certificate.
    pub fn mtls(&self) -> Settings {
        let security = Security {
            tls: true,
            ca_file: Some(self.file("ca.pem")),
            certificate_file: Some(self.file("client.pem")),
            key_file: Some(self.file("client.key")),
            ..Security::default()
        };
        self.settings(self.mtls, security)
    }

    /// Does what a remedy says, as somebody who may.
    pub fn acl(&self, remedy: &str) {
        let remedy = remedy.replace("<the subject of certificate_file>", "CN=client");
        let mut words = remedy.split(' ').map(|word| word.trim_matches('\''));
        assert_eq!(words.next(), Some("kafka-acls"), "{remedy}");
        assert_eq!(words.next(), Some("--bootstrap-server"), "{remedy}");
        words.next();
        assert_eq!(
            (words.next(), words.next()),
            (Some("--command-config"), Some("admin.properties")),
            "{remedy}"
        );
        let artifacts = std::env::var_os("KILLICK_LOCAL_ARTIFACTS").map(PathBuf::from);
        let artifacts = artifacts.unwrap_or_else(|| local().join("../../target/local/artifacts"));
        let output = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(artifacts.join("kafka/lib/*"))
            .args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server"])
            .arg(format!("127.0.0.1:{}", self.plain))
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{remedy}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let down = Command::new(local().join("down"))
            .args(["kafka", "--erase", "--dir"])
            .arg(self.folder.path())
            .output();
        // A test that already fails says more than this.
        assert!(down.is_ok_and(|down| down.status.success()) || std::thread::panicking());
    }
}
