//! Which keys sign the logs of a deployment, by its own word or by a trust file.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use killick_proof::note::{SignerKey, VerifierKey};
use killick_proof::trust::{LogKey, MAX_TRUST, TrustFile};
use killick_stages::deployment::Deployment;

use super::Stores;
use crate::cli::Failure;
use crate::{cluster, secrets};

/// Reads a trust file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_trust(path: &Path) -> Result<TrustFile> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_TRUST as u64 + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    TrustFile::parse(&bytes).with_context(|| path.display().to_string())
}

/// What a deployment knows of its own logs.
///
/// # Errors
/// A key cannot be read, or there is none.
pub fn own_trust(stores: &Stores) -> Result<TrustFile, Failure> {
    let (mut trust, keys) = match stores {
        Stores::Folder(folder) => {
            let path = folder.path().join("trust.json");
            let trust = if path.exists() { read_trust(&path)? } else { TrustFile::default() };
            (trust, keys_in(&folder.path().join("keys"))?)
        }
        Stores::Servers(config) => {
            let folder = config.keys.folder.as_deref();
            let keys = folder.map(|folder| cluster::verifiers(folder, &Deployment::new(&config.deployment)?));
            (TrustFile::default(), keys.transpose()?.unwrap_or_default())
        }
    };
    for key in keys {
        if !trust.logs.iter().any(|known| known.key == key) {
            trust.logs.push(LogKey { key, until: None });
        }
    }
    if trust.logs.is_empty() {
        return Err(Failure::Usage("--trust FILE: which keys sign the logs? (or [keys] folder)".to_owned()));
    }
    Ok(trust)
}

/// The public parts of the log keys in a folder.
fn keys_in(folder: &Path) -> Result<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    if !folder.exists() {
        return Ok(keys);
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("log-") {
            continue;
        }
        let text = secrets::read(&path)?;
        match (text.parse::<SignerKey>(), text.parse::<VerifierKey>()) {
            (Ok(key), _) => keys.push(key.verifier()),
            (_, Ok(key)) => keys.push(key),
            _ => bail!("{} is no log key", path.display()),
        }
    }
    Ok(keys)
}
