//! What administrators are shown: namespaces, operations, the log of changes, and why an item waits.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::quota::QuotaView;
use crate::clock::Timestamp;
use crate::model::{
    ItemId, ItemState, Namespace, NamespaceSettings, OperationState, Outcome, Progress, Settings, Work, some,
};
use crate::queue::{AuditRecord, Circuit, Explanation, NamespaceView, OperationRow, QuotaState, WhyNot};

/// A namespace with its settings.
#[derive(Serialize)]
pub(crate) struct NamespaceDetailView {
    namespace: String,
    settings: NamespaceSettings,
    effective: Settings,
    topics: usize,
    topics_max: usize,
    quota: QuotaView,
}

impl NamespaceDetailView {
    /// The namespace named `namespace`.
    pub(crate) fn new(namespace: &Namespace, view: NamespaceView, quota: QuotaState) -> Self {
        Self {
            namespace: namespace.to_string(),
            settings: view.settings,
            effective: view.effective,
            topics: view.topics,
            topics_max: view.topics_max,
            quota: quota.into(),
        }
    }
}

/// One page of namespaces.
#[derive(Serialize)]
pub(crate) struct NamespaceListView {
    pub(crate) namespaces: Vec<NamespaceDetailView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// An operation.
#[derive(Serialize)]
pub(crate) struct OperationView<'a> {
    id: String,
    state: OperationState,
    work: &'a Work,
    dry_run: bool,
    created_by: &'a str,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(flatten)]
    progress: Progress,
    cancelling: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome>,
}

impl<'a> From<&'a OperationRow> for OperationView<'a> {
    fn from(row: &'a OperationRow) -> Self {
        Self {
            id: row.id.to_string(),
            state: row.state,
            work: &row.order.work,
            dry_run: row.order.dry_run,
            created_by: &row.order.created_by,
            created_at: row.order.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            progress: row.progress,
            cancelling: row.cancelling && !row.state.is_end(),
            error: row.error.as_deref(),
            outcome: row.outcome.as_ref(),
        }
    }
}

/// One page of operations.
#[derive(Serialize)]
pub(crate) struct OperationListView<'a> {
    pub(crate) operations: Vec<OperationView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// A part of the log of changes.
#[derive(Serialize)]
pub(crate) struct AuditView<'a> {
    pub(crate) entries: Vec<AuditEntryView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_after: Option<u64>,
}

/// A change somebody made.
#[derive(Serialize)]
pub(crate) struct AuditEntryView<'a> {
    id: u64,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a Namespace>,
    actor: &'a str,
    action: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
}

impl<'a> From<&'a AuditRecord> for AuditEntryView<'a> {
    fn from(record: &'a AuditRecord) -> Self {
        // The server wrote it as JSON.
        let raw = |text: &'a Option<String>| serde_json::from_str(text.as_deref()?).ok();
        Self {
            id: record.id,
            at: record.at,
            namespace: record.namespace.as_ref(),
            actor: &record.actor,
            action: &record.action,
            target: &record.target,
            before: raw(&record.before),
            after: raw(&record.after),
            request_id: record.request_id.as_deref(),
            peer: record.peer.as_deref(),
        }
    }
}

/// Why an item is or is not delivered.
#[derive(Serialize)]
pub(crate) struct ExplainView {
    id: ItemId,
    state: ItemState,
    deliverable: bool,
    attempt: u32,
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_or_more: Option<bool>,
    reasons: Vec<ReasonView>,
    shard: u16,
    shard_state: Circuit,
}

/// One reason.
#[derive(Serialize)]
struct ReasonView {
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
}

impl ReasonView {
    fn new(code: &'static str, detail: String) -> Self {
        Self {
            code,
            detail,
            until: None,
            consumer: None,
            hook: None,
        }
    }

    fn until(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }
}

impl From<&WhyNot> for ReasonView {
    fn from(why: &WhyNot) -> Self {
        match why {
            WhyNot::Paused => Self::new("paused", "the topic is paused; resume it".to_owned()),
            WhyNot::Scheduled { until } => {
                Self::new("scheduled", format!("it is not due before {until}")).until(Some(*until))
            }
            WhyNot::BackingOff { attempt, until } => {
                let detail =
                    format!("it was given back after delivery {attempt} and is tried again at {until}");
                Self::new("backing_off", detail).until(Some(*until))
            }
            WhyNot::Deferred { by, until } => {
                let detail = format!("the hook {by} sent it back when it was about to be handed out");
                Self {
                    hook: Some(by.to_string()),
                    ..Self::new("hook_deferred", detail).until(Some(*until))
                }
            }
            WhyNot::Leased { by, until } => {
                let who = match by {
                    Some(by) => format!("the consumer {by}"),
                    None => "a consumer".to_owned(),
                };
                let detail = match until {
                    Some(until) => format!("{who} holds it until {until}, unless it settles it earlier"),
                    None => format!("{who} holds it"),
                };
                Self {
                    consumer: by.as_deref().map(str::to_owned),
                    ..Self::new("leased", detail).until(*until)
                }
            }
            WhyNot::Dead(death) => {
                let reason = serde_json::to_string(&death.reason).unwrap_or_default();
                let reason = reason.trim_matches('"');
                let detail = format!("it is a dead letter since {} ({reason}); redrive it", death.at);
                Self::new("dead", detail)
            }
            WhyNot::OutOfLeases => {
                let detail = "the namespace has as many items with consumers as its quota allows; ack some";
                Self::new("out_of_leases", detail.to_owned())
            }
            WhyNot::ShardAway => {
                let detail = "its shard does not answer: what is in memory goes out, what is stored waits until \
                              it is back";
                Self::new("shard_away", detail.to_owned())
            }
            WhyNot::Expired { at } => {
                let detail = format!("its time to live passed at {at}; it goes with the next look at it");
                Self::new("expired", detail)
            }
        }
    }
}

impl From<&Explanation> for ExplainView {
    fn from(explained: &Explanation) -> Self {
        let item = &explained.item;
        let mut reasons: Vec<_> = explained.reasons.iter().map(ReasonView::from).collect();
        if let Some(ahead) = explained.ahead {
            let count = match (ahead.count, ahead.or_more) {
                (0, _) => "no item of the topic goes before it".to_owned(),
                (1, false) => "one item of the topic goes before it".to_owned(),
                (count, false) => format!("{count} items of the topic go before it"),
                (count, true) => format!("{} or more of the topic go before it", some(count, "item")),
            };
            reasons.push(ReasonView::new("waiting", count));
        }
        Self {
            id: item.item.id,
            state: item.state,
            deliverable: explained.is_deliverable(),
            attempt: item.attempt,
            max_attempts: item.item.max_attempts,
            ahead: explained.ahead.map(|ahead| ahead.count),
            ahead_or_more: explained.ahead.map(|ahead| ahead.or_more),
            reasons,
            shard: explained.shard.shard,
            shard_state: explained.shard.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::write_items::tests::delivery;
    use crate::model::{DeadReason, Death, PayloadKind};
    use crate::queue::{Ahead, ItemView, ShardView};

    fn explained(state: ItemState, reasons: Vec<WhyNot>, ahead: Option<Ahead>) -> serde_json::Value {
        let item = ItemView {
            item: delivery(PayloadKind::Json, b"1").item,
            state,
            due: Timestamp::from_ms(5),
            attempt: 1,
            lease_expires_at: None,
            last_error: None,
            dead: None,
        };
        let explanation = Explanation {
            item,
            reasons,
            ahead,
            shard: shard(),
        };
        serde_json::to_value(ExplainView::from(&explanation)).unwrap()
    }

    fn shard() -> ShardView {
        ShardView {
            shard: 0,
            state: Circuit::Closed,
            failure: None,
            openings: 0,
            refused: 0,
            slots: 0,
            topics: 0,
            items: 0,
        }
    }

    #[test]
    fn explanations_name_every_reason() {
        let ahead = Ahead {
            count: 1_000,
            or_more: true,
        };
        let ready = explained(ItemState::Ready, vec![], Some(ahead));
        assert_eq!(
            (&ready["deliverable"], &ready["ahead"]),
            (&true.into(), &1_000.into())
        );
        assert!(
            ready["reasons"][0]["detail"]
                .as_str()
                .unwrap()
                .contains("or more")
        );
        let until = Some(Timestamp::from_ms(5));
        let by: Option<Arc<str>> = Some("worker-7".into());
        let both = vec![WhyNot::Paused, WhyNot::Leased { by, until }];
        let leased = explained(ItemState::Leased, both, None);
        assert_eq!(leased["deliverable"], false);
        assert_eq!(leased["reasons"][1]["consumer"], "worker-7");
        let death = Death {
            reason: DeadReason::AttemptsExhausted,
            at: Timestamp::from_ms(0),
        };
        let dead = explained(ItemState::Dead, vec![WhyNot::Dead(death)], None);
        let detail = dead["reasons"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("(attempts_exhausted)"), "{detail}");
    }
}
