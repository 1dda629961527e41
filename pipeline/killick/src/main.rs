//! Killick: events become receipts that verify with nothing but a file.

mod counters;
mod devchain;
mod office;
mod secrets;
mod site;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Proves later that an event existed by a given time and has not changed since, with nothing but a file.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::VerifyArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Verify(args) => verify::run(&args),
    }
}
