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

/// The stage with three keys; each pays, or `sender` does.
fn several(sender: Option<&str>) -> Anchor {
    let config = Config { in_flight: 999, sender: sender.map(str::to_owned), ..config() };
    let keys = [5, 6, 7].map(|seed| SecretKey::from_seed(&[seed; 32]));
    assigned(Anchor::new(&deployment(), &config, keys.into()).unwrap())
}

/// The accounts that pay for so many intervals, and how many keys sign.
fn payers(anchor: &mut Anchor, from: u64, intervals: u64) -> Vec<(String, usize)> {
    let paid = |number: u64| {
        let (offset, at) = (2 * number, 20 * number as Micros);
        let tick = tick(CHECKPOINTS, 0, offset + 1, NOW + (at + 10) * SECOND);
        let part = run(anchor, &[checkpoint(offset, at, ONE, offset + 1), tick]).unwrap();
        payer(&interval(&part).attempts[0].command)
    };
    (from..from + intervals).map(paid).collect()
}

fn payer(command: &Bytes) -> (String, usize) {
    let command = chainweb::pact::Command::parse(command).unwrap();
    command.verify().unwrap();
    let cmd: serde_json::Value = serde_json::from_str(&command.cmd).unwrap();
    (cmd["meta"]["sender"].as_str().unwrap().to_owned(), command.sigs.len())
}

#[test]
fn several_accounts_take_turns_and_one_that_lacks_the_money_is_passed_over() {
    let mut anchor = several(None);
    let accounts: Vec<_> = asks(&mut anchor).into_iter().map(|(account, _)| account).collect();
    assert_eq!(accounts.len(), 3);
    let shares = |paid: &[(String, usize)]| {
        assert!(paid.iter().all(|(_, signers)| *signers == 1));
        let share = |account: &str| paid.iter().filter(|(payer, _)| **payer == *account).count();
        accounts.iter().map(|account| share(account)).collect::<Vec<_>>()
    };
    let paid = payers(&mut anchor, 0, 60);
    assert!(shares(&paid).into_iter().all(|share| share > 10), "{paid:?}");
    assert_eq!(payers(&mut several(None), 0, 60), paid, "the same again");
    for (account, units) in accounts.iter().zip([COST - 1, COST]) {
        answered(&mut anchor, Answer::Balance(account.clone(), Balance::Units(units)));
    }
    let paid = payers(&mut anchor, 60, 60);
    let [0, one, two] = shares(&paid)[..] else { panic!("{paid:?}") };
    assert!(one > 10 && two > 10, "{paid:?}");
    for account in &accounts {
        answered(&mut anchor, Answer::Balance(account.clone(), Balance::NoAccount));
    }
    assert!(shares(&payers(&mut anchor, 120, 60)).into_iter().all(|share| share > 10), "one may be filled");
}

#[test]
fn a_named_account_pays_for_all_and_all_keys_sign() {
    let mut anchor = several(Some("treasury"));
    assert_eq!(asks(&mut anchor), [("treasury".into(), Duration::ZERO)]);
    assert_eq!(payers(&mut anchor, 0, 3), vec![("treasury".to_owned(), 3); 3]);
}

#[test]
fn the_next_attempt_may_be_another_accounts_and_a_restart_sends_what_was_made() {
    let keys = || [5, 6, 7].map(|seed| SecretKey::from_seed(&[seed; 32])).to_vec();
    let fresh = || Anchor::new(&deployment(), &config(), keys()).unwrap();
    let (mut anchor, cut, key) = sent_by(assigned(fresh()));
    let first = payer(&interval(&cut).attempts[0].command).0;
    answered(&mut anchor, Answer::Balance(first.as_str().into(), Balance::Units(0)));
    let keys = vec![key];
    answered(&mut anchor, Answer::Seen(keys.clone(), look(50, 1_210, None)));
    let retried = answered(&mut anchor, Answer::Seen(keys, look(53, 1_213, None)));
    let attempts = interval(&retried).attempts;
    assert_ne!(payer(&attempts[1].command).0, first);
    // Nothing is known of balances after a restart, and nothing is made anew.
    let mut after = fresh();
    after.assign(&input(), 5);
    for output in [&cut, &retried].into_iter().flat_map(|part| to(part, ANCHOR_LOG)) {
        let state = record(ANCHOR_LOG, 0, 0, NOW, output.value.clone());
        after.restore(&Record { key: output.key.clone(), ..state }).unwrap();
    }
    let both: Vec<_> = attempts.iter().map(|attempt| attempt.key.clone()).collect();
    assert_eq!(asked(&mut after), [Asked::Looked(both.clone())]);
    answered(&mut after, Answer::Seen(both, look(54, 1_214, None)));
    assert_eq!(asked(&mut after), [Asked::Sent(attempts[1].key.clone(), attempts[1].command.clone())]);
}

#[test]
fn keys_that_cannot_work_are_refused() {
    let new = |seeds: &[u8]| {
        let keys = seeds.iter().map(|seed| SecretKey::from_seed(&[*seed; 32])).collect();
        Anchor::new(&deployment(), &config(), keys).map(|_| ()).unwrap_err()
    };
    assert_eq!(new(&[]), ConfigError::Keys(0));
    assert_eq!(new(&(0..17).collect::<Vec<_>>()), ConfigError::Keys(17));
    assert!(matches!(new(&[5, 6, 5]), ConfigError::SameKey(key) if account().ends_with(&key)));
}

#[test]
fn what_is_spent_and_held_and_how_far_intervals_are_can_be_seen() {
    let purse = |spent, held, days| Gauge::Purse { series: "".into(), chain: 7, spent, held, days };
    let intervals = |[waiting, mined, deep, lost]: [u64; 4]| Gauge::Intervals {
        series: "".into(),
        chain: 7,
        waiting,
        mined,
        deep,
        lost,
    };
    assert_eq!(anchor().gauges(), [intervals([0; 4]), purse(0, None, None)]);
    let mut spender = spender(config());
    assert_eq!(spender.gauges(), [intervals([2, 0, 0, 0]), purse(COST, None, None)]);
    alarms(&mut spender, Balance::Units(5 * COST + 1));
    assert_eq!(spender.gauges()[1], purse(COST, Some(5 * COST + 1), Some(5)));
    // Another day has begun, and nothing was spent in it.
    let open = checkpoint(4, 2 * 86_400, ONE, 9);
    run(&mut spender, &[open]).unwrap();
    assert_eq!(spender.gauges()[1], purse(0, Some(5 * COST + 1), Some(5)));

    let (mut anchor, _, key) = sent();
    let counts = |anchor: &Anchor| anchor.gauges()[0].clone();
    let seen = |height, mined| Answer::Seen(vec![key.clone()], look(height, 20, mined));
    answered(&mut anchor, seen(10, Some((&key, 10, true))));
    assert_eq!(counts(&anchor), intervals([0, 1, 0, 0]));
    answered(&mut anchor, seen(13, Some((&key, 10, true))));
    assert_eq!(counts(&anchor), intervals([0, 0, 1, 0]));
    answered(&mut anchor, seen(14, None));
    assert_eq!(counts(&anchor), intervals([0, 0, 0, 1]));
}
