//! Several nodes, some of them not as they should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chainweb::client::{Client, Found, Said, Trouble};
use chainweb::devnet::Devnet;
use chainweb::{ChainId, Hash};
use tokio::net::TcpListener;

use super::server::{Act, Server, client};
use super::support::{Anchor, config};

const ZERO: ChainId = ChainId(0);

/// A development network on a free port, its blocks made by hand.
pub struct Served {
    pub devnet: Arc<Devnet>,
    pub url: String,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn serve(rounds: usize) -> Served {
    serve_as(config(), rounds).await
}

pub async fn serve_as(config: chainweb::devnet::Config, rounds: usize) -> Served {
    let devnet = Arc::new(Devnet::start(config).unwrap());
    (0..rounds).for_each(|_| devnet.make_round().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    Served { task: tokio::spawn(Arc::clone(&devnet).serve(listener)), devnet, url }
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub fn command(nonce: &str) -> chainweb::pact::Command {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Anchor { creation_time: i64::try_from(since.as_secs()).unwrap(), nonce, ..Anchor::default() }.sign()
}

async fn asked_first(client: &Client) -> String {
    client.ask(|node| async move { Ok(node.address().to_owned()) }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_command_is_seen_from_outside() {
    let served = serve(3).await;
    let client = client(std::slice::from_ref(&served.url));
    assert_eq!(client.info().await.unwrap().package_version, "2.32.0");
    let command = command("life");
    for _ in 0..2 {
        assert_eq!(
            client.send(ZERO, std::slice::from_ref(&command)).await,
            Ok(Said::Accepted(vec![command.hash]))
        );
    }
    assert!(client.poll(ZERO, &[command.hash], 0).await.unwrap().is_empty(), "it waits for a block");
    assert_eq!(client.spv(ZERO, command.hash, ZERO).await, Ok(None));
    (0..3).for_each(|_| served.devnet.make_round().unwrap());
    let found = client.poll(ZERO, &[command.hash, Hash([1; 32])], 0).await.unwrap();
    let Found::Mined(mined) = &found[&command.hash] else { panic!("made up") };
    assert_eq!(found.len(), 1);
    let depth = client.cut().await.unwrap().hashes[&ZERO].height - mined.height;
    assert_eq!(client.poll(ZERO, &[command.hash], depth).await.unwrap().len(), 1);
    assert_eq!(client.poll(ZERO, &[command.hash], depth + 1).await.unwrap().len(), 0, "not so deep yet");
    let proof = client.spv(ZERO, command.hash, ZERO).await.unwrap().unwrap();
    assert_eq!(proof.root(), mined.block);
    let header = client.header(ZERO, mined.block).await.unwrap().unwrap();
    let payload = client.payload_with_outputs(ZERO, header.payload_hash).await.unwrap().unwrap();
    assert_eq!(payload.transactions[0].0, command.to_transaction().into_bytes());
    let again = client.send(ZERO, &[command]).await.unwrap();
    assert!(matches!(again, Said::Refused(_) | Said::Unclear(_)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_passed_over_and_asked_again_later() {
    let (dead, served) = (nobody().await, serve(3).await);
    let client = client(&[dead.clone(), served.url.clone()]);
    for _ in 0..20 {
        assert_eq!(client.cut().await.unwrap().height, 60);
    }
    assert_eq!(asked_first(&client).await, served.url);
    // It comes back on its old address; after its rest it is the first again.
    let other = Arc::clone(&served.devnet);
    let listener = TcpListener::bind(dead.trim_start_matches("http://")).await.unwrap();
    let task = tokio::spawn(other.serve(listener));
    let begun = Instant::now();
    while asked_first(&client).await != dead {
        assert!(begun.elapsed() < Duration::from_secs(30), "{dead} is never asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_is_asked_last() {
    let (behind, ahead) = (serve(3).await, serve(12).await);
    let client = client(&[behind.url.clone(), ahead.url.clone()]);
    assert_eq!(client.cut().await.unwrap().height, 240);
    // Two blocks of each chain are no reason.
    let (near, ahead) = (serve(10).await, serve(12).await);
    let client = super::server::client(&[near.url.clone(), ahead.url.clone()]);
    assert_eq!(client.cut().await.unwrap().height, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_holds_up_no_more_than_one_question() {
    let (slow, served) = (Server::start(|_| Act::Hang).await, serve(3).await);
    let client = client(&[slow.url(), served.url.clone()]);
    client.cut().await.unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        client.cut().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(550), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_talks_nonsense_is_passed_over_and_so_is_one_of_another_network() {
    let served = serve(3).await;
    let garbage = Server::start(|_| Act::json("{]")).await;
    let foreign = Server::start(|_| Act::json(r#"{"nodeVersion":"mainnet01","nodeApiVersion":"0.0"}"#)).await;
    let client = client(&[garbage.url(), foreign.url(), served.url.clone()]);
    for _ in 0..5 {
        assert_eq!(client.cut().await.unwrap().height, 60);
    }
    let looked = client.look().await;
    let outcomes: Vec<_> =
        looked.into_iter().map(|(_, outcome)| outcome.map_err(|error| error.trouble)).collect();
    assert!(matches!(&outcomes[0], Err(Trouble::Malformed(_))), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(Trouble::Network { .. })), "{outcomes:?}");
    assert_eq!(outcomes[2].as_ref().unwrap().height, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_to_commands_is_no_reason_to_leave_a_node_and_others_are_asked_too() {
    let (served, is_asked) = (serve(3).await, Arc::new(AtomicBool::new(false)));
    let (asked, behind) = (Arc::clone(&is_asked), served.devnet.cut());
    let cut = serde_json::to_string(&behind).unwrap();
    let swallowing = Server::start(move |request| match &*request.path {
        path if path.ends_with("/send") => {
            asked.store(true, Ordering::SeqCst);
            Act::text(500, "Something went wrong")
        }
        path if path.ends_with("/cut") => Act::json(cut.clone()),
        _ => Act::json(r#"{"nodeVersion":"development","nodeApiVersion":"0.0"}"#),
    })
    .await;
    let both = client(&[swallowing.url(), served.url.clone()]);
    let command = command("both");
    assert_eq!(both.send(ZERO, std::slice::from_ref(&command)).await, Ok(Said::Accepted(vec![command.hash])));
    assert!(is_asked.load(Ordering::SeqCst));
    assert_eq!(asked_first(&both).await, swallowing.url(), "it is not ill");
    let said = swallowing.client().send(ZERO, &[command]).await.unwrap();
    assert!(matches!(&said, Said::Unclear(why) if why.contains("Something went wrong")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_node_answers_each_is_named() {
    let nodes = [nobody().await, nobody().await];
    let client = client(&nodes);
    let text = client.cut().await.unwrap_err().to_string();
    assert!(nodes.iter().all(|node| text.contains(node)), "{text}");
    assert!(client.send(ZERO, &[command("x")]).await.is_err(), "nothing was sent, so nothing is unknown");
}
