//! Killick: events become receipts that verify with nothing but a file.

mod anchors;
mod audit;
mod backup;
mod catalog;
mod cli;
mod cluster;
mod config;
mod copies;
mod counters;
mod crew;
mod demo;
mod devnet;
mod doctor;
mod feed;
mod fsck;
mod input;
mod keys;
mod latency;
mod logs;
mod office;
mod pending;
mod plan;
mod process;
mod produce;
mod reanchor;
mod receipts;
mod registry;
mod rejected;
mod run;
mod secrets;
mod site;
mod stores;
mod telemetry;
mod topics;
mod trust;
mod verify;
mod watch;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
