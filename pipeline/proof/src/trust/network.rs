//! The blocks of one network that a trust file makes trusted, and why another is not.

use std::collections::{BTreeMap, HashMap, HashSet};

use chainweb::braid::Braid;
use chainweb::header::Header;
use chainweb::version::Version;

use super::{Forward, MIN_DEPTH, Standing, TrustError, TrustedNetwork};
use crate::chain;
use crate::hash::Hash;
use crate::headers::Headers;
use crate::report::BlockName;

/// Why a block is not trusted, where nothing better can be said.
pub(super) const NOT_TRUSTED: &str = "the trust file trusts neither this block nor one that descends from it";

/// A chain and a height.
type Place = (u32, u64);

/// What is trusted of one network.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// Listed blocks, and what they descend from as far as the headers say.
    trusted: HashSet<Hash>,
    /// The trusted blocks whose chain and height the headers tell.
    places: HashMap<Place, Hash>,
    /// Trusted blocks whose own header is not given, by the header of a child: older ones could be linked by them.
    ends: BTreeMap<Place, Hash>,
    /// Whether a listed block stands without a header that would link it.
    has_bare: bool,
    followed: Vec<Followed>,
}

/// Blocks that go on from a cut.
#[derive(Clone, Debug)]
struct Followed {
    braid: Braid,
    /// How many times the work of the cut has to be above a block.
    depth: u64,
    /// The height of the cut on each chain.
    cut: HashMap<u32, u64>,
}

/// What the entries of a trust file say of one network, before it is linked.
#[derive(Default)]
pub(super) struct Draft<'f> {
    blocks: Vec<Hash>,
    headers: Vec<Header>,
    /// With the path of the entry.
    forwards: Vec<(String, &'f Forward)>,
}

impl<'f> Draft<'f> {
    /// Adds one entry; `entry` is its path.
    pub(super) fn add(&mut self, network: &'f TrustedNetwork, entry: &str) -> Result<(), TrustError> {
        self.blocks.extend_from_slice(&network.blocks);
        for (at, header) in network.headers.iter().enumerate() {
            let header = chain::header_of(&network.name, header)
                .map_err(|why| TrustError::new(format!("{entry}.headers[{at}]"), why))?;
            self.headers.push(header);
        }
        if let Some(forward) = &network.forward {
            self.blocks.extend_from_slice(&forward.from);
            self.forwards.push((format!("{entry}.forward"), forward));
        }
        Ok(())
    }

    /// Links blocks by the headers of the file and those beside it.
    pub(super) fn link(self, name: &str, beside: &Headers) -> Result<Network, TrustError> {
        let version = Version::by_name(name);
        let beside = version.into_iter().flat_map(|version| beside.of(version));
        let headers: HashMap<Hash, &Header> =
            self.headers.iter().chain(beside).map(|header| (Hash::new(header.hash.0), header)).collect();
        let mut network = Network::default();
        network.link_back(&self.blocks, &headers);
        for (entry, forward) in &self.forwards {
            let version =
                version.ok_or_else(|| TrustError::new(entry, "the rules of this network are not known"))?;
            network.follow(version, entry, forward, &headers)?;
        }
        Ok(network)
    }
}

impl Network {
    /// Trusts the listed blocks and all that they descend from: a header's hash covers those of its parents.
    fn link_back(&mut self, listed: &[Hash], headers: &HashMap<Hash, &Header>) {
        let mut next = listed.to_vec();
        while let Some(block) = next.pop() {
            let is_new = self.trusted.insert(block);
            let Some(header) = headers.get(&block).filter(|_| is_new) else { continue };
            self.place((header.chain.0, header.height), block);
            for (chain, parent) in parents(header) {
                if !headers.contains_key(&parent) {
                    let place = (chain, header.height.saturating_sub(1));
                    self.place(place, parent);
                    let end = self.ends.entry(place).or_insert(parent);
                    *end = parent.min(*end);
                }
                next.push(parent);
            }
        }
        let linked: HashSet<&Hash> = self.ends.values().collect();
        self.has_bare = listed.iter().any(|block| !headers.contains_key(block) && !linked.contains(block));
    }

    /// Notes where a trusted block is. Of two at one place, both listed, one is enough to say that a third is another.
    fn place(&mut self, place: Place, block: Hash) {
        let known = self.places.entry(place).or_insert(block);
        *known = block.min(*known);
    }

    /// Follows a cut by headers of blocks that are not known to be others than the trusted ones of their height.
    fn follow(
        &mut self,
        version: &Version,
        entry: &str,
        forward: &Forward,
        headers: &HashMap<Hash, &Header>,
    ) -> Result<(), TrustError> {
        if forward.depth < MIN_DEPTH {
            let why = format!("is {}, and less than {MIN_DEPTH} is too cheap to forge", forward.depth);
            return Err(TrustError::new(format!("{entry}.depth"), why));
        }
        let mut cut = Vec::with_capacity(forward.from.len());
        for (at, block) in forward.from.iter().enumerate() {
            let header = headers.get(block);
            let absent =
                || TrustError::new(format!("{entry}.from[{at}]"), "its header is not among the headers");
            cut.push(*header.ok_or_else(absent)?);
        }
        let is_other = |header: &Header| {
            let has_trusted = self.places.contains_key(&(header.chain.0, header.height));
            has_trusted && !self.trusted.contains(&Hash::new(header.hash.0))
        };
        let above: Vec<&Header> = headers.values().copied().filter(|header| !is_other(header)).collect();
        let braid = Braid::follow(version, &cut, &above).map_err(|error| TrustError::new(entry, error))?;
        let cut = cut.iter().map(|header| (header.chain.0, header.height)).collect();
        self.followed.push(Followed { braid, depth: forward.depth, cut });
        Ok(())
    }

    pub(super) fn trusts(&self, block: &Hash) -> bool {
        self.trusted.contains(block) || self.work_above(block).is_ok()
    }

    pub(super) fn standing(&self, block: &BlockName) -> Standing {
        if self.trusted.contains(&block.hash) {
            return Standing::Trusted;
        }
        match self.work_above(&block.hash) {
            Ok(work) => Standing::TrustedForWork(work),
            Err(Some((work, depth))) => Standing::Untrusted(format!(
                "the headers above it have {work} times the work of the cut that they go on from, and the trust \
                 file asks for {depth} times"
            )),
            Err(None) => Standing::Untrusted(self.missing(block)),
        }
    }

    /// The work above a block that goes on from a cut, in units of the cut's; else, where it is too little, how much
    /// there is and how much is asked for.
    fn work_above(&self, block: &Hash) -> Result<u64, Option<(u64, u64)>> {
        let mut short = None;
        for Followed { braid, depth, .. } in &self.followed {
            match braid.work_above(&chainweb::Hash(*block.as_bytes())) {
                Some(work) if work >= *depth => return Ok(work),
                Some(work) => short = short.max(Some((work, *depth))),
                None => {}
            }
        }
        Err(short)
    }

    /// Why a block is not trusted that no header links to trusted ones.
    fn missing(&self, block: &BlockName) -> String {
        let place = (block.chain, block.height);
        if let Some(other) = self.places.get(&place) {
            let (chain, height) = place;
            return format!("the trusted block of chain {chain} at height {height} is another: {other}");
        }
        if let Some(reason) = self.followed.iter().find_map(|followed| followed.missing(place)) {
            return reason;
        }
        let above = || self.ends.iter().filter(|((_, height), _)| *height > block.height);
        let nearest = |((chain, height), _): &(&Place, &Hash)| (*chain != block.chain, *height);
        if let Some(((chain, height), end)) = above().min_by_key(nearest) {
            return format!(
                "the header of {end} (chain {chain}, height {height}) is missing, which trusted blocks descend from"
            );
        }
        match self.has_bare {
            true => format!("{NOT_TRUSTED}, as far as the headers that are given say"),
            false => NOT_TRUSTED.to_owned(),
        }
    }
}

impl Followed {
    /// Why the headers that go on from the cut do not reach a block above it.
    fn missing(&self, (chain, height): Place) -> Option<String> {
        self.cut.get(&chain).filter(|cut| height > **cut)?;
        Some(match self.braid.gap() {
            Some(gap) if gap.height <= height => format!(
                "the header of {} (chain {}, height {}) is missing, without which the headers that go on from the \
                 trust file's cut cannot be checked",
                gap.hash, gap.chain, gap.height
            ),
            _ => "its header is not among those that go on from the trust file's cut".to_owned(),
        })
    }
}

/// The chains and hashes of a block's parent and adjacent parents.
fn parents(header: &Header) -> impl Iterator<Item = (u32, Hash)> {
    let parent = (header.chain.0, Hash::new(header.parent.0));
    let adjacents = header.adjacents.iter().map(|(chain, hash)| (chain.0, Hash::new(hash.0)));
    std::iter::once(parent).chain(adjacents)
}
