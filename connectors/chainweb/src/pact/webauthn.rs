//! WebAuthn signatures: a browser or a security key signs the hash of a command as its challenge.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::VerifyingKey;
use p256::ecdsa::signature::Verifier as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::hash::Hash;

/// Why a WebAuthn signature does not verify.
#[derive(Debug, thiserror::Error)]
pub enum WebAuthnError {
    /// The text of the signature or of the client data is not the JSON it should be.
    #[error("{what} is not the JSON it should be: {cause}")]
    Json {
        /// Which: the signature or the client data.
        what: &'static str,
        /// The parser's error.
        #[source]
        cause: serde_json::Error,
    },
    /// A member is not base64.
    #[error("{member} is not base64: {cause}")]
    Base64 {
        /// The member.
        member: &'static str,
        /// The decoder's error.
        #[source]
        cause: base64::DecodeError,
    },
    /// The challenge is another hash.
    #[error("challenge is {actual:?}, not {expected}")]
    Challenge {
        /// The hash of the command.
        expected: Hash,
        /// The challenge found.
        actual: String,
    },
    /// The public key is not hex of a COSE key of ES256 or EdDSA.
    #[error("public key is not a COSE key of ES256 or EdDSA")]
    Key,
    /// The signature is not one of this key.
    #[error("signature does not verify")]
    Signature,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assertion {
    authenticator_data: String,
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    signature: String,
}

#[derive(Deserialize)]
struct ClientData {
    challenge: String,
}

/// Wallets differ in whether they pad.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Checks the text of a WebAuthn signature over a command hash.
///
/// `public_key` is hex of a CBOR COSE key, maybe after `WEBAUTHN-`.
///
/// # Errors
/// [`WebAuthnError`].
pub fn verify(public_key: &str, signature: &str, hash: &Hash) -> Result<(), WebAuthnError> {
    let key = hex::decode(public_key.strip_prefix("WEBAUTHN-").unwrap_or(public_key));
    let key = key.ok().and_then(|bytes| CoseKey::parse(&bytes)).ok_or(WebAuthnError::Key)?;
    let json = |what| move |cause| WebAuthnError::Json { what, cause };
    let assertion: Assertion = serde_json::from_str(signature).map_err(json("signature"))?;
    let client_data = decode(&URL_SAFE, "clientDataJSON", &assertion.client_data_json)?;
    let client: ClientData = serde_json::from_slice(&client_data).map_err(json("client data"))?;
    if client.challenge.trim_end_matches('=') != hash.to_string() {
        return Err(WebAuthnError::Challenge { expected: *hash, actual: client.challenge });
    }
    let mut message = decode(&STANDARD, "authenticatorData", &assertion.authenticator_data)?;
    message.extend_from_slice(&Sha256::digest(&client_data));
    let signature = decode(&STANDARD, "signature", &assertion.signature)?;
    key.verify(&message, &signature).ok_or(WebAuthnError::Signature)
}

fn decode(engine: &GeneralPurpose, member: &'static str, text: &str) -> Result<Vec<u8>, WebAuthnError> {
    engine.decode(text).map_err(|cause| WebAuthnError::Base64 { member, cause })
}

/// The public keys of RFC 9053 that Pact accepts.
enum CoseKey {
    Es256(Box<p256::ecdsa::VerifyingKey>),
    EdDsa(VerifyingKey),
}

impl CoseKey {
    /// Parses a CBOR map of the parameters kty (1), alg (3), crv (−1), x (−2), y (−3).
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Cbor(bytes);
        let (5, count) = reader.head()? else { return None };
        let (mut numbers, mut coordinates) = ([None; 3], [None; 2]);
        for _ in 0..count {
            let label = reader.integer()?;
            match label {
                1 | 3 | -1 => {
                    let slot = &mut numbers[if label == -1 { 2 } else { label as usize / 2 }];
                    if slot.replace(reader.integer()?).is_some() {
                        return None;
                    }
                }
                -2 | -3 => {
                    let slot = &mut coordinates[if label == -2 { 0 } else { 1 }];
                    if slot.replace(reader.bytes32()?).is_some() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        match (reader.0, numbers, coordinates) {
            // kty EC2, alg ES256, crv P-256
            ([], [Some(2), Some(-7), Some(1)], [Some(x), Some(y)]) => {
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
                Some(Self::Es256(Box::new(key)))
            }
            // kty OKP, alg EdDSA, crv Ed25519
            ([], [Some(1), Some(-8), Some(6)], [Some(x), None]) => {
                Some(Self::EdDsa(VerifyingKey::from_bytes(&x).ok()?))
            }
            _ => None,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        match self {
            Self::Es256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
                key.verify(message, &signature).ok()
            }
            Self::EdDsa(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
                key.verify_strict(message, &signature).ok()
            }
        }
    }
}

/// Reads the few kinds of CBOR items that a COSE key has, with lengths below 256.
struct Cbor<'a>(&'a [u8]);

impl Cbor<'_> {
    fn head(&mut self) -> Option<(u8, u8)> {
        let (&first, rest) = self.0.split_first()?;
        let (argument, rest) = match first & 0x1f {
            argument @ 0..24 => (argument, rest),
            24 => {
                let (&argument, rest) = rest.split_first()?;
                (argument, rest)
            }
            _ => return None,
        };
        self.0 = rest;
        Some((first >> 5, argument))
    }

    fn integer(&mut self) -> Option<i16> {
        match self.head()? {
            (0, number) => Some(i16::from(number)),
            (1, number) => Some(-1 - i16::from(number)),
            _ => None,
        }
    }

    fn bytes32(&mut self) -> Option<[u8; 32]> {
        let (2, 32) = self.head()? else { return None };
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}
