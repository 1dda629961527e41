use std::collections::VecDeque;

use bytes::Bytes;
use killick_proof::signature::SecretKey;
use killick_stages::anchor;
use killick_stages::deployment::{self, Deployment};
use killick_stages::record::{Header, Record, TICK};
use killick_stages::route::CHECKPOINTS;

use super::*;
use crate::office::World;
use crate::telemetry::{Side, Telemetry};

/// A log that says what it is told to, and takes partitions away in the midst of commits.
struct Script {
    polls: VecDeque<Vec<Polled>>,
    commits: VecDeque<Result<(), LogError>>,
    stop: CancellationToken,
}

impl Log for Script {
    fn poll(&mut self, _: Duration) -> Result<Vec<Polled>, LogError> {
        Ok(self.polls.pop_front().unwrap_or_else(|| {
            self.stop.cancel();
            Vec::new()
        }))
    }

    fn commit(&mut self, _: &[(Partition, Part)]) -> Result<(), LogError> {
        self.commits.pop_front().expect("no more commits were expected")
    }

    fn tick(&mut self, partition: &Partition) -> Result<(), LogError> {
        Err(LogError::Lost(partition.clone()))
    }

    fn replay(
        &mut self,
        _: &Partition,
        _: Option<Micros>,
        _: &mut dyn FnMut(Record),
    ) -> Result<(), LogError> {
        Ok(())
    }

    fn pause(&mut self, _: bool) {}

    fn now(&self) -> Micros {
        0
    }
}

fn tick(partition: &Partition, offset: u64) -> Polled {
    Polled::Record(Record {
        partition: partition.clone(),
        offset,
        append_time: 0,
        key: Bytes::new(),
        value: Bytes::new(),
        headers: vec![Header { name: TICK.into(), value: Bytes::new() }],
    })
}

fn anchor() -> Box<dyn Stage> {
    let config = deployment::Config {
        name: "worker.example".into(),
        chains: vec![0],
        ..deployment::Config::default()
    };
    let deployment = Deployment::new(&config).unwrap();
    let key = SecretKey::from_seed(&[7; 32]);
    Box::new(anchor::Anchor::new(&deployment, &anchor::Config::default(), vec![key]).unwrap())
}

#[test]
fn records_that_were_on_the_way_when_a_commit_found_their_partition_lost_are_another_workers() {
    let partition = Partition::new(CHECKPOINTS, 0);
    let stop = CancellationToken::new();
    let log = Script {
        polls: VecDeque::from([
            vec![Polled::Assigned(partition.clone(), 0), tick(&partition, 0)],
            vec![tick(&partition, 1)],
            vec![Polled::Revoked(partition.clone())],
            vec![Polled::Assigned(partition.clone(), 0), tick(&partition, 0)],
        ]),
        commits: VecDeque::from([Err(LogError::Lost(partition.clone())), Ok(())]),
        stop: stop.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let office = Office::open(runtime.handle().clone(), World::default(), stop.clone());
    let committed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tap: Tap = {
        let committed = Arc::clone(&committed);
        Arc::new(move |_, parts: &[(Partition, Part)]| {
            committed.lock().unwrap().extend(parts.iter().map(|(_, part)| part.through));
        })
    };
    let books = Bookkeeper::new("anchor", "0", 1);
    let side = Side { figures: None, lags: Box::new(BTreeMap::new) };
    let station = Telemetry::default().hired("anchor", "anchor-0", side, Arc::default());
    Worker::new("anchor", None, anchor(), log, office, books, (tap, station)).run(&stop).unwrap();
    assert_eq!(*committed.lock().unwrap(), [Some(1)]);
}
