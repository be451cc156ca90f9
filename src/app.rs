//! The composition root: the one place that sees adapters and HTTP together.

use crate::config::Config;

/// Why the node did not start, or stopped for a fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This build has no server.
    #[error("this build has no server to start")]
    Absent,
}

/// Runs the node until it is told to stop.
pub async fn run(_config: Config) -> Result<(), StartError> {
    Err(StartError::Absent)
}
