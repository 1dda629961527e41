//! Calls that watch, try and leaf through: against the development network, and against what no node does.

use std::time::Duration;

use chainweb::client::{Balance, Bounds, Client, Config, Found, Spv, Tried, Trouble, Try};
use chainweb::devnet::{Account, Coins};
use chainweb::pact::{Command, Outcome};
use chainweb::{ChainId, Graph, Hash};
use serde_json::{Value, json};

use super::nodes::{command, serve, serve_as};
use super::replay::{body, recordings, request, text};
use super::server::{Act, Server, client};
use super::support::{Anchor, config, key};

const ZERO: ChainId = ChainId(0);
const SILENCE: Duration = Duration::from_secs(20);

fn coins(text: &str, units: u128) -> Option<Balance> {
    Some(Balance { text: text.to_owned(), units })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_exact_and_falls_by_what_a_command_costs() {
    let served = serve(3).await;
    let client = client(std::slice::from_ref(&served.url));
    assert_eq!(client.balance(ZERO, "anchor").await.unwrap(), coins("100", 100_000_000_000_000));
    let anchor = command("costs");
    client.send(ZERO, std::slice::from_ref(&anchor)).await.unwrap();
    (0..3).for_each(|_| served.devnet.make_round().unwrap());
    let Some(Found::Mined(mined)) = client.poll(ZERO, &[anchor.hash], 0).await.unwrap().remove(&anchor.hash)
    else {
        panic!("it is mined")
    };
    let left = 100_000_000_000_000 - u128::from(mined.result.gas) * 10_000; // at 1e-8 for a unit of gas
    let balance = client.balance(ZERO, "anchor").await.unwrap().unwrap();
    assert_eq!(balance.units, left);
    assert_eq!(Some(balance.text), served.devnet.read(|network| network.balance(ZERO, "anchor")));
    // Below the newest block stands what was there.
    let question = Anchor { code: "(coin.get-balance \"anchor\")", ..Anchor::default() }.sign();
    let tip = served.devnet.tip(ZERO).unwrap().height;
    for (height, units) in
        [(mined.height, left), (mined.height - 1, 100_000_000_000_000), (0, 100_000_000_000_000)]
    {
        let how = Try { rewind: Some(tip - height), ..Try::default() };
        let Tried::Ran(ran) = client.local(ZERO, &question, &how).await.unwrap() else { panic!("refused") };
        let coins = ran.result.success().unwrap().as_f64().unwrap();
        assert_eq!(((coins * 1e12).round() as u128, ran.place.unwrap().block_height), (units, height + 1));
    }
    assert_eq!(client.balance(ChainId(1), "anchor").await.unwrap(), coins("100", 100_000_000_000_000));
    for nobody in ["nobody", "", "no", "new\nline", "\u{20ac}uro", "a\"b\\", &"x".repeat(257)] {
        assert_eq!(client.balance(ZERO, nobody).await.unwrap(), None, "{nobody:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_amounts_of_every_kind_come_through() {
    let names = ["a\"b", "back\\slash", "sm\u{f8}rrebr\u{f8}d", "two words", "'quote", "(coin)"];
    let mut config = config();
    let account = |(index, name): (usize, &&str)| Account {
        name: (*name).to_owned(),
        public_key: config.miner_key.clone(),
        balance: Coins::whole(10_u64.pow(3 * u32::try_from(index).unwrap())),
    };
    config.accounts.extend(names.iter().enumerate().map(account).collect::<Vec<_>>());
    let served = serve_as(config, 1).await;
    let client = client(std::slice::from_ref(&served.url));
    for (index, name) in names.iter().enumerate() {
        let whole = 10_u128.pow(3 * u32::try_from(index).unwrap());
        let expected = coins(&whole.to_string(), whole * 1_000_000_000_000);
        assert_eq!(client.balance(ZERO, name).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn recorded_balances_are_read_and_a_node_that_cannot_say_is_an_error() {
    let all = recordings("pact-local");
    let of = |what: &str| all.iter().find(|recording| recording["what"] == what).unwrap().clone();
    let server = |recording: Value| {
        Server::start(move |asked| {
            // The same answer, to a command with another key.
            let key = |text: &str| serde_json::from_str::<Value>(text).unwrap()["hash"].clone();
            let recorded = request(&recording)["hash"].clone();
            Act::json(body(&recording).replace(text(&recorded), text(&key(&asked.body))))
        })
    };
    let right = server(of("account balance")).await;
    let balance = right.node().balance(ChainId(2), "sender01").await.unwrap();
    assert_eq!(balance, coins("109999999.9999075", 109_999_999_999_907_500_000));
    for what in ["unknown function", "account details", "plain local", "preflight=true", "syntax error"] {
        let server = server(of(what)).await;
        let trouble = server.node().balance(ChainId(2), "sender01").await.unwrap_err().trouble;
        assert!(matches!(trouble, Trouble::Malformed(_)), "{what}: {trouble}");
    }
    let recording = of("account balance");
    let other = Server::start(move |_| Act::json(body(&recording).to_owned())).await;
    let trouble = other.node().balance(ChainId(2), "sender01").await.unwrap_err().trouble;
    assert!(matches!(trouble, Trouble::Malformed(_)), "the result of another command: {trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_can_be_tried_before_it_is_sent() {
    let served = serve(3).await;
    let client = client(std::slice::from_ref(&served.url));
    let good = command("try");
    let Tried::Ran(ran) = client.local(ZERO, &good, &Try::default()).await.unwrap() else {
        panic!("refused")
    };
    assert_eq!((ran.result.gas, ran.place.unwrap().block_height), (1, 4));
    let Tried::Ran(ran) = client.local(ZERO, &good, &Try::preflight()).await.unwrap() else {
        panic!("refused")
    };
    let tried = ran.result;
    assert_eq!(client.poll(ZERO, &[good.hash], 0).await.unwrap().len(), 0, "it was not sent");
    client.send(ZERO, std::slice::from_ref(&good)).await.unwrap();
    (0..3).for_each(|_| served.devnet.make_round().unwrap());
    let Found::Mined(mined) = &client.poll(ZERO, &[good.hash], 0).await.unwrap()[&good.hash] else {
        panic!("it is mined")
    };
    assert_eq!((mined.result.gas, &mined.result.outcome), (tried.gas, &tried.outcome), "as it was foretold");
    let wrong = client.local(ChainId(1), &good, &Try::preflight()).await.unwrap();
    assert_eq!(wrong, Tried::Refused(vec!["Chain id mismatch".to_owned()]));
    let unsigned = Command { sigs: Vec::new(), ..good };
    let refused = client.local(ZERO, &unsigned, &Try::default()).await.unwrap();
    assert!(matches!(refused, Tried::Refused(reasons) if reasons[0].contains("do not match")));
    let how = Try { verifies_signatures: false, rewind: Some(2), ..Try::default() };
    let Tried::Ran(ran) = client.local(ZERO, &unsigned, &how).await.unwrap() else { panic!("refused") };
    assert_eq!(ran.place.unwrap().block_height, 5);
}

#[tokio::test]
async fn what_harms_a_node_is_not_even_tried() {
    let server = Server::start(|_| Act::json("{}")).await;
    let good = Anchor::default().sign();
    let with_code =
        |code: &str| Command::sign(good.cmd.replace(r#"(read-msg \"killick\")"#, code), &[&key()]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = good.cmd.replace(r#"{"killick":"killick/1 sha256 3 abc"}"#, &deep);
    let commands = [
        with_code(""),
        with_code(" ; nothing"),
        Command { sigs: vec![None], ..good.clone() },
        Command::sign(deep.replace(r#"(read-msg \"killick\")"#, ""), &[&key()]),
        Command::sign("no JSON".to_owned(), &[&key()]),
        Command::sign(good.cmd.replace("killick/1", &"x".repeat(2 << 20)), &[&key()]),
    ];
    for command in commands {
        for how in [Try::default(), Try::preflight(), Try { verifies_signatures: false, ..Try::default() }] {
            let tried = server.node().local(ZERO, &command, &how).await;
            assert!(matches!(tried, Ok(Tried::Refused(reasons)) if reasons.len() == 1));
        }
        assert!(server.node().send(ZERO, &[command]).await.is_ok());
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn answers_to_a_try_that_are_none_are_errors() {
    let command = Anchor::default().sign();
    let result =
        |key: Hash| json!({"gas":1,"result":{"status":"success","data":1},"reqKey":key,"metaData":null});
    let mine = result(command.hash);
    for wrong in [
        json!(null),
        json!({}),
        json!([]),
        json!("something else"),
        result(Hash([9; 32])),
        json!({ "preflightResult": mine }),
        json!({ "preflightResult": result(Hash([9; 32])), "preflightWarnings": [] }),
        json!({ "preflightResult": mine, "preflightWarnings": [7] }),
        json!({"gas":1,"result":{"status":"success","data":1},"reqKey":command.hash,"metaData":{"blockHeight":-1}}),
    ] {
        let text = wrong.to_string();
        let server = Server::start(move |_| Act::json(text.clone())).await;
        let trouble = server.node().local(ZERO, &command, &Try::preflight()).await.unwrap_err().trouble;
        assert!(matches!(trouble, Trouble::Malformed(_)), "{wrong}: {trouble}");
    }
    for (status, said) in [(200, "\"Transaction timed out\""), (400, "Transaction timed out")] {
        let server = Server::start(move |_| Act::Answer(status, "application/json", said.into())).await;
        assert_eq!(server.node().local(ZERO, &command, &Try::default()).await, Ok(Tried::TimedOut));
    }
    let server = Server::start(|_| Act::text(500, "Something went wrong")).await;
    let trouble = server.node().local(ZERO, &command, &Try::default()).await.unwrap_err().trouble;
    assert!(matches!(trouble, Trouble::Status { status: 500, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_ends_when_a_command_is_mined() {
    let served = serve(3).await;
    let client = client(std::slice::from_ref(&served.url));
    let anchor = command("listen");
    client.send(ZERO, std::slice::from_ref(&anchor)).await.unwrap();
    let (key, devnet) = (anchor.hash, served.devnet.clone());
    let listening = tokio::spawn(async move { client.listen(ZERO, key).await });
    // Longer than any other question may take.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(!listening.is_finished());
    (0..3).for_each(|_| devnet.make_round().unwrap());
    let Some(Found::Mined(mined)) = listening.await.unwrap().unwrap() else { panic!("it is mined") };
    assert!(matches!(mined.result.outcome, Outcome::Success(_)));
    assert_eq!(devnet.header(ZERO, &mined.block).unwrap().height, mined.height);
}

#[tokio::test]
async fn only_an_empty_504_says_that_a_command_is_not_mined_yet() {
    let server = Server::start(|_| Act::Answer(504, "text/plain", Vec::new())).await;
    assert_eq!(server.node().listen(ZERO, &Hash([1; 32])).await, Ok(None));
    let server = Server::start(|_| Act::text(504, "<html>upstream timed out</html>")).await;
    let trouble = server.node().listen(ZERO, &Hash([1; 32])).await.unwrap_err().trouble;
    assert!(matches!(trouble, Trouble::Status { status: 504, .. }) && trouble.is_unknown());
    let other = Hash([2; 32]);
    let body =
        json!({"gas":0,"result":{"status":"failure","error":{}},"reqKey":other,"metaData":null}).to_string();
    let server = Server::start(move |_| Act::json(body.clone())).await;
    assert!(matches!(server.node().listen(ZERO, &other).await, Ok(Some(Found::MadeUp(_)))));
    assert!(server.node().listen(ZERO, &Hash([1; 32])).await.is_err(), "the result of another command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_too_early_is_told_from_an_unknown_command() {
    let served = serve(3).await;
    let client = client(std::slice::from_ref(&served.url));
    let node = &client.nodes()[0];
    let anchor = command("proof");
    client.send(ZERO, std::slice::from_ref(&anchor)).await.unwrap();
    let far = ChainId(1); // three steps away
    assert_eq!(node.proof(ZERO, &anchor.hash, far).await, Ok(Spv::Unknown));
    let mut seen = Vec::new();
    for _ in 0..6 {
        served.devnet.make_round().unwrap();
        seen.push(node.proof(ZERO, &anchor.hash, far).await.unwrap());
    }
    let kinds = seen.iter().map(|spv| match spv {
        Spv::Unknown => 'u',
        Spv::NotReachable => 'n',
        Spv::Proof(_) => 'p',
    });
    assert_eq!(kinds.collect::<String>(), "unnnpp");
    assert_eq!(seen[4], seen[5], "it stays the same");
    let error = node.proof(ZERO, &anchor.hash, ChainId(99)).await.unwrap_err().trouble;
    assert!(matches!(error, Trouble::Status { status: 500, .. }), "no such chain: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_blocks_are_pushed_as_they_come_also_on_networks_of_other_codes() {
    for (graph, network) in [(Graph::Twenty, "development"), (Graph::Petersen, "development-petersen")] {
        let mut config = config();
        config.graph = graph;
        let served = serve_as(config, 3).await;
        let client = Client::new(&Config::new(network, [&served.url])).unwrap();
        let mut updates = client.updates(SILENCE).await.unwrap().expect("it is served");
        for height in 4..8 {
            served.devnet.make_round().unwrap();
            for _ in graph.chains() {
                let update = updates.next().await.unwrap();
                let chain = update.header.chain;
                assert_eq!(served.devnet.header(chain, &update.header.hash).as_ref(), Some(&update.header));
                assert_eq!((update.header.height, update.transactions), (height, 0), "{chain}");
            }
        }
        drop(served);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_stream_is_passed_over_for_one_with_it() {
    let served = serve(3).await;
    let cut = serde_json::to_string(&served.devnet.cut()).unwrap();
    let without = Server::start(move |asked| match &*asked.path {
        "/info" => Act::json(r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#),
        path if path.ends_with("/cut") => Act::json(cut.clone()),
        _ => Act::Answer(404, "text/plain", Vec::new()),
    })
    .await;
    assert!(without.node().updates(SILENCE).await.unwrap().is_none());
    assert!(without.client().updates(SILENCE).await.unwrap().is_none());
    let both = client(&[without.url(), served.url.clone()]);
    let mut updates = both.updates(SILENCE).await.unwrap().expect("the second one serves it");
    served.devnet.make_round().unwrap();
    assert_eq!(updates.next().await.unwrap().header.height, 4);
    let nobody = Server::start(|_| Act::text(503, "draining")).await;
    assert!(nobody.client().updates(SILENCE).await.is_err());
}

#[tokio::test]
async fn a_stream_that_is_none_or_says_what_is_not_so_is_an_error() {
    let recording = &recordings("header-updates")[2];
    let first = body(recording).split_inclusive("\n\n").next().unwrap().to_owned();
    let stream = |text: &str| {
        let act = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}").into_bytes();
        Server::start(move |_| Act::Raw(act.clone()))
    };
    let mut updates = stream(&first).await.node().updates(SILENCE).await.unwrap().unwrap();
    assert_eq!(updates.next().await.unwrap().header.height, 31);
    let hash = first.split("\"hash\":\"").nth(1).unwrap()[..43].to_owned();
    for (from, to) in [
        ("\"height\":31", "\"height\":32"),
        (&hash, &"A".repeat(43)),
        ("\"powHash\":\"ec", "\"powHash\":\"ed"),
        ("\"target\":\"0047", "\"target\":\"0048"),
        ("\"nonce\":\"0\"", "\"nonce\":\"00\""),
        ("\"txCount\":0", "\"txCount\":-1"),
        ("\"txCount\":0", "\"txCount\":0,\"txCount\":0"),
        ("\"development\"", "\"mainnet01\""),
        ("data:", "data:x"),
    ] {
        assert!(first.contains(from), "{from}");
        let server = stream(&first.replacen(from, to, 1)).await;
        let trouble =
            server.node().updates(SILENCE).await.unwrap().unwrap().next().await.unwrap_err().trouble;
        assert!(matches!(trouble, Trouble::Malformed(_) | Trouble::Network { .. }), "{from}: {trouble}");
    }
    let server = stream(&"data:".repeat(40_000)).await;
    let trouble = server.node().updates(SILENCE).await.unwrap().unwrap().next().await.unwrap_err().trouble;
    assert!(matches!(trouble, Trouble::TooLarge(65_536)), "{trouble}");
    let page = Server::start(|_| Act::Answer(200, "text/html", b"<html>".to_vec())).await;
    let trouble = page.node().updates(SILENCE).await.err().unwrap().trouble;
    assert!(matches!(trouble, Trouble::Malformed(_)), "{trouble}");
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_waited_for_no_longer_than_said() {
    let short = Duration::from_millis(300);
    let hanging = Server::start(|_| Act::Hang).await;
    let trouble = hanging.node().updates(short).await.err().unwrap().trouble;
    assert_eq!(trouble, Trouble::Timeout(short));
    // The head, and then nothing for an hour.
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let quiet = Server::start(|_| Act::Pause(head.to_vec(), Duration::from_secs(3600))).await;
    let mut updates = quiet.node().updates(short).await.unwrap().unwrap();
    assert_eq!(updates.next().await.unwrap_err().trouble, Trouble::Timeout(short));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_leafed_through_up_and_down() {
    let served = serve(10).await;
    let client = client(std::slice::from_ref(&served.url));
    let node = &client.nodes()[0];
    let at = |height| served.devnet.read(|network| network.header_at(ZERO, height).unwrap().clone());
    let (mut headers, mut hashes) = (Vec::new(), Vec::new());
    let mut bounds = Bounds { limit: Some(4), min_height: Some(2), ..Bounds::default() };
    loop {
        let page = node.headers(ZERO, &bounds).await.unwrap().unwrap();
        let of_hashes = node.hashes(ZERO, &bounds).await.unwrap().unwrap();
        assert_eq!((page.items.len(), page.next), (of_hashes.items.len(), of_hashes.next));
        headers.extend(page.items);
        hashes.extend(of_hashes.items);
        bounds.next = page.next;
        if page.next.is_none() {
            break; // only ever after an empty page
        }
    }
    assert!(headers.iter().eq((2..=10).map(at).collect::<Vec<_>>().iter()));
    assert!(headers.iter().map(|header| &header.hash).eq(&hashes));
    // Where the chain goes on, the last page's place is still good.
    let last = Bounds {
        next: Some(chainweb::client::Next { hash: hashes[8], is_inclusive: false }),
        ..Bounds::default()
    };
    assert_eq!(node.hashes(ZERO, &last).await.unwrap().unwrap().items, []);
    served.devnet.make_round().unwrap();
    assert_eq!(node.hashes(ZERO, &last).await.unwrap().unwrap().items, [at(11).hash]);
    let bounds = Bounds { limit: Some(3), ..Bounds::default() };
    let down = node.branch(ZERO, &[hashes[0]], &[hashes[6]], &bounds).await.unwrap().unwrap();
    let of_hashes = node.hash_branch(ZERO, &[hashes[0]], &[hashes[6]], &bounds).await.unwrap().unwrap();
    assert!(down.items.iter().map(|header| &header.hash).eq(&of_hashes.items));
    assert_eq!(of_hashes.items, [hashes[6], hashes[5], hashes[4]]);
    assert_eq!(down.next, of_hashes.next);
    let unknown =
        Bounds { next: Some(chainweb::client::Next { hash: Hash([1; 32]), is_inclusive: true }), ..bounds };
    assert_eq!(node.headers(ZERO, &unknown).await, Ok(None));
    assert_eq!(node.hash_branch(ZERO, &[], &[Hash([1; 32])], &bounds).await, Ok(None));
}

#[tokio::test]
async fn pages_that_hold_more_than_asked_for_or_no_hashes_are_errors() {
    let limit = Bounds { limit: Some(1), ..Bounds::default() };
    let hash = Hash([1; 32]);
    for items in [json!([hash, hash]), json!(["x"]), json!([7]), json!({})] {
        let body = json!({ "limit": 1, "items": items, "next": null }).to_string();
        let server = Server::start(move |_| Act::json(body.clone())).await;
        let node = server.node();
        for trouble in [
            node.hashes(ZERO, &limit).await.unwrap_err().trouble,
            node.hash_branch(ZERO, &[], &[hash], &limit).await.unwrap_err().trouble,
            node.headers(ZERO, &limit).await.unwrap_err().trouble,
        ] {
            assert!(matches!(trouble, Trouble::Malformed(_)), "{items}: {trouble}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_fetched_one_by_one_and_many_at_once() {
    let served = serve(130).await;
    let client = client(std::slice::from_ref(&served.url));
    let node = &client.nodes()[0];
    let anchor = command("payload");
    client.send(ZERO, std::slice::from_ref(&anchor)).await.unwrap();
    (0..3).for_each(|_| served.devnet.make_round().unwrap());
    let height = served.devnet.read(|network| network.find(ZERO, &anchor.hash)).unwrap().0;
    let at = |height| served.devnet.read(|network| network.header_at(ZERO, height).unwrap().payload_hash);
    let mined = at(height);
    let payload = node.payload(ZERO, &mined).await.unwrap().unwrap();
    assert_eq!(payload.transactions, [anchor.to_transaction().into_bytes()]);
    assert_eq!(node.payload(ZERO, &Hash([1; 32])).await, Ok(None));
    // More than are asked for at once, one of them twice, and one that is not there.
    let wanted: Vec<Hash> = (1..=height).map(at).chain([mined, Hash([1; 32])]).collect();
    let found = node.payloads(ZERO, &wanted).await.unwrap();
    assert!(found.keys().all(|hash| wanted.contains(hash)));
    assert_eq!(found.len() as u64, height);
    assert_eq!(found[&mined], payload);
    let full = node.payloads_with_outputs(ZERO, &wanted).await.unwrap();
    assert!(full.values().map(|payload| payload.without_outputs()).eq(found.into_values()));
    assert_eq!(node.payloads(ZERO, &[]).await.unwrap().len(), 0);
    // Others than were asked for, or changed ones.
    let mut changed = payload.clone();
    changed.transactions[0].push(b' ');
    for (answer, hash) in [(json!([payload]), Hash([1; 32])), (json!([changed]), mined), (json!([{}]), mined)]
    {
        let body = answer.to_string();
        let server = Server::start(move |_| Act::json(body.clone())).await;
        assert!(server.node().payloads(ZERO, &[hash]).await.is_err(), "{answer:.40}");
    }
}
