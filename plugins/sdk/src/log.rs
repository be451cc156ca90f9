//! The hook's log: `mqueue hooks logs` shows it. Long lines are cut, and lines beyond the limit are dropped.

pub use crate::bindings::imports::mqueue::hooks::log::Level;
use crate::host::imports;

/// Adds a line.
pub fn log(level: Level, message: &str) {
    imports::log(level, message);
}

/// Adds a line for tracing.
pub fn trace(message: &str) {
    log(Level::Trace, message);
}

/// Adds a line for debugging.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// Adds a line about something normal.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Adds a line about something odd.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// Adds a line about something broken.
pub fn error(message: &str) {
    log(Level::Error, message);
}
