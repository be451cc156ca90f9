//! `mqueue hooks`: tenants' hooks, from an empty folder to a version in force.

mod acknowledge;
mod bindings;
mod build;
mod check;
mod dry_run;
mod folder;
mod logs;
mod new;
mod offline;
mod push;
mod show;
mod template;
mod test;

use clap::{Args, Subcommand};

use super::CliError;
use super::client::ClientArgs;
use super::output::{self, OutputArgs};
use crate::hooks;
use crate::model::HookName;

#[derive(Debug, Subcommand)]
pub(super) enum HooksCommand {
    /// Make a folder with a hook that builds: source, contract, tests
    New(new::NewArgs),
    /// Make the folder's source a component, with the tools of its language
    Build(build::BuildArgs),
    /// Look at a module without a server: whether it is a hook, its size, one call
    Check(check::CheckArgs),
    /// Run a hook on its tests.json, without a server
    Test(test::TestArgs),
    /// Upload the hook of a folder, or a module, as the next version
    Push(push::PushArgs),
    /// Show what a version would do to items; nothing is written
    DryRun(dry_run::DryRunArgs),
    /// Put a hook in force for topics, or change how
    Bind(bindings::BindArgs),
    /// Take a binding away
    Unbind(bindings::BindingArgs),
    /// Put another version in force, or give it a share of the items on trial
    Activate(bindings::ActivateArgs),
    /// Put the version on trial in force
    Promote(bindings::BindingArgs),
    /// End a trial, or else bring back the version before
    Rollback(bindings::BindingArgs),
    /// Let a version run again that is in quarantine
    Acknowledge(acknowledge::AcknowledgeArgs),
    /// List the hooks of a namespace and where they are in force
    List(show::ListArgs),
    /// Show a hook: its versions, bindings, numbers
    Show(HookArgs),
    /// Show what a hook logged
    Logs(logs::LogsArgs),
    /// Print the contract that hooks are written against
    Wit,
}

/// A hook on a server.
#[derive(Debug, Args)]
pub(super) struct HookArgs {
    /// The hook
    hook: HookName,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &HooksCommand) -> Result<(), CliError> {
    match command {
        HooksCommand::New(args) => new::run(args),
        HooksCommand::Build(args) => build::run(args),
        HooksCommand::Check(args) => check::run(args).await,
        HooksCommand::Test(args) => test::run(args).await,
        HooksCommand::Push(args) => push::run(args).await,
        HooksCommand::DryRun(args) => dry_run::run(args).await,
        HooksCommand::Bind(args) => bindings::bind(args).await,
        HooksCommand::Unbind(args) => bindings::unbind(args).await,
        HooksCommand::Activate(args) => bindings::activate(args).await,
        HooksCommand::Promote(args) => bindings::step(args, "promote").await,
        HooksCommand::Rollback(args) => bindings::step(args, "rollback").await,
        HooksCommand::Acknowledge(args) => acknowledge::run(args).await,
        HooksCommand::List(args) => show::list(args).await,
        HooksCommand::Show(args) => show::show(args).await,
        HooksCommand::Logs(args) => logs::run(args).await,
        HooksCommand::Wit => output::line(hooks::WIT.trim_end()),
    }
}

impl HookArgs {
    fn path(&self, rest: &str) -> String {
        hook_path(&self.client, &self.hook, rest)
    }
}

/// The path of a hook's resource; names need no escaping.
fn hook_path(client: &ClientArgs, hook: &HookName, rest: &str) -> String {
    format!("/v1/namespaces/{}/hooks/{hook}{rest}", client.namespace)
}
