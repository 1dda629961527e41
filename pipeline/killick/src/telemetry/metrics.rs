//! The metrics: their names, and what is asked for at each scrape.

use std::fmt;

use anyhow::Result;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::process;

/// The metrics of this process.
pub struct Metrics {
    registry: Registry,
    _provider: SdkMeterProvider,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// The metrics, without any figure yet.
    ///
    /// # Errors
    /// They cannot be registered.
    pub fn new() -> Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("killick");
        let info = [KeyValue::new("version", env!("KILLICK_VERSION"))];
        meter
            .u64_observable_gauge("killick.build.info")
            .with_description("1, with the version of the program")
            .with_callback(move |gauge| gauge.observe(1, &info))
            .build();
        meter
            .f64_observable_counter("process.cpu")
            .with_unit("s")
            .with_description("CPU time of the process")
            .with_callback(|counter| counter.observe(process::cpu_time().as_secs_f64(), &[]))
            .build();
        meter
            .u64_observable_gauge("process.resident_memory")
            .with_unit("By")
            .with_description("Memory of the process that is in RAM")
            .with_callback(|gauge| {
                if let Some(bytes) = process::resident_memory() {
                    gauge.observe(bytes, &[]);
                }
            })
            .build();
        Ok(Self { registry, _provider: provider })
    }

    /// All of them as text.
    ///
    /// # Errors
    /// A figure cannot be written.
    pub fn text(&self) -> Result<String> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Registry::new(), _provider: SdkMeterProvider::default() }
    }
}
