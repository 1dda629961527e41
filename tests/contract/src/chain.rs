//! The contract of [`Chain`].

use std::time::{Duration, Instant};

use chainweb::header::Header;
use chainweb::merkle::Tag;
use chainweb::pact::CommandResult;
use chainweb::spv::Proof;
use killick_stages::ports::{Chain, ChainId, Look, Sent};

/// What is tested.
pub trait Subject {
    /// The chain port.
    fn chain(&self) -> &dyn Chain;

    /// A chain of the network.
    fn id(&self) -> ChainId;

    /// The request key and the exact bytes of a command that the chain takes and that returns `text`; another for
    /// another text.
    fn command(&self, text: &str) -> (Box<str>, Vec<u8>);

    /// The account that pays for those commands.
    fn account(&self) -> Box<str>;

    /// How long a command may wait for its block.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Runs the whole suite.
pub fn suite<S: Subject>(subject: &S) {
    a_command_is_in_a_block_once_however_often_it_is_sent(subject);
    a_proof_runs_from_the_output_to_its_block(subject);
    what_is_no_command_is_refused(subject);
    what_was_never_sent_is_nowhere(subject);
    a_command_is_paid_from_its_account(subject);
    a_deep_block_is_older_than_the_tip(subject);
}

fn a_command_is_in_a_block_once_however_often_it_is_sent<S: Subject>(subject: &S) {
    let (chain, id) = (subject.chain(), subject.id());
    let (key, command) = subject.command("contract one");
    for _ in 0..3 {
        assert_eq!(chain.send(id, &command).expect("the chain can be asked"), Sent::Taken);
    }
    let mined = mined(subject, &key).mined.expect("it waited for that");
    assert_eq!(mined.key, key);
    assert!(mined.success);
    // It may say anything to the same bytes now, but that they can never be mined.
    let again = chain.send(id, &command).expect("the chain can be asked");
    assert!(!matches!(again, Sent::Refused(_)), "{again:?}");
    let later = chain.look(id, &["A".repeat(43).into(), key], 0).expect("the chain can be asked");
    assert_eq!(later.mined, Some(mined), "found among other keys, in the same block");
}

fn a_proof_runs_from_the_output_to_its_block<S: Subject>(subject: &S) {
    let (chain, id) = (subject.chain(), subject.id());
    let (key, command) = subject.command("contract two");
    chain.send(id, &command).expect("the chain can be asked");
    let look = mined(subject, &key);
    let mined = look.mined.expect("it waited for that");
    let spv = chain.spv(id, &key).expect("the chain can be asked").expect("it is in a block");
    let proof = Proof::parse(&spv.proof).expect("a proof");
    let header = Header::decode(&spv.header).expect("a header");
    assert!(header.verify_hash());
    assert_eq!(proof.root(), header.hash, "the proof ends in that block");
    assert_eq!((header.hash.to_string().as_str(), header.height), (&*mined.block, mined.height));
    assert!(look.tip_height >= header.height && look.tip_time >= header.creation_time);
    let output = proof.subject_with_tag(Tag::OUTPUT).expect("the proof of an output");
    let result = CommandResult::parse(output).expect("a result");
    assert_eq!(result.success().and_then(serde_json::Value::as_str), Some("contract two"));
}

fn what_is_no_command_is_refused<S: Subject>(subject: &S) {
    for bytes in [&b""[..], b"{}", b"[1,2", &[0xff; 100]] {
        let said = subject.chain().send(subject.id(), bytes).expect("the chain can be asked");
        assert!(matches!(said, Sent::Refused(_)), "{bytes:?}: {said:?}");
    }
}

fn what_was_never_sent_is_nowhere<S: Subject>(subject: &S) {
    let (key, _) = subject.command("contract never");
    let look =
        subject.chain().look(subject.id(), std::slice::from_ref(&key), 0).expect("the chain can be asked");
    assert_eq!(look.mined, None);
    assert!(subject.chain().spv(subject.id(), &key).expect("the chain can be asked").is_none());
}

fn a_command_is_paid_from_its_account<S: Subject>(subject: &S) {
    let (chain, id, account) = (subject.chain(), subject.id(), subject.account());
    let balance = |account: &str| chain.balance(id, account).expect("the chain can be asked");
    let before = balance(&account).expect("it has paid for commands");
    let (key, command) = subject.command("contract three");
    chain.send(id, &command).expect("the chain can be asked");
    mined(subject, &key);
    let after = balance(&account).expect("it is still there");
    assert!(after < before, "{after} after {before}");
    assert_eq!(balance(&format!("k:{}", "0".repeat(64))), None);
}

fn a_deep_block_is_older_than_the_tip<S: Subject>(subject: &S) {
    let look = |depth| subject.chain().look(subject.id(), &[], depth).expect("the chain can be asked");
    let tip = look(0);
    assert_eq!(tip.deep_time, Some(tip.tip_time));
    let deep = look(2);
    assert!(deep.deep_time.is_some_and(|time| time < deep.tip_time), "{deep:?}");
    let first = look(u64::MAX);
    assert!(first.deep_time.is_some_and(|time| Some(time) < deep.deep_time), "the first block's: {first:?}");
}

fn mined<S: Subject>(subject: &S, key: &str) -> Look {
    let deadline = Instant::now() + subject.patience();
    loop {
        let look = subject.chain().look(subject.id(), &[key.into()], 0).expect("the chain can be asked");
        if look.mined.is_some() {
            return look;
        }
        assert!(Instant::now() < deadline, "{key} is in no block");
        std::thread::sleep(Duration::from_millis(20));
    }
}
