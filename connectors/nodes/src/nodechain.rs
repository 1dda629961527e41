//! The chain port on nodes of a network, over HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chainweb::Hash;
use chainweb::client::{self, Branches, Client, Found, Meaning, Node, NodeError, Said, Trouble};
use chainweb::pact::{Command, Outcome};
use killick_stages::ports::{Chain, ChainError, ChainId, Look, Mined, Sent, Spv};
use killick_stages::span::Span;
use serde::Deserialize;
use tokio::runtime::Handle;
use tracing::{info, warn};

/// `[chainweb]`: the nodes of the network that `[deployment] network` names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Addresses of their service APIs, `http://…` or `https://…`, in the order of preference. At least one.
    pub nodes: Vec<String>,
    /// How long a connection may take to be made. 100 ms to 1 min; default 3 s.
    pub connect_timeout: Span,
    /// How long one question to a node may take in all. 1 s to 5 min; default 20 s.
    pub timeout: Span,
    /// A file of certificates (PEM) of authorities: they alone are trusted for `https`. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { nodes: Vec::new(), connect_timeout: Span::secs(3), timeout: Span::secs(20), ca_file: None }
    }
}

/// Bytes in the longest file of certificates.
const LARGEST_CA: u64 = 16 << 20;

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting outside its range.
    #[error("{name} is {found}; it is {least} to {most}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: Span,
        /// The least that it may be.
        least: Span,
        /// The most that it may be.
        most: Span,
    },
    /// The certificates cannot be read.
    #[error("ca_file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The file of certificates is none.
    #[error("ca_file {}: {size} bytes are too many", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// The client cannot be made of them.
    #[error(transparent)]
    Client(#[from] client::ConfigError),
}

/// Why nodes cannot be the chain of a pipeline.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A node is one of another network.
    #[error(transparent)]
    Network(#[from] NodeError),
}

impl Settings {
    /// Makes a relative path begin at the configuration's folder.
    pub fn resolve(&mut self, folder: Option<&Path>) {
        if let (Some(folder), Some(file)) = (folder, &mut self.ca_file) {
            *file = folder.join(&*file);
        }
    }

    /// The client that they say.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn client(&self, network: &str) -> Result<Client, SettingsError> {
        let ranges = [
            ("connect_timeout", self.connect_timeout, Span::millis(100), Span::secs(60)),
            ("timeout", self.timeout, Span::secs(1), Span::secs(300)),
        ];
        for (name, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                return Err(SettingsError::Range { name, found, least, most });
            }
        }
        let mut config = client::Config::new(network, &self.nodes);
        config.connect_timeout = self.connect_timeout.duration();
        config.timeout = self.timeout.duration();
        if let Some(file) = &self.ca_file {
            let unreadable = |cause| SettingsError::Unreadable { file: file.clone(), cause };
            let size = std::fs::metadata(file).map_err(unreadable)?.len();
            if size > LARGEST_CA {
                return Err(SettingsError::TooLarge { file: file.clone(), size });
            }
            config.authorities = Some(std::fs::read(file).map_err(unreadable)?);
        }
        Ok(Client::new(&config)?)
    }
}

/// Nodes as the chain of a pipeline.
///
/// Its calls block: they may come from any thread that is not one of the runtime's own, such as those of
/// `spawn_blocking`.
pub struct NodeChain {
    client: Client,
    branches: Branches,
    runtime: Handle,
}

impl NodeChain {
    /// Looks at all nodes once. Where none answers, that is said and nothing else: nodes come back.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: &Settings, network: &str, runtime: Handle) -> Result<Self, OpenError> {
        let chain = Self { client: settings.client(network)?, branches: Branches::default(), runtime };
        chain.look_around()?;
        Ok(chain)
    }

    fn look_around(&self) -> Result<(), OpenError> {
        let mut is_heard = false;
        for (node, outcome) in self.runtime.block_on(self.client.look()) {
            match outcome {
                Ok(cut) => {
                    is_heard = true;
                    info!(
                        node = node.address(),
                        network = self.client.network(),
                        cut_height = cut.height,
                        "a node"
                    );
                }
                Err(error) if matches!(error.trouble, Trouble::Network { .. }) => return Err(error.into()),
                Err(_) => {} // the client has said it
            }
        }
        if !is_heard {
            warn!(network = self.client.network(), "no node answers: anchors and proofs wait for one");
        }
        Ok(())
    }
}

impl Chain for NodeChain {
    fn network(&self) -> &str {
        self.client.network()
    }

    fn send(&self, chain: ChainId, command: &[u8]) -> Result<Sent, ChainError> {
        let command = match Command::parse(command) {
            Ok(command) => command,
            Err(error) => return Ok(Sent::Refused(format!("not a command: {error}").into())),
        };
        let send = self.client.send(chainweb::ChainId(chain), std::slice::from_ref(&command));
        let said = sent(self.runtime.block_on(send).map_err(|error| failed(chain, &error))?);
        // What says nothing is also what a node says to a command that is in a block already.
        if matches!(said, Sent::Unclear(_)) {
            let keys = [command.hash];
            let found = self.runtime.block_on(self.client.poll(chainweb::ChainId(chain), &keys, 0));
            let found = found.map(|mut found| found.remove(&command.hash));
            if let Ok(Some(Found::Mined(_))) = found {
                return Ok(Sent::Taken);
            }
        }
        Ok(said)
    }

    fn look(&self, chain: ChainId, keys: &[Box<str>], depth: u64) -> Result<Look, ChainError> {
        let keys = keys.iter().map(|key| request_key(chain, key)).collect::<Result<Vec<Hash>, _>>()?;
        let look = self.client.ask(|node| look(node, &self.branches, chainweb::ChainId(chain), &keys, depth));
        self.runtime.block_on(look).map_err(|error| failed(chain, &error))
    }

    fn spv(&self, chain: ChainId, key: &str) -> Result<Option<Spv>, ChainError> {
        let key = request_key(chain, key)?;
        let spv = self.client.ask(|node| spv(node, chainweb::ChainId(chain), key));
        self.runtime.block_on(spv).map_err(|error| failed(chain, &error))
    }

    fn balance(&self, chain: ChainId, account: &str) -> Result<Option<u128>, ChainError> {
        let balance = self.client.balance(chainweb::ChainId(chain), account);
        let balance = self.runtime.block_on(balance).map_err(|error| failed(chain, &error))?;
        Ok(balance.map(|balance| balance.units))
    }
}

fn failed(chain: ChainId, why: &dyn std::fmt::Display) -> ChainError {
    ChainError { chain, why: why.to_string() }
}

fn request_key(chain: ChainId, key: &str) -> Result<Hash, ChainError> {
    key.parse().map_err(|error| failed(chain, &format_args!("request key {key}: {error}")))
}

/// What a node's words mean for one command.
fn sent(said: Said) -> Sent {
    match said {
        Said::Accepted(_) => Sent::Taken,
        Said::Unreadable(why) => Sent::Refused(why.into()),
        Said::Unclear(why) => Sent::Unclear(why.into()),
        Said::Refused(refusals) => {
            let meaning = refusals.first().map(client::Refusal::meaning);
            let why: Vec<_> = refusals.into_iter().map(|refusal| refusal.reason).collect();
            let why = why.join(", ").into();
            match meaning {
                // It is in a block already, or was: the chain says which.
                Some(Meaning::OnChain) => Sent::Taken,
                Some(Meaning::Never) => Sent::Refused(why),
                Some(Meaning::NotNow) | None => Sent::Unclear(why),
            }
        }
    }
}

/// The chain's tip, the time so many blocks below it, and the first of these commands that is in a block there.
async fn look(
    node: Arc<Node>,
    branches: &Branches,
    chain: chainweb::ChainId,
    keys: &[Hash],
    depth: u64,
) -> Result<Look, NodeError> {
    // The results first: so the tip is never older than they are.
    let found = node.poll(chain, keys, 0).await?;
    let mined = |key: &Hash| match found.get(key) {
        Some(Found::Mined(mined)) => Some((*key, mined)),
        // The node made it up: no block has it.
        Some(Found::MadeUp(_)) | None => None,
    };
    let mined: Vec<_> = keys.iter().filter_map(mined).collect();
    let blocks: Vec<_> = mined.iter().map(|(_, mined)| (mined.height, mined.block)).collect();
    let (tip, first) = branches.look(&node, chain, &blocks).await?;
    if first.is_none() && !blocks.is_empty() {
        info!(node = node.address(), %chain, tip = %tip.hash, "the block of a command is not below the tip");
    }
    let mined = first.map(|first| &mined[first]).map(|(key, mined)| Mined {
        key: key.to_string().into(),
        height: mined.height,
        block: mined.block.to_string().into(),
        success: matches!(mined.result.outcome, Outcome::Success(_)),
    });
    let deep_time = branches.time_at(&node, &tip, tip.height.saturating_sub(depth)).await?;
    Ok(Look { tip_height: tip.height, tip_time: tip.creation_time, deep_time, mined })
}

/// The proof of a command's output, with the header of the block where it ends.
async fn spv(node: Arc<Node>, chain: chainweb::ChainId, key: Hash) -> Result<Option<Spv>, NodeError> {
    let Some(proof) = node.spv(chain, &key, chain).await? else { return Ok(None) };
    let Some(header) = node.header(chain, &proof.root()).await? else { return Ok(None) };
    Ok(Some(Spv { proof: proof.to_json().into(), header: header.encode().into() }))
}

#[cfg(test)]
mod tests;
