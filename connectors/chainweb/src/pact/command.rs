//! The envelope of a command: its text, the hash of the text, the signatures over the hash.

use blake2::{Blake2b256, Digest as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::json;

/// Most signatures of a command.
pub const MAX_SIGNATURES: usize = 100;

/// A command as it is sent and as it stands in a block.
///
/// Before height 2 349 800 mainnet nodes stored `cmd` re-encoded: then [`Command::verify_hash`] fails though the
/// signatures verify against the stated hash, which is the request key all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The request key: BLAKE2b-256 of the bytes of `cmd`.
    pub hash: Hash,
    /// One signature for each signer; `None` while it is missing.
    #[serde(with = "signatures")]
    pub sigs: Vec<Option<String>>,
    /// The text that is hashed: JSON, never parsed and printed again.
    pub cmd: String,
}

/// A signature scheme of Pact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Scheme {
    /// Ed25519 over the 32 bytes of the hash.
    #[default]
    #[serde(rename = "ED25519")]
    Ed25519,
    /// A WebAuthn assertion whose challenge is the hash.
    WebAuthn,
}

/// Who signs, as the text of a command says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// The public key in hex, for WebAuthn maybe after `WEBAUTHN-`.
    pub pub_key: String,
    /// The scheme; Ed25519 where the text has none.
    #[serde(default)]
    pub scheme: Option<Scheme>,
    /// An older name of the key; for Ed25519 equal to it.
    #[serde(default)]
    pub addr: Option<String>,
}

/// Why a command is not right.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The hash is not that of the text.
    #[error("hash is {stated}, the text hashes to {computed}")]
    Hash {
        /// The hash in the envelope.
        stated: Hash,
        /// The hash of the text.
        computed: Hash,
    },
    /// The text has no list of signers.
    #[error("text of the command has no readable signers: {0}")]
    Signers(#[source] serde_json::Error),
    /// Not one signature for each signer.
    #[error("{signers} signers but {signatures} signatures")]
    Count {
        /// Signers in the text.
        signers: usize,
        /// Signatures in the envelope.
        signatures: usize,
    },
    /// Too many signatures.
    #[error("{0} signatures, at most {MAX_SIGNATURES} are allowed")]
    TooMany(usize),
    /// A signature does not verify.
    #[error("signature {index}: {why}")]
    Signature {
        /// Index of the signer.
        index: usize,
        /// What is wrong.
        why: String,
    },
}

/// BLAKE2b-256 of the text of a command: its request key.
pub fn command_hash(cmd: &str) -> Hash {
    Hash(Blake2b256::digest(cmd).into())
}

impl Command {
    /// Hashes the text and signs the hash with Ed25519, one key for each signer in the text, in their order.
    pub fn sign(cmd: String, keys: &[&SigningKey]) -> Self {
        let hash = command_hash(&cmd);
        let sigs = keys.iter().map(|key| Some(hex::encode(key.sign(&hash.0).to_bytes()))).collect();
        Self { hash, sigs, cmd }
    }

    /// Parses the JSON of a command.
    ///
    /// # Errors
    /// The parser's.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The bytes that stand in a block: compact JSON with the members `hash`, `sigs`, `cmd`, escaped by a node.
    pub fn to_transaction(&self) -> String {
        let mut out = format!("{{\"hash\":\"{}\",\"sigs\":[", self.hash);
        for (index, signature) in self.sigs.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            match signature {
                Some(text) => {
                    out.push_str("{\"sig\":");
                    json::write_string(&mut out, text);
                    out.push('}');
                }
                None => out.push_str("null"),
            }
        }
        out.push_str("],\"cmd\":");
        json::write_string(&mut out, &self.cmd);
        out.push('}');
        out
    }

    /// Checks that the hash is that of the text.
    ///
    /// # Errors
    /// [`CommandError::Hash`].
    pub fn verify_hash(&self) -> Result<(), CommandError> {
        let computed = command_hash(&self.cmd);
        if self.hash == computed { Ok(()) } else { Err(CommandError::Hash { stated: self.hash, computed }) }
    }

    /// The signers that the text names.
    ///
    /// # Errors
    /// [`CommandError::Signers`].
    pub fn signers(&self) -> Result<Vec<Signer>, CommandError> {
        #[derive(Deserialize)]
        struct Text {
            signers: Vec<Signer>,
        }
        serde_json::from_str::<Text>(&self.cmd).map(|text| text.signers).map_err(CommandError::Signers)
    }

    /// Checks that every signer of the text has signed the stated hash.
    ///
    /// # Errors
    /// All but [`CommandError::Hash`].
    pub fn verify_signatures(&self) -> Result<(), CommandError> {
        if self.sigs.len() > MAX_SIGNATURES {
            return Err(CommandError::TooMany(self.sigs.len()));
        }
        let signers = self.signers()?;
        if signers.len() != self.sigs.len() {
            return Err(CommandError::Count { signers: signers.len(), signatures: self.sigs.len() });
        }
        for (index, (signer, signature)) in signers.iter().zip(&self.sigs).enumerate() {
            let wrong = |why| CommandError::Signature { index, why };
            let signature = signature.as_ref().ok_or_else(|| wrong("missing".to_owned()))?;
            signer.verify(&self.hash, signature).map_err(wrong)?;
        }
        Ok(())
    }

    /// Checks hash and signatures.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn verify(&self) -> Result<(), CommandError> {
        self.verify_hash()?;
        self.verify_signatures()
    }
}

impl Signer {
    /// Checks the text of a signature over a hash.
    fn verify(&self, hash: &Hash, signature: &str) -> Result<(), String> {
        match self.scheme.unwrap_or_default() {
            Scheme::Ed25519 => self.verify_ed25519(hash, signature),
            #[cfg(feature = "webauthn")]
            Scheme::WebAuthn => {
                super::webauthn::verify(&self.pub_key, signature, hash).map_err(|error| error.to_string())
            }
            #[cfg(not(feature = "webauthn"))]
            Scheme::WebAuthn => Err("the scheme WebAuthn is not built in".to_owned()),
        }
    }

    fn verify_ed25519(&self, hash: &Hash, signature: &str) -> Result<(), String> {
        if self.addr.as_ref().is_some_and(|address| *address != self.pub_key) {
            return Err("the address of the signer is not its key".to_owned());
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&self.pub_key, &mut key).map_err(|error| format!("public key: {error}"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|error| format!("public key: {error}"))?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(signature, &mut bytes).map_err(|error| error.to_string())?;
        key.verify_strict(&hash.0, &Signature::from_bytes(&bytes)).map_err(|error| error.to_string())
    }
}

/// Signatures as `{"sig": text}`, `{"sig": null}` or `null`.
mod signatures {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Item {
        sig: Option<String>,
    }

    pub(super) fn serialize<S: Serializer>(
        sigs: &[Option<String>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let item = |sig: &Option<String>| sig.as_ref().map(|sig| Item { sig: Some(sig.clone()) });
        serializer.collect_seq(sigs.iter().map(item))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Option<String>>, D::Error> {
        let items = Vec::<Option<Item>>::deserialize(deserializer)?;
        Ok(items.into_iter().map(|item| item.and_then(|item| item.sig)).collect())
    }
}
