//! What the catalog costs: CPU and disk an event, the longest put, and how long an event is looked for.
//!
//! ```text
//! cargo run --release -p killick-embedded --example bench_catalog -- FOLDER [EVENTS] [ascending|random] [LEAVES] [LOGS]
//! ```
//!
//! The events are those of 500 devices in turn; their ids ascend, or are random. The batches of the logs are put in turn by
//! one thread, whose CPU is counted while it puts. Looking for events begins with a catalog opened anew.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is wrong")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use killick_embedded::{EmbeddedCatalog, Folder};
use killick_proof::Algorithm;
use killick_proof::batch::BatchHeader;
use killick_proof::log::Log;
use killick_proof::origin::Origin;
use killick_proof::statement::{Attestation, Event, Statement};
use killick_stages::ports::{BatchRecord, Catalog};
use redb::{
    Database, ReadableDatabase as _, ReadableTableMetadata as _, TableHandle as _, UntypedTableHandle,
};
use rustix::time::{ClockId, clock_gettime};

const TENANT: &str = "plant";
const DEVICES: u64 = 500;
/// Looks for events that there are, and as many for some that there are not.
const LOOKS: u64 = 2_000;
/// Lines that tell how it goes on.
const LINES: u64 = 10;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder to work in");
    let events: u64 = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    let is_random = arguments.next().is_some_and(|text| text == "random");
    let leaves: u64 = arguments.next().map_or(1_000, |text| text.parse().unwrap());
    let logs: u64 = arguments.next().map_or(4, |text| text.parse().unwrap());

    std::fs::create_dir_all(&folder).unwrap();
    let place = tempfile::tempdir_in(&folder).unwrap();
    let catalog = open(place.path());
    let mut makers: Vec<_> = (0..logs).map(|log| Maker::new(log, logs, is_random)).collect();
    let (mut cpu, mut wall, mut longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut before, mut bytes) = (Duration::ZERO, 0);
    let batches = events / leaves;
    for number in 0..batches {
        let batch = makers[usize::try_from(number % logs).unwrap()].batch(leaves);
        bytes += batch.statements.iter().map(Bytes::len).sum::<usize>();
        let (begun, cpu_begun) = (Instant::now(), thread_cpu());
        catalog.put_batch(&batch).unwrap();
        cpu += thread_cpu().checked_sub(cpu_begun).unwrap();
        wall += begun.elapsed();
        longest = longest.max(begun.elapsed());
        let tenth = (batches / LINES).max(1);
        if (number + 1) % tenth == 0 {
            let nanos = |time: Duration, events: u64| time.as_nanos() as f64 / events as f64;
            println!(
                "{:>10} events: {:>5.0} ns CPU an event ({:>5.0} in these), {:>5.0} ns wall, longest put {:.1} ms",
                (number + 1) * leaves,
                nanos(cpu, (number + 1) * leaves),
                nanos(cpu.checked_sub(before).unwrap(), tenth * leaves),
                nanos(wall, (number + 1) * leaves),
                longest.as_secs_f64() * 1e3,
            );
            before = cpu;
        }
    }
    drop(catalog);
    let each = |bytes: u64| bytes as f64 / (batches * leaves) as f64;
    let file = place.path().join("catalog.redb");
    println!("the file: {:.1} bytes an event", each(std::fs::metadata(&file).unwrap().len()));
    println!("statements: {:.1} bytes an event", each(bytes as u64));
    for (table, rows, bytes) in tables(&file) {
        println!("table {table}: {rows} rows, {:.1} bytes an event", each(bytes));
    }

    let catalog = open(place.path());
    let count = batches / logs * leaves; // of each log
    let looked = |name: &str, is_there: bool| {
        let look = |turn: u64| {
            let log = turn % logs;
            // Far from the one before, and every one is there unless it is not to be.
            let position =
                turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count + if is_there { 0 } else { count };
            let (source, id) = makers[usize::try_from(log).unwrap()].name(position);
            let (begun, cpu_begun) = (Instant::now(), thread_cpu());
            let found = catalog.find(TENANT, &source, &id).unwrap();
            let took = (begun.elapsed(), thread_cpu().checked_sub(cpu_begun).unwrap());
            assert_eq!(found.len(), usize::from(is_there), "{source} {id}");
            took
        };
        let (mut wall, mut cpu): (Vec<_>, Vec<_>) = (0..LOOKS).map(look).unzip();
        let at = |times: &mut [Duration], hundredths: usize| {
            times.sort_unstable();
            times[times.len() * hundredths / 100].as_nanos() as f64 / 1e3
        };
        let [p50, p99] = [50, 99].map(|hundredths| at(&mut wall, hundredths));
        let [cpu50, cpu99] = [50, 99].map(|hundredths| at(&mut cpu, hundredths));
        println!("{name}: p50 {p50:.0} us, p99 {p99:.0} us; CPU p50 {cpu50:.0} us, p99 {cpu99:.0} us");
    };
    looked("find one that is there", true);
    looked("find none", false);
}

fn open(place: &Path) -> EmbeddedCatalog {
    EmbeddedCatalog::open(&Arc::new(Folder::open(place).unwrap())).unwrap()
}

/// Rows of each table, and the bytes of the pages that it takes.
fn tables(file: &Path) -> Vec<(String, u64, u64)> {
    let database = Database::open(file).unwrap();
    let read = database.begin_read().unwrap();
    let size = |table: UntypedTableHandle| {
        let about = read.open_untyped_table(table.clone()).unwrap();
        let stats = about.stats().unwrap();
        let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        (table.name().to_owned(), about.len().unwrap(), bytes)
    };
    read.list_tables().unwrap().map(size).collect()
}

/// CPU that this thread has used.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Makes the batches of one log. Their roots are of no tree: the catalog does not look at them.
struct Maker {
    origin: String,
    number: u64,
    logs: u64,
    is_random: bool,
    log: Log,
    next: u64,
}

impl Maker {
    fn new(number: u64, logs: u64, is_random: bool) -> Self {
        let origin = format!("bench.example/1/sha256/{number}");
        Self { origin, number, logs, is_random, log: Log::new(Algorithm::Sha256), next: 0 }
    }

    /// Source and id of the event at this position of the log.
    fn name(&self, position: u64) -> (String, String) {
        let event = position * self.logs + self.number;
        let source = format!("press-{:04}", event % DEVICES);
        let id = if self.is_random {
            let half = |salt| spread(event ^ salt);
            format!("{:016x}{:016x}", half(0), half(1 << 63))
        } else {
            format!("{:010}", event / DEVICES)
        };
        (source, id)
    }

    fn batch(&mut self, leaves: u64) -> BatchRecord {
        let first = self.next;
        self.next += leaves;
        let time = 1_790_000_000_000_000 + i64::try_from(first * 10).unwrap();
        let digest = Algorithm::Sha256.digest(&first.to_be_bytes());
        let statement = |position| {
            let (source, id) = self.name(position);
            let event = Event { tenant: TENANT, source: &source, id: &id, time, kind: "reading", digest };
            let attestation = Attestation::Signed { key: &[7; 32], signature: &[8; 64] };
            Bytes::from(Statement { event, attestation }.encode().unwrap())
        };
        let statements = (first..self.next).map(statement).collect();
        let header = BatchHeader {
            origin: Origin::parse(&self.origin).unwrap(),
            number: self.log.size(),
            first_offset: first,
            last_offset: self.next - 1,
            first_time: time,
            last_time: time,
            leaf_count: leaves,
            root: digest,
            duplicates: 0,
            conflicts: 0,
        };
        let header = header.encode().unwrap();
        self.log.append(Algorithm::Sha256.leaf(&header), |_, _| {}).unwrap();
        let checkpoint = "as long as a signed note: ".repeat(8).into();
        BatchRecord { header: header.into(), statements, edge: self.log.encode().into(), checkpoint }
    }
}

/// A number that looks like chance.
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
