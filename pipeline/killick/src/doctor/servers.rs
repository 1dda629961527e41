//! What servers are looked at: brokers, catalog, registry.

use std::collections::BTreeSet;

use killick_catalog::{CqlCatalog, Error};
use killick_kafka::topics::{self, Reading, Survey};
use killick_stages::deployment::Deployment;

use super::{Look, now};
use crate::cluster;
use crate::config::Config;
use crate::registry::Registry;

/// Whether what stages need is configured at all.
pub fn configuration(config: &Config) -> Look {
    let mut look = Look::default();
    let deployment = &config.deployment;
    look.saw(format!(
        "{} logs of {} in generation {}, chains {:?} of {}, {} sources, {} series of later anchors",
        deployment.logs,
        deployment.name,
        deployment.generation,
        deployment.chains,
        deployment.network,
        config.sources.len(),
        config.reanchor.len()
    ));
    if let Some(kafka) = &config.kafka {
        look.saw(match &kafka.slot {
            Some(slot) => format!("slot {slot}"),
            None => format!("slot {}, the host's name", cluster::host_name()),
        });
    }
    let mut missing = |is_there: bool, section: &str, wanted: &str| {
        if !is_there {
            look.breaks(
                format!("[{section}]"),
                "it is not in the configuration",
                wanted,
                "add it, as deploy/killick.example.toml has it",
            );
        }
    };
    missing(!config.sources.is_empty(), "[source]", "the topics that ingest reads");
    missing(config.catalog.is_some(), "catalog", "the catalog that prove writes and receipts are read from");
    missing(config.chainweb.is_some(), "chainweb", "the nodes that anchor and prove ask");
    missing(config.keys.folder.is_some(), "keys", "the folder of the keys that batch and anchor sign with");
    look
}

/// Brokers, topics, rights and groups.
pub fn kafka(config: &Config) -> Look {
    let mut look = Look::default();
    let Some(settings) = &config.kafka else { return look };
    let deployment = match Deployment::new(&config.deployment) {
        Ok(deployment) => deployment,
        Err(error) => {
            look.breaks("[deployment]", error.to_string(), "a deployment", "correct the configuration");
            return look;
        }
    };
    let Survey { brokers, topics, groups, findings } =
        match topics::survey(settings, &config.wanted_topics(&deployment)) {
            Ok(survey) => survey,
            Err(error) => {
                look.breaks(
                    format!("brokers {}", settings.brokers.join(", ")),
                    error.to_string(),
                    "brokers that answer",
                    "see [kafka] brokers and [kafka.security], and whether this machine reaches them",
                );
                return look;
            }
        };
    look.saw(format!("{brokers} brokers, {} topics, and our rights there", topics.len()));
    look.findings.extend(findings);
    for reading in &groups {
        group(&mut look, reading);
    }
    look
}

fn group(look: &mut Look, reading: &Reading) {
    let Reading { stage, group, lag, members } = reading;
    let waiting = lag.map_or("nobody may know how many".to_owned(), |lag| lag.to_string());
    let about = format!("group {group}");
    let Some(members) = members else {
        look.saw(format!("{about}: {waiting} records wait"));
        look.advice(
            about,
            "the brokers do not say who is at work in it",
            "to know whether the stage runs",
            format!("allow this user to describe group {group}"),
        );
        return;
    };
    let names: BTreeSet<_> = members.iter().map(String::as_str).collect();
    let listed: Vec<_> = names.iter().copied().collect();
    let at_work = if listed.is_empty() { "nobody".to_owned() } else { listed.join(", ") };
    look.saw(format!("{about}: {waiting} records wait, at work: {at_work}"));
    if names.len() < members.len() {
        look.breaks(
            about.clone(),
            format!("{} members have {} names: {at_work}", members.len(), names.len()),
            "a slot for each process: two in one end each other's transactions",
            "give each process its own [kafka] slot",
        );
    }
    if members.is_empty() {
        let wanted = "a process that does the stage's work";
        let remedy = format!("start one: `killick run --stages {stage} -c FILE`");
        match lag {
            Some(0) => look.advice(about, "nobody is at work, and nothing waits", wanted, remedy),
            _ => look.breaks(about, format!("nobody is at work, and {waiting} records wait"), wanted, remedy),
        }
    }
}

/// Whether the catalog answers, and is what this program needs.
pub fn catalog(config: &Config) -> Look {
    let mut look = Look::default();
    let Some(settings) = &config.catalog else { return look };
    let about = format!("catalog {}", settings.nodes.join(", "));
    let catalog = match CqlCatalog::new(settings) {
        Ok(catalog) => catalog,
        Err(error) => {
            let remedy = "correct what [catalog] says, or the file that it names";
            look.breaks(about, error.to_string(), "settings that work", remedy);
            return look;
        }
    };
    match catalog.differences() {
        Ok(differences) => {
            let version = killick_schemas::MIGRATIONS.last().map_or(0, |migration| migration.version);
            let keyspace = &settings.keyspace;
            look.saw(format!(
                "keyspace {keyspace}, its replication, and its tables: version {version} is wanted"
            ));
            for difference in differences {
                // What to do stands behind the colon.
                let text = difference.to_string();
                let (found, remedy) =
                    text.split_once(": ").unwrap_or((&text, "run `killick catalog migrate`"));
                look.breaks(about.clone(), found, "the tables that this program needs", remedy);
            }
        }
        Err(error) => {
            let remedy = if matches!(error, Error::Away { .. }) {
                "see [catalog] nodes and datacenter, whether the nodes run, and whether this machine reaches them"
            } else {
                "see [catalog.security], and what the nodes' own log says"
            };
            look.breaks(about, error.to_string(), "nodes that answer", remedy);
            return look;
        }
    }
    let asked = now();
    match catalog.clock() {
        Ok(theirs) => look.clock("the catalog", theirs, asked, 1),
        Err(error) => look.saw(format!("the clock of the catalog: it does not say: {error}")),
    }
    look
}

/// Whether the schema registry answers.
pub fn registry(config: &Config) -> Look {
    let mut look = Look::default();
    let Some(settings) = &config.registry else { return look };
    let checked = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| Ok(Registry::new(settings, runtime.handle().clone())?.check()?));
    match checked {
        Ok(()) => look.saw("the schema registry: it answers, and lets us in"),
        Err(error) => look.breaks(
            "registry",
            format!("{error:#}"),
            "a registry that answers: events whose schemas are not known yet wait for it",
            "see [registry] url, username, password_file and ca_file, and whether this machine reaches it",
        ),
    }
    look
}
