//! How the node's parts are.

use super::core::{Core, Queue};
use super::request::{Health, PartHealth};
use crate::wal::{WalHealth, WalStatus};

impl Queue {
    /// How the node's parts are; it is ready while it accepts items.
    pub fn health(&self) -> Health {
        let core = &self.core;
        let (log_ok, log) = match core.wal.status().health {
            WalHealth::Healthy => (true, "accepting records".to_owned()),
            WalHealth::Full => (
                false,
                "no room: enqueues are refused until space is freed".to_owned(),
            ),
            WalHealth::Failed(error) => (false, format!("failed: {error}; restart the node")),
        };
        let (bytes, max) = (core.hot.bytes(), core.limits.hot_bytes_max);
        let mut parts = vec![
            PartHealth {
                part: "log".into(),
                ok: log_ok,
                detail: log,
            },
            PartHealth {
                part: "memory".into(),
                ok: bytes < max,
                detail: format!("{bytes} of {max} bytes hold items"),
            },
        ];
        if let Some((ok, detail)) = core.hot.condition() {
            parts.push(PartHealth {
                part: "redis".into(),
                ok,
                detail,
            });
        }
        for number in 0..core.shards.len() as u16 {
            parts.push(core.shard_health(number));
        }
        let leaving = self.is_leaving();
        let detail = if leaving { "shutting down" } else { "running" };
        parts.push(PartHealth {
            part: "node".into(),
            ok: !leaving,
            detail: detail.into(),
        });
        // A shard that fails or memory that is full for a moment does not stop acceptance by itself.
        Health {
            ready: log_ok && !leaving,
            parts,
        }
    }

    /// How the log is.
    pub fn wal_status(&self) -> WalStatus {
        self.core.wal.status()
    }
}

impl Core {
    fn shard_health(&self, number: u16) -> PartHealth {
        let place = usize::from(number);
        let condition = self.shards[place].condition();
        let failure = self.flush[place].failure();
        let detail = match (condition.is_open(), condition.failure.clone().or(failure.clone())) {
            (true, why) => format!(
                "left alone, asked once a second whether it is back: {}",
                why.as_deref().unwrap_or("it does not answer")
            ),
            (false, Some(why)) => why,
            (false, None) => "storing".to_owned(),
        };
        PartHealth {
            part: format!("shard-{number}"),
            ok: !condition.is_open() && failure.is_none(),
            detail,
        }
    }
}
