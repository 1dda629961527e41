//! What is pushed by OTLP, as the environment of OpenTelemetry says: nothing, unless it names an endpoint or asks for it.
//!
//! `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_{METRICS,TRACES,LOGS}_EXPORTER` (otlp or none), all of
//! `OTEL_EXPORTER_OTLP_*` (endpoint, protocol grpc or http/protobuf, headers, timeout, compression; also for one signal alone), and
//! the intervals and queues of the readers and processors. `OTEL_TRACES_SAMPLER` is in `traces.rs`.

use std::env;

use anyhow::{Context as _, Result};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tokio::runtime::Runtime;

use super::traces::Traces;

/// What is pushed.
#[derive(Default)]
pub struct Otlp {
    pub(super) metrics: Option<MetricExporter>,
    pub(super) traces: Option<Traces>,
    pub(super) logs: Option<SdkLoggerProvider>,
    /// Where connections of gRPC live. Last, so that it goes last.
    pub(super) connections: Connections,
}

/// The runtime of what is pushed by gRPC. Whoever lets go of it last may be a task, which must not wait for it to end.
#[derive(Default)]
pub struct Connections(Option<Runtime>);

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Otlp {
    /// Begins to push what the environment asks for.
    ///
    /// # Errors
    /// The environment asks for what cannot be: with its variables.
    pub fn of_environment() -> Result<Self> {
        let wanted = ["METRICS", "TRACES", "LOGS"].map(is_wanted);
        if wanted == [false; 3] {
            return Ok(Self::default());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let [metrics, traces, logs] = wanted;
        let about = || "OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS and the like)";
        let metrics = metrics.then(|| MetricExporter::builder().build()).transpose().with_context(about)?;
        let spans = traces.then(|| SpanExporter::builder().build()).transpose().with_context(about)?;
        let logs = logs.then(|| LogExporter::builder().build()).transpose().with_context(about)?;
        drop(inside);
        let traces = spans.map(|exporter| Traces::new(exporter, resource())).transpose()?;
        let logs = logs.map(|exporter| {
            SdkLoggerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build()
        });
        Ok(Self { metrics, traces, logs, connections: Connections(Some(runtime)) })
    }

    /// The spans, where they are pushed.
    pub fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref()
    }

    /// The logs, where they are pushed.
    pub fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }
}

/// What says whose telemetry it is.
pub fn resource() -> Resource {
    let mut builder =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("KILLICK_VERSION")));
    let is_named = set("OTEL_SERVICE_NAME").is_some()
        || set("OTEL_RESOURCE_ATTRIBUTES")
            .is_some_and(|all| all.split(',').any(|one| one.trim().starts_with("service.name=")));
    if !is_named {
        builder = builder.with_service_name("killick");
    }
    builder.build()
}

/// A variable that is there and not empty: an empty one counts as none.
pub fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether a signal is to be pushed.
fn is_wanted(signal: &str) -> bool {
    decides(signal, &|name| set(name))
}

fn decides(signal: &str, set: &dyn Fn(&str) -> Option<String>) -> bool {
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return false;
    }
    match set(&format!("OTEL_{signal}_EXPORTER")) {
        Some(exporters) => exporters.split(',').any(|exporter| exporter.trim() == "otlp"),
        None => {
            set("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
                || set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")).is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pushed_unless_the_environment_asks_for_it() {
        let decides = |variables: &[(&str, &str)], signal| {
            let set = |name: &str| {
                variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
            };
            decides(signal, &set)
        };
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!decides(&[], "TRACES"));
        assert!(decides(&[all], "TRACES") && decides(&[all], "LOGS"));
        assert!(decides(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://collector:4318")], "LOGS"));
        assert!(!decides(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://collector:4318")], "TRACES"));
        assert!(decides(&[("OTEL_METRICS_EXPORTER", "otlp")], "METRICS"));
        assert!(!decides(&[all, ("OTEL_METRICS_EXPORTER", "none")], "METRICS"));
        assert!(!decides(&[all, ("OTEL_SDK_DISABLED", "True")], "METRICS"));
    }
}
