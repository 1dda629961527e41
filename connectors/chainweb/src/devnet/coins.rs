//! Coins: amounts of them, and giving some to an account out of nothing, as no node does.

use std::fmt;
use std::str::FromStr;

use super::decimal::Decimal;
use super::mempool::Account;
use super::network::{Network, public_key};
use super::nodes::{Shared, lock};
use super::{Devnet, GiveError};

/// 10^12 parts make one coin.
const UNITS: u128 = 1_000_000_000_000;

/// The most that is given at once: 2^64 - 1 coins.
const MOST: u128 = u64::MAX as u128 * UNITS;

/// Accounts beyond which no more are made.
pub(super) const MAX_ACCOUNTS: usize = 10_000;

/// An amount of the coin, exact to its smallest part, 10^-12.
///
/// As text it is a decimal of at most 12 places: `0.00012`, `100`, `1e-8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coins(u128);

/// No amount of the coin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of the coin: a decimal from 0 to 2^64 - 1 of at most 12 places, such as 0.00012")]
pub struct CoinsError(String);

impl Coins {
    /// So many whole ones.
    pub const fn whole(coins: u64) -> Self {
        Self(coins as u128 * UNITS)
    }

    /// In 10^-12 of the coin.
    pub(super) const fn units(self) -> u128 {
        self.0
    }
}

impl FromStr for Coins {
    type Err = CoinsError;

    fn from_str(text: &str) -> Result<Self, CoinsError> {
        let units = Decimal::parse(text).and_then(|amount| amount.to_units());
        let is_known = |units: &u128| *units <= MOST;
        units.filter(is_known).map(Self).ok_or_else(|| CoinsError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Coins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Decimal::from_units(self.0).fixed())
    }
}

/// What an account is given on each chain.
pub(super) struct Gift {
    pub(super) name: String,
    /// The key that guards an account which is not there yet, and the coins.
    pub(super) account: Account,
}

impl Network {
    /// The coins as a gift to an account that is there, or that its name says the key of.
    fn gift(&self, name: &str, coins: Coins) -> Result<Gift, GiveError> {
        // All chains have the same accounts.
        let accounts = self.chains().first().map(|chain| &chain.accounts);
        let known = accounts.and_then(|accounts| accounts.get(name));
        let key = match known {
            Some(account) => account.key.clone(),
            None if accounts.is_some_and(|accounts| accounts.len() >= MAX_ACCOUNTS) => {
                return Err(GiveError::TooMany);
            }
            None => name
                .strip_prefix("k:")
                .and_then(|key| public_key(key).ok())
                .ok_or_else(|| GiveError::NoAccount(name.chars().take(256).collect()))?,
        };
        Ok(Gift { name: name.to_owned(), account: Account { key, balance: coins.units() } })
    }

    /// Gives it on each chain. What blocks charged and charge, and what is undone, counts beside it.
    pub(super) fn take_gift(&mut self, gift: &Gift) {
        for chain in self.chains_mut() {
            let Account { key, balance } = &gift.account;
            let account = chain.accounts.entry(gift.name.clone());
            let account = account.or_insert_with(|| Account { key: key.clone(), balance: 0 });
            account.balance = account.balance.saturating_add(*balance);
        }
    }
}

impl Shared {
    fn give(&self, name: &str, coins: Coins) -> Result<(), GiveError> {
        let mut journal = self.journal()?;
        let gift = self.network(0).gift(name, coins)?;
        // A crash before this line: nothing was given. After it: it is there, though nobody saw it yet.
        if let Some(journal) = journal.as_mut() {
            journal.append_gift(&gift)?;
        }
        self.nodes.iter().for_each(|node| lock(&node.network).take_gift(&gift));
        tracing::info!(account = name, %coins, "an account is given coins out of nothing, on each chain");
        Ok(())
    }
}

impl Devnet {
    /// Gives an account coins out of nothing, on each chain and all nodes; durable when this returns. They are in no block,
    /// and stay where blocks are undone. An account that is not there is made if its name is `k:` and a public key.
    ///
    /// # Errors
    /// [`GiveError`]; then nothing has changed.
    pub fn give(&self, account: &str, coins: Coins) -> Result<(), GiveError> {
        self.shared.give(account, coins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_to_their_smallest_part() {
        for (text, units, fixed) in [
            ("0", 0, "0"),
            ("100", 100 * UNITS, "100"),
            ("0.00012", 120_000_000, "0.00012"),
            ("1e-8", 10_000, "0.00000001"),
            ("0.000000000001", 1, "0.000000000001"),
            ("18446744073709551615", MOST, "18446744073709551615"),
        ] {
            let coins: Coins = text.parse().unwrap();
            assert_eq!((coins.units(), coins.to_string()), (units, fixed.to_owned()), "{text}");
            assert_eq!(coins.to_string().parse(), Ok(coins));
        }
        assert_eq!(Coins::whole(u64::MAX).units(), MOST);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-1", "x", "1e-13", "18446744073709551616", "1e300", "1,5", &"9".repeat(1_000)] {
            let error = text.parse::<Coins>().unwrap_err().to_string();
            assert!(error.contains("at most 12 places") && error.len() < 200, "{error}");
        }
    }
}
