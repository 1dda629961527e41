//! Nodes that are slow, broken, of another network, or not nodes at all.

use std::time::{Duration, Instant};

use chainweb::client::{Bounds, Client, Config, ConfigError, Said, Trouble, Try};
use chainweb::pact::Command;
use chainweb::{ChainId, Hash};
use tokio::net::TcpListener;

use super::server::{Act, Server, client, config};
use super::support::Anchor;

const ZERO: ChainId = ChainId(0);

fn command() -> Command {
    Anchor::default().sign()
}

fn ok(head: &str, body: &[u8]) -> Act {
    Act::Raw([format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat())
}

/// What all questions about blocks and commands end in, on a server that always acts the same.
async fn troubles(act: impl Fn() -> Act + Send + Sync + 'static) -> Vec<Trouble> {
    let server = Server::start(move |_| act()).await;
    let node = server.node();
    let hash = Hash([1; 32]);
    vec![
        node.info().await.unwrap_err().trouble,
        node.cut().await.unwrap_err().trouble,
        node.header(ZERO, &hash).await.unwrap_err().trouble,
        node.branch(ZERO, &[], &[hash], &Bounds::default()).await.unwrap_err().trouble,
        node.payload_with_outputs(ZERO, &hash).await.unwrap_err().trouble,
        node.poll(ZERO, &[hash], 0).await.unwrap_err().trouble,
        node.spv(ZERO, &hash, ZERO).await.unwrap_err().trouble,
        node.send(ZERO, &[command()]).await.unwrap_err().trouble,
        node.headers(ZERO, &Bounds::default()).await.unwrap_err().trouble,
        node.hashes(ZERO, &Bounds::default()).await.unwrap_err().trouble,
        node.hash_branch(ZERO, &[], &[hash], &Bounds::default()).await.unwrap_err().trouble,
        node.payload(ZERO, &hash).await.unwrap_err().trouble,
        node.payloads(ZERO, &[hash]).await.unwrap_err().trouble,
        node.listen(ZERO, &hash).await.unwrap_err().trouble,
        node.local(ZERO, &command(), &Try::default()).await.unwrap_err().trouble,
        node.balance(ZERO, "sender00").await.unwrap_err().trouble,
    ]
}

#[tokio::test]
async fn nonsense_is_an_error_and_never_an_answer() {
    let deep = "[".repeat(1 << 18);
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "7",
        "\"\"",
        "<html>Welcome</html>",
        "{\"hashes\":{},\"hashes\":{}}",
        "{\"nodeVersion\":1}",
        "{\"requestKeys\":[\"abc\"]}",
        "{\"requestKeys\":[]}",
        "{\"items\":[\"AAAA\"],\"next\":null}",
        "{\"items\":[],\"next\":\"sideways:abc\"}",
        "{\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\":{\"gas\":1}}",
        "\u{feff}{}",
        "\u{0}\u{1}\u{7f}",
        &deep,
    ] {
        let text = body.to_owned();
        let server = Server::start(move |_| Act::json(text.clone())).await;
        let (node, hash) = (server.node(), Hash([1; 32]));
        assert!(node.info().await.is_err(), "{body:.40}");
        assert!(node.cut().await.is_err(), "{body:.40}");
        assert!(node.header(ZERO, &hash).await.is_err(), "{body:.40}");
        assert!(node.branch(ZERO, &[], &[hash], &Bounds::default()).await.is_err(), "{body:.40}");
        assert!(node.payload_with_outputs(ZERO, &hash).await.is_err(), "{body:.40}");
        assert!(node.spv(ZERO, &hash, ZERO).await.is_err(), "{body:.40}");
        assert!(node.send(ZERO, &[command()]).await.is_err(), "{body:.40}");
        assert!(node.headers(ZERO, &Bounds::default()).await.is_err(), "{body:.40}");
        assert!(node.hashes(ZERO, &Bounds::default()).await.is_err(), "{body:.40}");
        assert!(node.payload(ZERO, &hash).await.is_err(), "{body:.40}");
        assert!(node.listen(ZERO, &hash).await.is_err(), "{body:.40}");
        assert!(node.local(ZERO, &command(), &Try::preflight()).await.is_err(), "{body:.40}");
        assert!(node.balance(ZERO, "sender00").await.is_err(), "{body:.40}");
        assert!(node.updates(Duration::from_secs(5)).await.is_err(), "{body:.40}");
        // The empty list alone is a list of payloads.
        assert_eq!(node.payloads(ZERO, &[hash]).await.is_err(), body != "[]", "{body:.40}");
        // Of these, the empty object alone is an answer: no result of any of the keys.
        let polled = node.poll(ZERO, &[hash], 0).await;
        assert_eq!(polled.is_ok_and(|found| found.is_empty()), body == "{}", "{body:.40}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    for bytes in [
        &b""[..],
        b"hello",
        b"HTTP/1.1 200",
        b"HTTP/9.9 999 ?\r\n\r\n",
        &[0xff; 4096],
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    ] {
        for trouble in troubles(move || Act::Raw(bytes.to_vec())).await {
            assert!(matches!(trouble, Trouble::Broken(_)), "{bytes:?}: {trouble}");
            assert!(trouble.is_unknown());
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_left_where_it_gets_too_long() {
    let long = || ok("Content-Type: application/json", &vec![b' '; 17 << 20]);
    for trouble in troubles(long).await {
        assert!(matches!(trouble, Trouble::TooLarge(_)), "{trouble}");
    }
    // 17 MiB that are 17 KB on the way.
    let packed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/blanks.gz")).unwrap();
    let bomb = move || ok("Content-Type: application/json\r\nContent-Encoding: gzip", &packed);
    for trouble in troubles(bomb).await {
        assert!(matches!(trouble, Trouble::TooLarge(_)), "{trouble}");
    }
}

#[tokio::test]
async fn a_node_that_says_nothing_or_drips_is_waited_for_no_longer_than_configured() {
    let drip = || {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".iter().chain([b' '; 9000].iter());
        Act::Drip(bytes.copied().collect(), Duration::from_millis(5))
    };
    for act in [(|| Act::Hang) as fn() -> Act, drip] {
        let server = Server::start(move |_| act()).await;
        let begun = Instant::now();
        let error = server.node().cut().await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Timeout(Duration::from_millis(600)), "{error}");
        assert!(error.trouble.is_unknown());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named_with_what_the_system_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&[format!("http://{address}/")]);
    let error = client.cut().await.unwrap_err();
    assert!(
        matches!(error.nodes[0].trouble, Trouble::Unreachable(_)) && !error.nodes[0].trouble.is_unknown()
    );
    let text = error.to_string();
    for part in ["no node answers", &format!("http://{address}"), "cut", "cannot connect", "refused"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn statuses_that_answer_nothing_are_errors_and_are_not_followed() {
    for status in [201, 204, 301, 302, 400, 401, 403, 404, 406, 413, 415, 429, 500, 502, 503, 504] {
        let server = Server::start(move |_| {
            let head = format!("HTTP/1.1 {status} Said\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
            Act::Raw(head.into_bytes())
        })
        .await;
        let node = server.node();
        let found = [
            node.cut().await.err(),
            node.header(ZERO, &Hash([1; 32])).await.err(),
            node.poll(ZERO, &[Hash([1; 32])], 0).await.err(),
            node.spv(ZERO, &Hash([1; 32]), ZERO).await.err(),
            node.hashes(ZERO, &Bounds::default()).await.err(),
            node.payload(ZERO, &Hash([1; 32])).await.err(),
            node.payloads_with_outputs(ZERO, &[Hash([1; 32])]).await.err(),
            node.balance(ZERO, "sender00").await.err(),
        ];
        for error in found {
            let error = error.unwrap_or_else(|| panic!("{status} is an answer"));
            assert!(
                matches!(error.trouble, Trouble::Status { status: found, .. } if found == status),
                "{error}"
            );
        }
        assert!(server.asked().iter().all(|asked| asked.path != "/elsewhere"));
    }
}

#[tokio::test]
async fn texts_of_nodes_are_cut_and_do_nothing_to_a_terminal() {
    let server =
        Server::start(|_| Act::text(503, &format!("\u{1b}[31mred\r\n\u{7}{}", "x".repeat(10_000)))).await;
    let text = server.node().cut().await.unwrap_err().to_string();
    assert!(text.len() < 600 && text.contains("503") && text.contains("red"), "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[tokio::test]
async fn an_answer_that_never_came_leaves_open_whether_commands_were_taken() {
    for act in [(|| Act::Hang) as fn() -> Act, || Act::Raw(Vec::new()), || Act::text(502, "bad gateway")] {
        let server = Server::start(move |_| act()).await;
        let said = server.client().send(ZERO, &[command()]).await.unwrap();
        assert!(matches!(&said, Said::Unclear(why) if why.contains(&server.url())), "{said:?}");
        assert!(server.asked().iter().any(|asked| asked.path.ends_with("/send")));
    }
}

#[tokio::test]
async fn commands_that_harm_a_node_are_never_sent() {
    let server = Server::start(|_| Act::json("{\"requestKeys\":[]}")).await;
    let node = server.node();
    for code in ["", "  \n\t", "; nothing\n  ;; more"] {
        let cmd = command()
            .cmd
            .replace(r#"(read-msg \"killick\")"#, &code.replace('\n', "\\n").replace('\t', "\\t"));
        let harmful = Command::sign(cmd, &[&super::support::key()]);
        let said = node.send(ZERO, &[command(), harmful]).await;
        assert_eq!(said, Ok(Said::Unreadable("the code is empty".to_owned())), "{code:?}");
    }
    let unsigned = Command { sigs: vec![None], ..command() };
    assert!(matches!(node.send(ZERO, &[unsigned]).await, Ok(Said::Unreadable(_))));
    let data = format!("{{\"killick\":\"{}\"}}", "x".repeat(2 << 20));
    let large = Anchor { data: &data, ..Anchor::default() }.sign();
    assert!(matches!(node.send(ZERO, &[large]).await, Ok(Said::Unreadable(why)) if why.contains("2097152")));
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn a_node_of_another_network_is_named_with_what_to_do() {
    let info = r#"{"nodeVersion":"mainnet01","nodeApiVersion":"0.0"}"#;
    let server = Server::start(move |asked| match &*asked.path {
        "/info" => Act::json(info),
        _ => Act::Answer(404, "text/plain", Vec::new()),
    })
    .await;
    let client = server.client();
    for error in [
        client.info().await.unwrap_err(),
        client.cut().await.unwrap_err(),
        client.header(ZERO, Hash([1; 32])).await.unwrap_err(),
        client.send(ZERO, &[command()]).await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("a node of mainnet01, and not of development"), "{text}");
    }
    // The path of the network may be there and the cut say otherwise.
    let cut = r#"{"hashes":{},"origin":null,"weight":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","height":0,"instance":"testnet04"}"#;
    let server = Server::start(move |_| Act::json(cut)).await;
    let trouble = server.node().cut().await.unwrap_err().trouble;
    assert!(matches!(&trouble, Trouble::Network { found, .. } if found == "testnet04"), "{trouble}");
}

#[tokio::test]
async fn results_and_headers_that_were_not_asked_for_are_refused() {
    let header = super::support::network(chainweb::Graph::Twenty).header_at(ZERO, 0).unwrap().clone();
    let key = header.hash;
    let result = |key: &Hash| {
        format!(
            "{{\"gas\":1,\"result\":{{\"status\":\"success\",\"data\":1}},\"reqKey\":\"{key}\",\"metaData\":null}}"
        )
    };
    let (mine, other) = (Hash([1; 32]), Hash([2; 32]));
    for body in [
        format!("{{\"{other}\":{}}}", result(&other)),
        format!("{{\"{mine}\":{}}}", result(&other)),
        format!("{{\"{mine}\":{0},\"{mine}\":{0}}}", result(&mine)),
        format!("{{\"{mine}\":{}}}", result(&mine).replace("null", "{\"blockHeight\":1}")),
        format!("{{\"{mine}\":{}}}", result(&mine).replace("success", "perhaps")),
    ] {
        let text = body.clone();
        let server = Server::start(move |_| Act::json(text.clone())).await;
        let trouble = server.node().poll(ZERO, &[mine], 0).await.unwrap_err().trouble;
        assert!(matches!(trouble, Trouble::Malformed(_)), "{body}: {trouble}");
    }
    // The right header, but of another hash, on another chain, of another network, or changed.
    let bytes = header.encode();
    let server = Server::start(move |_| Act::Answer(200, "application/octet-stream", bytes.clone())).await;
    let node = server.node();
    assert_eq!(node.header(ZERO, &key).await.unwrap().unwrap().hash, key);
    assert!(node.header(ZERO, &mine).await.is_err());
    assert!(node.header(ChainId(1), &key).await.is_err());
    let foreign = Client::new(&Config::new("testnet06", [server.url()])).unwrap();
    let error = foreign.header(ZERO, key).await.unwrap_err().to_string();
    assert!(error.contains("code 0x00000002"), "{error}");
    for at in (0..header.encode().len()).step_by(7) {
        let mut bytes = header.encode();
        bytes[at] ^= 1;
        let server =
            Server::start(move |_| Act::Answer(200, "application/octet-stream", bytes.clone())).await;
        let found = server.node().header(ZERO, &key).await;
        // The chain ids of adjacent parents are the one thing that the hash does not cover.
        let is_covered = !(50..158).contains(&at) || (at - 50) % 36 >= 4;
        assert_eq!(found.is_err(), is_covered, "byte {at}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_reason() {
    let error = |nodes: &[&str]| {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        Client::new(&config(&nodes)).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(&[]).contains("name one at least"));
    for (address, why) in [
        ("", "no address"),
        ("localhost:1848", "http:// or https://"),
        ("ftp://localhost", "http:// or https://"),
        ("http://me:secret@localhost", "user name"),
        ("ftp://me:secret@localhost", "http:// or https://"),
        ("http://me:secret@", "no address"),
        ("http://localhost/?x=1", "query"),
        ("http://", "no address"),
    ] {
        let error = error(&[address]);
        assert!(error.contains(why) && !error.contains("secret"), "{address}: {error}");
    }
    assert!(error(&["http://a:1", "http://a:1/"]).contains("named twice"));
    for network in ["", "a/b", "..%2f", "a b", &"x".repeat(65)] {
        let refused = Client::new(&Config::new(network, ["http://localhost:1848"])).err();
        assert!(matches!(refused, Some(ConfigError::Network(_))), "{network}");
    }
    let mut config = Config::new("development", ["https://localhost"]);
    for pem in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"nonsense"] {
        config.authorities = Some(pem.to_vec());
        assert!(Client::new(&config).is_err(), "{pem:?}");
    }
}
