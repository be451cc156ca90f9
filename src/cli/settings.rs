//! The flags that lead to a configuration.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::config::{Assignment, Config, Origin};

/// Flags of every command that reads the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: $MQUEUE_CONFIG, else mqueue.toml when it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of everything the node keeps
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Set any key of the configuration; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// What these flags set.
    pub(super) fn assignments(&self) -> Result<Vec<Assignment>, CliError> {
        let mut assignments = Vec::new();
        if let Some(folder) = &self.data_dir {
            assignments.push(assignment("storage.data_dir", folder, "--data-dir"));
        }
        for text in &self.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(CliError::Usage(format!("--set {text} is not section.key=value")));
            };
            assignments.push(assignment(key.trim(), value.trim(), "--set"));
        }
        Ok(assignments)
    }

    /// Where the configuration of this process comes from under these flags and `more` of them.
    pub(super) fn origin(&self, more: Vec<Assignment>) -> Result<Origin, CliError> {
        let mut flags = self.assignments()?;
        flags.extend(more);
        let file = self.config.clone();
        Ok(Origin { file, flags })
    }

    /// The configuration of this process under these flags and `more` of them.
    pub(super) fn load(&self, more: Vec<Assignment>) -> Result<Config, CliError> {
        Ok(self.origin(more)?.read()?)
    }
}

pub(super) fn assignment(key: &str, value: &str, flag: &str) -> Assignment {
    Assignment {
        key: key.to_owned(),
        value: value.to_owned(),
        flag: flag.to_owned(),
    }
}
