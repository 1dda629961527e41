//! `killick devnet`: the development network for several processes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chainweb::devnet::{Account, BANNER, Coins, Config, Devnet, Faults, StartError};
use clap::Args;
use killick_stages::span::Span;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{Failure, Outcome};
use crate::process;

/// More nodes than that are refused where the network starts.
const MAX_LISTENERS: u16 = 16;

/// How often the log says what went wrong.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Serves a development network over HTTP, as a node does, for several processes.
///
/// It proves nothing to anyone but you: there is no proof of work, and whoever runs it makes any history at any time.
/// It ends cleanly at SIGINT or SIGTERM; with a folder, it goes on where it was after that, and after a kill.
///
/// With several nodes and with faults it is what real networks are: blocks are orphaned, nodes differ, requests fail. All of it
/// happens by chance from the seed, or on command under /devnet on each node.
#[derive(Debug, Args)]
#[command(after_help = "\
Faults: parts with commas between them, of which the later count.
  none, real, all            nothing; what mainnet01 shows (orphans=2.6%); a bit of everything
  NAME=RATE                  in percent: http-500=1%
  NAME=SIZE@RATE             with a depth in blocks or a length in rounds, or a range: reorganize=1-6@0.5%
  pause=SPAN, hang=SPAN      how late answers are (200ms), how long requests are left without one (30s)
  once a round               orphans (once a block), reorganize, partition, lag, down, lost-mempool, restart
  once a command             lost-command, bad-list, stuck, failed-command, taken-again
  once a request, not done   http-500, http-502, http-503, reset
  once a request, done       lost-answer, no-answer, cut-answer, delay, slow, truncated, html, content-type, huge

On command, on each node: GET /devnet, GET /devnet/faults, and POST /devnet/ with
  faults?set=FAULTS, reorganize?chain=C&depth=D[&commands=wait|again|lost], partition?groups=0,1/2, heal,
  lag?rounds=N, down, up, lose-mempool, restart, bad-list?chain=C&key=K, round,
  coins?account=ACCOUNT&amount=COINS (out of nothing, on every chain: here nobody sends any)

Examples:
  killick devnet --listen 127.0.0.1:1848 --folder chain --account k:PUBLIC_KEY
  killick devnet --nodes 3 --faults real,partition=5@1%,lost-answer=2% --seed 7
  curl -X POST 'http://127.0.0.1:1848/devnet/reorganize?chain=0&depth=3'
  killick devnet --account k:PUBLIC_KEY --balance 0.00012
  curl -X POST 'http://127.0.0.1:1848/devnet/coins?account=k:PUBLIC_KEY&amount=10'
Then, in killick.toml: [chainweb] nodes = [\"http://127.0.0.1:1848\"]")]
pub struct DevnetArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", env = "KILLICK_DEVNET_LISTEN", default_value = "127.0.0.1:1848")]
    listen: SocketAddr,

    /// How many nodes: 1 to 16. The others listen on the ports that follow.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: u16,

    /// What goes wrong, and how often: see below.
    #[arg(long, value_name = "FAULTS", env = "KILLICK_DEVNET_FAULTS", default_value = "none")]
    faults: Faults,

    /// Decides when it goes wrong: the same seed and the same requests, the same trouble.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Listens also on an address that others reach. Whoever reaches it can use up its memory.
    #[arg(long)]
    confirm_public: bool,

    /// Where the network is kept; default: nowhere, it ends with the process.
    #[arg(long, value_name = "DIR", env = "KILLICK_DEVNET_FOLDER")]
    folder: Option<PathBuf>,

    /// Between two blocks of a chain: 10ms to 1h.
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    block_interval: Span,

    /// An account that has coins on every chain when the network does not know it yet: `k:` and a public key in 64 hex
    /// digits. May be given several times; give the same ones at every start.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    account: Vec<Account>,

    /// How many coins each of these accounts begins with; give the same at every start.
    #[arg(long, value_name = "COINS", default_value = "100000000")]
    balance: Coins,
}

fn account(text: &str) -> Result<Account, String> {
    let key = text.strip_prefix("k:").unwrap_or_default();
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if key.len() != 64 || !key.bytes().all(is_hex) {
        return Err("it is k: and a public key in 64 lower-case hex digits".to_owned());
    }
    Ok(Account { name: text.to_owned(), public_key: key.to_owned(), balance: Coins::default() })
}

/// Serves until it is told to stop.
pub fn run(args: DevnetArgs) -> Outcome {
    if !args.listen.ip().is_loopback() && !args.confirm_public {
        let why = format!(
            "others reach {}, and nothing here holds against them: listen on 127.0.0.1, or give --confirm-public",
            args.listen
        );
        return Err(Failure::Usage(why));
    }
    let mut config = Config {
        block_interval: args.block_interval.duration(),
        folder: args.folder,
        nodes: usize::from(args.nodes),
        faults: args.faults,
        seed: args.seed,
        ..Config::default()
    };
    let named = args.account.into_iter();
    config.accounts.extend(named.map(|account| Account { balance: args.balance, ..account }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    // Who cannot listen makes no folder.
    let listeners = runtime.block_on(listen(args.listen, args.nodes))?;
    let devnet = Devnet::start(config).map_err(|error| match error {
        StartError::Config(error) => Failure::Usage(error.to_string()),
        error => Failure::Failed(error.into()),
    })?;
    let devnet = Arc::new(devnet);
    let mut served = JoinSet::new();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{BANNER}")?;
    for (index, listener) in listeners.into_iter().enumerate() {
        let what =
            if index == 0 { format!("network {}", devnet.network_name()) } else { format!("node {index}") };
        writeln!(out, "{what} at http://{}", listener.local_addr()?)?;
        let node = devnet.node(index).map(Arc::new).context("a listener more than nodes")?;
        served.spawn_on(node.serve(listener), runtime.handle());
    }
    out.flush()?;
    drop(out);
    let (reporter, handle) = (Arc::clone(&devnet), runtime.handle().clone());
    handle.spawn(async move { report(&reporter).await });
    let ended = runtime.block_on(stop.run_until_cancelled(served.join_next()));
    // Whoever is being answered is left; the network itself ends between two blocks.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(devnet);
    if let Some(Some(ended)) = ended {
        ended??;
    }
    Ok(ExitCode::SUCCESS)
}

/// Listens for each node: on the address, and on the ports that follow it, or on free ones.
async fn listen(first: SocketAddr, nodes: u16) -> Result<Vec<TcpListener>, Failure> {
    let last = nodes.min(MAX_LISTENERS).saturating_sub(1);
    if first.port() != 0 && first.port().checked_add(last).is_none() {
        return Err(Failure::Usage(format!("there are no {nodes} ports from {first} on")));
    }
    let mut listeners = Vec::new();
    for index in 0..=last {
        let port = if first.port() == 0 { 0 } else { first.port() + index };
        let address = SocketAddr::new(first.ip(), port);
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
    }
    Ok(listeners)
}

/// Says on the log what went wrong since it last did, while anything does.
async fn report(devnet: &Devnet) {
    let mut before = devnet.happened();
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        let now = devnet.happened();
        let news = now.iter().zip(&before).filter(|((_, now), (_, before))| now > before);
        let news: Vec<_> =
            news.map(|((fault, now), (_, before))| format!("{fault} {}", now - before)).collect();
        if !news.is_empty() {
            tracing::info!("in the last minute by chance: {}", news.join(", "));
        }
        before = now;
    }
}
