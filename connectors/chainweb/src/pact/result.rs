//! The result of a command: what stands in the output of a block and in the answer of a poll.

use serde::Deserialize;
use serde_json::Value;

use crate::hash::Hash;
use crate::json::{self, JsonError};

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It succeeded with this value.
    Success(Value),
    /// It failed with this error. It stands in the block all the same and has paid for its gas.
    Failure(Value),
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandResult {
    /// Gas used.
    pub gas: u64,
    /// Success or failure.
    pub outcome: Outcome,
    /// Request key, as text: that of a coinbase is not the base64url of 32 bytes.
    pub request_key: String,
    /// Number of the transaction on its chain; none for failures.
    pub tx_id: Option<u64>,
    /// Hash of the transaction log.
    pub logs: Option<Hash>,
    /// Events; empty where there are none.
    pub events: Vec<Value>,
    /// Where it was mined: only in the answer of a poll, and null for a result that a node made up.
    pub meta_data: Option<Value>,
    /// State of a multi-step transaction.
    pub continuation: Option<Value>,
}

/// Why bytes are not the result of a command.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Not JSON, or a member twice.
    #[error("result of a command is not JSON: {0}")]
    Json(#[from] JsonError),
    /// Members are missing or of the wrong type.
    #[error("result of a command has the wrong shape: {0}")]
    Shape(#[from] serde_json::Error),
    /// Neither success nor failure, or without its value.
    #[error("status of a result is {0:?}")]
    Status(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    gas: u64,
    result: WireResult,
    req_key: String,
    #[serde(default)]
    tx_id: Option<u64>,
    #[serde(default)]
    logs: Option<Hash>,
    #[serde(default)]
    events: Vec<Value>,
    #[serde(default)]
    meta_data: Option<Value>,
    #[serde(default)]
    continuation: Option<Value>,
}

#[derive(Deserialize)]
struct WireResult {
    status: String,
    // `Some(null)` is data that is null; a missing member is `None`.
    #[serde(default, deserialize_with = "present")]
    data: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    error: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl CommandResult {
    /// Parses the output of a transaction. Strict: no member occurs twice.
    ///
    /// # Errors
    /// [`ResultError`].
    pub fn parse(text: &[u8]) -> Result<Self, ResultError> {
        Self::from_value(json::parse_strict(text)?)
    }

    /// Reads a result that is parsed already.
    ///
    /// # Errors
    /// [`ResultError::Shape`], [`ResultError::Status`].
    pub fn from_value(value: Value) -> Result<Self, ResultError> {
        let wire: Wire = serde_json::from_value(value)?;
        let outcome = match (wire.result.status.as_str(), wire.result.data, wire.result.error) {
            ("success", Some(data), _) => Outcome::Success(data),
            ("failure", _, Some(error)) => Outcome::Failure(error),
            _ => return Err(ResultError::Status(wire.result.status)),
        };
        Ok(Self {
            gas: wire.gas,
            outcome,
            request_key: wire.req_key,
            tx_id: wire.tx_id,
            logs: wire.logs,
            events: wire.events,
            meta_data: wire.meta_data,
            continuation: wire.continuation,
        })
    }

    /// The value of a success.
    pub fn success(&self) -> Option<&Value> {
        match &self.outcome {
            Outcome::Success(data) => Some(data),
            Outcome::Failure(_) => None,
        }
    }
}

/// The output of a command as it stands in its block, from the text of a poll's answer: the two differ in the value
/// of `metaData` only, which is null in the block. `None` where the answer has no result for this key.
///
/// The bytes are taken over as they are, so the answer has to be the text as it was received.
pub fn output_of_poll(answer: &str, request_key: &Hash) -> Option<String> {
    let result = &answer[json::member(answer, &request_key.to_string())?];
    let meta_data = json::member(result, "metaData")?;
    Some([&result[..meta_data.start], "null", &result[meta_data.end..]].concat())
}
