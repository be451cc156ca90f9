//! What a hook logs: as a list, or followed as server-sent events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use poem::web::sse::{Event, SSE};
use poem::{IntoResponse, Response};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

use super::super::ApiState;
use super::super::caller::Caller;
use super::super::problem::{Code, Problem};
use super::super::reply::json;
use super::places::Place;
use super::views::{LogLineView, LogListView};
use super::{HookPath, Owner, unknown_hook};
use crate::hooks::registry::LogEntry;

/// Lines of a list that names no number.
const LIMIT_DEFAULT: usize = 100;
/// Most lines of a list.
const LIMIT_MAX: usize = 1_000;
/// Lines a follower that names no place is shown first.
const BACKLOG: usize = 20;
/// How often a silent stream is looked at: whether the node stops.
const LOOK: Duration = Duration::from_secs(1);
/// How often a silent stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream lasts; followers come back by themselves, with a token that is still valid.
const LIFE: Duration = Duration::from_secs(30 * 60);

/// Which lines are asked for.
#[derive(Debug, Default)]
pub(super) struct LogQuery {
    /// Lines after this one.
    pub(super) after: Option<u64>,
    /// The most lines.
    pub(super) limit: Option<usize>,
    /// Whether to go on with those to come.
    pub(super) follow: bool,
    /// The last line an interrupted follower saw.
    pub(super) last_event_id: Option<String>,
}

/// `GET …/hooks/{hook}/logs`.
pub(super) fn logs(
    state: &Arc<ApiState>,
    caller: &Caller,
    path: HookPath<'_>,
    query: &LogQuery,
) -> Result<Response, Problem> {
    let owner = Owner::of(state, caller, path)?;
    let registry = &state.hooks.registry;
    if registry.hook(owner.namespace(), &owner.hook).is_none() {
        return Err(unknown_hook());
    }
    if query.follow {
        return follow(state, owner, query);
    }
    let limit = match query.limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => limit,
        _ => {
            let detail = format!("must be between 1 and {LIMIT_MAX}");
            return Err(Problem::field(Code::InvalidQuery, "limit", detail));
        }
    };
    let lines = match query.after {
        Some(after) => registry.log(owner.namespace(), &owner.hook, after, limit),
        None => newest(registry.log(owner.namespace(), &owner.hook, 0, LIMIT_MAX), limit),
    };
    json(&LogListView {
        lines: lines.iter().map(LogLineView::from).collect(),
    })
}

fn newest(mut lines: Vec<LogEntry>, limit: usize) -> Vec<LogEntry> {
    lines.split_off(lines.len().saturating_sub(limit))
}

fn follow(state: &Arc<ApiState>, owner: Owner, query: &LogQuery) -> Result<Response, Problem> {
    let place = state.hooks.followers.take(owner.namespace(), "followers")?;
    let registry = &state.hooks.registry;
    // Before the backlog is read, so that no line falls between the two.
    let coming = registry.follow(owner.namespace(), &owner.hook);
    let seen =
        match &query.last_event_id {
            Some(id) => Some(id.parse().map_err(|_| {
                Problem::field(Code::InvalidQuery, "Last-Event-ID", "must be the id of a line")
            })?),
            None => query.after,
        };
    let ring = registry.log(owner.namespace(), &owner.hook, seen.unwrap_or(0), LIMIT_MAX);
    let backlog = match seen {
        Some(_) => ring,
        None => newest(ring, BACKLOG),
    };
    let follower = Follower {
        seen: backlog.last().map_or(seen.unwrap_or(0), |line| line.seq),
        backlog: backlog.into(),
        coming,
        state: state.clone(),
        owner,
        ends: Instant::now() + LIFE,
        _place: place,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let line = follower.next().await?;
        Some((event(&line), follower))
    });
    Ok(SSE::new(events).keep_alive(KEEP_ALIVE).into_response())
}

fn event(line: &LogEntry) -> Event {
    let data = serde_json::to_string(&LogLineView::from(line)).unwrap_or_default();
    Event::message(data).event_type("line").id(line.seq.to_string())
}

/// One who follows a log.
struct Follower {
    state: Arc<ApiState>,
    owner: Owner,
    backlog: VecDeque<LogEntry>,
    coming: Receiver<LogEntry>,
    /// The last line that was shown.
    seen: u64,
    ends: Instant,
    _place: Place,
}

impl Follower {
    /// The next line; nothing at the end of the stream.
    async fn next(&mut self) -> Option<LogEntry> {
        loop {
            if let Some(line) = self.backlog.pop_front() {
                return Some(line);
            }
            if Instant::now() >= self.ends || self.state.queue.is_draining() {
                return None;
            }
            match timeout(LOOK, self.coming.recv()).await {
                Err(_) => {}
                Ok(Ok(line)) if line.seq > self.seen => {
                    self.seen = line.seq;
                    return Some(line);
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_))) => self.catch_up(),
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    /// Reads what was missed from the ring, as far as it is still there.
    fn catch_up(&mut self) {
        let registry = &self.state.hooks.registry;
        let missed = registry.log(self.owner.namespace(), &self.owner.hook, self.seen, LIMIT_MAX);
        if let Some(last) = missed.last() {
            self.seen = last.seq;
        }
        self.backlog = missed.into();
    }
}
