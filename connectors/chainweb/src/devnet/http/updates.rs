//! New blocks, pushed as server-sent events.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Weak};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::Devnet;
use super::response::{Answer, events};
use crate::devnet::network::Network;
use crate::devnet::text::joined;
use crate::encoding::encode;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

/// Blocks of a chain that are remembered as pushed, and most that are pushed at once: what a client is too slow for, it
/// does not get.
const REMEMBERED: usize = 64;

pub(super) async fn headers(State(devnet): State<Arc<Devnet>>, Path(network): Path<String>) -> Response {
    if network != devnet.network_name() {
        return Answer::empty(404).into_response();
    }
    let pushes = futures::stream::unfold(Follower::new(&devnet), |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), follower))
    });
    events(Body::from_stream(pushes))
}

/// Tells which blocks are new. It does not keep the network running.
struct Follower {
    devnet: Weak<Devnet>,
    rounds: watch::Receiver<u64>,
    pushed: BTreeMap<ChainId, VecDeque<Hash>>,
    waiting: VecDeque<String>,
}

impl Follower {
    fn new(devnet: &Arc<Devnet>) -> Self {
        let rounds = devnet.rounds();
        let mut follower = Self {
            devnet: Arc::downgrade(devnet),
            rounds,
            pushed: BTreeMap::new(),
            waiting: VecDeque::new(),
        };
        devnet.read(|network| follower.look(network)); // these were there before
        follower
    }

    /// The next event; `None` when the network has stopped.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            self.rounds.changed().await.ok()?;
            let devnet = self.devnet.upgrade()?;
            let mut new = devnet.read(|network| self.look(network));
            new.sort_by_key(|(header, _)| (header.creation_time, header.chain));
            let name = devnet.network_name();
            self.waiting.extend(new.iter().map(|(header, count)| event(header, *count, name)));
        }
    }

    /// Blocks that entered the cut since the last look, with their numbers of transactions.
    fn look(&mut self, network: &Network) -> Vec<(Header, usize)> {
        let mut all = Vec::new();
        for id in network.graph().chains() {
            let Some(chain) = network.chain(id) else { continue };
            let pushed = self.pushed.entry(id).or_default();
            let mut new = Vec::new();
            let mut block = Some(chain.tip());
            while let Some(found) = block
                && new.len() < REMEMBERED
                && !pushed.contains(&found.header.hash)
            {
                new.push((found.header.clone(), found.transactions.len()));
                block = chain.by_hash(&found.header.parent);
            }
            pushed.extend(new.iter().rev().map(|(header, _)| header.hash));
            pushed.drain(..pushed.len().saturating_sub(REMEMBERED));
            all.extend(new);
        }
        all
    }
}

/// An event as a node writes it: members of the header in alphabetical order, numbers of 256 bits in hex.
fn event(header: &Header, transactions: usize, network: &str) -> String {
    let Header {
        creation_time, epoch_start, flags, hash, height, nonce, parent, payload_hash, chain, ..
    } = header;
    let adjacents: BTreeMap<String, Hash> =
        header.adjacents.iter().map(|(chain, hash)| (chain.to_string(), *hash)).collect();
    let adjacents = joined(adjacents.into_iter().map(|(chain, hash)| format!("\"{chain}\":\"{hash}\"")));
    let (target, weight) = (header.target.to_le_bytes(), header.weight.to_le_bytes());
    format!(
        "event:BlockHeader\ndata:{{\"header\":{{\"adjacents\":{{{adjacents}}},\"chainId\":{chain},\
         \"chainwebVersion\":\"{network}\",\"creationTime\":{creation_time},\"epochStart\":{epoch_start},\
         \"featureFlags\":{flags},\"hash\":\"{hash}\",\"height\":{height},\"nonce\":\"{nonce}\",\
         \"parent\":\"{parent}\",\"payloadHash\":\"{payload_hash}\",\"target\":\"{}\",\"weight\":\"{}\"}},\
         \"powHash\":\"{}\",\"target\":\"{}\",\"txCount\":{transactions}}}\n\n",
        encode(&target),
        encode(&weight),
        reversed_hex(header.pow_hash().0),
        reversed_hex(target)
    )
}

/// A number of 256 bits, little-endian, in hex with the highest digit first.
fn reversed_hex(mut bytes: [u8; 32]) -> String {
    bytes.reverse();
    hex::encode(bytes)
}
