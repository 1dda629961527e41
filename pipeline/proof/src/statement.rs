//! Statements: what a device claims about one event, and its signature. A statement is the leaf of a batch's tree.

use crate::cbor::{CborError, Reader, Writer, head_len};
use crate::hash::Hash;
use crate::signature::{KeyError, PublicKey, SIGNATURE_LEN, SignatureError};

/// What a device's signature is about: these bytes stand before the encoded event.
pub const SIGNING_PREFIX: &[u8] = b"killick/event/v1\n";

/// Fields 1–6 of a statement: what the device claims, and signs if it signs.
///
/// Any value can stand here; [`check`](Self::check) holds it against the rules, and nothing is encoded without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Whose event it is: 1 to 64 characters of `a-z0-9._-`.
    pub tenant: &'a str,
    /// The device or producer: 1 to 256 bytes without control characters.
    pub source: &'a str,
    /// The idempotency key: 1 to 256 bytes without control characters. (tenant, source, id) names one event.
    pub id: &'a str,
    /// When it happened, as the device claims: µs since 1970-01-01T00:00:00Z.
    pub time: i64,
    /// What kind of event it is (CloudEvents `type`): 0 to 256 bytes without control characters.
    pub kind: &'a str,
    /// SHA-256 of the payload's bytes.
    pub digest: Hash,
}

/// Fields 7–9 of a statement: what stands behind the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attestation<'a> {
    /// The device signed the event.
    Signed {
        /// The device's Ed25519 public key, as it stands in the statement.
        key: &'a [u8; PublicKey::LEN],
        /// Its signature of the event's [signing bytes](Event::signing_bytes).
        signature: &'a [u8; SIGNATURE_LEN],
    },
    /// Nobody signed it.
    Unsigned {
        /// Keeps neighbours in the tree from guessing the statement: made from the tenant's secret and the event.
        salt: &'a [u8; 16],
    },
}

/// The leaf of a batch's tree: what the device signed and what ingest added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Fields 1–6.
    pub event: Event<'a>,
    /// Fields 7–9.
    pub attestation: Attestation<'a>,
}

/// Why a statement is refused; each names its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The encoding is wrong.
    #[error("{field}: {cause}")]
    Encoding {
        /// The field that does not decode; `statement` for what is around the fields.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        cause: CborError,
    },
    /// A version that is not 1.
    #[error("version: {0} is not known here")]
    Version(u64),
    /// A text that is too short or too long.
    #[error("{field}: {found} bytes, not {least} to {most}")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes it has.
        found: usize,
        /// Bytes it has to have.
        least: usize,
        /// Bytes it may have.
        most: usize,
    },
    /// A tenant with a character outside its alphabet.
    #[error("tenant: only a-z 0-9 . _ - are allowed")]
    Tenant,
    /// A text with a control character.
    #[error("{field}: the control character U+{code:04X} is not allowed")]
    Control {
        /// The field.
        field: &'static str,
        /// The character.
        code: u32,
    },
    /// The public key is none that may sign.
    #[error("public key: {0}")]
    Key(#[from] KeyError),
    /// The signature is not one of this event by this key.
    #[error("signature: {0}")]
    Signature(#[from] SignatureError),
}

/// The head of the CBOR array of fields 1–6.
const EVENT_HEAD: &[u8] = &[0x86];

impl<'a> Event<'a> {
    /// Holds each field against its rule.
    ///
    /// # Errors
    /// [`StatementError`] names the first field that breaks its rule.
    pub fn check(&self) -> Result<(), StatementError> {
        check_length("tenant", self.tenant, 1, 64)?;
        let is_tenant = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !self.tenant.bytes().all(is_tenant) {
            return Err(StatementError::Tenant);
        }
        check_text("source", self.source, 1)?;
        check_text("id", self.id, 1)?;
        check_text("type", self.kind, 0)
    }

    /// The CBOR array of fields 1–6; the input of an unsigned event's salt.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn encode(&self) -> Result<Vec<u8>, StatementError> {
        self.encode_behind(&[])
    }

    /// What the device signs: [`SIGNING_PREFIX`] and the CBOR array of fields 1–6.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn signing_bytes(&self) -> Result<Vec<u8>, StatementError> {
        self.encode_behind(SIGNING_PREFIX)
    }

    fn encode_behind(&self, prefix: &[u8]) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        let mut out = Vec::with_capacity(prefix.len() + EVENT_HEAD.len() + self.fields_len());
        out.extend_from_slice(prefix);
        out.extend_from_slice(EVENT_HEAD);
        self.write_fields(&mut out);
        Ok(out)
    }

    /// This event's unsigned statement, but for its salt: that is made of what the event says, which is encoded once.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn unsalted(&self) -> Result<Unsalted, StatementError> {
        self.begin_statement(UNSIGNED_LEN).map(Unsalted)
    }

    /// What a statement of this event begins with; there is room for `more` bytes behind it.
    fn begin_statement(&self, more: usize) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        let mut out = Vec::with_capacity(STATEMENT_HEAD.len() + self.fields_len() + more);
        out.extend_from_slice(STATEMENT_HEAD);
        self.write_fields(&mut out);
        Ok(out)
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.text(self.tenant).text(self.source).text(self.id).int(self.time).text(self.kind);
        writer.bytes(self.digest.as_bytes());
    }

    /// Bytes that fields 1–6 take.
    fn fields_len(&self) -> usize {
        let texts = [self.tenant, self.source, self.id, self.kind];
        let texts: usize = texts.iter().map(|text| head_len(text.len() as u64) + text.len()).sum();
        // As many as the number that its head carries: of a negative one, what its bits say when they are turned over.
        let time = self.time ^ (self.time >> 63);
        texts + head_len(time.cast_unsigned()) + head_len(Hash::LEN as u64) + Hash::LEN
    }
}

/// An unsigned statement that lacks its salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsalted(Vec<u8>);

impl Unsalted {
    /// The [array of fields 1–6](Event::encode), in parts: the input of the salt.
    pub fn event(&self) -> [&[u8]; 2] {
        [EVENT_HEAD, &self.0[STATEMENT_HEAD.len()..]]
    }

    /// The statement's one encoding.
    pub fn encode(mut self, salt: &[u8; 16]) -> Vec<u8> {
        Attestation::Unsigned { salt }.write(&mut self.0);
        self.0
    }
}

impl Attestation<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        match self {
            Self::Signed { key, signature } => writer.bytes(*key).bytes(*signature).null(),
            Self::Unsigned { salt } => writer.null().null().bytes(*salt),
        };
    }
}

/// The head of a statement, and its version.
const STATEMENT_HEAD: &[u8] = &[0x8a, 0x01];
/// Bytes of fields 7–9 of a signed statement.
const SIGNED_LEN: usize = 2 + PublicKey::LEN + 2 + SIGNATURE_LEN + 1;
/// Bytes of fields 7–9 of an unsigned statement.
const UNSIGNED_LEN: usize = 1 + 1 + 1 + 16;

impl<'a> Statement<'a> {
    /// The version that is read and written here.
    pub const VERSION: u64 = 1;

    /// Decodes a statement strictly; borrows from `bytes` and allocates nothing. The signature is not checked.
    ///
    /// # Errors
    /// [`StatementError`] for an encoding that is not the deterministic one, or a field that breaks its rule.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, StatementError> {
        let mut reader = Reader::new(bytes);
        reader.array_of(10).map_err(in_field("statement"))?;
        match reader.uint().map_err(in_field("version"))? {
            Self::VERSION => {}
            version => return Err(StatementError::Version(version)),
        }
        let event = Event {
            tenant: reader.text().map_err(in_field("tenant"))?,
            source: reader.text().map_err(in_field("source"))?,
            id: reader.text().map_err(in_field("id"))?,
            time: reader.int().map_err(in_field("time"))?,
            kind: reader.text().map_err(in_field("type"))?,
            digest: reader.hash().map_err(in_field("payload digest"))?,
        };
        event.check()?;
        // Both or neither: the key decides, and what stands behind it has to fit.
        let attestation = if reader.is_null().map_err(in_field("public key"))? {
            reader.null().map_err(in_field("signature"))?;
            Attestation::Unsigned { salt: reader.byte_array().map_err(in_field("salt"))? }
        } else {
            let key = reader.byte_array().map_err(in_field("public key"))?;
            let signature = reader.byte_array().map_err(in_field("signature"))?;
            reader.null().map_err(in_field("salt"))?;
            Attestation::Signed { key, signature }
        };
        reader.finish().map_err(in_field("statement"))?;
        Ok(Self { event, attestation })
    }

    /// The statement's one encoding.
    ///
    /// # Errors
    /// As [`Event::check`].
    pub fn encode(&self) -> Result<Vec<u8>, StatementError> {
        let mut out = self.event.begin_statement(match self.attestation {
            Attestation::Signed { .. } => SIGNED_LEN,
            Attestation::Unsigned { .. } => UNSIGNED_LEN,
        })?;
        self.attestation.write(&mut out);
        Ok(out)
    }

    /// Checks the signature, if there is one, under the key in the statement. Says nothing about whose key it is.
    ///
    /// # Errors
    /// [`StatementError::Key`] or [`StatementError::Signature`].
    pub fn verify(&self) -> Result<(), StatementError> {
        match self.attestation {
            Attestation::Signed { key, .. } => self.verify_with(&PublicKey::decode(key)?),
            Attestation::Unsigned { .. } => Ok(()),
        }
    }

    /// The same with the statement's key decoded before: saves a tenth where many statements have one key.
    ///
    /// # Errors
    /// [`StatementError::Signature`], also where `key` is not the statement's.
    pub fn verify_with(&self, key: &PublicKey) -> Result<(), StatementError> {
        match self.attestation {
            Attestation::Signed { key: own, .. } if own != key.as_bytes() => Err(SignatureError.into()),
            Attestation::Signed { signature, .. } => Ok(key.verify(&self.event.signing_bytes()?, signature)?),
            Attestation::Unsigned { .. } => Ok(()),
        }
    }
}

fn in_field(field: &'static str) -> impl Fn(CborError) -> StatementError {
    move |cause| StatementError::Encoding { field, cause }
}

fn check_text(field: &'static str, text: &str, least: usize) -> Result<(), StatementError> {
    check_length(field, text, least, 256)?;
    // Cc is exactly C0, DEL and C1. Most texts are plain ASCII, which is told by bytes.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(StatementError::Control { field, code: character.into() }),
        None => Ok(()),
    }
}

fn check_length(field: &'static str, text: &str, least: usize, most: usize) -> Result<(), StatementError> {
    let found = text.len();
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(StatementError::Length { field, found, least, most })
    }
}

#[cfg(test)]
mod tests;
