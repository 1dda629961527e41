//! What the client says of its questions and of its nodes, for who watches it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use chainweb::client::Client;
use serde_json::Value;
use tracing::subscriber::DefaultGuard;

use super::server::{Act, Server, config};

/// Collects the events of this thread.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<u8>>>);

impl Write for Watch {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Watch {
    fn start() -> (Self, DefaultGuard) {
        let watch = Self::default();
        let writer = watch.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        (watch, tracing::subscriber::set_default(subscriber))
    }

    /// All events of the client since the last look.
    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["target"].as_str().unwrap().starts_with("chainweb::client")).collect()
    }
}

const CUT: &str = r#"{"hashes":{},"origin":null,"weight":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","height":0,"instance":"development"}"#;

#[tokio::test]
async fn each_question_is_one_event_with_node_kind_status_and_time() {
    let (watch, _guard) = Watch::start();
    let server = Server::start(|asked| match &*asked.path {
        "/info" => Act::json(r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#),
        path if path.ends_with("/cut") => Act::json(CUT),
        path if path.ends_with("/updates") => Act::Answer(404, "text/plain", Vec::new()),
        _ => Act::Raw(Vec::new()),
    })
    .await;
    let node = server.node();
    node.info().await.unwrap();
    node.cut().await.unwrap();
    node.header(chainweb::ChainId(7), &chainweb::Hash([1; 32])).await.unwrap_err();
    assert!(node.updates(std::time::Duration::from_secs(5)).await.unwrap().is_none());
    let events = watch.events();
    let kinds: Vec<_> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["info", "cut", "header", "header/updates", "info"], "the last to tell why it was 404");
    for event in &events {
        assert_eq!((&event["level"], &event["node"]), (&"DEBUG".into(), &server.url().into()), "{event}");
        assert!(event["elapsed"].is_string(), "{event}");
        assert_eq!(event["status"].is_number(), event["what"] != "header", "{event}");
    }
    assert_eq!((&events[0]["status"], &events[3]["status"]), (&200.into(), &404.into()));
    assert!(events[2]["trouble"].as_str().unwrap().contains("broke"));
}

#[tokio::test]
async fn a_node_that_fails_and_comes_back_is_told_once_each_time() {
    let (watch, _guard) = Watch::start();
    let is_ill = Arc::new(AtomicBool::new(false));
    let ill = Arc::clone(&is_ill);
    let server = Server::start(move |_| match ill.load(Ordering::SeqCst) {
        true => Act::text(503, "draining"),
        false => Act::json(CUT),
    })
    .await;
    let client = Client::new(&config(&[server.url()])).unwrap();
    for ill in [false, true, false] {
        is_ill.store(ill, Ordering::SeqCst);
        for _ in 0..5 {
            assert_eq!(client.cut().await.is_err(), ill);
        }
        let events = watch.events();
        let (questions, changes): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| event["level"] == "DEBUG");
        assert_eq!(questions.len(), 5);
        let changes: Vec<_> =
            changes.iter().map(|event| (event["level"].as_str(), event["message"].as_str())).collect();
        match (ill, changes.as_slice()) {
            (true, [(Some("WARN"), Some("the node does not answer"))]) => {}
            (false, []) => {}
            (false, [(Some("INFO"), Some("the node answers again"))]) => {}
            other => panic!("{other:?}"),
        }
    }
}
