//! `killick trust`: what a verifier may choose to believe, as a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use killick_proof::note::VerifierKey;
use killick_proof::signature::PublicKey;
use killick_proof::trust::{DeviceKey, LogKey, TrustFile, TrustedNetwork};
use killick_stages::deployment::Deployment;
use killick_stages::ingest;
use killick_stages::ports::Catalog;

use crate::cli::{Failure, Outcome};
use crate::cluster;
use crate::config::{Config, ConfigArgs};
use crate::stores;

mod fetch;

/// Writes trust files.
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

        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
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
}

/// Does what `killick trust` is asked to.
pub fn run(args: &TrustArgs) -> Outcome {
    let (config, out) = match &args.command {
        Action::Own { config, out } => (config, out),
        Action::Fetch(args) => return fetch::run(args),
    };
    let config = Config::load(config)?;
    let folder = config.keys.folder.as_deref();
    let folder =
        folder.ok_or_else(|| Failure::Usage("[keys] folder: where are the keys of the logs?".to_owned()))?;
    let deployment = Deployment::new(&config.deployment)?;
    let verifiers = cluster::verifiers(folder, &deployment)?;
    let catalog = stores::catalog_of(&config)?;
    let trust = own(&*catalog, &deployment, &verifiers, configured_devices(&config.ingest())?)?;
    write(&trust, out)?;
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
    let mut blocks = Vec::new();
    for origin in deployment.origins() {
        let mut number = 0;
        loop {
            let anchors = catalog.anchors_of(origin, number)?;
            let Some(first) = anchors.first() else { break };
            number = first.size;
            for anchor in &anchors {
                let anchor: serde_json::Value = serde_json::from_slice(&anchor.anchor)?;
                let hash = anchor["block"]["hash"].as_str().context("an anchor names no block")?;
                blocks.push(hash.parse().context("an anchor's block has no hash")?);
            }
        }
    }
    blocks.sort_unstable();
    blocks.dedup();
    let network = TrustedNetwork { name: deployment.network().to_owned(), blocks, headers: Vec::new() };
    let logs = verifiers.iter().map(|key| LogKey { key: key.clone(), until: None });
    Ok(TrustFile { networks: vec![network], logs: logs.collect(), devices })
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
