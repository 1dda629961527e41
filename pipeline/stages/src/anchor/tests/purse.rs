//! What the accounts that pay hold.

use super::*;
use crate::ports::Balance;

/// What one command may cost: 400 units of gas at 1e-8, in 10^-12 of the coin.
const COST: u128 = 4_000_000;

fn account() -> Box<str> {
    format!("k:{}", hex::encode(SecretKey::from_seed(&[5; 32]).public().as_bytes())).into()
}

/// After how long each account on the lane's chain is to be asked for.
fn asks(anchor: &mut Anchor) -> Vec<(Box<str>, Duration)> {
    let ask = |(_, request)| match request {
        Request::Balance { chain: 7, account, after } => Some((account, after)),
        _ => None,
    };
    anchor.requests().into_iter().filter_map(ask).collect()
}

/// The alarms that follow from what the account is said to hold.
fn alarms(anchor: &mut Anchor, balance: Balance) -> Vec<Box<str>> {
    assert!(answered(anchor, Answer::Balance(account(), balance)).is_empty());
    assert_eq!(asks(anchor), [(account(), Duration::from_secs(600))], "asked for again");
    anchor.alarms().into_iter().map(|(_, why)| why).collect()
}

/// The stage with two commands made, one on each of two days.
fn spender(config: Config) -> Anchor {
    let mut anchor = assigned(with(config));
    for (offset, at) in [(0, 0), (2, 86_400)] {
        let tick = tick(CHECKPOINTS, 0, offset + 1, NOW + (at + 10) * SECOND);
        run(&mut anchor, &[checkpoint(offset, at, ONE, offset + 1), tick]).unwrap();
    }
    assert_eq!(asks(&mut anchor), [(account(), Duration::ZERO)]);
    anchor
}

#[test]
fn an_account_that_lasts_for_too_short_a_time_is_an_alarm_once_until_it_has_recovered() {
    let mut anchor = spender(config());
    for _ in 0..2 {
        assert!(alarms(&mut anchor, Balance::Units(14 * COST)).is_empty(), "14 days at one command a day");
        let raised = alarms(&mut anchor, Balance::Units(14 * COST - 1));
        let [why] = &raised[..] else { panic!("{raised:?}") };
        for part in [&*account(), "chain 7", "0.000055999999 of the coin", "lasts 13 days", "wants 14"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(alarms(&mut anchor, Balance::Units(13 * COST)).is_empty(), "once");
    }
}

#[test]
fn an_account_that_stays_low_is_an_alarm_once_a_day() {
    let mut anchor = spender(config());
    // The first, and one after each day of looks every ten minutes.
    let raised = (0..300).map(|_| alarms(&mut anchor, Balance::Units(5 * COST)).len());
    let raised: Vec<_> = raised.enumerate().filter(|(_, count)| *count > 0).collect();
    assert_eq!(raised, [(0, 1), (144, 1), (288, 1)]);
}

#[test]
fn an_account_that_can_pay_for_nothing_is_an_alarm_at_once() {
    let mut anchor = assigned(fresh());
    asks(&mut anchor);
    assert!(alarms(&mut anchor, Balance::Units(COST)).is_empty(), "nothing was spent yet");
    let none = alarms(&mut anchor, Balance::NoAccount);
    assert!(matches!(&none[..], [why] if why.contains("chain 7 does not exist")), "{none:?}");
    assert!(alarms(&mut anchor, Balance::Units(0)).is_empty(), "it is the same alarm");
    assert!(alarms(&mut anchor, Balance::Units(COST)).is_empty());
    let empty = alarms(&mut anchor, Balance::Units(COST - 1));
    assert!(matches!(&empty[..], [why] if why.contains("a command may cost 0.000004000000")), "{empty:?}");
    // From low to empty is worse, and said.
    let mut anchor = spender(config());
    assert_eq!(alarms(&mut anchor, Balance::Units(COST)).len(), 1);
    assert_eq!(alarms(&mut anchor, Balance::Units(1)).len(), 1);
}

#[test]
fn a_balance_that_nobody_can_say_is_asked_for_again_and_holds_nothing_up() {
    let mut anchor = spender(config());
    assert!(alarms(&mut anchor, Balance::Unknown("no node answers".into())).is_empty());
    assert_eq!(alarms(&mut anchor, Balance::Units(COST)).len(), 1);
    assert!(alarms(&mut anchor, Balance::Unknown("no node answers".into())).is_empty());
    assert!(alarms(&mut anchor, Balance::Units(COST)).is_empty(), "silence is no recovery");
    // What is asked of another account, or was asked before the partition went, changes nothing.
    answered(&mut anchor, Answer::Balance("k:other".into(), Balance::NoAccount));
    assert!(anchor.alarms().is_empty() && asks(&mut anchor).is_empty());
    anchor.revoke(&input());
    assert!(answered(&mut anchor, Answer::Balance(account(), Balance::NoAccount)).is_empty());
    assert!(anchor.alarms().is_empty());
}

#[test]
fn no_alarm_is_raised_where_none_is_wanted() {
    let mut anchor = spender(Config { balance_alarm_days: 0, ..config() });
    assert!(alarms(&mut anchor, Balance::NoAccount).is_empty());
}

#[test]
fn the_spending_is_that_of_the_dearer_of_two_days_and_survives_a_restart() {
    let config = || Config { in_flight: 99, ..config() };
    let (mut anchor, mut parts) = (assigned(with(config())), Vec::new());
    // Three commands on the first day, one on the next.
    for (offset, at) in [(0, 0), (2, 100), (4, 200), (6, 86_400)] {
        let tick = tick(CHECKPOINTS, 0, offset + 1, NOW + (at + 10) * SECOND);
        parts.push(run(&mut anchor, &[checkpoint(offset, at, ONE, offset + 1), tick]).unwrap());
    }
    let parts: Vec<_> = parts.iter().collect();
    for mut anchor in [anchor, restarted_with(config(), 8, &parts)] {
        asks(&mut anchor);
        assert!(alarms(&mut anchor, Balance::Units(3 * 14 * COST)).is_empty());
        let raised = alarms(&mut anchor, Balance::Units(3 * 14 * COST - 1));
        assert!(matches!(&raised[..], [why] if why.contains("a day may cost 0.000012000000")), "{raised:?}");
        // A day later, that of one command alone counts; after two, nothing is spent.
        for (day, days) in [(2, 14), (3, 1)] {
            run(&mut anchor, &[tick(CHECKPOINTS, 0, 6 + day, NOW + day as i64 * 86_400 * SECOND)]).unwrap();
            assert!(alarms(&mut anchor, Balance::Units(days * COST)).is_empty(), "day {day}");
            assert_eq!(alarms(&mut anchor, Balance::Units(days * COST - 1)).len(), 1, "day {day}");
        }
    }
}
