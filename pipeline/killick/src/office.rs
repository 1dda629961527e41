//! Does what stages ask of the world outside the log, and brings the answers back.
//!
//! A transient failure is tried again with growing, jittered pauses until there is an answer: to give up is a stage's
//! decision, never the shell's. Requests to the catalog about one partition are done one after another, in the order
//! in which they were asked, since the batches of a log have an order; requests to the chain go side by side.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use killick_kafka::plant;
use killick_stages::derive::{DeriveError, first_covered, log_path};
use killick_stages::ports::{Balance, Catalog, CatalogError, Chain, ChainError};
use killick_stages::record::Partition;
use killick_stages::series::newest;
use killick_stages::stage::{Answer, Request, StoredBatch};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{AcquireError, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::registry::Registry;

/// Calls that one worker makes at the same time.
const AT_ONCE: usize = 16;
/// Pauses between tries, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// The ports that stages reach through requests: those that the stages of this process need.
#[derive(Clone, Default)]
pub struct World {
    /// The catalog.
    pub catalog: Option<Arc<dyn Catalog>>,
    /// The chain.
    pub chain: Option<Arc<dyn Chain>>,
    /// The schema registry.
    pub registry: Option<Arc<Registry>>,
}

/// What came of a request, and whose it was.
pub struct Answered {
    /// The partition it was asked about.
    pub partition: Partition,
    /// The assignment of the partition during which it was asked.
    pub assignment: u64,
    /// The answer, or what an operator has to look at.
    pub outcome: Result<Answer, String>,
}

/// Where one worker's requests go. What waits here is bounded by what a stage lets wait.
pub struct Office {
    runtime: Handle,
    desk: Desk,
    /// One queue a partition for what has an order.
    queues: HashMap<Partition, UnboundedSender<(u64, Request)>>,
}

/// What one task needs to do a request.
#[derive(Clone)]
struct Desk {
    world: World,
    answers: mpsc::Sender<Answered>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Office {
    /// An office on `runtime` that closes at `stop`, and where its answers come.
    pub fn open(runtime: Handle, world: World, stop: CancellationToken) -> (Self, mpsc::Receiver<Answered>) {
        let (answers, receiver) = mpsc::channel();
        let desk = Desk { world, answers, permits: Arc::new(Semaphore::new(AT_ONCE)), stop };
        (Self { runtime, desk, queues: HashMap::new() }, receiver)
    }

    /// Takes a request; its answer comes once, unless the office closes first.
    pub fn ask(&mut self, partition: Partition, assignment: u64, request: Request) {
        match request {
            Request::PutBatch(_)
            | Request::PutAnchor(_)
            | Request::ReadBatch { .. }
            | Request::FirstCovered { .. }
            | Request::Newest { .. } => {
                let (desk, runtime) = (&self.desk, &self.runtime);
                let queue = self.queues.entry(partition.clone()).or_insert_with(|| {
                    let (queue, waiting) = unbounded_channel();
                    runtime.spawn(desk.clone().work_off(partition, waiting));
                    queue
                });
                // The other end goes only when the office closes, and then nobody waits for an answer.
                let _ = queue.send((assignment, request));
            }
            Request::Send { .. }
            | Request::Look { .. }
            | Request::Spv { .. }
            | Request::Balance { .. }
            | Request::Schema(_)
            | Request::Again => {
                self.runtime.spawn(self.desk.clone().work(partition, assignment, request));
            }
        }
    }
}

impl Desk {
    async fn work_off(self, partition: Partition, mut waiting: UnboundedReceiver<(u64, Request)>) {
        while let Some((assignment, request)) = waiting.recv().await {
            self.clone().work(partition.clone(), assignment, request).await;
        }
    }

    /// Tries until there is an answer or the office closes.
    async fn work(self, partition: Partition, assignment: u64, request: Request) {
        let stop = self.stop.clone();
        let answers = self.answers.clone();
        if let Some(Ok(outcome)) = stop.run_until_cancelled(self.pursue(request)).await {
            // The worker went: nobody waits.
            let _ = answers.send(Answered { partition, assignment, outcome });
        }
    }

    async fn pursue(&self, request: Request) -> Result<Result<Answer, String>, AcquireError> {
        if let Request::Look { after, .. } | Request::Balance { after, .. } = request {
            tokio::time::sleep(after).await;
        }
        let request = Arc::new(request);
        let mut pause = RETRY.0;
        loop {
            let outcome = {
                let _permit = self.permits.acquire().await?;
                let (world, request) = (self.world.clone(), Arc::clone(&request));
                tokio::task::spawn_blocking(move || world.perform(&request)).await
            };
            match outcome {
                Ok(Ok(answer)) => return Ok(Ok(answer)),
                Ok(Err(Failure::Final(why))) => return Ok(Err(why)),
                Ok(Err(Failure::Transient(why))) => warn!(why, ?pause, "no answer; trying again"),
                Err(gone) => return Ok(Err(format!("a request did not end: {gone}"))),
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

/// Whether to try again.
enum Failure {
    Transient(String),
    Final(String),
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Failed(_) => Self::Transient(error.to_string()),
            CatalogError::Conflict(_) | CatalogError::Damaged(_) => Self::Final(error.to_string()),
        }
    }
}

impl World {
    fn catalog(&self) -> Result<&dyn Catalog, Failure> {
        self.catalog.as_deref().ok_or_else(|| Failure::Final("this process has no catalog".to_owned()))
    }

    fn chain(&self) -> Result<&dyn Chain, Failure> {
        self.chain.as_deref().ok_or_else(|| Failure::Final("this process has no chain".to_owned()))
    }

    fn perform(&self, request: &Request) -> Result<Answer, Failure> {
        let unreachable = |error: ChainError| Failure::Transient(error.to_string());
        Ok(match request {
            Request::PutBatch(batch) => {
                self.catalog()?.put_batch(batch)?;
                Answer::BatchPut(number_of(&batch.header)?)
            }
            Request::PutAnchor(_) if plant::has("anchor_not_put") => Answer::AnchorPut,
            Request::PutAnchor(anchor) => {
                self.catalog()?.put_anchor(anchor)?;
                Answer::AnchorPut
            }
            Request::ReadBatch { origin, number, size } => {
                Answer::BatchRead(self.stored(origin, *number, *size)?)
            }
            Request::FirstCovered { origin, size } => {
                Answer::FirstCovered(first_covered(self.catalog()?, origin, *size)?)
            }
            Request::Newest { series } => Answer::Newest(newest(self.catalog()?, series)?),
            Request::Send { chain, key, command } => {
                Answer::Sent(key.clone(), self.chain()?.send(*chain, command).map_err(unreachable)?)
            }
            Request::Look { chain, keys, depth, .. } => {
                Answer::Seen(keys.clone(), self.chain()?.look(*chain, keys, *depth).map_err(unreachable)?)
            }
            Request::Spv { chain, key, .. } => {
                let proof = self.chain()?.spv(*chain, key).map_err(unreachable)?;
                Answer::Spv(key.clone(), proof.map(Box::new))
            }
            Request::Balance { chain, account, .. } => {
                let held = self.chain()?.balance(*chain, account);
                Answer::Balance(account.clone(), held.map_or_else(unknown, balance))
            }
            Request::Schema(id) => {
                let registry = self.registry.as_ref();
                let registry = registry
                    .ok_or_else(|| Failure::Final("this process has no schema registry".to_owned()))?;
                let lookup = registry.lookup(*id);
                let unanswered = |error| Failure::Transient(format!("events wait for schema {id}: {error}"));
                Answer::Schema(*id, lookup.map_err(unanswered)?)
            }
            Request::Again => Answer::Again,
        })
    }

    fn stored(&self, origin: &str, number: u64, size: u64) -> Result<Option<Box<StoredBatch>>, Failure> {
        let Some(batch) = self.catalog()?.batch(origin, number)? else { return Ok(None) };
        let path = log_path(self.catalog()?, origin, number, size).map_err(|error| match error {
            DeriveError::Catalog(error) => error.into(),
            error => Failure::Final(error.to_string()),
        })?;
        Ok(Some(Box::new(StoredBatch { batch, path })))
    }
}

fn balance(units: Option<u128>) -> Balance {
    units.map_or(Balance::NoAccount, Balance::Units)
}

/// Nothing waits for a balance: the stage asks again.
fn unknown(error: ChainError) -> Balance {
    warn!(%error, "an account's balance is not known; asking again later");
    Balance::Unknown(error.to_string().into())
}

fn number_of(header: &[u8]) -> Result<u64, Failure> {
    match killick_proof::batch::BatchHeader::decode(header) {
        Ok(header) => Ok(header.number),
        Err(error) => Err(Failure::Final(format!("a batch header to be stored does not decode: {error}"))),
    }
}
