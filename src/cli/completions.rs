//! `mqueue completions`: scripts that complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::written;
use super::{Cli, CliError};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mqueue", &mut script);
    written(std::io::Write::write_all(&mut std::io::stdout().lock(), &script))
}
