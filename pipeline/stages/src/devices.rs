//! The keys of devices, each with the time for which it counts.

use std::collections::HashMap;

use killick_proof::encoding::array_from_base64url;
use killick_proof::signature::{KeyError, PublicKey};
use serde::Deserialize;

use crate::record::Micros;

/// A device's key: a `[[device]]` of the configuration. A device may have several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The tenant.
    pub tenant: String,
    /// The device: the `source` of its events.
    pub source: String,
    /// The Ed25519 public key, base64url without padding.
    pub key: String,
    /// From which log time on it counts, in µs since 1970. Default: always.
    #[serde(default)]
    pub from: Option<Micros>,
    /// Until which log time it counts, that time not included, in µs since 1970. Default: for ever.
    #[serde(default)]
    pub until: Option<Micros>,
}

/// A key that cannot be enrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key of {tenant}/{device}: {why}")]
pub struct EnrolError {
    /// The tenant, as configured.
    pub tenant: String,
    /// The device, as configured.
    pub device: String,
    /// What is wrong.
    pub why: String,
}

/// Why a key does not count for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// No such key for this tenant and source.
    Unknown,
    /// It would sign anything, or is no key at all.
    Weak(KeyError),
    /// Its time has not come.
    NotYet {
        /// When it comes.
        from: Micros,
    },
    /// Its time is over.
    Revoked {
        /// Since when.
        until: Micros,
    },
}

/// All keys that are enrolled.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    /// By tenant, then by source: a look-up allocates nothing.
    tenants: HashMap<Box<str>, HashMap<Box<str>, Vec<Known>>>,
}

#[derive(Debug, Clone)]
struct Known {
    key: PublicKey,
    from: Option<Micros>,
    until: Option<Micros>,
}

impl Devices {
    /// Enrols keys.
    ///
    /// # Errors
    /// [`EnrolError`] for a key that is not 32 bytes, weak, or whose time ends before it begins.
    pub fn enrol(devices: &[Device]) -> Result<Self, EnrolError> {
        let mut enrolled = Self::default();
        for device in devices {
            let refused = |why: String| EnrolError {
                tenant: device.tenant.escape_debug().to_string(),
                device: device.source.escape_debug().to_string(),
                why,
            };
            let bytes = array_from_base64url(&device.key).map_err(|error| refused(error.to_string()))?;
            let key = PublicKey::enrol(&bytes).map_err(|error| refused(error.to_string()))?;
            if device.from.zip(device.until).is_some_and(|(from, until)| from >= until) {
                return Err(refused("its time ends before it begins".to_owned()));
            }
            let sources = enrolled.tenants.entry(device.tenant.as_str().into()).or_default();
            let known = sources.entry(device.source.as_str().into()).or_default();
            known.push(Known { key, from: device.from, until: device.until });
        }
        Ok(enrolled)
    }

    /// The key of these bytes, if it counts for this device at log time `at`.
    ///
    /// # Errors
    /// [`Unfit`] says why it does not.
    pub fn find(&self, tenant: &str, source: &str, key: &[u8; 32], at: Micros) -> Result<&PublicKey, Unfit> {
        let known = self.tenants.get(tenant).and_then(|sources| sources.get(source));
        let mut unfit = Unfit::Unknown;
        for entry in known.into_iter().flatten().filter(|entry| entry.key.as_bytes() == key) {
            match *entry {
                Known { from: Some(from), .. } if at < from => unfit = Unfit::NotYet { from },
                Known { until: Some(until), .. } if at >= until => unfit = Unfit::Revoked { until },
                _ => return Ok(&entry.key),
            }
        }
        match PublicKey::decode(key) {
            Err(error) if unfit == Unfit::Unknown => Err(Unfit::Weak(error)),
            _ => Err(unfit),
        }
    }
}

#[cfg(test)]
mod tests {
    use killick_proof::encoding::base64url;
    use killick_proof::signature::SecretKey;

    use super::*;

    fn device(seed: u8, from: Option<Micros>, until: Option<Micros>) -> (Device, [u8; 32]) {
        let key = *SecretKey::from_seed(&[seed; 32]).public().as_bytes();
        (Device { tenant: "acme".into(), source: "pump".into(), key: base64url(&key), from, until }, key)
    }

    #[test]
    fn a_key_counts_within_its_time_and_for_its_device_only() {
        let (known, key) = device(1, Some(10), Some(20));
        let devices = Devices::enrol(&[known]).unwrap();
        assert_eq!(devices.find("acme", "pump", &key, 9), Err(Unfit::NotYet { from: 10 }));
        assert!(devices.find("acme", "pump", &key, 10).is_ok());
        assert!(devices.find("acme", "pump", &key, 19).is_ok());
        assert_eq!(devices.find("acme", "pump", &key, 20), Err(Unfit::Revoked { until: 20 }));
        assert_eq!(devices.find("acme", "fan", &key, 15), Err(Unfit::Unknown));
        assert_eq!(devices.find("other", "pump", &key, 15), Err(Unfit::Unknown));
    }

    #[test]
    fn a_device_may_change_its_key_and_come_back_to_it() {
        let (early, key) = device(1, None, Some(10));
        let (late, _) = device(1, Some(30), None);
        let (between, other) = device(2, Some(10), Some(30));
        let devices = Devices::enrol(&[early, late, between]).unwrap();
        assert!(devices.find("acme", "pump", &key, i64::MIN).is_ok());
        assert!(devices.find("acme", "pump", &key, 20).is_err());
        assert!(devices.find("acme", "pump", &other, 20).is_ok());
        assert!(devices.find("acme", "pump", &key, i64::MAX).is_ok());
    }

    #[test]
    fn a_weak_key_is_told_from_an_unknown_one_and_never_enrolled() {
        let weak = [0; 32];
        assert_eq!(Devices::default().find("acme", "pump", &weak, 0), Err(Unfit::Weak(KeyError::SmallOrder)));
        let (mut known, _) = device(1, None, None);
        known.key = base64url(&weak);
        assert!(Devices::enrol(&[known.clone()]).is_err());
        known.key = "short".into();
        assert!(Devices::enrol(&[known]).is_err());
        assert!(Devices::enrol(&[device(1, Some(5), Some(5)).0]).is_err());
    }
}
