//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use super::Source;

/// One thing that is wrong: which key, which value, where it came from, what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as `section.key`, or the variable or flag that is unknown.
    pub key: String,
    /// The value as text, masked when it is a secret; none when the name itself is the problem.
    pub value: Option<String>,
    /// Where it came from.
    pub source: String,
    /// What to change.
    pub detail: String,
}

impl Problem {
    /// A problem with the name of a key or variable.
    pub(super) fn name(key: &str, source: &Source, detail: String) -> Self {
        Self {
            key: key.to_owned(),
            value: None,
            source: source.to_string(),
            detail,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, " ({}): {}", self.source, self.detail)
    }
}

/// Why there is no configuration to run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Names or values are wrong; all that were found.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file is not TOML, or `.env` is not a list of assignments.
    #[error("{path} cannot be parsed: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// The secret that the server makes for itself cannot be kept.
    #[error("cannot keep the generated token secret in {path}: {reason}")]
    Secret {
        /// The file it should be kept in.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

fn lines(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    texts.join("\n")
}
