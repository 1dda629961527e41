//! How long events take, from their acceptance to a checkpoint and to their proof, of a sample of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use killick_proof::statement::Statement;
use killick_stages::ready::ProofReady;
use killick_stages::record::{Output, Partition};
use killick_stages::route;
use killick_stages::stage::Part;

use crate::counters::batch_of;

/// Events that are followed at the most: their names are in memory.
const MOST: usize = 50_000;

/// Follows events.
#[derive(Default)]
pub struct Latencies(Mutex<Followed>);

#[derive(Default)]
struct Followed {
    begun: HashMap<(String, String), Instant>,
    batched: HashMap<(Box<str>, u64), Vec<Instant>>,
    to_checkpoint: Vec<Duration>,
    to_proof: Vec<Duration>,
}

/// 50 %, 95 % and 99 % of the events took at most so long.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantiles {
    /// The median.
    pub p50: Duration,
    /// 95 %.
    pub p95: Duration,
    /// 99 %.
    pub p99: Duration,
}

impl Latencies {
    /// An event was given to the log now.
    pub fn begin(&self, source: &str, id: &str) {
        let mut followed = self.followed();
        if followed.begun.len() + followed.to_checkpoint.len() < MOST {
            followed.begun.entry((source.to_owned(), id.to_owned())).or_insert_with(Instant::now);
        }
    }

    /// A stage committed this.
    pub fn committed(&self, parts: &[(Partition, Part)]) {
        let now = Instant::now();
        for output in parts.iter().flat_map(|(_, part)| &part.outputs) {
            match output.partition.topic.as_str() {
                route::BATCHES => self.batch(output, now),
                route::PROOFS => self.proof(output, now),
                _ => {}
            }
        }
    }

    fn batch(&self, output: &Output, now: Instant) {
        let Some((origin, number, batch)) = batch_of(output) else { return };
        let mut followed = self.followed();
        let mut begun = Vec::new();
        for statement in &batch.statements {
            let Ok(statement) = Statement::decode(statement) else { continue };
            let name = (statement.event.source.to_owned(), statement.event.id.to_owned());
            begun.extend(followed.begun.remove(&name));
        }
        followed.to_checkpoint.extend(begun.iter().map(|begun| now - *begun));
        followed.batched.insert((origin, number), begun);
    }

    fn proof(&self, output: &Output, now: Instant) {
        let Ok(ready) = ProofReady::decode(&output.value) else { return };
        let mut followed = self.followed();
        let begun = followed.batched.remove(&(ready.origin, ready.number)).unwrap_or_default();
        followed.to_proof.extend(begun.into_iter().map(|begun| now - begun));
    }

    /// To the checkpoint, and to the proof; `None` while none got so far.
    pub fn quantiles(&self) -> (Option<Quantiles>, Option<Quantiles>) {
        let mut followed = self.followed();
        let Followed { to_checkpoint, to_proof, .. } = &mut *followed;
        (quantiles(to_checkpoint), quantiles(to_proof))
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quantiles(times: &mut [Duration]) -> Option<Quantiles> {
    times.sort_unstable();
    // The smallest value that so many per cent of all do not exceed.
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Quantiles { p50: at(50)?, p95: at(95)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let found = quantiles(&mut times).unwrap();
        assert_eq!([found.p50, found.p95, found.p99].map(|time| time.as_millis()), [100, 190, 198]);
        assert!(quantiles(&mut []).is_none());
        let one = quantiles(&mut [Duration::from_millis(7)]).unwrap();
        assert_eq!(one.p99.as_millis(), 7);
    }
}
