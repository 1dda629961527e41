//! Cut, headers, hashes and payloads.

use std::cmp::Ordering;
use std::collections::HashSet;

use axum::http::Method;

use super::hashes::block_hash;
use super::request::{Encoding, json_body, negotiate};
use super::response::Answer;
use super::{Asked, Devnet};
use crate::devnet::block::Block;
use crate::devnet::chain::Chain;
use crate::devnet::json::Json;
use crate::devnet::network::Network;
use crate::devnet::text;
use crate::encoding::encode;
use crate::graph::ChainId;
use crate::hash::Hash;
use crate::header::Header;

/// Most headers in a page.
const MAX_HEADERS: u64 = 360;
/// Most hashes in a page.
const MAX_HASHES: u64 = 4096;
/// Most different bounds of a branch.
const MAX_BOUNDS: usize = 32;
/// Most payloads in a batch.
const MAX_PAYLOADS: usize = 1000;

pub(super) fn cut(devnet: &Devnet, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::GET)?;
    negotiate(asked.headers, &[Encoding::Json])?;
    let max_height = asked.query.number("maxheight")?;
    Ok(Answer::json(devnet.read(|network| text::cut(&network.cut(max_height)))))
}

pub(super) fn header(
    devnet: &Devnet,
    chain: ChainId,
    hash: &str,
    asked: &Asked<'_>,
) -> Result<Answer, Answer> {
    // The node parses the path before it looks at the method.
    let hash = block_hash(hash).map_err(Answer::unparsed)?;
    asked.only(&Method::GET)?;
    let encoding = negotiate(asked.headers, &[Encoding::Json, Encoding::Object, Encoding::Binary])?;
    let header = devnet.header(chain, &hash).ok_or_else(|| Answer::key_not_found(&hash.to_string()))?;
    Ok(match encoding {
        Encoding::Binary => Answer::ok(encoding, header.encode()),
        _ => Answer::ok(encoding, item(&header, encoding, devnet.network_name())),
    })
}

/// A header in a JSON answer.
fn item(header: &Header, encoding: Encoding, network: &str) -> String {
    match encoding {
        Encoding::Object => text::header_object(header, network),
        _ => format!("\"{}\"", encode(&header.encode())),
    }
}

pub(super) fn headers(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::GET)?;
    let encoding = negotiate(asked.headers, &[Encoding::Json, Encoding::Object])?;
    let page = Page::parse(asked, MAX_HEADERS)?;
    let write = |header: &Header| item(header, encoding, devnet.network_name());
    let body = devnet.read(|network| page.collection(network, chain, write))?;
    Ok(Answer::ok(encoding, body))
}

pub(super) fn hashes(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::GET)?;
    negotiate(asked.headers, &[Encoding::Json])?;
    let page = Page::parse(asked, MAX_HASHES)?;
    Ok(Answer::json(devnet.read(|network| page.collection(network, chain, quoted_hash))?))
}

pub(super) fn header_branch(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    let encoding = negotiate(asked.headers, &[Encoding::Json, Encoding::Object])?;
    let write = |header: &Header| item(header, encoding, devnet.network_name());
    Ok(Answer::ok(encoding, branch(devnet, chain, asked, MAX_HEADERS, write)?))
}

pub(super) fn hash_branch(devnet: &Devnet, chain: ChainId, asked: &Asked<'_>) -> Result<Answer, Answer> {
    asked.only(&Method::POST)?;
    negotiate(asked.headers, &[Encoding::Json])?;
    Ok(Answer::json(branch(devnet, chain, asked, MAX_HASHES, quoted_hash)?))
}

fn quoted_hash(header: &Header) -> String {
    format!("\"{}\"", header.hash)
}

fn branch(
    devnet: &Devnet,
    chain: ChainId,
    asked: &Asked<'_>,
    max: u64,
    write: impl Fn(&Header) -> String,
) -> Result<String, Answer> {
    let body = json_body(asked.headers, asked.body)?;
    let page = Page::parse(asked, max)?;
    let (lower, upper) = (bounds(&body, "lower")?, bounds(&body, "upper")?);
    devnet.read(|network| page.branch(network, chain, &lower, &upper, write))
}

/// The different hashes in a list of bounds.
fn bounds(body: &Json, side: &str) -> Result<HashSet<Hash>, Answer> {
    let list = match body.get(side) {
        None | Some(Json::Null) => return Ok(HashSet::new()),
        Some(Json::List(list)) => list,
        Some(other) => return Err(Answer::unparsed(other.mismatch(&format!("$.{side}"), "[]", "Array"))),
    };
    let hash = |(index, item): (usize, &Json)| {
        let path = format!("$.{side}[{index}]");
        block_hash(item.text(&path)?).map_err(|why| format!("Error in {path}: {why}"))
    };
    let hashes =
        list.iter().enumerate().map(hash).collect::<Result<HashSet<_>, _>>().map_err(Answer::unparsed)?;
    if hashes.len() > MAX_BOUNDS {
        let error =
            format!("\"{side} branch bound limit exceeded. Only {MAX_BOUNDS} values are supported.\"");
        return Err(Answer::unparsed(error));
    }
    Ok(hashes)
}

/// Where a page begins.
struct Next {
    hash: Hash,
    is_inclusive: bool,
}

/// Which part of a collection is asked for.
struct Page {
    limit: u64,
    next: Option<Next>,
    min_height: u64,
    max_height: u64,
}

impl Page {
    fn parse(asked: &Asked<'_>, max: u64) -> Result<Self, Answer> {
        let query = &asked.query;
        Ok(Self {
            limit: query.number("limit")?.unwrap_or(max).min(max),
            next: query.get("next").map(|text| next(&text)).transpose()?,
            min_height: query.number("minheight")?.unwrap_or(0),
            max_height: query.number("maxheight")?.unwrap_or(u64::MAX),
        })
    }

    /// The height and hash of the block that `next` names.
    fn place(&self, chain: &Chain) -> Result<Option<(u64, Hash)>, Answer> {
        let Some(Next { hash, .. }) = &self.next else { return Ok(None) };
        let block = chain.by_hash(hash).ok_or_else(|| Answer::key_not_found(&hash.to_string()))?;
        Ok(Some((block.header.height, *hash)))
    }

    /// Whether a block stands before the page, if it is in this order to the one that `next` names.
    fn skips(&self, order: Ordering) -> bool {
        let is_inclusive = self.next.as_ref().is_none_or(|next| next.is_inclusive);
        order == Ordering::Less || (order == Ordering::Equal && !is_inclusive)
    }

    /// A page of all blocks, ascending, those of forks too.
    fn collection(
        &self,
        network: &Network,
        chain: ChainId,
        write: impl Fn(&Header) -> String,
    ) -> Result<String, Answer> {
        let chain = network.chain(chain).ok_or_else(|| Answer::empty(404))?;
        let place = self.place(chain)?;
        let start = place.map_or(0, |(height, _)| height);
        let first = start.max(self.min_height).max(chain.first_height());
        let last = self.max_height.min(chain.last_height());
        let blocks = (first..=last).flat_map(|height| chain.all_at(height)).map(|block| &block.header);
        let is_before = |header: &&Header| {
            place.is_some_and(|place| self.skips((header.height, header.hash).cmp(&place)))
        };
        Ok(self.write(blocks.skip_while(is_before), IsOpen::Yes, write))
    }

    /// A page of the ancestors of `upper` that are none of `lower`, descending.
    fn branch(
        &self,
        network: &Network,
        chain: ChainId,
        lower: &HashSet<Hash>,
        upper: &HashSet<Hash>,
        write: impl Fn(&Header) -> String,
    ) -> Result<String, Answer> {
        let chain = network.chain(chain).ok_or_else(|| Answer::empty(404))?;
        if let Some(unknown) = upper.iter().find(|hash| chain.by_hash(hash).is_none()) {
            return Err(Answer::key_not_found(&unknown.to_string()));
        }
        let place = self.place(chain)?;
        let (lower, upper): (Vec<_>, Vec<_>) =
            (lower.iter().copied().collect(), upper.iter().copied().collect());
        let blocks = chain.branch(&lower, &upper).map(|block| &block.header);
        let is_before = |header: &&Header| {
            place.is_some_and(|place| self.skips(place.cmp(&(header.height, header.hash))))
        };
        let blocks = blocks.skip_while(is_before).take_while(|header| header.height >= self.min_height);
        Ok(self.write(blocks.filter(|header| header.height <= self.max_height), IsOpen::No, write))
    }

    fn write<'a>(
        &self,
        mut blocks: impl Iterator<Item = &'a Header>,
        is_open: IsOpen,
        write: impl Fn(&Header) -> String,
    ) -> String {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let items: Vec<&Header> = blocks.by_ref().take(limit).collect();
        let next = match (blocks.next(), items.last(), is_open) {
            (Some(next), _, _) => format!("\"inclusive:{}\"", next.hash),
            (None, Some(last), IsOpen::Yes) => format!("\"exclusive:{}\"", last.hash),
            _ => "null".to_owned(),
        };
        let count = items.len();
        format!(
            "{{\"limit\":{count},\"items\":[{}],\"next\":{next}}}",
            text::joined(items.into_iter().map(write))
        )
    }
}

/// Whether a collection grows at its end, so that its last page names where to go on.
enum IsOpen {
    Yes,
    No,
}

fn next(text: &str) -> Result<Next, Answer> {
    let wrong = |why: String| Answer::unparsed(format!("Error parsing query parameter next failed: {why}"));
    let (kind, hash) = text
        .split_once(':')
        .ok_or_else(|| wrong(format!("TextFormatException \"missing ':' in next item: \\\"{text}\\\".\"")))?;
    let is_inclusive = match kind {
        "inclusive" => true,
        "exclusive" => false,
        _ => return Err(wrong(format!("TextFormatException \"unrecognized next item: \\\"{text}\\\".\""))),
    };
    Ok(Next { hash: block_hash(hash).map_err(wrong)?, is_inclusive })
}

/// How much of a payload is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    Transactions,
    Outputs,
}

impl With {
    fn json(self, network: &Network, block: &Block) -> String {
        let payload = network.payload_of(block);
        let json = match self {
            Self::Transactions => serde_json::to_string(&payload.without_outputs()),
            Self::Outputs => serde_json::to_string(&payload),
        };
        json.expect("byte strings and hashes always serialize")
    }

    fn binary(self, network: &Network, block: &Block) -> Vec<u8> {
        let payload = network.payload_of(block);
        match self {
            Self::Transactions => payload.without_outputs().encode(),
            Self::Outputs => payload.encode(),
        }
    }
}

const PAYLOAD: &[Encoding] = &[Encoding::Json, Encoding::Binary];

pub(super) fn payload(devnet: &Devnet, hash: &str, asked: &Asked<'_>, with: With) -> Result<Answer, Answer> {
    let hash = block_hash(hash).map_err(Answer::unparsed)?;
    asked.only(&Method::GET)?;
    let encoding = negotiate(asked.headers, PAYLOAD)?;
    let height = asked.query.number("height")?;
    let body = devnet.read(|network| {
        let block = network.block_of_payload(&hash)?;
        let is_there = height.is_none_or(|height| height == block.header.height);
        is_there.then(|| match encoding {
            Encoding::Binary => with.binary(network, block),
            _ => with.json(network, block).into_bytes(),
        })
    });
    body.map(|body| Answer::ok(encoding, body)).ok_or_else(|| Answer::key_not_found(&hash.to_string()))
}

pub(super) fn payloads(devnet: &Devnet, asked: &Asked<'_>, with: With) -> Result<Answer, Answer> {
    asked.only(&Method::POST)?;
    let body = json_body(asked.headers, asked.body)?;
    let encoding = negotiate(asked.headers, PAYLOAD)?;
    let wanted = batch(&body).map_err(Answer::unparsed)?;
    let body = devnet.read(|network| {
        let blocks = wanted.iter().filter_map(|(hash, height)| {
            let block = network.block_of_payload(hash)?;
            height.is_none_or(|height| height == block.header.height).then_some(block)
        });
        match encoding {
            Encoding::Binary => {
                let payloads: Vec<_> = blocks.map(|block| with.binary(network, block)).collect();
                [&(payloads.len() as u64).to_be_bytes()[..], &payloads.concat()].concat()
            }
            _ => format!("[{}]", text::joined(blocks.map(|block| with.json(network, block)))).into_bytes(),
        }
    });
    Ok(Answer::ok(encoding, body))
}

/// The hashes of a batch, each with its height where one is given. A shorter list of heights cuts the batch.
fn batch(body: &Json) -> Result<Vec<(Hash, Option<u64>)>, String> {
    let (list, heights) = match body {
        Json::List(list) => (list, None),
        Json::Map(_) => match (body.member("$", "hashes")?, body.member("$", "heights")?) {
            (Json::List(list), Json::List(heights)) => (list, Some(heights)),
            (Json::List(_), other) => return Err(other.mismatch("$.heights", "[]", "Array")),
            (other, _) => return Err(other.mismatch("$.hashes", "[]", "Array")),
        },
        other => return Err(other.mismatch("$", "[]", "Array")),
    };
    let mut wanted = Vec::new();
    for (index, hash) in list.iter().take(MAX_PAYLOADS).enumerate() {
        let height = match heights.map(|heights| heights.get(index)) {
            None => None,
            Some(None) => break,
            Some(Some(Json::Number(height))) => Some(
                height.parse().map_err(|_| format!("Error in $.heights[{index}]: not a height: {height}"))?,
            ),
            Some(Some(other)) => {
                return Err(other.mismatch(&format!("$.heights[{index}]"), "Natural", "Number"));
            }
        };
        wanted.push((block_hash(hash.text("$")?).map_err(|why| format!("Error in $: {why}"))?, height));
    }
    Ok(wanted)
}
