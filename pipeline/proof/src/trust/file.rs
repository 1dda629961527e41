//! The text of a trust file, read and written.

use super::{DeviceKey, Forward, LogKey, MAX_TRUST, TrustError, TrustFile, TrustedNetwork};
use crate::encoding::{base64url, decimal};
use crate::hash::Hash;
use crate::json;
use crate::members::{bytes, hash, items, text};
use crate::signature::PublicKey;
use crate::value::{Value, join};

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
    let mut json = serde_json::json!({ "name": network.name, "blocks": blocks, "headers": headers });
    if let Some(forward) = &network.forward {
        let from: Vec<_> = forward.from.iter().map(Hash::to_string).collect();
        json["forward"] = serde_json::json!({ "from": from, "depth": forward.depth });
    }
    json
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

pub(super) fn read(file: &[u8]) -> Result<(TrustFile, Vec<String>), TrustError> {
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
        self.members(entry, value, &["name", "blocks", "headers", "forward"])?;
        let at_entry = |entry: &str, fault| TrustError::new(entry, fault);
        Ok(TrustedNetwork {
            name: member_text(entry, value, "name")?,
            blocks: self.hashes(&join(entry, "blocks"), value.get("blocks"))?,
            headers: self.list(&join(entry, "headers"), value.get("headers"), |_, entry, value| {
                bytes(value, false).map_err(|fault| at_entry(entry, fault))
            })?,
            forward: match value.get("forward") {
                Some(forward) => Some(self.forward(&join(entry, "forward"), forward)?),
                None => None,
            },
        })
    }

    fn forward(&mut self, entry: &str, value: &Value<'_>) -> Result<Forward, TrustError> {
        self.members(entry, value, &["from", "depth"])?;
        let depth = match value.get("depth") {
            Some(Value::Number(text)) => decimal(text),
            _ => None,
        };
        let depth = depth.ok_or_else(|| TrustError::new(join(entry, "depth"), "is not a whole number"))?;
        Ok(Forward { from: self.hashes(&join(entry, "from"), value.get("from"))?, depth })
    }

    fn hashes(&mut self, entry: &str, value: Option<&Value<'_>>) -> Result<Vec<Hash>, TrustError> {
        self.list(entry, value, |_, entry, value| {
            hash(value, false).map_err(|fault| TrustError::new(entry, fault))
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
