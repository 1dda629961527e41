//! What is in blocks: payloads with and without outputs, one or many.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::json;

use super::NodeError;
use super::blocks::is_unknown_hash;
use super::node::Node;
use super::wire::{BINARY, LARGE, Question};
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::payload::{Payload, PayloadError, PayloadWithOutputs};

/// Payloads that are asked for at once: a node would answer a thousand, which may be more than is read.
const BATCH: usize = 100;

impl Node {
    /// The payload with a payload hash, without outputs; `None` if the node has none. The hashes over it are checked;
    /// that of the outputs is the node's word.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn payload(&self, chain: ChainId, hash: &Hash) -> Result<Option<Payload>, NodeError> {
        self.one(chain, hash).await
    }

    /// The payload with a payload hash, with its outputs; `None` if the node has none. All hashes are checked.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn payload_with_outputs(
        &self,
        chain: ChainId,
        hash: &Hash,
    ) -> Result<Option<PayloadWithOutputs>, NodeError> {
        self.one(chain, hash).await
    }

    /// Those of these payloads that the node has, by their hashes; checked as one is.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn payloads(
        &self,
        chain: ChainId,
        hashes: &[Hash],
    ) -> Result<BTreeMap<Hash, Payload>, NodeError> {
        self.many(chain, hashes).await
    }

    /// As [`Node::payloads`], with their outputs.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn payloads_with_outputs(
        &self,
        chain: ChainId,
        hashes: &[Hash],
    ) -> Result<BTreeMap<Hash, PayloadWithOutputs>, NodeError> {
        self.many(chain, hashes).await
    }

    async fn one<F: Form>(&self, chain: ChainId, hash: &Hash) -> Result<Option<F>, NodeError> {
        let path = self.of_chain(chain, &format!("payload/{hash}{}", F::SUFFIX));
        let question = Question { accept: BINARY, limit: LARGE, ..Question::get(F::WHAT, path) };
        let reply = self.ask(question).await?;
        let payload = match reply.status {
            200 => F::decode(&reply.body).map_err(|error| self.nonsense(F::WHAT, error.to_string()))?,
            _ if is_unknown_hash(&reply) => return Ok(None),
            _ => return Err(self.unexpected(F::WHAT, &reply).await),
        };
        payload.check().map_err(|error| self.nonsense(F::WHAT, error.to_string()))?;
        if payload.hash() != *hash {
            return Err(self.nonsense(F::WHAT, format!("it has the hash {}, not {hash}", payload.hash())));
        }
        Ok(Some(payload))
    }

    async fn many<F: Form>(&self, chain: ChainId, hashes: &[Hash]) -> Result<BTreeMap<Hash, F>, NodeError> {
        let mut found = BTreeMap::new();
        for batch in hashes.chunks(BATCH) {
            let path = self.of_chain(chain, &format!("payload{}/batch", F::SUFFIX));
            let reply = self.ask(Question::post(F::BATCH_WHAT, path, json!(batch).to_string())).await?;
            let payloads: Vec<F> = self.read(F::BATCH_WHAT, &reply).await?;
            for payload in payloads {
                let hash = payload.hash();
                payload.check().map_err(|error| self.nonsense(F::BATCH_WHAT, error.to_string()))?;
                if !batch.contains(&hash) {
                    let why = format!("it has the payload {hash}, which was not asked for");
                    return Err(self.nonsense(F::BATCH_WHAT, why));
                }
                found.insert(hash, payload);
            }
        }
        Ok(found)
    }
}

/// The two forms of a payload.
trait Form: DeserializeOwned {
    const WHAT: &'static str;
    const BATCH_WHAT: &'static str;
    /// What stands behind the hash in the path.
    const SUFFIX: &'static str;

    fn decode(bytes: &[u8]) -> Result<Self, PayloadError>;
    fn check(&self) -> Result<(), PayloadError>;
    fn hash(&self) -> Hash;
}

impl Form for Payload {
    const WHAT: &'static str = "payload";
    const BATCH_WHAT: &'static str = "payload/batch";
    const SUFFIX: &'static str = "";

    fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        Self::decode(bytes)
    }

    fn check(&self) -> Result<(), PayloadError> {
        self.verify()
    }

    fn hash(&self) -> Hash {
        self.payload_hash
    }
}

impl Form for PayloadWithOutputs {
    const WHAT: &'static str = "payload/outputs";
    const BATCH_WHAT: &'static str = "payload/outputs/batch";
    const SUFFIX: &'static str = "/outputs";

    fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        Self::decode(bytes)
    }

    fn check(&self) -> Result<(), PayloadError> {
        self.verify()
    }

    fn hash(&self) -> Hash {
        self.payload_hash
    }
}
