//! What an account holds: it pays gas until it cannot, and can be given more.

use std::sync::atomic::Ordering;

use chainweb::devnet::{Account, Coins, Config, Devnet, GiveError, Orphaned};
use chainweb::{ChainId, Graph};

use super::http::Server;
use super::support::{Anchor, DELAY, account, config, read};

const ZERO: ChainId = ChainId(0);

/// The tests' account, with so many coins on each chain.
fn holding(balance: &str) -> Config {
    let mut config = config();
    config.accounts.retain(|other| other.name != account().name);
    config.accounts.push(Account { balance: balance.parse().unwrap(), ..account() });
    config
}

fn held(devnet: &Devnet, account: &str) -> Option<String> {
    devnet.read(|network| network.balance(ZERO, account))
}

/// Rounds, a block delay apart.
fn rounds(server: &Server, count: usize) {
    for _ in 0..count {
        server.clock.fetch_add(DELAY, Ordering::SeqCst);
        server.rounds(1);
    }
}

#[test]
fn an_account_pays_until_it_cannot_is_refused_as_recorded_and_goes_on_with_more() {
    // A command may cost 0.00001, and costs 0.00000074.
    let server = Server::start_as(holding("0.000011"));
    let command = |nonce| Anchor { nonce, ..Anchor::default() }.sign();
    for (nonce, left) in [("1", "0.00001026"), ("2", "0.00000952")] {
        server.devnet.send(ZERO, &command(nonce)).unwrap();
        rounds(&server, 3);
        assert_eq!(held(&server.devnet, "anchor").as_deref(), Some(left));
    }
    let poor = command("3");
    let body = format!("{{\"cmds\":[{}]}}", poor.to_transaction());
    let recorded = read("recordings/pact-send-errors.json");
    let recorded = recorded["recordings"].as_array().unwrap().iter();
    let is_it = |one: &&serde_json::Value| one["what"] == "sender without enough funds for gas limit x price";
    let recorded = &recorded.clone().find(is_it).unwrap()["response"];
    let answer = server.post("/chain/0/pact/api/v1/send", &body);
    let text = recorded["body"].as_str().unwrap();
    let text = text.replace("TKWw-OvaT2Io4lGWPdYJCQNCdoefFFg6kmU_xuLVBqs", &poor.hash.to_string());
    assert_eq!((answer.status, answer.text()), (recorded["status"].as_u64().unwrap(), &*text));
    assert_eq!(held(&server.devnet, "anchor").as_deref(), Some("0.00000952"), "who is refused pays nothing");
    // On another chain it holds what it began with.
    assert_eq!(
        server.devnet.read(|network| network.balance(ChainId(7), "anchor")).as_deref(),
        Some("0.000011")
    );
    server.devnet.give("anchor", "0.0000005".parse().unwrap()).unwrap();
    let answer = server.post("/chain/0/pact/api/v1/send", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    rounds(&server, 3);
    assert!(server.devnet.read(|network| network.find(ZERO, &poor.hash)).is_some());
    assert_eq!(held(&server.devnet, "anchor").as_deref(), Some("0.00000928"));
}

#[test]
fn what_is_given_stays_where_blocks_are_undone_and_every_node_has_it() {
    let config = Config { nodes: 3, graph: Graph::Triangle, ..holding("1") };
    let first = Devnet::start(config).unwrap();
    let nodes = [0, 1, 2].map(|node| first.node(node).unwrap());
    (0..4).for_each(|_| first.make_round().unwrap());
    first.partition(&[vec![0], vec![1, 2]]).unwrap();
    nodes[2].give("anchor", Coins::whole(2)).unwrap();
    let has = |wanted: &str| nodes.iter().all(|node| held(node, "anchor").as_deref() == Some(wanted));
    assert!(has("3"));
    nodes[1].reorganize(ZERO, 3, Orphaned::Lost).unwrap();
    first.make_round().unwrap();
    first.heal().unwrap();
    first.make_round().unwrap();
    assert!(has("3"));
}

#[test]
fn coins_and_accounts_that_were_given_are_there_after_a_restart_and_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = || Config {
        folder: Some(folder.path().to_owned()),
        graph: Graph::Triangle,
        retain_heights: 20,
        ..holding("0.5")
    };
    let name = format!("k:{}", "ab".repeat(32));
    let mut given = 0;
    for life in 1..=4 {
        let devnet = Devnet::start(config()).unwrap();
        assert_eq!(held(&devnet, &name), (given > 0).then(|| given.to_string()), "life {life}");
        devnet.give(&name, Coins::whole(life)).unwrap();
        devnet.give("anchor", "0.25".parse().unwrap()).unwrap();
        given += life;
        // Some lives write the file anew, in others it only grows.
        (0..10 * life).for_each(|_| devnet.make_round().unwrap());
    }
    let devnet = Devnet::start(config()).unwrap();
    assert_eq!(held(&devnet, &name).as_deref(), Some("10"));
    assert_eq!(held(&devnet, "anchor").as_deref(), Some("1.5"));
    // Without blocks too, the file does not grow for ever.
    let mut largest = 0;
    for _ in 0..100 {
        devnet.give("anchor", Coins::default()).unwrap();
        largest = largest.max(std::fs::metadata(folder.path().join("blocks")).unwrap().len());
    }
    assert_eq!(held(&devnet, "anchor").as_deref(), Some("1.5"));
    let blocks = 3 * 2 * 21 * 400;
    assert!(largest < blocks + 21 * 150 + 10_000, "{largest}");
}

#[test]
fn an_account_that_nobody_could_use_is_given_nothing() {
    let devnet = Devnet::start(config()).unwrap();
    let upper = format!("k:{}", "AB".repeat(32));
    for name in ["nobody", "", "k:", "k:ab", &upper, &"x".repeat(100_000)] {
        let error = devnet.give(name, Coins::whole(1)).unwrap_err();
        assert!(matches!(error, GiveError::NoAccount(_)) && error.to_string().len() < 500, "{error}");
        assert_eq!(held(&devnet, name), None);
    }
}
