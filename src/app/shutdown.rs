//! The signals that end a node, and the time it has to end in.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::StartError;

/// Waits for the first signal to stop. From then on a second one ends the process at once: everything that
/// was accepted is in the log, so nothing is lost by it.
pub(super) async fn requested() -> Result<(), StartError> {
    let listen = |kind| signal(kind).map_err(|error| StartError::io("cannot listen for signals", error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping; a second signal stops at once");
    tokio::spawn(async move {
        let code = tokio::select! {
            _ = terminate.recv() => 143,
            _ = interrupt.recv() => 130,
        };
        tracing::warn!("stopping at once; what is not stored yet is in the log");
        std::process::exit(code);
    });
    Ok(())
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
