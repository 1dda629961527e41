//! The log: to standard error, and where it is pushed.

use std::fmt;
use std::io::{self, IsTerminal as _};

use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::Otlp;

/// Who carries what is pushed: what these say of it must not be pushed in turn.
const CARRIERS: [&str; 6] = ["opentelemetry", "hyper", "hyper_util", "h2", "reqwest", "tonic"];

/// Begins to log what `filter` lets through: to standard error, as JSON or as text, and to where `otlp` pushes it.
///
/// # Errors
/// What is wrong with the filter.
pub fn begin(filter: &str, is_json: bool, otlp: &Otlp) -> Result<(), String> {
    let parse = |filter: &str| EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if is_json {
        builder
            .event_format(WithTrace(Format::default().json().flatten_event(true)))
            .fmt_fields(JsonFields::new())
            .boxed()
    } else {
        builder.with_ansi(io::stderr().is_terminal() && !no_color).boxed()
    };
    let spans = otlp.traces().map(|traces| {
        let tracer = traces.tracer().clone();
        tracing_opentelemetry::layer().with_tracer(tracer)
    });
    let mut pushed = filter.to_owned();
    CARRIERS.iter().for_each(|carrier| pushed.push_str(&format!(",{carrier}=off")));
    let (spans_filter, logs_filter) = (parse(&pushed)?, parse(&pushed)?);
    let records = otlp.logs().map(OpenTelemetryTracingBridge::new);
    tracing_subscriber::registry()
        .with(lines.with_filter(parse(filter)?))
        .with(spans.with_filter(spans_filter))
        .with(records.with_filter(logs_filter))
        .init();
    Ok(())
}

/// Lines of JSON that name the trace and the span in which they were written, where there are.
struct WithTrace(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let context = opentelemetry::Context::current();
        let span = context.span().span_context().clone();
        if !span.is_valid() {
            return self.0.format_event(ctx, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(object) => writeln!(
                writer,
                "{object},\"trace_id\":\"{}\",\"span_id\":\"{}\"}}",
                span.trace_id(),
                span.span_id()
            ),
            None => writer.write_str(&line),
        }
    }
}
