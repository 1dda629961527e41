//! What the catalog costs: events put a second and CPU an event, beside a floor of plain inserts in the same run.
//!
//! ```text
//! deploy/local/up cassandra && . target/local/env
//! cargo run --release -p killick-catalog --example bench_catalog -- [EVENTS] [EVENTS IN A BATCH] [LOGS]
//! ```
//!
//! The floor: for each event one prepared insert of one row with as many bytes as its statement has, as many at a time
//! as the catalog has requests in flight. The two take turns; the medians count. With the process id of a local server in
//! `SERVER_PID` its CPU is told as well.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is wrong")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use killick_catalog::{CqlCatalog, Settings};
use killick_contract::catalog::{Maker, names};
use killick_stages::ports::{BatchRecord, Catalog};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Turns that are taken, after one that warms up.
const ROUNDS: usize = 3;

struct Figures {
    events_a_second: f64,
    client_micros: f64,
    server_micros: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let events = arguments.next().unwrap_or(40_000);
    let leaves = arguments.next().unwrap_or(1_000);
    let logs = arguments.next().unwrap_or(4);
    let nodes = std::env::var("CASSANDRA_NODES").expect("CASSANDRA_NODES says where the first nodes are");
    let settings = Settings {
        nodes: nodes.split(',').map(str::to_owned).collect(),
        keyspace: format!("bench_{:08x}", rand::random::<u32>()),
        replication: [("datacenter1".to_owned(), 1)].into(),
        ..Settings::default()
    };
    let catalog = CqlCatalog::new(&settings).unwrap();
    catalog.migrate().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let session = runtime.block_on(SessionBuilder::new().known_nodes(&settings.nodes).build()).unwrap();
    let keyspace = &settings.keyspace;
    let table = format!("CREATE TABLE {keyspace}.floor (event blob PRIMARY KEY, content blob)");
    runtime.block_on(session.query_unpaged(table, ())).unwrap();

    let (mut floor, mut put) = (Vec::new(), Vec::new());
    let mut last = Vec::new();
    for round in 0..=ROUNDS as u64 {
        let made = made(round, events, leaves, logs);
        let plain = measured(events, || runtime.block_on(insert(&session, &settings, round, &made)));
        let ours = measured(events, || put_all(&catalog, &made));
        println!(
            "round {round}: floor {:>6.0}, catalog {:>6.0} events/s",
            plain.events_a_second, ours.events_a_second
        );
        if round > 0 {
            floor.push(plain);
            put.push(ours);
        }
        last = made;
    }
    println!("{events} events in batches of {leaves}, {logs} logs at a time; medians of {ROUNDS}:");
    let of = |all: &[Figures]| {
        let median = |pick: fn(&Figures) -> f64| {
            let mut values: Vec<_> = all.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        [median(|all| all.events_a_second), median(|all| all.client_micros), median(|all| all.server_micros)]
    };
    let (floor, put) = (of(&floor), of(&put));
    for (name, [rate, client, server]) in [("floor", floor), ("catalog", put)] {
        println!(
            "  {name:<8} {rate:>7.0} events/s, CPU an event: client {client:>6.1} us, server {server:>6.1} us"
        );
    }
    println!(
        "  catalog / floor: {:.2} of the events, {:.2} of the client's CPU",
        put[0] / floor[0],
        put[1] / floor[1]
    );
    read_back(&catalog, &last);
    runtime.block_on(session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ())).unwrap();
}

/// The batches of a round, log by log.
fn made(round: u64, events: u64, leaves: u64, logs: u64) -> Vec<Vec<BatchRecord>> {
    let log = |log| {
        let mut made = Maker::new(&format!("bench.example/{}/sha256/{log}", round + 1));
        (0..events / leaves / logs).map(|_| made.batch(1_700_000_000_000_000, &["plant"], leaves)).collect()
    };
    (0..logs).map(log).collect()
}

async fn insert(session: &Session, settings: &Settings, round: u64, made: &[Vec<BatchRecord>]) {
    let text = format!("INSERT INTO {}.floor (event, content) VALUES (?, ?)", settings.keyspace);
    let mut statement = session.prepare(text).await.unwrap();
    statement.set_is_idempotent(true);
    let rows = made.iter().flatten().flat_map(|batch| &batch.statements).enumerate();
    let insert = |(number, content): (usize, &bytes::Bytes)| {
        let key = [round.to_be_bytes(), (number as u64).to_be_bytes(), [0; 8], [0; 8]].concat();
        let (session, statement, content) = (session, &statement, content.clone());
        async move { drop(session.execute_unpaged(statement, (key, content)).await.unwrap()) }
    };
    stream::iter(rows).map(insert).buffer_unordered(settings.in_flight).for_each(async |()| {}).await;
}

fn put_all(catalog: &CqlCatalog, made: &[Vec<BatchRecord>]) {
    std::thread::scope(|scope| {
        for batches in made {
            scope.spawn(move || batches.iter().for_each(|batch| catalog.put_batch(batch).unwrap()));
        }
    });
}

/// How long reading takes, one read after the other.
fn read_back(catalog: &CqlCatalog, made: &[Vec<BatchRecord>]) {
    let batches: Vec<&BatchRecord> = made.iter().flatten().collect();
    let named: Vec<_> = batches.iter().flat_map(|batch| names(batch)).step_by(37).take(1_000).collect();
    let times = |name: &str, mut times: Vec<u128>| {
        times.sort_unstable();
        let [half, most] =
            [times.len() / 2, times.len() * 99 / 100].map(|place| times[place] as f64 / 1_000.0);
        println!("  {name:<8} p50 {half:.1} ms, p99 {most:.1} ms");
    };
    let timed = |act: &dyn Fn()| {
        let begun = Instant::now();
        act();
        begun.elapsed().as_micros()
    };
    let find = |(tenant, source, id): &(String, String, String)| {
        timed(&|| assert_eq!(catalog.find(tenant, source, id).unwrap().len(), 1))
    };
    times("find", named.iter().map(find).collect());
    let read = |batch: &&BatchRecord| {
        let header = killick_proof::batch::BatchHeader::decode(&batch.header).unwrap();
        timed(&|| assert!(catalog.batch(header.origin.as_str(), header.number).unwrap().is_some()))
    };
    times("batch", batches.iter().map(read).collect());
}

fn measured(events: u64, act: impl FnOnce()) -> Figures {
    let server = std::env::var("SERVER_PID").ok();
    let cpu = || [cpu_seconds("self"), server.as_deref().map_or(f64::NAN, cpu_seconds)];
    let (begun, before) = (Instant::now(), cpu());
    act();
    let (seconds, after) = (begun.elapsed().as_secs_f64(), cpu());
    let micros = |side: usize| (after[side] - before[side]) * 1e6 / events as f64;
    Figures { events_a_second: events as f64 / seconds, client_micros: micros(0), server_micros: micros(1) }
}

/// CPU that a process has used: the 14th and 15th field of its state, in hundredths of a second.
fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}
