//! HTTP answers, held against those of a live node.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chainweb::devnet::Devnet;
use chainweb::encoding::decode;
use chainweb::spv::Proof;
use chainweb::{ChainId, Header};
use serde_json::Value;

use super::support::{START, config, read};

struct Server {
    devnet: Arc<Devnet>,
    clock: Arc<AtomicI64>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

struct Response {
    status: u64,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Server {
    /// A network whose blocks are made by hand and whose clock stands where it is put.
    fn start() -> Self {
        let clock = Arc::new(AtomicI64::new(START));
        let time = Arc::clone(&clock);
        let time = Box::new(move || time.load(Ordering::SeqCst));
        let devnet = Arc::new(Devnet::start_with_clock(config(), time).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(Arc::clone(&devnet).serve(listener));
        Self { devnet, clock, address, _runtime: runtime }
    }

    fn rounds(&self, count: usize) {
        (0..count).for_each(|_| self.devnet.make_round().unwrap());
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        if !body.is_empty() || method == "POST" || method == "PUT" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        // A server that refuses a body may close before it has read it all.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Response { status, headers: lines.filter_map(header).collect(), body: answer[end..].to_vec() }
    }

    fn post(&self, path: &str, body: &str) -> Response {
        self.ask(
            "POST",
            &format!("/chainweb/0.0/development{path}"),
            &[("Content-Type", "application/json")],
            body,
        )
    }

    /// Asks what a recording asked, after `put` has put hashes of this network into it.
    fn repeat(&self, recording: &Value, put: impl Fn(&str) -> String) -> Response {
        let request = &recording["request"];
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let body = request["body"].as_str().map(&put).unwrap_or_default();
        self.ask(
            request["method"].as_str().unwrap(),
            &put(request["path"].as_str().unwrap()),
            &headers,
            &body,
        )
    }
}

/// The recordings of a group that were made on the service port and are complete.
fn recordings(group: &str) -> Vec<Value> {
    let file = read(&format!("recordings/{group}.json"));
    let mut recordings = file["recordings"].as_array().unwrap().clone();
    let is_whole = |text: &Value| !text.as_str().is_some_and(|text| text.contains("... (shortened"));
    recordings.retain(|recording| {
        recording["request"]["port"] == "service" && is_whole(&recording["request"]["body"])
    });
    recordings
}

fn recorded_header(recording: &Value, name: &str) -> Option<String> {
    let headers = recording["response"]["headers"].as_array().unwrap();
    let header = headers.iter().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))?;
    Some(header[1].as_str().unwrap().to_owned())
}

/// What must be as recorded whatever the blocks are: status, content type, and which headers there are.
fn assert_alike(recording: &Value, response: &Response) {
    let what = &recording["what"];
    assert_eq!(
        recording["response"]["status"],
        response.status,
        "{what}: {}",
        String::from_utf8_lossy(&response.body)
    );
    let content_type = response.headers.get("content-type").cloned();
    assert_eq!(recorded_header(recording, "content-type"), content_type, "{what}");
    for name in ["X-Server-Timestamp", "X-Chainweb-Node-Version"] {
        let found = response.headers.contains_key(&name.to_lowercase());
        assert_eq!(recorded_header(recording, name).is_some(), found, "{what}: {name}");
    }
}

/// The shape of a JSON text: members in their order with the types of their values.
fn shape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let is_end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    is_end
                });
                let len = end.expect("a closed string") + 2;
                let is_key = rest[len..].starts_with(':');
                out.push_str(if is_key { &rest[..len] } else { "s" });
                len
            }
            '{' | '}' | '[' | ']' | ',' | ':' => {
                out.push(first);
                1
            }
            't' | 'f' => {
                out.push('b');
                if first == 't' { 4 } else { 5 }
            }
            'n' => {
                out.push('0');
                4
            }
            _ => {
                out.push('n');
                rest.find(|c| !"+-.eE0123456789".contains(c)).unwrap_or(rest.len())
            }
        };
        rest = &rest[len..];
    }
    out
}

/// Block hashes of the recorded node by chain and height, as far as its answers tell.
fn recorded_blocks() -> BTreeMap<(u32, u64), String> {
    let mut blocks = BTreeMap::new();
    let mut header = |object: &Value| {
        let chain = u32::try_from(object["chainId"].as_u64().unwrap()).unwrap();
        let height = object["height"].as_u64().unwrap();
        blocks.insert((chain, height), object["hash"].as_str().unwrap().to_owned());
        if let Some(below) = height.checked_sub(1) {
            blocks.insert((chain, below), object["parent"].as_str().unwrap().to_owned());
        }
    };
    for recording in
        recordings("header-pages").iter().chain(&recordings("header-branch")).chain(&recordings("header"))
    {
        let Some(body) = recording["response"]["body"].as_str() else { continue };
        let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
        let items = body["items"].as_array().cloned().unwrap_or_else(|| vec![body]);
        items.iter().filter(|item| item["hash"].is_string()).for_each(&mut header);
    }
    for (index, height) in [(2, 3), (3, 0)] {
        let body = recordings("cut")[index - 1]["response"]["body"].as_str().unwrap().to_owned();
        let cut: Value = serde_json::from_str(&body).unwrap();
        for (chain, block) in cut["hashes"].as_object().unwrap() {
            assert_eq!(block["height"], height);
            blocks.insert((chain.parse().unwrap(), height), block["hash"].as_str().unwrap().to_owned());
        }
    }
    // The tip of chain 0, which only encoded headers name.
    let tip = "4eetV8FGvjikdbht9tzTC4qGP8hFgSXlEXET6h9eyyU".to_owned();
    blocks.insert((0, 19), tip);
    blocks
}

fn put_in(text: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from.as_str(), to))
}

#[test]
fn blocks_are_answered_in_the_recorded_shapes() {
    let server = Server::start();
    server.rounds(19);
    let own =
        |chain, height| server.devnet.read(|network| network.header_at(ChainId(chain), height).unwrap().hash);
    let pairs: Vec<(String, String)> = recorded_blocks()
        .into_iter()
        .filter(|((_, height), _)| *height <= 19)
        .map(|((chain, height), recorded)| (recorded, own(chain, height).to_string()))
        .collect();
    let back: Vec<_> = pairs.iter().map(|(recorded, own)| (own.clone(), recorded.clone())).collect();
    let mut compared = 0;
    for group in
        ["info", "health-check", "cut", "header", "header-errors", "header-pages", "hash", "header-branch"]
    {
        for recording in recordings(group) {
            let what = format!("{group}: {}", recording["what"]);
            // Derived from hashes, so that the characters of the recorded one do not apply.
            if what.contains("too short")
                || what.contains("outside the alphabet")
                || what.contains("non canonical")
            {
                continue;
            }
            let response = server.repeat(&recording, |text| put_in(text, &pairs));
            assert_alike(&recording, &response);
            compared += 1;
            let Some(body) = recording["response"]["body"].as_str() else {
                let bytes = recording["response"]["bodyBase64"].as_str().unwrap();
                assert_eq!(response.body.len(), bytes.trim_end_matches('=').len() * 3 / 4, "{what}");
                Header::decode(&response.body).unwrap();
                continue;
            };
            let text = put_in(response.text(), &back);
            match serde_json::from_str::<Value>(body) {
                Ok(recorded) if !body.is_empty() => {
                    assert_eq!(shape(&text), shape(body), "{what}");
                    let own: Value = serde_json::from_str(&text).unwrap();
                    for member in
                        ["limit", "next", "key", "reason", "chainId", "nonce", "instance", "featureFlags"]
                    {
                        assert_eq!(own[member], recorded[member], "{what}: {member}");
                    }
                    if group == "hash"
                        || what.contains("maxheight=60")
                        || what.contains("limited by maxheight")
                    {
                        let member = if group == "hash" { "items" } else { "weight" };
                        assert_eq!(own[member], recorded[member], "{what}");
                    }
                }
                _ => assert_eq!(text, body, "{what}"),
            }
        }
    }
    assert!(compared > 80, "{compared}");
}

/// Repeats all requests of a group at their times, with blocks made where time passed.
fn repeat_all(server: &Server, group: &str, mut check: impl FnMut(&Value, &Response)) {
    let mut last = None;
    for recording in recordings(group) {
        let time = recorded_header(&recording, "X-Server-Timestamp").map(|time| time.parse::<i64>().unwrap());
        if let Some(time) = time {
            server.clock.store(time * 1_000_000, Ordering::SeqCst);
            if last.is_some_and(|last| time > last + 4) {
                server.rounds(3);
            }
            last = Some(time);
        }
        let response = server.repeat(&recording, str::to_owned);
        check(&recording, &response);
    }
}

fn assert_same_text(recording: &Value, response: &Response) {
    assert_alike(recording, response);
    assert_eq!(recording["response"]["body"], response.text(), "{}", recording["what"]);
}

#[test]
fn sending_is_answered_word_for_word() {
    let server = Server::start();
    let mut compared = 0;
    repeat_all(&server, "pact-send-errors", |recording, response| {
        if recording["what"] == "empty code" {
            // The one thing that is not repeated: a node takes it, and makes no more blocks.
            assert_eq!(response.status, 400);
            assert!(response.text().contains("empty code"));
            return;
        }
        assert_same_text(recording, response);
        compared += 1;
    });
    let server = Server::start();
    for group in ["pact-send-mempool-errors", "pact-send", "pact-send-duplicate", "pact-badlist"] {
        repeat_all(&server, group, |recording, response| {
            let what = &recording["what"];
            assert_same_text(recording, response);
            assert!(response.status != 500 || what.as_str().is_some(), "{what}");
            compared += 1;
        });
        server.rounds(3);
    }
    assert!(compared > 120, "{compared}");
}

#[test]
fn results_proofs_and_payloads_are_answered_in_the_recorded_shapes() {
    let server = Server::start();
    repeat_all(&server, "pact-send", |_, response| assert_eq!(response.status, 200));
    let mut compared = 0;
    server.rounds(6);
    for recording in recordings("pact-poll").iter().chain(&recordings("pact-listen")) {
        let what = recording["what"].as_str().unwrap();
        let is_of_its_moment =
            what.contains("just sent") || what.contains("blocks above the transaction's block");
        if is_of_its_moment || recording["response"]["body"].as_str().unwrap().contains("1ZFfv5") {
            continue;
        }
        let response = server.repeat(recording, str::to_owned);
        assert_alike(recording, &response);
        let body = recording["response"]["body"].as_str().unwrap();
        if response.status == 200 {
            assert_eq!(shape(response.text()), shape(body), "{what}");
        } else {
            assert_eq!(response.text(), body, "{what}");
        }
        compared += 1;
    }
    for recording in recordings("pact-spv") {
        let what = recording["what"].as_str().unwrap();
        let is_of_its_moment =
            what.contains("in the mempool") || what.contains("above the transaction's height");
        if is_of_its_moment {
            continue;
        }
        let response = server.repeat(&recording, str::to_owned);
        assert_alike(&recording, &response);
        let body = recording["response"]["body"].as_str().unwrap();
        if response.status == 200 {
            let decoded = |text: &str| String::from_utf8(decode(text.trim_matches('"')).unwrap()).unwrap();
            let (own, recorded) = (decoded(response.text()), decoded(body));
            assert_eq!(shape(&own), shape(&recorded), "{what}");
            let (own, recorded) =
                (Proof::parse(own.as_bytes()).unwrap(), Proof::parse(recorded.as_bytes()).unwrap());
            assert_eq!(own.chain, recorded.chain);
            let root = server.devnet.header(own.chain, &own.root()).unwrap();
            assert_eq!(root.chain, own.chain);
        } else {
            assert_eq!(response.text(), body, "{what}");
        }
        compared += 1;
    }
    compared += payloads_are_alike(&server);
    assert!(compared > 45, "{compared}");
}

fn payloads_are_alike(server: &Server) -> usize {
    let key = "CBQqcmImdWgMl_jEu0iXroHQc8G2UkltFrpa0w9TfLk".parse().unwrap();
    let chain = ChainId(2);
    let (height, _, hash) = server.devnet.read(|network| network.find(chain, &key)).unwrap();
    let full = server.devnet.header(chain, &hash).unwrap();
    let empty = server.devnet.read(|network| network.header_at(chain, height - 1).unwrap().clone());
    let pairs = [
        ("gnZsYQ6MThTpaFFFojwFwnmSEZ2MAj5TxFwHsal5xyM".to_owned(), full.payload_hash.to_string()),
        ("V6WZzbUcnhwcOCjkCLzJ1kA1FDc9IlT7_-yPnVeInEE".to_owned(), empty.payload_hash.to_string()),
        ("height=43".to_owned(), format!("height={}", full.height)),
        ("height=44".to_owned(), format!("height={}", full.height + 1)),
        ("\"heights\":[43".to_owned(), format!("\"heights\":[{}", full.height)),
        ("324]".to_owned(), format!("{}]", empty.height)),
    ];
    let mut compared = 0;
    for recording in recordings("payload") {
        let what = recording["what"].as_str().unwrap();
        let response = server.repeat(&recording, |text| put_in(text, &pairs));
        assert_alike(&recording, &response);
        match recording["response"]["body"].as_str() {
            Some(body) if response.status == 200 => assert_eq!(shape(response.text()), shape(body), "{what}"),
            Some(body) => assert_eq!(response.text(), put_in(body, &pairs), "{what}"),
            None => assert!(!response.body.is_empty()),
        }
        compared += 1;
    }
    compared
}

#[test]
fn listening_answers_when_the_command_is_mined() {
    let server = Server::start();
    repeat_all(&server, "pact-send", |_, _| {});
    let key = "K3y7NfZIX1y21Ji45YfAZbWboAqLTN12IVhUG14ylxk";
    std::thread::scope(|scope| {
        let listening =
            scope.spawn(|| server.post("/chain/0/pact/api/v1/listen", &format!("{{\"listen\":\"{key}\"}}")));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!listening.is_finished());
        server.rounds(2);
        let result: Value = serde_json::from_slice(&listening.join().unwrap().body).unwrap();
        assert_eq!(
            (&result["reqKey"], result["metaData"]["blockHash"].is_string()),
            (&Value::from(key), true)
        );
    });
}

#[test]
fn a_body_above_two_mebibytes_is_413() {
    let server = Server::start();
    let body = format!("{{\"requestKeys\":[\"{}\"]}}", "x".repeat(2 << 20));
    let response = server.post("/chain/0/pact/api/v1/poll", &body);
    assert_eq!(response.status, 413);
    assert_eq!(response.headers["content-type"], "text/plain");
    let text = format!("The maximum size is 2097152 bytes; your request body was {} bytes.", body.len());
    assert!(response.text().contains(&text), "{}", response.text());
}

#[test]
fn requests_that_make_no_sense_are_refused_and_nothing_breaks() {
    let server = Server::start();
    for path in [
        "/",
        "//",
        "/chainweb",
        "/chainweb/0.0/development/chain/",
        "/chainweb/0.0/development/chain/00000000000000000001/x",
        "/%00",
        "/info/x",
    ] {
        assert_eq!(server.ask("GET", path, &[], "").status, 404, "{path}");
    }
    for body in [
        "\u{0}",
        "[[[[[[",
        "{\"cmds\":[{}]}",
        "{\"cmds\":[{\"cmd\":1}]}",
        "{\"cmds\":[{\"cmd\":\"\",\"sigs\":{},\"hash\":\"\"}]}",
        &"[".repeat(1 << 20),
    ] {
        for path in [
            "/chain/0/pact/api/v1/send",
            "/chain/0/pact/api/v1/poll",
            "/chain/0/pact/api/v1/listen",
            "/chain/0/pact/spv",
            "/chain/0/header/branch",
            "/chain/0/payload/batch",
        ] {
            let status = server.post(path, body).status;
            // The list of commands is an object without bounds to header/branch: an empty page.
            let is_empty_page = path.ends_with("branch") && body.starts_with('{');
            assert_eq!(status, if is_empty_page { 200 } else { 400 }, "{path} {body:.40}");
        }
    }
    assert_eq!(server.ask("GET", "/health-check", &[], "").text(), "Health check OK.\n");
}
