//! Whether a block is below the tip, on a chain that forks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chainweb::client::{Branches, Trouble};
use chainweb::encoding::encode;
use chainweb::{ChainId, Hash, Header, Version};
use serde_json::Value;

use super::server::{Act, Asked, Server};

const ZERO: ChainId = ChainId(0);

/// A node that knows all blocks of some forks, and has one of them as its tip.
#[derive(Default)]
struct Forks {
    headers: HashMap<Hash, Header>,
    tip: Option<Header>,
    /// Headers in a page.
    limit: usize,
    /// Whether it leaves one header of a page out.
    skips: bool,
    /// The lowest height that it still has.
    pruned_below: u64,
}

impl Forks {
    fn learn(&mut self, branch: &[Header]) {
        self.headers.extend(branch.iter().map(|header| (header.hash, header.clone())));
        self.tip = branch.last().cloned();
    }

    fn answer(&self, asked: &Asked) -> Act {
        let tip = self.tip.as_ref().unwrap();
        if asked.path.ends_with("/cut") {
            return Act::json(format!(
                "{{\"hashes\":{{\"0\":{{\"height\":{0},\"hash\":\"{1}\"}}}},\"weight\":\"{2}\",\"height\":{0},\"instance\":\"development\"}}",
                tip.height,
                tip.hash,
                "A".repeat(43)
            ));
        }
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        if !path.ends_with("/branch") {
            let hash = path.rsplit('/').next().unwrap().parse().unwrap();
            return match self.kept(&hash) {
                Some(header) => Act::Answer(200, "application/octet-stream", header.encode()),
                None => Act::unknown_hash(),
            };
        }
        let query: HashMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let number =
            |name, default| query.get(name).map_or(default, |text: &&str| text.parse::<u64>().unwrap());
        let (least, most) = (number("minheight", 0), number("maxheight", u64::MAX));
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let bounds = |side: &str| serde_json::from_value::<Vec<Hash>>(body[side].clone()).unwrap();
        let mut excluded: Vec<Hash> = bounds("lower").iter().flat_map(|hash| self.ancestors(*hash)).collect();
        excluded.sort_unstable();
        let [upper] = bounds("upper")[..] else { panic!("one upper bound") };
        if self.kept(&upper).is_none() {
            return Act::unknown_hash();
        }
        let items = self.ancestors(upper).into_iter().filter(|hash| excluded.binary_search(hash).is_err());
        let mut items: Vec<&Header> = items.map(|hash| &self.headers[&hash]).collect();
        items.retain(|header| (least..=most).contains(&header.height));
        items.truncate(self.limit);
        if self.skips && items.len() > 2 {
            items.remove(1);
        }
        let items: Vec<String> =
            items.iter().map(|header| format!("\"{}\"", encode(&header.encode()))).collect();
        Act::json(format!("{{\"limit\":{},\"items\":[{}],\"next\":null}}", items.len(), items.join(",")))
    }

    fn kept(&self, hash: &Hash) -> Option<&Header> {
        self.headers.get(hash).filter(|header| header.height >= self.pruned_below)
    }

    /// The block and its ancestors, the highest first.
    fn ancestors(&self, hash: Hash) -> Vec<Hash> {
        let known = std::iter::successors(self.kept(&hash), |header| self.kept(&header.parent));
        known.map(|header| header.hash).collect()
    }
}

/// Two branches by height, up to these heights, that are the same up to a height.
fn fork(common: u64, first: u64, second: u64) -> (Vec<Header>, Vec<Header>) {
    let genesis = Header::genesis(Version::by_name("development").unwrap(), ZERO, Hash([7; 32])).unwrap();
    let grown = |to: u64, nonce: u64| {
        let mut branch = vec![genesis.clone()];
        for height in 1..=to {
            let parent = &branch[branch.len() - 1];
            let nonce = if height > common { nonce } else { 0 };
            let mut header = Header { parent: parent.hash, height, nonce, ..parent.clone() };
            header.hash = header.compute_hash();
            branch.push(header);
        }
        branch
    };
    (grown(first, 1), grown(second, 2))
}

fn block(branch: &[Header], height: usize) -> (u64, Hash) {
    (branch[height].height, branch[height].hash)
}

async fn serve(forks: Forks) -> (Server, Arc<Mutex<Forks>>) {
    let forks = Arc::new(Mutex::new(forks));
    let told = Arc::clone(&forks);
    (Server::start(move |asked| told.lock().unwrap().answer(asked)).await, forks)
}

#[tokio::test]
async fn a_block_is_below_the_tip_until_its_branch_loses() {
    let (old, new) = fork(20, 30, 32);
    let (server, forks) = serve(Forks { limit: 7, ..Forks::default() }).await;
    let (node, branches) = (server.node(), Branches::default());
    forks.lock().unwrap().learn(&old);
    let wanted = [block(&new, 25), block(&old, 25), block(&old, 3)];
    let (tip, first) = branches.look(&node, ZERO, &wanted).await.unwrap();
    assert_eq!((tip.hash, first), (block(&old, 30).1, Some(1)), "the other branch is not there");
    // The other branch wins, ten blocks deep.
    forks.lock().unwrap().learn(&new);
    let (tip, first) = branches.look(&node, ZERO, &wanted[1..]).await.unwrap();
    assert_eq!((tip.hash, first), (block(&new, 32).1, Some(1)), "only what is below both");
    let (_, first) = branches.look(&node, ZERO, &wanted).await.unwrap();
    assert_eq!(first, Some(0));
    // And loses again, to a tip that is lower.
    forks.lock().unwrap().learn(&old);
    let (tip, first) = branches.look(&node, ZERO, &wanted).await.unwrap();
    assert_eq!((tip.height, first), (30, Some(1)));
    // Nothing is above the tip, and no other block at a height.
    let beyond = [(31, Hash([1; 32])), (25, Hash([1; 32]))];
    assert_eq!(branches.look(&node, ZERO, &beyond).await.unwrap().1, None);
}

#[tokio::test]
async fn looking_again_fetches_only_what_is_new() {
    let (network, longer) = fork(60, 40, 60);
    let (server, forks) = serve(Forks { limit: 360, ..Forks::default() }).await;
    let (node, branches) = (server.node(), Branches::default());
    forks.lock().unwrap().learn(&network);
    let wanted = [block(&network, 10)];
    assert_eq!(branches.look(&node, ZERO, &wanted).await.unwrap().1, Some(0));
    let paths = |server: &Server, from: usize| {
        let last = |path: String| path.rsplit('/').next().unwrap().split('?').next().unwrap().len();
        server.asked().split_off(from).into_iter().map(|asked| last(asked.path)).collect::<Vec<_>>()
    };
    // The cut, the tip's header (43 characters), and a page of its branch.
    assert_eq!(paths(&server, 0), [3, 43, 6]);
    assert_eq!(branches.look(&node, ZERO, &wanted).await.unwrap().1, Some(0));
    assert_eq!(paths(&server, 3), [3]);
    forks.lock().unwrap().learn(&longer);
    assert_eq!(branches.look(&node, ZERO, &wanted).await.unwrap().1, Some(0));
    assert_eq!(paths(&server, 4), [3, 6]);
    // What the page had was the new blocks only.
    let body: Value = serde_json::from_str(&server.asked()[5].body).unwrap();
    assert_eq!(body["lower"][0], block(&network, 40).1.to_string());
}

#[tokio::test]
async fn the_time_of_a_block_below_a_tip_is_fetched_once() {
    let (old, new) = fork(20, 30, 32);
    let (server, forks) = serve(Forks { limit: 360, ..Forks::default() }).await;
    let (node, branches) = (server.node(), Branches::default());
    forks.lock().unwrap().learn(&old);
    let (tip, _) = branches.look(&node, ZERO, &[]).await.unwrap();
    let asked = server.asked().len();
    for height in [10, 30, 29, 25, 10] {
        let time = branches.time_at(&node, &tip, height).await.unwrap();
        assert_eq!(time, Some(old[height as usize].creation_time), "{height}");
    }
    assert_eq!(server.asked().len(), asked + 1, "one page down to the lowest");
    assert_eq!(branches.time_at(&node, &tip, 31).await.unwrap(), None, "it is above the tip");
    // A tip that another one took the place of is still answered for, and the newer one is kept.
    forks.lock().unwrap().learn(&new);
    let (newer, _) = branches.look(&node, ZERO, &[]).await.unwrap();
    assert_eq!(branches.time_at(&node, &tip, 25).await.unwrap(), Some(old[25].creation_time));
    let asked = server.asked().len();
    assert_eq!(branches.time_at(&node, &newer, 25).await.unwrap(), Some(new[25].creation_time));
    assert_eq!(server.asked().len(), asked, "it was walked when the tip was looked at");
}

#[tokio::test]
async fn every_block_of_either_branch_is_told_apart_wherever_the_fork_is() {
    for common in [0, 1, 5, 11, 12] {
        let (old, new) = fork(common, 12, 13);
        let (server, forks) = serve(Forks { limit: 4, ..Forks::default() }).await;
        let (node, branches) = (server.node(), Branches::default());
        for _ in 0..2 {
            for (now, other) in [(&old, &new), (&new, &old)] {
                forks.lock().unwrap().learn(now);
                for height in (0..=12).rev() {
                    let found = branches.look(&node, ZERO, &[block(now, height)]).await.unwrap().1;
                    assert_eq!(found, Some(0), "fork at {common}, height {height}");
                    let found = branches.look(&node, ZERO, &[block(other, height)]).await.unwrap().1;
                    assert_eq!(found.is_some(), height as u64 <= common, "fork at {common}, height {height}");
                }
            }
        }
    }
}

#[tokio::test]
async fn headers_that_do_not_follow_one_another_are_nonsense() {
    let network = fork(20, 20, 1).0;
    let (server, forks) = serve(Forks { limit: 360, skips: true, ..Forks::default() }).await;
    forks.lock().unwrap().learn(&network);
    let error = Branches::default().look(&server.node(), ZERO, &[block(&network, 10)]).await.unwrap_err();
    assert!(matches!(&error.trouble, Trouble::Malformed(why) if why.contains("at height")), "{error}");
}

#[tokio::test]
async fn blocks_that_a_node_no_longer_has_are_not_below_its_tip() {
    let network = fork(20, 20, 1).0;
    let (server, forks) = serve(Forks { limit: 360, pruned_below: 8, ..Forks::default() }).await;
    forks.lock().unwrap().learn(&network);
    let branches = Branches::default();
    let node = server.node();
    assert_eq!(branches.look(&node, ZERO, &[block(&network, 8)]).await.unwrap().1, Some(0));
    assert_eq!(branches.look(&node, ZERO, &[block(&network, 7)]).await.unwrap().1, None);
    let error = branches.look(&node, ChainId(1), &[]).await.unwrap_err();
    assert!(error.to_string().contains("it has no chain 1"), "{error}");
}

#[tokio::test]
async fn what_is_thousands_of_blocks_deep_is_found_in_one_question() {
    let (network, other) = fork(100, 3_000, 3_000);
    let (server, forks) = serve(Forks { limit: 360, ..Forks::default() }).await;
    forks.lock().unwrap().learn(&network);
    let (node, branches) = (server.node(), Branches::default());
    let wanted = [block(&other, 500), block(&network, 500)];
    assert_eq!(branches.look(&node, ZERO, &wanted).await.unwrap().1, Some(1));
    assert_eq!(server.asked().len(), 4, "the cut, the tip, and for each block what is there instead");
    // Less deep, it is walked down to.
    assert_eq!(branches.look(&node, ZERO, &[block(&network, 1_500)]).await.unwrap().1, Some(0));
    assert_eq!(server.asked().len(), 4 + 1 + 5, "1,500 headers in pages of 360");
}
