//! What stages hold in memory: the keys of dedup, and how soon they are read back; a window of batch that is open.

use anyhow::Result;
use bytes::Bytes;
use killick_proof::note::SignerKey;
use killick_proof::signature::SecretKey;
use killick_stages::deployment::{self, Deployment};
use killick_stages::frame::UniqueFrame;
use killick_stages::record::{Micros, Partition, Record};
use killick_stages::route::{ACCEPTED, DEDUP_LOG, UNIQUE};
use killick_stages::stage::{Part, Stage as _};
use killick_stages::state::{DedupDelta, DeltaGroup};
use killick_stages::{batch, dedup};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::events::Maker;
use super::meter::{allocated, timed};
use super::table::{Figures, Goal};
use crate::process;

/// Keys of a record of `dedup-log`.
const TOGETHER: u64 = 10_000;
/// The log time in which all keys came: dedup holds them all.
const DAY: Micros = 86_400_000_000;
/// The log time of the first.
const START: Micros = 1_790_000_000_000_000;
/// Events in the open window that is looked at: fewer than close it.
const OPEN: usize = 900;
const MEGABYTE: f64 = 1e6;

/// Has dedup read so many keys back, then looks at an open window.
///
/// # Errors
/// A stage refuses what it should take.
pub fn measure(maker: &Maker, keys: u64, figures: &mut Figures) -> Result<()> {
    figures.says(&format!("state: {keys} keys of dedup are read back; an open window"));
    let deployment = deployment::Config { logs: 1, ..deployment::Config::default() };
    let deployment = Deployment::new(&deployment)?;
    let mut dedup = dedup::Dedup::new(&deployment, &dedup::Config::default())?;
    dedup.assign(&Partition::new(ACCEPTED, 0), keys / TOGETHER);
    let (before, held) = (process::resident_memory().unwrap_or_default(), allocated()?);
    let mut took = std::time::Duration::ZERO;
    for number in 0..keys / TOGETHER {
        let record = delta(number, START + DAY / (keys / TOGETHER) as Micros * number as Micros);
        timed(&mut took, || dedup.restore(&record))?;
    }
    let live = dedup.keys() as f64;
    let resident = process::resident_memory().unwrap_or_default().saturating_sub(before) as f64;
    figures.add("restore_s_per_million", took.as_secs_f64() / (live / 1e6), "s", None);
    figures.add("dedup.keys", live, "", None);
    figures.add(
        "dedup.memory",
        (allocated()?.saturating_sub(held)) as f64 / MEGABYTE / (live / 1e6),
        "MB/million",
        None,
    );
    figures.add("dedup.resident", resident / live, "bytes/key", Some(Goal::Most(60.0)));
    drop(dedup);
    open_window(maker, &deployment, figures)
}

/// A record of `dedup-log` with keys that are spread as hashes are.
fn delta(number: u64, time: Micros) -> Record {
    let mut keys = Vec::with_capacity(24 * 10_000);
    for key in number * TOGETHER..(number + 1) * TOGETHER {
        keys.extend(xxh3_128_with_seed(&key.to_le_bytes(), 1).to_le_bytes());
        keys.extend(key.to_le_bytes());
    }
    let groups = vec![DeltaGroup { time, keys: keys.into() }];
    let delta = DedupDelta { from: number, to: number + 1, time, groups };
    record(DEDUP_LOG, number, time, delta.encode())
}

fn record(topic: &str, offset: u64, append_time: Micros, value: Bytes) -> Record {
    let partition = Partition::new(topic, 0);
    Record { partition, offset, append_time, key: Bytes::new(), value, headers: Vec::new() }
}

fn open_window(maker: &Maker, deployment: &Deployment, figures: &mut Figures) -> Result<()> {
    let origin = deployment.origin(0).unwrap_or_default();
    let signer = SignerKey::new(origin, SecretKey::from_seed(&[1; 32]))?;
    let mut batch = batch::Batch::new(deployment, &batch::Config::default(), vec![signer])?;
    batch.assign(&Partition::new(UNIQUE, 0), 0);
    let held = allocated()?;
    // In records of ten events, as a slow input makes them; what a window holds of them is theirs.
    for (offset, first) in (0..OPEN).step_by(10).enumerate() {
        let statements = (first..first + 10).map(|number| maker.statement(number)).collect::<Result<_>>()?;
        let frame = UniqueFrame { offset: offset as u64, statements, ..UniqueFrame::default() };
        batch.step(&record(UNIQUE, offset as u64, START, frame.encode()), &mut Part::default())?;
    }
    let open = allocated()?.saturating_sub(held) as f64;
    figures.add("window.events", OPEN as f64, "", None);
    figures.add("window.memory", open, "bytes", None);
    Ok(())
}
