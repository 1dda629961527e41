//! Trying commands without making a block, as a node does for who asks what a command would come to.

use std::collections::BTreeMap;

use crate::graph::ChainId;
use crate::header::Header;
use crate::pact::Command;

use super::chain::{Chain, seconds};
use super::code::{Balances, Failure};
use super::decimal::Decimal;
use super::execute::{
    BLOCK_GAS_LIMIT, TooBigForItsGasLimit, evaluate, evaluation_gas, execute_over, without_block,
};
use super::json::{Json, parse, quoted};
use super::mempool::{MAX_PRICE_PLACES, MAX_SIGNATURES, MAX_TTL, can_buy_gas, signature_text};
use super::network::Network;
use super::payload::{Action, Payload};
use super::text::joined;

/// The hash over no rows.
const NO_LOGS: &str = "DldRwCblQ7Loqy6wYJnaodHl30d3j3eH-qtFzfEv46g";

/// Who is paid where there is no block.
const NO_MINER: &str = "NoMiner";

/// How a command is tried.
pub(super) struct How {
    /// Whether gas is charged, and the command checked, as in a block.
    pub(super) is_preflight: bool,
    pub(super) verifies_signatures: bool,
    /// Blocks below the newest.
    pub(super) rewind: u64,
}

/// The result of a command that is tried, as the JSON text of a node.
///
/// # Errors
/// The text of a refusal, in the words of a node.
pub(super) fn run(network: &Network, id: ChainId, command: &Command, how: &How) -> Result<String, String> {
    let chain = network.chain(id).ok_or_else(|| format!("Validation failed: no chain {id}"))?;
    let payload = Payload::parse(&command.cmd)
        .map_err(|error| format!("Validation failed: reading JSON for transaction failed: {error}"))?;
    let tip = chain.tip();
    let height = tip.header.height.saturating_sub(how.rewind).max(chain.first_height());
    let parent = &chain.at(height).unwrap_or(tip).header;
    let reasons = refusals(network, id, command, &payload, parent, how);
    if !reasons.is_empty() {
        return Err(format!(
            "Metadata validation failed: [{}]",
            joined(reasons.iter().map(|why| quoted(why)))
        ));
    }
    let key = command.hash.to_string();
    if let Action::Exec { program: Err(error), .. } = &payload.action {
        let message = format!("ParseError: {}", error.trim_start_matches("Pact parse error: "));
        let failure = Failure { kind: "SyntaxError", message };
        return Ok(without_block(payload.meta.gas_limit, &failure, &key));
    }
    let paid = paid_above(chain, height);
    let balances = |account: &str| {
        let paid_since = paid.get(account).copied().unwrap_or_default();
        Some(chain.accounts.get(account)?.balance.saturating_add(paid_since))
    };
    let place = place(parent, &payload);
    if !how.is_preflight {
        return Ok(plain(&payload, &key, chain.next_tx_id, &balances, &place));
    }
    let result = preflight(chain, command, &payload, &balances, &place);
    Ok(format!("{{\"preflightResult\":{result},\"preflightWarnings\":[]}}"))
}

/// Why a command is not even tried.
fn refusals(
    network: &Network,
    chain: ChainId,
    command: &Command,
    payload: &Payload,
    parent: &Header,
    how: &How,
) -> Vec<String> {
    if command.verify_hash().is_err() {
        return vec!["The hash of the payload was invalid.".to_owned()];
    }
    if how.verifies_signatures
        && let Err(error) = command.verify_signatures()
    {
        return vec![signature_text(command, error)];
    }
    if !how.is_preflight {
        return Vec::new();
    }
    let meta = &payload.meta;
    // How far the creation time is ahead does not matter here.
    let is_in_time = (1..=MAX_TTL).contains(&meta.ttl) && meta.expires() > seconds(parent.creation_time);
    let checks = [
        (meta.chain_id == chain.to_string(), "Chain id mismatch"),
        (meta.gas_limit <= BLOCK_GAS_LIMIT, "Transaction Gas limit exceeds block gas limit"),
        (meta.gas_price.places() <= MAX_PRICE_PLACES, "Gas price decimal precision too high"),
        (payload.network.as_deref() == Some(&*network.version().name), "Network id mismatch"),
        (command.sigs.len() <= MAX_SIGNATURES, "Signature list size too big"),
        (is_in_time, "Tx time outside of valid range"),
    ];
    checks.into_iter().filter(|(is_met, _)| !is_met).map(|(_, why)| why.to_owned()).collect()
}

/// The block that a command is tried in.
fn place(parent: &Header, payload: &Payload) -> String {
    let meta = &payload.meta;
    format!(
        "{{\"blockHeight\":{},\"blockTime\":{},\"prevBlockHash\":\"{}\",\"publicMeta\":{{\"chainId\":{},\"creationTime\":{},\"gasLimit\":{},\"gasPrice\":{},\"sender\":{},\"ttl\":{}}}}}",
        parent.height.saturating_add(1),
        parent.creation_time,
        parent.hash,
        quoted(&meta.chain_id),
        meta.creation_time,
        meta.gas_limit,
        meta.gas_price.json(),
        quoted(&meta.sender),
        meta.ttl
    )
}

/// The evaluation alone.
fn plain(payload: &Payload, key: &str, tx_id: u64, balances: Balances<'_>, place: &str) -> String {
    let (gas, limit) = (evaluation_gas(payload), payload.meta.gas_limit);
    let result = match evaluate(payload, Some(balances)) {
        Ok(_) if gas > limit => Err(Failure::eval(format!("Gas limit \"{limit}\"exceeded: {gas}"))),
        result => result,
    };
    match result {
        Ok(value) => format!(
            "{{\"gas\":{gas},\"result\":{{\"status\":\"success\",\"data\":{value}}},\"reqKey\":\"{key}\",\"logs\":\"{NO_LOGS}\",\"metaData\":{place},\"continuation\":null,\"txId\":{tx_id}}}"
        ),
        Err(failure) => without_block(limit, &failure, key),
    }
}

/// All that happens in a block.
fn preflight(
    chain: &Chain,
    command: &Command,
    payload: &Payload,
    balances: Balances<'_>,
    place: &str,
) -> String {
    let key = command.hash.to_string();
    let failed = |why: String| {
        let failure = Failure::eval(format!("\"{key}\" {why}"));
        without_block(payload.meta.gas_limit, &failure, &key)
    };
    if let Err(why) = can_buy_gas(payload, &chain.accounts) {
        return failed(format!("Failed to buy gas: {why}"));
    }
    let bytes = command.cmd.len();
    match execute_over(payload, &key, bytes, NO_MINER, chain.next_tx_id, Some(balances), false) {
        // The last one is the result's own: behind it stand only a null and a number.
        Ok(executed) => match executed.output.rsplit_once("\"metaData\":null") {
            Some((before, after)) => format!("{before}\"metaData\":{place}{after}"),
            None => executed.output,
        },
        Err(TooBigForItsGasLimit) => failed("Failed to purchas gas: tx too big for gas limit".to_owned()),
    }
}

/// What accounts paid in blocks above a height: with what they have, it is what they had.
fn paid_above(chain: &Chain, height: u64) -> BTreeMap<String, u128> {
    let mut paid = BTreeMap::<String, u128>::new();
    for block in chain.blocks().rev().take_while(|block| block.header.height > height) {
        for (account, amount) in block.transactions.iter().filter_map(|(_, output)| payment(output)) {
            let sum = paid.entry(account).or_default();
            *sum = sum.saturating_add(amount);
        }
    }
    paid
}

/// Who paid how much for the gas of a command, by the command's output.
fn payment(output: &[u8]) -> Option<(String, u128)> {
    let output = parse(std::str::from_utf8(output).ok()?).ok()?;
    let Json::List(events) = output.get("events")? else { return None };
    let Json::List(params) = events.first()?.get("params")? else { return None };
    let [Json::Text(from), _, amount] = &params[..] else { return None };
    let amount = match amount {
        Json::Number(text) => text,
        other => other.get("decimal")?.as_text()?,
    };
    Some((from.clone(), Decimal::parse(amount)?.to_units()?))
}
