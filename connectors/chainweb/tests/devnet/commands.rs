//! What becomes of commands: when they are mined, what they cost, what comes out.

use chainweb::devnet::{Account, Coins, ConfigError, Network};
use chainweb::pact::{Command, CommandResult};
use chainweb::{ChainId, Graph, Version};
use serde_json::{Value, json};

use super::support::{Anchor, START, evidence, grow_to, network, read};

const ZERO: ChainId = ChainId(0);

fn mined(network: &mut Network, command: &Command) -> Value {
    let chain = ZERO;
    network.send(chain, std::slice::from_ref(command), START).unwrap();
    let tip = network.tip(chain).unwrap().height;
    grow_to(network, tip + 2);
    let (_, result) = network.poll(chain, &[command.hash], 0).pop().unwrap();
    serde_json::from_str(&result).unwrap()
}

#[test]
fn a_command_is_mined_in_the_second_block_above_the_tip() {
    let mut network = network(Graph::Twenty);
    grow_to(&mut network, 5);
    let command = Anchor::default().sign();
    assert_eq!(network.send(ZERO, std::slice::from_ref(&command), START).unwrap(), [command.hash]);
    grow_to(&mut network, 6);
    assert_eq!(network.poll(ZERO, &[command.hash], 0), []);
    assert_eq!(
        network.send(ZERO, std::slice::from_ref(&command), START).unwrap(),
        [command.hash],
        "sent again"
    );
    grow_to(&mut network, 7);
    assert_eq!(network.find(ZERO, &command.hash).unwrap().0, 7);
    for depth in 0..4 {
        grow_to(&mut network, 7 + depth);
        assert_eq!(network.poll(ZERO, &[command.hash], depth).len(), 1);
        assert_eq!(network.poll(ZERO, &[command.hash], depth + 1).len(), 0);
    }
}

#[test]
fn the_text_of_poll_is_the_output_with_the_place_of_its_block() {
    let mut network = network(Graph::Twenty);
    // A member of that name in the data must not be mistaken for the result's own.
    let data = r#"{"metaData":null,"x":{"metaData":null,"continuation":null}}"#;
    let command = Anchor { code: "(read-msg)", data, ..Anchor::default() }.sign();
    network.send(ZERO, std::slice::from_ref(&command), START).unwrap();
    grow_to(&mut network, 4);
    let (height, index, hash) = network.find(ZERO, &command.hash).unwrap();
    let header = network.header(ZERO, &hash).unwrap();
    let payload = network.payload(&header.payload_hash).unwrap();
    let (transaction, output) = &payload.transactions[index];
    assert_eq!(transaction, command.to_transaction().as_bytes());
    let (_, poll) = network.poll(ZERO, &[command.hash], 0).pop().unwrap();
    let (time, parent) = (header.creation_time, header.parent);
    let place = format!(
        r#""metaData":{{"blockHash":"{hash}","blockHeight":{height},"blockTime":{time},"prevBlockHash":"{parent}"}},"continuation""#
    );
    let output = std::str::from_utf8(output).unwrap();
    assert_eq!(poll.replace(&place, r#""metaData":null,"continuation""#), output);
    CommandResult::parse(output.as_bytes()).unwrap();
    let data: Value = serde_json::from_str(output).unwrap();
    assert_eq!(
        data["result"]["data"],
        json!({"metaData": null, "x": {"metaData": null, "continuation": null}})
    );
}

/// Sends a recorded command at its time, with all it needs, and returns its output. `None` if it is refused.
fn replay(command: &Value) -> String {
    let command: Command = serde_json::from_value(command.clone()).unwrap();
    let cmd: Value = serde_json::from_str(&command.cmd).unwrap();
    let chain = ChainId(cmd["meta"]["chainId"].as_str().unwrap().parse().unwrap());
    let account = |(sender, key): (&Value, &Value)| Account {
        name: sender.as_str().unwrap().to_owned(),
        public_key: key.as_str().unwrap().to_owned(),
        balance: Coins::whole(100_000_000),
    };
    let accounts = [account((&cmd["meta"]["sender"], &cmd["signers"][0]["pubKey"]))];
    let version = Version { block_delay: 1_000_000, ..Version::by_name("development").unwrap().clone() };
    let miner = "368820f80c324bbc7c2b0610688a7da43e39f91d118732671cd9c7500ff43cca";
    let mut network = Network::new(version, &accounts, miner, 100).unwrap();
    let now = (cmd["meta"]["creationTime"].as_f64().unwrap() as i64 + 1) * 1_000_000;
    network.send(chain, std::slice::from_ref(&command), now).unwrap();
    network.make_round(now).unwrap();
    network.make_round(now).unwrap();
    let (_, index, hash) = network.find(chain, &command.hash).unwrap();
    let header = network.header(chain, &hash).unwrap();
    let payload = network.payload(&header.payload_hash).unwrap();
    String::from_utf8(payload.transactions[index].1.clone()).unwrap()
}

/// The output with what no development network can know blanked: the hash of database rows, and row numbers.
fn comparable(output: &str) -> String {
    let value: Value = serde_json::from_str(output).unwrap();
    let logs = format!("\"logs\":\"{}\"", value["logs"].as_str().unwrap());
    let tx_id = format!("\"txId\":{}", value["txId"]);
    assert!(output.contains(&logs) && output.contains(&tx_id));
    let kind = if value["txId"].is_null() { "null" } else { "number" };
    output.replace(&logs, "\"logs\":hash").replace(&tx_id, &format!("\"txId\":{kind}"))
}

#[test]
fn recorded_commands_have_their_recorded_outputs_byte_for_byte() {
    let mut equal = 0;
    for (file, evidence) in evidence() {
        let cmd: Value = serde_json::from_str(evidence["command"]["cmd"].as_str().unwrap()).unwrap();
        let code = cmd["payload"]["exec"]["code"].as_str().unwrap_or_default();
        let is_executed_here = ["1", "(+ 1 1)", "(free.nothing.record 1)"].contains(&code)
            || code.starts_with("(read-msg")
            || code.starts_with('"');
        let is_plain = cmd["signers"].as_array().unwrap().len() == 1;
        if is_executed_here && is_plain {
            let output = replay(&evidence["command"]);
            assert_eq!(comparable(&output), comparable(evidence["outputBytes"].as_str().unwrap()), "{file}");
            equal += 1;
        } else if is_plain {
            // What is not executed here is mined as a failure that pays its whole gas limit.
            let output: Value = serde_json::from_str(&replay(&evidence["command"])).unwrap();
            assert_eq!(output["result"]["status"], "failure", "{file}");
            assert_eq!(output["gas"], cmd["meta"]["gasLimit"], "{file}");
        }
    }
    assert!(equal >= 10, "{equal}");
}

#[test]
fn gas_is_what_the_recorded_table_says() {
    let table = read("recordings/gas-table.json");
    let mut compared = 0;
    for row in table["rows"].as_array().unwrap() {
        let label = row["label"].as_str().unwrap();
        if label.contains("module") || label.contains("coin.") {
            continue;
        }
        let wanted = row["cmdBytes"].as_u64().unwrap() as usize;
        let command = |padding: usize| {
            let data = format!("{{\"p\":\"{}\"}}", "x".repeat(padding));
            Anchor { code: "1", data: &data, ..Anchor::default() }.sign()
        };
        let Some(padding) = wanted.checked_sub(command(0).cmd.len()) else { continue };
        let mut network = network(Graph::Singleton);
        let name = network.version().name.to_string();
        let data = |padding: usize| format!("{{\"p\":\"{}\"}}", "x".repeat(padding));
        let network_name_is_longer = name.len() - "development".len();
        let Some(padding) = padding.checked_sub(network_name_is_longer) else { continue };
        let command = Anchor { network: &name, code: "1", data: &data(padding), ..Anchor::default() }.sign();
        assert_eq!(command.cmd.len(), wanted);
        assert_eq!(mined(&mut network, &command)["gas"], row["gas"], "{label}");
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn gas_is_charged_and_a_failure_pays_its_whole_limit() {
    let mut network = network(Graph::Twenty);
    assert_eq!(network.balance(ZERO, "anchor").as_deref(), Some("100"));
    let result = mined(&mut network, &Anchor { code: "1", ..Anchor::default() }.sign());
    assert_eq!((&result["gas"], &result["result"]["status"]), (&json!(74), &json!("success")));
    assert_eq!(result["events"][0]["params"][2], json!(7.4e-7));
    assert_eq!(network.balance(ZERO, "anchor").as_deref(), Some("99.99999926"));
    let result =
        mined(&mut network, &Anchor { code: "(enforce false \"boom\")", ..Anchor::default() }.sign());
    assert_eq!((&result["gas"], &result["txId"]), (&json!(1000), &Value::Null));
    assert_eq!(result["events"][0]["params"], json!(["anchor", network.miner(), 1e-5]));
    assert_eq!(network.balance(ZERO, "anchor").as_deref(), Some("99.99998926"));
    let result = mined(&mut network, &Anchor { gas_limit: 20, ..Anchor::default() }.sign());
    assert_eq!(result["result"]["error"]["message"], "Gas limit \"20\"exceeded: 74");
}

#[test]
fn a_command_too_big_for_its_gas_is_never_mined_and_polls_as_made_up() {
    let mut network = network(Graph::Twenty);
    let command = Anchor { gas_limit: 2, ..Anchor::default() }.sign();
    network.send(ZERO, std::slice::from_ref(&command), START).unwrap();
    grow_to(&mut network, 4);
    let (_, result) = network.poll(ZERO, &[command.hash], 100).pop().unwrap();
    let recorded = read("recordings/pact-badlist.json");
    let recorded = recorded["recordings"][2]["response"]["body"].as_str().unwrap();
    let recorded_key = "eE8qbc69kI0vfXIlSylHPELm4-kmYlFcZmRf36an1fA";
    assert_eq!(result, recorded.replace(recorded_key, &command.hash.to_string()));
    assert!(
        network
            .spv(ZERO, &command.hash, ZERO)
            .unwrap_err()
            .to_string()
            .starts_with("Transaction hash not found")
    );
    let again = network.send(ZERO, &[command], START).unwrap_err();
    assert!(again.status == 500 || again.text.contains("badlisted"), "{again}");
}

#[test]
fn a_command_that_expires_before_its_block_is_gone() {
    let mut network = network(Graph::Twenty);
    grow_to(&mut network, 3);
    let now = network.tip(ZERO).unwrap().creation_time;
    let command = Anchor { ttl: 1, creation_time: now / 1_000_000, ..Anchor::default() }.sign();
    network.send(ZERO, std::slice::from_ref(&command), now).unwrap();
    grow_to(&mut network, 8);
    assert_eq!(network.poll(ZERO, &[command.hash], 0), []);
    assert!(network.send(ZERO, &[command], now + 5_000_000).is_err());
}

#[test]
fn a_block_takes_what_its_gas_allows_the_best_price_first() {
    let mut network = network(Graph::Twenty);
    let nonces: Vec<String> = (0..7).map(|nonce| nonce.to_string()).collect();
    let commands: Vec<Command> = nonces
        .iter()
        .enumerate()
        .map(|(index, nonce)| {
            let gas_price = if index == 6 { "2e-8" } else { "1e-8" };
            // Failures use their whole limit: three fill a block.
            Anchor { code: "(f)", gas_limit: 50_000, gas_price, nonce, ..Anchor::default() }.sign()
        })
        .collect();
    network.send(ZERO, &commands, START).unwrap();
    grow_to(&mut network, 6);
    let heights: Vec<u64> =
        commands.iter().map(|command| network.find(ZERO, &command.hash).unwrap().0).collect();
    assert_eq!(heights, [2, 2, 3, 3, 3, 4, 2]);
}

#[test]
fn a_hundred_commands_fit_a_request_and_a_block() {
    let mut network = network(Graph::Twenty);
    let nonces: Vec<String> = (0..100).map(|nonce| nonce.to_string()).collect();
    let commands: Vec<Command> =
        nonces.iter().map(|nonce| Anchor { gas_limit: 600, nonce, ..Anchor::default() }.sign()).collect();
    network.send(ZERO, &commands, START).unwrap();
    grow_to(&mut network, 2);
    let keys: Vec<_> = commands.iter().map(|command| command.hash).collect();
    assert_eq!(network.poll(ZERO, &keys, 0).len(), 100);
    assert!(keys.iter().all(|key| network.find(ZERO, key).unwrap().0 == 2));
}

#[test]
fn nobody_spends_what_he_does_not_own() {
    let mut network = network(Graph::Twenty);
    // 60 of 100 coins each: each alone can be paid, both together cannot.
    let command =
        |nonce| Anchor { code: "(f)", gas_limit: 6000, gas_price: "0.01", nonce, ..Anchor::default() }.sign();
    let (first, second) = (command("1"), command("2"));
    network.send(ZERO, &[first.clone(), second.clone()], START).unwrap();
    grow_to(&mut network, 5);
    assert_eq!(network.balance(ZERO, "anchor").as_deref(), Some("40"));
    assert!(network.find(ZERO, &first.hash).is_some() && network.find(ZERO, &second.hash).is_none());
}

#[test]
fn accounts_that_no_command_could_use_are_refused() {
    let version = network(Graph::Pair).version().clone();
    let build = |name: &str, key: &str| {
        let account = Account { name: name.into(), public_key: key.into(), balance: Coins::whole(1) };
        Network::new(version.clone(), &[account], &"ab".repeat(32), 100).err()
    };
    assert_eq!(build("abc", &"ab".repeat(32)), None);
    assert!(matches!(build("ab", &"ab".repeat(32)), Some(ConfigError::AccountName(_))));
    assert!(matches!(build("abc", &"AB".repeat(32)), Some(ConfigError::Key(_))));
    assert!(matches!(build("abc", "ab"), Some(ConfigError::Key(_))));
    let mainnet = Version::by_name("mainnet01").unwrap().clone();
    assert!(matches!(Network::new(mainnet, &[], &"ab".repeat(32), 100).err(), Some(ConfigError::Version(_))));
}
