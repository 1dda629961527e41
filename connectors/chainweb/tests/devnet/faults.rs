//! What goes wrong over HTTP, as the client sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chainweb::client::{Client, Config as ClientConfig, Found, Node, Said, Trouble};
use chainweb::devnet::{Config, Devnet, Faults};
use chainweb::pact::Command;
use chainweb::{ChainId, Hash};
use serde_json::Value;
use tokio::net::TcpListener;

use super::support::{Anchor, config};

const ZERO: ChainId = ChainId(0);

/// How long the clients here wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A network whose blocks are made by hand, each of its nodes on a port of its own.
struct Served {
    devnet: Arc<Devnet>,
    urls: Vec<String>,
    tasks: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Served {
    async fn start(nodes: usize, seed: u64) -> Self {
        let devnet = Arc::new(Devnet::start(Config { nodes, seed, ..config() }).unwrap());
        (0..3).for_each(|_| devnet.make_round().unwrap());
        let (mut urls, mut tasks) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            tasks.push(tokio::spawn(Arc::new(devnet.node(node).unwrap()).serve(listener)));
        }
        Self { devnet, urls, tasks }
    }

    fn client(&self) -> Client {
        let mut config = ClientConfig::new("development", self.urls.iter().cloned());
        config.timeout = PATIENCE;
        Client::new(&config).unwrap()
    }

    fn node(&self) -> Arc<Node> {
        Arc::clone(&self.client().nodes()[0])
    }

    fn set(&self, faults: &str) {
        self.devnet.set_faults(faults.parse().unwrap());
    }

    /// Sends a command while these faults are on; what the client says, and whether it then waits or is mined.
    async fn send(&self, faults: &str, nonce: &str) -> (Result<Said, Trouble>, bool) {
        let command = command(nonce);
        self.set(faults);
        let said =
            self.node().send(ZERO, std::slice::from_ref(&command)).await.map_err(|error| error.trouble);
        self.set("none");
        (said, self.devnet.read(|network| network.knows(ZERO, &command.hash)))
    }

    async fn control(&self, method: reqwest::Method, path: &str) -> (u16, String) {
        let answer = reqwest::Client::new()
            .request(method, format!("{}/devnet{path}", self.urls[0]))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn post(&self, path: &str) -> Value {
        let (status, text) = self.control(reqwest::Method::POST, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn command(nonce: &str) -> Command {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Anchor { creation_time: i64::try_from(since.as_secs()).unwrap(), nonce, ..Anchor::default() }.sign()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_says_of_each_fault_what_it_is_and_whether_it_may_have_been_done() {
    let served = Served::start(1, 1).await;
    for (name, is_done) in [
        ("http-500", false),
        ("http-502", false),
        ("http-503", false),
        ("reset", false),
        ("lost-answer", true),
        ("no-answer", true),
        ("cut-answer", true),
        ("truncated", true),
        ("html", true),
        ("huge", true),
    ] {
        let (said, is_known) = served.send(&format!("{name}=100%,hang=20s"), name).await;
        assert_eq!(is_known, is_done, "{name}: {said:?}");
        match (name, said) {
            ("http-500", Ok(Said::Unclear(text))) => assert!(text.contains("Something went wrong"), "{text}"),
            ("http-502", Err(Trouble::Status { status: 502, .. })) => {}
            ("http-503", Err(Trouble::Status { status: 503, .. })) => {}
            ("reset" | "lost-answer", Err(Trouble::Broken(_))) => {}
            ("cut-answer", Err(Trouble::Broken(_))) => {}
            ("no-answer", Err(Trouble::Timeout(PATIENCE))) => {}
            ("truncated" | "html", Err(Trouble::Malformed(_))) => {}
            ("huge", Err(Trouble::TooLarge(_) | Trouble::Timeout(_))) => {}
            (_, other) => panic!("{name}: {other:?}"),
        }
        let (said, _) = served.send("none", name).await;
        assert!(matches!(said, Ok(Said::Accepted(_))), "{name}: the same command again: {said:?}");
    }
    let happened = served.devnet.happened().into_iter().filter(|(_, count)| *count > 0).count();
    assert_eq!(happened, 10, "each of them, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_another_name_is_taken_by_its_contents() {
    let served = Served::start(1, 1).await;
    let (said, is_known) = served.send("content-type=100%", "1").await;
    // Whether a client insists on the type is its own affair; it must not be taken for something else.
    assert!(is_known && matches!(said, Ok(Said::Accepted(_)) | Err(Trouble::Malformed(_))), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_slow_answers_are_waited_for_up_to_the_deadline() {
    let served = Served::start(1, 1).await;
    for (faults, at_least) in [("delay=100%,pause=50ms", 50), ("slow=100%,pause=5ms", 50)] {
        let begun = Instant::now();
        let (said, _) = served.send(faults, faults).await;
        assert!(matches!(said, Ok(Said::Accepted(_))), "{faults}: {said:?}");
        assert!(begun.elapsed() >= Duration::from_millis(at_least), "{faults}: {:?}", begun.elapsed());
    }
    for faults in ["delay=100%,pause=5s", "slow=100%,pause=500ms"] {
        let (said, is_known) = served.send(faults, faults).await;
        assert!(is_known && matches!(said, Err(Trouble::Timeout(PATIENCE))), "{faults}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_may_be_forgotten_held_to_be_hopeless_stuck_or_taken_twice() {
    let served = Served::start(1, 1).await;
    let client = served.client();
    let found =
        async |command: &Command| client.poll(ZERO, &[command.hash], 0).await.unwrap().remove(&command.hash);
    let mut keys = Vec::new();
    for faults in ["lost-command=100%", "bad-list=100%", "stuck=100%"] {
        let command = command(faults);
        served.set(faults);
        let said = client.send(ZERO, std::slice::from_ref(&command)).await.unwrap();
        assert_eq!(said, Said::Accepted(vec![command.hash]), "{faults}");
        keys.push(command);
    }
    served.set("none");
    (0..4).for_each(|_| served.devnet.make_round().unwrap());
    let results =
        client.poll(ZERO, &keys.iter().map(|command| command.hash).collect::<Vec<_>>(), 0).await.unwrap();
    assert_eq!(results.len(), 1, "only of the hopeless one there is a result, and that is made up");
    assert!(matches!(&results[&keys[1].hash], Found::MadeUp(_)));
    // Again: the forgotten one is new, the hopeless one refused in one way or the other, the stuck one waits.
    let again = async |command: &Command| client.send(ZERO, std::slice::from_ref(command)).await.unwrap();
    assert_eq!(again(&keys[0]).await, Said::Accepted(vec![keys[0].hash]));
    assert!(!matches!(again(&keys[1]).await, Said::Accepted(_)));
    assert_eq!(again(&keys[2]).await, Said::Accepted(vec![keys[2].hash]));
    (0..4).for_each(|_| served.devnet.make_round().unwrap());
    assert!(matches!(found(&keys[0]).await, Some(Found::Mined(_))));
    assert!(found(&keys[2]).await.is_none());
    // Mined, and taken again all the same; there is one of it.
    let height = served.devnet.read(|network| network.find(ZERO, &keys[0].hash));
    assert!(!matches!(again(&keys[0]).await, Said::Accepted(_)));
    served.set("taken-again=100%");
    assert_eq!(again(&keys[0]).await, Said::Accepted(vec![keys[0].hash]));
    (0..4).for_each(|_| served.devnet.make_round().unwrap());
    assert_eq!(served.devnet.read(|network| network.find(ZERO, &keys[0].hash)), height);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_goes_on_with_another_node_where_one_is_down() {
    let served = Served::start(3, 1).await;
    let client = served.client();
    assert_eq!(client.cut().await.unwrap().height, 60);
    served.devnet.set_down(true);
    let error = served.node().cut().await.unwrap_err();
    assert!(matches!(error.trouble, Trouble::Broken(_)), "{error}");
    served.devnet.make_round().unwrap();
    assert_eq!(client.cut().await.unwrap().height, 80);
    served.devnet.set_down(false);
    served.devnet.make_round().unwrap();
    assert_eq!(served.node().cut().await.unwrap().height, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_comes_on_command_over_http_too() {
    let served = Served::start(2, 1).await;
    let client = served.client();
    let command = command("on command");
    client.send(ZERO, std::slice::from_ref(&command)).await.unwrap();
    (0..3).for_each(|_| served.devnet.make_round().unwrap());
    let mined = client.poll(ZERO, &[command.hash], 0).await.unwrap().remove(&command.hash);
    let Some(Found::Mined(mined)) = mined else { panic!("{mined:?}") };
    let before = client.cut().await.unwrap();
    let state = served.post("/reorganize?chain=0&depth=3&commands=lost").await;
    assert_eq!(state["nodes"][1]["height"], before.height + 20);
    assert!(client.poll(ZERO, &[command.hash], 0).await.unwrap().is_empty());
    let orphan = client.header(ZERO, mined.block).await.unwrap().expect("an orphan is found by its hash");
    assert_ne!(
        served.devnet.read(|network| network.header_at(ZERO, orphan.height).unwrap().hash),
        mined.block
    );
    let old = before.hashes[&ZERO].hash;
    assert_eq!(served.devnet.branch(ZERO, None, &old).unwrap().len(), 7);
    assert_eq!(served.post("/partition?groups=0/1").await["nodes"][0]["group"], 1);
    served.post("/round").await;
    let state = served.post("/heal").await;
    assert_ne!(state["nodes"][0]["cut"], state["nodes"][1]["cut"], "equally heavy: the next block decides");
    let state = served.post("/round").await;
    assert_eq!(state["nodes"][0]["cut"], state["nodes"][1]["cut"]);
    assert_eq!(served.post("/lag?rounds=2").await["nodes"][0]["lag"], 2);
    assert_eq!(served.post("/down").await["nodes"][0]["down"], true);
    assert_eq!(served.post("/up").await["nodes"][0]["down"], false);
    let key = Hash([7; 32]);
    served.post(&format!("/bad-list?chain=0&key={key}")).await;
    assert_eq!(served.devnet.poll(ZERO, &[key], 0).len(), 1);
    served.post("/lose-mempool").await;
    assert_eq!(served.devnet.poll(ZERO, &[key], 0).len(), 1);
    served.post("/restart").await;
    assert_eq!(served.devnet.poll(ZERO, &[key], 0).len(), 0);
    let held = async || client.balance(ZERO, "anchor").await.unwrap().unwrap().text;
    assert_eq!(held().await, "99.99999925");
    served.post("/coins?account=anchor&amount=0.00000075").await;
    assert_eq!(held().await, "100");
    served.post("/faults?set=real,pause=5ms").await;
    assert_eq!(served.devnet.faults(), "orphans=2.6%,pause=5ms".parse::<Faults>().unwrap());
    let (_, text) = served.control(reqwest::Method::GET, "/faults").await;
    assert_eq!(text, r#"{"faults":"orphans=2.6%,pause=5ms","happened":{}}"#);
    assert_eq!(served.control(reqwest::Method::GET, "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_make_no_sense_are_refused_with_what_would() {
    let served = Served::start(2, 1).await;
    for (path, status, why) in [
        ("/reorganize?depth=3", 400, "chain is missing"),
        ("/reorganize?chain=0", 400, "depth is missing"),
        ("/reorganize?chain=x&depth=1", 400, "chain"),
        ("/reorganize?chain=20&depth=1", 400, "no chain 20"),
        ("/reorganize?chain=99999999999&depth=1", 400, "no chain"),
        ("/reorganize?chain=0&depth=0", 400, "1 at least"),
        ("/reorganize?chain=0&depth=4", 400, "so many are not kept"),
        ("/reorganize?chain=0&depth=1&commands=eaten", 400, "wait, again or lost"),
        ("/partition?groups=", 400, "such as 0,1/2"),
        ("/partition?groups=0/2", 400, "no node 2"),
        ("/partition?groups=0,0", 400, "twice"),
        ("/faults", 400, "set is missing"),
        ("/faults?set=orphans=x", 400, "0% to 100%"),
        ("/bad-list?chain=0&key=x", 400, "key=x"),
        ("/coins?amount=1", 400, "account is missing"),
        ("/coins?account=anchor", 400, "amount is missing"),
        ("/coins?account=anchor&amount=-1", 400, "at most 12 places"),
        ("/coins?account=nobody&amount=1", 400, "no account \"nobody\""),
        ("/nothing", 404, ""),
    ] {
        let (found, text) = served.control(reqwest::Method::POST, path).await;
        assert!(found == status && text.contains(why), "{path}: {found} {text}");
    }
    assert_eq!(served.control(reqwest::Method::GET, "/heal").await.0, 405);
    // Under all faults at once these paths answer.
    served.set("http-500=100%,reset=100%");
    assert_eq!(served.control(reqwest::Method::GET, "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_spoils_the_same_answers() {
    let history = async |seed| {
        let served = Served::start(1, seed).await;
        served.set("http-500=20%,lost-answer=20%,html=20%");
        let node = served.node();
        let mut history = Vec::new();
        for nonce in 0..30 {
            let said = node.send(ZERO, &[command(&nonce.to_string())]).await;
            history.push(match said {
                Ok(Said::Accepted(_)) => "taken",
                Ok(_) => "unclear",
                Err(error) if matches!(error.trouble, Trouble::Broken(_)) => "broken",
                Err(_) => "nonsense",
            });
        }
        history
    };
    let first = history(4).await;
    assert_eq!(first, history(4).await);
    assert_ne!(first, history(5).await);
}
