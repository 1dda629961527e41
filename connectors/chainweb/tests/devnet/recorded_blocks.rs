//! Recorded requests about blocks, put to the development network.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use chainweb::{ChainId, Header};
use serde_json::Value;

use super::http::Server;
use super::recorded::{
    DERIVED, HAS_STREAM, Ledger, NO_BLOCKS, NO_MINING, assert_alike, header, path, recordings, shape, text,
    what,
};

pub fn compare(ledger: &mut Ledger) {
    let server = Server::start();
    server.rounds(19);
    blocks(ledger, &server);
    elsewhere(ledger, &server);
    updates(ledger, &server);
}

/// Block hashes of the recorded node by chain and height, as far as its answers tell.
fn recorded_blocks() -> BTreeMap<(u32, u64), String> {
    let mut blocks = BTreeMap::new();
    let mut note = |object: &Value| {
        let chain = u32::try_from(object["chainId"].as_u64().unwrap()).unwrap();
        let height = object["height"].as_u64().unwrap();
        blocks.insert((chain, height), object["hash"].as_str().unwrap().to_owned());
        if let Some(below) = height.checked_sub(1) {
            blocks.insert((chain, below), object["parent"].as_str().unwrap().to_owned());
        }
    };
    for group in ["header-pages", "header-branch", "header"] {
        for recording in recordings(group) {
            let Some(body) = recording["response"]["body"].as_str() else { continue };
            let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
            let items = body["items"].as_array().cloned().unwrap_or_else(|| vec![body]);
            items.iter().filter(|item| item["hash"].is_string()).for_each(&mut note);
        }
    }
    for limited in ["limited by maxheight", "maxheight 0"] {
        let cut = recordings("cut").into_iter().find(|recording| what(recording).contains(limited)).unwrap();
        let cut: Value = serde_json::from_str(text(&cut)).unwrap();
        for (chain, block) in cut["hashes"].as_object().unwrap() {
            let hash = block["hash"].as_str().unwrap().to_owned();
            blocks.insert((chain.parse().unwrap(), block["height"].as_u64().unwrap()), hash);
        }
    }
    // The tip of chain 0, which only encoded headers name.
    blocks.insert((0, 19), "4eetV8FGvjikdbht9tzTC4qGP8hFgSXlEXET6h9eyyU".to_owned());
    blocks
}

pub fn put_in(text: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from.as_str(), to))
}

fn blocks(ledger: &mut Ledger, server: &Server) {
    let own =
        |chain, height| server.devnet.read(|network| network.header_at(ChainId(chain), height).unwrap().hash);
    let pairs: Vec<(String, String)> = recorded_blocks()
        .into_iter()
        .filter(|((_, height), _)| *height <= 19)
        .map(|((chain, height), recorded)| (recorded, own(chain, height).to_string()))
        .collect();
    let back: Vec<_> = pairs.iter().map(|(recorded, own)| (own.clone(), recorded.clone())).collect();
    for group in
        ["info", "health-check", "cut", "header", "header-errors", "header-pages", "hash", "header-branch"]
    {
        for recording in ledger.askable(group) {
            let what = what(&recording);
            // The characters of the recorded hash do not apply to another one.
            let derived = ["too short", "outside the alphabet", "non canonical"];
            if derived.iter().any(|derived| what.contains(derived)) {
                ledger.left_out(group, DERIVED);
                continue;
            }
            let response = server.repeat(&recording, |text| put_in(text, &pairs));
            assert_alike(&recording, &response);
            ledger.compared(group);
            let Some(body) = recording["response"]["body"].as_str() else {
                let bytes = recording["response"]["bodyBase64"].as_str().unwrap();
                assert_eq!(response.body.len(), bytes.trim_end_matches('=').len() * 3 / 4, "{what}");
                Header::decode(&response.body).unwrap();
                continue;
            };
            let text = put_in(response.text(), &back);
            let Ok(recorded) = serde_json::from_str::<Value>(body) else {
                assert_eq!(text, body, "{what}");
                continue;
            };
            assert_eq!(shape(&text), shape(body), "{what}");
            let own: Value = serde_json::from_str(&text).unwrap();
            for member in ["limit", "next", "key", "reason", "chainId", "nonce", "instance", "featureFlags"] {
                assert_eq!(own[member], recorded[member], "{what}: {member}");
            }
            if group == "hash" {
                assert_eq!(own["items"], recorded["items"], "{what}");
            } else if what.contains("limited by maxheight") {
                assert_eq!(own["weight"].as_str().map(str::len), recorded["weight"].as_str().map(str::len));
                assert_eq!(own["height"], recorded["height"], "{what}");
            }
        }
    }
}

/// Paths that are on the other port only, or for others than clients.
fn elsewhere(ledger: &mut Ledger, server: &Server) {
    for group in ["config", "mempool"] {
        for recording in ledger.askable(group) {
            ledger.same(server, group, &recording);
        }
    }
    for recording in ledger.askable("block") {
        match path(&recording) {
            path if path.ends_with("/block") || path.ends_with("/branch") => {
                ledger.left_out("block", NO_BLOCKS)
            }
            _ => ledger.same(server, "block", &recording),
        }
    }
    ledger.askable("mining").iter().for_each(|_| ledger.left_out("mining", NO_MINING));
}

/// New blocks as they are pushed: head, one event a chunk, and their shape.
fn updates(ledger: &mut Ledger, server: &Server) {
    const GROUP: &str = "header-updates";
    for recording in ledger.askable(GROUP) {
        if recording["response"]["status"] == 404 || path(&recording).contains("block") {
            ledger.left_out(GROUP, HAS_STREAM);
            continue;
        }
        let (head, chunks) = listen(server, path(&recording), 20);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains(&format!("content-type: {}\r\n", header(&recording, "Content-Type").unwrap())),
            "{head}"
        );
        assert!(
            head.contains("x-server-timestamp: ") && head.contains("x-chainweb-node-version: "),
            "{head}"
        );
        let recorded = text(&recording).split_inclusive("\n\n").map(event);
        assert!(chunks.iter().map(|chunk| event(chunk)).eq(recorded));
        ledger.compared(GROUP);
    }
}

/// The lines of an event with the shape of its data; a block of twenty chains has three adjacent ones, named as they are.
fn event(text: &str) -> String {
    let (name, data) = text.strip_suffix("\n\n").unwrap().split_once("\ndata:").unwrap();
    let mut value: Value = serde_json::from_str(data).unwrap();
    let adjacents = value["header"]["adjacents"].take();
    let names: Vec<&String> = adjacents.as_object().unwrap().keys().collect();
    assert!(names.len() == 3 && names.is_sorted());
    let (before, rest) = data.split_once("{\"adjacents\":{").unwrap();
    let (adjacents, after) = rest.split_once('}').unwrap();
    assert_eq!(
        shape(&format!("[{}]", adjacents.replace("\":\"", "\",\""))).matches("base64url43").count(),
        3
    );
    format!("{name}|{}|{}", shape(before), shape(after))
}

/// The head of an endless answer in lower case, and its first chunks.
fn listen(server: &Server, path: &str, count: usize) -> (String, Vec<String>) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").as_bytes(),
        )
        .unwrap();
    let mut bytes = Vec::new();
    let mut head = None;
    let mut chunks = Vec::new();
    while chunks.len() < count {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "it never ends by itself");
        bytes.extend_from_slice(&buffer[..read]);
        if head.is_none() {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            head = Some(String::from_utf8(bytes.drain(..end + 4).collect()).unwrap().to_lowercase());
            server.rounds(1); // nothing is said of what was there before
        }
        while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
            if bytes.len() < end + 2 + size + 2 {
                break;
            }
            let chunk: Vec<u8> = bytes.drain(..end + 2 + size + 2).skip(end + 2).take(size).collect();
            chunks.push(String::from_utf8(chunk).unwrap());
        }
    }
    (head.unwrap(), chunks)
}
