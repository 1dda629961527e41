//! `killick trust known`: what the program knows of public networks, to be looked at or put into a trust file.
//!
//! None of it is believed unless a trust file says so.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use chainweb::known::{self, Known, KnownBlock};
use clap::Args;
use killick_proof::encoding::from_base64url;
use killick_proof::trust::TrustFile;

use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct KnownArgs {
    /// The network. Default: all of which something is known.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,

    /// A trust file that is taken over: its blocks, log keys and devices.
    #[arg(long, value_name = "FILE", requires = "out")]
    with: Option<PathBuf>,

    /// Writes the checkpoints as a trust file too: that is how you say that you believe them.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &KnownArgs) -> Result<ExitCode, Failure> {
    let is_asked = |known: &&Known| args.network.as_ref().is_none_or(|name| name == known.network);
    let asked: Vec<&Known> = known::all().iter().filter(is_asked).collect();
    if asked.is_empty() {
        let names: Vec<_> = known::all().iter().map(|known| known.network).collect();
        return Err(Failure::Usage(format!("--network: only of {} something is known", names.join(" and "))));
    }
    for known in &asked {
        print(known)?;
    }
    if let Some(out) = &args.out {
        let mut trust = super::taken_over(args.with.as_deref())?;
        for known in &asked {
            add(&mut trust, known)?;
        }
        super::write(&trust, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(known: &Known) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", known.network)?;
    writeln!(out, "  genesis blocks ({}):", known.genesis_origin)?;
    print_blocks(&mut out, known.genesis)?;
    for checkpoint in known.checkpoints {
        writeln!(out, "  {}: {} ({}):", checkpoint.date, checkpoint.what, checkpoint.origin)?;
        print_blocks(&mut out, checkpoint.blocks)?;
    }
    Ok(())
}

fn print_blocks(out: &mut impl io::Write, blocks: &[KnownBlock]) -> io::Result<()> {
    blocks.iter().try_for_each(|KnownBlock { chain, height, hash }| {
        writeln!(out, "    chain {chain:>2} at {height:>7}  {hash}", chain = chain.0)
    })
}

/// Adds the checkpoints of a network; the genesis blocks would trust nothing but themselves.
fn add(trust: &mut TrustFile, known: &Known) -> Result<()> {
    let network = super::network_of(trust, known.network);
    for checkpoint in known.checkpoints {
        network.blocks.extend(checkpoint.blocks.iter().map(|block| killick_proof::Hash::new(block.hash.0)));
        for header in checkpoint.headers() {
            network.headers.push(from_base64url(header).context("a header of a checkpoint")?);
        }
    }
    network.blocks.sort_unstable();
    network.blocks.dedup();
    network.headers.sort_unstable();
    network.headers.dedup();
    Ok(())
}
