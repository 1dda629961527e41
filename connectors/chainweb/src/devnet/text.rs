//! Answers about blocks as a node writes them: members and chains in its own order.

use sha2::{Digest as _, Sha512_256};

use crate::cut::Cut;
use crate::encoding::encode;
use crate::graph::ChainId;
use crate::header::Header;

use super::NODE_VERSION;
use super::network::Network;

/// Chains in the order in which a node's hash maps have them; chains above 19 follow ascending.
const NODE_ORDER: [u32; 20] = [16, 9, 0, 6, 4, 1, 2, 18, 14, 10, 3, 12, 5, 17, 11, 8, 7, 15, 13, 19];

/// Sorts chains as a node has them.
fn in_node_order(chains: impl IntoIterator<Item = ChainId>) -> Vec<ChainId> {
    let mut chains: Vec<_> = chains.into_iter().collect();
    chains.sort_by_key(|chain| {
        let place = NODE_ORDER.iter().position(|id| *id == chain.0);
        place.map_or((1, u64::from(chain.0)), |place| (0, place as u64))
    });
    chains
}

/// Writes `items` between commas.
pub(super) fn joined(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(",")
}

/// The identifier of a cut: a hash over the hashes of its blocks, in the node's order.
pub(super) fn cut_id(cut: &Cut) -> String {
    let mut hasher = Sha512_256::new();
    for chain in in_node_order(cut.hashes.keys().copied()) {
        hasher.update(cut.hashes[&chain].hash.0);
    }
    encode(&hasher.finalize())
}

/// A cut as the node answers it.
pub(super) fn cut(cut: &Cut) -> String {
    let hashes = in_node_order(cut.hashes.keys().copied()).into_iter().map(|chain| {
        let block = &cut.hashes[&chain];
        format!("\"{chain}\":{{\"height\":{},\"hash\":\"{}\"}}", block.height, block.hash)
    });
    let (weight, id) = (encode(&cut.weight.to_le_bytes()), cut.id.as_deref().unwrap_or_default());
    format!(
        "{{\"hashes\":{{{}}},\"origin\":null,\"weight\":\"{weight}\",\"height\":{},\"instance\":\"{}\",\"id\":\"{id}\"}}",
        joined(hashes),
        cut.height,
        cut.instance
    )
}

/// The object form of a header.
pub(super) fn header_object(header: &Header, network: &str) -> String {
    let chains = in_node_order(header.adjacents.iter().map(|(chain, _)| *chain));
    let adjacents = chains.into_iter().map(|chain| {
        let hash = header.adjacent(chain).unwrap_or_default();
        format!("\"{chain}\":\"{hash}\"")
    });
    let Header {
        nonce, creation_time, parent, payload_hash, chain, height, epoch_start, flags, hash, ..
    } = header;
    let (target, weight) = (encode(&header.target.to_le_bytes()), encode(&header.weight.to_le_bytes()));
    format!(
        "{{\"nonce\":\"{nonce}\",\"creationTime\":{creation_time},\"parent\":\"{parent}\",\"adjacents\":{{{}}},\
         \"target\":\"{target}\",\"payloadHash\":\"{payload_hash}\",\"chainId\":{chain},\"weight\":\"{weight}\",\
         \"height\":{height},\"chainwebVersion\":\"{network}\",\"epochStart\":{epoch_start},\
         \"featureFlags\":{flags},\"hash\":\"{hash}\"}}",
        joined(adjacents)
    )
}

/// What `/info` answers.
pub(super) fn info(network: &Network) -> String {
    let (graph, version) = (network.graph(), network.version());
    let chains = in_node_order(graph.chains());
    let names = joined(chains.iter().map(|chain| format!("\"{chain}\"")));
    let genesis = joined(chains.iter().map(|chain| format!("[\"{chain}\",0]")));
    let rows = joined(chains.iter().map(|chain| {
        let neighbours = in_node_order(graph.neighbours(*chain).iter().copied());
        format!("[{chain},[{}]]", joined(neighbours.iter().map(ChainId::to_string)))
    }));
    format!(
        "{{\"nodeApiVersion\":\"0.0\",\"nodeBlockDelay\":{},\"nodeChains\":[{names}],\"nodeGenesisHeights\":[{genesis}],\
         \"nodeGraphHistory\":[[0,[{rows}]]],\"nodeHistoricalChains\":[[0,[{rows}]]],\"nodeLatestBehaviorHeight\":1,\
         \"nodeNumberOfChains\":{},\"nodePackageVersion\":\"{NODE_VERSION}\",\"nodeVersion\":\"{}\"}}",
        version.block_delay,
        graph.order(),
        version.name
    )
}
