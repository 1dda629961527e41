//! Sends events at a pace, from several threads, and keeps the ledger.
//!
//! A sender behaves as clients do: what was not acknowledged is sent again, as it is, or given up and never known. Of
//! what is accepted some comes again later, and some with a changed body.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use killick_kafka::{KafkaProducer, Settings};
use killick_stages::ports::Producer as _;
use killick_stages::record::Output;

use crate::events::Events;
use crate::ledger::{Pen, Plan};

/// Events that are sent together: one line of the ledger, one wait for the brokers.
const TOGETHER: u64 = 250;
/// One in so many that meet an error is given up at once.
const GIVES_UP: u64 = 8;
/// How long a sender goes on with what is not acknowledged.
const PATIENCE: Duration = Duration::from_secs(180);
/// Pause before the next try.
const RETRY: Duration = Duration::from_millis(100);
/// Copies come at most so many portions later.
const LATER: u64 = 60;

/// How the load is sent.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Threads.
    pub senders: usize,
    /// How long all of it takes; zero: as fast as it goes.
    pub span: Duration,
}

/// A load under way.
pub struct Load {
    senders: Vec<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    events: Events,
    count: u64,
    begun: Instant,
    span: Duration,
    next: AtomicU64,
    figures: Figures,
    stop: AtomicBool,
}

/// What was sent.
#[derive(Debug, Default)]
struct Figures {
    accepted: AtomicU64,
    unknown: AtomicU64,
    extra: AtomicU64,
    errors: AtomicU64,
}

/// What was sent, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Numbers that are accepted.
    pub accepted: u64,
    /// Numbers that were given up.
    pub unknown: u64,
    /// Copies and changed copies that are accepted.
    pub extra: u64,
    /// Calls that failed.
    pub errors: u64,
}

impl Load {
    /// Begins to send what is planned; the ledger's folder must be new.
    ///
    /// # Errors
    /// The ledger cannot be written, or the settings cannot work.
    pub fn start(settings: &Settings, plan: &Plan, pace: &Pace, ledger: &Path) -> Result<Self> {
        plan.write(ledger)?;
        let shared = Arc::new(Shared {
            events: Events::new(plan.mix.clone()),
            count: plan.events,
            begun: Instant::now(),
            span: pace.span,
            next: AtomicU64::new(0),
            figures: Figures::default(),
            stop: AtomicBool::new(false),
        });
        let mut senders = Vec::new();
        for number in 0..pace.senders {
            let mut sender = Sender {
                producer: KafkaProducer::open(settings, &format!("load-{number}"))?,
                pen: Pen::new(ledger, number)?,
                shared: Arc::clone(&shared),
                later: BTreeMap::new(),
            };
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            senders.push(thread.spawn(move || sender.run())?);
        }
        Ok(Self { senders, shared })
    }

    /// What is sent by now.
    pub fn sent(&self) -> Sent {
        let Figures { accepted, unknown, extra, errors } = &self.shared.figures;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Sent { accepted: read(accepted), unknown: read(unknown), extra: read(extra), errors: read(errors) }
    }

    /// Whether everything is sent.
    pub fn is_over(&self) -> bool {
        self.senders.iter().all(JoinHandle::is_finished)
    }

    /// Waits until everything is sent.
    ///
    /// # Errors
    /// The ledger could not be written.
    pub fn join(self) -> Result<Sent> {
        let Self { senders, shared } = self;
        for sender in senders {
            sender.join().map_err(|_| anyhow!("a sender panicked"))?.context("a sender stopped")?;
        }
        Ok(Self { senders: Vec::new(), shared }.sent())
    }

    /// Sends nothing new any more.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Sender {
    producer: KafkaProducer,
    pen: Pen,
    shared: Arc<Shared>,
    /// Copies to be sent with a later portion: numbers and versions.
    later: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Sender {
    fn run(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let portions = shared.count.div_ceil(TOGETHER);
        loop {
            let portion = shared.next.fetch_add(1, Ordering::Relaxed);
            if portion >= portions || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            // Each portion has its time; who is late hurries.
            let due = shared.begun + shared.span.mul_f64(portion as f64 / portions as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.send(portion)?;
            let still_later = self.later.split_off(&(portion + 1));
            let due = std::mem::replace(&mut self.later, still_later);
            self.send_again(due.into_values().flatten().collect());
        }
        let rest = std::mem::take(&mut self.later);
        for copies in rest.into_values() {
            self.send_again(copies);
        }
        Ok(())
    }

    /// Sends one portion of events for the first time.
    fn send(&mut self, portion: u64) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (events, mix) = (&shared.events, &shared.events.mix);
        let numbers = portion * TOGETHER..((portion + 1) * TOGETHER).min(shared.count);
        let mut records: Vec<Output> = Vec::new();
        for number in numbers.clone() {
            records.push(events.record(number, 0));
            if mix.copies(number) > 2 {
                // An impatient client: both are on their way at once.
                records.push(events.record(number, 0));
            }
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            self.pen.intent(&numbers)?;
            if self.produce(&records) {
                break;
            }
            if mix.gives_up(portion, GIVES_UP)
                || Instant::now() > patience
                || shared.stop.load(Ordering::Relaxed)
            {
                shared.figures.unknown.fetch_add(numbers.end - numbers.start, Ordering::Relaxed);
                return self.pen.unknown(&numbers);
            }
            std::thread::sleep(RETRY);
        }
        self.pen.accepted(&numbers)?;
        shared.figures.accepted.fetch_add(numbers.end - numbers.start, Ordering::Relaxed);
        for number in numbers {
            for copy in 0..mix.copies(number) {
                let when = portion + mix.delay(number, copy, LATER);
                self.later.entry(when).or_default().push((number, 0));
            }
            for version in 1..=mix.changes(number) {
                let when = portion + mix.delay(number, version, LATER);
                self.later.entry(when).or_default().push((number, version));
            }
        }
        Ok(())
    }

    /// Sends copies of what is accepted: if one gets lost, nothing is missing.
    fn send_again(&mut self, copies: Vec<(u64, u64)>) {
        let records: Vec<_> =
            copies.into_iter().map(|(number, version)| self.shared.events.record(number, version)).collect();
        if !records.is_empty() && self.produce(&records) {
            self.shared.figures.extra.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
    }

    fn produce(&self, records: &[Output]) -> bool {
        let outcome = self.producer.produce(records);
        if outcome.is_err() {
            self.shared.figures.errors.fetch_add(1, Ordering::Relaxed);
        }
        outcome.is_ok()
    }
}
