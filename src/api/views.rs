//! What the slower routes show, as serde writes it. [`super::dto`] documents the same shapes.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::model::{Death, ItemId, ItemState, OrderKey, PayloadKind, Settings, SettingsPatch, TopicName};
use crate::queue::{HISTORY_EVERY_MS, ItemView, Moment, TopicStats, TopicSummary, TopicView};

use super::hooks::DryRunItemView;
use super::problem::{Code, Problem};

mod admin;

pub(crate) use admin::*;

/// A topic's numbers, flat, so that scalers can read each by its name.
#[derive(Serialize)]
pub(crate) struct StatsView {
    ready: u64,
    scheduled: u64,
    leased: u64,
    dead: u64,
    oldest_ready_age_ms: i64,
    enqueued_total: u64,
    delivered_total: u64,
    acked_total: u64,
    failed_total: u64,
    dead_total: u64,
    expired_total: u64,
    enqueued_per_s: f64,
    delivered_per_s: f64,
    acked_per_s: f64,
}

impl From<&TopicStats> for StatsView {
    fn from(stats: &TopicStats) -> Self {
        Self {
            ready: stats.ready,
            scheduled: stats.scheduled,
            leased: stats.leased,
            dead: stats.dead,
            oldest_ready_age_ms: stats.oldest_ready_age_ms,
            enqueued_total: stats.totals.enqueued,
            delivered_total: stats.totals.delivered,
            acked_total: stats.totals.acked,
            failed_total: stats.totals.failed,
            dead_total: stats.totals.dead,
            expired_total: stats.totals.expired,
            enqueued_per_s: stats.rates.enqueued_per_s,
            delivered_per_s: stats.rates.delivered_per_s,
            acked_per_s: stats.rates.acked_per_s,
        }
    }
}

/// A topic's last hour.
#[derive(Serialize)]
pub(crate) struct HistoryView {
    every_ms: i64,
    moments: Vec<MomentView>,
}

/// Ten seconds of it.
#[derive(Serialize)]
struct MomentView {
    at: Timestamp,
    enqueued: u32,
    delivered: u32,
    acked: u32,
    ready: u32,
    scheduled: u32,
    leased: u32,
    dead: u32,
}

impl From<Vec<Moment>> for HistoryView {
    fn from(moments: Vec<Moment>) -> Self {
        let view = |Moment { at, numbers }: Moment| MomentView {
            at,
            enqueued: numbers.enqueued,
            delivered: numbers.delivered,
            acked: numbers.acked,
            ready: numbers.ready,
            scheduled: numbers.scheduled,
            leased: numbers.leased,
            dead: numbers.dead,
        };
        Self {
            every_ms: HISTORY_EVERY_MS,
            moments: moments.into_iter().map(view).collect(),
        }
    }
}

/// One topic in a list.
#[derive(Serialize)]
pub(crate) struct TopicSummaryView {
    topic: TopicName,
    paused: bool,
    stats: StatsView,
}

impl From<TopicSummary> for TopicSummaryView {
    fn from(summary: TopicSummary) -> Self {
        Self {
            topic: summary.topic,
            paused: summary.paused,
            stats: StatsView::from(&summary.stats),
        }
    }
}

/// One page of topics.
#[derive(Serialize)]
pub(crate) struct TopicListView {
    pub(crate) topics: Vec<TopicSummaryView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// A topic with its settings.
#[derive(Serialize)]
pub(crate) struct TopicDetailView {
    topic: TopicName,
    paused: bool,
    settings: SettingsPatch,
    effective: Settings,
    stats: StatsView,
}

impl TopicDetailView {
    /// The topic named `topic`.
    pub(crate) fn new(topic: TopicName, view: TopicView) -> Self {
        Self {
            topic,
            paused: view.paused,
            settings: view.settings,
            effective: view.effective,
            stats: StatsView::from(&view.stats),
        }
    }
}

/// One item in full.
#[derive(Serialize)]
pub(crate) struct ItemDetailView<'a> {
    id: ItemId,
    state: ItemState,
    priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<HeadersView<'a>>,
    attempt: u32,
    max_attempts: u32,
    lease_ms: u32,
    enqueued_at: Timestamp,
    deliver_after: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<Death>,
}

struct HeadersView<'a>(&'a [(Box<str>, Box<str>)]);

impl Serialize for HeadersView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'a> From<&'a ItemView> for ItemDetailView<'a> {
    fn from(view: &'a ItemView) -> Self {
        let item = &*view.item;
        let extra = item.extra.as_deref();
        let unicode = std::str::from_utf8(&item.payload).ok();
        let text = unicode.filter(|_| item.kind == PayloadKind::Text);
        let json = unicode.filter(|_| item.kind == PayloadKind::Json);
        let json: Option<&RawValue> = json.and_then(|json| serde_json::from_str(json).ok());
        let bytes = || base64_simd::STANDARD.encode_to_string(&*item.payload);
        let headers = extra
            .map(|extra| &*extra.headers)
            .filter(|headers| !headers.is_empty());
        Self {
            id: item.id,
            state: view.state,
            priority: item.priority,
            payload: (text.is_none() && json.is_none()).then(bytes),
            json,
            text,
            content_type: extra.and_then(|extra| extra.content_type.as_deref()),
            headers: headers.map(HeadersView),
            attempt: view.attempt,
            max_attempts: item.max_attempts,
            lease_ms: item.lease_ms,
            enqueued_at: item.enqueued_at,
            deliver_after: view.due,
            expires_at: item.expires_at,
            lease_expires_at: view.lease_expires_at,
            last_error: view.last_error.as_deref(),
            idempotency_key: extra.and_then(|extra| extra.idempotency_key.as_deref()),
            hook_version: extra.and_then(|extra| extra.hook_version.as_deref()),
            dead: view.dead,
        }
    }
}

/// One page of items.
#[derive(Serialize)]
pub(crate) struct ItemListView<'a> {
    pub(crate) items: Vec<ItemDetailView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// How many items an operation touched.
#[derive(Serialize)]
pub(crate) struct CountView {
    pub(crate) count: u64,
}

/// What a redrive did, or would do.
#[derive(Serialize)]
pub(crate) struct RedriveView<'a> {
    pub(crate) count: u64,
    pub(crate) kept: u64,
    pub(crate) dry_run: bool,
    pub(crate) more: bool,
    pub(crate) sample: Vec<ItemDetailView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rehearsals: Vec<DryRunItemView>,
}

const CURSOR_VERSION: u8 = 1;

/// A place in a list of items, as opaque text.
pub(crate) fn item_cursor(key: OrderKey) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&key.band.to_be_bytes());
    bytes.extend_from_slice(&key.rank.to_be_bytes());
    bytes.extend_from_slice(&key.id.0.to_be_bytes());
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

fn bad_cursor() -> Problem {
    Problem::field(
        Code::InvalidQuery,
        "cursor",
        "is not a cursor that this route gave",
    )
}

/// The place that `cursor` names.
///
/// # Errors
/// 400 for a text that is no cursor.
pub(crate) fn read_item_cursor(cursor: &str) -> Result<OrderKey, Problem> {
    let read = || {
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(cursor).ok()?;
        let (&version, rest) = bytes.split_first()?;
        let (band, rest) = rest.split_first_chunk::<8>()?;
        let (rank, rest) = rest.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<8>()?;
        (version == CURSOR_VERSION && rest.is_empty()).then(|| OrderKey {
            band: i64::from_be_bytes(*band),
            rank: i64::from_be_bytes(*rank),
            id: ItemId(u64::from_be_bytes(*id)),
        })
    };
    read().ok_or_else(bad_cursor)
}

/// A place in a list of topics, as opaque text.
pub(crate) fn topic_cursor(topic: &TopicName) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(topic.as_str())
}

/// The topic that `cursor` names.
///
/// # Errors
/// 400 for a text that is no cursor.
pub(crate) fn read_topic_cursor(cursor: &str) -> Result<TopicName, Problem> {
    let read = || {
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(cursor).ok()?;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    };
    read().ok_or_else(bad_cursor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::write_items::tests::delivery;
    use super::*;

    fn view(state: ItemState) -> ItemView {
        ItemView {
            item: delivery(PayloadKind::Json, b"{\"a\":1}").item,
            state,
            due: Timestamp::from_ms(5),
            attempt: 1,
            lease_expires_at: None,
            last_error: None,
            dead: None,
        }
    }

    #[test]
    fn an_item_is_shown_with_its_payload_under_its_own_name() {
        let shown = serde_json::to_value(ItemDetailView::from(&view(ItemState::Ready))).unwrap();
        assert_eq!(shown["json"], json!({"a": 1}));
        assert_eq!(shown["id"], json!("9007199254740993"));
        assert_eq!(shown["deliver_after"], json!("1970-01-01T00:00:00.005Z"));
        assert_eq!(shown["headers"], json!({"a\"b": "c"}));
        assert!(shown.get("payload").is_none() && shown.get("dead").is_none());
    }

    #[test]
    fn cursors_survive_their_text_and_nonsense_is_refused() {
        let key = OrderKey {
            band: -5,
            rank: i64::MAX,
            id: ItemId(7),
        };
        assert_eq!(read_item_cursor(&item_cursor(key)).unwrap(), key);
        let topic: TopicName = "orders.v2".parse().unwrap();
        assert_eq!(read_topic_cursor(&topic_cursor(&topic)).unwrap(), topic);
        for bad in ["", "AA", "!!", &item_cursor(key)[1..]] {
            assert_eq!(
                read_item_cursor(bad).unwrap_err().code(),
                Code::InvalidQuery,
                "{bad}"
            );
        }
        assert!(read_topic_cursor("Li4").is_err(), "'..' is no topic");
    }
}
