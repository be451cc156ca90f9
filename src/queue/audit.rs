//! The log of changes: what administrators did, to what, and on whose behalf.

use super::core::Queue;
use super::error::QueueError;
use crate::model::{Author, Namespace};
use crate::shard::{AuditQuery, AuditRecord, AuditRow};

/// Longest JSON text that is kept of what was and what is, in bytes; a longer one is left out.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Longest actor, in characters.
const ACTOR_CHARS_MAX: usize = 256;

/// Something that an administrator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Whose things changed; none for the node's own.
    pub namespace: Option<Namespace>,
    /// Who did it.
    pub by: Author,
    /// What was done: a noun, a dot and a verb, such as `topic.pause`.
    pub action: &'static str,
    /// To what.
    pub target: String,
    /// What it was before, as JSON text.
    pub before: Option<String>,
    /// What it is now, as JSON text.
    pub after: Option<String>,
}

impl Queue {
    /// Notes what was done. It is done already: where it cannot be noted, the process's log has it instead.
    pub async fn note(&self, act: Act) {
        let row = self.row(act);
        if let Err(error) = self.core.catalog.record(std::slice::from_ref(&row)).await {
            tracing::error!(
                %error,
                namespace = row.namespace.as_ref().map(Namespace::as_str),
                actor = row.actor,
                action = row.action,
                target = row.target,
                before = row.before,
                after = row.after,
                request_id = row.request_id,
                "an administrator's act could not be stored in the log of changes"
            );
        }
    }

    /// The changes that `query` asks for.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn changes(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, QueueError> {
        Ok(self.core.catalog.audit(query).await?)
    }

    /// `act` as it is stored, as of now.
    pub(super) fn row(&self, act: Act) -> AuditRow {
        let visible = act.by.subject.chars().filter(|c| !c.is_control());
        let actor: String = visible.take(ACTOR_CHARS_MAX).collect();
        let fitting = |text: Option<String>| text.filter(|text| text.len() <= VALUE_BYTES_MAX);
        AuditRow {
            at: self.core.clock.now(),
            namespace: act.namespace,
            actor: if actor.is_empty() { "-".to_owned() } else { actor },
            action: act.action,
            target: act.target,
            before: fitting(act.before),
            after: fitting(act.after),
            request_id: act.by.request_id.map(String::from),
            peer: act.by.peer.map(String::from),
        }
    }
}
