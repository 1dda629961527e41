//! Blocks: as they are kept, with what they change, and as they stand in the journal.

use crate::hash::Hash;
use crate::header::Header;
use crate::pact::Command;
use crate::payload::PayloadWithOutputs;

use super::execute::{FAILURE_TX_IDS, SUCCESS_TX_IDS, fee};
use super::payload::Payload;
use super::store::{Reader, Writer};

/// A block without what can be computed again: miner data and coinbase.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) header: Header,
    /// Each transaction with its output.
    pub(super) transactions: Vec<(Vec<u8>, Vec<u8>)>,
    /// The coinbase's id in the database; `None` for genesis, which has no coinbase.
    pub(super) coinbase_tx_id: Option<u64>,
}

/// What a mined command changes.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) key: Hash,
    pub(super) sender: String,
    /// In 10^-12 of the coin.
    pub(super) fee: u128,
    pub(super) tx_ids: u64,
    /// The second in which the command expires.
    pub(super) expires: i64,
}

/// A block that is made and not yet part of the chain, with what it changes.
#[derive(Clone, Debug)]
pub(super) struct NewBlock {
    pub(super) block: Block,
    pub(super) charges: Vec<Charge>,
}

impl Block {
    /// What it changed: its transactions and outputs tell.
    pub(super) fn charges(&self) -> Option<Vec<Charge>> {
        let charge = |(transaction, output): &(Vec<u8>, Vec<u8>)| {
            let (command, payload) = parsed(transaction)?;
            let output = std::str::from_utf8(output).ok()?;
            let (gas, _) = output.strip_prefix("{\"gas\":")?.split_once(',')?;
            let fee = fee(gas.parse().ok()?, &payload.meta.gas_price)?;
            let tx_ids = if output.ends_with("\"txId\":null}") { FAILURE_TX_IDS } else { SUCCESS_TX_IDS };
            let expires = payload.meta.expires();
            Some(Charge { key: command.hash, sender: payload.meta.sender, fee, tx_ids, expires })
        };
        self.transactions.iter().map(charge).collect()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.bytes(&self.header.encode());
        out.u64(self.coinbase_tx_id.unwrap_or(u64::MAX));
        out.u64(self.transactions.len() as u64);
        for (transaction, output) in &self.transactions {
            out.bytes(transaction);
            out.bytes(output);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let header = Header::decode(from.bytes()?).ok()?;
        let coinbase_tx_id = Some(from.u64()?).filter(|&id| id != u64::MAX);
        let mut transactions = Vec::new();
        for _ in 0..from.u64()? {
            transactions.push((from.bytes()?.to_vec(), from.bytes()?.to_vec()));
        }
        Some(Self { header, transactions, coinbase_tx_id })
    }
}

impl NewBlock {
    /// A block of a chain, with what it changed. `None` if it is not what blocks are made of here.
    pub(super) fn of(block: Block) -> Option<Self> {
        let charges = block.charges()?;
        Some(Self { block, charges })
    }

    /// The commands in it, in their order.
    pub(super) fn commands(&self) -> impl Iterator<Item = (Command, Payload)> {
        self.block.transactions.iter().filter_map(|(transaction, _)| parsed(transaction))
    }

    pub(super) fn write(&self, out: &mut Writer) {
        self.block.write(out);
        for charge in &self.charges {
            out.0.extend_from_slice(&charge.key.0);
            out.bytes(charge.sender.as_bytes());
            out.u128(charge.fee);
            out.u64(charge.tx_ids);
            out.i64(charge.expires);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Self> {
        let block = Block::read(from)?;
        let mut charges = Vec::new();
        for _ in &block.transactions {
            charges.push(Charge {
                key: Hash(from.hash()?),
                sender: from.text()?,
                fee: from.u128()?,
                tx_ids: from.u64()?,
                expires: from.i64()?,
            });
        }
        Some(Self { block, charges })
    }
}

/// The command in a transaction of a block.
fn parsed(transaction: &[u8]) -> Option<(Command, Payload)> {
    let command = Command::parse(transaction).ok()?;
    let payload = Payload::parse(&command.cmd).ok()?;
    Some((command, payload))
}

/// The payload of a genesis block: no transactions, no miner, no coinbase.
pub(super) fn genesis_payload() -> PayloadWithOutputs {
    let miner = br#"{"account":"NoMiner","predicate":"<","public-keys":[]}"#;
    let coinbase = br#"{"gas":0,"result":{"status":"success","data":"NO_COINBASE"},"reqKey":"DldRwCblQ7Loqy6wYJnaodHl30d3j3eH-qtFzfEv46g","logs":null,"metaData":null,"continuation":null,"txId":null}"#;
    PayloadWithOutputs::new(Vec::new(), miner.to_vec(), coinbase.to_vec())
}
