//! `killick trust`: what several nodes agree on is trusted, and nothing else; what is known is offered and not believed.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Its exit status, and what it prints on standard output and standard error.
fn run(line: &str, more: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
    let output = command.args(line.split_whitespace()).args(more).stdin(Stdio::null()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), out + &err)
}

/// What it prints when it ends with this status.
fn ends(status: i32, line: &str, more: &[&Path]) -> String {
    let (ended, said) = run(line, more);
    assert_eq!(ended, Some(status), "{line}: {said}");
    said
}

/// A node of the development network, on a chain of its own from here on.
struct Node {
    child: Child,
    address: String,
}

impl Node {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_killick"));
        let args =
            ["devnet", "--listen", "127.0.0.1:0", "--block-interval", "50ms", "--log", "error", "--folder"];
        let mut child = command.args(args).arg(folder).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let address = said.lines().find_map(|line| {
            let line = line.unwrap();
            line.split_once(" at http://").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, address: address.unwrap() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn blocks(trust: &Path) -> usize {
    let trust: Value = serde_json::from_slice(&std::fs::read(trust).unwrap()).unwrap();
    trust["networks"][0]["blocks"].as_array().map_or(0, Vec::len)
}

#[test]
fn receipts_are_trusted_where_two_nodes_agree_and_only_anchored_where_they_do_not() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (site, receipts) = (&*at("site"), &*at("receipts"));
    std::fs::write(at("readings.csv"), "timestamp,value\n2026-03-01 00:00:00,1.5\n2026-03-01 00:05:00,2.5\n")
        .unwrap();
    ends(0, "run --format csv --embedded", &[site, Path::new("--input"), &at("readings.csv")]);
    ends(0, "receipts export --embedded", &[site, Path::new("--out"), receipts]);
    // Whoever verifies knows the log's key, and no block.
    let mut known: Value = serde_json::from_slice(&std::fs::read(site.join("trust.json")).unwrap()).unwrap();
    known["networks"] = json!([]);
    let keys = &*at("keys.json");
    std::fs::write(keys, known.to_string()).unwrap();
    ends(4, "verify --trust", &[keys, receipts]);
    ends(0, "verify --level anchored --trust", &[keys, receipts]);

    // Two nodes with one history, and from here on two; and one that knows nothing of it.
    for name in ["one", "two"] {
        copy(&site.join("chain"), &at(name));
    }
    let [one, two, other] = ["one", "two", "other"].map(|name| Node::start(&at(name)));
    let out = &*at("trust.json");
    let fetch = |status, nodes: &[&Node], more: &str, receipts: &[&Path]| {
        let nodes: String = nodes.iter().map(|node| format!(" --node {}", node.address)).collect();
        let line = format!("trust fetch --network development --depth 2{nodes} {more} --out");
        ends(status, &line, &[&[out, Path::new("--with"), keys], receipts].concat())
    };
    let said = fetch(0, &[&one, &two], "", &[receipts]);
    assert!(said.contains("2 of 2 nodes agree"), "{said}");
    ends(0, "verify --trust", &[out, receipts]);

    let said = fetch(4, &[&one, &other], "", &[receipts]);
    assert!(said.contains("0 blocks of development") && said.contains("not trusted: chain"), "{said}");
    ends(4, "verify --trust", &[out, receipts]);
    ends(0, "verify --level anchored --trust", &[out, receipts]);

    // One of three may be wrong, or away; two may not.
    fetch(0, &[&one, &other, &two], "--agree 2", &[receipts]);
    ends(0, "verify --trust", &[out, receipts]);
    let away =
        Node { child: Command::new("true").spawn().unwrap(), address: "http://127.0.0.1:1".to_owned() };
    let said = fetch(0, &[&one, &away, &two], "--agree 2", &[receipts]);
    assert!(said.contains("127.0.0.1:1"), "{said}");
    std::fs::remove_file(out).unwrap();
    assert!(fetch(1, &[&one, &away], "", &[receipts]).contains("1 of 2 nodes answer"));
    assert!(fetch(2, &[&one, &two], "--agree 1", &[receipts]).contains("more than half"));
    assert!(!out.exists());

    // Without receipts: the newest blocks, of which two histories have none in common.
    fetch(0, &[&one], "", &[]);
    assert_eq!(blocks(out), 20);
    let both = format!(
        "trust fetch --network development --depth 2 --node {} --node {} --out",
        one.address, two.address
    );
    let begun = Instant::now();
    loop {
        // At first those that they had in common are not deep enough yet.
        let (status, _) = run(&both, &[out]);
        assert!([Some(0), Some(4)].contains(&status));
        if blocks(out) == 0 {
            break assert_eq!(status, Some(4));
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_known_is_printed_with_its_origin_and_trusted_only_when_it_is_written() {
    let place = tempfile::tempdir().unwrap();
    let out = &*place.path().join("trust.json");
    let said = ends(0, "trust known", &[]);
    for known in [
        "kadena-io/chainweb-node test/golden/mainnet01-block-hashes-expected.txt",
        "SNAMXHBvZtAbeS19x12bZV2p5d1E4BaxrggceNdUxbw",
        "2025-11-15T23:26:15Z: the last cut",
        "chain  0 at 6357351  CNHrpXbArOLo_cgVHt2uxR9MfNtp_1XFmeQEwM9T-_k",
        "testnet04",
    ] {
        assert!(said.contains(known), "{known}: {said}");
    }
    assert!(ends(2, "trust known --network mainnet02", &[]).contains("mainnet01 and testnet04"));
    let one = ends(0, "trust known --network testnet04", &[]);
    assert!(!one.contains("mainnet01 "), "{one}");

    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts");
    let receipt = &*vectors.join("good/block-of-mainnet.json");
    let with = &*vectors.join("trust-no-networks.json");
    ends(4, "verify --trust", &[with, receipt]);
    ends(0, "trust known --network mainnet01 --out", &[out, Path::new("--with"), with]);
    let trust: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let network = &trust["networks"][0];
    assert_eq!((&network["name"], &network["forward"]), (&"mainnet01".into(), &Value::Null));
    assert_eq!((blocks(out), network["headers"].as_array().unwrap().len()), (41, 21));
    assert!(!trust["logs"].as_array().unwrap().is_empty(), "the rest is taken over");
    // Its block is none of the network's: it stays where it was, and the reason says what could link it.
    let said = ends(4, "verify --trust", &[out, receipt]);
    assert!(
        said.contains("anchored") && said.contains("is missing, which trusted blocks descend from"),
        "{said}"
    );
}

#[test]
fn headers_in_a_file_of_their_own_link_as_those_in_the_trust_file_do() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/vectors/receipts");
    let receipt = &*vectors.join("good/large-trees.json");
    // Trust in a block of ours above the receipt's, and the header in between, which the receipt itself has.
    let text: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    let block = &text["anchors"][0]["block"];
    let header = chainweb::Header::from_base64url(block["header"].as_str().unwrap()).unwrap();
    let network = block["network"].as_str().unwrap();
    let mut above = chainweb::Header { parent: header.hash, height: header.height + 1, ..header };
    above.hash = above.compute_hash();
    let mut trust: Value =
        serde_json::from_slice(&std::fs::read(vectors.join("trust.json")).unwrap()).unwrap();
    trust["networks"] = json!([{ "name": network, "blocks": [above.hash.to_string()] }]);
    std::fs::write(at("trust.json"), trust.to_string()).unwrap();
    std::fs::write(at("headers.bin"), above.encode()).unwrap();
    let page = json!({ "items": [chainweb::encoding::encode(&above.encode())] });
    std::fs::write(at("page.json"), page.to_string()).unwrap();
    let mut wrong = above.encode();
    wrong[200] ^= 1;
    std::fs::write(at("wrong.bin"), wrong).unwrap();

    let trust = &*at("trust.json");
    let said = ends(4, "verify --trust", &[trust, receipt]);
    assert!(said.contains("as far as the headers that are given say"), "{said}");
    let headers = Path::new("--headers");
    for file in ["headers.bin", "page.json"] {
        let said = ends(0, "verify --trust", &[trust, headers, &at(file), receipt]);
        assert!(said.contains("Proven: the event existed no later than"), "{said}");
    }
    let said = ends(2, "verify --trust", &[trust, headers, &at("wrong.bin"), receipt]);
    assert!(said.contains("wrong.bin: header 0: hashes to"), "{said}");
    ends(1, "verify --trust", &[trust, headers, &at("nowhere.bin"), receipt]);
    assert!(ends(2, "verify --headers", &[&at("headers.bin"), receipt]).contains("--trust"));
}
