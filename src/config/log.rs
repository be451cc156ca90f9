//! Section `[log]`.

use std::fmt;
use std::str::FromStr;

/// The least urgent messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to see.
    Info,
    /// What deserves a look.
    Warn,
    /// What failed.
    Error,
}

const LEVELS: [(&str, LogLevel); 5] = [
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
];

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        match found {
            Some((_, level)) => Ok(*level),
            None => Err("must be trace, debug, info, warn or error".to_owned()),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LEVELS
            .iter()
            .find(|(_, level)| level == self)
            .map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEncoding {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Console,
}

impl FromStr for LogEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "console" => Ok(Self::Console),
            _ => Err("must be json or console".to_owned()),
        }
    }
}
