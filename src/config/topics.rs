//! Section `[topics]`.

use std::time::Duration;

use super::reader::Reader;
use crate::model::{Backoff, Delivery, ExpiryAction, Settings, limits};

/// What topics are like that have no settings of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicsConfig {
    /// The settings of such a topic.
    pub defaults: Settings,
    /// Topics a namespace may have.
    pub per_namespace_max: usize,
}

impl TopicsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let longest = Duration::from_millis(limits::DURATION_MS_MAX as u64);
        let kept = Duration::from_secs(1)..=longest;
        let wait = Duration::ZERO..=Duration::from_secs(30 * 86_400);
        let lease = Duration::from_millis(limits::LEASE_MS_MIN.into())
            ..=Duration::from_millis(limits::LEASE_MS_MAX.into());
        let week = Duration::ZERO..=Duration::from_secs(7 * 86_400);
        let defaults = Settings {
            priority: reader.integer("topics.priority", i32::MIN..=i32::MAX),
            lease_ms: reader.duration("topics.lease", lease).as_millis() as u32,
            max_attempts: reader.integer("topics.max_attempts", 1..=limits::ATTEMPTS_MAX),
            backoff: Backoff {
                initial_ms: reader
                    .duration("topics.backoff_initial", wait.clone())
                    .as_millis() as u32,
                factor: reader.number("topics.backoff_factor", 1.0..=100.0),
                cap_ms: reader.duration("topics.backoff_cap", wait).as_millis() as u32,
                jitter: reader.number("topics.backoff_jitter", 0.0..=1.0),
            },
            ttl_ms: reader.optional_duration("topics.ttl", kept.clone()).map(ms),
            on_expiry: reader.value("topics.on_expiry", ExpiryAction::Drop, |value| {
                match value.as_str().map(str::trim) {
                    Some("drop") => Ok(ExpiryAction::Drop),
                    Some("dead") => Ok(ExpiryAction::Dead),
                    _ => Err("must be drop or dead".to_owned()),
                }
            }),
            dedup_window_ms: ms(reader.duration("topics.dedup_window", week)),
            delivery: reader.value("topics.delivery", Delivery::AtLeastOnce, |value| {
                match value.as_str().map(str::trim) {
                    Some("at_least_once") => Ok(Delivery::AtLeastOnce),
                    Some("at_most_once") => Ok(Delivery::AtMostOnce),
                    _ => Err("must be at_least_once or at_most_once".to_owned()),
                }
            }),
            dead_retention_ms: reader.optional_duration("topics.dead_retention", kept).map(ms),
        };
        if defaults.backoff.initial_ms > defaults.backoff.cap_ms {
            reader.problem("topics.backoff_initial", "must not be above topics.backoff_cap");
        }
        Self {
            defaults,
            per_namespace_max: reader.integer("topics.per_namespace_max", 1..=1_000_000),
        }
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(limits::DURATION_MS_MAX)
}

#[cfg(test)]
mod tests {
    use crate::config::{Inputs, load};
    use crate::model::Settings;

    #[test]
    fn the_file_and_the_model_agree_on_the_defaults() {
        let config = load(&Inputs::default()).unwrap();
        assert_eq!(config.live.topics.defaults, Settings::default());
    }
}
