//! How to reach the brokers, and how workers behave towards them: `[kafka]` of the configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use killick_stages::span::Span;
use rdkafka::config::ClientConfig;
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
    /// Workers of ingest in one process, each with its share of the input partitions: they check signatures side by side.
    /// 1 to 256; default: as many as there are cores.
    pub ingest_workers: Option<u16>,
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
    /// How records are compressed by who writes them, for the network and the brokers' disks; default `lz4`.
    pub compression: Compression,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            prefix: "killick.".to_owned(),
            slot: None,
            ingest_workers: None,
            security: Security::default(),
            replication: 3,
            min_in_sync: 2,
            session_timeout: Span::secs(10),
            poll_timeout: Span::secs(60),
            transaction_timeout: Span::secs(15),
            max_record: 1_000_000,
            compression: Compression::Lz4,
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

/// A compression of record batches, by Kafka's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    None,
    /// The cheapest.
    Lz4,
    /// The smallest.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
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

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value outside its range.
    #[error("{name} is {found}; it is {allowed}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Settings that need or exclude each other.
    #[error("{0}")]
    Together(&'static str),
    /// A file that cannot be read.
    #[error("{name} {}: {cause}", .path.display())]
    File {
        /// The setting.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
}

impl Settings {
    /// Makes relative paths begin at a folder: the configuration's.
    pub fn resolve(&mut self, folder: &Path) {
        let Security { ca_file, certificate_file, key_file, password_file, .. } = &mut self.security;
        for file in [ca_file, certificate_file, key_file, password_file].into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }

    /// Whether these settings can work, as far as can be told without the brokers.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting and what it may be.
    pub fn check(&self) -> Result<(), SettingsError> {
        let range = |name, is_in, found: &dyn fmt::Display, allowed| {
            let found = found.to_string();
            if is_in { Ok(()) } else { Err(SettingsError::Range { name, found, allowed }) }
        };
        let between = |span: Span, least, most| (Span::secs(least)..=Span::secs(most)).contains(&span);
        let brokers = !self.brokers.is_empty() && self.brokers.iter().all(|broker| is_address(broker));
        range("brokers", brokers, &format_args!("{:?}", self.brokers), "at least one host:port")?;
        range(
            "prefix",
            self.prefix.is_empty() || is_name(&self.prefix),
            &self.prefix,
            "0 to 64 of a-z A-Z 0-9 . _ -",
        )?;
        if let Some(slot) = &self.slot {
            range("slot", is_name(slot), slot, "1 to 64 of a-z A-Z 0-9 . _ -")?;
        }
        if let Some(workers) = &self.ingest_workers {
            range("ingest_workers", (1..=256).contains(workers), workers, "1 to 256")?;
        }
        range("replication", (1..=100).contains(&self.replication), &self.replication, "1 to 100")?;
        let in_sync = (1..=self.replication).contains(&self.min_in_sync);
        range("min_in_sync", in_sync, &self.min_in_sync, "1 to replication")?;
        range("session_timeout", between(self.session_timeout, 6, 300), &self.session_timeout, "6s to 5m")?;
        range(
            "transaction_timeout",
            between(self.transaction_timeout, 5, 600),
            &self.transaction_timeout,
            "5s to 10m",
        )?;
        let least = self.session_timeout.micros().max(2 * self.transaction_timeout.micros());
        let polls = (least..=Span::secs(3_600).micros()).contains(&self.poll_timeout.micros());
        range(
            "poll_timeout",
            polls,
            &self.poll_timeout,
            "session_timeout, and twice transaction_timeout, to 1h",
        )?;
        let records = (600_000..=100_000_000).contains(&self.max_record);
        range("max_record", records, &self.max_record, "600000 to 100000000")?;
        self.security.check()
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(','));
    port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Security {
    fn check(&self) -> Result<(), SettingsError> {
        let together = |holds: bool, why| if holds { Ok(()) } else { Err(SettingsError::Together(why)) };
        let has_files = self.ca_file.is_some() || self.certificate_file.is_some() || self.key_file.is_some();
        together(self.tls || !has_files, "security: ca_file, certificate_file and key_file need tls = true")?;
        together(
            self.certificate_file.is_some() == self.key_file.is_some(),
            "security: certificate_file and key_file go together",
        )?;
        let has_user = self.username.is_some() && self.password_file.is_some();
        let has_none = self.username.is_none() && self.password_file.is_none();
        together(
            if self.mechanism.is_some() { has_user } else { has_none },
            "security: mechanism, username and password_file go together",
        )?;
        together(
            self.tls || self.mechanism != Some(Mechanism::Plain),
            "security: PLAIN sends the password itself and needs tls = true",
        )
    }

    pub(crate) fn configure(&self, config: &mut ClientConfig) -> Result<(), SettingsError> {
        let protocol = match (self.tls, self.mechanism) {
            (false, None) => "PLAINTEXT",
            (false, Some(_)) => "SASL_PLAINTEXT",
            (true, None) => "SSL",
            (true, Some(_)) => "SASL_SSL",
        };
        config.set("security.protocol", protocol);
        let files = [
            ("ca_file", "ssl.ca.location", &self.ca_file),
            ("certificate_file", "ssl.certificate.location", &self.certificate_file),
            ("key_file", "ssl.key.location", &self.key_file),
        ];
        for (name, key, path) in files {
            if let Some(path) = path {
                // Found out here, with its name: librdkafka would only say that it could not connect.
                read(name, path)?;
                config.set(key, path.to_string_lossy());
            }
        }
        if let (Some(mechanism), Some(username), Some(path)) =
            (self.mechanism, &self.username, &self.password_file)
        {
            let password = read("password_file", path)?;
            config
                .set("sasl.mechanism", mechanism.to_string())
                .set("sasl.username", username)
                .set("sasl.password", password.trim_end_matches(['\r', '\n']));
        }
        Ok(())
    }
}

fn read(name: &'static str, path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|cause| SettingsError::File { name, path: path.to_owned(), cause })
}
