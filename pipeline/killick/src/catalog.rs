//! `killick catalog`: makes the catalog's tables, says how they differ, and writes the catalog anew from the log.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use killick_catalog::CqlCatalog;

use crate::cli::Outcome;
use crate::config::{Config, ConfigArgs, needed};

mod rebuild;

/// Works on the catalog: its tables, and what is in them.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick catalog migrate -c killick.toml")]
pub struct CatalogCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes the keyspace of [catalog] and its tables, or brings them to the version that this program needs.
    ///
    /// Can be repeated, also by several at once, and goes on where an earlier call was cut off. It changes no replication
    /// and drops nothing. Exit status 1 if the tables still are not what is needed: as `check` tells it.
    #[command(after_help = "Example: killick catalog migrate -c killick.toml")]
    Migrate {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Says how the keyspace of [catalog] differs from what this program needs, and what to do about it.
    ///
    /// Changes nothing. Exit status 1 if it differs.
    #[command(after_help = "Example: killick catalog check -c killick.toml")]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Writes the catalog anew from the log: from its batches, and from the anchors that the proofs carry.
    ///
    /// Goes on where the catalog ends, so it can be stopped at any time and called again, also while the pipeline runs.
    /// The log is that of [kafka], or the folder's with --embedded; the catalog is that of [catalog], or the folder's where
    /// the configuration has none. So a folder's catalog can be brought to a cluster.
    #[command(
        after_help = "Examples:\n  killick catalog rebuild -c killick.toml\n  killick catalog rebuild --embedded site/"
    )]
    Rebuild(rebuild::RebuildArgs),
}

/// Does what `killick catalog` is asked to.
pub fn run(command: &CatalogCommand) -> Outcome {
    match &command.command {
        Action::Migrate { config } => Ok(migrate(&open(config)?)?),
        Action::Check { config } => Ok(check(&open(config)?, &mut io::stdout())?),
        Action::Rebuild(args) => Ok(rebuild::run(args)?),
    }
}

fn open(args: &ConfigArgs) -> Result<CqlCatalog> {
    let config = Config::load(args)?;
    let settings = needed(config.catalog.as_ref(), "catalog", "where is the catalog?")?;
    Ok(CqlCatalog::new(settings)?)
}

fn migrate(catalog: &CqlCatalog) -> Result<ExitCode> {
    let migrated = catalog.migrate()?;
    let mut out = io::stdout();
    if migrated.keyspace {
        writeln!(out, "the keyspace was made")?;
    }
    if migrated.from == migrated.to {
        writeln!(out, "the tables are at version {}, as they were", migrated.to)?;
    } else {
        writeln!(out, "the tables are at version {}, they were at {}", migrated.to, migrated.from)?;
    }
    check(catalog, &mut out)
}

fn check(catalog: &CqlCatalog, out: &mut impl io::Write) -> Result<ExitCode> {
    let differences = catalog.differences()?;
    for difference in &differences {
        writeln!(out, "{difference}")?;
    }
    if differences.is_empty() {
        writeln!(out, "the catalog is what this program needs")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
