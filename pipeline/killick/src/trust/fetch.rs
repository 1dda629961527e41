//! `killick trust fetch`: blocks that several nodes agree on.
//!
//! What one node says of a chain is its word and no more. A block is trusted where enough nodes, asked by themselves, say
//! that it is on the branch below their own tip, and deep enough there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use chainweb::client::{Bounds, Node, NodeError};
use chainweb::{ChainId, Hash};
use clap::Args;
use killick_nodes::Settings;
use killick_proof::receipt::Receipt;
use killick_proof::trust::TrustFile;
use tokio::runtime::Runtime;

use crate::cli::Failure;
use crate::verify::files;

/// Exit status where not all that was asked for is agreed on.
const SHORT: u8 = 4;
/// Chains of one node that are asked for at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Receipts, or folders of them, whose blocks are asked for. Default: the newest block of each chain that is deep enough.
    #[arg(value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,

    /// The address of a node, of as many operators as you can find. Can be repeated.
    #[arg(long = "node", value_name = "URL", required = true)]
    nodes: Vec<String>,

    /// The network.
    #[arg(long, value_name = "NAME", default_value = "mainnet01")]
    network: String,

    /// How many nodes have to agree: more than half of them. Default: all.
    #[arg(long, value_name = "NUMBER")]
    agree: Option<usize>,

    /// How many blocks have to be above a block, as each of these nodes sees it.
    #[arg(long, value_name = "BLOCKS", default_value_t = 20)]
    depth: u64,

    /// A trust file that is taken over: its blocks, log keys and devices.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,

    /// Certificates (PEM) of authorities: they alone are trusted for https. Default: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A block that is asked for: of a receipt, or whichever is at that height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    chain: u32,
    height: u64,
    hash: Option<[u8; 32]>,
}

/// What a node says of the wishes, in their order; none where it has nothing that deep.
type Word = Vec<Option<Hash>>;

/// A node with the tips of its cut: height and hash of each chain.
type Heard = (Arc<Node>, BTreeMap<u32, (u64, Hash)>);

pub(super) fn run(args: &FetchArgs) -> Result<ExitCode, Failure> {
    let (count, most) = (args.nodes.len(), args.agree.unwrap_or(args.nodes.len()));
    if most > count || most * 2 <= count {
        let why =
            format!("--agree {most} of {count} nodes: it has to be more than half, and not more than all");
        return Err(Failure::Usage(why));
    }
    let mut trust = super::taken_over(args.with.as_deref())?;
    let wanted =
        if args.receipts.is_empty() { None } else { Some(wanted_by(&args.receipts, &args.network)?) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let heard = hear(args, &runtime)?;
    if heard.len() < most {
        let heard = heard.len();
        return Err(
            anyhow!("{heard} of {count} nodes answer, and {most} have to agree: nothing is written").into()
        );
    }
    let wishes = wanted.unwrap_or_else(|| newest(heard.iter().map(|(_, tips)| tips), most, args.depth));
    let wishes: Arc<[Wish]> = wishes.into_iter().collect();
    let words = ask(heard, &wishes, args.depth, &runtime)?;
    let (trusted, left): (Vec<_>, Vec<_>) = wishes
        .iter()
        .enumerate()
        .map(|(index, wish)| (*wish, agreed(words.iter().filter_map(|word| word[index]), most)))
        .partition(|(wish, block)| block.is_some_and(|block| wish.hash.is_none_or(|hash| hash == block.0)));
    let blocks = trusted.iter().filter_map(|(_, block)| *block);
    add(&mut trust, &args.network, blocks.map(|block| killick_proof::Hash::new(block.0)));
    super::write(&trust, &args.out)?;
    tell(args, trusted.len(), &left)?;
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SHORT) })
}

/// The nodes that answer; of the others it is told why not.
fn hear(args: &FetchArgs, runtime: &Runtime) -> Result<Vec<Heard>> {
    let settings =
        Settings { nodes: args.nodes.clone(), ca_file: args.ca_file.clone(), ..Settings::default() };
    let client = settings.client(&args.network)?;
    let mut heard = Vec::new();
    for (node, cut) in runtime.block_on(client.look()) {
        match cut {
            Ok(cut) => {
                let tips = cut.hashes.iter().map(|(chain, block)| (chain.0, (block.height, block.hash)));
                heard.push((node, tips.collect()));
            }
            Err(error) => writeln!(io::stderr(), "{error}")?,
        }
    }
    Ok(heard)
}

/// Asks all nodes at the same time; of one that stops answering nothing counts.
fn ask(heard: Vec<Heard>, wishes: &Arc<[Wish]>, depth: u64, runtime: &Runtime) -> Result<Vec<Word>> {
    let asked: Vec<_> = heard
        .into_iter()
        .map(|(node, tips)| runtime.spawn(word(node, tips, Arc::clone(wishes), depth)))
        .collect();
    let mut words = Vec::new();
    for one in asked {
        match runtime.block_on(one).context("a question ended in a panic")? {
            Ok(word) => words.push(word),
            Err(error) => writeln!(io::stderr(), "{error}")?,
        }
    }
    Ok(words)
}

/// The newest block of each chain that lies deep enough below the tips of so many nodes: who is behind holds nobody back.
fn newest<'a>(
    cuts: impl Iterator<Item = &'a BTreeMap<u32, (u64, Hash)>>,
    most: usize,
    depth: u64,
) -> BTreeSet<Wish> {
    let mut tips = BTreeMap::<u32, Vec<u64>>::new();
    for (chain, (height, _)) in cuts.flatten() {
        tips.entry(*chain).or_default().push(*height);
    }
    let wish = |(chain, mut heights): (u32, Vec<u64>)| {
        heights.sort_unstable_by(|one, other| other.cmp(one));
        let height = heights.get(most - 1)?.checked_sub(depth)?;
        Some(Wish { chain, height, hash: None })
    };
    tips.into_iter().filter_map(wish).collect()
}

/// The blocks that receipts name.
fn wanted_by(receipts: &[PathBuf], network: &str) -> Result<BTreeSet<Wish>, Failure> {
    let mut wishes = BTreeSet::new();
    let paths = files::expand(receipts)?;
    for path in &paths {
        let named = || path.display().to_string();
        let bytes = files::read_receipt(path).with_context(named)?;
        let receipt = Receipt::parse(&bytes).map_err(|fault| anyhow!("{}: {fault}", named()))?;
        for anchor in receipt.anchors.iter().filter(|anchor| anchor.block.network == network) {
            let chain = u32::try_from(anchor.block.chain).with_context(named)?;
            wishes.insert(Wish {
                chain,
                height: anchor.block.height,
                hash: Some(*anchor.block.hash.as_bytes()),
            });
        }
    }
    if wishes.is_empty() {
        return Err(Failure::Usage(format!(
            "none of these receipts has an anchor on {network}: see --network"
        )));
    }
    Ok(wishes)
}

/// What a node says of the blocks at these heights below its tips.
async fn word(
    node: Arc<Node>,
    tips: BTreeMap<u32, (u64, Hash)>,
    wishes: Arc<[Wish]>,
    depth: u64,
) -> Result<Word, NodeError> {
    let mut word = Vec::with_capacity(wishes.len());
    for some in wishes.chunks(AT_ONCE) {
        let asked: Vec<_> = some
            .iter()
            .map(|wish| {
                let tip = tips.get(&wish.chain).copied();
                let tip = tip.filter(|(height, _)| height.saturating_sub(depth) >= wish.height);
                let (node, wish) = (Arc::clone(&node), *wish);
                tokio::spawn(async move {
                    match tip {
                        Some((_, tip)) => at(&node, ChainId(wish.chain), tip, wish.height).await,
                        None => Ok(None),
                    }
                })
            })
            .collect();
        for one in asked {
            word.push(one.await.map_err(|gone| node.nonsense("header/branch", gone.to_string()))??);
        }
    }
    Ok(word)
}

/// The block at a height below a tip, by a node's word.
async fn at(node: &Node, chain: ChainId, tip: Hash, height: u64) -> Result<Option<Hash>, NodeError> {
    let bounds =
        Bounds { limit: Some(1), min_height: Some(height), max_height: Some(height), ..Bounds::default() };
    let page = node.branch(chain, &[], &[tip], &bounds).await?;
    let header = page.and_then(|page| page.items.into_iter().next());
    Ok(header.filter(|header| header.height == height).map(|header| header.hash))
}

/// What so many of them say.
fn agreed(said: impl Iterator<Item = Hash>, most: usize) -> Option<Hash> {
    let mut counts = BTreeMap::<[u8; 32], usize>::new();
    for hash in said {
        *counts.entry(hash.0).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count >= most).map(|(hash, _)| Hash(hash))
}

fn add(trust: &mut TrustFile, name: &str, blocks: impl Iterator<Item = killick_proof::Hash>) {
    let network = super::network_of(trust, name);
    network.blocks.extend(blocks);
    network.blocks.sort_unstable();
    network.blocks.dedup();
}

fn tell(args: &FetchArgs, trusted: usize, left: &[(Wish, Option<Hash>)]) -> Result<()> {
    let mut out = io::stdout().lock();
    let FetchArgs { network, depth, nodes, .. } = args;
    let (count, most) = (nodes.len(), args.agree.unwrap_or(nodes.len()));
    writeln!(
        out,
        "{trusted} blocks of {network}: {most} of {count} nodes agree on them, {depth} blocks deep or more"
    )?;
    for (Wish { chain, height, .. }, block) in left {
        let why = match block {
            Some(block) => format!("they agree on another block, {block}"),
            None => "they do not agree, or do not have it that deep yet".to_owned(),
        };
        writeln!(out, "not trusted: chain {chain} at {height}: {why}")?;
    }
    Ok(())
}
