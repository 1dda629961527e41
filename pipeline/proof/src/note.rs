//! Signed notes (C2SP `signed-note`): a text, and signature lines that name their keys.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::encoding::{EncodingError, array_from_base64, base64, from_base64};
use crate::hash::Algorithm;
use crate::signature::{KeyError, PublicKey, SIGNATURE_LEN, SecretKey};
use crate::statement::{Event, StatementError};

/// Bytes in the longest note that is read.
pub const MAX_NOTE: usize = 1 << 20;

/// Signature lines in a note at most.
pub const MAX_SIGNATURES: usize = 100;

/// The byte before an Ed25519 key: the signature type of plain note signatures.
const ED25519: u8 = 0x01;

const SECRET_PREFIX: &str = "PRIVATE+KEY+";

/// Why a note is refused, or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE`].
    #[error("a note of {0} bytes is too long")]
    TooLong(usize),
    /// Bytes that are no text, or a control character other than a newline.
    #[error("a note is UTF-8 text without control characters")]
    NotText,
    /// No blank line, or no signature line behind it.
    #[error("a note has a text, a blank line and signature lines, each with its newline")]
    NoSignatures,
    /// A line behind the blank line that is not `— <name> <base64>`.
    #[error("signature line {0} is not of the form — name base64")]
    SignatureLine(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("a note has at most {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// Two known keys share name and id.
    #[error("two known keys are called {name}+{id:08x}")]
    AmbiguousKey {
        /// The keys' name.
        name: String,
        /// The keys' id.
        id: u32,
    },
    /// A known key did not make the signature that has its name.
    #[error("the signature of {name}+{id:08x} is wrong")]
    WrongSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        id: u32,
    },
    /// A text that cannot be signed: it is empty or does not end in a newline.
    #[error("a note's text ends in a newline")]
    Text,
}

/// Why a text is no note key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteKeyError {
    /// Not `<name>+<id>+<key>`, or `PRIVATE+KEY+<name>+<id>+<key>` for a secret one.
    #[error("a note key is name+id+key, the id in 8 lower-case hex digits")]
    Form,
    /// A name that is empty, or has a space, a plus or a control character.
    #[error("the name of a note key is not empty and has no space, plus or control character")]
    Name,
    /// The key is not base64.
    #[error("note key: {0}")]
    Encoding(#[from] EncodingError),
    /// A key of another kind than Ed25519 (type 1).
    #[error("signature type {0} is not known here")]
    Type(u8),
    /// The id does not belong to name and key.
    #[error("the id {found:08x} is not that of this name and key, {expected:08x}")]
    Id {
        /// The id of this name and key.
        expected: u32,
        /// The id in the text.
        found: u32,
    },
    /// The key is none that may sign.
    #[error("note key: {0}")]
    Key(#[from] KeyError),
}

/// A key that notes are checked with; as text `<name>+<id>+<base64 of type and public key>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: PublicKey,
}

impl VerifierKey {
    /// Names a public key.
    ///
    /// # Errors
    /// [`NoteKeyError::Name`].
    pub fn new(name: &str, key: PublicKey) -> Result<Self, NoteKeyError> {
        if !is_key_name(name) {
            return Err(NoteKeyError::Name);
        }
        Ok(Self { name: name.to_owned(), id: key_id(name, key.as_bytes()), key })
    }

    /// The key's name: for the key of a log, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id: it tells keys of one name apart, and proves nothing.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The public key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl FromStr for VerifierKey {
    type Err = NoteKeyError;

    fn from_str(text: &str) -> Result<Self, NoteKeyError> {
        let (name, found, key) = parse_key(text)?;
        let expected = key_id(name, &key);
        if found != expected {
            return Err(NoteKeyError::Id { expected, found });
        }
        Self::new(name, PublicKey::decode(&key)?)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id, base64(&typed(self.key.as_bytes())))
    }
}

/// A key that notes are signed with; as text `PRIVATE+KEY+<name>+<id>+<base64 of type and seed>`.
///
/// There is no `Display`: whoever writes the secret text has to say so.
#[derive(Clone, Debug)]
pub struct SignerKey {
    name: String,
    id: u32,
    secret: SecretKey,
}

impl SignerKey {
    /// Names a secret key.
    ///
    /// # Errors
    /// [`NoteKeyError::Name`].
    pub fn new(name: &str, secret: SecretKey) -> Result<Self, NoteKeyError> {
        let VerifierKey { name, id, .. } = VerifierKey::new(name, secret.public())?;
        Ok(Self { name, id, secret })
    }

    /// The key's name: for the key of a log, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The key that checks what this one signs.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), id: self.id, key: self.secret.public() }
    }

    /// Signs an event as a device does: so a log says itself how it goes on. What is signed is no note, since no origin
    /// stands at its beginning.
    ///
    /// # Errors
    /// [`StatementError`] if the event breaks a rule of statements.
    pub fn sign_event(&self, event: &Event<'_>) -> Result<[u8; SIGNATURE_LEN], StatementError> {
        Ok(self.secret.sign(&event.signing_bytes()?))
    }

    /// Signs the `Sig_structure` of a COSE message (RFC 9052 section 4.4). It is no note and no event: no text begins with
    /// its first byte.
    pub(crate) fn sign_cose(&self, structure: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.secret.sign(structure)
    }

    /// The key as text: whoever has it can sign.
    pub fn to_secret_text(&self) -> String {
        format!("{SECRET_PREFIX}{}+{:08x}+{}", self.name, self.id, base64(&typed(self.secret.seed())))
    }

    /// The signature line of a text, with its newline.
    fn line(&self, text: &str) -> String {
        let signature = [&self.id.to_be_bytes()[..], &self.secret.sign(text.as_bytes())].concat();
        format!("{MARK}{} {}\n", self.name, base64(&signature))
    }
}

impl FromStr for SignerKey {
    type Err = NoteKeyError;

    fn from_str(text: &str) -> Result<Self, NoteKeyError> {
        let (name, found, seed) = parse_key(text.strip_prefix(SECRET_PREFIX).ok_or(NoteKeyError::Form)?)?;
        let signer = Self::new(name, SecretKey::from_seed(&seed))?;
        if signer.id == found { Ok(signer) } else { Err(NoteKeyError::Id { expected: signer.id, found }) }
    }
}

/// Name, id and key bytes of `<name>+<id>+<base64 of type and key>`.
fn parse_key(text: &str) -> Result<(&str, u32, [u8; 32]), NoteKeyError> {
    let (name, rest) = text.split_once('+').ok_or(NoteKeyError::Form)?;
    let (id, key) = rest.split_once('+').ok_or(NoteKeyError::Form)?;
    if !is_key_name(name) {
        return Err(NoteKeyError::Name);
    }
    let is_hex = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| is_hex).ok_or(NoteKeyError::Form)?;
    let [kind, key @ ..] = array_from_base64::<33>(key)?;
    if kind == ED25519 { Ok((name, id, key)) } else { Err(NoteKeyError::Type(kind)) }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|character: char| character == '+' || character.is_whitespace() || character < ' ')
}

fn key_id(name: &str, key: &[u8; 32]) -> u32 {
    let digest = Algorithm::Sha256.digest(&[name.as_bytes(), b"\n", &typed(key)].concat());
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn typed(key: &[u8; 32]) -> [u8; 33] {
    let mut bytes = [ED25519; 33];
    bytes[1..].copy_from_slice(key);
    bytes
}

/// What a signature line begins with: an em dash and a space.
const MARK: &str = "\u{2014} ";

/// One signature line, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature<'a> {
    /// The line without its newline.
    pub line: &'a str,
    /// The name of the key that is said to have signed.
    pub name: &'a str,
    /// The id of that key.
    pub id: u32,
    /// What follows the id: 64 bytes where an Ed25519 key signed, anything for keys of other types.
    pub signature: Vec<u8>,
}

impl NoteSignature<'_> {
    fn is_by(&self, key: &VerifierKey) -> bool {
        self.id == key.id && self.name == key.name
    }

    fn is_right(&self, key: &VerifierKey, text: &str) -> bool {
        let signature: Result<&[u8; SIGNATURE_LEN], _> = self.signature.as_slice().try_into();
        signature.is_ok_and(|signature| key.key.verify(text.as_bytes(), signature).is_ok())
    }
}

/// What one key has to do with a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not sign.
    Absent,
    /// It signed.
    Valid,
    /// A signature that has its name and id is wrong, perhaps beside a right one.
    Wrong,
}

/// What known keys have to do with a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'k> {
    /// The known keys that signed, each once, in the order of the signature lines.
    pub verified: Vec<&'k VerifierKey>,
    /// Distinct signatures of keys that are not known.
    pub unverified: usize,
}

/// A note that is well formed. Its text means nothing before a known key has been found to have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<NoteSignature<'a>>,
}

impl<'a> Note<'a> {
    /// Reads a note strictly: at least one signature, at most [`MAX_SIGNATURES`]; nothing is verified.
    ///
    /// # Errors
    /// [`NoteError`] says what is not of the form.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong(note.len()));
        }
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::NotText);
        }
        // The last blank line divides; the text keeps the newline before it.
        let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (index, line) in lines.split('\n').enumerate() {
            if index == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::SignatureLine(index + 1))?);
        }
        Ok(Self { text, signatures })
    }

    /// Reads a note from bytes that may not be text.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_bytes(note: &'a [u8]) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong(note.len()));
        }
        Self::parse(std::str::from_utf8(note).map_err(|_| NoteError::NotText)?)
    }

    /// What was signed, with its last newline and without the blank line.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// All signature lines, verified or not.
    pub fn signatures(&self) -> &[NoteSignature<'a>] {
        &self.signatures
    }

    /// What this key has to do with the note. Each of its signatures has to be right.
    pub fn verdict(&self, key: &VerifierKey) -> Verdict {
        let own: Vec<_> = self.distinct().filter(|signature| signature.is_by(key)).collect();
        match own.as_slice() {
            [] => Verdict::Absent,
            own if own.iter().all(|signature| signature.is_right(key, self.text)) => Verdict::Valid,
            _ => Verdict::Wrong,
        }
    }

    /// What these known keys have to do with the note. Signatures of other keys are only counted;
    /// the note means something where `verified` holds a key that is trusted for it.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] where a known key did not make a signature that has its name, also beside
    /// right ones; [`NoteError::AmbiguousKey`] where two of the keys share the name and id of a signature.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Opened<'k>, NoteError> {
        let mut opened = Opened { verified: Vec::new(), unverified: 0 };
        for signature in self.distinct() {
            let mut known = keys.iter().filter(|key| signature.is_by(key));
            let (name, id) = (signature.name, signature.id);
            match (known.next(), known.next()) {
                (None, _) => opened.unverified += 1,
                (Some(_), Some(_)) => return Err(NoteError::AmbiguousKey { name: name.to_owned(), id }),
                (Some(key), None) if !signature.is_right(key, self.text) => {
                    return Err(NoteError::WrongSignature { name: name.to_owned(), id });
                }
                (Some(key), None) if opened.verified.contains(&key) => {}
                (Some(key), None) => opened.verified.push(key),
            }
        }
        Ok(opened)
    }

    /// The note with the signature of this key added, in place of one that has its name and id.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn with_signature(&self, signer: &SignerKey) -> Result<String, NoteError> {
        let by_others =
            |signature: &&NoteSignature<'_>| signature.id != signer.id || signature.name != signer.name;
        let others: Vec<_> = self.signatures.iter().filter(by_others).collect();
        if others.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let mut note = format!("{}\n", self.text);
        for other in others {
            note.push_str(other.line);
            note.push('\n');
        }
        note.push_str(&signer.line(self.text));
        Ok(note)
    }

    /// The signatures without repeated lines.
    fn distinct(&self) -> impl Iterator<Item = &NoteSignature<'a>> {
        let mut seen = HashSet::with_capacity(self.signatures.len());
        self.signatures.iter().filter(move |signature| seen.insert(signature.line))
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature<'_>> {
    let (name, signature) = line.strip_prefix(MARK)?.split_once(' ')?;
    let bytes = from_base64(signature).ok()?;
    let (id, signature) = bytes.split_first_chunk()?;
    let is_complete = is_key_name(name) && !signature.is_empty();
    is_complete.then(|| NoteSignature {
        line,
        name,
        id: u32::from_be_bytes(*id),
        signature: signature.to_vec(),
    })
}

/// Signs a text with one or more keys: the whole note, with a signature line each.
///
/// # Errors
/// [`NoteError`] for a text that is too long, has control characters or does not end in a newline, and for no
/// signers or too many.
pub fn sign(text: &str, signers: &[&SignerKey]) -> Result<String, NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Text);
    }
    let mut note = format!("{text}\n");
    signers.iter().for_each(|signer| note.push_str(&signer.line(text)));
    Note::parse(&note)?;
    Ok(note)
}

#[cfg(test)]
mod tests;
