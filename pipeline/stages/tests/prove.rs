//! Prove and the receipts that come of it: what does not verify is never told of.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::report::{Level, Verdict};
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_stages::derive::Deriver;
use killick_stages::frame::AnchorFrame;
use killick_stages::ports::{Catalog, Look, Place, Spv};
use killick_stages::prove::{Config, ConfigError, Prove};
use killick_stages::record::{Output, Partition, Record};
use killick_stages::stage::{Answer, Part, Request, Stage};
use support::catalog::SimCatalog;
use support::story::{Story, prove};
use support::world::{deployment, signers};

/// What happens when the stored batches are changed before they are read back, and what was told then.
fn changed(change: impl Fn(&SimCatalog, &str)) -> (String, usize) {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    let origin = deployment().origin(story.log).unwrap().to_owned();
    change(&story.catalog, &origin);
    let why = story.step("anchors").and_then(|()| story.finish()).unwrap_err();
    (why, story.told.len())
}

#[test]
fn each_batch_is_told_of_once_and_in_order() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.step("anchors").unwrap();
    story.finish().unwrap();
    assert!(story.is_complete());
    let ready = &story.told[0];
    assert_eq!(&*ready.origin, deployment().origin(story.log).unwrap());
    assert!(ready.tenants.iter().map(|tenant| &**tenant).eq(["acme"]));
    let end = |topic| story.records(topic).last().unwrap().offset + 1;
    assert_eq!(story.through, [end("batches"), end("anchors")]);
}

#[test]
fn anchors_wait_for_their_batches() {
    let mut story = Story::new();
    story.step("anchors").unwrap();
    assert!(story.asked.is_empty());
    story.step("batches").unwrap();
    assert!(story.told.is_empty());
    story.finish().unwrap();
    assert!(story.is_complete());
}

#[test]
fn a_crash_after_any_answer_loses_nothing_and_tells_nothing_twice() {
    let mut answers = 0;
    loop {
        let mut story = Story::new();
        story.step("batches").unwrap();
        story.step("anchors").unwrap();
        for _ in 0..answers {
            if !story.answer(|answer| answer).unwrap() {
                assert!(answers > 20);
                return;
            }
        }
        story.crash();
        story.finish().unwrap();
        assert!(story.is_complete(), "after {answers} answers");
        answers += 1;
    }
}

#[test]
fn what_the_catalog_changed_is_never_told_of() {
    type Change = fn(&SimCatalog, &str);
    let cases: [(&str, Change); 5] = [
        ("statements are not those", |catalog, origin| {
            catalog.damage(origin, 0, |batch| batch.statements.swap_remove(0).clear());
        }),
        ("statements are not those", |catalog, origin| {
            catalog.damage(origin, 0, |batch| {
                let mut first = batch.statements[0].to_vec();
                first[20] ^= 1;
                batch.statements[0] = first.into();
            });
        }),
        ("header", |catalog, origin| {
            catalog.damage(origin, 0, |batch| batch.header = batch.header.slice(1..));
        }),
        ("it is batch 1 of", |catalog, origin| {
            let other = catalog.batch(origin, 1).unwrap().unwrap();
            catalog.damage(origin, 0, |batch| *batch = other);
        }),
        ("log.path", |catalog, _| catalog.damage_nodes()),
    ];
    for (reason, change) in cases {
        let (why, told) = changed(change);
        assert!(why.contains(reason), "{why}");
        assert_eq!(told, 0, "{why}");
    }
}

#[test]
fn a_batch_that_is_gone_is_never_told_of() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    let forget =
        |answer| if matches!(answer, Answer::BatchRead(_)) { Answer::BatchRead(None) } else { answer };
    let why = loop {
        match story.answer(forget) {
            Ok(is_more) => assert!(is_more),
            Err(why) => break why,
        }
    };
    assert!(why.contains("it is not there"), "{why}");
}

#[test]
fn a_proof_that_does_not_hold_is_never_stored() {
    let other = |story: &Story| {
        let last = story.records("anchors").last().unwrap().clone();
        let frame = AnchorFrame::decode(&last.value).unwrap();
        story.sim.world.chains[&frame.chain].spv(&frame.key).unwrap()
    };
    type Forge<'f> = &'f dyn Fn(Spv, &Story) -> Spv;
    let cases: [(&str, Forge<'_>); 2] = [
        ("does not verify", &|spv, story| Spv { proof: other(story).proof, ..spv }),
        ("the chain's proof", &|spv, _| Spv { proof: spv.proof.slice(1..), ..spv }),
    ];
    for (reason, forge) in cases {
        let mut story = Story::new();
        story.step("batches").unwrap();
        story.finish().unwrap();
        story.step("anchors").unwrap();
        let mut forged = None;
        let why = loop {
            let Some((_, Request::Spv { chain, key })) = story.asked.front() else {
                match story.answer(|answer| answer) {
                    Ok(is_more) => assert!(is_more),
                    Err(why) => break why,
                }
                continue;
            };
            let genuine = story.sim.world.chains[chain].spv(key).unwrap();
            let made = Answer::Spv(key.clone(), Some(Box::new(forge(genuine, &story))));
            forged.get_or_insert(());
            match story.answer(|_| made) {
                Ok(_) => {}
                Err(why) => break why,
            }
        };
        assert!(forged.is_some() && why.contains(reason), "{reason}: {why}");
        let origin = deployment().origin(story.log).unwrap().to_owned();
        assert!(story.catalog.anchors_of(&origin, 0).unwrap().is_empty() && story.told.is_empty());
    }
}

#[test]
fn a_proof_that_the_chain_cannot_give_now_is_asked_for_again() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    for _ in 0..3 {
        let Some((_, Request::Spv { .. })) = story.asked.front() else { panic!("{:?}", story.asked) };
        story.answer(|answer| proven(&answer, |_| None)).unwrap();
        let Some((_, Request::Look { .. })) = story.asked.front() else { panic!("{:?}", story.asked) };
        story.answer(|answer| answer).unwrap();
    }
    story.finish().unwrap();
    assert!(story.is_complete());
}

/// What the chain said of a command, changed.
fn proven(answer: &Answer, change: impl Fn(Spv) -> Option<Spv>) -> Answer {
    match answer {
        Answer::Spv(key, Some(spv)) => Answer::Spv(key.clone(), change((**spv).clone()).map(Box::new)),
        other => other.clone(),
    }
}

#[test]
fn a_proof_that_ends_in_another_block_than_the_deep_one_is_asked_for_again() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    let last = AnchorFrame::decode(&story.records("anchors").last().unwrap().value).unwrap();
    let other = story.sim.world.chains[&last.chain].spv(&last.key).unwrap();
    let damaged = other.header.slice(1..);
    for header in [other.header, damaged] {
        let Some((_, Request::Spv { .. })) = story.asked.front() else { panic!("{:?}", story.asked) };
        let moved = |spv: Spv| Some(Spv { header: header.clone(), ..spv });
        story.answer(|answer| proven(&answer, moved)).unwrap();
        let Some((_, Request::Look { .. })) = story.asked.front() else { panic!("{:?}", story.asked) };
        story.answer(|answer| answer).unwrap();
        assert!(story.told.is_empty());
    }
    story.finish().unwrap();
    assert!(story.is_complete());
}

/// What a chain that lost the block of the first anchor for good says: no proof, and looks far beyond that block.
fn lost(answer: Answer) -> Answer {
    match answer {
        Answer::Spv(key, _) => Answer::Spv(key, None),
        Answer::Seen(keys, look) => Answer::Seen(keys, Look { tip_height: 1_000_000, mined: None, ..look }),
        other => other,
    }
}

/// Answers so until a proof was looked for so many times; the alarms that were raised.
fn looks(story: &mut Story, looks: usize) -> Vec<Box<str>> {
    let mut alarms = Vec::new();
    for _ in 0..looks {
        story.answer(lost).unwrap();
        let Some((_, Request::Look { .. })) = story.asked.front() else { panic!("{:?}", story.asked) };
        story.answer(lost).unwrap();
        alarms.extend(story.prove.alarms().into_iter().map(|(_, why)| why));
    }
    alarms
}

/// Looks every five seconds until twenty minutes are over.
const LONG: usize = 240;

#[test]
fn a_proof_that_is_waited_for_too_long_is_an_alarm_and_the_next_anchor_proves_what_it_would_have() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    let first = AnchorFrame::decode(&story.records("anchors")[0].value).unwrap();
    assert!(looks(&mut story, LONG - 1).is_empty());
    let raised = looks(&mut story, 1);
    let [why] = &raised[..] else { panic!("{raised:?}") };
    let chain = format!("height {} of chain {}", first.height, first.chain);
    for part in [&*first.block, &chain, &first.interval, &first.origin, "in no block", "proven by the next"] {
        assert!(why.contains(part), "{why}");
    }
    story.finish().unwrap();
    assert!(story.is_complete());
    let block = story.told[0].block.as_ref().unwrap();
    assert_ne!(block.hash, first.block);
}

#[test]
fn a_proof_without_which_nothing_goes_on_is_an_alarm_once_a_day() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    let only = story.records("anchors")[0].clone();
    let mut part = Part::default();
    story.prove.step(&only, &mut part).unwrap();
    story.take(&only.partition, part).unwrap();
    assert_eq!(looks(&mut story, LONG).len(), 1);
    assert!(looks(&mut story, 17_279).is_empty());
    let raised = looks(&mut story, 1);
    assert!(
        matches!(&raised[..], [why] if why.contains("its batches wait for another anchor")),
        "{raised:?}"
    );
    // It comes after all.
    story.finish().unwrap();
    assert!(!story.told.is_empty() && story.prove.alarms().is_empty());
}

#[test]
fn a_node_that_is_behind_is_waited_for_without_an_alarm() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.step("anchors").unwrap();
    let behind = |answer| match lost(answer) {
        Answer::Seen(keys, look) => Answer::Seen(keys, Look { tip_height: 0, ..look }),
        other => other,
    };
    for _ in 0..4 * LONG {
        story.answer(behind).unwrap();
        assert!(story.prove.alarms().is_empty());
    }
    story.finish().unwrap();
    assert!(story.is_complete());
}

/// Loses the block where the anchor at `index` was told of, and all above; tells of those anchors again in their new blocks.
fn lose(story: &mut Story, index: usize) {
    let frames: Vec<_> = story.records("anchors").iter().map(|record| record.value.clone()).collect();
    let frames: Vec<_> = frames.iter().map(|value| AnchorFrame::decode(value).unwrap()).collect();
    let (world, partition) = (&mut story.sim.world, Partition::new("anchors", story.log));
    let chain = world.chains.get_mut(&frames[index].chain).unwrap();
    chain.lose(frames[index].height, &mut world.dice);
    for frame in frames.into_iter().filter(|frame| !chain.has(&frame.block)) {
        let mined = chain.look(std::slice::from_ref(&frame.key), 0).mined.unwrap();
        let again = AnchorFrame { height: mined.height, block: mined.block, version: 2, ..frame };
        let output = Output::new(partition.clone(), again.origin.to_string(), again.encode());
        world.log.append(&output, world.now, &mut world.dice);
    }
}

#[test]
fn what_was_told_of_by_a_block_that_is_lost_amid_its_batches_is_corrected_and_the_rest_is_told_of_once() {
    let mut amid = 0;
    for told in 1.. {
        let mut story = Story::new();
        story.step("batches").unwrap();
        story.step("anchors").unwrap();
        while story.told.len() < told && story.answer(|answer| answer).unwrap() {}
        let frames: Vec<_> = story.records("anchors");
        let sizes = frames.iter().map(|record| AnchorFrame::decode(&record.value).unwrap().size);
        let Some(index) = sizes.clone().position(|size| size > told as u64) else { break };
        amid += usize::from(!sizes.clone().any(|size| size == told as u64));
        lose(&mut story, index);
        let block = |number: &u64| story.told[*number as usize].block.clone().unwrap();
        let is_void = |number: &u64| {
            let block = block(number);
            !story.sim.world.chains[&block.chain].has(&block.hash)
        };
        let all = story.records("batches").len() as u64;
        let mut expected: Vec<u64> = (0..told as u64).filter(is_void).chain(told as u64..all).collect();
        // A crash right then, and others while it is made good.
        for answers in [0, 3, 8, 13] {
            story.crash();
            for _ in 0..answers {
                story.answer(|answer| answer).unwrap();
            }
        }
        story.finish().unwrap();
        let mut after: Vec<_> = story.told[told..].iter().map(|ready| ready.number).collect();
        after.sort_unstable();
        expected.sort_unstable();
        assert_eq!(after, expected, "lost after {told} batches");
        for ready in &story.told[told..] {
            let block = ready.block.as_ref().unwrap();
            assert!(story.sim.world.chains[&block.chain].has(&block.hash), "batch {}", ready.number);
        }
    }
    assert!(amid > 3, "{amid} of the anchors had batches that were told of and others");
}

#[test]
fn records_that_do_not_belong_here_stop_the_stage() {
    let mut story = Story::new();
    let second = story.records("batches")[1].clone();
    let step = |story: &mut Story, record: &Record| story.prove.step(record, &mut Part::default());
    assert!(step(&mut story, &second).is_err(), "a gap");
    let mut story = Story::new();
    let mut other = story.records("anchors")[0].clone();
    let mut frame = AnchorFrame::decode(&other.value).unwrap();
    frame.origin = "sim.example/2/sha256/0".into();
    other.value = frame.encode();
    assert!(step(&mut story, &other).is_err(), "another generation");
    story.assign();
    other.value = "x".into();
    assert!(step(&mut story, &other).is_err());
}

#[test]
fn state_that_does_not_fit_the_input_stops_the_stage() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    story.prove = prove(&Config::default());
    story.through[0] -= 1;
    story.assign();
    let last = story.records("batches").last().unwrap().clone();
    let why = story.prove.step(&last, &mut Part::default()).unwrap_err();
    assert!(why.why.contains("do not belong together"), "{why}");
}

#[test]
fn every_log_needs_its_key() {
    let keys: Vec<_> = signers(&deployment()).iter().map(|signer| signer.verifier()).collect();
    let new = |keys: &[_]| Prove::new(&deployment(), &Config::default(), keys.to_vec()).map(|_| ());
    assert_eq!(new(&keys[1..]), Err(ConfigError::NoKey("sim.example/1/sha256/0".into())));
    assert_eq!(new(&keys), Ok(()));
}

#[test]
fn receipts_are_derived_once_their_batch_is_anchored() {
    let mut story = Story::new();
    story.step("batches").unwrap();
    story.finish().unwrap();
    let place =
        |number, index| Place { origin: deployment().origin(story.log).unwrap().into(), number, index };
    let places = [place(0, 0), place(0, 1_000), place(1_000, 0)];
    for place in &places {
        assert_eq!(Deriver::new(&story.catalog).receipt_of(place).unwrap(), None);
    }
    story.step("anchors").unwrap();
    story.finish().unwrap();
    let mut deriver = Deriver::new(&story.catalog);
    let receipt = deriver.receipt_of(&places[0]).unwrap().unwrap();
    assert_eq!(deriver.receipt_of(&places[0]).unwrap().unwrap(), receipt);
    assert!(places[1..].iter().all(|place| deriver.receipt_of(place).unwrap().is_none()));

    let keys = signers(&deployment());
    let logs = keys.iter().map(|key| LogKey { key: key.verifier(), until: None }).collect();
    let mut verifier = Verifier::new(Trust::new(&TrustFile { logs, ..TrustFile::default() }).unwrap());
    let report = verifier.verify(receipt.to_json().as_bytes(), None);
    assert_eq!(report.verdict(Level::Anchored), Verdict::Reached, "{report:?}");

    story.catalog.damage_nodes();
    let origin = deployment().origin(story.log).unwrap().to_owned();
    story.catalog.damage(&origin, 0, |batch| batch.statements.clear());
    assert!(Deriver::new(&story.catalog).receipt_of(&places[0]).is_err());
}
