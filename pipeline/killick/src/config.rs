//! The configuration: a TOML file, `KILLICK_…__…` environment variables above it, and flags above both.
//!
//! Checked as a whole before anything is opened. An unknown key is an error that names the nearest known one.

mod show;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_stages::deployment::{self, Deployment};
use killick_stages::devices::Device;
use killick_stages::ingest::{self, Secret};
use killick_stages::source::{Freshness, Source};
use killick_stages::span::Span;
use killick_stages::{anchor, batch, dedup, prove, series};
use serde::Deserialize;
use toml::{Table, Value};

use crate::cli::Outcome;
use crate::{cluster, reanchor, registry, secrets, telemetry};

/// Bytes in the largest configuration file.
const LARGEST: u64 = 64 << 20;

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// The configuration, a TOML file. Settings are also read from the environment: KILLICK_BATCH__WIDTH is `width` of
    /// `[batch]`.
    #[arg(short, long, value_name = "FILE", env = "KILLICK_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Everything that can be set. Each section is the type of the part that it is for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What all parts of a deployment agree on: logs, names, chains.
    pub deployment: deployment::Config,
    /// Input topics.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// Where the schemas of Avro are asked for.
    pub registry: Option<registry::Settings>,
    /// Keys of devices.
    #[serde(rename = "device")]
    pub devices: Vec<Device>,
    /// What is kept of tenants that send unsigned events.
    #[serde(rename = "tenant")]
    pub tenants: BTreeMap<String, Tenant>,
    /// How long copies are found.
    pub dedup: dedup::Config,
    /// When batches are cut.
    pub batch: batch::Config,
    /// How checkpoints are anchored.
    pub anchor: anchor::Config,
    /// How proofs are made.
    pub prove: prove::Config,
    /// The brokers of the log.
    pub kafka: Option<killick_kafka::Settings>,
    /// The nodes of the catalog.
    pub catalog: Option<killick_catalog::Settings>,
    /// Where keys are.
    pub keys: cluster::Keys,
    /// Series of later anchors, by name.
    pub reanchor: BTreeMap<String, reanchor::Settings>,
    /// The nodes of the network.
    pub chainweb: Option<killick_nodes::Settings>,
    /// The development network of the embedded side.
    pub devnet: Devnet,
    /// The embedded side: one machine, one folder.
    pub embedded: Embedded,
    /// The port for those who run it.
    pub admin: telemetry::Settings,
}

/// What is kept of a tenant: exactly one of the two.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tenant {
    /// From this the salt of unsigned events is made: nobody else may know it, and it never changes. 16 bytes or more.
    pub secret: Option<Secret>,
    /// A file that holds it; a relative path begins at the configuration's folder.
    pub secret_file: Option<PathBuf>,
}

/// The development network of the embedded side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devnet {
    /// Time between two blocks of a chain. 10 ms to 1 h; default 1 s.
    pub block_interval: Span,
}

impl Default for Devnet {
    fn default() -> Self {
        Self { block_interval: Span::secs(1) }
    }
}

/// The embedded side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Embedded {
    /// How long records stay in the log after every stage has read them. 1 m to 3660 d; default 7 d.
    pub retention: Span,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { retention: Span::secs(7 * 86_400) }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: std::io::Error,
    },
    /// The file does not say what a configuration says; with its line.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An environment variable sets what cannot be set, or to what it cannot be.
    #[error("environment variable {name}: {why}")]
    Variable {
        /// Its name; its value may be a secret.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Each setting can be read, and they cannot work.
    #[error("[{section}]: {why}")]
    Value {
        /// The section.
        section: String,
        /// What is wrong.
        why: String,
    },
}

/// The start of environment variables that are ours.
const PREFIX: &str = "KILLICK_";

impl Config {
    /// Reads the file, if one is named, and this process's environment, and checks both.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            Some((name, value.into_string()))
        });
        let mut known = Vec::new();
        for (name, value) in variables {
            let why = || ConfigError::Variable { name: name.clone(), why: "not UTF-8".to_owned() };
            known.push((name.clone(), value.map_err(|_| why())?));
        }
        known.sort();
        Self::from_parts(args.config.as_deref(), &known)
    }

    /// Reads a file, and these environment variables above it, and checks both.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_parts(file: Option<&Path>, variables: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        let mut config = Self::default();
        if let Some(path) = file {
            let text = read(path)?;
            // From the text itself: only so do errors know their line.
            let wrong = |error: toml::de::Error| ConfigError::File {
                path: path.to_owned(),
                why: with_nearest(error.to_string().trim_end(), error.message()),
            };
            config = toml::from_str(&text).map_err(wrong)?;
            table = toml::from_str(&text).map_err(wrong)?;
        }
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(PREFIX).and_then(setting) else { continue };
            config = set(&mut table, &path, value)
                .map_err(|why| ConfigError::Variable { name: name.clone(), why })?;
        }
        config.read_secrets(file.and_then(Path::parent))?;
        config.read_schemas(file.and_then(Path::parent))?;
        if let Some(registry) = &mut config.registry {
            registry.resolve(file.and_then(Path::parent));
        }
        config.resolve(file.and_then(Path::parent));
        config.check()?;
        Ok(config)
    }

    /// What ingest takes, from where, and from whom.
    pub fn ingest(&self) -> ingest::Config {
        let tenant = |(name, tenant): (&String, &Tenant)| {
            let secret = tenant.secret.clone()?;
            Some((name.clone(), ingest::Tenant { secret }))
        };
        ingest::Config {
            sources: self.sources.clone(),
            devices: self.devices.clone(),
            tenants: self.tenants.iter().filter_map(tenant).collect(),
            registry: self.registry.is_some(),
        }
    }

    /// What the topics of this deployment on Kafka depend on.
    pub fn wanted_topics<'a>(&'a self, deployment: &'a Deployment) -> killick_kafka::topics::Wanted<'a> {
        killick_kafka::topics::Wanted {
            deployment,
            window: self.dedup.window,
            sources: &self.sources,
            series: self.reanchor.keys().map(String::as_str).collect(),
            input_partitions: None,
        }
    }

    /// Puts the contents of schema files where the schemas would stand.
    fn read_schemas(&mut self, folder: Option<&Path>) -> Result<(), ConfigError> {
        for source in &mut self.sources {
            let Some(file) = &source.schema_file else { continue };
            let path = folder.map_or_else(|| file.clone(), |folder| folder.join(file));
            let schema = read(&path).map_err(|error| {
                let why = format!("schema_file of `{}`: {error}", source.topic);
                ConfigError::Value { section: "source".to_owned(), why }
            })?;
            source.schema = Some(schema.into());
        }
        Ok(())
    }

    /// Makes relative paths begin at the configuration's folder.
    fn resolve(&mut self, folder: Option<&Path>) {
        let Some(folder) = folder else { return };
        if let Some(kafka) = &mut self.kafka {
            kafka.resolve(folder);
        }
        if let Some(catalog) = &mut self.catalog {
            let security = &mut catalog.security;
            let files = [
                &mut security.ca_file,
                &mut security.certificate_file,
                &mut security.key_file,
                &mut security.password_file,
            ];
            for file in files.into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        if let Some(keys) = &mut self.keys.folder {
            *keys = folder.join(&*keys);
        }
        if let Some(chainweb) = &mut self.chainweb {
            chainweb.resolve(Some(folder));
        }
        for series in self.reanchor.values_mut() {
            series.resolve(folder);
        }
    }

    /// Puts the contents of secret files where the secrets would stand.
    fn read_secrets(&mut self, folder: Option<&Path>) -> Result<(), ConfigError> {
        for (name, tenant) in &mut self.tenants {
            let wrong = |why: String| ConfigError::Value { section: format!("tenant.{name}"), why };
            match (&tenant.secret, &tenant.secret_file) {
                (Some(_), None) => {}
                (None, Some(file)) => {
                    let path = folder.map_or_else(|| file.clone(), |folder| folder.join(file));
                    let secret =
                        secrets::read(&path).map_err(|error| wrong(format!("secret_file: {error:#}")))?;
                    tenant.secret = Some(Secret::new(secret.as_str()));
                }
                (Some(_), Some(_)) => {
                    return Err(wrong("secret and secret_file: give one of them".to_owned()));
                }
                (None, None) => return Err(wrong("it needs secret_file, or secret".to_owned())),
            }
        }
        Ok(())
    }

    /// How long after an event a copy of it may still come: as old as a source takes it, at the end of dedup's window.
    fn last_copy(&self) -> Span {
        let late = self.sources.iter().filter_map(|source| match source.freshness {
            Freshness::Within(span) => Some(span.micros() + source.ahead.micros()),
            Freshness::Off => None,
        });
        let late = u64::try_from(late.max().unwrap_or(0)).unwrap_or(0);
        Span::millis((self.dedup.window.micros().unsigned_abs() + late) / 1_000)
    }

    /// Whether it can work: every part is made of it and thrown away, so that nothing is refused later.
    fn check(&self) -> Result<(), ConfigError> {
        fn wrong(section: &str) -> impl Fn(&dyn std::fmt::Display) -> ConfigError {
            let section = section.to_owned();
            move |why| ConfigError::Value { section: section.clone(), why: why.to_string() }
        }
        let range = |section: &str, name: &str, span: Span, (least, most): (Span, Span)| {
            let why = format!("{name} is {span}; it is {least} to {most}");
            if (least..=most).contains(&span) { Ok(()) } else { Err(wrong(section)(&why)) }
        };
        let deployment = Deployment::new(&self.deployment).map_err(|error| wrong("deployment")(&error))?;
        if let Some(registry) = &self.registry {
            registry.check().map_err(|error| wrong("registry")(&format_args!("{error:#}")))?;
        }
        ingest::Checker::new(&deployment, &self.ingest())
            .map_err(|error| wrong("source, device, tenant")(&error))?;
        dedup::Dedup::new(&deployment, &self.dedup).map_err(|error| wrong("dedup")(&error))?;
        for source in &self.sources {
            let Freshness::Within(span) = source.freshness else { continue };
            if span.micros() + source.ahead.micros() > self.dedup.window.micros() {
                let why = format!(
                    "freshness {span} and ahead {} of `{}` are longer than [dedup] window {}: an old copy would pass",
                    source.ahead, source.topic, self.dedup.window
                );
                return Err(wrong("source")(&why));
            }
        }
        // Any keys do for a check.
        let secret = SecretKey::from_seed(&[1; 32]);
        let origins = deployment.origins().iter();
        let signers =
            origins.map(|origin| SignerKey::new(origin, secret.clone())).collect::<Result<Vec<_>, _>>();
        let signers = signers.map_err(|error| wrong("deployment")(&error))?;
        let verifiers = signers.iter().map(SignerKey::verifier).collect();
        batch::Batch::new(&deployment, &self.batch, signers).map_err(|error| wrong("batch")(&error))?;
        anchor::Anchor::new(&deployment, &self.anchor, vec![secret])
            .map_err(|error| wrong("anchor")(&error))?;
        prove::Prove::new(&deployment, &self.prove, verifiers).map_err(|error| wrong("prove")(&error))?;
        if let Some(kafka) = &self.kafka {
            kafka.check().map_err(|error| wrong("kafka")(&error))?;
        }
        if let Some(catalog) = &self.catalog {
            catalog.check(self.last_copy()).map_err(|error| wrong("catalog")(&error))?;
        }
        if let Some(chainweb) = &self.chainweb {
            let client = chainweb.client(deployment.network());
            client.map_err(|error| wrong("chainweb")(&format_args!("{error:#}")))?;
        }
        for (name, series) in &self.reanchor {
            let checked = series.check(name, &deployment);
            checked.map_err(|error| wrong(&format!("reanchor.{name}"))(&format_args!("{error:#}")))?;
        }
        if self.reanchor.len() > series::MAX_SERIES {
            let why =
                format!("{} series are too many: {} are the most", self.reanchor.len(), series::MAX_SERIES);
            return Err(wrong("reanchor")(&why));
        }
        range("devnet", "block_interval", self.devnet.block_interval, (Span::millis(10), Span::secs(3_600)))?;
        range("embedded", "retention", self.embedded.retention, (Span::secs(60), Span::secs(3_660 * 86_400)))
    }
}

/// A section that what is to be done needs.
///
/// # Errors
/// It is not there: with what it is needed for.
pub fn needed<'a, T>(part: Option<&'a T>, section: &str, why: &str) -> Result<&'a T, ConfigError> {
    part.ok_or_else(|| ConfigError::Value { section: section.to_owned(), why: why.to_owned() })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let io = |cause| ConfigError::Io { path: path.to_owned(), cause };
    let about = std::fs::metadata(path).map_err(io)?;
    if about.len() > LARGEST {
        return Err(io(std::io::Error::other(format!("{} bytes are too many", about.len()))));
    }
    std::fs::read_to_string(path).map_err(io)
}

/// The keys from the outermost section to a setting; `None` for a variable that is no setting: of options, and of what
/// Kubernetes sets for a service that is called killick.
fn setting(name: &str) -> Option<Vec<String>> {
    let is_list = matches!(name, "SOURCE" | "DEVICE");
    (is_list || name.contains("__")).then(|| name.split("__").map(str::to_ascii_lowercase).collect())
}

/// Sets one value in the table and reads the whole again: so an error is this variable's.
fn set(table: &mut Table, path: &[String], text: &str) -> Result<Config, String> {
    // As TOML would write it, if it is TOML; but a text may look like a number.
    let value = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| {
        let value = table.remove("value");
        value.filter(|_| table.is_empty())
    });
    let mut first_error = None;
    for value in value.into_iter().chain([Value::String(text.to_owned())]) {
        let mut changed = table.clone();
        insert(&mut changed, path, value)?;
        match Config::deserialize(Value::Table(changed.clone())) {
            Ok(config) => {
                *table = changed;
                return Ok(config);
            }
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    let error = first_error.ok_or("no value")?;
    Err(with_nearest(error.message(), error.message()))
}

fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let (last, sections) = path.split_last().ok_or("no setting")?;
    let mut table = table;
    for section in sections {
        let inner = table.entry(section.as_str()).or_insert_with(|| Value::Table(Table::new()));
        table = inner.as_table_mut().ok_or_else(|| format!("`{section}` is no section"))?;
    }
    table.insert(last.clone(), value);
    Ok(())
}

/// Adds the nearest known name to what is said of an unknown one.
fn with_nearest(text: &str, message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown "), names.next()) else {
        return text.to_owned();
    };
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 2).max(1))
        .min();
    match nearest {
        Some((_, name)) => format!("{text}\ndid you mean `{name}`?"),
        None => text.to_owned(),
    }
}

/// Works on the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick config check -c killick.toml")]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Checks the configuration, and prints all settings that are in effect, without secrets.
    ///
    /// Exit status: 0 it can work, 2 it cannot.
    #[command(after_help = "Example: killick config check -c killick.toml")]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Does what `killick config` is asked to.
pub fn run(command: &ConfigCommand) -> Outcome {
    let Action::Check { config } = &command.command;
    let text = show::toml(&Config::load(config)?);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
