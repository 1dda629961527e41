//! The check of a catalog has to find what it is there for: whatever is changed behind its back is found and named.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use bytes::Bytes;
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_stages::fsck::{Fault, Figures, Fsck, Mark, Observer, Part};
use killick_stages::ports::{Catalog as _, Place};
use killick_stages::record::Partition;
use killick_stages::series::OWN;
use support::catalog::Inner;
use support::log::SimReader;
use support::world::{Faults, Sim, signers};

#[derive(Default)]
struct Heard {
    faults: Vec<Fault>,
    marks: Vec<Mark>,
}

impl Observer for Heard {
    fn found(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn checked(&mut self, _: &str, mark: &Mark, size: u64) {
        assert!(mark.log.size() <= size);
        self.marks.push(mark.clone());
    }
}

fn trust(signers: &[SignerKey]) -> Trust {
    let logs = signers.iter().map(|key| LogKey { key: key.verifier(), until: None }).collect();
    Trust::new(&TrustFile { logs, ..TrustFile::default() }).unwrap()
}

fn world() -> Sim {
    let mut sim = Sim::new(5, Faults::default());
    sim.run(300).unwrap();
    // One series is enough to be damaged.
    sim.world.catalog.tables().anchors.retain(|(_, series, _), _| series == OWN);
    sim
}

/// Checks every log, against the log too, with every event.
fn check(sim: &Sim) -> (Vec<Fault>, Figures) {
    let mut reader = SimReader { log: &sim.world.log, partitions: sim.deployment.logs() };
    let mut heard = Heard::default();
    let trust = trust(&signers(&sim.deployment));
    let mut fsck = Fsck::new(&sim.world.catalog, Some(&mut reader), trust, true, &mut heard);
    for origin in fsck.origins().unwrap() {
        fsck.check(&origin, None).unwrap();
    }
    let figures = fsck.figures();
    assert_eq!(figures.faults, heard.faults.len() as u64);
    (heard.faults, figures)
}

/// What is found after a change, as parts with numbers; each is told of log 1.
fn found(sim: &Sim) -> Vec<(Part, u64)> {
    let (faults, _) = check(sim);
    let origin = origin(sim);
    faults
        .iter()
        .map(|fault| {
            assert_eq!(&*fault.origin, origin, "{fault}");
            assert!(fault.to_string().contains(origin), "{fault}");
            (fault.part, fault.number)
        })
        .collect()
}

fn origin(sim: &Sim) -> &str {
    sim.deployment.origin(1).unwrap()
}

/// What is found where the tables of log 1 are changed.
fn after(change: impl FnOnce(&mut Inner, &str)) -> Vec<(Part, u64)> {
    let sim = world();
    change(&mut sim.world.catalog.tables(), origin(&sim));
    found(&sim)
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    bytes.into()
}

#[test]
fn a_sound_catalog_is_clean_and_all_of_it_is_checked() {
    let sim = world();
    let (faults, figures) = check(&sim);
    assert_eq!(faults, []);
    let tables = sim.world.catalog.tables();
    let leaves: usize = tables.batches.values().map(|batch| batch.statements.len()).sum();
    let expected = Figures {
        logs: 3,
        batches: tables.batches.len() as u64,
        leaves: leaves as u64,
        nodes: tables.nodes.len() as u64,
        events: leaves as u64,
        anchors: tables.anchors.values().map(Vec::len).sum::<usize>() as u64,
        trusted: 0,
        compared: tables.batches.len() as u64,
        faults: 0,
    };
    assert_eq!(figures, expected);
    assert!(figures.anchors > 3 && figures.batches > 30);
}

#[test]
fn a_batch_that_is_changed_is_found_whatever_is_changed_of_it() {
    let batch = |change: fn(&mut killick_stages::ports::BatchRecord)| {
        after(|tables, origin| change(tables.batches.get_mut(&(origin.to_owned(), 5)).unwrap()))
    };
    let parts = |found: &[(Part, u64)]| found.iter().map(|(part, _)| *part).collect::<Vec<_>>();
    let only_of_5 = |found: &[(Part, u64)]| found.iter().all(|(_, number)| *number == 5);

    let statement = batch(|batch| batch.statements[0] = flip(&batch.statements[0], 50));
    assert!(parts(&statement).contains(&Part::Batch) && parts(&statement).contains(&Part::Record));
    assert!(only_of_5(&statement), "{statement:?}");

    let missing = batch(|batch| drop(batch.statements.pop()));
    assert!(parts(&missing).contains(&Part::Batch) && only_of_5(&missing), "{missing:?}");

    let header = batch(|batch| batch.header = flip(&batch.header, batch.header.len() - 1));
    assert!(parts(&header).contains(&Part::Batch) || parts(&header).contains(&Part::Node), "{header:?}");
    // One bad byte is no fault of the batches behind it.
    assert!(only_of_5(&header), "{header:?}");

    let edge = batch(|batch| batch.edge = flip(&batch.edge, 30));
    assert_eq!(parts(&edge), [Part::Record, Part::Edge]);
    let checkpoint =
        batch(|batch| batch.checkpoint = batch.checkpoint.replace("sim.example", "sin.example").into());
    assert_eq!(parts(&checkpoint), [Part::Record, Part::Checkpoint]);
    let unsigned = batch(|batch| {
        let text = batch.checkpoint.trim_end();
        batch.checkpoint = format!("{}AAAA=\n", &text[..text.len() - 5]).into();
    });
    assert_eq!(parts(&unsigned), [Part::Record, Part::Checkpoint]);
}

#[test]
fn a_batch_that_is_missing_is_found_and_the_tree_goes_on_behind_it() {
    let found = after(|tables, origin| drop(tables.batches.remove(&(origin.to_owned(), 5))));
    assert_eq!(found, [(Part::Batch, 5), (Part::Record, 5)]);
}

#[test]
fn every_stored_node_is_computed_anew() {
    let sim = world();
    let names: Vec<_> =
        sim.world.catalog.tables().nodes.keys().filter(|(of, ..)| of == origin(&sim)).cloned().collect();
    for name in names {
        let old = sim.world.catalog.tables().nodes.insert(name.clone(), [7; 32]).unwrap();
        assert!(found(&sim).iter().any(|(part, _)| *part == Part::Node), "{name:?}");
        sim.world.catalog.tables().nodes.remove(&name);
        assert!(found(&sim).iter().any(|(part, _)| *part == Part::Node), "{name:?}");
        sim.world.catalog.tables().nodes.insert(name, old);
    }
    assert_eq!(found(&sim), []);
}

#[test]
fn what_stands_behind_the_end_of_a_log_is_found() {
    let size = |tables: &Inner, origin: &str| tables.logs[origin].size();
    let found = after(|tables, origin| {
        let (size, last) = (size(tables, origin), tables.batches[&(origin.to_owned(), 0)].clone());
        tables.batches.insert((origin.to_owned(), size), last);
    });
    assert!(matches!(found[..], [(Part::Batch, _)]), "{found:?}");
    for level in 0..4_u8 {
        let found = after(|tables, origin| {
            let index = size(tables, origin) >> level;
            tables.nodes.insert((origin.to_owned(), level, index), [1; 32]);
        });
        assert!(matches!(found[..], [(Part::Node, _)]), "{level}: {found:?}");
    }
}

#[test]
fn an_anchor_that_is_changed_or_lost_is_found() {
    let anchor = |change: fn(&mut killick_stages::ports::AnchorRecord)| {
        after(|tables, origin| {
            let mut of_log = tables.anchors.iter_mut().filter(|((of, ..), _)| of == origin);
            change(&mut of_log.next().unwrap().1[0]);
        })
    };
    let hash = anchor(|anchor| {
        let text = String::from_utf8(anchor.anchor.to_vec()).unwrap();
        let at = text.find("\"object\":\"").unwrap() + 40;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        anchor.anchor = format!("{}{other}{}", &text[..at], &text[at + 1..]).into();
    });
    assert!(hash.iter().all(|(part, _)| *part == Part::Anchor) && !hash.is_empty(), "{hash:?}");
    let junk = anchor(|anchor| anchor.anchor = Bytes::from_static(b"{}"));
    assert!(junk.iter().all(|(part, _)| *part == Part::Anchor) && !junk.is_empty(), "{junk:?}");
    let size = anchor(|anchor| anchor.size += 1);
    assert!(size.iter().all(|(part, _)| *part == Part::Anchor) && !size.is_empty(), "{size:?}");

    // The last one: the log tells of proofs that no anchor covers any more.
    let lost = after(|tables, origin| {
        let last = tables.anchors.keys().rfind(|(of, ..)| of == origin).unwrap().clone();
        tables.anchors.remove(&last);
    });
    assert!(matches!(lost[..], [(Part::Anchor, _)]), "{lost:?}");
}

#[test]
fn an_event_that_the_index_misses_doubles_or_invents_is_found_with_its_name() {
    let sim = world();
    let place = sim.world.catalog.places().into_iter().find(|place| &*place.origin == origin(&sim)).unwrap();
    let name = {
        let tables = sim.world.catalog.tables();
        tables.places.iter().find(|(_, places)| places.contains(&place)).unwrap().0.clone()
    };
    let set = |places: &[Place]| {
        sim.world.catalog.tables().places.insert(name.clone(), places.to_vec());
        let (faults, _) = check(&sim);
        for fault in &faults {
            assert_eq!((fault.part, fault.number), (Part::Event, place.number));
            assert_eq!(*fault.event.as_ref().unwrap().id, *name.2);
        }
        faults.len()
    };
    let elsewhere = Place { index: place.index + 1, ..place.clone() };
    assert_eq!(set(&[]), 1);
    assert_eq!(set(&[place.clone(), place.clone()]), 1);
    assert_eq!(set(&[place.clone(), elsewhere.clone()]), 1);
    assert_eq!(set(&[elsewhere]), 2);
    assert_eq!(set(std::slice::from_ref(&place)), 0);
}

#[test]
fn a_batch_that_a_day_does_not_list_is_found() {
    for number in [0, 3] {
        let found =
            after(|tables, origin| tables.days.retain(|(_, _, of, n)| !(of == origin && *n == number)));
        assert_eq!(found, [(Part::Day, number)]);
    }
}

#[test]
fn a_catalog_that_differs_from_the_log_is_found_either_way() {
    let mut sim = world();
    let partition = Partition::new("batches", 1);
    let last = sim.world.log.partitions.get_mut(&partition).unwrap().pop().unwrap();
    assert!(matches!(found(&sim)[..], [(Part::Record, _)]));
    // What the log has beyond the catalog waits to be stored.
    let records = sim.world.log.partitions.get_mut(&partition).unwrap();
    records.push(last);
    let newest = records[0].clone();
    let mut header = killick_stages::ports::BatchRecord::decode(&newest.value).unwrap();
    header.edge = Bytes::from_static(b"another");
    records[0].value = header.encode();
    assert_eq!(found(&sim), [(Part::Record, 0)]);
    // What retention took is not compared.
    sim.world.log.starts.insert(partition, 5);
    assert_eq!(found(&sim), []);
}

#[test]
fn a_log_that_the_catalog_does_not_know_is_found() {
    assert_eq!(after(|tables, origin| drop(tables.logs.remove(origin))), [(Part::Log, 0)]);
}

#[test]
fn a_log_that_shrank_or_has_no_key_is_found() {
    let sim = world();
    let origin = origin(&sim).to_owned();
    let mut heard = Heard::default();
    let strangers = trust(&[SignerKey::new(&origin, SecretKey::from_seed(&[3; 32])).unwrap()]);
    let mut fsck = Fsck::new(&sim.world.catalog, None, strangers, false, &mut heard);
    fsck.check(&origin, None).unwrap();
    assert!(heard.faults.iter().any(|fault| fault.part == Part::Checkpoint));
    assert!(heard.faults.iter().any(|fault| fault.part == Part::Anchor));

    let mut heard = Heard::default();
    let mut fsck = Fsck::new(&sim.world.catalog, None, trust(&signers(&sim.deployment)), false, &mut heard);
    let mark = fsck.check(&origin, None).unwrap().unwrap();
    let before = sim.world.catalog.log_size(&origin).unwrap();
    let mut smaller = killick_proof::log::Log::new(mark.log.algorithm());
    for number in 0..before - 1 {
        let batch = sim.world.catalog.batch(&origin, number).unwrap().unwrap();
        smaller.append(mark.log.algorithm().leaf(&batch.header), |_, _| {}).unwrap();
    }
    sim.world.catalog.tables().logs.insert(origin.clone(), smaller);
    let mut heard = Heard::default();
    let mut fsck = Fsck::new(&sim.world.catalog, None, trust(&signers(&sim.deployment)), false, &mut heard);
    fsck.check(&origin, Some(mark)).unwrap();
    assert!(matches!(heard.faults[..], [Fault { part: Part::Log, .. }]));
}

#[test]
fn a_check_goes_on_where_it_ended_and_not_behind_a_fault() {
    let sim = world();
    let origin = origin(&sim).to_owned();
    let run = |from: Option<Mark>| {
        let mut heard = Heard::default();
        let mut reader = SimReader { log: &sim.world.log, partitions: sim.deployment.logs() };
        let trust = trust(&signers(&sim.deployment));
        let mut fsck = Fsck::new(&sim.world.catalog, Some(&mut reader), trust, false, &mut heard);
        let mark = fsck.check(&origin, from).unwrap().unwrap();
        (mark, fsck.figures(), heard)
    };
    let (whole, all, heard) = run(None);
    for mark in &heard.marks {
        let (end, rest, later) = run(Some(mark.clone()));
        assert_eq!((later.faults.len(), &end), (0, &whole));
        assert_eq!(rest.batches, all.batches - mark.log.size());
        assert_eq!(rest.compared, rest.batches);
    }
    sim.world.catalog.damage(&origin, 5, |batch| batch.edge = Bytes::new());
    let (mark, _, heard) = run(None);
    assert_eq!((mark.log.size(), heard.faults.len()), (5, 2));
    let (again, _, heard) = run(Some(mark.clone()));
    assert_eq!((again, heard.faults.len()), (mark, 2), "what was wrong is wrong again");
}
