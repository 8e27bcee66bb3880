//! What the server tells of itself, in Prometheus' format.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What is told of the server, for Prometheus.
pub struct Metrics {
    pub registry: Registry,
    pub requests: Family<Asked, Counter>,
    pub seconds: Histogram,
    pub together: Histogram,
    pub images: Counter,
    pub waiting: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Asked {
    pub path: String,
    pub status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("smallvit"),
            requests: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            together: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            images: Counter::default(),
            waiting: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "Requests that were let in, by path and status",
            metrics.requests.clone(),
        );
        registry.register(
            "answer_seconds",
            "From a picture's request to its answer",
            metrics.seconds.clone(),
        );
        registry.register(
            "images_together",
            "Images that went through a model together",
            metrics.together.clone(),
        );
        registry.register(
            "images",
            "Images that models answered",
            metrics.images.clone(),
        );
        registry.register(
            "queue",
            "Requests that wait or are worked on",
            metrics.waiting.clone(),
        );
        metrics
    }
}
