//! Operations: work that goes on after the request that ordered it.

use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::ApiState;
use super::body::{Incoming, parse};
use super::caller::{Caller, topic_name};
use super::hooks::hook_version;
use super::problem::{Code, Problem};
use super::reply::json;
use super::topics::{Paging, check_sweep, confirmed};
use super::views::{OperationListView, OperationView};
use crate::model::{ItemFilter, ItemState, OperationState, TopicName, Work};
use crate::queue::OperationRow;
use crate::tenant::{Authorised, Scope};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Purge,
    DiscardDead,
    Cancel,
    Redrive,
    DeleteTopic,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    kind: Kind,
    topic: String,
    #[serde(default)]
    filter: Option<ItemFilter>,
    #[serde(default)]
    states: Option<Vec<ItemState>>,
    #[serde(default)]
    to_topic: Option<String>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    rate_per_s: Option<u32>,
    #[serde(default)]
    hook: Option<String>,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

impl OrderBody {
    /// Refuses members that mean nothing to the kind of work: whoever sends one expects something of it.
    fn check_members(&self) -> Result<(), Problem> {
        let (sweeps, redrives) = match self.kind {
            Kind::Cancel => (true, false),
            Kind::Redrive => (true, true),
            Kind::Purge | Kind::DiscardDead | Kind::DeleteTopic => (false, false),
        };
        let members = [
            ("filter", self.filter.is_some(), sweeps),
            ("limit", self.limit.is_some(), sweeps),
            ("rate_per_s", self.rate_per_s.is_some(), sweeps),
            ("states", self.states.is_some(), self.kind == Kind::Cancel),
            ("to_topic", self.to_topic.is_some(), redrives),
            ("hook", self.hook.is_some(), redrives),
            ("confirm", self.confirm.is_some(), self.kind == Kind::DeleteTopic),
        ];
        match members.into_iter().find(|(_, given, fits)| *given && !fits) {
            Some((name, ..)) => Err(invalid(name, "does not go with this kind of operation")),
            None => Ok(()),
        }
    }

    fn states(&self) -> Result<Vec<ItemState>, Problem> {
        let Some(given) = &self.states else {
            return Ok(vec![ItemState::Ready, ItemState::Scheduled]);
        };
        let known = [ItemState::Ready, ItemState::Scheduled, ItemState::Dead];
        let states: Vec<_> = known.into_iter().filter(|state| given.contains(state)).collect();
        if states.is_empty() || given.contains(&ItemState::Leased) {
            return Err(invalid(
                "states",
                "must name ready, scheduled or dead; what is leased is its consumer's",
            ));
        }
        Ok(states)
    }

    fn work(self, state: &ApiState, authorised: &Authorised) -> Result<Work, Problem> {
        self.check_members()?;
        let topic = topic_name(&self.topic)?;
        let states = self.states()?;
        let filter = self.filter.unwrap_or_default();
        check_sweep(&filter, self.limit, self.rate_per_s)?;
        let filter = filter.as_of(state.clock.now());
        let (limit, rate_per_s) = (self.limit, self.rate_per_s);
        Ok(match self.kind {
            Kind::Purge => Work::Purge { topic },
            Kind::DiscardDead => Work::DiscardDead { topic },
            Kind::Cancel => Work::Cancel {
                topic,
                states,
                filter,
                limit,
                rate_per_s,
            },
            Kind::Redrive => {
                if self.dry_run && self.hook.is_some() {
                    let detail = "what a hook would change is shown by dead/redrive with dry_run, at once";
                    return Err(invalid("dry_run", detail));
                }
                let to_topic: Option<TopicName> = self.to_topic.as_deref().map(topic_name).transpose()?;
                let hook = self
                    .hook
                    .map(|hook| hook_version(state, authorised.namespace(), &hook));
                Work::Redrive {
                    topic,
                    filter,
                    to_topic,
                    limit,
                    rate_per_s,
                    hook: hook.transpose()?,
                }
            }
            Kind::DeleteTopic => {
                if !self.dry_run {
                    let what = "the operation drops the topic with every item in it";
                    confirmed(self.confirm.as_deref(), topic.as_str(), what)?;
                }
                Work::DeleteTopic { topic }
            }
        })
    }
}

fn invalid(field: &str, detail: &str) -> Problem {
    Problem::field(Code::InvalidField, field, detail)
}

/// `POST …/operations`.
pub(crate) async fn order(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Admin)?;
    let body: OrderBody = parse(&incoming.json(state.limits.small()).await?)?;
    let dry_run = body.dry_run;
    let work = body.work(state, &authorised)?;
    ordered(state, caller, &authorised, work, dry_run).await
}

/// Orders `work`, and tells where it is looked at.
pub(crate) async fn ordered(
    state: &ApiState,
    caller: &Caller,
    authorised: &Authorised,
    work: Work,
    dry_run: bool,
) -> Result<Response, Problem> {
    let (namespace, by) = (authorised.namespace(), caller.author(authorised));
    let row = state.queue.order(namespace, work, dry_run, &by).await?;
    let mut response = json(&OperationView::from(&row))?;
    response.set_status(StatusCode::ACCEPTED);
    let path = format!("/v1/namespaces/{namespace}/operations/{}", row.id);
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    Ok(response)
}

/// `GET …/operations`.
pub(crate) async fn list(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    of_state: Option<String>,
    page: &Paging,
) -> Result<Response, Problem> {
    let authorised = caller.look(state, namespace)?;
    let known = |word: String| {
        OperationState::find(&word).ok_or_else(|| {
            let words = OperationState::ALL.map(OperationState::as_str).join(", ");
            Problem::field(Code::InvalidQuery, "state", format!("must be one of {words}"))
        })
    };
    let of_state = of_state.map(known).transpose()?;
    let before = page.cursor.as_deref().map(number).transpose();
    let before = before.map_err(|_| {
        let detail = "is not a cursor that this route gave";
        Problem::field(Code::InvalidQuery, "cursor", detail)
    })?;
    let found = state
        .queue
        .operations(authorised.namespace(), of_state, before, page.limit()?)
        .await?;
    json(&OperationListView {
        operations: found.entries.iter().map(OperationView::from).collect(),
        next_cursor: found.next.map(|id| id.to_string()),
    })
}

/// `GET …/operations/{id}`.
pub(crate) async fn get(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    id: &str,
) -> Result<Response, Problem> {
    let authorised = caller.look(state, namespace)?;
    show(&state.queue.operation(authorised.namespace(), number(id)?).await?)
}

/// `DELETE …/operations/{id}`.
pub(crate) async fn cancel(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    id: &str,
) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Admin)?;
    let (id, by) = (number(id)?, caller.author(&authorised));
    let queue = &state.queue;
    show(&queue.cancel_operation(authorised.namespace(), id, &by).await?)
}

fn show(row: &OperationRow) -> Result<Response, Problem> {
    json(&OperationView::from(row))
}

fn number(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::field(Code::InvalidName, "id", "operations have decimal numbers"))
}
