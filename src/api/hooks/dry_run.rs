//! Dry runs: what a version would do to given items, or to items that wait in a topic. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::Response;
use serde::Deserialize;

use super::super::ApiState;
use super::super::body::{Incoming, parse};
use super::super::caller::Caller;
use super::super::problem::{Code, Problem};
use super::super::reply::json;
use super::views::{DryRunItemView, DryRunView};
use super::{HookPath, Owner, unknown_hook, unknown_version};
use crate::clock::Timestamp;
use crate::hooks::rehearse::{Rehearsal, TestItem, rehearse_item};
use crate::hooks::{HookContext, HookItem, Version};
use crate::model::{ItemId, ItemState, Side, TopicKey, TopicName};

/// Most items in one dry run.
const ITEMS_MAX: usize = 100;
/// Past this many bytes of changes the rest is not run, so that the answer stays small; neither is what the
/// namespace has no processor time for.
const CHANGED_BYTES_MAX: usize = 8 << 20;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DryRunBody {
    items: Option<Vec<TestItem>>,
    last: Option<usize>,
    topic: Option<TopicName>,
    state: Option<ItemState>,
    side: Option<Side>,
    principal: Box<str>,
    scopes: Vec<Box<str>>,
    now: Option<Timestamp>,
}

/// `POST …/versions/{version}/dry-run`.
pub(super) async fn run(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    number: u32,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let body: DryRunBody = parse(&incoming.json(state.limits.batch()).await?)?;
    let (version, exports) = known(state, &owner, number)?;
    let side = side(body.side, &exports)?;
    let _place = state.hooks.rehearsal(owner.namespace())?;
    let now = body.now.unwrap_or_else(|| state.clock.now());
    let topic = match &body.topic {
        Some(topic) => topic.clone(),
        None if body.last.is_some() => {
            return Err(Problem::field(
                Code::InvalidField,
                "topic",
                "is needed beside last",
            ));
        }
        None => super::super::caller::topic_name("test")?,
    };
    let topic = owner.authorised.topic(topic);
    let items = items(state, &topic, &body, side, now).await?;
    let context = Arc::new(HookContext {
        topic: topic.clone(),
        now,
        principal: (*body.principal).into(),
        scopes: body.scopes.iter().cloned().collect(),
    });
    let runs = rehearse(state, &version, side, &context, &items).await;
    let mut verdicts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for run in &runs {
        *verdicts.entry(run.outcome.verdict.as_str()).or_default() += 1;
    }
    json(&DryRunView {
        version: version.hook.to_string(),
        side,
        topic: topic.topic().clone(),
        verdicts,
        not_run: items.len() - runs.len(),
        items: items
            .iter()
            .zip(&runs)
            .map(|(item, run)| DryRunItemView::new(item, run, body.last.is_some()))
            .collect(),
    })
}

fn known(state: &ApiState, owner: &Owner, number: u32) -> Result<(Arc<Version>, Vec<Side>), Problem> {
    let registry = &state.hooks.registry;
    let (namespace, hook) = (owner.namespace(), &owner.hook);
    let found = registry
        .version(namespace, hook, number)
        .zip(registry.version_view(namespace, hook, number));
    match found {
        Some((version, view)) => Ok((version, view.exports)),
        None if registry.hook(namespace, hook).is_some() => Err(unknown_version(number)),
        None => Err(unknown_hook()),
    }
}

/// The side that is asked for, or the only one there is.
fn side(asked: Option<Side>, exports: &[Side]) -> Result<Side, Problem> {
    match (asked, exports) {
        (Some(side), exports) if exports.contains(&side) => Ok(side),
        (Some(side), _) => {
            let detail = format!("the version does not export {side}");
            Err(Problem::field(Code::InvalidField, "side", detail))
        }
        (None, [side]) => Ok(*side),
        (None, _) => {
            let detail = "the version exports both sides: say enqueue or dequeue";
            Err(Problem::field(Code::InvalidField, "side", detail))
        }
    }
}

async fn items(
    state: &ApiState,
    topic: &TopicKey,
    body: &DryRunBody,
    side: Side,
    now: Timestamp,
) -> Result<Vec<HookItem>, Problem> {
    let bounded = |field: &str, count: usize| match count {
        1..=ITEMS_MAX => Ok(count),
        _ => {
            let detail = format!("must be between 1 and {ITEMS_MAX}");
            Err(Problem::field(Code::InvalidField, field, detail))
        }
    };
    match (&body.items, body.last) {
        (Some(given), None) => {
            bounded("items", given.len())?;
            let read = |(at, item): (usize, &TestItem)| {
                item.hook_item(side, now, ItemId(at as u64 + 1)).map_err(|text| {
                    let (field, detail) = text.split_once(": ").unwrap_or(("payload", &text));
                    Problem::field(Code::InvalidField, format!("items[{at}].{field}"), detail)
                })
            };
            given.iter().enumerate().map(read).collect()
        }
        (None, Some(last)) => {
            let limit = bounded("last", last)?;
            let of = body.state.unwrap_or(ItemState::Ready);
            let newest = state.queue.newest(topic, of, limit).await?;
            let hook_item = |view: crate::queue::ItemView| HookItem {
                item: view.item,
                attempt: match side {
                    Side::Enqueue => 0,
                    Side::Dequeue => view.attempt.saturating_add(1),
                },
                hops: 0,
            };
            Ok(newest.into_iter().map(hook_item).collect())
        }
        _ => Err(Problem::new(
            Code::MalformedBody,
            "give either items, or last with topic and state",
        )),
    }
}

async fn rehearse(
    state: &ApiState,
    version: &Arc<Version>,
    side: Side,
    context: &Arc<HookContext>,
    items: &[HookItem],
) -> Vec<Rehearsal> {
    let rehearser = &*state.hooks.rehearser;
    let mut runs = Vec::with_capacity(items.len());
    let mut changed_bytes = 0;
    for item in items {
        if changed_bytes > CHANGED_BYTES_MAX || rehearser.may_rehearse(&version.namespace).is_err() {
            break;
        }
        let run = rehearse_item(rehearser, version, side, context.clone(), item.clone()).await;
        let payloads = run.outcome.edits.iter().filter_map(|edit| edit.payload.as_ref());
        changed_bytes += payloads.map(|payload| payload.len()).sum::<usize>();
        runs.push(run);
    }
    runs
}
