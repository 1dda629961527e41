//! Runs a development network and answers on loopback HTTP until it is stopped.
//!
//! `cargo run -p chainweb --features devnet --example devnet -- [PORT] [INTERVAL_MS] [FOLDER]`

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use chainweb::devnet::{BANNER, Config, Devnet};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.len() > 3 || arguments.iter().any(|argument| argument.starts_with('-')) {
        return Err("usage: devnet [PORT (1848)] [INTERVAL_MS (1000)] [FOLDER (none)]".into());
    }
    let number = |index: usize, default: u64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let port = u16::try_from(number(0, 1848)?)?;
    let config = Config {
        block_interval: Duration::from_millis(number(1, 1000)?),
        folder: arguments.get(2).map(Into::into),
        ..Config::default()
    };
    let devnet = Arc::new(Devnet::start(config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (address, network) = (listener.local_addr()?, devnet.network_name());
        println!("{BANNER}");
        println!("http://{address}/chainweb/0.0/{network}");
        Arc::clone(&devnet).serve(listener).await
    })?;
    Ok(())
}
