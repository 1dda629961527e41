//! How checkpoints are anchored, as configuration says it.

use serde::Deserialize;

use super::lane::Budget;
use super::{MAX_KEYS, MAX_LOGS};
use crate::deployment::MAX_CHAINS;
use crate::ports::ChainId;
use crate::span::Span;

/// How checkpoints are anchored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long checkpoints are gathered for one command, in log time. 10 ms to 1 h; default 30 s. For a series of later
    /// anchors: between two of its commands. 1 min to 366 d.
    pub interval: Span,
    /// Blocks above a command's until it counts as final. 1 to 120; default 20.
    pub depth: u64,
    /// How long to wait between looks at the chain. 10 ms to 10 min; default 5 s.
    pub poll: Span,
    /// How long a command may wait for a block. 2 min to 1 d; default 20 min.
    pub ttl: Span,
    /// Blocks above `depth` for which an interval is looked after once it was told of: should its block be lost there after
    /// all, that is an alarm, and it is anchored and told of again. 1 to 480; default 60. A block that is lost later is an
    /// alarm only where its proof was not fetched yet.
    pub watch: u64,
    /// Intervals of one chain that wait for their commands at the same time: beyond, checkpoints gather until one is
    /// final. 1 to 1,000; default 64.
    pub in_flight: usize,
    /// The most gas that a command may use. 100 to 150,000; default 400: an anchor takes 76.
    pub gas_limit: u64,
    /// The price of a unit of gas in the chain's coin: a decimal of at most 12 places. Default `1e-8`.
    pub gas_price: String,
    /// The account that pays for all commands. Each is then signed by all keys, for the gas alone, so that the account's guard
    /// may be a keyset of some of them with any predicate. Default: each key's own account, `k:` and the public key, pays for
    /// the commands that this key signs.
    pub sender: Option<String>,
    /// The most that the commands of one partition of `checkpoints` may cost in a day (UTC), in the chain's coin: a decimal
    /// of at most 12 places. A command counts with all the gas that it may use. Beyond, checkpoints gather until the next
    /// day. Default: no limit.
    pub spend_limit: Option<String>,
    /// Which chain an interval goes to.
    pub chain: Choice,
    /// How long to wait between looks at what the accounts that pay hold. 1 min to 1 d; default 10 min.
    pub balance_poll: Span,
    /// An alarm is raised where that lasts for fewer days than this, at the spending of the last two. 0 to 3,650; default
    /// 14; 0: never.
    pub balance_alarm_days: u32,
}

/// Which chain an interval goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The one that the ring gives its logs, always.
    #[default]
    Sticky,
    /// That one too, unless commands wait there for a block, and fewer on another chain of the deployment.
    LeastLoaded,
}

impl Choice {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::LeastLoaded => "least-loaded",
        }
    }
}

impl Config {
    /// What one command may cost at most, in 10^-12 of the coin.
    ///
    /// # Errors
    /// [`ConfigError::SpendLimit`].
    pub fn most_a_command(&self) -> Result<u128, ConfigError> {
        Ok(Budget::new(self)?.cost())
    }

    /// What the commands of a day may cost at most for one partition of `checkpoints`, in 10^-12 of the coin: one an
    /// interval, each with all the gas that it may use, or what `spend_limit` says.
    ///
    /// # Errors
    /// [`ConfigError::SpendLimit`].
    pub fn most_a_day(&self) -> Result<u128, ConfigError> {
        let budget = Budget::new(self)?;
        let commands = 86_400_000_000_u128.div_ceil(self.interval.micros().unsigned_abs().max(1).into());
        let all = budget.cost().saturating_mul(commands);
        Ok(budget.limit().map_or(all, |limit| limit.min(all)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Span::secs(30),
            depth: 20,
            watch: 60,
            poll: Span::secs(5),
            ttl: Span::secs(1_200),
            in_flight: 64,
            gas_limit: 400,
            gas_price: "1e-8".to_owned(),
            sender: None,
            spend_limit: None,
            chain: Choice::Sticky,
            balance_poll: Span::secs(600),
            balance_alarm_days: 14,
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting outside its range.
    #[error("{name} is {found}; it is {range}")]
    Range {
        /// The setting.
        name: &'static str,
        /// What was configured.
        found: String,
        /// What it may be.
        range: &'static str,
    },
    /// The settings make no command that a node would take.
    #[error("no command can be made: {0}")]
    Command(#[from] chainweb::pact::ExecError),
    /// A limit that is no amount, or below what one command may cost.
    #[error(
        "spend_limit is {found:?}; it is an amount of at least {least}, which is what one command may cost"
    )]
    SpendLimit {
        /// What was configured.
        found: String,
        /// The least that makes sense.
        least: String,
    },
    /// A series that cannot be named so.
    #[error("a series is named by 1 to 32 of a-z 0-9 -, not {0:?}")]
    Series(String),
    /// A series without chains, or with too many.
    #[error("a series has 1 to {MAX_CHAINS} chains, not {0}")]
    Chains(usize),
    /// No key, or too many.
    #[error("there are {0} keys that sign anchors; there may be 1 to {MAX_KEYS}")]
    Keys(usize),
    /// Two of the keys are one.
    #[error("two of the keys that sign anchors are the same: {0}")]
    SameKey(String),
    /// More logs on one chain than an interval's record holds.
    #[error("chain {chain} has {logs} logs; it may have {MAX_LOGS}: add chains")]
    Logs {
        /// The chain.
        chain: ChainId,
        /// Its logs.
        logs: usize,
    },
}

/// Whether the settings are in their ranges: those of the deployment's own anchors, or of a series of later ones.
pub(super) fn check(config: &Config, is_series: bool) -> Result<(), ConfigError> {
    let interval = if is_series {
        ("interval", config.interval, Span::secs(60), Span::secs(366 * 86_400), "1m to 366d")
    } else {
        ("interval", config.interval, Span::millis(10), Span::secs(3_600), "10ms to 1h")
    };
    let spans = [
        interval,
        ("poll", config.poll, Span::millis(10), Span::secs(600), "10ms to 10m"),
        ("ttl", config.ttl, Span::secs(120), Span::secs(86_400), "2m to 1d"),
        ("balance_poll", config.balance_poll, Span::secs(60), Span::secs(86_400), "1m to 1d"),
    ];
    for (name, found, least, most, range) in spans {
        if !(least..=most).contains(&found) {
            return Err(ConfigError::Range { name, found: found.to_string(), range });
        }
    }
    let numbers = [
        ("depth", config.depth, 1, 120, "1 to 120"),
        ("watch", config.watch, 1, 480, "1 to 480"),
        ("in_flight", config.in_flight as u64, 1, 1_000, "1 to 1000"),
        ("gas_limit", config.gas_limit, 100, 150_000, "100 to 150000"),
        ("balance_alarm_days", config.balance_alarm_days.into(), 0, 3_650, "0 to 3650"),
    ];
    for (name, found, least, most, range) in numbers {
        if !(least..=most).contains(&found) {
            return Err(ConfigError::Range { name, found: found.to_string(), range });
        }
    }
    Ok(())
}
