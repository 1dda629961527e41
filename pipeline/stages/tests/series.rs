//! Anchors in series: what a receipt carries, on what it stands, and what the check of a catalog says of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use killick_proof::receipt::{Anchor, MAX_RECEIPT, Receipt};
use killick_proof::report::Level;
use killick_proof::trust::{LogKey, Trust, TrustFile};
use killick_proof::verify::Verifier;
use killick_stages::derive::{Deriver, first_covered};
use killick_stages::fsck::{Fault, Figures, Fsck, Mark, Observer, Part};
use killick_stages::ports::{AnchorRecord, Catalog, Place};
use killick_stages::ready::MAX_ANCHOR;
use killick_stages::series::{self, MAX_SERIES, OWN};
use support::world::{Faults, Sim, signers};

fn world() -> (Sim, Box<str>) {
    let mut sim = Sim::new(11, Faults::default());
    sim.run(300).unwrap();
    // What the simulation anchored later itself is not counted on here.
    sim.world.catalog.tables().anchors.retain(|(_, series, _), _| series == OWN);
    let origin = sim.deployment.origin(1).unwrap().into();
    (sim, origin)
}

fn trust(sim: &Sim) -> Trust {
    let logs =
        signers(&sim.deployment).iter().map(|key| LogKey { key: key.verifier(), until: None }).collect();
    Trust::new(&TrustFile { logs, ..TrustFile::default() }).unwrap()
}

/// The own anchors of a log, smallest checkpoint first.
fn own(sim: &Sim, origin: &str) -> Vec<AnchorRecord> {
    let tables = sim.world.catalog.tables();
    let of_log = tables.anchors.iter().filter(|((of, series, _), _)| of == origin && series == OWN);
    of_log.flat_map(|(_, anchors)| anchors.clone()).collect()
}

/// The same anchor in another series.
fn in_series(anchor: &AnchorRecord, series: &str) -> AnchorRecord {
    AnchorRecord { series: series.into(), ..anchor.clone() }
}

fn receipt(sim: &Sim, origin: &str, number: u64) -> Receipt {
    let place = Place { origin: origin.into(), number, index: 0 };
    Deriver::new(&sim.world.catalog).receipt_of(&place).unwrap().unwrap()
}

fn assert_each_proves_it(sim: &Sim, receipt: &Receipt) {
    let mut verifier = Verifier::new(trust(sim));
    for anchor in &receipt.anchors {
        let alone = Receipt { anchors: vec![anchor.clone()], ..receipt.clone() };
        for form in [alone.to_json().into_bytes(), alone.to_cbor()] {
            let report = verifier.verify(&form, None);
            assert_eq!((report.level, report.wrong()), (Level::Anchored, None), "{report:?}");
        }
    }
}

#[test]
fn a_later_anchor_serves_every_earlier_batch_by_a_path_of_its_own() {
    let (sim, origin) = world();
    let catalog = &sim.world.catalog;
    let own = own(&sim, &origin);
    let size = catalog.log_size(&origin).unwrap();
    let [first, .., last] = &own[..] else { panic!("few anchors") };
    assert_eq!((last.size, own.len() > 3), (size, true));
    let before: Vec<_> = (0..size).map(|number| receipt(&sim, &origin, number)).collect();
    let covered: Vec<_> =
        own.iter().map(|anchor| first_covered(catalog, &origin, anchor.size).unwrap()).collect();

    for anchor in [in_series(last, "z-last"), in_series(first, "b"), in_series(last, "b")] {
        catalog.put_anchor(&anchor).unwrap();
    }
    for (number, old) in (0..).zip(&before) {
        let new = receipt(&sim, &origin, number);
        assert_eq!((&new.log, &new.batch, &new.statement), (&old.log, &old.batch, &old.statement));
        assert_eq!((&new.anchors[..1], new.anchors.len()), (&old.anchors[..], 3), "batch {number}");
        let wanted = |anchor: &AnchorRecord| {
            (*anchor.checkpoint != *old.log.checkpoint).then(|| anchor.checkpoint.to_string())
        };
        let in_b = if number < first.size { first } else { last };
        for (anchor, from) in new.anchors[1..].iter().zip([in_b, last]) {
            assert_eq!(anchor.log.as_ref().map(|log| log.checkpoint.clone()), wanted(from), "batch {number}");
        }
        assert_each_proves_it(&sim, &new);
    }
    // What prove has to correct is counted by the own series alone.
    let again: Vec<_> =
        own.iter().map(|anchor| first_covered(catalog, &origin, anchor.size).unwrap()).collect();
    assert_eq!(again, covered);
    assert_eq!(series::names(catalog, &origin).unwrap(), [OWN, "b", "z-last"].map(Box::from));
    assert_eq!(series::covered(catalog, &origin, "b", size).unwrap(), size);
    assert_eq!(series::covered(catalog, &origin, "none", size).unwrap(), 0);
}

#[test]
fn a_batch_that_only_other_series_cover_stands_on_the_first_of_them() {
    let (sim, origin) = world();
    let catalog = &sim.world.catalog;
    let own = own(&sim, &origin);
    let [.., before, last] = &own[..] else { panic!("few anchors") };
    let number = before.size - 1;
    let named = |anchor: &AnchorRecord| (origin.to_string(), OWN.to_owned(), anchor.size);
    for anchor in [before, last] {
        catalog.tables().anchors.remove(&named(anchor)).unwrap();
    }
    let place = Place { origin: origin.clone(), number, index: 0 };
    assert_eq!(Deriver::new(catalog).receipt_of(&place).unwrap(), None);
    catalog.put_anchor(&in_series(before, "b")).unwrap();
    catalog.put_anchor(&in_series(last, "c")).unwrap();
    let receipt = receipt(&sim, &origin, number);
    assert_eq!(*receipt.log.checkpoint, *before.checkpoint);
    assert!(receipt.anchors[0].log.is_none());
    assert_eq!(*receipt.anchors[1].log.as_ref().unwrap().checkpoint, *last.checkpoint);
    assert_each_proves_it(&sim, &receipt);
    let own_size = own[own.len() - 3].size;
    assert_eq!(series::covered(catalog, &origin, OWN, last.size).unwrap(), own_size);
    assert_eq!(first_covered(catalog, &origin, own_size).unwrap(), own[own.len() - 4].size);
}

#[test]
fn a_receipt_stays_within_what_a_verifier_reads_however_many_anchors_there_are() {
    let (sim, origin) = world();
    let catalog = &sim.world.catalog;
    let own = own(&sim, &origin);
    let mut large = Anchor::parse(&own[0].anchor).unwrap();
    let most = MAX_ANCHOR - large.to_json().len();
    for number in 0..MAX_SERIES {
        for copy in 0..4 {
            large.spv.input = vec![copy; 3 * most / 4];
            let anchor = AnchorRecord { anchor: large.to_json().into(), ..own[0].clone() };
            catalog.put_anchor(&in_series(&anchor, &format!("series-{number:02}"))).unwrap();
        }
    }
    let receipt = receipt(&sim, &origin, 0);
    assert_eq!(receipt.anchors[0], Anchor::parse(&own[0].anchor).unwrap(), "the own one is there");
    let json = receipt.to_json();
    assert!((MAX_RECEIPT - (128 << 10)..=MAX_RECEIPT).contains(&json.len()), "{} bytes", json.len());
    assert_eq!(Receipt::parse(json.as_bytes()).unwrap(), receipt);
    assert!(receipt.to_cbor().len() < json.len());
}

#[derive(Default)]
struct Heard(Vec<Fault>);

impl Observer for Heard {
    fn found(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    fn checked(&mut self, _: &str, _: &Mark, _: u64) {}
}

fn check(sim: &Sim, origin: &str, from: Option<Mark>) -> (Mark, Figures, Vec<Fault>) {
    let mut heard = Heard::default();
    let mut fsck = Fsck::new(&sim.world.catalog, None, trust(sim), false, &mut heard);
    let mark = fsck.check(origin, from).unwrap().unwrap();
    (mark, fsck.figures(), heard.0)
}

#[test]
fn the_check_of_a_catalog_reads_every_anchor_of_every_series_and_goes_on_in_each() {
    let (sim, origin) = world();
    let catalog = &sim.world.catalog;
    let own = own(&sim, &origin);
    let (mark, first, faults) = check(&sim, &origin, None);
    assert_eq!((first.anchors, mark.series.len(), faults.len()), (own.len() as u64, 0, 0));
    // Another series may be behind what was checked of the own one.
    for anchor in [&own[0], &own[2]] {
        catalog.put_anchor(&in_series(anchor, "b")).unwrap();
    }
    let (mark, figures, faults) = check(&sim, &origin, Some(mark));
    assert_eq!((figures.batches, figures.anchors, faults.len()), (0, 2, 0), "{faults:?}");
    assert_eq!(
        (mark.anchored, &mark.series),
        (own.last().unwrap().size, &[("b".into(), own[2].size)].into())
    );
    catalog.put_anchor(&in_series(&own[3], "b")).unwrap();
    let (mark, figures, faults) = check(&sim, &origin, Some(mark));
    assert_eq!((figures.anchors, faults.len()), (1, 0), "{faults:?}");

    // One of them under another checkpoint than it is about, and junk.
    for anchor in [own[1].anchor.clone(), "{}".into()] {
        let stored = |tables: &mut support::catalog::Inner, anchor| {
            let name = (origin.to_string(), "b".to_owned(), own[2].size);
            std::mem::replace(&mut tables.anchors.get_mut(&name).unwrap()[0].anchor, anchor)
        };
        let old = stored(&mut catalog.tables(), anchor);
        let (.., faults) = check(&sim, &origin, None);
        assert!(!faults.is_empty() && faults.iter().all(|fault| fault.part == Part::Anchor), "{faults:?}");
        stored(&mut catalog.tables(), old);
    }
    assert_eq!(check(&sim, &origin, None).2, []);

    catalog.tables().anchors.retain(|(_, series, _), _| series == OWN);
    let (.., faults) = check(&sim, &origin, Some(mark));
    assert!(matches!(&faults[..], [fault] if fault.why.contains("series b is gone")), "{faults:?}");
}
