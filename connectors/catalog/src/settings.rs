//! How to reach the cluster, and how long what is kept: `[catalog]` of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use killick_stages::span::Span;
use serde::Deserialize;

/// `[catalog]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the first nodes are, `host:port` each; the others are learned from them. 1 to 64.
    pub nodes: Vec<String>,
    /// The keyspace: 1 to 48 of `a-z0-9_`, a letter first. Default `killick`.
    pub keyspace: String,
    /// The datacenter whose nodes are asked, as the cluster calls it. All that write and read one log have to ask the
    /// same one. Default `datacenter1`, which is what clusters call it that were not told otherwise.
    pub datacenter: String,
    /// Replicas in each datacenter, 1 to 100 each. Default: three in `datacenter`.
    pub replication: BTreeMap<String, u16>,
    /// TLS and who we are.
    pub security: Security,
    /// How long a connection may take. 100 ms to 1 min; default 5 s.
    pub connect_timeout: Span,
    /// How long a read may take. 100 ms to 5 min; default 5 s.
    pub read_timeout: Span,
    /// How long a write may take. 100 ms to 5 min; default 10 s.
    pub write_timeout: Span,
    /// Requests of this process that are on their way at the same time. 1 to 4,096; default 256.
    pub in_flight: usize,
    /// How long the events of tenants that are not named in `tenants` are kept. Default for ever.
    pub retention: Class,
    /// How long the events of a tenant are kept.
    pub tenants: BTreeMap<String, Class>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            keyspace: "killick".to_owned(),
            datacenter: "datacenter1".to_owned(),
            replication: BTreeMap::new(),
            security: Security::default(),
            connect_timeout: Span::secs(5),
            read_timeout: Span::secs(5),
            write_timeout: Span::secs(10),
            in_flight: 256,
            retention: Class::Forever,
            tenants: BTreeMap::new(),
        }
    }
}

/// `[catalog.security]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Whether connections are encrypted. Default false: for loopback and closed networks only.
    pub tls: bool,
    /// The authorities that nodes' certificates are checked against, PEM. With `tls` it has to be there.
    pub ca_file: Option<PathBuf>,
    /// The name that all nodes' certificates bear. Default: each bears its node's address.
    pub server_name: Option<String>,
    /// Our certificate, PEM, where the nodes want one (mutual TLS).
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Our name.
    pub username: Option<String>,
    /// A file that holds our password.
    pub password_file: Option<PathBuf>,
}

/// How long events are kept, counted from when the log took them. Each class has tables of its own, so that what has
/// expired goes in whole files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum Class {
    /// 30 days.
    #[serde(rename = "30d")]
    Days30,
    /// 365 days.
    #[serde(rename = "1y")]
    Year,
    /// 7 × 365 days.
    #[serde(rename = "7y")]
    Years7,
    /// For ever.
    #[default]
    #[serde(rename = "forever")]
    Forever,
}

impl Class {
    /// Every class, the shortest first.
    pub const ALL: [Self; 4] = [Self::Days30, Self::Year, Self::Years7, Self::Forever];

    /// Its name: also the end of its tables' names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Days30 => "30d",
            Self::Year => "1y",
            Self::Years7 => "7y",
            Self::Forever => "forever",
        }
    }

    /// How long it keeps; `None` for ever.
    pub const fn span(self) -> Option<Span> {
        const DAY: u64 = 86_400;
        match self {
            Self::Days30 => Some(Span::secs(30 * DAY)),
            Self::Year => Some(Span::secs(365 * DAY)),
            Self::Years7 => Some(Span::secs(7 * 365 * DAY)),
            Self::Forever => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// None, too many, or one that is no address.
    #[error("nodes is a list of 1 to 64 `host:port`{}", .0.as_ref().map(|node| format!(", and {node:?} is none")).unwrap_or_default())]
    Nodes(Option<String>),
    /// A name that CQL would have to quote.
    #[error("keyspace is {0:?}; it is 1 to 48 of a-z 0-9 _, a letter first")]
    Keyspace(String),
    /// A name that no datacenter has.
    #[error("{0:?} is no name of a datacenter: 1 to 128 of a-z A-Z 0-9 _ - .")]
    Datacenter(String),
    /// No replica where reads and writes go.
    #[error("replication gives no replica to {0}, the datacenter that is asked: add it")]
    NoReplica(String),
    /// Too few or too many replicas.
    #[error("replication gives {0} replicas to {1}; it is 1 to 100")]
    Replicas(u16, String),
    /// A length of time or a number outside its range.
    #[error("{name} is {value}; it is {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A class that forgets events while copies of them may still come.
    #[error(
        "events of {whose} are kept for {class}, which is shorter than the {least} in which a copy may still come: \
         choose a longer class, or a shorter [dedup] window"
    )]
    Forgetful {
        /// Whose events.
        whose: String,
        /// Their class.
        class: Class,
        /// Freshness and dedup's window together.
        least: Span,
    },
    /// One part of what belongs together.
    #[error("security: {0}")]
    Security(&'static str),
    /// No threads for the connections.
    #[error("no threads for the catalog's connections: {0}")]
    Threads(std::io::Error),
    /// A file that cannot be read.
    #[error("{}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
    /// A file that does not hold what it should. Its content is not shown.
    #[error("{}: {why}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Settings {
    /// Checks everything that can be checked without a cluster. `least` is how long a copy of an event may come after it:
    /// what is kept for a shorter time would be forgotten while it can still be asked for.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self, least: Span) -> Result<(), SettingsError> {
        let is_node = |node: &&String| {
            let parts = node.rsplit_once(':');
            !parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if self.nodes.is_empty() || self.nodes.len() > 64 {
            return Err(SettingsError::Nodes(None));
        }
        if let Some(wrong) = self.nodes.iter().find(is_node) {
            return Err(SettingsError::Nodes(Some(wrong.clone())));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts = self.keyspace.starts_with(|first: char| first.is_ascii_lowercase());
        if !starts || self.keyspace.len() > 48 || !self.keyspace.bytes().all(plain) {
            return Err(SettingsError::Keyspace(self.keyspace.clone()));
        }
        let replication = self.replication();
        for (datacenter, replicas) in &replication {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if !(1..=128).contains(&datacenter.len()) || !datacenter.bytes().all(plain) {
                return Err(SettingsError::Datacenter(datacenter.clone()));
            }
            if !(1..=100).contains(replicas) {
                return Err(SettingsError::Replicas(*replicas, datacenter.clone()));
            }
        }
        if !replication.contains_key(&self.datacenter) {
            return Err(SettingsError::NoReplica(self.datacenter.clone()));
        }
        self.check_ranges()?;
        self.check_security()?;
        let named = self.tenants.iter().map(|(tenant, class)| (format!("tenant {tenant}"), *class));
        for (whose, class) in named.chain([("all other tenants".to_owned(), self.retention)]) {
            if class.span().is_some_and(|span| span < least) {
                return Err(SettingsError::Forgetful { whose, class, least });
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), SettingsError> {
        let minute = (Span::millis(100), Span::secs(60), "100ms to 1m");
        let minutes = (Span::millis(100), Span::secs(300), "100ms to 5m");
        for (name, span, (least, most, range)) in [
            ("connect_timeout", self.connect_timeout, minute),
            ("read_timeout", self.read_timeout, minutes),
            ("write_timeout", self.write_timeout, minutes),
        ] {
            if !(least..=most).contains(&span) {
                return Err(SettingsError::Range { name, value: span.to_string(), range });
            }
        }
        if !(1..=4_096).contains(&self.in_flight) {
            let value = self.in_flight.to_string();
            return Err(SettingsError::Range { name: "in_flight", value, range: "1 to 4096" });
        }
        Ok(())
    }

    fn check_security(&self) -> Result<(), SettingsError> {
        let security = &self.security;
        let wrong = |why| Err(SettingsError::Security(why));
        if security.username.is_some() != security.password_file.is_some() {
            return wrong("username and password_file belong together");
        }
        if security.certificate_file.is_some() != security.key_file.is_some() {
            return wrong("certificate_file and key_file belong together");
        }
        if security.tls {
            return if security.ca_file.is_some() { Ok(()) } else { wrong("tls needs ca_file") };
        }
        if security.ca_file.is_some() || security.certificate_file.is_some() || security.server_name.is_some()
        {
            return wrong("ca_file, certificate_file and server_name are for tls, which is off: tls = true");
        }
        Ok(())
    }

    /// The replicas in each datacenter.
    pub fn replication(&self) -> BTreeMap<String, u16> {
        if self.replication.is_empty() {
            return BTreeMap::from([(self.datacenter.clone(), 3)]);
        }
        self.replication.clone()
    }

    /// How long events of a tenant are kept.
    pub fn class_of(&self, tenant: &str) -> Class {
        self.tenants.get(tenant).copied().unwrap_or(self.retention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { nodes: vec!["127.0.0.1:9042".to_owned()], ..Settings::default() }
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = settings();
        change(&mut settings);
        settings.check(Span::secs(86_400)).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_work_once_there_is_a_node() {
        settings().check(Span::secs(86_400)).unwrap();
        assert_eq!(settings().replication(), BTreeMap::from([("datacenter1".to_owned(), 3)]));
        assert_eq!(settings().class_of("anyone"), Class::Forever);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_name() {
        for (error, part) in [
            (refused(|settings| settings.nodes.clear()), "1 to 64"),
            (refused(|settings| settings.nodes = vec!["localhost".to_owned()]), "\"localhost\" is none"),
            (refused(|settings| settings.nodes = vec![":9042".to_owned()]), "\":9042\" is none"),
            (refused(|settings| settings.keyspace = "a; DROP".to_owned()), "keyspace"),
            (refused(|settings| settings.keyspace = "1a".to_owned()), "keyspace"),
            (refused(|settings| settings.datacenter = "dc'1".to_owned()), "no name of a datacenter"),
            (refused(|settings| settings.replication = [("b".to_owned(), 3)].into()), "add it"),
            (refused(|settings| settings.replication = [("datacenter1".to_owned(), 0)].into()), "1 to 100"),
            (refused(|settings| settings.read_timeout = Span::millis(1)), "read_timeout"),
            (refused(|settings| settings.in_flight = 0), "in_flight"),
            (refused(|settings| settings.security.tls = true), "ca_file"),
            (refused(|settings| settings.security.ca_file = Some("x".into())), "tls = true"),
            (refused(|settings| settings.security.username = Some("x".into())), "password_file"),
            (refused(|settings| settings.security.key_file = Some("x".into())), "certificate_file"),
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_class_that_forgets_before_the_last_copy_is_refused() {
        let mut settings = settings();
        settings.tenants.insert("plant".to_owned(), Class::Days30);
        settings.check(Span::secs(30 * 86_400)).unwrap();
        let error = settings.check(Span::secs(31 * 86_400)).unwrap_err().to_string();
        assert!(error.contains("tenant plant") && error.contains("30d") && error.contains("31d"), "{error}");
    }
}
