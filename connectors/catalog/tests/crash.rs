//! What is left where a put is cut off, and what a put again makes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use killick_catalog::{CqlCatalog, Settings};
use killick_contract::catalog::{Maker, names};
use killick_stages::ports::{AnchorRecord, BatchRecord, Catalog, CatalogError, Place};
use killick_stages::span::Span;

mod support;

use support::own::Node;
use support::proxy::{Cut, Proxy};
use support::{Keyspace, nodes, settings};

/// So long a client waits that is going to be cut off.
fn hasty(settings: &Settings, node: &str) -> Settings {
    Settings {
        nodes: vec![node.to_owned()],
        read_timeout: Span::secs(10),
        write_timeout: Span::secs(10),
        ..settings.clone()
    }
}

fn assert_there(catalog: &dyn Catalog, origin: &str, number: u64, batch: &BatchRecord) {
    assert_eq!(catalog.batch(origin, number).unwrap().as_ref(), Some(batch));
    assert!(catalog.log_hash(origin, 0, number).unwrap().is_some());
    for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
        let place = Place { origin: origin.into(), number, index };
        assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), [place]);
        let listed = catalog.list(&tenant, 0, None, 1_000).unwrap();
        assert!(listed.contains(&(origin.into(), number)), "{tenant}: {listed:?}");
    }
}

fn assert_not_there(catalog: &dyn Catalog, origin: &str, batch: &BatchRecord) {
    assert_eq!(catalog.log_size(origin).unwrap(), 0);
    assert_eq!(catalog.batch(origin, 0).unwrap(), None);
    assert_eq!(catalog.log_hash(origin, 0, 0).unwrap(), None);
    assert!(!catalog.origins().unwrap().contains(&origin.into()));
    for (tenant, source, id) in names(batch) {
        assert_eq!(catalog.find(&tenant, &source, &id).unwrap(), []);
        let listed = catalog.list(&tenant, 0, None, 1_000).unwrap();
        assert!(listed.iter().all(|(other, _)| **other != *origin), "{listed:?}");
    }
}

#[test]
fn a_put_that_is_cut_off_at_any_request_shows_nothing_and_is_finished_by_the_next() {
    let keyspace = Keyspace::made();
    let direct = keyspace.catalog();
    let tenants = ["a", "b", "c"];
    let mut cuts = 0;
    for cut in [Cut::Before, Cut::After] {
        for request in 1.. {
            let origin = format!("crash.example/{request}/sha256/{}", u8::from(cut == Cut::After));
            let batch = Maker::new(&origin).batch(0, &tenants, 25);
            let proxy = Proxy::to(&nodes()[0]);
            let cut_off = CqlCatalog::new(&hasty(&keyspace.settings, &proxy.address)).unwrap();
            cut_off.open().unwrap();
            proxy.cut_at(request, cut);
            let outcome = cut_off.put_batch(&batch);
            if !proxy.is_cut() {
                outcome.unwrap();
                assert_there(&direct, &origin, 0, &batch);
                break;
            }
            cuts += 1;
            let failed = outcome.expect_err("it was cut off");
            assert!(matches!(failed, CatalogError::Failed(_)), "request {request}: {failed}");
            // The last request lets it be seen; whoever was not told puts again.
            if direct.log_size(&origin).unwrap() == 0 {
                assert_not_there(&direct, &origin, &batch);
            }
            direct.put_batch(&batch).unwrap();
            assert_there(&direct, &origin, 0, &batch);
            // A number that was claimed or given stays this batch's.
            let other = Maker::new(&origin).batch(1, &tenants, 25);
            assert!(matches!(direct.put_batch(&other), Err(CatalogError::Conflict(_))));
        }
    }
    assert!(cuts > 20, "a put has many requests: {cuts}");
}

#[test]
fn a_number_that_was_claimed_is_refused_to_any_other_batch() {
    let keyspace = Keyspace::made();
    let direct = keyspace.catalog();
    let origin = "crash.example/1/sha256/0";
    let (batch, other) = (Maker::new(origin).batch(0, &["a"], 25), Maker::new(origin).batch(0, &["a"], 24));
    let proxy = Proxy::to(&nodes()[0]);
    let cut_off = CqlCatalog::new(&hasty(&keyspace.settings, &proxy.address)).unwrap();
    cut_off.open().unwrap();
    // Two reads, the claim, and then anything.
    proxy.cut_at(4, Cut::Before);
    cut_off.put_batch(&batch).unwrap_err();
    let refused = direct.put_batch(&other).unwrap_err();
    assert!(matches!(refused, CatalogError::Conflict(_)), "{refused}");
    assert_not_there(&direct, origin, &batch);
    direct.put_batch(&batch).unwrap();
    assert_there(&direct, origin, 0, &batch);
}

#[test]
fn an_anchor_that_is_cut_off_is_finished_by_the_next_put_and_stands_once() {
    let keyspace = Keyspace::made();
    let direct = keyspace.catalog();
    // One read and three writes; a later series is also looked for among those that the log has.
    for (series, requests) in [("", 4), ("elsewhere", 5)] {
        each_cut_of_an_anchor_is_finished(&keyspace, &direct, series, requests);
    }
}

fn each_cut_of_an_anchor_is_finished(
    keyspace: &Keyspace,
    direct: &CqlCatalog,
    series: &str,
    requests: usize,
) {
    for cut in [Cut::Before, Cut::After] {
        for request in 1.. {
            let origin = format!("anchor{series}.example/{request}/sha256/{}", u8::from(cut == Cut::After));
            let mut made = Maker::new(&origin);
            let batch = made.batch(0, &["a"], 1);
            let of = |text| AnchorRecord { series: series.into(), ..made.anchor(&batch, text) };
            let (anchor, later) = (of(r#"{"type":"one"}"#), of(r#"{"type":"later"}"#));
            direct.put_batch(&batch).unwrap();
            let proxy = Proxy::to(&nodes()[0]);
            let cut_off = CqlCatalog::new(&hasty(&keyspace.settings, &proxy.address)).unwrap();
            cut_off.open().unwrap();
            proxy.cut_at(request, cut);
            let outcome = cut_off.put_anchor(&anchor);
            for _ in 0..2 {
                direct.put_anchor(&anchor).unwrap();
                assert_eq!(direct.anchors_of(&origin, 0).unwrap(), std::slice::from_ref(&anchor));
            }
            direct.put_anchor(&later).unwrap();
            direct.put_anchor(&anchor).unwrap();
            assert_eq!(direct.anchors_of(&origin, 0).unwrap(), [anchor, later]);
            if !proxy.is_cut() {
                outcome.unwrap();
                assert_eq!(request, requests + 1, "each request before the end was cut");
                break;
            }
            outcome.expect_err("it was cut off");
        }
    }
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_told_of_in_time() {
    let keyspace = Keyspace::made();
    let proxy = Proxy::to(&nodes()[0]);
    let quick = Settings {
        connect_timeout: Span::secs(2),
        read_timeout: Span::secs(2),
        write_timeout: Span::secs(2),
        ..hasty(&keyspace.settings, &proxy.address)
    };
    proxy.mute(true);
    let catalog = CqlCatalog::new(&quick).unwrap();
    let begun = Instant::now();
    let failed = catalog.log_size("crash.example/1/sha256/0").unwrap_err();
    assert!(matches!(failed, CatalogError::Failed(_)) && failed.to_string().contains("answers"), "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(catalog.open().unwrap_err().is_transient());

    // Also in the middle of work, for all who ask at once.
    proxy.mute(false);
    wait_for(|| catalog.log_size("crash.example/1/sha256/0").ok());
    proxy.mute(true);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let catalog = &catalog;
            scope.spawn(move || {
                catalog.log_size(&format!("crash.example/1/sha256/{number}")).unwrap_err();
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    proxy.mute(false);
    assert_eq!(wait_for(|| catalog.log_size("crash.example/1/sha256/0").ok()), 0);
}

#[test]
fn what_was_put_survives_a_server_that_is_killed_and_puts_go_on_when_it_is_back() {
    const LOGS: u64 = 4;
    let node = Node::start(&[]);
    let settings = Settings {
        connect_timeout: Span::secs(5),
        read_timeout: Span::secs(10),
        write_timeout: Span::secs(10),
        ..settings(vec![node.address.clone()])
    };
    let catalog = CqlCatalog::new(&settings).unwrap();
    catalog.migrate().unwrap();
    let (stop, done, failures) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let put: Vec<Vec<BatchRecord>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..LOGS)
            .map(|log| {
                let (catalog, stop, done, failures) = (&catalog, &stop, &done, &failures);
                scope.spawn(move || {
                    let mut made = Maker::new(&format!("kill.example/1/sha256/{log}"));
                    let mut put = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let batch = made.batch(0, &["a", "b"], 40);
                        // As the shell does it: whatever failed is tried again.
                        while let Err(error) = catalog.put_batch(&batch) {
                            assert!(matches!(error, CatalogError::Failed(_)), "{error}");
                            failures.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                        put.push(batch);
                    }
                    put
                })
            })
            .collect();
        let more = |count: u64| {
            let goal = done.load(Ordering::Relaxed) + count;
            wait_for(|| (done.load(Ordering::Relaxed) >= goal).then_some(()));
        };
        for _ in 0..3 {
            more(20);
            node.signal("-KILL");
            std::thread::sleep(Duration::from_millis(500));
            node.up();
        }
        // And one that hangs for a while.
        more(20);
        node.signal("-STOP");
        std::thread::sleep(Duration::from_secs(3));
        node.signal("-CONT");
        more(20);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(failures.load(Ordering::Relaxed) > 0, "the server was away");
    let fresh = CqlCatalog::new(&settings).unwrap();
    for (log, batches) in put.iter().enumerate() {
        let origin = format!("kill.example/1/sha256/{log}");
        assert_eq!(fresh.log_size(&origin).unwrap(), batches.len() as u64);
        for (number, batch) in (0..).zip(batches) {
            assert_eq!(fresh.batch(&origin, number).unwrap().as_ref(), Some(batch), "{origin} {number}");
            for (index, (tenant, source, id)) in (0..).zip(names(batch)) {
                let place = Place { origin: origin.as_str().into(), number, index };
                assert_eq!(fresh.find(&tenant, &source, &id).unwrap(), [place]);
            }
        }
    }
}

/// Asks until there is an answer, for two minutes.
fn wait_for<T>(ask: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "two minutes");
        std::thread::sleep(Duration::from_millis(100));
    }
}
