//! Topics and the items in them: looking, setting, pausing, purging, redriving.

use poem::Response;
use serde::Deserialize;
use serde_json::json;

use super::ApiState;
use super::audit::note;
use super::body::{Incoming, parse, parse_or_default};
use super::caller::{Caller, requester, topic_name};
use super::hooks::conditions::{Conditions, failed, tagged};
use super::hooks::{hook_version, rehearse_dead};
use super::problem::{Code, Problem};
use super::reply::json;
use super::views::{
    CountView, ExplainView, HistoryView, ItemDetailView, ItemListView, RedriveView, StatsView,
    TopicDetailView, TopicListView, item_cursor, read_item_cursor, read_topic_cursor, topic_cursor,
};
use crate::hooks::registry::Expected;
use crate::model::{ItemFilter, ItemId, ItemState, SettingsPatch, TopicKey, TopicName};
use crate::queue::{Expectation, Redrive, TopicView};
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
    /// The most entries, the default where none is named.
    ///
    /// # Errors
    /// 400 when it is out of range.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
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
pub(crate) fn check_settings(problem: Option<String>) -> Result<(), Problem> {
    match problem {
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
    detail(&topic, state.queue.topic(&topic)?)
}

/// `PUT …/topics/{topic}`.
pub(crate) async fn put(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    conditions: &Conditions,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let settings: SettingsPatch = parse(&incoming.json(state.limits.small()).await?)?;
    check_settings(settings.problem())?;
    let seen = state
        .queue
        .topic(&topic)
        .ok()
        .map(|view| view.settings.revision());
    let expected = expectation(conditions, seen)?;
    let (before, view) = state.queue.put_topic_if(&topic, settings, expected).await?;
    let change = (before.map(|before| json!(before)), Some(json!(view.settings)));
    note(state, (caller, &authorised), "topic.put", topic.topic(), change).await;
    detail(&topic, view)
}

/// `DELETE …/topics/{topic}`.
pub(crate) async fn delete(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    confirm: Option<&str>,
    if_match: Option<String>,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let before = state.queue.topic(&topic)?;
    let what = "deleting a topic drops every item in it, leased ones and dead letters too, and its settings";
    confirmed(confirm, topic.topic().as_str(), what)?;
    let conditions = Conditions {
        if_match,
        if_none_match: None,
    };
    let revision = before.settings.revision();
    if let Expectation::Revision(expected) = expectation(&conditions, Some(revision))?
        && expected != revision
    {
        return Err(failed(Some(revision)));
    }
    let count = state.queue.delete_topic(&topic).await?;
    let change = (
        Some(json!(before.settings)),
        Some(json!({"items_dropped": count})),
    );
    note(
        state,
        (caller, &authorised),
        "topic.delete",
        topic.topic(),
        change,
    )
    .await;
    json(&CountView { count })
}

/// A topic's page, with the entity tag of its settings.
fn detail(topic: &TopicKey, view: TopicView) -> Result<Response, Problem> {
    let revision = view.settings.revision();
    let response = json(&TopicDetailView::new(topic.topic().clone(), view))?;
    Ok(tagged(response, revision))
}

/// What the headers of a change expect to find; whatever there is when they say nothing.
///
/// # Errors
/// As [`Conditions::expected`], but for a request without conditions.
pub(crate) fn expectation(conditions: &Conditions, current: Option<u64>) -> Result<Expectation, Problem> {
    if conditions.if_match.is_none() && conditions.if_none_match.is_none() {
        return Ok(Expectation::Whatever);
    }
    Ok(match conditions.expected(current)? {
        Expected::Absent => Expectation::Absent,
        Expected::Anything => Expectation::Present,
        Expected::Revision(revision) => Expectation::Revision(revision),
    })
}

/// `GET …/topics/{topic}/stats`.
pub(crate) fn stats(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    json(&StatsView::from(&state.queue.stats(&topic)?))
}

/// `GET …/topics/{topic}/history`.
pub(crate) fn history(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let topic = caller.look_at(state, names.0, names.1)?;
    json(&HistoryView::from(state.queue.history(&topic)?))
}

/// `POST …/topics/{topic}/pause` and `…/resume`.
pub(crate) async fn pause(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    paused: bool,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let before = state.queue.topic(&topic)?.paused;
    state.queue.pause(&topic, paused).await?;
    let action = if paused { "topic.pause" } else { "topic.resume" };
    let change = (Some(json!({"paused": before})), Some(json!({"paused": paused})));
    note(state, (caller, &authorised), action, topic.topic(), change).await;
    detail(&topic, state.queue.topic(&topic)?)
}

/// `POST …/topics/{topic}/purge`.
pub(crate) async fn purge(state: &ApiState, caller: &Caller, names: Names<'_>) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let count = state.queue.purge(&topic).await?;
    let change = (None, Some(json!({"items_dropped": count})));
    note(state, (caller, &authorised), "topic.purge", topic.topic(), change).await;
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
    let explained = state.queue.explain(&topic, item_id(id)?).await?;
    json(&ExplainView::from(&explained))
}

/// `DELETE …/items/{id}`.
pub(crate) async fn cancel(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
    id: &str,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let id = item_id(id)?;
    state.queue.cancel(&topic, id).await?;
    let change = (Some(json!({"item": id})), None);
    note(state, (caller, &authorised), "item.cancel", topic.topic(), change).await;
    json(&CountView { count: 1 })
}

/// `DELETE …/topics/{topic}/dead`.
pub(crate) async fn discard_dead(
    state: &ApiState,
    caller: &Caller,
    names: Names<'_>,
) -> Result<Response, Problem> {
    let (authorised, topic) = caller.topic(state, names, Scope::Admin)?;
    let count = state.queue.discard_dead(&topic).await?;
    let change = (None, Some(json!({"items_dropped": count})));
    note(
        state,
        (caller, &authorised),
        "dead.discard",
        topic.topic(),
        change,
    )
    .await;
    json(&CountView { count })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RedriveBody {
    filter: ItemFilter,
    to_topic: Option<String>,
    rate_per_s: Option<u32>,
    limit: Option<u64>,
    hook: Option<String>,
    dry_run: bool,
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
    check_sweep(&body.filter, body.limit, body.rate_per_s)?;
    let to_topic: Option<TopicName> = body.to_topic.as_deref().map(topic_name).transpose()?;
    let hook = match &body.hook {
        Some(hook) => Some(hook_version(state, authorised.namespace(), hook)?),
        None => None,
    };
    let redrive = Redrive {
        filter: body.filter.as_of(state.clock.now()),
        limit: body.limit,
        to_topic: to_topic.map(|name| authorised.topic(name)),
        rate_per_s: body.rate_per_s,
        hook: hook.clone(),
        by: Some(requester(&authorised)),
        dry_run: body.dry_run,
    };
    let home = redrive.to_topic.clone().unwrap_or_else(|| topic.clone());
    let redriven = state.queue.redrive(&topic, redrive).await?;
    if !body.dry_run {
        let mut after = json!({
            "count": redriven.count, "kept": redriven.kept, "to_topic": body.to_topic, "hook": body.hook,
        });
        if let Some(error) = &redriven.failed {
            after["error"] = json!(error.to_string());
        }
        note(
            state,
            (caller, &authorised),
            "dead.redrive",
            topic.topic(),
            (None, Some(after)),
        )
        .await;
    }
    if let Some(error) = redriven.failed {
        return Err(error.into());
    }
    let rehearsals = match hook.filter(|_| body.dry_run) {
        Some(hook) => rehearse_dead(state, &authorised, &home, &hook, &redriven.sample).await?,
        None => Vec::new(),
    };
    json(&RedriveView {
        count: redriven.count,
        kept: redriven.kept,
        dry_run: body.dry_run,
        more: redriven.more,
        sample: redriven.sample.iter().map(Into::into).collect(),
        rehearsals,
    })
}

/// Refuses what no sweep through items can keep to, naming the field.
///
/// # Errors
/// 422 with the field and what to change.
pub(crate) fn check_sweep(
    filter: &ItemFilter,
    limit: Option<u64>,
    rate_per_s: Option<u32>,
) -> Result<(), Problem> {
    let invalid = |field: &str, detail: &str| Err(Problem::field(Code::InvalidField, field, detail));
    if rate_per_s == Some(0) {
        return invalid("rate_per_s", "must be at least 1");
    }
    if limit == Some(0) {
        return invalid("limit", "must be at least 1");
    }
    match filter.problem() {
        Some(problem) => {
            let (field, detail) = problem.split_once(": ").unwrap_or(("filter", &problem));
            invalid(field, detail)
        }
        None => Ok(()),
    }
}

/// Refuses to delete what its caller has not named.
///
/// # Errors
/// 400 when `given` is not `name`.
pub(crate) fn confirmed(given: Option<&str>, name: &str, what: &str) -> Result<(), Problem> {
    if given == Some(name) {
        return Ok(());
    }
    let detail = format!("{what}; send confirm={name} if that is what you want");
    Err(Problem::new(Code::ConfirmationRequired, detail))
}
