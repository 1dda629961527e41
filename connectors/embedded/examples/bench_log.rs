//! What the journal costs beside its two alternatives, on the disk of a folder, in one run.
//!
//! ```text
//! cargo run --release -p killick-embedded --example bench_log -- FOLDER [ROUNDS]
//! ```
//! One round is 1,000 events of 300 bytes through four hops: produced, then moved three times by a worker that reads
//! them and commits them with its offset. The floor writes the same bytes to a file and syncs it four times; redb keeps
//! records and offsets in two tables and commits four times. The three take turns, so that a busy disk meets them all.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use killick_embedded::{Cleanup, EmbeddedLog, Folder, Settings, TopicSpec};
use killick_stages::ports::{Log, Polled, Producer};
use killick_stages::record::{Output, Partition};
use killick_stages::stage::Part;
use redb::{Database, ReadableDatabase, TableDefinition};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const EVENTS: usize = 1_000;
const SIZE: usize = 300;
const HOPS: u32 = 4;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bench_log FOLDER [ROUNDS]";
    let place: PathBuf = args.next().filter(|place| !place.starts_with('-')).ok_or(usage)?.into();
    let rounds: usize = args.next().map_or(Ok(200), |rounds| rounds.parse())?;
    std::fs::create_dir_all(&place)?;
    let place = tempdir_in(&place)?;
    reopening(&place)?;
    println!("largest resident memory so far: {} MiB\n", memory("VmHWM")? >> 10);
    hops(&place, rounds)?;
    together(&place, rounds)?;
    std::fs::remove_dir_all(&place)?;
    Ok(())
}

/// Four hops, three ways.
fn hops(place: &Path, rounds: usize) -> Result<()> {
    let events: Vec<Vec<u8>> = (0..EVENTS).map(|event| vec![event as u8; SIZE]).collect();
    let mut floor = Floor::open(&place.join("floor"))?;
    let mut journal = Journal::open(&place.join("journal"))?;
    let mut redb = Redb::open(&place.join("redb"))?;
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        costs[0].push(cost(|| floor.round(&events))?);
        costs[1].push(cost(|| journal.round(&events))?);
        costs[2].push(cost(|| redb.round(&events))?);
    }
    println!("{HOPS} hops of {EVENTS} events of {SIZE} bytes, medians of {rounds} rounds, an event's share:");
    println!("{:<22} {:>12} {:>10} {:>12} {:>10} {:>10}", "", "wall", "of floor", "CPU", "of floor", "MB/s");
    let mut first = None;
    for (name, costs) in ["append and fdatasync", "journal", "redb"].into_iter().zip(&mut costs) {
        let (wall, cpu) = (median(costs, |cost| cost.0), median(costs, |cost| cost.1));
        let (floor_wall, floor_cpu) = *first.get_or_insert((wall, cpu));
        let share = |time: Duration| time.as_secs_f64() * 1e9 / EVENTS as f64;
        println!(
            "{name:<22} {:>9.0} ns {:>9.2}x {:>9.0} ns {:>9.2}x {:>10.1}",
            share(wall),
            share(wall) / share(floor_wall),
            share(cpu),
            share(cpu) / share(floor_cpu),
            (EVENTS * SIZE) as f64 * f64::from(HOPS) / wall.as_secs_f64() / 1e6,
        );
    }
    Ok(())
}

/// Many producers of single records: what sharing a sync is worth.
fn together(place: &Path, rounds: usize) -> Result<()> {
    let journal = Journal::open(&place.join("together"))?;
    println!("\nsingle records of {SIZE} bytes, each acknowledged when durable:");
    for threads in [1, 4, 16, 64] {
        let each = rounds.div_ceil(4).max(10);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let work = |thread: u32| {
                let log = journal.log.clone();
                move || -> Result<()> {
                    for _ in 0..each {
                        log.produce(&[Output::new(Partition::new("hop-0", thread % 2), "", vec![1; SIZE])])?;
                    }
                    Ok(())
                }
            };
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(work(thread))).collect();
            running.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })?;
        let all = (threads as usize * each) as f64;
        println!("{threads:>4} producers {:>12.0} records/s", all / begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// How long a large log takes to open, and to be read from its beginning.
fn reopening(place: &Path) -> Result<()> {
    const BYTES: u64 = 1 << 30;
    let place = place.join("large");
    let journal = Journal::open(&place)?;
    let output = |number: usize| Output::new(Partition::new("hop-0", 0), "", vec![number as u8; SIZE]);
    let some: Vec<_> = (0..EVENTS).map(output).collect();
    while journal.log.range(&some[0].partition)?.1 * (SIZE as u64) < BYTES {
        journal.log.produce(&some)?;
    }
    let wanted = journal.log.range(&some[0].partition)?.1;
    drop(journal);
    let begun = Instant::now();
    let journal = Journal::open(&place)?;
    let opened = begun.elapsed();
    let begun = Instant::now();
    let mut next = 0;
    while let Some(last) = journal.log.read(&some[0].partition, next, 4 << 20)?.last() {
        next = last.offset + 1;
    }
    if next != wanted {
        return Err(format!("{next} records of {wanted}").into());
    }
    println!("a log of 1 GiB opens in {opened:.1?} and is read whole in {:.1?}", begun.elapsed());
    Ok(())
}

struct Floor(File);

impl Floor {
    fn open(place: &Path) -> Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(place)?))
    }

    fn round(&mut self, events: &[Vec<u8>]) -> Result<()> {
        for _ in 0..HOPS {
            self.0.write_all(&events.concat())?;
            self.0.sync_data()?;
        }
        Ok(())
    }
}

struct Journal {
    log: EmbeddedLog,
    workers: Vec<(Partition, killick_embedded::Worker)>,
}

impl Journal {
    fn open(place: &Path) -> Result<Self> {
        let topic = |hop: u32| TopicSpec {
            name: format!("hop-{hop}").into(),
            partitions: 2,
            cleanup: Cleanup::Delete(Duration::from_secs(86_400)),
            readers: Vec::new(),
        };
        let topics: Vec<_> = (0..HOPS).map(topic).collect();
        let folder = Arc::new(Folder::open(place)?);
        let log = EmbeddedLog::open(&folder, &topics, Settings::default())?;
        let worker = |hop: u32| {
            let input = Partition::new(&*format!("hop-{hop}"), 0);
            let mut worker = log.worker(&format!("hop-{hop}"), std::slice::from_ref(&input))?;
            worker.poll(Duration::ZERO)?; // the assignment
            Ok((Partition::new(&*format!("hop-{}", hop + 1), 0), worker))
        };
        let workers = (0..HOPS - 1).map(worker).collect::<Result<_>>()?;
        Ok(Self { log, workers })
    }

    fn round(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let first = Partition::new("hop-0", 0);
        let output = |event: &Vec<u8>| Output::new(first.clone(), "", event.clone());
        self.log.produce(&events.iter().map(output).collect::<Vec<_>>())?;
        for (hop, (to, worker)) in self.workers.iter_mut().enumerate() {
            let mut part = Part::default();
            while part.outputs.len() < EVENTS {
                for polled in worker.poll(Duration::ZERO)? {
                    let Polled::Record(record) = polled else { continue };
                    part.through = Some(record.offset + 1);
                    part.outputs.push(Output::new(to.clone(), record.key, record.value));
                }
            }
            worker.commit(&[(Partition::new(&*format!("hop-{hop}"), 0), part)])?;
        }
        Ok(())
    }
}

const RECORDS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("records");
const OFFSETS: TableDefinition<'_, u32, u64> = TableDefinition::new("offsets");

struct Redb {
    database: Database,
    next: u64,
}

impl Redb {
    fn open(place: &Path) -> Result<Self> {
        // As large a cache as the catalog has: the default is 1 GiB.
        Ok(Self { database: Database::builder().set_cache_size(32 << 20).create(place)?, next: 0 })
    }

    fn round(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let end = self.next + EVENTS as u64;
        for hop in 0..HOPS {
            let moved: Vec<Vec<u8>> = match hop {
                0 => events.to_vec(),
                _ => {
                    let read = self.database.begin_read()?;
                    let records = read.open_table(RECORDS)?;
                    let records = records.range((hop - 1, self.next)..(hop - 1, end))?;
                    records.map(|row| Ok(row?.1.value().to_vec())).collect::<Result<_>>()?
                }
            };
            let write = self.database.begin_write()?;
            {
                let mut records = write.open_table(RECORDS)?;
                for (offset, event) in (self.next..).zip(&moved) {
                    records.insert((hop, offset), event.as_slice())?;
                }
                write.open_table(OFFSETS)?.insert(hop, end)?;
            }
            write.commit()?;
        }
        self.next = end;
        Ok(())
    }
}

/// What it took in wall time and in CPU time of this thread.
fn cost(work: impl FnOnce() -> Result<()>) -> Result<(Duration, Duration)> {
    let (begun, cpu) = (Instant::now(), cpu()?);
    work()?;
    Ok((begun.elapsed(), self::cpu()?.saturating_sub(cpu)))
}

fn cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split(' ').next().ok_or("no time")?.parse()?))
}

/// A line of this process's status, in KiB.
fn memory(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or("no such line")?.trim().trim_end_matches(" kB").parse()?)
}

fn median(costs: &mut [(Duration, Duration)], of: impl Fn(&(Duration, Duration)) -> Duration) -> Duration {
    costs.sort_by_key(&of);
    of(&costs[costs.len() / 2])
}

fn tempdir_in(place: &Path) -> Result<PathBuf> {
    let place = place.join(format!("bench-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    Ok(place)
}
