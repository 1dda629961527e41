//! The rules a header has to keep: alone, and against its parent and adjacent parents.

use crate::header::Header;
use crate::uint::{U256, Wide};
use crate::version::{KNOWN_FORKS, Version, WINDOW};

/// A rule that a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The hash is not that of the other fields.
    #[error("the hash is not that of the other fields")]
    IncorrectHash,
    /// The proof-of-work hash is above the target.
    #[error("the proof of work does not meet the target")]
    IncorrectPow,
    /// The header is of another network.
    #[error("the header is of another network")]
    WrongNetwork,
    /// The network has no such chain, or not at this height.
    #[error("the network has no such chain at this height")]
    UnknownChain,
    /// Genesis height without the genesis parent, or the other way round.
    #[error("a genesis block without its parent, or its parent at another height")]
    IncorrectGenesisParent,
    /// A genesis block with another target.
    #[error("the target is not that of the genesis block")]
    IncorrectGenesisTarget,
    /// The adjacent chains are not those of the graph, ascending.
    #[error("the adjacent chains are not those of the graph")]
    AdjacentChainMismatch,
    /// A higher fork number than anyone here knows.
    #[error("the fork number is unknown")]
    UnknownForkNumber,
    /// The parent is another block.
    #[error("the parent is another block")]
    MissingParent,
    /// An adjacent parent is another block.
    #[error("an adjacent parent is another block")]
    MissingAdjacentParent,
    /// An adjacent parent is on another chain than its place says.
    #[error("an adjacent parent is on another chain")]
    AdjacentParentChainMismatch,
    /// An adjacent parent is of another network.
    #[error("an adjacent parent is of another network")]
    InvalidAdjacentVersion,
    /// The parent is of another network.
    #[error("the parent is of another network")]
    VersionMismatch,
    /// The parent is on another chain.
    #[error("the parent is on another chain")]
    ChainMismatch,
    /// Not one above the parent.
    #[error("the height is not one above the parent's")]
    IncorrectHeight,
    /// Not the parent's weight and the difficulty.
    #[error("the weight is not the parent's and the difficulty")]
    IncorrectWeight,
    /// Not the target that history demands.
    #[error("the target is not the one that history demands")]
    IncorrectTarget,
    /// Not the epoch start that history demands, or after the creation time.
    #[error("the epoch start is not the one that history demands")]
    IncorrectEpoch,
    /// Not later than the parent and, by today's rule, the adjacent parents.
    #[error("not created after its parents")]
    CreatedBeforeParent,
    /// Fork number or votes do not follow from the parents'.
    #[error("the fork state does not follow from the parents'")]
    InvalidForkState,
    /// An adjacent parent is not at the parent's height, or refers to another block than the parent's parent.
    #[error("an adjacent parent is not beside the parent")]
    Unbraided,
}

/// Checks what a header shows alone: hash, network, chain, adjacent chains, proof of work, genesis.
///
/// Whether it lies in the future is left to the caller, who has a clock.
pub fn check_alone(header: &Header, version: &Version) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut unless = |holds: bool, failure| {
        if !holds {
            failures.push(failure);
        }
    };
    unless(header.verify_hash(), Failure::IncorrectHash);
    unless(header.version == version.code, Failure::WrongNetwork);
    let genesis = version.genesis_era(header.chain).filter(|era| era.from <= header.height);
    unless(genesis.is_some(), Failure::UnknownChain);
    let is_genesis = genesis.is_some_and(|era| era.from == header.height);
    unless(is_genesis == header.is_genesis(), Failure::IncorrectGenesisParent);
    if is_genesis {
        unless(
            genesis.is_some_and(|era| era.genesis_target == header.target),
            Failure::IncorrectGenesisTarget,
        );
    } else {
        unless(!version.has_pow || header.meets_target(), Failure::IncorrectPow);
    }
    let graph = version.adjacency_graph(header.chain, header.height);
    let chains = header.adjacents.iter().map(|(chain, _)| chain);
    unless(chains.eq(graph.neighbours(header.chain)), Failure::AdjacentChainMismatch);
    let is_free = header.height < version.legacy.free_flags;
    unless(is_free || header.fork_number() <= KNOWN_FORKS, Failure::UnknownForkNumber);
    failures
}

/// Checks a header that is not a genesis block against its parent and its adjacent parents, and alone.
///
/// `adjacents` are in the order of [`Header::adjacents`].
pub fn check(header: &Header, version: &Version, parent: &Header, adjacents: &[&Header]) -> Vec<Failure> {
    let mut failures = check_alone(header, version);
    failures.extend(check_step(header, version, parent, adjacents));
    failures
}

/// Checks a header against its parent and its adjacent parents only.
fn check_step(header: &Header, version: &Version, parent: &Header, adjacents: &[&Header]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut unless = |holds: bool, failure| {
        if !holds && !failures.contains(&failure) {
            failures.push(failure);
        }
    };
    unless(header.parent == parent.hash, Failure::MissingParent);
    unless(header.version == parent.version, Failure::VersionMismatch);
    unless(header.chain == parent.chain, Failure::ChainMismatch);
    unless(header.adjacents.len() == adjacents.len(), Failure::MissingAdjacentParent);
    for ((chain, hash), adjacent) in header.adjacents.iter().zip(adjacents) {
        unless(*hash == adjacent.hash, Failure::MissingAdjacentParent);
        unless(*chain == adjacent.chain, Failure::AdjacentParentChainMismatch);
        unless(header.version == adjacent.version, Failure::InvalidAdjacentVersion);
    }
    unless(parent.height.checked_add(1) == Some(header.height), Failure::IncorrectHeight);
    let weight = difficulty(header.target).and_then(|own| parent.weight.checked_add(own));
    unless(weight == Some(header.weight), Failure::IncorrectWeight);
    let target = next_target(version, parent, adjacents, header.creation_time);
    unless(target == Some(header.target), Failure::IncorrectTarget);
    unless(is_epoch_right(header, version, parent), Failure::IncorrectEpoch);
    let is_parent_only = header.height < version.legacy.parent_only;
    let is_later = |other: &Header| header.creation_time > other.creation_time;
    unless(is_later(parent), Failure::CreatedBeforeParent);
    unless(is_parent_only || adjacents.iter().all(|other| is_later(other)), Failure::CreatedBeforeParent);
    unless(is_fork_state_right(header, version, parent, adjacents), Failure::InvalidForkState);
    failures
}

/// The difficulty of a target: (2^256 − 1) / target, rounded down. `None` for the target 0.
pub fn difficulty(target: U256) -> Option<U256> {
    U256::MAX.checked_div(target)
}

/// The number of blocks of the epoch that a parent is in. The first window has ten short epochs.
fn window(parent: &Header) -> u64 {
    if parent.height <= WINDOW { WINDOW / 10 } else { WINDOW }
}

/// Whether the block after `parent` begins an epoch.
fn is_last_in_epoch(parent: &Header) -> bool {
    parent.height.wrapping_add(1).is_multiple_of(window(parent))
}

/// The target of the block after `parent`, if it is created at `creation_time` (which matters to old rules only).
///
/// `None` where history is impossible: an epoch that starts after it ends, or a target of 0.
pub fn next_target(
    version: &Version,
    parent: &Header,
    adjacents: &[&Header],
    creation_time: i64,
) -> Option<U256> {
    let legacy = &version.legacy;
    let window = window(parent);
    let delay = version.block_delay;
    let is_emergency = parent.height < legacy.emergency_retarget
        && i128::from(creation_time) - i128::from(parent.epoch_start)
            > 5 * i128::from(WINDOW) * i128::from(delay);
    if !is_last_in_epoch(parent) && !is_emergency {
        return Some(parent.target);
    }
    let expected = delay.checked_mul(window)?;
    if parent.height.checked_add(1)? < legacy.parent_only {
        let is_by_block = parent.height < legacy.epoch_ends_at_block;
        let end = if is_by_block { creation_time } else { parent.creation_time };
        return legacy_target(parent.target, elapsed(parent.epoch_start, end)?, expected);
    }
    let mut sum = Wide::ZERO;
    for block in std::iter::once(&parent).chain(adjacents) {
        let product = Wide::product(block.target, elapsed(block.epoch_start, block.creation_time)?);
        sum = sum.wrapping_add(product.div_ceil(Wide::from(expected))?.narrow().unwrap_or(U256::MAX));
    }
    let count = u64::try_from(adjacents.len()).ok()?.checked_add(1)?;
    let (mean, _) = sum.div_rem(Wide::from(count))?;
    mean.narrow()
}

fn elapsed(from: i64, to: i64) -> Option<u64> {
    u64::try_from(i128::from(to) - i128::from(from)).ok()
}

/// The older rule: the exact difficulty is scaled and rounded up, the target is what has it.
fn legacy_target(target: U256, elapsed: u64, expected: u64) -> Option<U256> {
    let difficulty = Wide::product(U256::MAX, expected).div_ceil(Wide::product(target, elapsed))?;
    // A difficulty beyond 256 bits is one that no target has.
    U256::MAX.checked_div(difficulty.narrow()?)
}

/// When the epoch of the block after `parent` starts, if it is created at `creation_time`.
pub fn next_epoch_start(version: &Version, parent: &Header, creation_time: i64) -> i64 {
    let is_first_on_new_chain = parent.height > 1
        && version.genesis_height(parent.chain).and_then(|genesis| genesis.checked_add(1))
            == Some(parent.height);
    if (version.fakes_first_epoch && parent.height == 1) || is_first_on_new_chain {
        return parent.creation_time;
    }
    if !is_last_in_epoch(parent) {
        return parent.epoch_start;
    }
    if parent.height < version.legacy.epoch_ends_at_block { creation_time } else { parent.creation_time }
}

fn is_epoch_right(header: &Header, version: &Version, parent: &Header) -> bool {
    header.epoch_start <= header.creation_time
        && header.epoch_start == next_epoch_start(version, parent, header.creation_time)
        && (header.height >= version.legacy.parent_only || parent.epoch_start <= header.epoch_start)
}

/// Heights of a fork epoch; in the last [`COUNTING`] of them votes are counted, not cast.
const FORK_EPOCH: u64 = 14_400;
const COUNTING: u64 = 120;
/// What one vote adds.
const VOTE: u64 = 1000;

fn is_fork_state_right(header: &Header, version: &Version, parent: &Header, adjacents: &[&Header]) -> bool {
    if header.height < version.legacy.free_flags {
        return true;
    }
    let casting = FORK_EPOCH - COUNTING;
    let (votes, before) = (u64::from(header.fork_votes()), u64::from(parent.fork_votes()));
    let (number, number_before) = (u64::from(header.fork_number()), u64::from(parent.fork_number()));
    match header.height % FORK_EPOCH {
        0 => {
            let is_decided = round_half_even(before, VOTE) * 3 >= casting * 2;
            (votes == 0 || votes == VOTE) && number == number_before + u64::from(is_decided)
        }
        place if place < casting => (votes == before || votes == before + VOTE) && number == number_before,
        _ => {
            let sum: u64 = before + adjacents.iter().map(|block| u64::from(block.fork_votes())).sum::<u64>();
            votes == sum / (1 + adjacents.len() as u64) && number == number_before
        }
    }
}

/// `value / divisor` rounded to the nearest integer, halves to the even one.
fn round_half_even(value: u64, divisor: u64) -> u64 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    let is_up = remainder * 2 > divisor || (remainder * 2 == divisor && quotient % 2 == 1);
    quotient + u64::from(is_up)
}
