//! Trying commands without sending them, and what that tells: the balance of an account.

use serde::Deserialize;
use serde_json::Value;

use super::NodeError;
use super::error::excerpt;
use super::node::Node;
use super::pact::{harm, too_long};
use super::wire::{Question, Reply};
use crate::decimal::Decimal;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::json;
use crate::pact::{Command, CommandResult, Outcome, command_hash};

/// How a command is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// Whether it is treated as in a block: gas is bought and charged, and chain, network, expiry and gas limit are
    /// checked. Not checked are the least price, and a creation time that is too far ahead. Without it nothing but
    /// hash and signatures is checked, and the gas is that of the evaluation alone. Default false.
    pub is_preflight: bool,
    /// Whether signatures are checked; without it a command may have none. Default true.
    pub verifies_signatures: bool,
    /// How many blocks below the newest it is tried; beyond genesis counts as genesis. Default: on the newest.
    pub rewind: Option<u64>,
}

impl Default for Try {
    fn default() -> Self {
        Self { is_preflight: false, verifies_signatures: true, rewind: None }
    }
}

/// What a node says to a command that it only tries. Nothing is changed by it, and nothing of it is evidence.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// It ran: this would be its result.
    Ran(Box<Ran>),
    /// It is not run, for these reasons in the node's words.
    Refused(Vec<String>),
    /// It ran for longer than the node lets it.
    TimedOut,
}

/// What a command would come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Its result. A failure has the whole gas limit as its gas.
    pub result: CommandResult,
    /// The block that it was tried in; the node does not say for failures before anything ran.
    pub place: Option<TriedIn>,
    /// What the node warns of; only ever with preflight.
    pub warnings: Vec<String>,
}

/// The block, which does not exist, that a command was tried in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedIn {
    /// Its height: one above the newest block.
    pub block_height: u64,
    /// The creation time of its parent. µs since 1970.
    pub block_time: i64,
    /// The hash of its parent.
    pub prev_block_hash: Hash,
}

/// What an account has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// In coins, exactly: digits, and a point with digits behind it where it is not whole.
    pub text: String,
    /// In 10^-12 of the coin, its smallest part.
    pub units: u128,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preflight {
    preflight_result: Value,
    preflight_warnings: Vec<String>,
}

const WHAT: &str = "local";

/// The beginning of a refusal with a list of reasons.
const REFUSED: &str = "Metadata validation failed: ";
/// What a node says in place of a result.
const TIMED_OUT: [&str; 2] = ["Transaction timed out", "Transaction execution timed out"];

impl Node {
    /// Lets the node try a command. What must not be sent is not tried either.
    ///
    /// # Errors
    /// [`NodeError`]. A command that fails is no error.
    pub async fn local(&self, chain: ChainId, command: &Command, how: &Try) -> Result<Tried, NodeError> {
        if let Some(why) = harm(command).or_else(|| too_long(&command.to_transaction())) {
            return Ok(Tried::Refused(vec![why]));
        }
        let reply = self.ask_local(chain, command, how).await?;
        match reply.status {
            200 => self.tried(command, self.read(WHAT, &reply).await?),
            400 => Ok(refused(&String::from_utf8_lossy(&reply.body))),
            _ => Err(self.unexpected(WHAT, &reply).await),
        }
    }

    /// What an account has on a chain, by the newest block; `None` if it does not exist there.
    ///
    /// # Errors
    /// [`NodeError`], also where the node cannot say.
    pub async fn balance(&self, chain: ChainId, account: &str) -> Result<Option<Balance>, NodeError> {
        let is_name = (3..=256).contains(&account.chars().count());
        // The coin contract has Latin-1 names only, so no account has another one.
        if !is_name || !account.chars().all(|c| u32::from(c) < 256 && !c.is_control()) {
            return Ok(None);
        }
        let command = balance_command(&self.network, chain, account);
        let reply = self.ask_local(chain, &command, &Try::default()).await?;
        let result: Value = self.read(WHAT, &reply).await?;
        match self.result(WHAT, &command.hash, result)?.outcome {
            Outcome::Success(_) => {
                // From the text itself: a number that went through a double may be another one.
                let balance = std::str::from_utf8(&reply.body).ok().and_then(Balance::of_result);
                balance.map(Some).ok_or_else(|| self.nonsense(WHAT, "the balance is no amount of the coin"))
            }
            Outcome::Failure(error) => {
                let message = error["message"].as_str().unwrap_or_default();
                if message.starts_with("No value found in table") {
                    return Ok(None);
                }
                let message = excerpt(message.as_bytes());
                Err(self.nonsense(WHAT, format!("it cannot say a balance: {message}")))
            }
        }
    }

    async fn ask_local(&self, chain: ChainId, command: &Command, how: &Try) -> Result<Reply, NodeError> {
        let path = self.of_chain(chain, "pact/api/v1/local") + &how.query();
        self.ask(Question::post(WHAT, path, command.to_transaction())).await
    }

    fn tried(&self, command: &Command, answer: Value) -> Result<Tried, NodeError> {
        if answer.as_str().is_some_and(is_timeout) {
            return Ok(Tried::TimedOut);
        }
        let shape = |error: serde_json::Error| self.nonsense(WHAT, error.to_string());
        let (result, warnings) = if answer.get("preflightResult").is_some() {
            let preflight: Preflight = serde_json::from_value(answer).map_err(shape)?;
            (preflight.preflight_result, preflight.preflight_warnings)
        } else {
            (answer, Vec::new())
        };
        let mut result = self.result(WHAT, &command.hash, result)?;
        let place = result.meta_data.take().map(serde_json::from_value).transpose().map_err(shape)?;
        Ok(Tried::Ran(Box::new(Ran { result, place, warnings })))
    }
}

impl Try {
    /// With preflight, and as the defaults else.
    pub fn preflight() -> Self {
        Self { is_preflight: true, ..Self::default() }
    }

    fn query(&self) -> String {
        let parameters = [
            self.is_preflight.then(|| "preflight=true".to_owned()),
            (!self.verifies_signatures).then(|| "signatureVerification=false".to_owned()),
            self.rewind.map(|depth| format!("rewindDepth={depth}")),
        ];
        let parameters: Vec<String> = parameters.into_iter().flatten().collect();
        if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
    }
}

impl Balance {
    /// From the text of a result: a number, or an object where it has more digits than a double.
    fn of_result(text: &str) -> Option<Self> {
        let result = &text[json::member(text, "result")?];
        let data = &result[json::member(result, "data")?];
        let number = match json::member(data, "decimal") {
            Some(decimal) => data[decimal].strip_prefix('"')?.strip_suffix('"')?,
            None => data,
        };
        let amount = Decimal::parse(number)?;
        Some(Self { text: amount.fixed(), units: amount.to_units()? })
    }
}

/// Reads the text of a 400.
fn refused(text: &str) -> Tried {
    if is_timeout(text) {
        return Tried::TimedOut;
    }
    let reasons = text.strip_prefix(REFUSED).and_then(|list| serde_json::from_str::<Vec<String>>(list).ok());
    let reasons = reasons.unwrap_or_else(|| vec![text.to_owned()]);
    Tried::Refused(reasons.iter().map(|reason| excerpt(reason.as_bytes())).collect())
}

fn is_timeout(text: &str) -> bool {
    TIMED_OUT.iter().any(|timed_out| text.starts_with(timed_out))
}

/// Asks for the balance of an account. Without preflight nobody has to sign or pay, and nothing expires.
fn balance_command(network: &str, chain: ChainId, account: &str) -> Command {
    let code = format!("(coin.get-balance \"{}\")", account.replace('\\', "\\\\").replace('"', "\\\""));
    let mut cmd = String::from("{\"networkId\":");
    json::write_string(&mut cmd, network);
    cmd.push_str(",\"payload\":{\"exec\":{\"code\":");
    json::write_string(&mut cmd, &code);
    cmd.push_str(",\"data\":null}},\"signers\":[],\"meta\":{\"chainId\":");
    json::write_string(&mut cmd, &chain.to_string());
    cmd.push_str(",\"sender\":");
    json::write_string(&mut cmd, account);
    cmd.push_str(
        ",\"gasLimit\":1500,\"gasPrice\":1e-8,\"ttl\":600,\"creationTime\":0},\"nonce\":\"balance\"}",
    );
    Command { hash: command_hash(&cmd), sigs: Vec::new(), cmd }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(data: &str) -> Option<(String, u128)> {
        let text = format!("{{\"gas\":15,\"result\":{{\"status\":\"success\",\"data\":{data}}}}}");
        Balance::of_result(&text).map(|balance| (balance.text, balance.units))
    }

    #[test]
    fn amounts_are_read_exactly_in_every_form_that_a_node_writes() {
        let cases = [
            (r#"{"decimal":"109999999.999907500000"}"#, "109999999.9999075", 109_999_999_999_907_500_000),
            ("9007.199254740991", "9007.199254740991", 9_007_199_254_740_991),
            ("9007.19925474099", "9007.19925474099", 9_007_199_254_740_990),
            ("100000000", "100000000", 100_000_000_000_000_000_000),
            ("99.999925", "99.999925", 99_999_925_000_000),
            ("7.5e-6", "0.0000075", 7_500_000),
            ("1.0e-12", "0.000000000001", 1),
            ("0", "0", 0),
        ];
        for (data, text, units) in cases {
            assert_eq!(balance(data), Some((text.to_owned(), units)), "{data}");
        }
    }

    #[test]
    fn what_is_no_amount_of_the_coin_is_none() {
        for data in [
            "null",
            "true",
            "[]",
            "{}",
            "\"1\"",
            "-1",
            "1e-13",
            "1e300",
            r#"{"int":1}"#,
            r#"{"decimal":1}"#,
            r#"{"decimal":"x"}"#,
            r#"{"decimal":"-1.0"}"#,
        ] {
            assert_eq!(balance(data), None, "{data}");
        }
        assert_eq!(Balance::of_result(""), None);
    }

    #[test]
    fn a_name_cannot_break_out_of_the_code() {
        for name in ["sender00", "a\"b", "a\\", "\\\") (x", "é\u{a0}ÿ"] {
            let cmd: Value = serde_json::from_str(&balance_command("n", ChainId(3), name).cmd).unwrap();
            let code = cmd["payload"]["exec"]["code"].as_str().unwrap();
            let literal = code.strip_prefix("(coin.get-balance ").unwrap().strip_suffix(')').unwrap();
            // Of Pact's escapes only those are used that JSON has too.
            assert_eq!(serde_json::from_str::<String>(literal).unwrap(), name);
            assert_eq!(cmd["meta"]["chainId"], "3");
        }
    }

    #[test]
    fn refusals_are_a_list_where_the_node_has_one() {
        let reasons = |text: &str| match refused(text) {
            Tried::Refused(reasons) => reasons,
            other => panic!("{other:?}"),
        };
        assert_eq!(reasons("Metadata validation failed: [\"a\",\"b \\\"c\\\"\"]"), ["a", "b \"c\""]);
        assert_eq!(reasons("Metadata validation failed: [broken"), ["Metadata validation failed: [broken"]);
        assert_eq!(reasons("Validation failed: x"), ["Validation failed: x"]);
        assert_eq!(refused("Transaction timed out"), Tried::TimedOut);
    }
}
