//! The signals that end a node, and the time it has to end in.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::StartError;

/// The signals that ask a node to stop. They are caught from the moment this exists: one that comes before
/// anybody waits for it is not lost, and does not end the process the hard way.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to catch them.
    pub(super) fn catch() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(|error| StartError::io("cannot listen for signals", error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first. From then on a second one ends the process at once: everything that was
    /// accepted is in the log, so nothing is lost by it.
    pub(super) async fn requested(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let code = tokio::select! {
                _ = self.terminate.recv() => 143,
                _ = self.interrupt.recv() => 130,
            };
            tracing::warn!("stopping at once; what is not stored yet is in the log");
            std::process::exit(code);
        });
    }
}

/// The time a node has left to stop in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// `time` from now.
    pub(super) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left, at least `reserve`.
    pub(super) fn left_keeping(self, reserve: Duration) -> Duration {
        self.0.saturating_duration_since(Instant::now()).max(reserve)
    }
}
