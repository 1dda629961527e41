//! Recorded questions about blocks.

use std::time::Duration;

use chainweb::client::{Bounds, Next, Page, Trouble};
use chainweb::encoding::encode;
use chainweb::header::HeaderObject;
use chainweb::{ChainId, Hash, Header};
use serde_json::{Value, json};

use super::replay::{
    NO_CALL, OTHERWISE, Reason, Replay, UNWRITABLE, accept, assert_status, body, is_get, is_post, of_chain,
    request, status, text,
};

/// Asks for what a path names.
pub async fn ask(replay: &mut Replay, recording: &Value, path: &str) -> Result<(), Reason> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "info"] => info(replay, recording).await,
        ["cut"] => cut(replay, recording).await,
        ["header", "updates"] => updates(replay, recording).await,
        ["chain", _, "header" | "hash"] => collection(replay, recording).await,
        // A node takes the second one for a hash, unless it is asked as the client asks.
        ["chain", _, "header" | "hash", "branch"] => branch(replay, recording).await,
        ["chain", _, "header", _] => header(replay, recording).await,
        ["chain", _, "payload", "batch"] | ["chain", _, "payload", "outputs", "batch"] => {
            payloads(replay, recording).await
        }
        ["chain", _, "payload", _] | ["chain", _, "payload", _, "outputs"] => {
            payload(replay, recording).await
        }
        _ => Err(NO_CALL),
    }
}

async fn info(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    is_get(recording).then_some(()).ok_or(UNWRITABLE)?;
    match replay.node(recording).info().await {
        Ok(info) => {
            assert_eq!(
                (&*info.network, &*info.package_version, info.chains.len()),
                ("development", "2.32.0", 20)
            );
        }
        Err(error) => assert_status(recording, &error),
    }
    replay.reads("info");
    Ok(())
}

async fn cut(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let is_ours = is_get(recording) && accept(recording).is_empty();
    let has_query = text(&recording["request"]["path"]).contains('?');
    (is_ours && !has_query).then_some(()).ok_or(UNWRITABLE)?;
    match replay.node(recording).cut().await {
        Ok(cut) => {
            let recorded: Value = serde_json::from_str(body(recording)).unwrap();
            assert_eq!((recorded["height"].as_u64(), cut.hashes.len()), (Some(cut.height), 20));
        }
        Err(error) => assert_status(recording, &error),
    }
    replay.reads("cut");
    Ok(())
}

async fn header(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let (chain, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    let hash: Hash = rest.split_once('/').unwrap().1.parse().map_err(|_| UNWRITABLE)?;
    is_get(recording).then_some(()).ok_or(UNWRITABLE)?;
    // Without a header the encoding makes no difference.
    let is_same = accept(recording) == "application/octet-stream"
        || body(recording).is_empty()
        || is_unknown(recording);
    is_same.then_some(()).ok_or(OTHERWISE)?;
    match replay.node(recording).header(chain, &hash).await {
        Ok(Some(header)) => assert_eq!((header.hash, status(recording)), (hash, 200)),
        Ok(None) => assert!(is_unknown(recording), "{}", recording["what"]),
        Err(error) => assert_status(recording, &error),
    }
    replay.reads("header");
    Ok(())
}

fn is_unknown(recording: &Value) -> bool {
    body(recording).contains("key not found")
}

async fn collection(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let (chain, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    let (kind, query) = rest.split_once('?').unwrap_or((rest, ""));
    is_get(recording).then_some(()).ok_or(UNWRITABLE)?;
    let bounds = bounds(query).ok_or(UNWRITABLE)?;
    ["", "application/json"].contains(&accept(recording)).then_some(()).ok_or(OTHERWISE)?;
    let node = replay.node(recording);
    if kind == "hash" {
        assert_page(recording, node.hashes(chain, &bounds).await.map(|page| page.map(hashes)));
    } else {
        assert_page(recording, node.headers(chain, &bounds).await.map(|page| page.map(headers)));
    }
    replay.reads(if kind == "hash" { "page of hashes" } else { "page of headers" });
    Ok(())
}

async fn branch(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let (chain, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    let (kind, query) = rest.split_once('?').unwrap_or((rest, ""));
    is_post(recording).then_some(()).ok_or(UNWRITABLE)?;
    ["", "application/json"].contains(&accept(recording)).then_some(()).ok_or(OTHERWISE)?;
    let sent = request(recording);
    sent.is_object().then_some(()).ok_or(UNWRITABLE)?;
    let side = |side: &str| match &sent[side] {
        Value::Null => Ok(Vec::new()),
        list => serde_json::from_value::<Vec<Hash>>(list.clone()).map_err(|_| UNWRITABLE),
    };
    let (lower, upper, bounds) = (side("lower")?, side("upper")?, bounds(query).ok_or(UNWRITABLE)?);
    // The client names both sides always, which to a node is the same.
    let mut named = recording.clone();
    named["request"]["body"] = json!({ "lower": lower, "upper": upper }).to_string().into();
    let node = replay.node(&named);
    if kind.starts_with("hash") {
        let page = node.hash_branch(chain, &lower, &upper, &bounds).await;
        assert_page(recording, page.map(|page| page.map(hashes)));
    } else {
        let page = node.branch(chain, &lower, &upper, &bounds).await;
        assert_page(recording, page.map(|page| page.map(headers)));
    }
    replay.reads(if kind.starts_with("hash") { "branch of hashes" } else { "branch of headers" });
    Ok(())
}

fn headers(page: Page<Header>) -> (Vec<String>, Option<Next>) {
    (page.items.iter().map(|header| encode(&header.encode())).collect(), page.next)
}

fn hashes(page: Page<Hash>) -> (Vec<String>, Option<Next>) {
    (page.items.iter().map(Hash::to_string).collect(), page.next)
}

type Texts = (Vec<String>, Option<Next>);

fn assert_page(recording: &Value, page: Result<Option<Texts>, chainweb::client::NodeError>) {
    let what = &recording["what"];
    match page {
        Ok(Some((items, next))) => {
            let recorded: Value = serde_json::from_str(body(recording)).unwrap();
            assert_eq!(recorded["items"], json!(items), "{what}");
            let kind = |next: Next| if next.is_inclusive { "inclusive" } else { "exclusive" };
            let next = next.map(|next| format!("{}:{}", kind(next), next.hash));
            assert_eq!(recorded["next"], json!(next), "{what}");
        }
        Ok(None) => assert!(is_unknown(recording), "{what}"),
        Err(error) => assert_status(recording, &error),
    }
}

/// The bounds of a recorded query, if the client would write them so.
fn bounds(query: &str) -> Option<Bounds> {
    let mut bounds = Bounds::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        match name {
            "limit" => bounds.limit = Some(value.parse().ok()?),
            "minheight" => bounds.min_height = Some(value.parse().ok()?),
            "maxheight" => bounds.max_height = Some(value.parse().ok()?),
            "next" => {
                let (kind, hash) = value.split_once(':')?;
                bounds.next = Some(Next { hash: hash.parse().ok()?, is_inclusive: kind == "inclusive" });
            }
            _ => return None,
        }
    }
    Some(bounds)
}

async fn payload(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let (chain, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    is_get(recording).then_some(()).ok_or(UNWRITABLE)?;
    let hash: Result<Hash, _> = rest.split('/').nth(1).unwrap().split('?').next().unwrap().parse();
    let hash = hash.map_err(|_| UNWRITABLE)?;
    let is_same = accept(recording) == "application/octet-stream" || is_unknown(recording);
    (is_same && !rest.contains('?')).then_some(()).ok_or(OTHERWISE)?;
    let node = replay.node(recording);
    let found = if rest.ends_with("/outputs") {
        node.payload_with_outputs(chain, &hash)
            .await
            .unwrap()
            .map(|payload| (payload.payload_hash, payload.encode()))
    } else {
        node.payload(chain, &hash).await.unwrap().map(|payload| (payload.payload_hash, payload.encode()))
    };
    match found {
        Some((found, bytes)) => {
            let recorded = text(&recording["response"]["bodyBase64"]);
            assert_eq!((found, bytes.len()), (hash, recorded.trim_end_matches('=').len() * 3 / 4));
        }
        None => assert!(is_unknown(recording)),
    }
    replay.reads("payload");
    Ok(())
}

async fn payloads(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let (chain, rest) = of_chain(recording).ok_or(UNWRITABLE)?;
    is_post(recording).then_some(()).ok_or(UNWRITABLE)?;
    let sent = request(recording);
    (!sent.is_object() && accept(recording).is_empty()).then_some(()).ok_or(OTHERWISE)?;
    let wanted: Vec<Hash> = serde_json::from_value(sent).map_err(|_| UNWRITABLE)?;
    (!wanted.is_empty()).then_some(()).ok_or(UNWRITABLE)?;
    let node = replay.node(recording);
    let found: Result<Vec<Value>, _> = if rest.contains("outputs") {
        node.payloads_with_outputs(chain, &wanted)
            .await
            .map(|found| found.values().map(|payload| json!(payload)).collect())
    } else {
        node.payloads(chain, &wanted)
            .await
            .map(|found| found.values().map(|payload| json!(payload)).collect())
    };
    match found {
        Ok(found) => {
            let mut recorded: Vec<Value> = serde_json::from_str(body(recording)).unwrap();
            recorded.dedup();
            assert!(found.len() == recorded.len() && recorded.iter().all(|payload| found.contains(payload)));
        }
        Err(error) => assert_status(recording, &error),
    }
    replay.reads("payloads");
    Ok(())
}

async fn updates(replay: &mut Replay, recording: &Value) -> Result<(), Reason> {
    let mut updates = match replay.node(recording).updates(Duration::from_secs(5)).await.unwrap() {
        Some(updates) => updates,
        None => {
            assert_eq!(status(recording), 404);
            replay.reads("no stream");
            return Ok(());
        }
    };
    let events: Vec<Value> = body(recording)
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events.len(), 20);
    for event in events {
        let update = updates.next().await.unwrap();
        let object = HeaderObject::new(&update.header, "development");
        assert_eq!(json!(object), event["header"]);
        assert_eq!(update.transactions, event["txCount"]);
        assert!(ChainId(20) > update.header.chain);
        replay.reads("update");
    }
    let end = updates.next().await.unwrap_err().trouble;
    assert!(matches!(end, Trouble::Broken(_)), "{end}");
    Ok(())
}
