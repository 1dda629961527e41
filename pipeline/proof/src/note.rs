//! Signed notes.
use std::str::FromStr;
use crate::signature::{PublicKey, KeyError, SecretKey};
/// error
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoteError {
    #[error("malformed")] Malformed,
    #[error("signature of {name}+{id:08x} is wrong")] WrongSignature { name: String, id: u32 },
}
/// error
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoteKeyError { #[error("malformed")] Malformed, #[error("{0}")] Key(#[from] KeyError) }
/// `<name>+<id>+<base64>`; Display gives the text
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey { name: String, id: u32, key: PublicKey }
#[allow(missing_docs)]
impl VerifierKey {
    pub fn new(_name: &str, _key: PublicKey) -> Result<Self, NoteKeyError> { todo!() }
    pub fn name(&self) -> &str { &self.name }
    pub fn id(&self) -> u32 { self.id }
    pub fn key(&self) -> &PublicKey { &self.key }
}
impl FromStr for VerifierKey { type Err = NoteKeyError; fn from_str(_text: &str) -> Result<Self, NoteKeyError> { todo!() } }
impl std::fmt::Display for VerifierKey { fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
/// `PRIVATE+KEY+<name>+<id>+<base64>`
#[derive(Clone, Debug)]
pub struct SignerKey { name: String, id: u32, secret: SecretKey }
#[allow(missing_docs)]
impl SignerKey {
    pub fn new(_name: &str, _secret: SecretKey) -> Result<Self, NoteKeyError> { todo!() }
    pub fn name(&self) -> &str { &self.name }
    pub fn id(&self) -> u32 { self.id }
    pub fn verifier(&self) -> VerifierKey { let _ = &self.secret; todo!() }
    /// the secret text
    pub fn to_secret_text(&self) -> String { todo!() }
}
impl FromStr for SignerKey { type Err = NoteKeyError; fn from_str(_text: &str) -> Result<Self, NoteKeyError> { todo!() } }
/// Signature line
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NoteSignature<'a> { pub name: &'a str, pub id: u32, pub signature: Vec<u8> }
/// Note: text and signatures, not yet verified
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> { text: &'a str, signatures: Vec<NoteSignature<'a>> }
/// What one key says about a note
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verdict { Absent, Valid, Wrong }
/// What known keys say
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Opened<'k> { pub verified: Vec<&'k VerifierKey>, pub unverified: usize }
#[allow(missing_docs)]
impl<'a> Note<'a> {
    pub fn parse(_note: &'a str) -> Result<Self, NoteError> { todo!() }
    /// with the last newline
    pub fn text(&self) -> &'a str { self.text }
    pub fn signatures(&self) -> &[NoteSignature<'a>] { &self.signatures }
    /// what this one key says: Absent (it did not sign), Valid, Wrong (one of its signatures is wrong)
    pub fn verdict(&self, _key: &VerifierKey) -> Verdict { todo!() }
    /// all known keys: a wrong signature by one of them is an error; none verified is not
    pub fn verify<'k>(&self, _keys: &'k [VerifierKey]) -> Result<Opened<'k>, NoteError> { todo!() }
    /// the note with this signer's signature added (or replaced)
    pub fn with_signature(&self, _signer: &SignerKey) -> Result<String, NoteError> { todo!() }
}
/// Signs text
pub fn sign(_text: &str, _signers: &[&SignerKey]) -> Result<String, NoteError> { todo!() }
