//! What is looked at of a chain: its nodes, and what the accounts hold that pay there.

use std::collections::BTreeMap;
use std::sync::Arc;

use chainweb::ChainId as Chain;
use chainweb::client::{Client, Node, NodeError, Trouble};
use chainweb::cut::Cut;
use killick_kafka::topics::Weight;
use killick_nodes::Settings;
use killick_proof::signature::SecretKey;
use killick_stages::anchor::{self, coins};
use killick_stages::ports::ChainId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::task::JoinSet;

use super::{Look, now};
use crate::config::Config;
use crate::secrets;

/// Blocks a chain by which a node may be behind another: they hear of blocks at different times.
const BEHIND: u64 = 3;
/// Nodes whose newest block is older, in ms, have stopped: a public chain has one each half minute.
const STALE: i64 = 600_000;

/// Where commands go, and who pays for them.
struct Place<'p> {
    network: &'p str,
    chains: &'p [ChainId],
    nodes: &'p Settings,
    anchor: &'p anchor::Config,
    signers: anyhow::Result<Vec<SecretKey>>,
    /// The sections of the configuration that say so.
    section: String,
}

/// The network of the deployment.
pub fn own(config: &Config) -> Look {
    let Some(nodes) = &config.chainweb else { return Look::default() };
    let place = Place {
        network: &config.deployment.network,
        chains: &config.deployment.chains,
        nodes,
        anchor: &config.anchor,
        signers: signers(config),
        section: "chainweb".to_owned(),
    };
    place.look()
}

/// The network of a series of later anchors.
pub fn series(config: &Config, name: &str) -> Look {
    let Some(settings) = config.reanchor.get(name) else { return Look::default() };
    let Some(nodes) = settings.chainweb.as_ref().or(config.chainweb.as_ref()) else { return Look::default() };
    let own_key = settings.key_file.as_deref().map(|file| Ok(vec![secrets::read_seed(file)?]));
    let place = Place {
        network: settings.network.as_deref().unwrap_or(&config.deployment.network),
        chains: &settings.chains,
        nodes,
        anchor: &settings.anchor,
        signers: own_key.unwrap_or_else(|| signers(config)),
        section: if settings.chainweb.is_some() {
            format!("reanchor.{name}.chainweb")
        } else {
            "chainweb".to_owned()
        },
    };
    place.look()
}

fn signers(config: &Config) -> anyhow::Result<Vec<SecretKey>> {
    let folder = config.keys.folder.as_ref();
    let folder = folder.ok_or_else(|| anyhow::anyhow!("[keys] folder is not in the configuration"))?;
    secrets::anchor_keys(folder)
}

impl Place<'_> {
    fn look(self) -> Look {
        let mut look = Look::default();
        let client = match self.nodes.client(self.network) {
            Ok(client) => Arc::new(client),
            Err(error) => {
                let remedy = "correct the configuration, or the file that it names";
                look.breaks(format!("[{}]", self.section), error.to_string(), "settings that work", remedy);
                return look;
            }
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                look.breaks("this machine", error.to_string(), "threads", "raise its limits");
                return look;
            }
        };
        runtime.block_on(async {
            let cuts = self.nodes(&client, &mut look).await;
            if !cuts.is_empty() {
                self.chains(&cuts, &mut look);
                self.clocks(&client, &mut look).await;
                self.accounts(&client, &mut look).await;
            }
        });
        look
    }

    /// Whether the nodes answer, and agree how far the network is; gives their cuts.
    async fn nodes(&self, client: &Client, look: &mut Look) -> Vec<(Arc<Node>, Cut)> {
        let section = &self.section;
        let (mut cuts, mut failed) = (Vec::new(), Vec::new());
        for (node, outcome) in client.look().await {
            match outcome {
                Ok(cut) => {
                    look.saw(format!(
                        "node {}: of {}, height {} in {} chains",
                        node.address(),
                        self.network,
                        cut.height,
                        cut.hashes.len()
                    ));
                    cuts.push((node, cut));
                }
                Err(NodeError { trouble, .. }) => failed.push((node, trouble)),
            }
        }
        for (node, trouble) in failed {
            // A process does not start with a node of another network in its list.
            let breaks = cuts.is_empty() || matches!(trouble, Trouble::Network { .. });
            look.find(
                if breaks { Weight::Breaks } else { Weight::Advice },
                format!("node {}", node.address()),
                trouble.to_string(),
                "a node of the network that answers",
                format!("see whether it runs, and [{section}] nodes and ca_file, and the network's name"),
            );
        }
        let highest = cuts.iter().map(|(_, cut)| cut.height).max().unwrap_or_default();
        for (node, cut) in &cuts {
            let behind = highest - cut.height;
            let chains = (cut.hashes.len() as u64).max(1);
            if behind > BEHIND * chains {
                look.advice(
                    format!("node {}", node.address()),
                    format!("it is {} blocks a chain behind the highest", behind / chains),
                    "nodes that are equally far",
                    "let it catch up, or take it from the list; it is asked last meanwhile",
                );
            }
        }
        cuts
    }

    /// Whether the configured chains are there.
    fn chains(&self, cuts: &[(Arc<Node>, Cut)], look: &mut Look) {
        for (node, cut) in cuts {
            let missing: Vec<_> =
                self.chains.iter().filter(|chain| !cut.hashes.contains_key(&Chain(**chain))).collect();
            if !missing.is_empty() {
                look.breaks(
                    format!("node {}", node.address()),
                    format!("its network has no chains {missing:?}"),
                    "the chains that the configuration names",
                    "correct `chains` in the configuration, or `network`",
                );
            }
        }
    }

    /// Holds our clock against the nodes', and the newest block against ours.
    async fn clocks(&self, client: &Client, look: &mut Look) {
        for node in client.nodes() {
            let asked = now();
            let Ok(Some(date)) = node.date().await else { continue };
            match OffsetDateTime::parse(&date, &Rfc2822) {
                Ok(date) => look.clock(
                    &format!("node {}", node.address()),
                    date.unix_timestamp() * 1_000,
                    asked,
                    1_000,
                ),
                Err(_) => look.saw(format!("the clock of node {}: it says none", node.address())),
            }
        }
        let Some(chain) = self.chains.first().copied().map(Chain) else { return };
        let newest = client.ask(async |node: Arc<Node>| {
            let cut = node.cut().await?;
            let Some(tip) = cut.hashes.get(&chain) else { return Ok(None) };
            node.header(chain, &tip.hash).await
        });
        let Ok(Some(header)) = newest.await else { return };
        let age = now() - header.creation_time / 1_000;
        look.saw(format!("the newest block of chain {chain}: made {} s ago", age / 1_000));
        // A genesis block has the time that everybody agreed on.
        if age > STALE && header.height > 0 {
            look.breaks(
                format!("chain {chain} of {}", self.network),
                format!("its newest block is {} s old", age / 1_000),
                "a chain that goes on: nothing is anchored otherwise",
                "see whether the network has stopped, or only these nodes: ask another one",
            );
        }
    }

    /// What the accounts hold that pay for commands, and for how long that lasts at most.
    async fn accounts(&self, client: &Arc<Client>, look: &mut Look) {
        let signers = match &self.signers {
            Ok(signers) => signers,
            Err(error) => {
                look.saw(format!("accounts: not looked at, since there are no keys that sign: {error:#}"));
                return;
            }
        };
        let account = |key: &SecretKey| format!("k:{}", hex::encode(key.public().as_bytes()));
        let accounts: Vec<String> = match &self.anchor.sender {
            Some(sender) => vec![sender.clone()],
            None => signers.iter().map(account).collect(),
        };
        let (Ok(command), Ok(day)) = (self.anchor.most_a_command(), self.anchor.most_a_day()) else { return };
        let day = day.div_ceil(accounts.len().max(1) as u128).max(1);
        let mut asked = JoinSet::new();
        for chain in self.chains {
            for account in &accounts {
                let (client, chain, account) = (Arc::clone(client), *chain, account.clone());
                asked.spawn(async move {
                    let balance = client.balance(Chain(chain), &account).await;
                    ((chain, account), balance)
                });
            }
        }
        let mut told = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok((place, balance)) = answer {
                told.insert(place, balance);
            }
        }
        let alarm = u128::from(self.anchor.balance_alarm_days);
        for ((chain, account), balance) in told {
            let about = format!("account {account} on chain {chain}");
            let transfer = "transfer coins to it on that chain";
            let units = match balance {
                Ok(Some(balance)) => balance.units,
                Ok(None) => {
                    let found = "it does not exist";
                    look.breaks(about, found, "an account that can pay for commands", transfer);
                    continue;
                }
                Err(error) => {
                    let remedy = "ask again when the nodes answer";
                    look.advice(about, format!("what it holds is not known: {error}"), "to know it", remedy);
                    continue;
                }
            };
            let days = units / day;
            look.saw(format!(
                "{about}: {} of the coin, {days} days at {} a day, which is all that commands may use",
                coins(units),
                coins(day)
            ));
            if units < command {
                let found =
                    format!("{} of the coin, and a command may cost {}", coins(units), coins(command));
                look.breaks(about, found, "an account that can pay for commands", transfer);
            } else if days < alarm {
                let found = format!("{} of the coin, which lasts {days} days", coins(units));
                let wanted = format!("{alarm} days or more, as balance_alarm_days says");
                look.advice(about, found, &wanted, transfer);
            }
        }
    }
}
