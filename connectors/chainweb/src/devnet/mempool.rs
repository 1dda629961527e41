//! What waits to be mined, and the checks before it may wait: the node's, in the node's order.

use std::collections::{BTreeMap, HashMap};

use crate::graph::ChainId;
use crate::hash::Hash;
use crate::pact::{Command, CommandError};

use super::decimal::Decimal;
use super::execute::{BLOCK_GAS_LIMIT, fee};
use super::payload::{Action, Payload};

/// Longest time to live, in seconds.
pub(super) const MAX_TTL: i64 = 172_800;

/// How far ahead of the clock a creation time may be, in seconds.
const MAX_AHEAD: i64 = 10;

/// Most signatures of a command.
pub(super) const MAX_SIGNATURES: usize = 100;

/// Smallest gas price: 1e-8 of the coin, in 10^-12.
const MIN_GAS_PRICE: u128 = 10_000;

/// Digits after the point that a gas price may have.
pub(super) const MAX_PRICE_PLACES: u32 = 12;

/// Most bytes of commands that wait on one chain: over a hundred blocks full of anchors.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Most dropped commands that are remembered on one chain.
const MAX_BADLISTED: usize = 10_000;

/// An account on a chain.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// The one key that guards it, in hex.
    pub(super) key: String,
    /// In 10^-12 of the coin.
    pub(super) balance: u128,
}

/// A command that passed all checks.
pub(super) struct Waiting {
    pub(super) command: Command,
    pub(super) payload: Payload,
    /// Whether no block takes it, though it waits.
    pub(super) is_stuck: bool,
    /// Whether it fails in its block, whatever it does.
    pub(super) fails: bool,
    arrival: u64,
}

/// Why a command is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By the checks of the mempool, whose text seldom reaches the client (see [`super::SendError`]).
    Mempool(String),
    /// By the checks of Pact that come after.
    Pact(String),
}

/// What the checks look at beside the command.
pub(super) struct Surroundings<'a> {
    pub(super) network: &'a str,
    pub(super) chain: ChainId,
    pub(super) accounts: &'a BTreeMap<String, Account>,
    pub(super) is_mined: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// The commands that wait on one chain.
#[derive(Default)]
pub(super) struct Mempool {
    waiting: HashMap<Hash, Waiting>,
    waiting_bytes: usize,
    arrivals: u64,
    /// Commands that can never be mined, with the second in which they expire.
    badlist: HashMap<Hash, i64>,
}

impl Mempool {
    /// Checks a command that does not wait yet.
    pub(super) fn check(
        &self,
        command: &Command,
        payload: &Payload,
        around: &Surroundings<'_>,
    ) -> Result<(), Refusal> {
        self.pre_check(command, payload, around).map_err(Refusal::Mempool)?;
        pact_check(command, payload, around).map_err(Refusal::Pact)
    }

    fn pre_check(
        &self,
        command: &Command,
        payload: &Payload,
        around: &Surroundings<'_>,
    ) -> Result<(), String> {
        let meta = &payload.meta;
        if meta.gas_limit > BLOCK_GAS_LIMIT {
            let limit = BLOCK_GAS_LIMIT;
            return Err(format!("Transaction gas limit exceeds block gas limit (ParsedInteger {limit})"));
        }
        if meta.gas_price.places() > MAX_PRICE_PLACES {
            return Err(format!(
                "insert error: This transaction's gas price: {} is not correctly rounded. It should be rounded to at most {MAX_PRICE_PLACES} decimal places.",
                meta.gas_price.fixed()
            ));
        }
        // A price too large for the comparison is above the minimum; nobody can pay it later on.
        if meta.gas_price.to_units().is_some_and(|price| price < MIN_GAS_PRICE) {
            let minimum = Decimal::from_units(MIN_GAS_PRICE).fixed();
            return Err(format!(
                "Transaction gas price ({}) is below minimum gas price ({minimum})",
                meta.gas_price.fixed()
            ));
        }
        if meta.ttl <= 0 || meta.expires() <= around.now {
            return Err("Transaction time-to-live is expired".into());
        }
        if meta.creation_time > around.now.saturating_add(MAX_AHEAD) {
            return Err("Transaction creation time too far in the future".into());
        }
        if around.is_mined {
            return Err("Transaction already exists on chain".into());
        }
        if self.is_badlisted(&command.hash) {
            return Err("Transaction is badlisted because it previously failed to validate.".into());
        }
        let conflict =
            || "Transaction metadata (chain id, chainweb version) conflicts with this endpoint".to_owned();
        let chain: u32 = meta.chain_id.parse().map_err(|_| "insert error: Unparsable ChainId".to_owned())?;
        if chain != around.chain.0 {
            return Err(conflict());
        }
        if command.sigs.len() > MAX_SIGNATURES {
            return Err("insert error: Too many signatures".into());
        }
        if payload.network.as_deref() != Some(around.network) {
            return Err(conflict());
        }
        let bytes = self.waiting_bytes.saturating_add(command.cmd.len());
        if bytes > MAX_WAITING_BYTES {
            return Err("insert error: the mempool of the development network is full".into());
        }
        Ok(())
    }

    /// Adds a command that was checked.
    pub(super) fn insert(&mut self, command: Command, payload: Payload) {
        self.arrivals += 1;
        let (key, bytes) = (command.hash, command.cmd.len());
        let waiting = Waiting { command, payload, is_stuck: false, fails: false, arrival: self.arrivals };
        if self.waiting.insert(key, waiting).is_none() {
            self.waiting_bytes += bytes;
        }
    }

    /// Adds a command that was in a block, as far as there is room.
    pub(super) fn put_back(&mut self, command: Command, payload: Payload) {
        let bytes = self.waiting_bytes.saturating_add(command.cmd.len());
        if bytes <= MAX_WAITING_BYTES && !self.contains(&command.hash) {
            self.insert(command, payload);
        }
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Forgets what can never be mined.
    pub(super) fn clear_badlist(&mut self) {
        self.badlist.clear();
    }

    /// Keeps a command from all blocks, until it expires.
    pub(super) fn hold(&mut self, key: &Hash) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.is_stuck = true;
        }
    }

    /// Lets a command fail in its block.
    pub(super) fn fail(&mut self, key: &Hash) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.fails = true;
        }
    }

    pub(super) fn contains(&self, key: &Hash) -> bool {
        self.waiting.contains_key(key)
    }

    pub(super) fn is_badlisted(&self, key: &Hash) -> bool {
        self.badlist.contains_key(key)
    }

    /// What waits and can be mined, in the order of its arrival.
    pub(super) fn moving(&self) -> impl Iterator<Item = &Command> {
        let mut waiting: Vec<_> = self.waiting.values().filter(|waiting| !waiting.is_stuck).collect();
        waiting.sort_by_key(|waiting| waiting.arrival);
        waiting.into_iter().map(|waiting| &waiting.command)
    }

    /// All that waits, the best price first, then in order of arrival.
    pub(super) fn by_price(&self) -> Vec<(&Hash, &Waiting)> {
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|(_, waiting)| {
            (std::cmp::Reverse(waiting.payload.meta.gas_price.to_units()), waiting.arrival)
        });
        waiting
    }

    /// Forgets a command that was mined or expired.
    pub(super) fn remove(&mut self, key: &Hash) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.waiting_bytes -= waiting.command.cmd.len();
        }
    }

    /// Drops a command for good: it can never be mined.
    pub(super) fn ban(&mut self, key: &Hash, now: i64) {
        let expires = self.waiting.get(key).map_or(now, |waiting| waiting.payload.meta.expires());
        self.remove(key);
        if self.badlist.len() >= MAX_BADLISTED {
            self.badlist.retain(|_, expires| *expires > now);
        }
        if self.badlist.len() < MAX_BADLISTED {
            self.badlist.insert(*key, expires);
        }
    }
}

fn pact_check(command: &Command, payload: &Payload, around: &Surroundings<'_>) -> Result<(), String> {
    if let Action::Exec { program: Err(error), .. } = &payload.action {
        return Err(error.clone());
    }
    command.verify_hash().map_err(|_| "Invalid transaction hash".to_owned())?;
    command
        .verify_signatures()
        .map_err(|error| format!("Invalid transaction sigs: {}", signature_text(command, error)))?;
    if payload.meta.ttl > MAX_TTL {
        return Err("Transaction time-to-live is expired".into());
    }
    let key = command.hash;
    can_buy_gas(payload, around.accounts)
        .map_err(|why| format!("Attempt to buy gas failed with: \"{key}\" Failed to buy gas: {why}"))
}

/// What is wrong with the signatures, in the node's words.
pub(super) fn signature_text(command: &Command, error: CommandError) -> String {
    let (index, why) = match error {
        CommandError::Count { signers, signatures } => {
            return format!(
                "The number of signers and signatures do not match. Number of signers: {signers}. Number of signatures: {signatures}."
            );
        }
        CommandError::Signature { index, why } => (index, why),
        other => return other.to_string(),
    };
    let sig = command.sigs.get(index).cloned().flatten().unwrap_or_default();
    let is_assertion = sig.starts_with('{');
    let why = match sig.bytes().position(|byte| !byte.is_ascii_hexdigit()) {
        _ if is_assertion => why,
        Some(offset) => format!("failed to parse ed25519 signature: invalid character at offset: {offset}"),
        None if sig.len() != 128 => {
            format!("failed to parse ed25519 signature: Invalid ED25519 Signature: \"{sig}\"")
        }
        None => "invalid ed25519 signature".to_owned(),
    };
    format!("The signature at position {index} is invalid: {why}.")
}

/// Whether the sender exists, signed, and owns what the gas limit costs at most.
pub(super) fn can_buy_gas(payload: &Payload, accounts: &BTreeMap<String, Account>) -> Result<(), String> {
    let meta = &payload.meta;
    if meta.gas_limit == 0 {
        return Err("gas supply must be a positive quantity".into());
    }
    if meta.sender.chars().count() < 3 {
        return Err(format!("Account name does not conform to the min length requirement: {}", meta.sender));
    }
    let account = accounts
        .get(&meta.sender)
        .ok_or_else(|| format!("No value found in table coin_coin-table for key: {}", meta.sender))?;
    if !payload.signers.iter().any(|signer| signer.key == account.key && signer.pays_gas()) {
        let short: String = account.key.chars().take(8).collect();
        return Err(format!("Keyset failure (keys-all): [{short}...]"));
    }
    match fee(meta.gas_limit, &meta.gas_price) {
        Some(fee) if fee <= account.balance => Ok(()),
        _ => Err("Insufficient funds".into()),
    }
}
