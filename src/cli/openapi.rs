//! `mqueue openapi`: the description of the HTTP interface.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::output::written;
use crate::api::openapi::document;

#[derive(Debug, Args)]
pub(super) struct OpenapiArgs {
    /// Fail when FILE does not hold the current document
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    check: Option<PathBuf>,
    /// Write the document to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

pub(super) fn run(args: &OpenapiArgs) -> Result<(), CliError> {
    let current = document();
    if let Some(path) = &args.check {
        let name = path.display();
        let found = std::fs::read_to_string(path);
        let found = found.map_err(|error| CliError::failed(format!("cannot read {name}"), error))?;
        return if found == current {
            Ok(())
        } else {
            Err(CliError::Partly(format!(
                "{name} is out of date; run `mqueue openapi --write {name}`"
            )))
        };
    }
    if let Some(path) = &args.write {
        let result = std::fs::write(path, current);
        return result.map_err(|error| CliError::failed(format!("cannot write {}", path.display()), error));
    }
    written(std::io::Write::write_all(
        &mut std::io::stdout().lock(),
        current.as_bytes(),
    ))
}
