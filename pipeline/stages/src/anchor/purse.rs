//! Who pays, what they hold, and for how long that lasts.
//!
//! Where several accounts pay, they take turns, as a hash of the attempt's name says. One that is known to lack the money for a
//! command is passed over. The command that was made is in `anchor-log`, so that a restart changes nothing about it.
//!
//! The spending is that of the dearer of the last two days: today so far, or the whole day before. Each command counts with
//! all the gas that it may use, as for the limit of a day, so what is there lasts for so long at least. `anchor-log` says
//! it, and it is the same after a restart; in the first hours of a lane it is what was spent until then.

use std::time::Duration;

use super::Anchor;
use super::lane::coins;
use crate::ports::{Balance, ChainId};
use crate::record::Partition;

/// The time after which an alarm that still holds is raised again.
const AGAIN: Duration = Duration::from_secs(86_400);

/// An account that pays for commands on its lane's chain.
#[derive(Debug)]
pub(super) struct Purse {
    pub(super) account: Box<str>,
    /// What it held when it was asked for last, in 10^-12 of the coin: 0 also where there is no such account. `None` before
    /// it was known.
    pub(super) units: Option<u128>,
    /// How long to wait before it is asked for; `None` while an answer is awaited.
    pub(super) ask: Option<Duration>,
    want: Want,
    /// How long ago the last alarm was raised.
    since: Duration,
}

/// What an account wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    Nothing,
    /// It does not last for as long as is wanted.
    More,
    /// It cannot pay for a command.
    Any,
}

impl Purse {
    /// An account of which nothing is known.
    pub(super) fn new(account: Box<str>) -> Self {
        let (units, ask) = (None, Some(Duration::ZERO));
        Self { account, units, ask, want: Want::Nothing, since: Duration::ZERO }
    }
}

impl Anchor {
    /// Which of the accounts pays for an attempt on this chain for an interval, which is named by its lane and id.
    pub(super) fn payer(&self, chain: ChainId, (lane, id): (u32, u64), attempt: u64) -> usize {
        let payers = self.builder.payers.len();
        let name = [u64::from(lane), id, attempt].map(u64::to_le_bytes).concat();
        let turn = usize::try_from(xxhash_rust::xxh3::xxh3_64(&name) % payers as u64).unwrap_or_default();
        let purses = self.lanes.values().find(|lane| lane.chain == chain).map(|lane| &lane.purses[..]);
        let lacks = |payer: usize| {
            let purse = purses.and_then(|purses| purses.get(payer));
            purse.and_then(|purse| purse.units).is_some_and(|units| units < self.budget.cost())
        };
        let mut all = (0..payers).map(|after| (turn + after) % payers);
        all.find(|payer| !lacks(*payer)).unwrap_or(turn)
    }

    /// Takes what an account holds, and raises an alarm where that does not last.
    pub(super) fn held(&mut self, partition: &Partition, account: &str, balance: &Balance) {
        let (poll, days) = (self.config.balance_poll.duration(), self.config.balance_alarm_days);
        let Some(lane) = self.lanes.get_mut(&partition.number) else { return };
        let (chain, pace) = (lane.chain, u128::from(lane.pace().unsigned_abs()));
        let pace = pace.div_ceil(lane.purses.len().max(1) as u128);
        let Some(purse) = lane.purses.iter_mut().find(|purse| *purse.account == *account) else { return };
        purse.ask = Some(poll);
        purse.since = purse.since.saturating_add(poll);
        let units = match balance {
            Balance::Units(units) => *units,
            Balance::NoAccount => 0,
            // It is asked for again, and nothing else waits for it.
            Balance::Unknown(_) => return,
        };
        purse.units = Some(units);
        let want = if units < self.budget.cost() {
            Want::Any
        } else if units < pace.saturating_mul(days.into()) {
            Want::More
        } else {
            Want::Nothing
        };
        let before = std::mem::replace(&mut purse.want, want);
        if days == 0 || want == Want::Nothing || (want <= before && purse.since < AGAIN) {
            return;
        }
        purse.since = Duration::ZERO;
        let what = match (balance, want) {
            (Balance::NoAccount, _) => {
                "does not exist: nothing that it has to pay for is anchored there".to_owned()
            }
            (_, Want::Any) => format!(
                "has {} of the coin, and a command may cost {}: nothing that it has to pay for is anchored there",
                coins(units),
                coins(self.budget.cost())
            ),
            _ => format!(
                "has {} of the coin, which lasts {} days where a day may cost {} ([anchor] balance_alarm_days wants {days})",
                coins(units),
                units / pace.max(1),
                coins(pace)
            ),
        };
        let why = format!("account {account} on chain {chain} {what}; transfer coins to it on that chain");
        self.alarms.push((partition.clone(), why.into()));
    }
}
