//! Bindings: which version of a hook is in force for which topics.

use poem::Response;
use poem::http::StatusCode;
use serde::Deserialize;

use super::super::ApiState;
use super::super::body::{Incoming, parse};
use super::super::caller::Caller;
use super::super::problem::{Code, Problem};
use super::super::reply::json;
use super::super::views::CountView;
use super::conditions::{Conditions, tagged};
use super::views::{BindingListView, BindingView};
use super::{HookPath, name};
use crate::hooks::registry::{Activation, BindingDraft, Expected};
use crate::model::{
    Author, Binding, Canary, HookName, Namespace, Policies, SHADOW_PERCENT, Side, TopicPattern,
};
use crate::tenant::{Authorised, Scope};

/// Where a binding stands that names no place: others fit before and behind it.
const POSITION_DEFAULT: u16 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingBody {
    topic: TopicPattern,
    side: Side,
    hook: HookName,
    version: u32,
    #[serde(default = "default_position")]
    position: u16,
    #[serde(default)]
    canary: Option<Canary>,
    #[serde(default)]
    shadow: Option<u32>,
    #[serde(default)]
    shadow_percent: Option<u8>,
    #[serde(default)]
    policies: Policies,
    #[serde(default)]
    auto_rollback: bool,
    #[serde(default = "enabled")]
    enabled: bool,
}

const fn default_position() -> u16 {
    POSITION_DEFAULT
}

const fn enabled() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationBody {
    version: u32,
    #[serde(default)]
    canary_percent: Option<u8>,
    #[serde(default)]
    force: bool,
}

/// What changes a binding without a body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// The version on trial gets everything.
    Promote,
    /// Back to the version before.
    Rollback,
}

/// The right to look after a namespace's bindings, which one, and as what it is there.
struct Place {
    authorised: Authorised,
    author: Author,
    id: HookName,
    current: Option<Binding>,
}

impl Place {
    fn of(state: &ApiState, caller: &Caller, (namespace, id): HookPath<'_>) -> Result<Self, Problem> {
        let authorised = caller.enter(state, namespace, Scope::Hooks)?;
        let id = name("binding", id)?;
        let current = state.hooks.registry.binding(authorised.namespace(), &id);
        Ok(Self {
            author: caller.author(&authorised),
            authorised,
            id,
            current,
        })
    }

    fn expected(&self, conditions: &Conditions) -> Result<Expected, Problem> {
        conditions.expected(self.current.as_ref().map(|binding| binding.revision))
    }

    /// As [`Place::expected`], for what can only be done to a binding that is there.
    fn expected_there(&self, conditions: &Conditions) -> Result<Expected, Problem> {
        if self.current.is_none() {
            return Err(unknown());
        }
        match self.expected(conditions)? {
            Expected::Absent => Err(Problem::new(
                Code::PreconditionRequired,
                "send If-Match with the binding's ETag",
            )),
            expected => Ok(expected),
        }
    }
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownBinding, "the namespace has no binding of that name")
}

fn show(state: &ApiState, namespace: &Namespace, binding: &Binding) -> Result<Response, Problem> {
    let response = json(&BindingView::new(binding, namespace, &state.hooks.registry))?;
    Ok(tagged(response, binding.revision))
}

/// `GET …/bindings`.
pub(super) fn list(state: &ApiState, caller: &Caller, namespace: &str) -> Result<Response, Problem> {
    let authorised = caller.enter(state, namespace, Scope::Hooks)?;
    let (registry, namespace) = (&state.hooks.registry, authorised.namespace());
    let bindings = registry.bindings(namespace);
    let view = |binding| BindingView::new(binding, namespace, registry);
    json(&BindingListView {
        bindings: bindings.iter().map(view).collect(),
    })
}

/// `GET …/bindings/{binding}`.
pub(super) fn get(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let place = Place::of(state, caller, path)?;
    let namespace = place.authorised.namespace();
    show(state, namespace, &place.current.ok_or_else(unknown)?)
}

/// `PUT …/bindings/{binding}`: 201 for a new one.
pub(super) async fn put(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    conditions: Conditions,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let place = Place::of(state, caller, path)?;
    let body: BindingBody = parse(&incoming.json(state.limits.small()).await?)?;
    let expected = place.expected(&conditions)?;
    let draft = BindingDraft {
        id: place.id.clone(),
        topic: body.topic,
        side: body.side,
        position: body.position,
        hook: body.hook,
        version: body.version,
        canary: body.canary,
        shadow: body.shadow,
        shadow_percent: body.shadow_percent.unwrap_or(SHADOW_PERCENT),
        policies: body.policies,
        auto_rollback: body.auto_rollback,
        enabled: body.enabled,
    };
    let (namespace, author) = (place.authorised.namespace(), &place.author);
    let _gate = state.hooks.gates.take(namespace, "activations")?;
    let binding = state
        .hooks
        .registry
        .put_binding(namespace, draft, expected, author)
        .await?;
    let mut response = show(state, namespace, &binding)?;
    if place.current.is_none() {
        response.set_status(StatusCode::CREATED);
    }
    Ok(response)
}

/// `DELETE …/bindings/{binding}`.
pub(super) async fn delete(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let place = Place::of(state, caller, path)?;
    let expected = place.expected_there(&conditions)?;
    let (namespace, author) = (place.authorised.namespace(), &place.author);
    state
        .hooks
        .registry
        .delete_binding(namespace, &place.id, expected, author)
        .await?;
    json(&CountView { count: 1 })
}

/// `POST …/bindings/{binding}/activate`.
pub(super) async fn activate(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    conditions: Conditions,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let place = Place::of(state, caller, path)?;
    let body: ActivationBody = parse(&incoming.json(state.limits.small()).await?)?;
    if body.force {
        caller.principal(state)?.require(Scope::Admin)?;
    }
    if body
        .canary_percent
        .is_some_and(|percent| !(1..=99).contains(&percent))
    {
        let detail = "must be between 1 and 99; leave it out to put the version in force for all items";
        return Err(Problem::field(Code::InvalidField, "canary_percent", detail));
    }
    let expected = place.expected_there(&conditions)?;
    let activation = Activation {
        version: body.version,
        canary_percent: body.canary_percent,
        force: body.force,
    };
    let (namespace, author) = (place.authorised.namespace(), &place.author);
    let _gate = state.hooks.gates.take(namespace, "activations")?;
    let binding = state
        .hooks
        .registry
        .activate(namespace, &place.id, expected, activation, author)
        .await?;
    show(state, namespace, &binding)
}

/// `POST …/bindings/{binding}/promote` and `…/rollback`.
pub(super) async fn step(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    conditions: Conditions,
    step: Step,
) -> Result<Response, Problem> {
    let place = Place::of(state, caller, path)?;
    let expected = place.expected_there(&conditions)?;
    let (namespace, author) = (place.authorised.namespace(), &place.author);
    let registry = &state.hooks.registry;
    let binding = match step {
        Step::Promote => registry.promote(namespace, &place.id, expected, author).await?,
        Step::Rollback => registry.rollback(namespace, &place.id, expected, author).await?,
    };
    show(state, namespace, &binding)
}
