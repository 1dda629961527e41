//! Sending commands, what became of them, and proofs of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::NodeError;
use super::node::Node;
use super::said::Said;
use super::wire::Question;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::merkle::Tag;
use crate::pact::{Command, CommandResult};
use crate::spv::Proof;

/// Bytes in the longest request that a node takes.
const MAX_REQUEST: usize = 2 << 20;

/// How long an answer to listening may take: a node gives up after 180 s.
const LISTEN: Duration = Duration::from_secs(200);

/// What a node found for a request key.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It is in a block.
    Mined(Box<Mined>),
    /// The node made a result up, for a command that it dropped for good: it is in no block, and the node may forget
    /// it. Evidence of nothing.
    MadeUp(Box<CommandResult>),
}

/// A command in a block of the node's present branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mined {
    /// Its result: success or failure.
    pub result: CommandResult,
    /// The block's height.
    pub height: u64,
    /// The block's hash.
    pub block: Hash,
    /// The hash of the block's parent.
    pub parent: Hash,
    /// The block's creation time, in µs since 1970.
    pub time: i64,
}

/// What a node has for a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spv {
    /// The proof.
    Proof(Box<Proof>),
    /// The command is in a block, and the target chain has not the height yet where the proof ends: ask again later.
    NotReachable,
    /// The node knows of no block of this chain with the command: it waits, was dropped, or was never there.
    Unknown,
}

impl Spv {
    /// The proof, if there is one.
    pub fn proof(self) -> Option<Proof> {
        match self {
            Self::Proof(proof) => Some(*proof),
            Self::NotReachable | Self::Unknown => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    block_hash: Hash,
    block_height: u64,
    block_time: i64,
    prev_block_hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    request_keys: Vec<Hash>,
}

impl Node {
    /// Gives commands to the node, all or none. The same ones may be sent again and again.
    ///
    /// # Errors
    /// [`NodeError`]; after a [`super::Trouble::is_unknown`] the node may have taken them.
    pub async fn send(&self, chain: ChainId, commands: &[Command]) -> Result<Said, NodeError> {
        const WHAT: &str = "send";
        if let Some(why) = commands.iter().find_map(harm) {
            return Ok(Said::Unreadable(why));
        }
        let mut body = "{\"cmds\":[".to_owned();
        for (index, command) in commands.iter().enumerate() {
            body.push_str(if index == 0 { "" } else { "," });
            body.push_str(&command.to_transaction());
        }
        body.push_str("]}");
        if let Some(why) = too_long(&body) {
            return Ok(Said::Unreadable(why));
        }
        let reply = self.ask(Question::post(WHAT, self.of_chain(chain, "pact/api/v1/send"), body)).await?;
        match reply.status {
            200 => {
                let taken: Taken = self.read(WHAT, &reply).await?;
                if !taken.request_keys.iter().eq(commands.iter().map(|command| &command.hash)) {
                    return Err(self.nonsense(WHAT, "it took other commands than were sent"));
                }
                Ok(Said::Accepted(taken.request_keys))
            }
            400 => Ok(Said::refused(&String::from_utf8_lossy(&reply.body))),
            500 => Ok(Said::Unclear(format!("status 500: {}", reply.text()))),
            _ => Err(self.unexpected(WHAT, &reply).await),
        }
    }

    /// Which of these commands are in a block that has at least `depth` blocks above it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn poll(
        &self,
        chain: ChainId,
        keys: &[Hash],
        depth: u64,
    ) -> Result<BTreeMap<Hash, Found>, NodeError> {
        const WHAT: &str = "poll";
        if keys.is_empty() {
            return Ok(BTreeMap::new()); // the node refuses an empty list
        }
        let depth = if depth == 0 { String::new() } else { format!("?confirmationDepth={depth}") };
        let path = self.of_chain(chain, "pact/api/v1/poll") + &depth;
        let reply = self.ask(Question::post(WHAT, path, json!({ "requestKeys": keys }).to_string())).await?;
        let results: BTreeMap<Hash, Value> = self.read(WHAT, &reply).await?;
        let mut found = BTreeMap::new();
        for (key, result) in results {
            if !keys.contains(&key) {
                return Err(self.nonsense(WHAT, format!("it has a result of {key}, which was not asked for")));
            }
            found.insert(key, self.found(WHAT, &key, result)?);
        }
        Ok(found)
    }

    /// Waits until a command is in a block, as long as the node lets a client wait: three minutes. `None` if it is not
    /// there by then; it may be later. As [`Node::poll`] at depth 0: what is found may be undone, or made up.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn listen(&self, chain: ChainId, key: &Hash) -> Result<Option<Found>, NodeError> {
        const WHAT: &str = "listen";
        let path = self.of_chain(chain, "pact/api/v1/listen");
        let mut question = Question::post(WHAT, path, json!({ "listen": key }).to_string());
        question.timeout = Some(LISTEN);
        let reply = self.ask(question).await?;
        // One with a body comes from something between us and the node.
        if reply.status == 504 && reply.body.is_empty() {
            return Ok(None);
        }
        let result = self.read(WHAT, &reply).await?;
        self.found(WHAT, key, result).map(Some)
    }

    fn found(&self, what: &'static str, key: &Hash, result: Value) -> Result<Found, NodeError> {
        let mut result = self.result(what, key, result)?;
        let Some(place) = result.meta_data.take() else { return Ok(Found::MadeUp(Box::new(result))) };
        let place: Place = serde_json::from_value(place)
            .map_err(|error| self.nonsense(what, format!("metaData: {error}")))?;
        Ok(Found::Mined(Box::new(Mined {
            result,
            height: place.block_height,
            block: place.block_hash,
            parent: place.prev_block_hash,
            time: place.block_time,
        })))
    }

    /// A result, which has to be that of this command.
    pub(super) fn result(
        &self,
        what: &'static str,
        key: &Hash,
        result: Value,
    ) -> Result<CommandResult, NodeError> {
        let result =
            CommandResult::from_value(result).map_err(|error| self.nonsense(what, error.to_string()))?;
        if result.request_key.parse() != Ok(*key) {
            let why = format!("the result of {key} is one of {:.64?}", result.request_key);
            return Err(self.nonsense(what, why));
        }
        Ok(result)
    }

    /// The proof that a command's output is in a block of `target`, if there is one. See [`Node::proof`].
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn spv(&self, chain: ChainId, key: &Hash, target: ChainId) -> Result<Option<Proof>, NodeError> {
        self.proof(chain, key, target).await.map(Spv::proof)
    }

    /// The proof that a command's output is in a block of `target`: on the command's own chain in its own block, else
    /// in the one that is as many heights above it as the chains are apart; asked for later, it is the same.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn proof(&self, chain: ChainId, key: &Hash, target: ChainId) -> Result<Spv, NodeError> {
        const WHAT: &str = "spv";
        let body = json!({ "requestKey": key, "targetChainId": target.to_string() }).to_string();
        let reply = self.ask(Question::post(WHAT, self.of_chain(chain, "pact/spv"), body)).await?;
        if reply.status == 400 {
            if reply.body.starts_with(b"SPV target not reachable") {
                return Ok(Spv::NotReachable);
            }
            if reply.body.starts_with(b"Transaction hash not found") {
                return Ok(Spv::Unknown);
            }
        }
        let text: String = self.read(WHAT, &reply).await?;
        let proof = Proof::from_base64url(&text).map_err(|error| self.nonsense(WHAT, error.to_string()))?;
        if proof.chain != target {
            return Err(self.nonsense(WHAT, format!("the proof ends on chain {}, not {target}", proof.chain)));
        }
        let output =
            proof.subject_with_tag(Tag::OUTPUT).map_err(|error| self.nonsense(WHAT, error.to_string()))?;
        let result = CommandResult::parse(output).map_err(|error| self.nonsense(WHAT, error.to_string()))?;
        if result.request_key.parse() != Ok(*key) {
            return Err(
                self.nonsense(WHAT, format!("the proof is of {:.64?}, not of {key}", result.request_key))
            );
        }
        Ok(Spv::Proof(Box::new(proof)))
    }
}

/// Why a command must not go to a node: it would come to harm by it, or stumble over it.
pub(super) fn harm(command: &Command) -> Option<String> {
    if command.sigs.iter().any(Option::is_none) {
        return Some("a signature is missing".to_owned());
    }
    // Our reader has bounds where a node has none: what it cannot read could be empty all the same.
    let Ok(cmd) = serde_json::from_str::<Value>(&command.cmd) else {
        return Some("the text of the command cannot be read as JSON".to_owned());
    };
    let code = cmd["payload"]["exec"]["code"].as_str()?;
    let is_empty = code.lines().all(|line| line.split(';').next().is_none_or(|code| code.trim().is_empty()));
    // It would be taken, and no more blocks made.
    is_empty.then(|| "the code is empty".to_owned())
}

/// Why a request must not go to a node: it would be refused, or the connection break.
pub(super) fn too_long(body: &str) -> Option<String> {
    (body.len() > MAX_REQUEST).then(|| format!("{} bytes, of which a node takes {MAX_REQUEST}", body.len()))
}
