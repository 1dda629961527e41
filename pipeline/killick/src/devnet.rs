//! `killick devnet`: the development network for several processes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chainweb::devnet::{Account, BANNER, Config, Devnet, StartError};
use clap::Args;
use killick_stages::span::Span;
use tokio_util::sync::CancellationToken;

use crate::cli::{Failure, Outcome};
use crate::process;

/// Coins of each account that is named.
const BALANCE: u64 = 100_000_000;

/// Serves a development network over HTTP, as a node does, for several processes.
///
/// It proves nothing to anyone but you: there is no proof of work, and whoever runs it makes any history at any time.
/// It ends cleanly at SIGINT or SIGTERM; with a folder, it goes on where it was after that, and after a kill.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: killick devnet --listen 127.0.0.1:1848 --folder chain --account k:PUBLIC_KEY
Then, in killick.toml: [chainweb] nodes = [\"http://127.0.0.1:1848\"]")]
pub struct DevnetArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", env = "KILLICK_DEVNET_LISTEN", default_value = "127.0.0.1:1848")]
    listen: SocketAddr,

    /// Listens also on an address that others reach. Whoever reaches it can use up its memory.
    #[arg(long)]
    confirm_public: bool,

    /// Where the network is kept; default: nowhere, it ends with the process.
    #[arg(long, value_name = "DIR", env = "KILLICK_DEVNET_FOLDER")]
    folder: Option<PathBuf>,

    /// Between two blocks of a chain: 10ms to 1h.
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    block_interval: Span,

    /// An account that has 100 million coins on every chain when the network does not know it yet: `k:` and a public key
    /// in 64 hex digits. May be given several times; give the same ones at every start.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    account: Vec<Account>,
}

fn account(text: &str) -> Result<Account, String> {
    let key = text.strip_prefix("k:").unwrap_or_default();
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if key.len() != 64 || !key.bytes().all(is_hex) {
        return Err("it is k: and a public key in 64 lower-case hex digits".to_owned());
    }
    Ok(Account { name: text.to_owned(), public_key: key.to_owned(), balance: BALANCE })
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
    let mut config =
        Config { block_interval: args.block_interval.duration(), folder: args.folder, ..Config::default() };
    config.accounts.extend(args.account);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stop = CancellationToken::new();
    process::drain_at_signals(runtime.handle(), stop.clone())?;
    // Who cannot listen makes no folder.
    let listener = runtime.block_on(tokio::net::TcpListener::bind(args.listen));
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    let devnet = Devnet::start(config).map_err(|error| match error {
        StartError::Config(error) => Failure::Usage(error.to_string()),
        error => Failure::Failed(error.into()),
    })?;
    let devnet = Arc::new(devnet);
    let address = listener.local_addr()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{BANNER}")?;
    writeln!(out, "network {} at http://{address}", devnet.network_name())?;
    out.flush()?;
    drop(out);
    let served = runtime.block_on(stop.run_until_cancelled(Arc::clone(&devnet).serve(listener)));
    // Whoever is being answered is left; the network itself ends between two blocks.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(devnet);
    served.transpose()?;
    Ok(ExitCode::SUCCESS)
}
