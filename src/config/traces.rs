//! Section `[tracing]`.

use super::reader::Reader;

/// Where the spans of requests and hook calls go.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingConfig {
    /// The base URL of a collector that speaks OTLP over HTTP; none records no spans.
    pub otlp_endpoint: Option<String>,
    /// The share of traces that are recorded when the caller has not decided it.
    pub sample_ratio: f64,
}

impl TracingConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let otlp_endpoint = reader.text("tracing.otlp_endpoint");
        let is_url = |endpoint: &String| endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if otlp_endpoint.as_ref().is_some_and(|endpoint| !is_url(endpoint)) {
            reader.problem(
                "tracing.otlp_endpoint",
                "must be the http:// or https:// URL of an OTLP collector, such as http://127.0.0.1:4318",
            );
        }
        Self {
            otlp_endpoint,
            sample_ratio: reader.number("tracing.sample_ratio", 0.0..=1.0),
        }
    }
}
