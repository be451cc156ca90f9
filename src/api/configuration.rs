//! The configuration as operators see it, and its reload.

use std::collections::BTreeMap;

use poem::Response;
use serde::Serialize;

use super::ApiState;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::reply::json;
use crate::clock::Timestamp;
use crate::model::Author;
use crate::queue::{Act, PartHealth, Queue};

/// The running node's configuration: what the API needs of whoever reads it.
pub trait Configuration: Send + Sync + 'static {
    /// Every key as it is in force.
    fn entries(&self) -> Vec<ConfigEntry>;

    /// How reloads went.
    fn reloads(&self) -> Reloads;

    /// Reads everything anew and puts it in force; any error leaves all as it was. It reads files, so it is not
    /// for a thread that serves requests. Returns what is different now, for the log of changes.
    ///
    /// # Errors
    /// Everything that is wrong.
    fn reload(&self) -> Result<ConfigChange, Vec<ConfigFault>>;
}

/// What a reload changed of what is in force, by key; secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigChange {
    /// As it was.
    pub before: BTreeMap<String, String>,
    /// As it is.
    pub after: BTreeMap<String, String>,
}

impl ConfigChange {
    /// Notes the change in the log of changes as done by `by`, if there is any.
    pub async fn note(self, queue: &Queue, by: Author) {
        if self != Self::default() {
            self.note_request(queue, by).await;
        }
    }

    /// Notes the change, be it none: somebody asked for it.
    async fn note_request(self, queue: &Queue, by: Author) {
        let text = |values: BTreeMap<String, String>| Some(serde_json::json!(values).to_string());
        let act = Act {
            namespace: None,
            by,
            action: "config.reload",
            target: format!("node {}", queue.node().number()),
            before: text(self.before),
            after: text(self.after),
        };
        queue.note(act).await;
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigEntry {
    /// `section.key`.
    pub key: String,
    /// The value in force as text; secrets are masked.
    pub value: String,
    /// Where it came from.
    pub source: String,
    /// Whether a change counts while the node runs.
    pub reloadable: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigFault {
    /// The key, when it is about one.
    pub key: Option<String>,
    /// What is wrong and what to change.
    pub detail: String,
}

/// How reloads went since the node started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloads {
    /// How many put a configuration in force.
    pub succeeded: u64,
    /// How many changed nothing because of an error.
    pub failed: u64,
    /// When what is in force was read.
    pub loaded_at: Timestamp,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Reload>,
    /// Keys that were changed since the node started and count only at its next start.
    pub restart_needed: Vec<String>,
}

/// One reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// When.
    pub at: Timestamp,
    /// What asked for it: `file`, `signal` or `request`.
    pub trigger: &'static str,
    /// Whether it put a configuration in force.
    pub ok: bool,
    /// The keys it changed.
    pub changed: Vec<String>,
    /// What was wrong.
    pub faults: Vec<ConfigFault>,
}

impl Reloads {
    /// How the configuration is, as one of the node's parts.
    pub(super) fn part(&self) -> PartHealth {
        let failed = self.last.as_ref().filter(|last| !last.ok);
        let detail = match failed {
            Some(last) => {
                let first = last.faults.first().map_or("", |fault| fault.detail.as_str());
                let more = last.faults.len().saturating_sub(1);
                let and = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!(
                    "the reload at {} failed: {first}{and}; the one of {} is in force",
                    last.at, self.loaded_at
                )
            }
            None if self.restart_needed.is_empty() => format!("read at {}", self.loaded_at),
            None => format!("a restart is needed for {}", self.restart_needed.join(", ")),
        };
        PartHealth {
            part: "configuration".into(),
            ok: failed.is_none(),
            detail,
        }
    }
}

#[derive(Serialize)]
struct ConfigView {
    entries: Vec<ConfigEntry>,
    reloads: Reloads,
}

/// `GET /v1/config`.
pub(crate) fn get(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    caller.operator(state)?;
    json(&ConfigView {
        entries: state.config.entries(),
        reloads: state.config.reloads(),
    })
}

/// `POST /v1/config/reload`.
pub(crate) async fn reload(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    let operator = caller.operator(state)?;
    tracing::info!(subject = %operator.subject, "the configuration is to be read again");
    let config = state.config.clone();
    let reloaded = tokio::task::spawn_blocking(move || config.reload()).await;
    let by = caller.author_of(&operator.subject);
    match reloaded.map_err(|error| Problem::internal(error.to_string()))? {
        Ok(change) => {
            change.note_request(&state.queue, by).await;
            json(&state.config.reloads())
        }
        Err(faults) => {
            let act = Act {
                namespace: None,
                by,
                action: "config.reload",
                target: format!("node {}", state.queue.node().number()),
                before: None,
                after: Some(serde_json::json!({ "faults": faults }).to_string()),
            };
            state.queue.note(act).await;
            Err(refused(faults))
        }
    }
}

fn refused(faults: Vec<ConfigFault>) -> Problem {
    let detail = "the configuration is wrong; what was in force stays in force";
    faults
        .into_iter()
        .fold(Problem::new(Code::ConfigInvalid, detail), |problem, fault| {
            problem.with_error(fault.key.unwrap_or_default(), fault.detail)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reloads(last: Option<Reload>, restart_needed: &[&str]) -> Reloads {
        Reloads {
            succeeded: 1,
            failed: 0,
            loaded_at: Timestamp::ZERO,
            last,
            restart_needed: restart_needed.iter().map(|key| (*key).to_owned()).collect(),
        }
    }

    #[test]
    fn the_part_says_what_an_operator_has_to_do() {
        assert!(reloads(None, &[]).part().ok);
        let part = reloads(None, &["wal.dir"]).part();
        assert!(
            part.ok && part.detail.contains("restart is needed for wal.dir"),
            "{part:?}"
        );
        let fault = |detail: &str| ConfigFault {
            key: None,
            detail: detail.into(),
        };
        let last = Reload {
            at: Timestamp::ZERO,
            trigger: "file",
            ok: false,
            changed: vec![],
            faults: vec![fault("no such key"), fault("b")],
        };
        let part = reloads(Some(last), &[]).part();
        assert!(
            !part.ok && part.detail.contains("no such key and 1 more"),
            "{part:?}"
        );
    }
}
