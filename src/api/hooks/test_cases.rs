//! Test cases kept with a hook: every version must pass them before it goes into force.

use poem::Response;
use poem::http::StatusCode;
use serde_json::value::RawValue;

use super::super::ApiState;
use super::super::body::{Incoming, parse};
use super::super::caller::Caller;
use super::super::problem::{Code, Problem};
use super::super::reply::json;
use super::super::views::CountView;
use super::views::{TestListView, TestRunView, TestView, TestsRunView};
use super::{HookPath, Owner, name, unknown_hook, unknown_version};
use crate::hooks::registry::StoredTest;
use crate::hooks::rehearse::{TestCase, run_cases};

/// `GET …/tests`.
pub(super) async fn list(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let tests = state.hooks.registry.tests(owner.namespace(), &owner.hook).await?;
    json(&TestListView {
        tests: tests.iter().map(TestView::from).collect(),
    })
}

fn known(state: &ApiState, caller: &Caller, path: HookPath<'_>) -> Result<Owner, Problem> {
    let owner = Owner::of(state, caller, path)?;
    match state.hooks.registry.hook(owner.namespace(), &owner.hook) {
        Some(_) => Ok(owner),
        None => Err(unknown_hook()),
    }
}

/// `GET …/tests/{test}`.
pub(super) async fn get(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    test: &str,
) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let test = name("test", test)?;
    let tests = state.hooks.registry.tests(owner.namespace(), &owner.hook).await?;
    match tests.iter().find(|stored| stored.name == test) {
        Some(stored) => json(&TestView::from(stored)),
        None => Err(Problem::new(
            Code::UnknownTest,
            "the hook has no test case of that name",
        )),
    }
}

/// `PUT …/tests/{test}`: 201 for a new one.
pub(super) async fn put(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    test: &str,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let test = name("test", test)?;
    let bytes = incoming.json(state.limits.small()).await?;
    let mut case: TestCase = parse(&bytes)?;
    // The path names it: a name in the body would be a second one.
    case.name = test.as_str().into();
    case.check().map_err(|text| {
        let (field, detail) = text.split_once(": ").unwrap_or(("test", &text));
        Problem::field(Code::InvalidField, field, detail)
    })?;
    let case = serde_json::to_string(&case).map_err(|e| Problem::internal(format!("test: {e}")))?;
    let stored = StoredTest { name: test, case };
    let created = state
        .hooks
        .registry
        .put_test(owner.namespace(), &owner.hook, stored.clone(), &owner.author)
        .await?;
    let mut response = json(&TestView::from(&stored))?;
    if created {
        response.set_status(StatusCode::CREATED);
    }
    Ok(response)
}

/// `DELETE …/tests/{test}`.
pub(super) async fn delete(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    test: &str,
) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let test = name("test", test)?;
    state
        .hooks
        .registry
        .delete_test(owner.namespace(), &owner.hook, &test, &owner.author)
        .await?;
    json(&CountView { count: 1 })
}

/// `POST …/versions/{version}/tests`: runs all stored cases without changing anything.
pub(super) async fn run(
    state: &ApiState,
    caller: &Caller,
    path: HookPath<'_>,
    version: u32,
) -> Result<Response, Problem> {
    let owner = known(state, caller, path)?;
    let registry = &state.hooks.registry;
    let version = registry
        .version(owner.namespace(), &owner.hook, version)
        .ok_or_else(|| unknown_version(version))?;
    let _place = state.hooks.rehearsal(owner.namespace())?;
    let stored = registry.tests(owner.namespace(), &owner.hook).await?;
    let read = |stored: &StoredTest| {
        serde_json::from_str(&stored.case)
            .map_err(|e| Problem::internal(format!("stored test {}: {e}", stored.name)))
    };
    let cases: Vec<TestCase> = stored.iter().map(read).collect::<Result<_, _>>()?;
    let results = run_cases(&*state.hooks.rehearser, &version, &cases).await;
    json(&TestsRunView {
        passed: results.iter().filter(|result| result.passed()).count(),
        failed: results.iter().filter(|result| !result.passed()).count(),
        results: results.iter().map(TestRunView::from).collect(),
    })
}

/// JSON text that this server wrote, as it is.
pub(super) fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}
