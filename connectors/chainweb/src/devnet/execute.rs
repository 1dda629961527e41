//! Execution of one command: its result, gas and fee, as the bytes that go into the block.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha512_256};

use super::code::{Around, Balances, Failure};
use super::decimal::Decimal;
use super::json::quoted;
use super::payload::{Action, Payload};

/// Most gas that a command may ask for, and that all commands of a block use: a node's default setting.
pub(super) const BLOCK_GAS_LIMIT: u64 = 150_000;

/// Gas for buying and redeeming gas by a sender whose account is guarded by one key.
const BUY_AND_REDEEM_GAS: u64 = 70;

/// Hash of the coin contract of a 2.32 node, as it stands in every event of it.
const COIN_MODULE_HASH: &str = "3iIBQdJnst44Z2ZgXoHPkAauybJ0h85l_en_SGHNibE";

/// Transaction ids of the database that a successful command uses up.
pub(super) const SUCCESS_TX_IDS: u64 = 3;

/// Transaction ids of the database that a failed command uses up.
pub(super) const FAILURE_TX_IDS: u64 = 2;

/// What became of a command in a block.
pub(super) struct Executed {
    /// The command result, compact JSON: the leaf of the block's outputs.
    pub(super) output: String,
    /// What the sender pays to the miner, in 10^-12 of the coin.
    pub(super) fee: u128,
    pub(super) gas: u64,
    /// Transaction ids of the database that the command used up.
    pub(super) tx_ids: u64,
}

/// The command can never be in a block: its gas limit does not even pay for its size.
#[derive(Debug)]
pub(super) struct TooBigForItsGasLimit;

/// Executes a command of `cmd_bytes` bytes. `next_tx_id` is the first id of the database that is free. One that `fails` does
/// so for want of gas, whatever it needs.
pub(super) fn execute(
    payload: &Payload,
    request_key: &str,
    cmd_bytes: usize,
    miner: &str,
    next_tx_id: u64,
    fails: bool,
) -> Result<Executed, TooBigForItsGasLimit> {
    execute_over(payload, request_key, cmd_bytes, miner, next_tx_id, None, fails)
}

/// As [`execute`], for code that looks at balances too.
pub(super) fn execute_over(
    payload: &Payload,
    request_key: &str,
    cmd_bytes: usize,
    miner: &str,
    next_tx_id: u64,
    balances: Option<Balances<'_>>,
    fails: bool,
) -> Result<Executed, TooBigForItsGasLimit> {
    let meta = &payload.meta;
    let proof_bytes = match &payload.action {
        Action::Cont { proof_bytes, .. } => *proof_bytes,
        Action::Exec { .. } => 0,
    };
    let initial_gas = initial_gas(cmd_bytes.saturating_sub(proof_bytes));
    if initial_gas >= meta.gas_limit {
        return Err(TooBigForItsGasLimit);
    }
    // Less than a unit of gas for the evaluation is in what it costs to buy gas.
    let evaluation = evaluation_gas(payload).saturating_sub(1);
    let needed = initial_gas.saturating_add(BUY_AND_REDEEM_GAS).saturating_add(evaluation);
    let needed = if fails { needed.max(meta.gas_limit.saturating_add(1)) } else { needed };
    let result = match evaluate(payload, balances) {
        Ok(_) if needed > meta.gas_limit => {
            Err(Failure::eval(format!("Gas limit \"{}\"exceeded: {needed}", meta.gas_limit)))
        }
        result => result,
    };
    let (gas, result, tx_id, tx_ids) = match result {
        Ok(value) => {
            let result = format!("{{\"status\":\"success\",\"data\":{value}}}");
            (needed, result, Some(next_tx_id + 1), SUCCESS_TX_IDS)
        }
        Err(failure) => (meta.gas_limit, failure.json(), None, FAILURE_TX_IDS),
    };
    let fee = fee(gas, &meta.gas_price).unwrap_or(u128::MAX);
    let output = command_result(gas, &result, request_key, &transfer(&meta.sender, miner, fee), tx_id);
    Ok(Executed { output, fee, gas, tx_ids })
}

/// Gas of the evaluation alone.
pub(super) fn evaluation_gas(payload: &Payload) -> u64 {
    match &payload.action {
        Action::Exec { program: Ok(program), .. } => program.gas(),
        Action::Exec { program: Err(_), .. } | Action::Cont { .. } => 0,
    }
}

/// Executes what a command wants to be done, without gas; the value as JSON.
pub(super) fn evaluate(payload: &Payload, balances: Option<Balances<'_>>) -> Result<String, Failure> {
    match &payload.action {
        Action::Exec { program: Ok(program), data } => program.execute(Around { data, balances }),
        Action::Exec { program: Err(error), .. } => Err(Failure::eval(error.clone())),
        Action::Cont { pact_id, .. } => {
            let short: String = pact_id.chars().take(20).collect();
            Err(Failure::eval(format!("No previous defpact execution found for defpact id:  {short}...")))
        }
    }
}

/// Price of `gas` in 10^-12 of the coin; `None` if it does not fit.
pub(super) fn fee(gas: u64, price: &Decimal) -> Option<u128> {
    price.to_units()?.checked_mul(u128::from(gas))
}

/// Gas for the size of a command, charged before anything runs: ceil(x + (x/512)^7), x = bytes / 100.
fn initial_gas(bytes: usize) -> u64 {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let acceleration = (bytes as f64 / 51_200.0).powi(7);
    let (whole, hundredths) = (bytes / 100, bytes % 100);
    // The second summand is positive even where it is too small to show beside the first.
    let rest = if hundredths == 0 {
        acceleration.ceil().max(1.0)
    } else {
        (hundredths as f64 / 100.0 + acceleration).ceil()
    };
    whole.saturating_add(rest as u64)
}

/// The result of the coinbase on the block `parent` (its hash as text).
pub(super) fn coinbase(parent: &str, miner: &str, reward: u128, tx_id: u64) -> String {
    let request_key = URL_SAFE_NO_PAD.encode(parent);
    let result = "{\"status\":\"success\",\"data\":\"Write succeeded\"}";
    command_result(0, result, &request_key, &transfer("", miner, reward), Some(tx_id))
}

/// The made-up result of a command that was dropped because it can never be mined.
pub(super) fn badlisted(request_key: &str) -> String {
    let failure = Failure {
        kind: "TxFailure",
        message: "Transaction is badlisted because it previously failed to validate.".into(),
    };
    without_block(0, &failure, request_key)
}

/// The result of a command that failed outside of any block.
pub(super) fn without_block(gas: u64, failure: &Failure, request_key: &str) -> String {
    format!(
        "{{\"gas\":{gas},\"result\":{},\"reqKey\":{},\"logs\":null,\"metaData\":null,\"continuation\":null,\"txId\":null}}",
        failure.json(),
        quoted(request_key)
    )
}

fn transfer(from: &str, to: &str, amount: u128) -> String {
    let amount = Decimal::from_units(amount).json();
    format!(
        "{{\"params\":[{},{},{amount}],\"name\":\"TRANSFER\",\"module\":{{\"namespace\":null,\"name\":\"coin\"}},\"moduleHash\":\"{COIN_MODULE_HASH}\"}}",
        quoted(from),
        quoted(to)
    )
}

fn command_result(gas: u64, result: &str, request_key: &str, event: &str, tx_id: Option<u64>) -> String {
    // A node hashes the rows that it wrote. There are none here, so that hash is over what is known of them.
    let logs = URL_SAFE_NO_PAD.encode(Sha512_256::digest(format!("{request_key}{event}")));
    let tx_id = tx_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    format!(
        "{{\"gas\":{gas},\"result\":{result},\"reqKey\":\"{request_key}\",\"logs\":\"{logs}\",\"events\":[{event}],\"metaData\":null,\"continuation\":null,\"txId\":{tx_id}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_gas_is_the_measured_one() {
        let recorded = [
            (362, 74),
            (440, 75),
            (459, 75),
            (858, 79),
            (1072, 81),
            (4765, 118),
            (4999, 120),
            (5017, 121),
            (7462, 145),
            (23_400, 305),
            (46_401, 535),
            (250_331, 69_364),
        ];
        for (bytes, gas) in recorded {
            assert_eq!(initial_gas(bytes) + BUY_AND_REDEEM_GAS, gas, "{bytes} bytes");
        }
        assert_eq!(initial_gas(400), 5, "the rule rounds up even the smallest excess");
        assert!(initial_gas(usize::MAX) > BLOCK_GAS_LIMIT);
    }
}
