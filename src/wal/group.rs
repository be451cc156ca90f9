//! Groups: the frames that share one sync, and the tokens their callers hold.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::{Lsn, WalError};

/// How a group ended.
#[derive(Debug)]
struct Outcome {
    /// Frames up to here are durable.
    durable_to: Lsn,
    /// Why those behind are not.
    error: WalError,
}

/// Frames that become durable together, shared by all who wait for them: one allocation a group, none a
/// request.
#[derive(Debug, Default)]
pub(super) struct Group {
    outcome: OnceLock<Outcome>,
    settled: Notify,
    /// Tokens of the group's frames that are not dropped yet.
    tokens: AtomicUsize,
    blocked: Mutex<()>,
    unblocked: Condvar,
}

impl Group {
    /// Frames whose tokens are not dropped yet.
    pub(super) fn frames(&self) -> usize {
        self.tokens.load(Ordering::Relaxed)
    }

    /// The token of the group's next frame.
    pub(super) fn join(self: &Arc<Self>, lsn: Lsn) -> Pending {
        self.tokens.fetch_add(1, Ordering::Relaxed);
        Pending {
            token: Token { group: self.clone() },
            lsn,
        }
    }

    /// Tells everyone in the group: frames up to `durable_to` are durable, those behind met `error`.
    pub(super) fn settle(&self, durable_to: Lsn, error: WalError) {
        // A group is settled once, by the writer.
        let _ = self.outcome.set(Outcome { durable_to, error });
        self.settled.notify_waiters();
        let _guard = self.blocked.lock();
        self.unblocked.notify_all();
    }

    fn outcome_of(&self, lsn: Lsn) -> Option<Result<(), WalError>> {
        let outcome = self.outcome.get()?;
        Some(if lsn <= outcome.durable_to {
            Ok(())
        } else {
            Err(outcome.error.clone())
        })
    }

    async fn wait(&self, lsn: Lsn) -> Result<(), WalError> {
        // Registered before the check, so that a settling in between is not missed.
        let settled = self.settled.notified();
        if let Some(outcome) = self.outcome_of(lsn) {
            return outcome;
        }
        settled.await;
        self.outcome_of(lsn).unwrap_or(Err(WalError::Closed))
    }

    fn wait_blocking(&self, lsn: Lsn) -> Result<(), WalError> {
        let mut guard = self.blocked.lock();
        loop {
            if let Some(outcome) = self.outcome_of(lsn) {
                return outcome;
            }
            self.unblocked.wait(&mut guard);
        }
    }
}

#[derive(Debug)]
struct Token {
    group: Arc<Group>,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.group.tokens.fetch_sub(1, Ordering::Release);
    }
}

/// A frame on its way to the disk.
///
/// Dropping it gives up waiting, not the frame: it becomes durable all the same, and
/// [`Wal::applied_lsn`](super::Wal::applied_lsn) passes it though nobody applied it. Whoever must apply a
/// frame therefore must not be cancelled between `append` and the end of [`Applying`].
#[derive(Debug)]
#[must_use = "a frame is not durable before it was waited for"]
pub struct Pending {
    token: Token,
    lsn: Lsn,
}

impl Pending {
    /// The frame's position. It is taken back, and given to another frame, when the frame is refused.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Waits until the frame is durable.
    ///
    /// # Errors
    /// [`WalError::Full`] or [`WalError::Closed`] when the frame is certainly not in the log,
    /// [`WalError::Failed`] when that is unknown.
    pub async fn durable(self) -> Result<Applying, WalError> {
        self.token.group.wait(self.lsn).await?;
        Ok(Applying {
            _token: self.token,
            lsn: self.lsn,
        })
    }

    /// As [`Pending::durable`], for threads without a runtime.
    ///
    /// # Errors
    /// The same.
    pub fn durable_blocking(self) -> Result<Applying, WalError> {
        self.token.group.wait_blocking(self.lsn)?;
        Ok(Applying {
            _token: self.token,
            lsn: self.lsn,
        })
    }
}

/// A durable frame whose effect is not applied in memory yet. Hold it until it is.
#[derive(Debug)]
#[must_use = "drop it after the frame's effect is applied, not before"]
pub struct Applying {
    _token: Token,
    lsn: Lsn,
}

impl Applying {
    /// The frame's position.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// The durable groups whose frames are not all applied, in order.
#[derive(Debug, Default)]
pub(super) struct Unapplied {
    groups: VecDeque<(Lsn, Arc<Group>)>,
    applied: Lsn,
}

impl Unapplied {
    /// Nothing is unapplied up to `lsn`.
    pub(super) fn since(lsn: Lsn) -> Self {
        Self {
            groups: VecDeque::new(),
            applied: lsn,
        }
    }

    /// A group became durable; its last frame is `last`.
    pub(super) fn push(&mut self, last: Lsn, group: Arc<Group>) {
        self.groups.push_back((last, group));
        self.applied();
    }

    /// Up to where every frame is applied.
    pub(super) fn applied(&mut self) -> Lsn {
        while let Some((last, group)) = self.groups.front()
            && group.tokens.load(Ordering::Acquire) == 0
        {
            self.applied = *last;
            self.groups.pop_front();
        }
        self.applied
    }
}
