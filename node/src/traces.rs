//! Traces, sent to a collector by OTLP over gRPC.
//!
//! What is sent are the spans of [`TARGET`]. They wait in a queue of [`QUEUE`], which a thread of its
//! own empties: a collector that is slow, or away, costs traces and nothing else.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData,
        SpanExporter,
    },
};
use tokio::sync::oneshot;
use tracing::{Level, info, level_filters::LevelFilter, warn};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, Registry, filter, reload};
use weir_coord::traces::TARGET;

use crate::config::{NodeConfig, OtlpSettings};

/// Spans that wait; beyond it the newest are lost.
const QUEUE: usize = 1_024;
/// Spans of one message.
const BATCH: usize = 256;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take to answer; after that the batch is lost.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a daemon that stops waits for what is queued.
const FAREWELL: Duration = Duration::from_millis(500);

type Slot = Option<OpenTelemetryLayer<Registry, SdkTracer>>;

/// Where the layer goes once there is something to send to: logs begin before the node file is read.
static SLOT: OnceLock<reload::Handle<Slot, Registry>> = OnceLock::new();

/// A layer that does nothing until [`Exporter::start`].
pub(crate) fn layer() -> impl Layer<Registry> {
    let (layer, handle) = reload::Layer::new(Slot::None);
    // Only the first subscriber of a process exports.
    let _ = SLOT.set(handle);
    let is_traced = |metadata: &tracing::Metadata<'_>| {
        metadata.is_span() && metadata.target() == TARGET && *metadata.level() <= Level::INFO
    };
    layer.with_filter(filter::filter_fn(is_traced).with_max_level_hint(LevelFilter::INFO))
}

/// Sends traces until it is stopped.
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Begins to send. To be called in the event loop, when threads may be made. Nothing is connected
    /// to before there is something to send.
    pub(crate) fn start(config: &NodeConfig, settings: &OtlpSettings) -> anyhow::Result<Self> {
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(&settings.endpoint)
            .with_timeout(ANSWER)
            .build()
            .with_context(|| format!("[otlp] endpoint {}", settings.endpoint))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY);
        let reported = Reported::new(exporter, settings.endpoint.clone());
        let processor = BatchSpanProcessor::builder(reported)
            .with_batch_config(batches.build())
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource(config))
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("weir"))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        let slot = SLOT.get().context("traces without logs")?;
        slot.reload(Some(layer)).context("traces")?;
        info!(endpoint = settings.endpoint, "traces are sent");
        Ok(Self(provider))
    }

    /// Sends what is queued, for as long as a farewell may take. The event loop turns meanwhile,
    /// which is what sends it.
    pub(crate) async fn stop(self) {
        let (done, is_done) = oneshot::channel();
        // Not one of the event loop's: those are waited for when it ends.
        thread::spawn(move || {
            let _ = self.0.shutdown_with_timeout(FAREWELL);
            let _ = done.send(());
        });
        let _ = tokio::time::timeout(FAREWELL, is_done).await;
    }
}

/// Who sends, by OpenTelemetry's names.
fn resource(config: &NodeConfig) -> Resource {
    Resource::builder()
        .with_service_name("weir-node")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.node.id.to_string()),
            KeyValue::new("host.name", config.node.name.clone()),
            KeyValue::new("weir.fleet.name", config.fleet.clone()),
        ])
        .build()
}

/// Says in the log when a collector goes away, and when it is back.
#[derive(Debug)]
struct Reported {
    exporter: OtlpExporter,
    endpoint: String,
    is_away: AtomicBool,
}

impl Reported {
    const fn new(exporter: OtlpExporter, endpoint: String) -> Self {
        Self {
            exporter,
            endpoint,
            is_away: AtomicBool::new(false),
        }
    }
}

impl SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let lost = batch.len();
        let outcome = self.exporter.export(batch).await;
        let was_away = self.is_away.swap(outcome.is_err(), Ordering::Relaxed);
        let endpoint = &self.endpoint;
        match &outcome {
            Err(error) if !was_away => {
                warn!(endpoint, lost, %error, "traces are lost: nobody collects them");
            }
            Ok(()) if was_away => info!(endpoint, "traces are collected again"),
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
