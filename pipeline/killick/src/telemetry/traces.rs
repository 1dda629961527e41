//! Spans: how an event, or a batch, is followed through all stages.
//!
//! ```text
//! the producer's trace    send ─┬─ process INPUT ─┬─ process accepted ─┬─ process unique ──┐ link
//! the batch's trace       batch ─┬─ process checkpoints ─┬─ process batches ─┬─ send proofs │
//!                           └─ links to at most 128 of its producers' spans ◀──────────────┘
//! ```
//!
//! The trace of a batch is made of its id, and so is the id of its first span: see `killick_stages::trace`. Whether a trace is
//! recorded is decided by its id alone, the same in each process, with nothing to carry from one to the next: by
//! `OTEL_TRACES_SAMPLER` and its `_ARG` where they are set, else one batch in a hundred, and of the events whose producers
//! record them one in a hundred too.
//! Spans are made of what was committed, in a moment: a transaction that is not recorded costs nothing, an event never.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use killick_proof::Algorithm;
use killick_proof::batch::BatchHeader;
use killick_proof::checkpoint::Checkpoint;
use killick_proof::note::Note;
use killick_stages::avro::Reader;
use killick_stages::frame::AnchorFrame;
use killick_stages::ready::{About as ProofAbout, ProofReady};
use killick_stages::record::{Header, Micros, Output, Partition, Record};
use killick_stages::route;
use killick_stages::stage::Part;
use killick_stages::trace::{TRACEPARENT, TraceParent, carried, of_events};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    IdGenerator, ParentBasedSampler, RandomIdGenerator, Sampler, SamplingDecision, SdkTracer,
    SdkTracerProvider, ShouldSample,
};

use super::otlp::set;

/// Of so many traces one is recorded, where nobody says otherwise.
const RATIO: f64 = 0.01;
/// Checkpoints, and batches, of one partition that wait to be told of in a span; of more, the oldest have none.
const WAITING: usize = 1_024;

thread_local! {
    /// The ids that the next span of this thread is to have.
    static IDS: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Ids by chance, unless they are given.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        IDS.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        IDS.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// The spans of this process.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sampler: Box<dyn ShouldSample>,
    waiting: Arc<Mutex<BTreeMap<Partition, VecDeque<Waiting>>>>,
}

/// A record whose span ends when more is known.
#[derive(Debug)]
struct Waiting {
    /// The log and the size of a checkpoint; or nothing, and the number of a batch.
    of: (Box<str>, u64),
    parent: TraceParent,
    since: SystemTime,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

/// What a span is about.
struct About<'a> {
    stage: &'static str,
    /// The topic that is read, or written.
    topic: &'a str,
    partition: u32,
    time: (SystemTime, SystemTime),
}

impl Traces {
    /// Spans that this exporter takes.
    ///
    /// # Errors
    /// The environment names a sampler that there is not.
    pub fn new(exporter: SpanExporter, resource: Resource) -> Result<Self> {
        let sampler =
            sampler(set("OTEL_TRACES_SAMPLER").as_deref(), set("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler.clone())
            .with_id_generator(Ids::default())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("killick");
        Ok(Self { provider, tracer, sampler, waiting: Arc::default() })
    }

    /// What makes spans.
    pub fn tracer(&self) -> &SdkTracer {
        &self.tracer
    }

    /// Sends the last spans.
    ///
    /// # Errors
    /// They did not arrive.
    pub fn end(&self) -> Result<()> {
        Ok(self.provider.shutdown()?)
    }

    /// A stage read records: those of which a span is made later are kept in mind.
    pub fn read<'r>(&self, stage: &'static str, records: impl Iterator<Item = &'r Record>) {
        if !matches!(stage, "anchor" | "prove") {
            return;
        }
        for record in records {
            let waiting = match record.partition.topic.as_str() {
                route::CHECKPOINTS => {
                    record.header(TRACEPARENT).and_then(TraceParent::parse).zip(checkpoint(record))
                }
                route::BATCHES => {
                    batch(&record.value).map(|(parent, number, _)| (parent, (Box::default(), number)))
                }
                _ => None,
            };
            let Some((parent, of)) = waiting.filter(|(parent, _)| self.is_recorded(parent)) else { continue };
            let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = all.entry(record.partition.clone()).or_default();
            if queue.len() >= WAITING {
                queue.pop_front();
            }
            queue.push_back(Waiting { of, parent, since: SystemTime::now() });
        }
    }

    /// A partition went, and with it what was kept in mind of it.
    pub fn revoked(&self, partition: &Partition) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
    }

    /// A stage committed, which took so long.
    pub fn committed(&self, stage: &'static str, parts: &[(Partition, Part)], took: Duration) {
        let end = SystemTime::now();
        let time = (end.checked_sub(took).unwrap_or(end), end);
        for (input, part) in parts {
            let of_input = About { stage, topic: input.topic.as_str(), partition: input.number, time };
            for output in &part.outputs {
                let partition = output.partition.number;
                match (stage, output.partition.topic.as_str()) {
                    ("ingest", route::ACCEPTED) => self
                        .events(&of_input, of_events(&output.headers).into_iter().map(|(_, parent)| parent)),
                    ("dedup", route::UNIQUE) => self.events(&of_input, carried(&output.headers)),
                    ("batch", route::BATCHES) => self.batch(&of_input, output),
                    ("anchor", route::ANCHORS) => self.anchored(input, output, end),
                    ("prove", route::PROOFS) => {
                        self.proof(&About { stage, topic: route::PROOFS, partition, time }, output);
                    }
                    _ => {}
                }
            }
            if stage == "prove" && input.topic.as_str() == route::BATCHES {
                self.stored(input, part, end);
            }
        }
    }

    /// Whether a trace is recorded, as its id says.
    fn is_recorded(&self, of: &TraceParent) -> bool {
        let id = TraceId::from_bytes(of.trace);
        let said = self.sampler.should_sample(None, id, "", &SpanKind::Consumer, &[], &[]);
        said.decision == SamplingDecision::RecordAndSample
    }

    /// A span for each of these events, in its producer's trace.
    fn events(&self, about: &About<'_>, parents: impl Iterator<Item = TraceParent>) {
        parents.for_each(|parent| self.span(about, &parent, Vec::new(), Vec::new()));
    }

    /// The first span of a batch, and one for each of its events that a context is known of: they link to one another.
    fn batch(&self, about: &About<'_>, output: &Output) {
        let Some((own, number, since)) = batch(&output.value) else { return };
        let is_recorded = self.is_recorded(&own);
        let events: Vec<_> = carried(&output.headers).collect();
        if !is_recorded && events.is_empty() {
            return;
        }
        let attributes = [
            KeyValue::new("killick.batch.trace", hex::encode(own.trace)),
            KeyValue::new("killick.batch.number", i64::try_from(number).unwrap_or(i64::MAX)),
        ];
        for event in &events {
            self.span(about, event, attributes.to_vec(), vec![Link::with_context(context(&own))]);
        }
        if is_recorded {
            let links = events.iter().map(|event| Link::with_context(context(event))).collect();
            let builder = self.builder("batch", about, SpanKind::Internal, attributes.to_vec(), links);
            IDS.set(Some((TraceId::from_bytes(own.trace), SpanId::from_bytes(own.span))));
            let mut span = builder.with_start_time(since).start_with_context(&self.tracer, &Context::new());
            IDS.set(None);
            span.end_with_timestamp(about.time.1);
        }
    }

    /// The checkpoints that an anchor covers.
    fn anchored(&self, input: &Partition, output: &Output, end: SystemTime) {
        let Ok(frame) = AnchorFrame::decode(&output.value) else { return };
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = all.get_mut(input) else { return };
        let is_covered = |waiting: &Waiting| *waiting.of.0 == *frame.origin && waiting.of.1 <= frame.size;
        let covered: Vec<_> =
            queue.iter().filter(|waiting| is_covered(waiting)).map(|w| (w.parent, w.since)).collect();
        queue.retain(|waiting| !is_covered(waiting));
        drop(all);
        for (parent, since) in covered {
            let about = About {
                stage: "anchor",
                topic: input.topic.as_str(),
                partition: input.number,
                time: (since, end),
            };
            let attributes = vec![
                KeyValue::new("killick.chain", i64::from(frame.chain)),
                KeyValue::new("killick.block.height", i64::try_from(frame.height).unwrap_or(i64::MAX)),
                KeyValue::new("killick.block.hash", frame.block.to_string()),
                KeyValue::new("killick.request_key", frame.key.to_string()),
                KeyValue::new("killick.interval", frame.interval.to_string()),
            ];
            self.span(&about, &parent, attributes, Vec::new());
        }
    }

    /// The batches that the catalog has now: as many as the input is done with.
    fn stored(&self, input: &Partition, part: &Part, end: SystemTime) {
        let manifests = part.outputs.iter().filter(|output| output.partition.topic.as_str() == route::AUDIT);
        let tally = manifests
            .filter_map(|output| killick_stages::manifest::Manifest::decode(&output.value).ok())
            .last();
        let Some(stored) = tally.and_then(|manifest| manifest.tally.batches) else { return };
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = all.get_mut(input) else { return };
        let count = queue.iter().take_while(|waiting| waiting.of.1 < stored).count();
        let done: Vec<_> = queue.drain(..count).collect();
        drop(all);
        for Waiting { parent, since, .. } in done {
            let about = About {
                stage: "prove",
                topic: input.topic.as_str(),
                partition: input.number,
                time: (since, end),
            };
            self.span(&about, &parent, Vec::new(), Vec::new());
        }
    }

    /// What is told of a batch.
    fn proof(&self, about: &About<'_>, output: &Output) {
        let own = output.headers.iter().find(|header: &&Header| &*header.name == TRACEPARENT);
        let Some(own) = own.and_then(|header| TraceParent::parse(&header.value)) else { return };
        if !self.is_recorded(&own) {
            return;
        }
        let mut attributes = Vec::new();
        if let Ok(ProofAbout { leaves, block: Some(block), .. }) = ProofReady::about(&output.value) {
            attributes = vec![
                KeyValue::new("messaging.batch.message_count", i64::try_from(leaves).unwrap_or(i64::MAX)),
                KeyValue::new("killick.chain", i64::from(block.chain)),
                KeyValue::new("killick.block.height", i64::try_from(block.height).unwrap_or(i64::MAX)),
                KeyValue::new("killick.block.hash", block.hash.to_string()),
            ];
        }
        self.span(about, &own, attributes, Vec::new());
    }

    /// A span below another, if that one's trace is recorded.
    fn span(&self, about: &About<'_>, parent: &TraceParent, attributes: Vec<KeyValue>, links: Vec<Link>) {
        let (kind, does) = if about.topic == route::PROOFS {
            (SpanKind::Producer, "send")
        } else {
            (SpanKind::Consumer, "process")
        };
        let parent = Context::new().with_remote_span_context(context(parent));
        let said = self.sampler.should_sample(
            Some(&parent),
            parent.span().span_context().trace_id(),
            "",
            &kind,
            &[],
            &[],
        );
        if said.decision != SamplingDecision::RecordAndSample {
            return;
        }
        let builder = self.builder(does, about, kind, attributes, links);
        let mut span = builder.with_start_time(about.time.0).start_with_context(&self.tracer, &parent);
        span.end_with_timestamp(about.time.1);
    }

    fn builder(
        &self,
        does: &'static str,
        about: &About<'_>,
        kind: SpanKind,
        mut attributes: Vec<KeyValue>,
        links: Vec<Link>,
    ) -> SpanBuilder {
        attributes.extend([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", does),
            KeyValue::new("messaging.destination.name", about.topic.to_owned()),
            KeyValue::new("messaging.destination.partition.id", about.partition.to_string()),
            KeyValue::new("messaging.consumer.group.name", about.stage),
        ]);
        SpanBuilder::from_name(format!("{does} {}", about.topic))
            .with_kind(kind)
            .with_attributes(attributes)
            .with_links(links)
    }
}

fn context(of: &TraceParent) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(of.is_sampled);
    let (trace, span) = (TraceId::from_bytes(of.trace), SpanId::from_bytes(of.span));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

/// The trace of a batch, its number, and when its first event came, from the beginning of its record.
fn batch(value: &[u8]) -> Option<(TraceParent, u64, SystemTime)> {
    let encoded = Reader::new(value).bytes().ok()?;
    let header = BatchHeader::decode(encoded).ok()?;
    let algorithm = header.origin.algorithm()?;
    Some((
        TraceParent::of_batch(&Algorithm::leaf(algorithm, encoded)),
        header.number,
        system_time(header.first_time),
    ))
}

/// The log and the size of a signed checkpoint.
fn checkpoint(record: &Record) -> Option<(Box<str>, u64)> {
    let note = Note::parse(std::str::from_utf8(&record.value).ok()?).ok()?;
    let checkpoint = Checkpoint::parse(note.text()).ok()?;
    Some((checkpoint.origin.into(), checkpoint.size))
}

fn system_time(time: Micros) -> SystemTime {
    let since = Duration::from_micros(u64::try_from(time).unwrap_or_default());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The sampler that the environment names.
fn sampler(name: Option<&str>, argument: Option<&str>) -> Result<Box<dyn ShouldSample>> {
    let ratio = |fallback: f64| {
        let ratio = argument.map_or(Ok(fallback), str::parse::<f64>);
        match ratio {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
            _ => bail!(
                "OTEL_TRACES_SAMPLER_ARG is {:?}; it is a number of 0 to 1",
                argument.unwrap_or_default()
            ),
        }
    };
    Ok(match name {
        None => {
            let few = ratio(RATIO)?;
            Box::new(ParentBasedSampler::new(few.clone()).with_remote_parent_sampled(few))
        }
        Some("always_on") => Box::new(Sampler::AlwaysOn),
        Some("always_off") => Box::new(Sampler::AlwaysOff),
        Some("traceidratio") => Box::new(ratio(1.0)?),
        Some("parentbased_always_on") => Box::new(ParentBasedSampler::new(Sampler::AlwaysOn)),
        Some("parentbased_always_off") => Box::new(ParentBasedSampler::new(Sampler::AlwaysOff)),
        Some("parentbased_traceidratio") => Box::new(ParentBasedSampler::new(ratio(1.0)?)),
        Some(name) => bail!(
            "OTEL_TRACES_SAMPLER is {name:?}; there are always_on, always_off, traceidratio, and each with parentbased_ before it"
        ),
    })
}
