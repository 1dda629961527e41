//! The chain port on the development network in this process.

use std::sync::Arc;

use chainweb::Hash;
use chainweb::devnet::{Devnet, Network, SpvError};
use chainweb::pact::Command;
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
            // Behind 500 a node hides most refusals of its mempool: it says nothing about the command.
            Err(refusal) if refusal.status == 500 => Sent::Unclear(refusal.text.into()),
            Err(refusal) => Sent::Refused(refusal.to_string().into()),
        })
    }

    fn look(&self, chain: ChainId, keys: &[Box<str>]) -> Result<Look, ChainError> {
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
            Ok(Look { tip_height: tip.height, tip_time: tip.creation_time, mined })
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
