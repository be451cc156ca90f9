//! How a command can fail.

use serde::Deserialize;

use crate::app::StartError;
use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The node did not start, or stopped for a fault.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The server cannot be reached.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The server's URL.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// The server answered with a problem.
    #[error("{0}")]
    Problem(ProblemAnswer),
    /// Something else went wrong.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it did not work.
        reason: String,
    },
    /// The work was done, in part, with the outcome that was printed.
    #[error("{0}")]
    Partly(String),
    /// Whoever read the output has heard enough.
    #[error("the output is closed")]
    Closed,
}

impl CliError {
    pub(super) fn failed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Failed {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    /// The process's exit code: see the module's documentation.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Start(error) => error.exit_code(),
            Self::Problem(_) | Self::Failed { .. } | Self::Partly(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 69,
            Self::Config(_) => 78,
        }
    }

    /// What to try next, when there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start one with `mqueue serve`, or name another with --url or MQUEUE_URL")
            }
            Self::Config(_) => Some("`mqueue config show` prints every key; mqueue.toml explains them"),
            Self::Problem(problem) if problem.status == 401 => Some(
                "pass --token or MQUEUE_TOKEN; `mqueue token` mints one where the server's data directory or \
                 JWT_SECRET is at hand",
            ),
            Self::Problem(problem) if problem.code == "unknown_binding" => {
                Some("bind it first: `mqueue hooks bind NAME --topic TOPIC`")
            }
            _ => None,
        }
    }
}

/// A problem answer (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ProblemAnswer {
    /// The HTTP status.
    pub status: u16,
    /// What kind of problem it is.
    pub title: String,
    /// What to change.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// What is wrong with which part.
    pub errors: Box<[PartlyWrong]>,
    /// The request, as the server's log names it.
    pub request_id: Option<String>,
}

/// What is wrong with one part of a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PartlyWrong {
    /// The part.
    pub field: String,
    /// What to change.
    pub detail: String,
}

impl std::fmt::Display for ProblemAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let title = if self.title.is_empty() {
            "problem"
        } else {
            &self.title
        };
        write!(f, "{}", super::output::escaped(title))?;
        if !self.detail.is_empty() {
            write!(f, ": {}", super::output::escaped(&self.detail))?;
        }
        write!(f, " ({}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", super::output::escaped(&self.code))?;
        }
        f.write_str(")")?;
        for error in &*self.errors {
            let (field, detail) = (&error.field, &error.detail);
            write!(
                f,
                "\n  {}: {}",
                super::output::escaped(field),
                super::output::escaped(detail)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_title_detail_code_on_one_line() {
        let problem: ProblemAnswer = serde_json::from_str(
            r#"{"status":429,"title":"quota used up","detail":"wait 3 s\u001b[2J","code":"quota_exceeded","errors":[]}"#,
        )
        .unwrap();
        let error = CliError::Problem(problem);
        assert_eq!(
            error.to_string(),
            r"quota used up: wait 3 s\u{1b}[2J (429 quota_exceeded)"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn the_parts_of_a_problem_follow_line_by_line() {
        let problem: ProblemAnswer = serde_json::from_str(
            r#"{"status":400,"title":"no","errors":[{"field":"a","detail":"must be b"}]}"#,
        )
        .unwrap();
        assert_eq!(CliError::Problem(problem).to_string(), "no (400)\n  a: must be b");
    }
}
