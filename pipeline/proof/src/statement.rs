//! Statements.
use crate::cbor::CborError;
use crate::signature::{KeyError, PublicKey, SignatureError};

/// Fields 1–6 of a statement: what the device claims and signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event<'a> {
    pub tenant: &'a str,
    pub source: &'a str,
    pub id: &'a str,
    pub time: i64,
    pub kind: &'a str,
    pub digest: &'a [u8; 32],
}
/// Who stands behind the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Attestation<'a> {
    Signed { key: &'a [u8; 32], signature: &'a [u8; 64] },
    Unsigned { salt: &'a [u8; 16] },
}
/// Statement
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Statement<'a> { pub event: Event<'a>, pub attestation: Attestation<'a> }
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum StatementError {
    #[error("{field}: {cause}")] Cbor { field: &'static str, cause: CborError },
    #[error("key: {0}")] Key(#[from] KeyError),
    #[error("signature: {0}")] Signature(#[from] SignatureError),
}
#[allow(missing_docs)]
impl<'a> Event<'a> {
    /// field rules
    pub fn check(&self) -> Result<(), StatementError> { todo!() }
    /// CBOR array of fields 1–6: the input of an unsigned event's salt
    pub fn encode(&self) -> Result<Vec<u8>, StatementError> { todo!() }
    /// "killick/event/v1\n" ‖ CBOR array of fields 1–6
    pub fn signing_bytes(&self) -> Result<Vec<u8>, StatementError> { todo!() }
}
#[allow(missing_docs)]
impl<'a> Statement<'a> {
    pub fn decode(_bytes: &'a [u8]) -> Result<Self, StatementError> { todo!() }
    pub fn encode(&self) -> Result<Vec<u8>, StatementError> { todo!() }
    pub fn encode_into(&self, _out: &mut Vec<u8>) -> Result<(), StatementError> { todo!() }
    /// Checks the signature, if any, under the statement's own key
    pub fn verify(&self) -> Result<(), StatementError> { todo!() }
    /// the same with the key decoded before (a cache)
    pub fn verify_with(&self, _key: &PublicKey) -> Result<(), StatementError> { todo!() }
}
