//! The commands that wait for a block: taken, told to others, dropped.

use crate::graph::ChainId;
use crate::hash::Hash;
use crate::pact::Command;

use super::SendError;
use super::chain::seconds;
use super::mempool::{Refusal, Surroundings};
use super::network::Network;
use super::payload::Payload;

impl Network {
    /// Checks commands and lets them wait for a block, all or none. `now` is in µs since 1970.
    ///
    /// A command that waits already is accepted again.
    ///
    /// # Errors
    /// [`SendError`], with the status and text of a node.
    pub fn send(&mut self, chain: ChainId, commands: &[Command], now: i64) -> Result<Vec<Hash>, SendError> {
        let network = &self.version.name;
        let Some(chain) = self.chains.get_mut(chain.0 as usize) else {
            return Err(SendError::unknown_chain());
        };
        let mut accepted = Vec::new();
        for command in commands {
            let payload = Payload::parse(&command.cmd).map_err(|error| {
                SendError::refused(format!("reading JSON for transaction failed: {error}"))
            })?;
            accepted.push(payload);
        }
        let mut refusals = Vec::new();
        let mut is_swallowed = false;
        for (index, (command, payload)) in commands.iter().zip(&accepted).enumerate() {
            let around = Surroundings {
                network,
                chain: chain.id,
                accounts: &chain.accounts,
                is_mined: chain.mined.contains_key(&command.hash),
                now: seconds(now),
            };
            if chain.mempool.contains(&command.hash) {
                continue;
            }
            let Err(refusal) = chain.mempool.check(command, payload, &around) else { continue };
            let (Refusal::Mempool(why) | Refusal::Pact(why)) = &refusal;
            refusals.push(format!("Transaction \"{}\" at index {index} failed with: {why}", command.hash));
            // The node cannot print the reason unless the hash happens to begin like a text.
            let is_printable = std::str::from_utf8(&command.hash.0[..6]).is_ok();
            is_swallowed |= matches!(refusal, Refusal::Mempool(_)) && !is_printable;
        }
        if is_swallowed {
            return Err(SendError::swallowed());
        }
        if !refusals.is_empty() {
            let refusals = refusals.join(", ");
            return Err(SendError::refused(format!("One or more transactions were invalid: {refusals}")));
        }
        for (command, payload) in commands.iter().zip(accepted) {
            if !chain.mempool.contains(&command.hash) {
                chain.mempool.insert(command.clone(), payload);
            }
        }
        Ok(commands.iter().map(|command| command.hash).collect())
    }

    /// Forgets all commands that wait, as a node does that is started again; and so what it held to be hopeless.
    pub fn restart(&mut self) {
        self.lose_mempool();
        self.chains.iter_mut().for_each(|chain| chain.mempool.clear_badlist());
    }

    /// Forgets all commands that wait.
    pub fn lose_mempool(&mut self) {
        for chain in &mut self.chains {
            chain.mempool.clear();
            chain.prepare(&self.miner);
        }
    }

    /// Drops a command that waits for good, as a node does with one that fails while a block is made: until it expires it
    /// is refused, and polls as a failure that is in no block.
    pub fn bad_list(&mut self, chain: ChainId, key: &Hash, now: i64) {
        if let Some(chain) = self.chain_mut(chain) {
            chain.mempool.ban(key, seconds(now));
        }
        self.prepare(chain);
    }

    /// Forgets a command that waits.
    pub fn forget(&mut self, chain: ChainId, key: &Hash) {
        if let Some(chain) = self.chain_mut(chain) {
            chain.mempool.remove(key);
        }
        self.prepare(chain);
    }

    /// Keeps a command that waits from all blocks, so that it expires.
    pub fn hold(&mut self, chain: ChainId, key: &Hash) {
        if let Some(chain) = self.chain_mut(chain) {
            chain.mempool.hold(key);
        }
        self.prepare(chain);
    }

    /// Lets a command that waits fail in its block, as if its gas were not enough.
    pub fn fail(&mut self, chain: ChainId, key: &Hash) {
        if let Some(chain) = self.chain_mut(chain) {
            chain.mempool.fail(key);
        }
        self.prepare(chain);
    }

    /// Whether a command waits, or is in a block.
    pub fn knows(&self, chain: ChainId, key: &Hash) -> bool {
        self.chain(chain).is_some_and(|chain| chain.mempool.contains(key) || chain.mined.contains_key(key))
    }

    /// The commands that wait here, and neither wait at another node nor are in its blocks.
    pub(super) fn waiting_unknown_to(&self, other: &Self) -> Vec<(ChainId, Command)> {
        let waiting =
            self.chains.iter().flat_map(|chain| chain.mempool.moving().map(|command| (chain.id, command)));
        let unknown = waiting.filter(|(chain, command)| !other.knows(*chain, &command.hash));
        unknown.map(|(chain, command)| (chain, command.clone())).collect()
    }
}
