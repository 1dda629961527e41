//! Chainweb blocks: header bytes, the rules of known networks, and SPV proofs that end in a block.

use chainweb::graph::ChainId;
use chainweb::header::Header;
use chainweb::merkle::{Algorithm, MerkleProof};
use chainweb::version::Version;

use crate::fault::{Fault, Part};
use crate::hash::Hash;
use crate::receipt::Block;
use crate::report::BlockName;

/// A block whose header agrees with what the receipt says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedBlock {
    pub(crate) name: BlockName,
    /// Creation time in µs since 1970.
    pub(crate) created: i64,
    /// Whether the network is one whose rules are known; they are kept then.
    pub(crate) is_known: bool,
}

/// Checks a block of a receipt: header, hash, chain, height, network and the network's rules for one header.
pub(crate) fn check_block(block: &Block) -> Part<CheckedBlock> {
    let wrong = |member: &str, why: String| Fault::wrong(why).within(member).within("block");
    let header = decode(&block.header).map_err(|why| wrong("header", why))?;
    let (hash, chain) = (Hash::new(header.hash.0), header.chain.0);
    if hash != block.hash {
        return Err(wrong("hash", format!("is {}, and the header is of {hash}", block.hash)));
    }
    if u64::from(chain) != block.chain {
        return Err(wrong("chain", format!("is {}, and the header is of chain {chain}", block.chain)));
    }
    if header.height != block.height {
        return Err(wrong(
            "height",
            format!("is {}, and the header is of height {}", block.height, header.height),
        ));
    }
    let version = network(&block.network, &header).map_err(|why| wrong("network", why))?;
    if let Some(version) = version {
        check_rules(version, &header).map_err(|why| wrong("header", why))?;
    }
    let name = BlockName { network: block.network.clone(), chain, height: header.height, hash };
    Ok(CheckedBlock { name, created: header.creation_time, is_known: version.is_some() })
}

/// Checks a header of a trust file by itself: its hash, its network, the network's rules for one header.
pub(crate) fn header_of(name: &str, header: &[u8]) -> Result<Header, String> {
    let header = decode(header)?;
    if let Some(version) = network(name, &header)? {
        check_rules(version, &header)?;
    }
    Ok(header)
}

/// Checks a header of any known network by itself.
pub(crate) fn sound_header(header: &[u8]) -> Result<Header, String> {
    let header = decode(header)?;
    let version = Version::by_code(header.version)
        .ok_or_else(|| format!("is of a network with code {:#x}, which nobody knows", header.version))?;
    check_rules(version, &header)?;
    Ok(header)
}

/// The block hash at which an SPV proof of this subject ends. The position in the object means nothing.
pub(crate) fn run_spv(object: &[u8], input: &[u8]) -> Result<Hash, String> {
    let proof = MerkleProof::decode(object).map_err(|error| error.to_string())?;
    Ok(Hash::new(proof.root_of_input(Algorithm::Sha512t256, input).0))
}

/// Reads a header whose last 32 bytes are the hash of the others.
fn decode(bytes: &[u8]) -> Result<Header, String> {
    let header = Header::decode(bytes).map_err(|error| error.to_string())?;
    match header.compute_hash() {
        hash if hash == header.hash => Ok(header),
        hash => Err(format!("hashes to {hash}, and says {}", header.hash)),
    }
}

/// The network of this name, which has to be the header's; `None` where nobody knows either.
fn network(name: &str, header: &Header) -> Result<Option<&'static Version>, String> {
    match (Version::by_name(name), Version::by_code(header.version)) {
        (Some(named), _) if named.code == header.version => Ok(Some(named)),
        (_, Some(coded)) => Err(format!("is {name:?}, and the header is of {:?}", coded.name)),
        (Some(_), None) => {
            Err(format!("is {name:?}, and the header is of a network with code {:#x}", header.version))
        }
        (None, None) => Ok(None),
    }
}

/// Checks the rules that one header shows: its neighbours are those of its graph, in order, and the proof of work.
fn check_rules(version: &Version, header: &Header) -> Result<(), String> {
    let graph = version.adjacency_graph(header.chain, header.height);
    if !graph.contains(header.chain) {
        return Err(format!("there is no chain {} at height {}", header.chain.0, header.height));
    }
    let adjacents = header.adjacents.iter().map(|(chain, _)| *chain);
    if !adjacents.eq(graph.neighbours(header.chain).iter().copied()) {
        let chains: Vec<ChainId> = header.adjacents.iter().map(|(chain, _)| *chain).collect();
        return Err(format!("its neighbours {chains:?} are not those of chain {}", header.chain.0));
    }
    let is_first = header.is_genesis() && version.genesis_height(header.chain) == Some(header.height);
    if version.has_pow && !is_first && !header.meets_target() {
        return Err("its proof of work does not meet its target".to_owned());
    }
    Ok(())
}
