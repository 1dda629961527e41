//! The trust file: what a verifier chooses to believe. Every part is optional; what is missing bounds the level.

use std::collections::{BTreeMap, HashMap};

use crate::hash::Hash;
use crate::headers::Headers;
use crate::note::VerifierKey;
use crate::report::BlockName;
use crate::signature::PublicKey;
use network::{Draft, Network};

mod file;
mod network;

/// The least [`Forward::depth`]: an hour of the whole network as it was at the cut, since its blocks take half a minute.
pub const MIN_DEPTH: u64 = 120;

/// Bytes in the largest trust file: 64 MiB, room for 100,000 headers.
pub const MAX_TRUST: usize = 64 << 20;

/// The content of a trust file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFile {
    /// Networks with the blocks that are trusted.
    pub networks: Vec<TrustedNetwork>,
    /// Keys of logs.
    pub logs: Vec<LogKey>,
    /// Keys of devices.
    pub devices: Vec<DeviceKey>,
}

/// Blocks of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedNetwork {
    /// The network's name, like `mainnet01`.
    pub name: String,
    /// Hashes of blocks that are trusted.
    pub blocks: Vec<Hash>,
    /// Binary headers that link older blocks to trusted ones. A header alone makes nothing trusted.
    pub headers: Vec<Vec<u8>>,
    /// Whether blocks that go on from a trusted cut are trusted for the work above them, and for how much. Verifiers
    /// that do not know this member trust none of those blocks.
    pub forward: Option<Forward>,
}

/// Trust in newer blocks for work alone: see [`chainweb::braid`] for what that proves and what not.
///
/// The cut is trusted as any listed block is. A block that goes on from it is trusted where the headers of *all* chains
/// from the cut on are given, all rules of the network hold for each, and the headers above the block have `depth` times
/// the work of the cut. What that costs whoever wants to forge a block: `depth` times 30 seconds of all the computers
/// that the network had at the cut. So the cut of a network that has grown since is cheap (by the targets of its blocks,
/// all of mainnet01 made 9 · 10^15 hashes a second in July 2021 and 120 · 10^15 in November 2025), and so is that of a
/// network whose miners are for hire: a new cut is better than a large depth. Networks without proof of work cannot have
/// this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The blocks of the cut, one of each chain; their headers have to be among [`TrustedNetwork::headers`].
    pub from: Vec<Hash>,
    /// How many times the work of the cut has to be above a block. At least [`MIN_DEPTH`].
    pub depth: u64,
}

/// The key of a log: it counts for the log whose origin it is named after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey {
    /// The key.
    pub key: VerifierKey,
    /// Counts only with a trusted block created at this time or before, in µs since 1970.
    pub until: Option<i64>,
}

/// The key of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// The tenant.
    pub tenant: String,
    /// The device.
    pub source: String,
    /// The key.
    pub key: PublicKey,
    /// Counts only with a trusted block created at this time or before, in µs since 1970.
    pub until: Option<i64>,
}

/// A trust file that cannot be believed as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", if entry.is_empty() { String::new() } else { format!("{entry}: ") })]
pub struct TrustError {
    /// The entry, as a path like `logs[2].until`; empty for the file as a whole.
    pub entry: String,
    /// What is wrong with it.
    pub why: String,
}

impl TrustError {
    fn new(entry: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { entry: entry.into(), why: why.to_string() }
    }
}

/// How a trust file stands to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is listed, or a listed block descends from it.
    Trusted,
    /// The headers above it have so many times the work of the cut that they go on from.
    TrustedForWork(u64),
    /// It is not trusted: why, and what is missing.
    Untrusted(String),
}

/// A trust file, checked and ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// By name.
    networks: HashMap<String, Network>,
    /// By name.
    logs: HashMap<String, Vec<LogKey>>,
    /// By tenant, source and key: until when, `None` for always.
    devices: HashMap<(String, String, [u8; PublicKey::LEN]), Option<i64>>,
    /// Keys of devices, decoded once.
    device_keys: HashMap<[u8; PublicKey::LEN], PublicKey>,
    ignored: Vec<String>,
}

impl Trust {
    /// Reads and checks a trust file.
    ///
    /// # Errors
    /// [`TrustError`] names the first entry that is malformed.
    pub fn parse(file: &[u8]) -> Result<Self, TrustError> {
        Self::parse_with(file, &Headers::new())
    }

    /// Reads and checks a trust file, with headers that came beside it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and where a header beside it breaks the rules that [`TrustedNetwork::forward`] asks for.
    pub fn parse_with(file: &[u8], headers: &Headers) -> Result<Self, TrustError> {
        let (file, ignored) = file::read(file)?;
        Ok(Self { ignored, ..Self::new_with(&file, headers)? })
    }

    /// Checks what a trust file says.
    ///
    /// # Errors
    /// [`TrustError`] for a header that does not decode, has another hash than it says, is of another network or
    /// breaks its rules, and for two log keys that signatures cannot tell apart.
    pub fn new(file: &TrustFile) -> Result<Self, TrustError> {
        Self::new_with(file, &Headers::new())
    }

    /// Checks what a trust file says, with headers that came beside it: they link blocks as those in the file do.
    ///
    /// # Errors
    /// As [`new`](Self::new), for a `forward` that asks for too little or has no cut, and for a header that goes on from
    /// that cut and breaks a rule.
    pub fn new_with(file: &TrustFile, headers: &Headers) -> Result<Self, TrustError> {
        let mut trust = Self::default();
        let mut drafts: BTreeMap<&str, Draft<'_>> = BTreeMap::new();
        for (at, network) in file.networks.iter().enumerate() {
            drafts.entry(&network.name).or_default().add(network, &format!("networks[{at}]"))?;
        }
        for (name, draft) in drafts {
            trust.networks.insert(name.to_owned(), draft.link(name, headers)?);
        }
        for (at, log) in file.logs.iter().enumerate() {
            let keys = trust.logs.entry(log.key.name().to_owned()).or_default();
            let is_ambiguous = |known: &LogKey| known.key.id() == log.key.id() && known.key != log.key;
            if keys.iter().any(is_ambiguous) {
                let why = "another key has the same name and id, so signatures cannot tell them apart";
                return Err(TrustError::new(format!("logs[{at}]"), why));
            }
            keys.push(log.clone());
        }
        for device in &file.devices {
            let key = *device.key.as_bytes();
            trust.device_keys.entry(key).or_insert_with(|| device.key.clone());
            let until = trust
                .devices
                .entry((device.tenant.clone(), device.source.clone(), key))
                .or_insert(device.until);
            // The same key listed twice counts where either entry counts.
            *until = until.and_then(|known| Some(known.max(device.until?)));
        }
        Ok(trust)
    }

    /// Whether a block is trusted, by itself or by a trusted descendant.
    pub fn trusts(&self, network: &str, block: &Hash) -> bool {
        self.networks.get(network).is_some_and(|network| network.trusts(block))
    }

    /// Whether a block is trusted, and what for; else what is missing.
    pub fn standing(&self, block: &BlockName) -> Standing {
        match self.networks.get(&block.network) {
            Some(network) => network.standing(block),
            None => Standing::Untrusted(network::NOT_TRUSTED.to_owned()),
        }
    }

    /// The log keys of this name.
    pub fn log_keys(&self, name: &str) -> &[LogKey] {
        self.logs.get(name).map_or(&[], Vec::as_slice)
    }

    /// Until when a device's key counts: `None` where it is not listed, `Some(None)` where it always counts.
    pub fn device_until(
        &self,
        tenant: &str,
        source: &str,
        key: &[u8; PublicKey::LEN],
    ) -> Option<Option<i64>> {
        // Most trust files list few devices and a few list none: do not build a key to look into an empty map.
        if !self.device_keys.contains_key(key) {
            return None;
        }
        self.devices.get(&(tenant.to_owned(), source.to_owned(), *key)).copied()
    }

    /// A device's key that was decoded before.
    pub(crate) fn device_key(&self, key: &[u8; PublicKey::LEN]) -> Option<&PublicKey> {
        self.device_keys.get(key)
    }

    /// Members of the file that nobody knows and that were ignored, as paths; worth a warning, for one could be a
    /// misspelt `until`.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}
