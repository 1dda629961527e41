//! What all parts of a deployment must agree on: its logs, their names, and the chains they are anchored on.

use killick_proof::Algorithm;
use killick_proof::hash::{Sha256Each, sha256};
use killick_proof::origin::{Origin, OriginError};
use serde::Deserialize;

use crate::ports::ChainId;
use crate::ring::Ring;

/// Logs in the largest deployment.
pub const MAX_LOGS: u32 = 4_096;
/// Chains in the largest deployment.
pub const MAX_CHAINS: usize = 1_024;

/// A deployment as configuration gives it. Fixed for the life of a generation of logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The name before the first `/` of every origin: 1 to 200 characters of `a-z0-9.-`, best a domain name that you own.
    pub name: String,
    /// The generation of logs: another number of logs, or another hash, needs another generation. Default 1.
    pub generation: u64,
    /// The hash of the logs: `sha256` (default), `sha512t_256` or `keccak256`.
    pub hash: String,
    /// The number of logs: partitions of `accepted`, `unique` and `batches`. 1 to 4096; default 4.
    pub logs: u32,
    /// The network of the chains, as receipts name it. Default `development`.
    pub network: String,
    /// The chains that logs are anchored on. At least one, none twice; default `[0]`. Chain *i* of this list has
    /// partition *i* of `checkpoints`, so add at the end.
    pub chains: Vec<ChainId>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "killick.local".to_owned(),
            generation: 1,
            hash: "sha256".to_owned(),
            logs: 4,
            network: "development".to_owned(),
            chains: vec![0],
        }
    }
}

/// What is wrong with a deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name or the generation makes no origin.
    #[error("no origin can be made: {0}")]
    Origin(#[from] OriginError),
    /// The hash is none of the three.
    #[error("the hash is sha256, sha512t_256 or keccak256, not `{0}`")]
    Hash(String),
    /// None, or too many.
    #[error("a deployment has 1 to {MAX_LOGS} logs, not {0}")]
    Logs(u32),
    /// None, or too many.
    #[error("a deployment has 1 to {MAX_CHAINS} chains, not {0}")]
    Chains(usize),
    /// One chain twice.
    #[error("chain {0} is listed twice")]
    ChainTwice(ChainId),
    /// No name that a receipt could carry.
    #[error("the network's name is 1 to 64 visible ASCII characters")]
    Network,
}

/// A deployment, checked: who asks it gets answers, not errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    name: Box<str>,
    generation: u64,
    network: Box<str>,
    algorithm: Algorithm,
    origins: Box<[Box<str>]>,
    chains: Box<[ChainId]>,
    /// The place in `chains` of each log's chain.
    chain_of: Box<[u32]>,
}

impl Deployment {
    /// Checks a deployment's configuration.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let algorithm = Algorithm::from_name(&config.hash).ok_or_else(|| Error::Hash(config.hash.clone()))?;
        if !(1..=MAX_LOGS).contains(&config.logs) {
            return Err(Error::Logs(config.logs));
        }
        if config.chains.len() > MAX_CHAINS {
            return Err(Error::Chains(config.chains.len()));
        }
        let visible = config.network.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=64).contains(&config.network.len()) {
            return Err(Error::Network);
        }
        for (index, chain) in config.chains.iter().enumerate() {
            if config.chains[..index].contains(chain) {
                return Err(Error::ChainTwice(*chain));
            }
        }
        let ring = Ring::new(&config.chains).ok_or(Error::Chains(0))?;
        let mut origins = Vec::new();
        let mut chain_of = Vec::new();
        for log in 0..config.logs {
            let origin = Origin::format(&config.name, config.generation, algorithm, u64::from(log))?;
            origins.push(origin.into_boxed_str());
            let chain = ring.chain_of(log);
            let index = config.chains.iter().position(|known| *known == chain);
            let index = index.and_then(|index| u32::try_from(index).ok());
            chain_of.push(index.expect("the ring was made from these chains, which are not many"));
        }
        Ok(Self {
            name: config.name.as_str().into(),
            generation: config.generation,
            network: config.network.as_str().into(),
            algorithm,
            origins: origins.into(),
            chains: config.chains.as_slice().into(),
            chain_of: chain_of.into(),
        })
    }

    /// The name before the first `/` of every origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells the commands of this deployment and generation from those of others.
    pub(crate) fn nonce_prefix(&self) -> String {
        format!("{}/{}", self.name, self.generation)
    }

    /// The network of the chains.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The hash of the logs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The number of logs: at least 1.
    pub fn logs(&self) -> u32 {
        u32::try_from(self.origins.len()).expect("checked against the bound")
    }

    /// The origins of the logs, in order of their numbers.
    pub fn origins(&self) -> &[Box<str>] {
        &self.origins
    }

    /// The origin of a log; `None` if there is no such log.
    pub fn origin(&self, log: u32) -> Option<&str> {
        self.origins.get(usize::try_from(log).ok()?).map(AsRef::as_ref)
    }

    /// The number of the log with that origin; `None` for the log of another deployment or generation.
    pub fn log_of_origin(&self, origin: &str) -> Option<u32> {
        let log = u32::try_from(Origin::parse(origin).ok()?.log()).ok()?;
        (self.origin(log) == Some(origin)).then_some(log)
    }

    /// The log of an event.
    pub fn log_of(&self, tenant: &str, source: &str, id: &str) -> u32 {
        log_of(tenant, source, id, self.logs())
    }

    /// The chains in order of the partitions of `checkpoints`.
    pub fn chains(&self) -> &[ChainId] {
        &self.chains
    }

    /// The chain of a log, and the partition of `checkpoints` that is that chain's; `None` if there is no such log.
    pub fn chain_of(&self, log: u32) -> Option<(ChainId, u32)> {
        let index = *self.chain_of.get(usize::try_from(log).ok()?)?;
        Some((*self.chains.get(usize::try_from(index).ok()?)?, index))
    }
}

/// The log of an event: the first eight bytes of SHA-256 over the length-prefixed names, modulo the number of logs.
/// The same for ingest and for every gateway, for ever; 0 where there are no logs.
pub fn log_of(tenant: &str, source: &str, id: &str, logs: u32) -> u32 {
    log_by(identity_hash(LOG, tenant, source, id), logs)
}

/// The [log](log_of) of each of these events, by tenant, source and id.
pub(crate) fn logs_of<'n>(names: impl IntoIterator<Item = [&'n str; 3]>, logs: u32) -> Vec<u32> {
    let names = names.into_iter();
    // Whatever the hash is.
    if logs < 2 { names.map(|_| 0).collect() } else { identity_hashes(LOG, names, |hash| log_by(hash, logs)) }
}

const LOG: &[u8] = b"killick/log/v1\n";

fn log_by(hash: [u8; 32], logs: u32) -> u32 {
    let number = u64::from_be_bytes(*hash.first_chunk().expect("a SHA-256 hash has more than eight bytes"));
    let log = number.checked_rem(u64::from(logs)).unwrap_or(0);
    u32::try_from(log).expect("a remainder is below its divisor, which is 32 bits wide")
}

/// SHA-256 of a label and the three names, each behind its length as four bytes, so that no two events are alike.
pub(crate) fn identity_hash(label: &[u8], tenant: &str, source: &str, id: &str) -> [u8; 32] {
    identity(label, [tenant, source, id], sha256)
}

/// What `of` makes of the [identity hash](identity_hash) of each of these events: many cost less together.
pub(crate) fn identity_hashes<'n, T>(
    label: &[u8],
    names: impl IntoIterator<Item = [&'n str; 3]>,
    of: impl Fn([u8; 32]) -> T,
) -> Vec<T> {
    let names = names.into_iter();
    let mut found = Vec::with_capacity(names.size_hint().0);
    let mut hashing = Sha256Each::new(|hash| found.push(of(hash)));
    names.for_each(|names| identity(label, names, |parts| hashing.add(parts)));
    hashing.finish();
    found
}

fn identity<T>(label: &[u8], names: [&str; 3], hash: impl FnOnce(&[&[u8]]) -> T) -> T {
    let lengths = names.map(|name| u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
    let [tenant, source, id] = names.map(str::as_bytes);
    hash(&[label, &lengths[0], tenant, &lengths[1], source, &lengths[2], id])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> Result<Deployment, Error> {
        let mut config = Config::default();
        change(&mut config);
        Deployment::new(&config)
    }

    #[test]
    fn each_log_has_an_origin_and_a_chain_of_the_list() {
        let deployment = with(|config| (config.logs, config.chains) = (64, vec![9, 4])).unwrap();
        for log in 0..64 {
            let origin = deployment.origin(log).unwrap();
            assert_eq!(origin, format!("killick.local/1/sha256/{log}"));
            assert_eq!(deployment.log_of_origin(origin), Some(log));
            let (chain, index) = deployment.chain_of(log).unwrap();
            assert_eq!(chain, [9, 4][index as usize]);
        }
        assert_eq!(deployment.origin(64), None);
        assert_eq!(deployment.chain_of(64), None);
        assert_eq!(deployment.log_of_origin("killick.local/2/sha256/0"), None);
        assert_eq!(deployment.log_of_origin("killick.local/1/sha256/64"), None);
    }

    #[test]
    fn a_deployment_that_cannot_work_is_refused() {
        assert_eq!(with(|config| config.logs = 0), Err(Error::Logs(0)));
        assert_eq!(with(|config| config.logs = 4_097), Err(Error::Logs(4_097)));
        assert_eq!(with(|config| config.chains = vec![]), Err(Error::Chains(0)));
        assert_eq!(with(|config| config.chains = vec![1, 2, 1]), Err(Error::ChainTwice(1)));
        assert_eq!(with(|config| config.hash = "md5".into()), Err(Error::Hash("md5".into())));
        assert_eq!(with(|config| config.network = "a b".into()), Err(Error::Network));
        assert_eq!(with(|config| config.name = "A".into()), Err(Error::Origin(OriginError::Name)));
    }

    #[test]
    fn the_log_of_an_event_never_changes() {
        // Fixed for ever: gateways of other releases compute the same.
        let logs: Vec<u32> = (0..8).map(|id| log_of("acme", "pump-1", &id.to_string(), 16)).collect();
        assert_eq!(logs, [4, 1, 1, 15, 1, 9, 7, 14]);
        assert_eq!(log_of("acme", "pump-1", "0", 0), 0);
    }

    #[test]
    fn events_with_names_that_run_together_are_different_events() {
        let one = identity_hash(b"", "ab", "c", "d");
        assert_ne!(one, identity_hash(b"", "a", "bc", "d"));
        assert_ne!(one, identity_hash(b"", "ab", "cd", ""));
    }

    #[test]
    fn events_spread_over_all_logs() {
        let mut counts = [0; 8];
        for id in 0..8_000 {
            counts[log_of("acme", "pump-1", &id.to_string(), 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
