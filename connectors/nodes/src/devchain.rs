//! The chain port on the development network in this process.

use std::sync::Arc;

use chainweb::Hash;
use chainweb::devnet::{Devnet, Network, SpvError};
use chainweb::pact::{Command, units};
use killick_stages::ports::{Chain, ChainError, ChainId, Look, Mined, Sent, Spv};

/// A development network as the chain of a pipeline.
pub struct DevChain(pub Arc<Devnet>);

impl Chain for DevChain {
    fn network(&self) -> &str {
        self.0.network_name()
    }

    fn send(&self, chain: ChainId, command: &[u8]) -> Result<Sent, ChainError> {
        let command = match Command::parse(command) {
            Ok(command) => command,
            Err(error) => return Ok(Sent::Refused(format!("not a command: {error}").into())),
        };
        Ok(match self.0.send(chainweb::ChainId(chain), &command) {
            Ok(_) => Sent::Taken,
            // It is in a block already, or was: the chain says which.
            Err(refusal) if refusal.text.contains("already exists") => Sent::Taken,
            // Behind 500 a node hides most refusals of its mempool, and one that is down did not look at it: they say nothing
            // about the command.
            Err(refusal) if refusal.status >= 500 => Sent::Unclear(refusal.text.into()),
            Err(refusal) => Sent::Refused(refusal.to_string().into()),
        })
    }

    fn look(&self, chain: ChainId, keys: &[Box<str>], depth: u64) -> Result<Look, ChainError> {
        let failed = |why: String| ChainError { chain, why };
        let id = chainweb::ChainId(chain);
        self.0.read(|network| {
            let tip = network.tip(id).ok_or_else(|| failed("the network has no such chain".into()))?;
            let mut mined = None;
            for key in keys {
                let hash: Hash =
                    key.parse().map_err(|error| failed(format!("request key {key}: {error}")))?;
                mined = mined_at(network, id, &hash).map_err(failed)?;
                if mined.is_some() {
                    break;
                }
            }
            let deep = network.header_at(id, tip.height.saturating_sub(depth));
            let deep_time = deep.map(|header| header.creation_time);
            Ok(Look { tip_height: tip.height, tip_time: tip.creation_time, deep_time, mined })
        })
    }

    fn spv(&self, chain: ChainId, key: &str) -> Result<Option<Spv>, ChainError> {
        let failed = |why: String| ChainError { chain, why };
        let id = chainweb::ChainId(chain);
        let hash: Hash = key.parse().map_err(|error| failed(format!("request key {key}: {error}")))?;
        let proof = match self.0.spv(id, &hash, id) {
            Ok(proof) => proof,
            Err(SpvError::NotFound(_) | SpvError::NotReachable) => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let Some(header) = self.0.header(id, &proof.root()) else { return Ok(None) };
        Ok(Some(Spv { proof: proof.to_json().into(), header: header.encode().into() }))
    }

    fn balance(&self, chain: ChainId, account: &str) -> Result<Option<u128>, ChainError> {
        let text = self.0.read(|network| network.balance(chainweb::ChainId(chain), account));
        let units = |text: String| {
            units(&text).ok_or_else(|| ChainError { chain, why: format!("the balance {text} is no amount") })
        };
        text.map(units).transpose()
    }
}

fn mined_at(network: &Network, chain: chainweb::ChainId, key: &Hash) -> Result<Option<Mined>, String> {
    let Some((height, _, block)) = network.find(chain, key) else { return Ok(None) };
    let answers = network.poll(chain, std::slice::from_ref(key), 0);
    let Some((_, answer)) = answers.first() else { return Ok(None) };
    let result: serde_json::Value =
        serde_json::from_str(answer).map_err(|error| format!("the result of {key} is no JSON: {error}"))?;
    let success = result["result"]["status"] == "success";
    Ok(Some(Mined { key: key.to_string().into(), height, block: block.to_string().into(), success }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use chainweb::devnet::{Account, Coins, Config};
    use chainweb::pact::{Capability, Exec, command_hash};
    use killick_contract::chain;
    use killick_proof::signature::SecretKey;

    use super::*;

    struct Subject {
        chain: DevChain,
        key: SecretKey,
    }

    impl chain::Subject for Subject {
        fn chain(&self) -> &dyn Chain {
            &self.chain
        }

        fn id(&self) -> ChainId {
            3
        }

        fn account(&self) -> Box<str> {
            format!("k:{}", hex::encode(self.key.public().as_bytes())).into()
        }

        fn command(&self, text: &str) -> (Box<str>, Vec<u8>) {
            let public = hex::encode(self.key.public().as_bytes());
            let exec = Exec {
                network: self.chain.network(),
                code: "(read-msg \"killick\")",
                data: &serde_json::json!({ "killick": text }).to_string(),
                signers: &[(&public, &[Capability::GAS])],
                chain: chainweb::ChainId(3),
                sender: &format!("k:{public}"),
                gas_limit: 400,
                gas_price: "1e-8",
                ttl: 600,
                creation_time: SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64,
                nonce: text,
            };
            let cmd = exec.to_cmd().unwrap();
            let hash = command_hash(&cmd);
            let command = Command { hash, sigs: vec![Some(hex::encode(self.key.sign(&hash.0)))], cmd };
            (hash.to_string().into(), command.to_transaction().into_bytes())
        }
    }

    #[test]
    fn the_development_network_keeps_the_contract_of_a_chain() {
        let key = SecretKey::from_seed(&[3; 32]);
        let public_key = hex::encode(key.public().as_bytes());
        let account = Account { name: format!("k:{public_key}"), public_key, balance: Coins::whole(10) };
        let mut config = Config { block_interval: Duration::from_millis(20), ..Config::default() };
        config.accounts.push(account);
        let chain = DevChain(Arc::new(Devnet::start(config).unwrap()));
        chain::suite(&Subject { chain, key });
    }
}
