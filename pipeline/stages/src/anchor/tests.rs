use bytes::Bytes;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::SignerKey;
use killick_proof::{Algorithm, tree::verify_inclusion};

use super::*;
use crate::frame::AnchorFrame;
use crate::ports::{Look, Mined};
use crate::record::Micros;
use crate::route::ANCHORS;
use crate::span::Span;
use crate::testing::{NOW, SECOND, record, run, tick, to};

mod purse;

const ONE: &str = "killick.local/1/sha256/1";
const TWO: &str = "killick.local/1/sha256/2";

fn deployment() -> Deployment {
    Deployment::new(&crate::deployment::Config { chains: vec![7], ..Default::default() }).unwrap()
}

fn config() -> Config {
    Config { interval: Span::secs(10), depth: 3, watch: 1, in_flight: 2, ..Config::default() }
}

fn fresh() -> Anchor {
    with(config())
}

fn with(config: Config) -> Anchor {
    Anchor::new(&deployment(), &config, vec![SecretKey::from_seed(&[5; 32])]).unwrap()
}

fn anchor() -> Anchor {
    assigned(fresh())
}

fn assigned(mut anchor: Anchor) -> Anchor {
    anchor.assign(&input(), 0);
    anchor
}

fn input() -> Partition {
    Partition::new(CHECKPOINTS, 0)
}

fn note(origin: &str, size: u64) -> String {
    let signer = SignerKey::new(origin, SecretKey::from_seed(&[1; 32])).unwrap();
    let root = Algorithm::Sha256.digest(format!("{origin} {size}").as_bytes());
    Checkpoint { origin, size, root, extensions: "" }.sign(&signer).unwrap()
}

fn checkpoint(offset: u64, at: Micros, origin: &str, size: u64) -> Record {
    record(CHECKPOINTS, 0, offset, NOW + at * SECOND, note(origin, size))
}

/// What the stage asks, now that everything is committed: sends as the command, looks as their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Sent(Box<str>, Bytes),
    Looked(Vec<Box<str>>),
}

fn asked(anchor: &mut Anchor) -> Vec<Asked> {
    let asked = |(partition, request)| {
        assert_eq!(partition, input());
        Some(match request {
            Request::Balance { chain: 7, .. } => return None,
            Request::Send { chain: 7, key, command } => Asked::Sent(key, command),
            Request::Look { chain: 7, keys, .. } => Asked::Looked(keys),
            other => panic!("{other:?}"),
        })
    };
    anchor.requests().into_iter().filter_map(asked).collect()
}

fn answered(anchor: &mut Anchor, answer: Answer) -> Part {
    let mut part = Part::default();
    anchor.answer(&input(), answer, &mut part).unwrap();
    part
}

fn look(height: u64, at: Micros, mined: Option<(&str, u64, bool)>) -> Look {
    let mined = mined.map(|(key, height, success)| Mined {
        key: key.into(),
        height,
        block: format!("block {height}").into(),
        success,
    });
    // Blocks are a second apart, and three below the tip is deep.
    let deep_time = Some(NOW + (at - 3) * SECOND);
    Look { tip_height: height, tip_time: NOW + at * SECOND, deep_time, mined }
}

/// The stage with one interval over logs 1 and 2, whose first command was sent; the part that logged it; its key.
fn sent() -> (Anchor, Part, Box<str>) {
    sent_by(anchor())
}

fn sent_by(mut anchor: Anchor) -> (Anchor, Part, Box<str>) {
    let records = [
        checkpoint(0, 0, TWO, 5),
        checkpoint(1, 1, ONE, 3),
        checkpoint(2, 2, TWO, 6),
        checkpoint(3, 3, TWO, 4),
        tick(CHECKPOINTS, 0, 4, NOW + 10 * SECOND),
    ];
    let part = run(&mut anchor, &records).unwrap();
    let [Asked::Sent(key, _)] = &asked(&mut anchor)[..] else { panic!("not one command") };
    let key = key.clone();
    assert!(answered(&mut anchor, Answer::Sent(key.clone(), Sent::Taken)).is_empty());
    assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
    (anchor, part, key)
}

fn interval(part: &Part) -> Interval {
    let state = to(part, ANCHOR_LOG).into_iter().find(|output| &*output.key != POSITION.as_bytes()).unwrap();
    match AnchorState::decode(&state.value).unwrap() {
        AnchorState::Interval(interval) => interval,
        AnchorState::Position(_) => panic!("a position"),
    }
}

/// The stage after a crash: with what was committed.
fn restarted(next: u64, committed: &[&Part]) -> Anchor {
    restarted_with(config(), next, committed)
}

fn restarted_with(config: Config, next: u64, committed: &[&Part]) -> Anchor {
    let mut anchor = with(config);
    anchor.assign(&input(), next);
    for output in committed.iter().flat_map(|part| to(part, ANCHOR_LOG)) {
        let state = Record { key: output.key.clone(), ..record(ANCHOR_LOG, 0, 0, NOW, output.value.clone()) };
        anchor.restore(&state).unwrap();
    }
    anchor
}

#[test]
fn an_interval_covers_the_newest_checkpoint_of_each_log_and_is_logged_before_it_is_sent() {
    let mut anchor = anchor();
    assert!(run(&mut anchor, &[checkpoint(0, 0, TWO, 5), checkpoint(1, 1, ONE, 3)]).unwrap().is_empty());
    assert_eq!(anchor.tick_due(&input()), Some(NOW + 10 * SECOND));
    assert!(asked(&mut anchor).is_empty());
    let part = run(&mut anchor, &[checkpoint(2, 2, TWO, 6), checkpoint(3, 10, ONE, 4)]).unwrap();
    let interval = interval(&part);
    assert_eq!(&*interval.id, "3");
    assert_eq!(interval.cut, NOW + 2 * SECOND);
    assert!(interval.checkpoints.iter().map(|note| &**note).eq([note(ONE, 3), note(TWO, 6)].iter()));
    assert_eq!(part.through, Some(3));
    let [attempt] = &interval.attempts[..] else { panic!("not one attempt") };
    assert_eq!(asked(&mut anchor), [Asked::Sent(attempt.key.clone(), attempt.command.clone())]);
    assert!(asked(&mut anchor).is_empty(), "once");
    assert_eq!(anchor.tick_due(&input()), Some(NOW + 20 * SECOND), "the late one opened the next");
}

#[test]
fn a_command_that_is_deep_enough_is_told_to_each_log_that_it_covers() {
    let (mut anchor, _, key) = sent();
    let keys = vec![key.clone()];
    assert!(answered(&mut anchor, Answer::Seen(keys.clone(), look(9, 20, Some((&key, 7, true))))).is_empty());
    assert_eq!(asked(&mut anchor), [Asked::Looked(keys.clone())], "one block is missing");
    let part = answered(&mut anchor, Answer::Seen(keys, look(11, 21, Some((&key, 7, true)))));
    assert_eq!(part.through, None);
    let state = to(&part, ANCHOR_LOG);
    assert!(matches!(&state[..], [end] if &*end.key == b"5" && end.value.is_empty()));
    let anchors = to(&part, ANCHORS);
    assert!(anchors.iter().map(|output| output.partition.number).eq([1, 2]));
    for (output, (origin, size)) in anchors.iter().zip([(ONE, 3), (TWO, 6)]) {
        let frame = AnchorFrame::decode(&output.value).unwrap();
        assert_eq!((&*frame.origin, frame.size, &*frame.checkpoint), (origin, size, &*note(origin, size)));
        assert_eq!((frame.chain, &*frame.interval, &frame.key), (7, "0/5", &key));
        assert_eq!((frame.height, &*frame.block, frame.version), (7, "block 7", 1));
        let text = killick_proof::anchor::AnchorText::parse(&frame.text).unwrap();
        let leaf = Algorithm::Sha256.leaf(Note::parse(&frame.checkpoint).unwrap().text().as_bytes());
        let path: Vec<_> = frame.path.iter().copied().map(killick_proof::Hash::new).collect();
        let root = text.root().unwrap();
        verify_inclusion(Algorithm::Sha256, &leaf, frame.index, text.size(), &path, &root).unwrap();
    }
    assert!(asked(&mut anchor).is_empty(), "the interval is over");
}

#[test]
fn a_command_that_no_block_has_is_sent_again_byte_for_byte() {
    let (mut anchor, part, key) = sent();
    let command = interval(&part).attempts[0].command.clone();
    for said in [Sent::Unclear("500".into()), Sent::Taken] {
        assert!(answered(&mut anchor, Answer::Seen(vec![key.clone()], look(5, 20, None))).is_empty());
        assert_eq!(asked(&mut anchor), [Asked::Sent(key.clone(), command.clone())]);
        assert!(answered(&mut anchor, Answer::Sent(key.clone(), said)).is_empty());
        assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
    }
}

#[test]
fn a_block_that_is_orphaned_counts_for_nothing() {
    let (mut anchor, part, key) = sent();
    let keys = vec![key.clone()];
    answered(&mut anchor, Answer::Seen(keys.clone(), look(9, 20, Some((&key, 7, true)))));
    asked(&mut anchor);
    assert!(answered(&mut anchor, Answer::Seen(keys, look(12, 22, None))).is_empty());
    let command = interval(&part).attempts[0].command.clone();
    assert_eq!(asked(&mut anchor), [Asked::Sent(key, command)]);
}

#[test]
fn a_refused_command_is_looked_for_and_not_sent_again() {
    let (mut anchor, _, key) = sent();
    answered(&mut anchor, Answer::Seen(vec![key.clone()], look(5, 20, None)));
    asked(&mut anchor);
    answered(&mut anchor, Answer::Sent(key.clone(), Sent::Refused("gas".into())));
    for height in 6..9 {
        assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
        assert!(answered(&mut anchor, Answer::Seen(vec![key.clone()], look(height, 20, None))).is_empty());
    }
}

#[test]
fn another_attempt_is_made_only_when_the_first_is_provably_dead_and_is_logged_first() {
    let (mut anchor, cut, key) = sent();
    let keys = vec![key.clone()];
    // Cut at 10 s, it may wait 1,200 s: no block above one of 1,210 s takes it, once that one is three deep.
    let looks = [(50, 1_210), (52, 1_212), (53, 1_213)];
    let mut parts = looks.map(|(height, at)| {
        let part = answered(&mut anchor, Answer::Seen(keys.clone(), look(height, at, None)));
        if part.is_empty() {
            assert_eq!(asked(&mut anchor), [Asked::Looked(keys.clone())]);
        }
        part
    });
    assert!(parts[0].is_empty() && parts[1].is_empty());
    let part = std::mem::take(&mut parts[2]);
    let attempts = interval(&part).attempts;
    assert_eq!(part.through, None);
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [0, 20]);
    let mut after = restarted(5, &[&cut]);
    let last = Answer::Seen(keys.clone(), look(53, 1_213, None));
    assert_eq!(answered(&mut after, last), part, "one look says it, also after a restart");
    assert_eq!(asked(&mut anchor), [Asked::Sent(attempts[1].key.clone(), attempts[1].command.clone())]);
    answered(&mut anchor, Answer::Sent(attempts[1].key.clone(), Sent::Taken));
    let both: Vec<_> = attempts.iter().map(|attempt| attempt.key.clone()).collect();
    assert_eq!(asked(&mut anchor), [Asked::Looked(both.clone())], "all attempts are looked for");
    let first_after_all = look(70, 1_300, Some((&key, 60, true)));
    assert_eq!(to(&answered(&mut anchor, Answer::Seen(both, first_after_all)), ANCHORS).len(), 2);
}

#[test]
fn a_command_is_not_dead_where_nobody_can_say_how_old_the_deep_block_is() {
    let (mut anchor, _, key) = sent();
    let unknown = Look { deep_time: None, ..look(9_000, 90_000, None) };
    assert!(answered(&mut anchor, Answer::Seen(vec![key.clone()], unknown)).is_empty());
    assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key])]);
}

#[test]
fn a_chain_that_turns_back_before_the_end_of_a_command_revives_it() {
    let (mut anchor, part, key) = sent();
    let command = interval(&part).attempts[0].command.clone();
    answered(&mut anchor, Answer::Seen(vec![key.clone()], look(50, 1_210, None)));
    asked(&mut anchor);
    answered(&mut anchor, Answer::Seen(vec![key.clone()], look(53, 1_209, None)));
    assert_eq!(asked(&mut anchor), [Asked::Sent(key.clone(), command)]);
    answered(&mut anchor, Answer::Sent(key.clone(), Sent::Taken));
    asked(&mut anchor);
    assert!(answered(&mut anchor, Answer::Seen(vec![key], look(54, 1_210, None))).is_empty());
}

#[test]
fn a_command_that_failed_in_its_block_is_replaced_once_it_is_deep() {
    let (mut anchor, _, key) = sent();
    let keys = vec![key.clone()];
    assert!(
        answered(&mut anchor, Answer::Seen(keys.clone(), look(9, 20, Some((&key, 7, false))))).is_empty()
    );
    asked(&mut anchor);
    let part = answered(&mut anchor, Answer::Seen(keys, look(10, 40, Some((&key, 7, false)))));
    let [attempt] = &interval(&part).attempts[..] else {
        panic!("the spent command would be found for ever")
    };
    assert_eq!(attempt.number, 1);
    assert_eq!(asked(&mut anchor), [Asked::Sent(attempt.key.clone(), attempt.command.clone())]);
}

#[test]
fn an_older_command_that_turns_up_spent_is_given_up_and_the_newest_stays() {
    let (mut anchor, _, key) = sent();
    answered(&mut anchor, Answer::Seen(vec![key.clone()], look(50, 1_210, None)));
    let part = answered(&mut anchor, Answer::Seen(vec![key.clone()], look(53, 1_213, None)));
    let keys: Vec<_> = interval(&part).attempts.iter().map(|attempt| attempt.key.clone()).collect();
    asked(&mut anchor);
    let part = answered(&mut anchor, Answer::Seen(keys.clone(), look(60, 1_220, Some((&key, 50, false)))));
    assert!(interval(&part).attempts.iter().map(|attempt| &attempt.key).eq(&keys[1..]));
    assert_eq!(asked(&mut anchor), [Asked::Looked(keys[1..].to_vec())]);
}

#[test]
fn after_a_crash_every_interval_that_is_not_final_is_looked_for_first() {
    let (mut before, cut, key) = sent();
    let mut after = restarted(5, &[&cut]);
    assert_eq!(asked(&mut after), [Asked::Looked(vec![key.clone()])]);
    let seen = || Answer::Seen(vec![key.clone()], look(11, 20, Some((&key, 7, true))));
    let end = answered(&mut after, seen());
    assert_eq!(end, answered(&mut before, seen()), "the same as without the crash");
    assert!(asked(&mut restarted(5, &[&cut, &end])).is_empty(), "nothing is anchored twice");
}

#[test]
fn a_crash_before_the_commit_makes_the_same_command() {
    let records = [checkpoint(0, 0, ONE, 5), tick(CHECKPOINTS, 0, 1, NOW + 10 * SECOND)];
    let first = run(&mut anchor(), &records).unwrap();
    assert_eq!(run(&mut anchor(), &records).unwrap(), first);
}

#[test]
fn when_as_many_are_in_flight_as_may_be_checkpoints_gather() {
    let mut anchor = anchor();
    for (offset, at) in [(0, 0), (2, 20)] {
        let tick = tick(CHECKPOINTS, 0, offset + 1, NOW + (at + 10) * SECOND);
        run(&mut anchor, &[checkpoint(offset, at, ONE, offset + 1), tick]).unwrap();
    }
    let first = asked(&mut anchor).into_iter().next();
    let Some(Asked::Sent(key, _)) = first else { panic!("no command") };
    let part =
        run(&mut anchor, &[checkpoint(4, 40, ONE, 5), checkpoint(5, 60, ONE, 6), checkpoint(6, 80, TWO, 1)]);
    assert!(part.unwrap().is_empty());
    assert_eq!(anchor.tick_due(&input()), None);
    answered(&mut anchor, Answer::Sent(key.clone(), Sent::Taken));
    answered(&mut anchor, Answer::Seen(vec![key.clone()], look(10, 81, Some((&key, 1, true)))));
    assert_eq!(anchor.tick_due(&input()), Some(NOW + 50 * SECOND));
    let part = run(&mut anchor, &[tick(CHECKPOINTS, 0, 7, NOW + 82 * SECOND)]).unwrap();
    assert!(interval(&part).checkpoints.iter().map(|note| &**note).eq([note(ONE, 6), note(TWO, 1)].iter()));
}

#[test]
fn answers_about_what_is_over_change_nothing() {
    let (mut anchor, _, key) = sent();
    let seen = || Answer::Seen(vec![key.clone()], look(11, 20, Some((&key, 7, true))));
    answered(&mut anchor, seen());
    assert!(answered(&mut anchor, seen()).is_empty());
    assert!(answered(&mut anchor, Answer::Sent(key.clone(), Sent::Taken)).is_empty());
    assert!(asked(&mut anchor).is_empty());
    anchor.revoke(&input());
    assert!(answered(&mut anchor, seen()).is_empty());
}

#[test]
fn state_that_does_not_fit_the_input_stops_the_stage() {
    let (_, cut, _) = sent();
    assert!(run(&mut restarted(5, &[&cut]), &[checkpoint(5, 20, ONE, 9)]).is_ok());
    for next in [0, 4, 6] {
        assert!(run(&mut restarted(next, &[&cut]), &[checkpoint(next, 20, ONE, 9)]).is_err(), "{next}");
    }
    let mut lost = restarted(5, &[]);
    assert!(run(&mut lost, &[checkpoint(5, 20, ONE, 9)]).is_err());
    assert!(lost.restore(&record(ANCHOR_LOG, 0, 0, NOW, "x")).is_err());
    assert!(lost.restore(&record(ANCHOR_LOG, 0, 0, NOW, "")).is_err(), "an end of nothing");
}

#[test]
fn what_is_no_checkpoint_of_ours_stops_the_stage() {
    for value in ["x".to_owned(), note("killick.local/1/sha256/4", 1), note("other.example/1/sha256/0", 1)] {
        assert!(run(&mut anchor(), &[record(CHECKPOINTS, 0, 0, NOW, value.clone())]).is_err(), "{value}");
    }
    assert!(run(&mut fresh(), &[record(CHECKPOINTS, 1, 0, NOW, note(ONE, 1))]).is_err(), "no such chain");
}

#[test]
fn dead_attempts_do_not_pile_up() {
    let (mut anchor, _, key) = sent();
    let mut keys = vec![key];
    for round in 1..20 {
        let at = round * 10_000;
        let height = round as u64 * 100;
        let part = answered(&mut anchor, Answer::Seen(keys.clone(), look(height, at, None)));
        let attempts = interval(&part).attempts;
        assert!(attempts.len() <= MAX_ATTEMPTS);
        keys = attempts.iter().map(|attempt| attempt.key.clone()).collect();
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |config: Config| {
        Anchor::new(&deployment(), &config, vec![SecretKey::from_seed(&[5; 32])]).unwrap_err()
    };
    for (name, config) in [
        ("interval", Config { interval: Span::millis(9), ..config() }),
        ("poll", Config { poll: Span::secs(601), ..config() }),
        ("ttl", Config { ttl: Span::secs(119), ..config() }),
        ("depth", Config { depth: 0, ..config() }),
        ("watch", Config { watch: 0, ..config() }),
        ("watch", Config { watch: 481, ..config() }),
        ("in_flight", Config { in_flight: 0, ..config() }),
        ("gas_limit", Config { gas_limit: 99, ..config() }),
    ] {
        assert!(matches!(new(config), ConfigError::Range { name: found, .. } if found == name), "{name}");
    }
    assert!(matches!(new(Config { gas_price: "free".into(), ..config() }), ConfigError::Command(_)));
    // 400 units of gas at 1e-8 are 0.000004.
    for limit in ["0.0000039", "-1", "much", "1e-13", ""] {
        let refused = new(Config { spend_limit: Some(limit.into()), ..config() });
        assert_eq!(
            refused,
            ConfigError::SpendLimit { found: limit.into(), least: "0.000004000000".into() },
            "{limit}"
        );
    }
    let many = crate::deployment::Config { logs: 1_001, ..Default::default() };
    let many = Deployment::new(&many).unwrap();
    let refused = Anchor::new(&many, &config(), vec![SecretKey::from_seed(&[5; 32])]).unwrap_err();
    assert_eq!(refused, ConfigError::Logs { chain: 0, logs: 1_001 });
}

/// Looks after blocks for two more than the three that make them final.
fn watchful() -> Config {
    Config { watch: 2, ..config() }
}

/// The stage with an interval that was told of, in a block of height 7; the parts that it committed; its key.
fn told() -> (Anchor, [Part; 2], Box<str>) {
    let (mut anchor, cut, key) = sent_by(assigned(with(watchful())));
    let part = seen(&mut anchor, &key, 10, Some(7));
    assert_eq!(to(&part, ANCHORS).len(), 2);
    assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
    (anchor, [cut, part], key)
}

fn seen(anchor: &mut Anchor, key: &str, height: u64, mined: Option<u64>) -> Part {
    let mined = mined.map(|height| (key, height, true));
    answered(anchor, Answer::Seen(vec![key.into()], look(height, 20, mined)))
}

#[test]
fn an_interval_is_looked_after_for_a_while_once_it_is_told_of() {
    let (mut anchor, [cut, end], key) = told();
    for height in [10, 11] {
        assert!(seen(&mut anchor, &key, height, Some(7)).is_empty());
        assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
    }
    let last = seen(&mut anchor, &key, 12, Some(7));
    assert!(matches!(&to(&last, ANCHOR_LOG)[..], [end] if &*end.key == b"5" && end.value.is_empty()));
    assert!(to(&last, ANCHORS).is_empty() && anchor.alarms().is_empty());
    assert!(asked(&mut anchor).is_empty());
    assert!(asked(&mut restarted_with(watchful(), 5, &[&cut, &end, &last])).is_empty());
}

#[test]
fn a_deep_block_that_is_lost_is_an_alarm_and_the_same_command_is_anchored_and_told_of_again() {
    let (anchor, [cut, end], key) = told();
    let command = interval(&cut).attempts[0].command.clone();
    // The same with a crash before each step: the state says all.
    let crashed = |parts: &[&Part]| {
        let mut anchor = restarted_with(watchful(), 5, parts);
        assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
        anchor
    };
    for mut anchor in [anchor, crashed(&[&cut, &end])] {
        let lost = seen(&mut anchor, &key, 11, None);
        let alarms = anchor.alarms();
        assert!(matches!(&alarms[..], [(_, why)] if why.contains("block 7") && why.contains("chain 7")));
        assert!(to(&lost, ANCHORS).is_empty());
        assert_eq!(asked(&mut anchor), [Asked::Sent(key.clone(), command.clone())]);
        answered(&mut anchor, Answer::Sent(key.clone(), Sent::Taken));
        asked(&mut anchor);
        let mut after = crashed(&[&cut, &end, &lost]);
        assert_eq!(after.alarms(), alarms, "nobody may have heard it before the crash");
        for mut anchor in [anchor, after] {
            assert!(seen(&mut anchor, &key, 14, Some(12)).is_empty(), "one alarm, and not deep enough yet");
            let again = seen(&mut anchor, &key, 15, Some(12));
            let frames =
                to(&again, ANCHORS).into_iter().map(|output| AnchorFrame::decode(&output.value).unwrap());
            let told: Vec<_> = frames.map(|frame| (frame.key, frame.block, frame.version)).collect();
            assert_eq!(told, vec![(key.clone(), "block 12".into(), 2); 2]);
            assert!(anchor.alarms().is_empty());
        }
    }
}

#[test]
fn a_deep_block_that_is_lost_and_comes_back_is_not_told_of_again() {
    let (mut anchor, _, key) = told();
    seen(&mut anchor, &key, 11, Some(9));
    assert_eq!(anchor.alarms().len(), 1, "in another block is lost too");
    let back = seen(&mut anchor, &key, 11, Some(7));
    assert!(to(&back, ANCHORS).is_empty() && anchor.alarms().is_empty());
    assert!(to(&seen(&mut anchor, &key, 12, Some(7)), ANCHOR_LOG)[0].value.is_empty(), "it is over");
}

#[test]
fn a_node_that_is_behind_loses_no_block() {
    let (mut anchor, _, key) = told();
    assert!(seen(&mut anchor, &key, 9, None).is_empty());
    assert_eq!(asked(&mut anchor), [Asked::Looked(vec![key.clone()])]);
}

#[test]
fn what_is_looked_after_leaves_room_for_what_is_in_flight() {
    let config = Config { in_flight: 1, ..watchful() };
    let (mut anchor, _, key) = sent_by(assigned(with(config)));
    run(&mut anchor, &[checkpoint(5, 20, ONE, 9)]).unwrap();
    assert_eq!(anchor.tick_due(&input()), None);
    seen(&mut anchor, &key, 10, Some(7));
    assert_eq!(anchor.tick_due(&input()), Some(NOW + 30 * SECOND));
    seen(&mut anchor, &key, 11, None);
    assert_eq!(anchor.tick_due(&input()), None, "its block is lost");
}

#[test]
fn a_day_that_is_spent_makes_checkpoints_wait_for_the_next() {
    const DAY: Micros = 86_400 * SECOND;
    // One command a day.
    let frugal = || Config { spend_limit: Some("0.0000079".into()), ..config() };
    let (mut anchor, cut, key) = sent_by(assigned(with(frugal())));
    assert!(matches!(&anchor.alarms()[..], [(_, why)] if why.contains("spend_limit")));
    let midnight = (NOW / DAY + 1) * DAY;
    for anchor in [&mut anchor, &mut restarted_with(frugal(), 5, &[&cut])] {
        run(anchor, &[checkpoint(5, 20, ONE, 9)]).unwrap();
        assert_eq!(anchor.tick_due(&input()), Some(midnight));
        let before = tick(CHECKPOINTS, 0, 6, midnight - 1);
        assert!(to(&run(anchor, &[before]).unwrap(), ANCHOR_LOG).is_empty());
    }
    // Another attempt waits too, for the chain's own midnight.
    let keys = vec![key];
    let tip =
        |at: Micros, height| Look { tip_height: height, tip_time: at, deep_time: Some(at), mined: None };
    for height in [50, 53, 56] {
        let part = answered(&mut anchor, Answer::Seen(keys.clone(), tip(midnight - 1, height)));
        assert!(part.is_empty());
        assert_eq!(asked(&mut anchor), [Asked::Looked(keys.clone())]);
    }
    let part = answered(&mut anchor, Answer::Seen(keys, tip(midnight, 57)));
    assert_eq!(interval(&part).attempts.len(), 2);
    assert_eq!(anchor.tick_due(&input()), Some(midnight + DAY), "and that spent the next day");
}

#[test]
fn the_least_loaded_chain_is_taken_where_commands_wait_for_a_block() {
    let chains = crate::deployment::Config { chains: vec![7, 8], ..Default::default() };
    let deployment = Deployment::new(&chains).unwrap();
    let taken = |choice: Choice| {
        let config = Config { chain: choice, in_flight: 9, ..config() };
        let mut anchor =
            assigned(Anchor::new(&deployment, &config, vec![SecretKey::from_seed(&[5; 32])]).unwrap());
        (0..6)
            .map(|at| {
                let (offset, at) = (2 * at as u64, 20 * at);
                let tick = tick(CHECKPOINTS, 0, offset + 1, NOW + (at + 10) * SECOND);
                let part = run(&mut anchor, &[checkpoint(offset, at, ONE, offset + 1), tick]).unwrap();
                interval(&part).chain
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(taken(Choice::Sticky), [7; 6]);
    assert_eq!(taken(Choice::LeastLoaded), [7, 7, 8, 7, 8, 7], "one that waits is no load");
}
