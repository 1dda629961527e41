//! How to reach the brokers, and how workers behave towards them: `[kafka]` of the configuration.

use std::fmt;
use std::path::PathBuf;

use killick_stages::span::Span;
use serde::Deserialize;

/// `[kafka]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the first brokers are, `host:port` each. At least one.
    pub brokers: Vec<String>,
    /// What stands before the names of inner topics, groups and transactional ids: 0 to 64 of `a-zA-Z0-9._-`. Input
    /// topics of sources are named as they are. Default `killick.`.
    pub prefix: String,
    /// What tells this process from the others of its stages, and is the same again after a restart: 1 to 64 of
    /// `a-zA-Z0-9._-`. Default: the host's name.
    pub slot: Option<String>,
    /// TLS and who we are.
    pub security: Security,
    /// Replicas of each topic that we make. 1 to 100; default 3.
    pub replication: u16,
    /// Replicas that have to have a record before it counts. 1 to `replication`; default 2.
    pub min_in_sync: u16,
    /// How long a worker that is not heard of keeps its partitions. 6 s to 5 min; default 10 s.
    pub session_timeout: Span,
    /// How long a stage may take for what it took before its partitions go to another worker. At least
    /// `session_timeout` and twice `transaction_timeout`, at most 1 h; default 1 min.
    pub poll_timeout: Span,
    /// How long a transaction may stay open: so long a dead worker's holds up those who read behind it. 5 s to 10 min;
    /// default 15 s.
    pub transaction_timeout: Span,
    /// Bytes in the largest record: key, value and headers, before compression. 600,000 to 100,000,000; default
    /// 1,000,000. The brokers' `message.max.bytes` has to allow it.
    pub max_record: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            prefix: "killick.".to_owned(),
            slot: None,
            security: Security::default(),
            replication: 3,
            min_in_sync: 2,
            session_timeout: Span::secs(10),
            poll_timeout: Span::secs(60),
            transaction_timeout: Span::secs(15),
            max_record: 1_000_000,
        }
    }
}

/// `[kafka.security]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Whether connections are encrypted. Default false: for loopback and closed networks only.
    pub tls: bool,
    /// The authorities that brokers' certificates are checked against, PEM. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM, where the brokers want one (mutual TLS).
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// How we say who we are. Default: not at all, or by our certificate.
    pub mechanism: Option<Mechanism>,
    /// Our name.
    pub username: Option<String>,
    /// A file that holds our password.
    pub password_file: Option<PathBuf>,
}

/// How a client says who it is (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// The password itself: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        })
    }
}
