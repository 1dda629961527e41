//! `killick topics`: makes the topics of a deployment, says what is wrong with them, and what they are for.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use killick_kafka::Names;
use killick_kafka::topics::{self, Applied, Description, Finding};
use killick_stages::deployment::Deployment;
use killick_stages::route::{PROOFS, RECEIPTS};
use serde_json::json;

use crate::cli::{Outcome, Output};
use crate::config::{Config, ConfigArgs, needed};
use crate::registry::Registry;

/// Works on the topics of a deployment on Kafka, and on where its stages begin to read them.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick topics apply -c killick.toml")]
pub struct TopicsCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    config: ConfigArgs,

    /// Text for people, or one JSON object.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes the topics that are missing, sets what may be set without losing anything, and lets each stage begin.
    ///
    /// Can be repeated, also by several at once. It shortens no retention, removes nothing, and leaves topics of others as
    /// they are: what is still wrong is printed with its remedy, and the exit status is 1. Where the configuration has a
    /// [registry], the schemas of `proofs` and `receipts` are registered there, and their ids printed.
    #[command(after_help = "Example: killick topics apply -c killick.toml --input-partitions 12")]
    Apply {
        #[command(flatten)]
        asked: Asked,

        /// Partitions of `events`, where it has to be made. Default: as many as there are logs.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        input_partitions: Option<u32>,
    },
    /// Says what is wrong with the topics, the groups of the stages and our rights, and what to do about it.
    ///
    /// Changes nothing. Exit status 1 if a promise would break.
    #[command(after_help = "Example: killick topics check -c killick.toml")]
    Check(Asked),
    /// Says of each topic what it is for, who writes and reads it, how it has to be, and how it is.
    #[command(after_help = "Example: killick topics describe -c killick.toml")]
    Describe(Asked),
}

/// Does what `killick topics` is asked to.
pub fn run(command: &TopicsCommand) -> Outcome {
    Ok(match &command.command {
        Action::Apply { asked, input_partitions } => apply(asked, *input_partitions)?,
        Action::Check(asked) => check(asked)?,
        Action::Describe(asked) => describe(asked)?,
    })
}

/// A configuration with the parts that topics depend on.
struct Parts {
    config: Config,
    deployment: Deployment,
}

impl Parts {
    fn load(asked: &Asked) -> Result<Self> {
        let config = Config::load(&asked.config)?;
        let deployment = Deployment::new(&config.deployment)?;
        Ok(Self { config, deployment })
    }

    fn kafka(&self) -> Result<&killick_kafka::Settings> {
        Ok(needed(self.config.kafka.as_ref(), "kafka", "brokers: where are they?")?)
    }
}

fn apply(asked: &Asked, input_partitions: Option<u32>) -> Result<ExitCode> {
    let parts = Parts::load(asked)?;
    let mut wanted = parts.config.wanted_topics(&parts.deployment);
    wanted.input_partitions = input_partitions;
    let Applied { mut done, left } = topics::apply(parts.kafka()?, &wanted)?;
    done.extend(register(&parts)?);
    let mut out = io::stdout().lock();
    match asked.output {
        Output::Json => writeln!(out, "{}", json!({ "done": done, "left": left }))?,
        Output::Text => {
            for line in &done {
                writeln!(out, "{line}")?;
            }
            tell(&mut out, &left)?;
        }
    }
    Ok(status(&left))
}

/// Registers the schemas of what others read, under the names that registries give to a topic's values.
fn register(parts: &Parts) -> Result<Vec<String>> {
    let Some(settings) = &parts.config.registry else { return Ok(Vec::new()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let registry = Registry::new(settings, runtime.handle().clone())?;
    let names = Names::new(&parts.kafka()?.prefix);
    let set = &parts.config.prove.schema_ids;
    let mut done = Vec::new();
    for (topic, schema, key, set) in [
        (PROOFS, "proof-ready", "proof_ready", set.proof_ready),
        (RECEIPTS, "receipt", "receipt", set.receipt),
    ] {
        let Some(text) = killick_schemas::schema(schema) else { continue };
        let subject = format!("{}-value", names.topic(topic));
        let id = registry.register(&subject, text)?;
        done.push(match set == id {
            true => format!("schema {subject} has the id {id}, as [prove.schema_ids] says"),
            false => format!("schema {subject} has the id {id}: set [prove.schema_ids] {key} = {id}"),
        });
    }
    Ok(done)
}

fn check(asked: &Asked) -> Result<ExitCode> {
    let parts = Parts::load(asked)?;
    let findings = topics::check(parts.kafka()?, &parts.config.wanted_topics(&parts.deployment))?;
    let mut out = io::stdout().lock();
    match asked.output {
        Output::Json => writeln!(out, "{}", json!({ "findings": findings }))?,
        Output::Text => tell(&mut out, &findings)?,
    }
    Ok(status(&findings))
}

fn tell(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let weight = if finding.is_breaking() { "wrong" } else { "advice" };
        writeln!(out, "{weight}: {finding}")?;
    }
    if findings.is_empty() {
        writeln!(out, "the topics are what this deployment needs")?;
    }
    Ok(())
}

fn status(findings: &[Finding]) -> ExitCode {
    if findings.iter().any(Finding::is_breaking) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn describe(asked: &Asked) -> Result<ExitCode> {
    let parts = Parts::load(asked)?;
    let descriptions = topics::describe(parts.kafka()?, &parts.config.wanted_topics(&parts.deployment))?;
    let mut out = io::stdout().lock();
    match asked.output {
        Output::Json => writeln!(out, "{}", json!({ "topics": descriptions }))?,
        Output::Text => {
            for description in &descriptions {
                describe_one(&mut out, description)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe_one(out: &mut impl Write, topic: &Description) -> io::Result<()> {
    let names = |stages: &[&str], nobody: &str| match stages {
        [] => nobody.to_owned(),
        stages => stages.join(", "),
    };
    writeln!(out, "{}", topic.name)?;
    writeln!(out, "  {}", topic.purpose)?;
    let writers = if topic.is_source { "its producers".to_owned() } else { names(&topic.writers, "nobody") };
    writeln!(out, "  written by {writers}; read by {}", names(&topic.readers, "who subscribes"))?;
    let shown = |shape: &topics::Shape| {
        let configs = shape.configs.iter().map(|(key, value)| format!(" {key}={value}"));
        let (partitions, replication) = (shape.partitions, shape.replication);
        format!("partitions={partitions} replication={replication}{}", configs.collect::<String>())
    };
    match &topic.found {
        Some(found) if *found == topic.wanted => writeln!(out, "  is, as wanted: {}", shown(found))?,
        Some(found) => {
            writeln!(out, "  wanted: {}", shown(&topic.wanted))?;
            writeln!(out, "  is:     {}", shown(found))?;
        }
        None => writeln!(out, "  wanted: {}\n  is missing", shown(&topic.wanted))?,
    }
    if let Some(records) = topic.records {
        writeln!(out, "  about {records} records")?;
    }
    Ok(())
}
