//! The trust file: what a verifier chooses to believe. Every part is optional; what is missing bounds the level.

use std::collections::{HashMap, HashSet};

use crate::chain::{self, TrustedHeader};
use crate::encoding::base64url;
use crate::hash::Hash;
use crate::json;
use crate::members::{bytes, hash, items, text};
use crate::note::VerifierKey;
use crate::signature::PublicKey;
use crate::value::{Value, join};

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

/// A trust file, checked and ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// By network: trusted blocks, and what trusted blocks descend from as far as the headers say.
    blocks: HashMap<String, HashSet<Hash>>,
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
        let (file, ignored) = read(file)?;
        Ok(Self { ignored, ..Self::new(&file)? })
    }

    /// Checks what a trust file says.
    ///
    /// # Errors
    /// [`TrustError`] for a header that does not decode, has another hash than it says, is of another network or
    /// breaks its rules, and for two log keys that signatures cannot tell apart.
    pub fn new(file: &TrustFile) -> Result<Self, TrustError> {
        let mut trust = Self::default();
        for (at, network) in file.networks.iter().enumerate() {
            let entry = format!("networks[{at}]");
            let linked = linked(network, &entry)?;
            trust.blocks.entry(network.name.clone()).or_default().extend(linked);
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
        self.blocks.get(network).is_some_and(|blocks| blocks.contains(block))
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

/// The trusted blocks of a network and what they descend from, as far as the headers link them.
fn linked(network: &TrustedNetwork, entry: &str) -> Result<HashSet<Hash>, TrustError> {
    let mut headers: HashMap<Hash, TrustedHeader> = HashMap::new();
    for (at, header) in network.headers.iter().enumerate() {
        let header = chain::trusted_header(&network.name, header)
            .map_err(|why| TrustError::new(format!("{entry}.headers[{at}]"), why))?;
        headers.insert(header.hash, header);
    }
    let mut trusted = HashSet::new();
    let mut next = network.blocks.clone();
    while let Some(block) = next.pop() {
        if trusted.insert(block)
            && let Some(header) = headers.get(&block)
        {
            next.extend_from_slice(&header.parents);
        }
    }
    Ok(trusted)
}

impl TrustFile {
    /// Reads a trust file; [`Trust::new`] checks the headers in it.
    ///
    /// # Errors
    /// [`TrustError`] names the first entry that is malformed.
    pub fn parse(file: &[u8]) -> Result<Self, TrustError> {
        read(file).map(|(file, _)| file)
    }

    /// The file in JSON, with a newline at the end.
    pub fn to_json(&self) -> String {
        let networks: Vec<_> = self.networks.iter().map(network_json).collect();
        let logs: Vec<_> = self.logs.iter().map(log_json).collect();
        let devices: Vec<_> = self.devices.iter().map(device_json).collect();
        let file = serde_json::json!({ "networks": networks, "logs": logs, "devices": devices });
        format!("{file:#}\n")
    }
}

fn network_json(network: &TrustedNetwork) -> serde_json::Value {
    let blocks: Vec<_> = network.blocks.iter().map(Hash::to_string).collect();
    let headers: Vec<_> = network.headers.iter().map(|header| base64url(header)).collect();
    serde_json::json!({ "name": network.name, "blocks": blocks, "headers": headers })
}

fn log_json(log: &LogKey) -> serde_json::Value {
    match log.until {
        None => log.key.to_string().into(),
        Some(until) => serde_json::json!({ "key": log.key.to_string(), "until": until }),
    }
}

fn device_json(device: &DeviceKey) -> serde_json::Value {
    let mut json = serde_json::json!({
        "tenant": device.tenant,
        "source": device.source,
        "key": base64url(device.key.as_bytes()),
    });
    if let Some(until) = device.until {
        json["until"] = until.into();
    }
    json
}

/// A reader of trust files, which notes the members that it ignores.
struct Reader {
    ignored: Vec<String>,
}

fn read(file: &[u8]) -> Result<(TrustFile, Vec<String>), TrustError> {
    if file.len() > MAX_TRUST {
        return Err(TrustError::new("", format_args!("a trust file has at most {MAX_TRUST} bytes")));
    }
    let value =
        json::parse(file).map_err(|error| TrustError { why: error.to_string(), entry: error.path })?;
    let mut reader = Reader { ignored: Vec::new() };
    reader.members("", &value, &["networks", "logs", "devices"])?;
    let file = TrustFile {
        networks: reader.list("networks", value.get("networks"), Reader::network)?,
        logs: reader.list("logs", value.get("logs"), Reader::log)?,
        devices: reader.list("devices", value.get("devices"), Reader::device)?,
    };
    Ok((file, reader.ignored))
}

impl Reader {
    /// Makes sure that a value is an object and notes the members that are not known.
    fn members(&mut self, entry: &str, value: &Value<'_>, known: &[&str]) -> Result<(), TrustError> {
        let Value::Object(members) = value else {
            return Err(TrustError::new(entry, format_args!("is {}, not an object", value.kind())));
        };
        let unknown = members.iter().map(|(name, _)| name).filter(|name| !known.contains(&name.as_ref()));
        self.ignored.extend(unknown.map(|name| join(entry, name)));
        Ok(())
    }

    /// Reads the items of an optional array.
    fn list<'v, 'a, T>(
        &mut self,
        entry: &str,
        value: Option<&'v Value<'a>>,
        mut read: impl FnMut(&mut Self, &str, &'v Value<'a>) -> Result<T, TrustError>,
    ) -> Result<Vec<T>, TrustError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let items = items(value).map_err(|fault| TrustError::new(entry, fault))?;
        items.iter().enumerate().map(|(at, item)| read(self, &format!("{entry}[{at}]"), item)).collect()
    }

    fn network(&mut self, entry: &str, value: &Value<'_>) -> Result<TrustedNetwork, TrustError> {
        self.members(entry, value, &["name", "blocks", "headers"])?;
        let at_entry = |entry: &str, fault| TrustError::new(entry, fault);
        Ok(TrustedNetwork {
            name: member_text(entry, value, "name")?,
            blocks: self.list(&join(entry, "blocks"), value.get("blocks"), |_, entry, value| {
                hash(value, false).map_err(|fault| at_entry(entry, fault))
            })?,
            headers: self.list(&join(entry, "headers"), value.get("headers"), |_, entry, value| {
                bytes(value, false).map_err(|fault| at_entry(entry, fault))
            })?,
        })
    }

    fn log(&mut self, entry: &str, value: &Value<'_>) -> Result<LogKey, TrustError> {
        let (entry, key, until) = match value {
            Value::Text(key) => (entry.to_owned(), key.to_string(), None),
            value => {
                self.members(entry, value, &["key", "until"])?;
                (join(entry, "key"), member_text(entry, value, "key")?, until(entry, value)?)
            }
        };
        let key = key.parse().map_err(|error| TrustError::new(entry, error))?;
        Ok(LogKey { key, until })
    }

    fn device(&mut self, entry: &str, value: &Value<'_>) -> Result<DeviceKey, TrustError> {
        self.members(entry, value, &["tenant", "source", "key", "until"])?;
        let key = value.get("key").ok_or_else(|| TrustError::new(join(entry, "key"), "is absent"))?;
        let key = hash(key, false).map_err(|fault| TrustError::new(join(entry, "key"), fault))?;
        Ok(DeviceKey {
            tenant: member_text(entry, value, "tenant")?,
            source: member_text(entry, value, "source")?,
            key: PublicKey::decode(key.as_bytes())
                .map_err(|error| TrustError::new(join(entry, "key"), error))?,
            until: until(entry, value)?,
        })
    }
}

fn member_text(entry: &str, value: &Value<'_>, name: &str) -> Result<String, TrustError> {
    let member = value.get(name).ok_or_else(|| TrustError::new(join(entry, name), "is absent"))?;
    text(member).map_err(|fault| TrustError::new(join(entry, name), fault))
}

/// Reads an optional time: a signed decimal without leading zero, fraction and exponent.
fn until(entry: &str, value: &Value<'_>) -> Result<Option<i64>, TrustError> {
    let Some(value) = value.get("until") else { return Ok(None) };
    let time = match value {
        Value::Number(text) => text.parse::<i64>().ok().filter(|time| time.to_string() == *text),
        _ => None,
    };
    match time {
        Some(time) => Ok(Some(time)),
        None => {
            Err(TrustError::new(join(entry, "until"), "is not a whole number of microseconds since 1970"))
        }
    }
}
