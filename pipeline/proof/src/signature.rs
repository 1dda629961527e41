//! Ed25519 as every part of Killick checks it: one strict rule, so that evidence verifies the same for everyone.
//!
//! A and R are canonical and not of small order, S < L, and `encode([S]B − [k]A) = R` without cofactor.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// y is not below 2^255 − 19.
    #[error("the public key is not canonical")]
    NotCanonical,
    /// No point of the curve has these bytes.
    #[error("the public key is no point of the curve")]
    NotAPoint,
    /// One of the eight points of small order: it would sign anything.
    #[error("the public key is of small order")]
    SmallOrder,
    /// A point outside the group that the base point makes; refused when a key is enrolled.
    #[error("the public key is not free of torsion")]
    Torsion,
}

/// The signature is not one of this message by this key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the signature is wrong")]
pub struct SignatureError;

/// A public key, decoded once: keep it where many signatures of one key are checked (a decoding is a tenth of a check).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Bytes in a public key.
    pub const LEN: usize = 32;

    /// Decodes a key that is only to be used: canonical, on the curve, not of small order.
    ///
    /// # Errors
    /// [`KeyError`], never [`KeyError::Torsion`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, KeyError> {
        if !has_canonical_y(bytes) {
            return Err(KeyError::NotCanonical);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() { Err(KeyError::SmallOrder) } else { Ok(Self(key)) }
    }

    /// Decodes a key that is to be trusted from now on: as [`decode`](Self::decode), and free of torsion,
    /// so that its holder cannot make signatures on which other verifiers disagree. Costs about one check of a signature.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn enrol(bytes: &[u8; Self::LEN]) -> Result<Self, KeyError> {
        let key = Self::decode(bytes)?;
        if key.0.to_edwards().is_torsion_free() { Ok(key) } else { Err(KeyError::Torsion) }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        self.0.as_bytes()
    }

    /// Checks one signature strictly, at the price of the plain check.
    ///
    /// # Errors
    /// [`SignatureError`] says only that it is wrong.
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> Result<(), SignatureError> {
        let r = signature.first_chunk().expect("a signature is longer than its R");
        // The plain check compares the encoding of R, which makes R canonical, and refuses S ≥ L. The key was
        // looked at when it was decoded; so what is left of the strict rule is R of small order.
        if SMALL_ORDER.contains(r) {
            return Err(SignatureError);
        }
        self.0.verify(message, &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| SignatureError)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::encoding::base64url(self.as_bytes()))
    }
}

/// Bytes in a signature.
pub const SIGNATURE_LEN: usize = 64;

/// A private key, made from its 32-byte seed (RFC 8032 section 5.1.5). Wiped when dropped; prints as `***`.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a seed. The seed has to come from a secure source of randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed: whoever has it can sign.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a message. Deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(***)")
    }
}

/// Whether the y of a point's encoding is below p = 2^255 − 19.
fn has_canonical_y(bytes: &[u8; 32]) -> bool {
    let top = bytes[31] & 0x7f;
    top != 0x7f || bytes[1..31].iter().any(|&byte| byte != 0xff) || bytes[0] < 0xed
}

/// The canonical encodings of the eight points of small order.
const SMALL_ORDER: [[u8; 32]; 8] = [
    small(0x01, 0x00),
    small(0x00, 0x00),
    small(0x00, 0x80),
    minus_one(),
    ORDER_EIGHT_A,
    with_sign(ORDER_EIGHT_A),
    ORDER_EIGHT_B,
    with_sign(ORDER_EIGHT_B),
];

const ORDER_EIGHT_A: [u8; 32] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
    0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
];

const ORDER_EIGHT_B: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
    0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

const fn small(first: u8, last: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

const fn minus_one() -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xec;
    bytes[31] = 0x7f;
    bytes
}

const fn with_sign(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes[31] |= 0x80;
    bytes
}

#[cfg(test)]
mod tests;
