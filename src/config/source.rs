//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from, as error messages and `mqueue config show` name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The compiled-in defaults.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// A variable in `.env`.
    DotEnv(String),
    /// An environment variable.
    Env(String),
    /// A file that a `*_FILE` variable names.
    VariableFile {
        /// The variable.
        variable: String,
        /// The file it names.
        path: PathBuf,
    },
    /// A command-line flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::DotEnv(variable) => write!(f, ".env {variable}"),
            Self::Env(variable) => write!(f, "environment {variable}"),
            Self::VariableFile { variable, path } => {
                write!(f, "file {} named by {variable}", path.display())
            }
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}
