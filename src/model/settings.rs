//! Per-topic behaviour: a topic's own settings, else its namespace's, else the configuration's.

use serde::{Deserialize, Serialize};

use super::limits;

/// How a topic behaves, every field decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Priority of items that name none.
    pub priority: i32,
    /// Lease of items that name none, in milliseconds.
    pub lease_ms: u32,
    /// Deliveries after which an item is dead.
    pub max_attempts: u32,
    /// How long a nacked item waits.
    pub backoff: Backoff,
    /// Time to live of items that name none, in milliseconds; none keeps them for ever.
    pub ttl_ms: Option<i64>,
    /// What becomes of an item whose time to live passed.
    pub on_expiry: ExpiryAction,
    /// How long an idempotency key is remembered, in milliseconds.
    pub dedup_window_ms: i64,
    /// Whether a delivery must be acked.
    pub delivery: Delivery,
    /// How long dead letters are kept, in milliseconds; none keeps them for ever.
    pub dead_retention_ms: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            priority: 100,
            lease_ms: 30_000,
            max_attempts: 10,
            backoff: Backoff::default(),
            ttl_ms: None,
            on_expiry: ExpiryAction::Drop,
            dedup_window_ms: 600_000,
            delivery: Delivery::AtLeastOnce,
            dead_retention_ms: Some(14 * 86_400_000),
        }
    }
}

/// Exponential backoff: `initial_ms * factor^(attempt - 1)`, at most `cap_ms`, spread by `jitter`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Delay after the first failure, in milliseconds.
    pub initial_ms: u32,
    /// What each further failure multiplies the delay by, at least 1.
    pub factor: f64,
    /// Longest delay, in milliseconds.
    pub cap_ms: u32,
    /// Share of the delay it is spread by in both directions, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_ms: 1_000,
            factor: 2.0,
            cap_ms: 600_000,
            jitter: 0.2,
        }
    }
}

impl Backoff {
    /// The delay after failure number `attempt` (1 is the first), in milliseconds; `random` is uniform
    /// in 0 to 1.
    pub fn delay_ms(&self, attempt: u32, random: f64) -> i64 {
        let power = self.factor.powi(attempt.saturating_sub(1).min(64) as i32);
        let delay = (f64::from(self.initial_ms) * power).min(f64::from(self.cap_ms));
        (delay * (1.0 + self.jitter * (2.0 * random - 1.0))) as i64
    }
}

/// Whether a delivery must be acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Redelivered until acked.
    AtLeastOnce,
    /// The delivery is the ack.
    AtMostOnce,
}

/// What becomes of an item whose time to live passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAction {
    /// It is dropped and counted.
    Drop,
    /// It becomes a dead letter.
    Dead,
}

/// Settings of which any may be left to the next level: namespace, then configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettingsPatch {
    /// See [`Settings::priority`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// See [`Settings::lease_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u32>,
    /// See [`Settings::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// See [`Settings::backoff`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// See [`Settings::ttl_ms`]; 0 keeps items for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<i64>,
    /// See [`Settings::on_expiry`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_expiry: Option<ExpiryAction>,
    /// See [`Settings::dedup_window_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_window_ms: Option<i64>,
    /// See [`Settings::delivery`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// See [`Settings::dead_retention_ms`]; 0 keeps dead letters for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_retention_ms: Option<i64>,
}

/// What a namespace decides for itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSettings {
    /// What its topics have unless they say otherwise.
    #[serde(flatten)]
    pub topics: SettingsPatch,
    /// Whether a topic appears with its first item; true when absent. Where it is false, topics are made by
    /// putting their settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics_on_first_use: Option<bool>,
    /// Most topics; the configuration's limit when absent or above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics_max: Option<u32>,
}

impl NamespaceSettings {
    /// What is out of range, as [`SettingsPatch::problem`] says it.
    pub fn problem(&self) -> Option<String> {
        self.topics.problem()
    }

    /// Whether topics appear with their first item.
    pub fn makes_topics(&self) -> bool {
        self.topics_on_first_use.unwrap_or(true)
    }

    /// A number that stands for these settings: others have another one.
    pub fn revision(&self) -> u64 {
        revision(self)
    }

    /// These settings as JSON text.
    pub fn text(&self) -> String {
        text(self)
    }
}

fn text(settings: &impl Serialize) -> String {
    // Settings always can be written.
    serde_json::to_string(settings).unwrap_or_default()
}

/// The first 63 bits of a hash of what `settings` are as JSON.
fn revision(settings: &impl Serialize) -> u64 {
    let hash = blake3::hash(text(settings).as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first) >> 1
}

impl SettingsPatch {
    /// As [`NamespaceSettings::revision`].
    pub fn revision(&self) -> u64 {
        revision(self)
    }

    /// As [`NamespaceSettings::text`].
    pub fn text(&self) -> String {
        text(self)
    }

    /// `base` with this patch's own fields over it.
    pub fn over(&self, base: &Settings) -> Settings {
        let forever = |own: Option<i64>, base: Option<i64>| match own {
            Some(0) => None,
            Some(ms) => Some(ms),
            None => base,
        };
        Settings {
            priority: self.priority.unwrap_or(base.priority),
            lease_ms: self.lease_ms.unwrap_or(base.lease_ms),
            max_attempts: self.max_attempts.unwrap_or(base.max_attempts),
            backoff: self.backoff.unwrap_or(base.backoff),
            ttl_ms: forever(self.ttl_ms, base.ttl_ms),
            on_expiry: self.on_expiry.unwrap_or(base.on_expiry),
            dedup_window_ms: self.dedup_window_ms.unwrap_or(base.dedup_window_ms),
            delivery: self.delivery.unwrap_or(base.delivery),
            dead_retention_ms: forever(self.dead_retention_ms, base.dead_retention_ms),
        }
    }

    /// What is out of range, as `field: what to change`; nothing when the patch is sound.
    pub fn problem(&self) -> Option<String> {
        let range = |name: &str, value: Option<i64>, min: i64, max: i64| match value {
            Some(v) if v < min || v > max => Some(format!("{name}: must be between {min} and {max}")),
            _ => None,
        };
        let lease = self.lease_ms.map(i64::from);
        let attempts = self.max_attempts.map(i64::from);
        range(
            "lease_ms",
            lease,
            limits::LEASE_MS_MIN.into(),
            limits::LEASE_MS_MAX.into(),
        )
        .or_else(|| range("max_attempts", attempts, 1, limits::ATTEMPTS_MAX.into()))
        .or_else(|| range("ttl_ms", self.ttl_ms, 0, limits::DURATION_MS_MAX))
        .or_else(|| range("dedup_window_ms", self.dedup_window_ms, 0, 7 * 86_400_000))
        .or_else(|| {
            range(
                "dead_retention_ms",
                self.dead_retention_ms,
                0,
                limits::DURATION_MS_MAX,
            )
        })
        .or_else(|| self.backoff.and_then(|backoff| backoff.problem()))
    }
}

impl Backoff {
    fn problem(&self) -> Option<String> {
        if !(1.0..=100.0).contains(&self.factor) {
            return Some("backoff.factor: must be between 1 and 100".into());
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Some("backoff.jitter: must be between 0 and 1".into());
        }
        (self.initial_ms > self.cap_ms).then(|| "backoff.initial_ms: must not be above backoff.cap_ms".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_is_capped_and_is_spread() {
        let backoff = Backoff::default();
        let delays: Vec<_> = [1, 2, 3, 20, u32::MAX]
            .map(|attempt| backoff.delay_ms(attempt, 0.5))
            .into();
        assert_eq!(delays, [1_000, 2_000, 4_000, 600_000, 600_000]);
        assert_eq!((backoff.delay_ms(1, 0.0), backoff.delay_ms(1, 1.0)), (800, 1_200));
    }

    #[test]
    fn a_namespace_takes_its_topics_settings_beside_its_own() {
        let text = r#"{"ttl_ms":5,"topics_on_first_use":false,"topics_max":3}"#;
        let settings: NamespaceSettings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.topics.ttl_ms, settings.topics_max), (Some(5), Some(3)));
        assert!(!settings.makes_topics());
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
        for bad in [
            r#"{"tll_ms":5}"#,
            r#"{"ttl_ms":5,"ttl_ms":6}"#,
            r#"{"topics":{}}"#,
        ] {
            assert!(serde_json::from_str::<NamespaceSettings>(bad).is_err(), "{bad}");
        }
        let other = NamespaceSettings {
            topics_max: Some(4),
            ..settings.clone()
        };
        assert_ne!(settings.revision(), other.revision());
        assert_eq!(settings.revision(), settings.clone().revision());
    }

    #[test]
    fn zero_lifts_an_inherited_limit() {
        let base = Settings {
            ttl_ms: Some(5),
            ..Settings::default()
        };
        assert_eq!(SettingsPatch::default().over(&base).ttl_ms, Some(5));
        assert_eq!(
            SettingsPatch {
                ttl_ms: Some(0),
                ..Default::default()
            }
            .over(&base)
            .ttl_ms,
            None
        );
    }
}
