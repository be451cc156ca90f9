//! Topics and the items in them: looking, setting, pausing, purging, redriving.

use poem::Response;
use serde::Deserialize;

use super::ApiState;
use super::body::{Incoming, Object, parse, parse_or_default};
use super::caller::{Caller, topic_name};
use super::problem::{Code, Problem};
use super::reply::json;
use super::views::{
    CountView, ExplainView, ItemDetailView, ItemListView, RedriveView, StatsView, TopicDetailView,
    TopicListView, item_cursor, read_item_cursor, read_topic_cursor, topic_cursor,
};
use crate::clock::Timestamp;
use crate::model::{DeadReason, ItemId, ItemState, SettingsPatch, TopicKey, TopicName, limits};
use crate::queue::Redrive;
use crate::tenant::Scope;

/// Entries of a list when the request names no number.
const LIMIT_DEFAULT: usize = 50;
/// Most entries of a list.
const LIMIT_MAX: usize = 1_000;

/// A namespace's and a topic's name, as they stand in the path.
pub(crate) type Names<'a> = (&'a str, &'a str);

/// A page of a list: how many entries from where.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    /// The most entries.
    pub(crate) limit: Option<u32>,
    /// Where an earlier page ended.
    pub(crate) cursor: Option<String>,
}

impl Paging {
    fn limit(&self) -> Result<usize, Problem> {
        match self.limit.map_or(LIMIT_DEFAULT, |limit| limit as usize) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => {
                let detail = format!("must be between 1 and {LIMIT_MAX}");
                Err(Problem::field(Code::InvalidQuery, "limit", detail))
            }
        }
    }
}

/// Refuses settings that are out of range, naming the field.
///
/// # Errors
/// 422 with the field and its limits.
pub(crate) fn check_settings(settings: &SettingsPatch) -> Result<(), Problem> {
    match settings.problem() {
        None => Ok(()),
        Some(text) => {
            let (field, detail) = text.split_once(": ").unwrap_or(("settings", &text));
            Err(Problem::field(Code::InvalidField, field, detail))
        }
    }
}

/// `GET …/topics`.
pub(crate) fn list(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    page: &Paging,
) -> Result<Response, Problem> {
    let authorised = caller.look(state, namespace)?;
    let after = page.cursor.as_deref().map(read_topic_cursor).transpose()?;
    let found = state
        .queue
        .topics(authorised.namespace(), after.as_ref(), page.limit()?);
    json(&TopicListView {
        next_cursor: found.next.as_ref().map(topic_cursor),
        topics: found.entries.into_iter().map(Into::into).collect(),
    })
}

/// `GET …/topics/{topic}`.
pub(crate) fn get(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    json(&TopicDetailView::new(
        topic.topic().clone(),
        state.queue.topic(&topic)?,
    ))
}

/// `PUT …/topics/{topic}`.
pub(crate) async fn put(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    let settings: SettingsPatch = parse(&incoming.json(state.limits.small()).await?)?;
    check_settings(&settings)?;
    let view = state.queue.put_topic(&topic, settings).await?;
    json(&TopicDetailView::new(topic.topic().clone(), view))
}

/// `DELETE …/topics/{topic}`.
pub(crate) async fn delete(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    let count = state.queue.delete_topic(&topic).await?;
    json(&CountView { count })
}

/// `GET …/topics/{topic}/stats`.
pub(crate) fn stats(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    json(&StatsView::from(&state.queue.stats(&topic)?))
}

/// `POST …/topics/{topic}/pause` and `…/resume`.
pub(crate) async fn pause(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    paused: bool,
) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    state.queue.pause(&topic, paused).await?;
    json(&TopicDetailView::new(
        topic.topic().clone(),
        state.queue.topic(&topic)?,
    ))
}

/// `POST …/topics/{topic}/purge`.
pub(crate) async fn purge(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    let count = state.queue.purge(&topic).await?;
    json(&CountView { count })
}

/// `GET …/topics/{topic}/items`.
pub(crate) async fn browse(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    item_state: Option<String>,
    page: &Paging,
) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    let item_state = match item_state.as_deref().unwrap_or("ready") {
        "ready" => ItemState::Ready,
        "scheduled" => ItemState::Scheduled,
        "leased" => ItemState::Leased,
        "dead" => ItemState::Dead,
        _ => {
            let detail = "must be ready, scheduled, leased or dead";
            return Err(Problem::field(Code::InvalidQuery, "state", detail));
        }
    };
    show(state, &topic, item_state, page).await
}

/// `GET …/topics/{topic}/dead`.
pub(crate) async fn dead(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    page: &Paging,
) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    show(state, &topic, ItemState::Dead, page).await
}

async fn show(
    state: &ApiState,
    topic: &TopicKey,
    item_state: ItemState,
    page: &Paging,
) -> Result<Response, Problem> {
    let from = page.cursor.as_deref().map(read_item_cursor).transpose()?;
    let found = state.queue.browse(topic, item_state, from, page.limit()?).await?;
    json(&ItemListView {
        items: found.entries.iter().map(Into::into).collect(),
        next_cursor: found.next.map(item_cursor),
    })
}

fn item_id(text: &str) -> Result<ItemId, Problem> {
    text.parse()
        .map_err(|e: crate::model::IdParseError| Problem::field(Code::InvalidName, "id", e.to_string()))
}

/// `GET …/items/{id}`.
pub(crate) async fn item(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    id: &str,
) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    let view = state.queue.item(&topic, item_id(id)?).await?;
    json(&ItemDetailView::from(&view))
}

/// `GET …/items/{id}/explain`.
pub(crate) async fn explain(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    id: &str,
) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    let view = state.queue.item(&topic, item_id(id)?).await?;
    let paused = state.queue.topic(&topic)?.paused;
    json(&ExplainView::new(&view, paused, &state.queue.shard_of(&topic)))
}

/// `DELETE …/items/{id}`.
pub(crate) async fn cancel(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    id: &str,
) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    state.queue.cancel(&topic, item_id(id)?).await?;
    json(&CountView { count: 1 })
}

/// `DELETE …/topics/{topic}/dead`.
pub(crate) async fn discard_dead(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
) -> Result<Response, Problem> {
    let (_, topic) = caller.topic(state, names, Scope::Admin)?;
    let count = state.queue.discard_dead(&topic).await?;
    json(&CountView { count })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RedriveBody {
    filter: Object<RedriveFilter>,
    to_topic: Option<String>,
    rate_per_s: Option<u32>,
    limit: Option<u64>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RedriveFilter {
    ids: Option<Vec<ItemId>>,
    reason: Option<DeadReason>,
    error_contains: Option<String>,
    died_after: Option<Timestamp>,
    died_before: Option<Timestamp>,
}

/// `POST …/topics/{topic}/dead/redrive`.
pub(crate) async fn redrive(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let body: RedriveBody = parse_or_default(&incoming.json(state.limits.small()).await?)?;
    let dry_run = body.dry_run;
    let to_topic: Option<TopicName> = body.to_topic.as_deref().map(topic_name).transpose()?;
    let redrive = redrive_of(body, to_topic.map(|name| authorised.topic(name)))?;
    let redriven = state.queue.redrive(&topic, redrive).await?;
    json(&RedriveView {
        count: redriven.count,
        dry_run,
        sample: redriven.sample.iter().map(Into::into).collect(),
    })
}

fn redrive_of(body: RedriveBody, to_topic: Option<TopicKey>) -> Result<Redrive, Problem> {
    let invalid = |field: &str, detail: String| Err(Problem::field(Code::InvalidField, field, detail));
    if body.rate_per_s == Some(0) {
        return invalid("rate_per_s", "must be at least 1".to_owned());
    }
    if body.limit == Some(0) {
        return invalid("limit", "must be at least 1".to_owned());
    }
    let filter = body.filter.0;
    if filter
        .ids
        .as_ref()
        .is_some_and(|ids| ids.is_empty() || ids.len() > limits::BATCH_ITEMS_MAX)
    {
        let detail = format!("must hold 1 to {} ids", limits::BATCH_ITEMS_MAX);
        return invalid("filter.ids", detail);
    }
    Ok(Redrive {
        ids: filter.ids,
        reason: filter.reason,
        error_contains: filter.error_contains,
        died_after: filter.died_after,
        died_before: filter.died_before,
        limit: body.limit,
        to_topic,
        rate_per_s: body.rate_per_s,
        dry_run: body.dry_run,
    })
}
