//! The hidden command by which a node compiles hooks in a process of its own.

use clap::Args;

use super::CliError;
use crate::hooks::engine::compile_in_this_process;

#[derive(Debug, Args)]
pub(super) struct CompileHookArgs {
    /// What to do, as the node wrote it
    order: String,
}

pub(super) fn run(args: &CompileHookArgs) -> Result<(), CliError> {
    compile_in_this_process(&args.order).map_err(|error| CliError::failed("compiling failed", error))
}
