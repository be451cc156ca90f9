//! The `mqueue` binary: everything it does is in [`mqueue::cli`].

use std::process::ExitCode;

use clap::Parser;
use mqueue::cli::{Cli, CliError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both TLS stacks ask for the process-wide provider, so it must be there before anything else; a
    // second installation is the only way this can fail, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match mqueue::cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mqueue: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}
