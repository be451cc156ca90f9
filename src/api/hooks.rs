//! Hooks over HTTP: versions, bindings, tests, dry runs, and what hooks did.

mod bindings;
pub(super) mod conditions;
mod dry_run;
mod dto;
mod logs;
mod observed;
mod places;
mod refused;
mod repair;
pub(super) mod routes;
mod test_cases;
mod upload;
mod versions;
mod views;

use std::sync::Arc;

use places::Places;

pub(super) use dto::DryRunItem;
pub(super) use repair::{hook_version, rehearse_dead};
pub(super) use views::DryRunItemView;

use super::ApiState;
use super::caller::Caller;
use super::problem::{Code, Problem};
use crate::hooks::registry::{Registry, RegistryError};
use crate::hooks::rehearse::Rehearser;
use crate::model::{Author, HookName, Namespace};
use crate::tenant::{Authorised, Scope};

/// Uploads that may be under way at once, in all.
const UPLOADS_MAX: usize = 16;
/// Dry runs that may be under way at once, in all and of one namespace.
const DRY_RUNS_MAX: (usize, usize) = (32, 2);
/// Bindings that may be under way at once, in all and of one namespace: their versions' tests may run.
const GATES_MAX: (usize, usize) = (64, 8);
/// Followers of logs, in all and of one namespace.
const FOLLOWERS_MAX: (usize, usize) = (256, 16);

/// What the routes of hooks need.
pub struct HooksState {
    /// The hooks.
    pub registry: Arc<Registry>,
    /// Who makes calls for show.
    pub rehearser: Arc<dyn Rehearser>,
    /// Largest module that is taken, in bytes.
    pub upload_bytes_max: usize,
    uploads: Places,
    dry_runs: Places,
    gates: Places,
    followers: Places,
}

impl HooksState {
    /// Routes over `registry`, with nothing under way.
    pub fn new(registry: Arc<Registry>, rehearser: Arc<dyn Rehearser>, upload_bytes_max: usize) -> Self {
        Self {
            registry,
            rehearser,
            upload_bytes_max,
            uploads: Places::new(UPLOADS_MAX, 1),
            dry_runs: Places::new(DRY_RUNS_MAX.0, DRY_RUNS_MAX.1),
            gates: Places::new(GATES_MAX.0, GATES_MAX.1),
            followers: Places::new(FOLLOWERS_MAX.0, FOLLOWERS_MAX.1),
        }
    }
}

impl HooksState {
    /// A place for trying hooks out, which the namespace must have processor time for.
    ///
    /// # Errors
    /// 429 when there is none, or no time is left.
    fn rehearsal(&self, namespace: &Namespace) -> Result<places::Place, Problem> {
        let place = self.dry_runs.take(namespace, "dry runs")?;
        match self.rehearser.may_rehearse(namespace) {
            Ok(()) => Ok(place),
            Err(wait) => Err(RegistryError::Busy(wait).into()),
        }
    }
}

/// A namespace's and a hook's name, as they stand in the path.
pub(crate) type HookPath<'a> = (&'a str, &'a str);

/// The right to look after hooks, and which hook.
struct Owner {
    authorised: Authorised,
    author: Author,
    hook: HookName,
}

impl Owner {
    fn of(state: &ApiState, caller: &Caller, (namespace, hook): HookPath<'_>) -> Result<Self, Problem> {
        let authorised = caller.enter(state, namespace, Scope::Hooks)?;
        Ok(Self {
            author: caller.author(&authorised),
            authorised,
            hook: name("hook", hook)?,
        })
    }

    fn namespace(&self) -> &Namespace {
        self.authorised.namespace()
    }
}

fn name(field: &str, text: &str) -> Result<HookName, Problem> {
    text.parse()
        .map_err(|e: crate::model::NameError| Problem::field(Code::InvalidName, field, e.to_string()))
}

fn unknown_hook() -> Problem {
    Problem::new(Code::UnknownHook, "the namespace has no hook of that name")
}

fn unknown_version(version: u32) -> Problem {
    let detail = format!("the hook has no version {version}; it may have been deleted");
    Problem::new(Code::UnknownHookVersion, detail)
}

#[cfg(test)]
pub(super) mod tests;
