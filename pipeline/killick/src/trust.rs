//! `killick trust`: what a verifier may choose to believe, as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use killick_proof::Hash;
use killick_proof::note::VerifierKey;
use killick_proof::signature::PublicKey;
use killick_proof::trust::{DeviceKey, LogKey, MAX_TRUST, TrustFile, TrustedNetwork};
use killick_stages::deployment::Deployment;
use killick_stages::ports::Catalog;
use killick_stages::{ingest, series};

use crate::cli::{Failure, Outcome};
use crate::cluster;
use crate::config::{Config, ConfigArgs};
use crate::stores;
use crate::verify::files;

mod fetch;
mod known;

/// Writes trust files.
///
/// A trust file is JSON, and yours to edit: {"networks": [{"name", "blocks", "headers", "forward"}], "logs": [...],
/// "devices": [...]}. `blocks` are hashes of blocks that you trust, and `headers` binary headers in base64url that link
/// older blocks to them. `forward`: {"from": [hashes], "depth": 1000} also trusts newer blocks, for work alone: `from` is
/// one block of each chain, a cut, whose headers have to stand in `headers`; all headers of all chains from there on have
/// to be given, here or to `killick verify --headers`; and the headers above a receipt's block need `depth` times the work
/// of the cut, at least 120. That is what it would cost to forge a block: `depth` half minutes of the whole network as it
/// was at the cut. So take a cut that is new, and a depth that nobody pays for.
#[derive(Debug, Args)]
#[command(after_help = "Example: killick trust own -c killick.toml --out trust.json")]
pub struct TrustArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Writes what a deployment says of itself: its log keys, its devices, and the blocks of all its anchors.
    ///
    /// It is for whoever runs it. Others take its log keys from it, and learn of blocks from nodes that they choose.
    #[command(after_help = "Example: killick trust own -c killick.toml --out trust.json")]
    Own {
        #[command(flatten)]
        config: ConfigArgs,

        /// The file to write. Default: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Asks several nodes for blocks, and trusts only what enough of them agree on.
    ///
    /// With receipts, the blocks that their anchors are in; else the newest block of each chain that is deep enough. Each
    /// node is asked by itself which block is at that height below its own tip. Exit status 4 where not all that was asked
    /// for is agreed on: the file has the rest.
    #[command(
        after_help = "Examples:\n  killick trust fetch receipts/ --node https://one.example --node https://two.example --with logs.json --out trust.json\n  killick trust fetch --network development --node http://127.0.0.1:1848 --depth 3 --out trust.json"
    )]
    Fetch(fetch::FetchArgs),
    /// Prints what the program knows of public networks: genesis blocks, and dated checkpoints with their origin.
    ///
    /// It believes none of it: only a trust file counts. With --out the checkpoints are written as one, with the headers
    /// that are known of them; a receipt of an older block then needs the headers in between: see `killick verify --help`.
    #[command(
        after_help = "Examples:\n  killick trust known\n  killick trust known --network mainnet01 --with logs.json --out trust.json"
    )]
    Known(known::KnownArgs),
}

/// Does what `killick trust` is asked to.
pub fn run(args: &TrustArgs) -> Outcome {
    let (config, out) = match &args.command {
        Action::Own { config, out } => (config, out),
        Action::Fetch(args) => return fetch::run(args),
        Action::Known(args) => return known::run(args),
    };
    let config = Config::load(config)?;
    let folder = config.keys.folder.as_deref();
    let folder =
        folder.ok_or_else(|| Failure::Usage("[keys] folder: where are the keys of the logs?".to_owned()))?;
    let deployment = Deployment::new(&config.deployment)?;
    let verifiers = cluster::verifiers(folder, &deployment)?;
    let catalog = stores::catalog_of(&config)?;
    let trust = own(&*catalog, &deployment, &verifiers, configured_devices(&config.ingest())?)?;
    match out {
        Some(out) => write(&trust, out)?,
        None => io::stdout().write_all(trust.to_json().as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a deployment says of itself.
///
/// # Errors
/// The catalog cannot be read.
pub fn own(
    catalog: &dyn Catalog,
    deployment: &Deployment,
    verifiers: &[VerifierKey],
    devices: Vec<DeviceKey>,
) -> Result<TrustFile> {
    // Anchors that were made later, elsewhere, may be on other networks.
    let mut blocks: BTreeMap<String, BTreeSet<Hash>> = BTreeMap::new();
    blocks.insert(deployment.network().to_owned(), BTreeSet::new());
    for origin in deployment.origins() {
        for series in series::names(catalog, origin)? {
            let mut number = 0;
            loop {
                let anchors = series::anchors_in(catalog, origin, &series, number)?;
                let Some(first) = anchors.first() else { break };
                number = first.size;
                for anchor in &anchors {
                    let (network, block) = block_of(&anchor.anchor)?;
                    blocks.entry(network).or_default().insert(block);
                }
            }
        }
    }
    let network = |(name, blocks): (String, BTreeSet<Hash>)| TrustedNetwork {
        name,
        blocks: blocks.into_iter().collect(),
        ..TrustedNetwork::default()
    };
    let logs = verifiers.iter().map(|key| LogKey { key: key.clone(), until: None });
    Ok(TrustFile { networks: blocks.into_iter().map(network).collect(), logs: logs.collect(), devices })
}

/// The network and the hash of an anchor's block.
fn block_of(anchor: &[u8]) -> Result<(String, Hash)> {
    let anchor: serde_json::Value = serde_json::from_slice(anchor)?;
    let block = &anchor["block"];
    let network = block["network"].as_str().context("an anchor's block names no network")?;
    let hash = block["hash"].as_str().context("an anchor names no block")?;
    Ok((network.to_owned(), hash.parse().context("an anchor's block has no hash")?))
}

/// The trust file that another is made from; without one nothing is believed yet.
fn taken_over(with: Option<&Path>) -> Result<TrustFile> {
    let Some(path) = with else { return Ok(TrustFile::default()) };
    let bytes = files::read_bounded(path, MAX_TRUST).with_context(|| path.display().to_string())?;
    TrustFile::parse(&bytes).with_context(|| path.display().to_string())
}

/// The entry of a network, which is made where there is none.
fn network_of<'t>(trust: &'t mut TrustFile, name: &str) -> &'t mut TrustedNetwork {
    let index = trust.networks.iter().position(|network| network.name == name).unwrap_or_else(|| {
        trust.networks.push(TrustedNetwork { name: name.to_owned(), ..TrustedNetwork::default() });
        trust.networks.len() - 1
    });
    &mut trust.networks[index]
}

/// Writes a trust file; never half of one under its name.
///
/// # Errors
/// It cannot be written.
pub fn write(trust: &TrustFile, path: &Path) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    std::fs::write(&fresh, trust.to_json()).with_context(|| fresh.display().to_string())?;
    std::fs::rename(&fresh, path).with_context(|| path.display().to_string())
}

/// The devices of the configuration as a trust file lists them.
///
/// # Errors
/// A key is none.
pub fn configured_devices(config: &ingest::Config) -> Result<Vec<DeviceKey>> {
    let devices = config.devices.iter().map(|device| {
        let key = killick_proof::encoding::array_from_base64url(&device.key)
            .with_context(|| format!("the key of {}/{}", device.tenant, device.source))?;
        Ok(DeviceKey {
            tenant: device.tenant.clone(),
            source: device.source.clone(),
            key: PublicKey::decode(&key)?,
            until: device.until,
        })
    });
    devices.collect()
}
