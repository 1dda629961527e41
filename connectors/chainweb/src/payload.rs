//! Payloads: the transactions and outputs of a block and the three hashes over them.
//!
//! | hash | over |
//! |---|---|
//! | transactions hash | miner data (tag 0x0017), then the transactions (0x0013) |
//! | outputs hash | coinbase output (0x0018), then the outputs (0x0014) |
//! | payload hash | the two hashes |
//!
//! So the leaf of transaction `i` and of its output is `i + 1`.

use serde::{Deserialize, Serialize};

use crate::encoding::base64url;
use crate::hash::Hash;
use crate::merkle::{self, Algorithm, Step, Tag};

/// A payload without outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// The bytes of each transaction.
    #[serde(with = "byte_list")]
    pub transactions: Vec<Vec<u8>>,
    /// The bytes of the miner data.
    #[serde(with = "base64url")]
    pub miner_data: Vec<u8>,
    /// Root over miner data and transactions.
    pub transactions_hash: Hash,
    /// Root over coinbase and outputs.
    pub outputs_hash: Hash,
    /// Root over the two.
    pub payload_hash: Hash,
}

/// A payload with the outputs of its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadWithOutputs {
    /// The bytes of each transaction and of its output.
    #[serde(with = "byte_pairs")]
    pub transactions: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bytes of the miner data.
    #[serde(with = "base64url")]
    pub miner_data: Vec<u8>,
    /// Root over miner data and transactions.
    pub transactions_hash: Hash,
    /// Root over coinbase and outputs.
    pub outputs_hash: Hash,
    /// Root over the two.
    pub payload_hash: Hash,
    /// The output of the coinbase transaction.
    #[serde(with = "base64url")]
    pub coinbase: Vec<u8>,
}

/// Why a payload is not right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A hash is not that of the contents.
    #[error("{what} hash is {actual}, computed {computed}")]
    Hash {
        /// Which: `transactions`, `outputs` or `payload`.
        what: &'static str,
        /// The hash stated.
        actual: Hash,
        /// The hash computed.
        computed: Hash,
    },
    /// The binary form ends too early, is too long, or counts more than it holds.
    #[error("payload bytes do not decode at byte {at} of {length}")]
    Bytes {
        /// Where decoding stopped.
        at: usize,
        /// The number of bytes.
        length: usize,
    },
}

impl PayloadError {
    fn unless_equal(what: &'static str, actual: Hash, computed: Hash) -> Result<(), Self> {
        if actual == computed { Ok(()) } else { Err(Self::Hash { what, actual, computed }) }
    }
}

const HASH: Algorithm = Algorithm::Sha512t256;

/// The leaf hashes under the transactions hash.
pub fn transaction_leaves<'a>(miner_data: &[u8], transactions: impl Iterator<Item = &'a [u8]>) -> Vec<Hash> {
    let leaf = |bytes| HASH.input(Tag::TRANSACTION, bytes);
    std::iter::once(HASH.input(Tag::MINER_DATA, miner_data)).chain(transactions.map(leaf)).collect()
}

/// The leaf hashes under the outputs hash.
pub fn output_leaves<'a>(coinbase: &[u8], outputs: impl Iterator<Item = &'a [u8]>) -> Vec<Hash> {
    let leaf = |bytes| HASH.input(Tag::OUTPUT, bytes);
    std::iter::once(HASH.input(Tag::COINBASE, coinbase)).chain(outputs.map(leaf)).collect()
}

/// The payload hash over the other two.
pub fn payload_hash(transactions_hash: &Hash, outputs_hash: &Hash) -> Hash {
    HASH.node(transactions_hash, outputs_hash)
}

impl Payload {
    /// Checks the transactions hash, and the payload hash over it and the stated outputs hash.
    ///
    /// # Errors
    /// [`PayloadError::Hash`].
    pub fn verify(&self) -> Result<(), PayloadError> {
        let leaves = transaction_leaves(&self.miner_data, self.transactions.iter().map(Vec::as_slice));
        PayloadError::unless_equal("transactions", self.transactions_hash, merkle::root(HASH, &leaves))?;
        let computed = payload_hash(&self.transactions_hash, &self.outputs_hash);
        PayloadError::unless_equal("payload", self.payload_hash, computed)
    }

    /// The binary form. Lengths and counts are big-endian u64.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::new());
        writer.count(self.transactions.len());
        self.transactions.iter().for_each(|transaction| writer.bytes(transaction));
        writer.bytes(&self.miner_data);
        writer.hashes([&self.payload_hash, &self.transactions_hash, &self.outputs_hash]);
        writer.0
    }

    /// Decodes the binary form.
    ///
    /// # Errors
    /// [`PayloadError::Bytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader { bytes, at: 0 };
        let payload = reader.payload().filter(|_| reader.is_at_end());
        payload.ok_or(PayloadError::Bytes { at: reader.at, length: bytes.len() })
    }
}

impl PayloadWithOutputs {
    /// The payload of these parts, with its hashes computed.
    pub fn new(transactions: Vec<(Vec<u8>, Vec<u8>)>, miner_data: Vec<u8>, coinbase: Vec<u8>) -> Self {
        let mut payload = Self {
            transactions,
            miner_data,
            coinbase,
            transactions_hash: Hash::default(),
            outputs_hash: Hash::default(),
            payload_hash: Hash::default(),
        };
        payload.transactions_hash = merkle::root(HASH, &payload.transaction_leaves());
        payload.outputs_hash = merkle::root(HASH, &payload.output_leaves());
        payload.payload_hash = payload_hash(&payload.transactions_hash, &payload.outputs_hash);
        payload
    }

    /// Checks all three hashes.
    ///
    /// # Errors
    /// [`PayloadError::Hash`].
    pub fn verify(&self) -> Result<(), PayloadError> {
        let transactions = merkle::root(HASH, &self.transaction_leaves());
        PayloadError::unless_equal("transactions", self.transactions_hash, transactions)?;
        let outputs = merkle::root(HASH, &self.output_leaves());
        PayloadError::unless_equal("outputs", self.outputs_hash, outputs)?;
        let computed = payload_hash(&self.transactions_hash, &self.outputs_hash);
        PayloadError::unless_equal("payload", self.payload_hash, computed)
    }

    /// The leaf hashes under the transactions hash: miner data first.
    pub fn transaction_leaves(&self) -> Vec<Hash> {
        transaction_leaves(
            &self.miner_data,
            self.transactions.iter().map(|(transaction, _)| transaction.as_slice()),
        )
    }

    /// The leaf hashes under the outputs hash: coinbase first.
    pub fn output_leaves(&self) -> Vec<Hash> {
        output_leaves(&self.coinbase, self.transactions.iter().map(|(_, output)| output.as_slice()))
    }

    /// The path from transaction `index` to the payload hash; `None` where there is no such transaction.
    pub fn transaction_path(&self, index: usize) -> Option<Vec<Step>> {
        let leaves = [self.transactions_hash, self.outputs_hash];
        path_through(&self.transaction_leaves(), index.checked_add(1)?, &leaves, 0)
    }

    /// The path from the output of transaction `index` to the payload hash; `None` where there is none.
    pub fn output_path(&self, index: usize) -> Option<Vec<Step>> {
        let leaves = [self.transactions_hash, self.outputs_hash];
        path_through(&self.output_leaves(), index.checked_add(1)?, &leaves, 1)
    }

    /// The same payload without its outputs.
    pub fn without_outputs(&self) -> Payload {
        Payload {
            transactions: self.transactions.iter().map(|(transaction, _)| transaction.clone()).collect(),
            miner_data: self.miner_data.clone(),
            transactions_hash: self.transactions_hash,
            outputs_hash: self.outputs_hash,
            payload_hash: self.payload_hash,
        }
    }

    /// The binary form. Lengths and counts are big-endian u64.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::new());
        writer.count(self.transactions.len());
        for (transaction, output) in &self.transactions {
            writer.bytes(transaction);
            writer.bytes(output);
        }
        writer.bytes(&self.miner_data);
        writer.bytes(&self.coinbase);
        writer.hashes([&self.payload_hash, &self.transactions_hash, &self.outputs_hash]);
        writer.0
    }

    /// Decodes the binary form.
    ///
    /// # Errors
    /// [`PayloadError::Bytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader { bytes, at: 0 };
        let payload = reader.payload_with_outputs().filter(|_| reader.is_at_end());
        payload.ok_or(PayloadError::Bytes { at: reader.at, length: bytes.len() })
    }
}

/// The path from a leaf through its tree and on through the tree above it.
fn path_through(leaves: &[Hash], index: usize, above: &[Hash], place: usize) -> Option<Vec<Step>> {
    let mut steps = merkle::path(HASH, leaves, index)?;
    steps.extend(merkle::path(HASH, above, place)?);
    Some(steps)
}

struct Writer(Vec<u8>);

impl Writer {
    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn hashes(&mut self, hashes: [&Hash; 3]) {
        hashes.iter().for_each(|hash| self.0.extend_from_slice(&hash.0));
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn count(&mut self) -> Option<usize> {
        let count = u64::from_be_bytes(self.take(8)?.try_into().ok()?);
        usize::try_from(count).ok()
    }

    fn byte_string(&mut self) -> Option<Vec<u8>> {
        let length = self.count()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    /// As many items as the count says; nothing is reserved ahead, so a wrong count costs nothing.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.take(32)?.try_into().ok().map(Hash)
    }

    fn payload(&mut self) -> Option<Payload> {
        let transactions = self.list(Self::byte_string)?;
        let miner_data = self.byte_string()?;
        let (payload_hash, transactions_hash, outputs_hash) = (self.hash()?, self.hash()?, self.hash()?);
        Some(Payload { transactions, miner_data, transactions_hash, outputs_hash, payload_hash })
    }

    fn payload_with_outputs(&mut self) -> Option<PayloadWithOutputs> {
        let transactions = self.list(|reader| Some((reader.byte_string()?, reader.byte_string()?)))?;
        let (miner_data, coinbase) = (self.byte_string()?, self.byte_string()?);
        let (payload_hash, transactions_hash, outputs_hash) = (self.hash()?, self.hash()?, self.hash()?);
        Some(PayloadWithOutputs {
            transactions,
            miner_data,
            transactions_hash,
            outputs_hash,
            payload_hash,
            coinbase,
        })
    }
}

/// A byte string that is base64url in JSON.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "base64url")] Vec<u8>);

mod byte_list {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Bytes;

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|bytes| crate::encoding::encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<Bytes>::deserialize(deserializer)?.into_iter().map(|bytes| bytes.0).collect())
    }
}

mod byte_pairs {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Bytes;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    pub(super) fn serialize<S: Serializer>(pairs: &Pairs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(pairs.iter().map(|(a, b)| [crate::encoding::encode(a), crate::encoding::encode(b)]))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        let pairs = Vec::<(Bytes, Bytes)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(a, b)| (a.0, b.0)).collect())
    }
}
