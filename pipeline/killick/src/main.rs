//! Killick: events become receipts that verify with nothing but a file.

mod cli;
mod config;
mod copies;
mod counters;
mod demo;
mod devchain;
mod devnet;
mod feed;
mod input;
mod keys;
mod latency;
mod nodechain;
mod office;
mod process;
mod produce;
mod receipts;
mod rejected;
mod run;
mod secrets;
mod site;
mod verify;
mod watch;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
