//! The log of changes: who changed what, and noting it.

use poem::Response;
use serde_json::Value;

use super::ApiState;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::reply::json;
use super::views::{AuditEntryView, AuditView};
use crate::clock::Timestamp;
use crate::queue::{Act, AuditQuery};
use crate::tenant::{Authorised, Denied, Principal, Scope};

/// Entries when the request names no number.
const LIMIT_DEFAULT: usize = 50;
/// Most entries in one answer.
const LIMIT_MAX: usize = 500;

/// Which changes, as they stand after the question mark.
#[derive(Debug, Default)]
pub(crate) struct AuditFilter {
    /// Those after this one, in the order asked for.
    pub(crate) after: Option<u64>,
    /// The most of them.
    pub(crate) limit: Option<u32>,
    /// `oldest` or `newest` first.
    pub(crate) order: Option<String>,
    /// By whom.
    pub(crate) actor: Option<String>,
    /// What was done; a text that ends with a dot is a beginning.
    pub(crate) action: Option<String>,
    /// To what.
    pub(crate) target: Option<String>,
    /// From this instant on.
    pub(crate) since: Option<String>,
    /// Before this instant.
    pub(crate) until: Option<String>,
}

/// Notes in the log of changes what `who` did to `target` in its namespace: what it was before and what it is
/// now, as far as there is something to tell.
pub(crate) async fn note(
    state: &ApiState,
    (caller, authorised): (&Caller, &Authorised),
    action: &'static str,
    target: &impl ToString,
    (before, after): (Option<Value>, Option<Value>),
) {
    let act = Act {
        namespace: Some(authorised.namespace().clone()),
        by: caller.author(authorised),
        action,
        target: target.to_string(),
        before: before.map(|value| value.to_string()),
        after: after.map(|value| value.to_string()),
    };
    state.queue.note(act).await;
}

/// As [`note`], of what `operator` did to the whole of it and not to one namespace.
pub(crate) async fn note_of_all(
    state: &ApiState,
    (caller, operator): (&Caller, &Principal),
    action: &'static str,
    target: String,
    after: Option<Value>,
) {
    let act = Act {
        namespace: None,
        by: caller.author_of(&operator.subject),
        action,
        target,
        before: None,
        after: after.map(|value| value.to_string()),
    };
    state.queue.note(act).await;
}

/// `GET …/audit`: for those who look after hooks, and for administrators.
pub(crate) async fn of_namespace(
    state: &ApiState,
    caller: &Caller,
    namespace: &str,
    filter: AuditFilter,
) -> Result<Response, Problem> {
    let authorised = match caller.enter(state, namespace, Scope::Admin) {
        Err(problem) if problem.code() == Code::InsufficientScope => {
            let either = |_| Problem::from(Denied::Scope("admin or hooks"));
            caller.enter(state, namespace, Scope::Hooks).map_err(either)?
        }
        entered => entered?,
    };
    let mut query = query(filter)?;
    query.namespace = Some(authorised.namespace().clone());
    show(state, &query).await
}

/// `GET /v1/audit`: for administrators of everything.
pub(crate) async fn of_all(
    state: &ApiState,
    caller: &Caller,
    filter: AuditFilter,
) -> Result<Response, Problem> {
    let principal = caller.principal(state)?;
    if !principal.opens_everything() {
        return Err(Denied::Everything.into());
    }
    principal.require(Scope::Admin)?;
    show(state, &query(filter)?).await
}

async fn show(state: &ApiState, query: &AuditQuery) -> Result<Response, Problem> {
    let entries = state.queue.changes(query).await?;
    json(&AuditView {
        next_after: entries
            .last()
            .filter(|_| entries.len() == query.limit)
            .map(|entry| entry.id),
        entries: entries.iter().map(AuditEntryView::from).collect(),
    })
}

fn query(filter: AuditFilter) -> Result<AuditQuery, Problem> {
    let limit = match filter.limit.map_or(LIMIT_DEFAULT, |limit| limit as usize) {
        limit @ 1..=LIMIT_MAX => limit,
        _ => return Err(invalid("limit", format!("must be between 1 and {LIMIT_MAX}"))),
    };
    let newest_first = match filter.order.as_deref() {
        None | Some("oldest") => false,
        Some("newest") => true,
        Some(_) => return Err(invalid("order", "must be oldest or newest".to_owned())),
    };
    let instant = |name: &str, text: Option<String>| {
        let parse = |text: String| Timestamp::parse(&text).map_err(|error| invalid(name, error.to_string()));
        text.map(parse).transpose()
    };
    Ok(AuditQuery {
        namespace: None,
        after: filter.after,
        newest_first,
        actor: filter.actor,
        action: filter.action,
        target: filter.target,
        since: instant("since", filter.since)?,
        until: instant("until", filter.until)?,
        limit,
    })
}

fn invalid(name: &str, detail: String) -> Problem {
    Problem::field(Code::InvalidQuery, name, detail)
}
