use killick_proof::Algorithm;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::SignerKey;

use super::*;
use crate::frame::AnchorFrame;
use crate::ports::{Look, Mined, Sent};
use crate::record::Output;
use crate::span::Span;
use crate::stage::{Answer, Stage as _};
use crate::state::{AnchorState, Interval};
use crate::testing::{HOUR, NOW as START, SECOND, record, run, tick, to};

const OURS: &str = "killick.local/1/sha256/1";
/// Of a deployment that was before this one.
const OLD: &str = "killick.local/0/keccak256/3";

fn series(name: &str) -> Series {
    let origins = [OURS, OLD].map(Into::into).into();
    Series { name: name.to_owned(), network: "elsewhere".to_owned(), chains: vec![7, 9], origins }
}

fn config() -> Config {
    Config { interval: Span::secs(3_600), depth: 3, watch: 2, ..Config::default() }
}

fn stage_of(series: &Series) -> Result<Anchor, ConfigError> {
    let deployment = Deployment::new(&crate::deployment::Config::default()).unwrap();
    Anchor::of_series(&deployment, series, &config(), vec![SecretKey::from_seed(&[5; 32])])
}

/// The stage as it goes on at an offset, with what was committed before.
fn stage(next: u64, committed: &[&Part]) -> Anchor {
    let mut stage = stage_of(&series("later")).unwrap();
    stage.assign(&input(), next);
    for output in committed.iter().flat_map(|part| to(part, REANCHOR_LOG)) {
        let mut state = record(REANCHOR_LOG, 0, 0, START, output.value.clone());
        state.key = output.key.clone();
        stage.restore(&state).unwrap();
    }
    stage
}

fn input() -> Partition {
    Partition::new(REANCHOR, 0)
}

fn clock(offset: u64, at: Micros) -> Record {
    tick(REANCHOR, 0, offset, START + at)
}

fn wish(offset: u64, at: Micros, series: &'static str) -> Record {
    let mut wish = record(REANCHOR, 0, offset, START + at, NOW);
    wish.key = series.into();
    wish
}

fn note(origin: &str, size: u64) -> Box<str> {
    let signer = SignerKey::new(origin, SecretKey::from_seed(&[1; 32])).unwrap();
    let root = Algorithm::Sha256.digest(format!("{origin} {size}").as_bytes());
    Checkpoint { origin, size, root, extensions: "" }.sign(&signer).unwrap().into()
}

/// What is asked, but for what accounts hold.
fn requests(stage: &mut Anchor) -> Vec<(Partition, Request)> {
    let mut requests = stage.requests();
    requests.retain(|(_, request)| !matches!(request, Request::Balance { .. }));
    requests
}

/// Whether the catalog is asked what is the newest, and nothing else is.
fn is_asked(stage: &mut Anchor) -> bool {
    let requests = requests(stage);
    let asks = |(partition, request): &(Partition, Request)| {
        *partition == input() && matches!(request, Request::Newest { series } if &**series == "later")
    };
    assert!(requests.len() < 2 && requests.iter().all(asks), "{requests:?}");
    !requests.is_empty()
}

fn answered(stage: &mut Anchor, answer: Answer) -> Part {
    let mut part = Part::default();
    stage.answer(&input(), answer, &mut part).unwrap();
    part
}

fn newest(stage: &mut Anchor, notes: &[Box<str>]) -> Part {
    answered(stage, Answer::Newest(notes.to_vec()))
}

/// The command that is sent: its chain, key and text.
fn sent(stage: &mut Anchor) -> (ChainId, Box<str>, bytes::Bytes) {
    match requests(stage).pop() {
        Some((_, Request::Send { chain, key, command })) => (chain, key, command),
        other => panic!("{other:?}"),
    }
}

fn intent(part: &Part) -> (&Output, Interval) {
    let of = |output: &&Output| !output.key.ends_with(b"/position");
    let output = to(part, REANCHOR_LOG).into_iter().find(of).unwrap();
    match AnchorState::decode(&output.value).unwrap() {
        AnchorState::Interval(interval) => (output, interval),
        AnchorState::Position(_) => panic!("a position"),
    }
}

/// The stage whose first command is sent, the part that logged it, and the command.
fn begun() -> (Anchor, Part, (ChainId, Box<str>, bytes::Bytes)) {
    let mut stage = stage(0, &[]);
    assert_eq!(
        stage.tick_due(&input()).map(|due| due < START),
        Some(true),
        "the first time it is due at once"
    );
    run(&mut stage, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut stage));
    assert_eq!(stage.tick_due(&input()), None, "an answer is awaited");
    let part = newest(&mut stage, &[note(OLD, 9), note(OURS, 4)]);
    let command = sent(&mut stage);
    (stage, part, command)
}

#[test]
fn the_newest_checkpoint_of_every_log_is_anchored_and_the_intent_is_logged_first() {
    let (mut stage, part, (chain, key, command)) = begun();
    assert_eq!((chain, part.through), (7, Some(1)));
    let (output, interval) = intent(&part);
    assert_eq!((&*output.key, output.partition.number), (&b"later/1"[..], 0));
    assert_eq!(interval.checkpoints, [note(OLD, 9), note(OURS, 4)]);
    assert_eq!(interval.attempts[0].command, command);
    let text = String::from_utf8(command.to_vec()).unwrap();
    assert!(text.contains("killick/killick.local/1/later/0/1/0") && text.contains("elsewhere"), "{text}");

    let mined = Mined { key: key.clone(), height: 100, block: "block".into(), success: true };
    let look = Look { tip_height: 103, tip_time: START, deep_time: None, mined: Some(mined) };
    answered(&mut stage, Answer::Sent(key.clone(), Sent::Taken));
    let told = answered(&mut stage, Answer::Seen(vec![key], look));
    let frames = to(&told, REANCHORS);
    assert!(frames.iter().all(|output| output.partition.number == 0));
    let frames: Vec<_> = frames.iter().map(|output| AnchorFrame::decode(&output.value).unwrap()).collect();
    let what = |frame: &AnchorFrame| (frame.interval.to_string(), frame.origin.to_string(), frame.size);
    let name = || "later/0/1".to_owned();
    assert_eq!(
        frames.iter().map(what).collect::<Vec<_>>(),
        [(name(), OLD.to_owned(), 9), (name(), OURS.to_owned(), 4)]
    );
}

#[test]
fn it_is_done_once_an_interval_and_where_nothing_is_new_not_at_all() {
    let mut stage = stage(0, &[]);
    run(&mut stage, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut stage));
    run(&mut stage, &[clock(1, SECOND)]).unwrap();
    assert!(!is_asked(&mut stage), "one answer is awaited");
    let part = newest(&mut stage, &[]);
    assert_eq!((part.through, part.outputs.len()), (Some(1), 1));
    assert_eq!(stage.tick_due(&input()), Some(START + HOUR));
    run(&mut stage, &[clock(2, HOUR - 1)]).unwrap();
    assert!(!is_asked(&mut stage));
    run(&mut stage, &[clock(3, HOUR)]).unwrap();
    assert!(is_asked(&mut stage));
}

#[test]
fn a_wish_is_done_at_once_and_that_of_another_series_is_not_ours() {
    let mut stage = stage(0, &[]);
    run(&mut stage, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut stage));
    newest(&mut stage, &[]);
    run(&mut stage, &[wish(1, SECOND, "another")]).unwrap();
    assert!(!is_asked(&mut stage));
    run(&mut stage, &[wish(2, SECOND, "later")]).unwrap();
    assert!(is_asked(&mut stage));
}

#[test]
fn after_a_crash_the_same_bytes_are_looked_for_and_sent() {
    let (_, part, (_, key, command)) = begun();
    let mut again = stage(1, &[&part]);
    let looked = requests(&mut again).pop();
    let Some((_, Request::Look { keys, .. })) = looked else { panic!("{looked:?}") };
    assert_eq!(keys, std::slice::from_ref(&key));
    let look = Look { tip_height: 5, tip_time: START, deep_time: None, mined: None };
    answered(&mut again, Answer::Seen(vec![key], look));
    assert_eq!(sent(&mut again).2, command);
    // Before the commit nothing was begun: the same is asked anew.
    let mut anew = stage(0, &[]);
    run(&mut anew, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut anew));
    assert_eq!(intent(&newest(&mut anew, &[note(OLD, 9), note(OURS, 4)])).1.attempts[0].command, command);
}

#[test]
fn series_keep_their_state_side_by_side() {
    let (_, part, _) = begun();
    let mut other = stage_of(&series("late")).unwrap();
    other.assign(&input(), 0);
    for output in to(&part, REANCHOR_LOG) {
        let mut state = record(REANCHOR_LOG, 0, 0, START, output.value.clone());
        state.key = output.key.clone();
        other.restore(&state).unwrap();
    }
    assert!(requests(&mut other).is_empty());
    run(&mut other, &[clock(0, 0)]).unwrap();
    other.requests();
    let own = intent(&newest(&mut other, &[note(OLD, 9), note(OURS, 4)])).1;
    assert_ne!(own.attempts[0].key, intent(&part).1.attempts[0].key, "one command cannot stand for both");
}

#[test]
fn what_is_on_its_way_is_not_anchored_twice() {
    let (mut stage, ..) = begun();
    run(&mut stage, &[wish(1, SECOND, "later")]).unwrap();
    assert!(is_asked(&mut stage));
    let part = newest(&mut stage, &[note(OLD, 9), note(OURS, 5)]);
    assert_eq!(intent(&part).1.checkpoints, [note(OURS, 5)]);
}

#[test]
fn a_log_without_a_key_is_an_alarm_and_the_others_are_anchored() {
    let mut stage = stage(0, &[]);
    run(&mut stage, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut stage));
    let strange = "killick.local/0/keccak256/4";
    let part = newest(&mut stage, &[note(strange, 2), note(OURS, 5)]);
    assert_eq!(intent(&part).1.checkpoints, [note(OURS, 5)]);
    let alarms = stage.alarms();
    assert!(alarms.len() == 1 && alarms[0].1.contains(strange) && alarms[0].1.contains(".pub"), "{alarms:?}");
}

#[test]
fn more_logs_than_an_interval_takes_go_on_at_the_next_tick() {
    let origins: Vec<String> = (0..MAX_LOGS + 2).map(|log| format!("killick.local/1/sha256/{log}")).collect();
    let mut many = series("later");
    many.origins = origins.iter().map(|origin| origin.as_str().into()).collect();
    let mut stage = stage_of(&many).unwrap();
    stage.assign(&input(), 0);
    run(&mut stage, &[clock(0, 0)]).unwrap();
    assert!(is_asked(&mut stage));
    let notes: Vec<_> = many.origins.iter().map(|origin| note(origin, 3)).collect();
    let first = intent(&newest(&mut stage, &notes)).1.checkpoints;
    assert_eq!(first.len(), MAX_LOGS);
    assert!(stage.tick_due(&input()).is_some_and(|due| due < START), "at once");
    stage.requests();
    run(&mut stage, &[clock(1, 1)]).unwrap();
    assert!(is_asked(&mut stage));
    let second = intent(&newest(&mut stage, &notes)).1.checkpoints;
    assert_eq!([first, second].concat(), notes);
    assert_eq!(stage.tick_due(&input()), Some(START + 1 + HOUR));
}

#[test]
fn what_cannot_be_a_series_is_refused() {
    assert!(matches!(stage_of(&series("a b")), Err(ConfigError::Series(name)) if name == "a b"));
    let none = Series { chains: Vec::new(), ..series("later") };
    assert!(matches!(stage_of(&none), Err(ConfigError::Chains(0))));
}
