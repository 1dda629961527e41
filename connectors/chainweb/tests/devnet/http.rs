//! The service API over HTTP: how it is asked, and what it does with requests that no recording has.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chainweb::devnet::{Config, Devnet, Orphaned, Tip};
use chainweb::{ChainId, Hash};
use serde_json::Value;

use super::support::{Anchor, START, config};

pub struct Server {
    pub devnet: Arc<Devnet>,
    pub clock: Arc<AtomicI64>,
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

pub struct Response {
    pub status: u64,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Server {
    /// A network whose blocks are made by hand and whose clock stands where it is put.
    pub fn start() -> Self {
        Self::start_as(config())
    }

    /// One that is kept in a folder.
    pub fn start_in(folder: &Path) -> Self {
        Self::start_as(Config { folder: Some(folder.to_owned()), ..config() })
    }

    pub fn start_as(config: Config) -> Self {
        let clock = Arc::new(AtomicI64::new(START));
        let time = Arc::clone(&clock);
        let time = Box::new(move || time.load(Ordering::SeqCst));
        let devnet = Arc::new(Devnet::start_with_clock(config, time).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(Arc::clone(&devnet).serve(listener));
        Self { devnet, clock, address, _runtime: runtime }
    }

    pub fn rounds(&self, count: usize) {
        (0..count).for_each(|_| self.devnet.make_round().unwrap());
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
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

    pub fn post(&self, path: &str, body: &str) -> Response {
        self.ask(
            "POST",
            &format!("/chainweb/0.0/development{path}"),
            &[("Content-Type", "application/json")],
            body,
        )
    }

    /// Asks what a recording asked, after `put` has put hashes of this network into it.
    pub fn repeat(&self, recording: &Value, put: impl Fn(&str) -> String) -> Response {
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

#[test]
fn listening_answers_when_the_command_is_mined() {
    let server = Server::start();
    let anchor = Anchor::default().sign();
    server.devnet.send(ChainId(0), &anchor).unwrap();
    let key = anchor.hash.to_string();
    std::thread::scope(|scope| {
        let listening =
            scope.spawn(|| server.post("/chain/0/pact/api/v1/listen", &format!("{{\"listen\":\"{key}\"}}")));
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!listening.is_finished());
        server.rounds(2);
        let result: Value = serde_json::from_slice(&listening.join().unwrap().body).unwrap();
        assert_eq!(
            (&result["reqKey"], result["metaData"]["blockHash"].is_string()),
            (&Value::from(key.as_str()), true)
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

/// All items of a collection or branch, two at a time; each page is asked for with the `next` of the one before.
fn pages(ask: impl Fn(&str) -> Response) -> Vec<String> {
    let (mut items, mut next) = (Vec::new(), String::new());
    loop {
        let page: Value = serde_json::from_str(ask(&format!("limit=2{next}")).text()).unwrap();
        items.extend(page["items"].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(place) if page["items"] != serde_json::json!([]) => next = format!("&next={place}"),
            _ => return items,
        }
    }
}

#[test]
fn collections_have_all_forks_and_branches_only_their_own_whatever_the_pages() {
    let server = Server::start();
    server.rounds(6);
    let chain = ChainId(3);
    let old = server.devnet.tip(chain).unwrap();
    server.devnet.reorganize(chain, 3, Orphaned::Wait).unwrap();
    let new = server.devnet.tip(chain).unwrap();
    let path = "/chainweb/0.0/development/chain/3/hash";
    let hashes = |lower: Option<&Hash>, upper: &Hash| -> Vec<String> {
        let branch = server.devnet.branch(chain, lower, upper).unwrap();
        branch.iter().map(|header| header.hash.to_string()).collect()
    };
    let mut all = pages(|query| server.ask("GET", &format!("{path}?{query}"), &[], ""));
    let heights = all.iter().map(|hash| server.devnet.header(chain, &hash.parse().unwrap()).unwrap().height);
    assert!(heights.is_sorted());
    let mut known = [hashes(None, &new.hash), hashes(Some(&new.hash), &old.hash)].concat();
    assert_eq!(known.len(), 8 + 3);
    all.sort();
    known.sort();
    assert_eq!(all, known);
    for (lower, upper) in
        [(None, &old), (None, &new), (Some(&old), &new), (Some(&new), &old), (Some(&new), &new)]
    {
        let list = |tip: Option<&Tip>| tip.map_or_else(String::new, |tip| format!("\"{}\"", tip.hash));
        let body = format!("{{\"lower\":[{}],\"upper\":[{}]}}", list(lower), list(Some(upper)));
        let branch = pages(|query| server.post(&format!("/chain/3/hash/branch?{query}"), &body));
        assert_eq!(branch, hashes(lower.map(|tip| &tip.hash), &upper.hash), "{body}");
    }
    // Of both tips together, each block once.
    let body = format!("{{\"lower\":[],\"upper\":[\"{}\",\"{}\"]}}", old.hash, new.hash);
    let mut both = pages(|query| server.post(&format!("/chain/3/hash/branch?{query}"), &body));
    both.sort();
    assert_eq!(both, known);
    let orphan = server.devnet.header(chain, &old.hash).unwrap();
    let payload = server.ask(
        "GET",
        &format!("/chainweb/0.0/development/chain/3/payload/{}", orphan.payload_hash),
        &[],
        "",
    );
    assert_eq!(payload.status, 200, "the payload of an orphan");
}
