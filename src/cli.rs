//! The command line: one binary that serves, administers, checks and measures.
//!
//! Exit codes: 0 success, 1 failure or a problem answer, 2 wrong usage, 69 the server is unreachable,
//! 78 the configuration is wrong.

mod bench;
mod client;
mod compile_hook;
mod completions;
mod config;
mod dead;
mod dequeue;
mod enqueue;
mod error;
mod explain;
mod healthcheck;
mod hooks;
mod nodes;
mod openapi;
mod operations;
mod output;
mod peek;
mod serve;
mod settings;
mod settle;
mod shards;
mod stats;
mod token;
mod topic;
mod wal;

use clap::{Parser, Subcommand};

pub use error::CliError;

const EXIT_CODES: &str = "\
Exit codes:
  0   success
  1   failure, or the server answered with a problem
  2   wrong usage
  69  the server is unreachable
  78  the configuration is wrong

Client commands need no token on the machine of a server that generated its own secret: they mint a
short-lived one from the data directory.";

/// A multi-tenant priority message queue. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "mqueue", version, after_long_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(serve::ServeArgs),
    /// Mint a token and print it, for development and for this machine
    Token(token::TokenArgs),
    /// Print the OpenAPI document, write it to a file, or check a file against it
    Openapi(openapi::OpenapiArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look at the write-ahead log, check it, repair it
    #[command(subcommand)]
    Wal(wal::WalCommand),
    /// Ask a server whether it is ready; exit code 0 or 1
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Hand items in
    Enqueue(enqueue::EnqueueArgs),
    /// Take items out
    Dequeue(dequeue::DequeueArgs),
    /// Settle leased items: done
    Ack(settle::AckArgs),
    /// Settle leased items: failed, deliver again later
    Nack(settle::NackArgs),
    /// Keep leased items for longer
    Extend(settle::ExtendArgs),
    /// Give leased items back without counting the delivery
    Release(settle::ReleaseArgs),
    /// Settle leased items: will never work, dead letter at once
    Reject(settle::RejectArgs),
    /// Look at items in delivery order without leasing them
    Peek(peek::PeekArgs),
    /// Say why an item is not delivered
    Explain(explain::ExplainArgs),
    /// Show the topics of a namespace and their numbers
    Stats(stats::StatsArgs),
    /// Stop deliveries from a topic
    Pause(topic::TopicArgs),
    /// Resume deliveries from a topic
    Resume(topic::TopicArgs),
    /// Delete the waiting items of a topic
    Purge(topic::PurgeArgs),
    /// List, bring back or discard dead letters
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Order work on many items, look at it, cancel it
    #[command(subcommand)]
    Operations(operations::OperationsCommand),
    /// Write hooks, test them, and put them in force
    #[command(subcommand)]
    Hooks(hooks::HooksCommand),
    /// Show the shards; move slots between them
    Shards(shards::ShardsArgs),
    /// Show the nodes and when they were last heard of
    Nodes(nodes::NodesArgs),
    /// Measure a server: throughput, latency, processor time
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// The child process in which a node compiles a hook
    #[command(name = crate::hooks::engine::COMPILE_COMMAND, hide = true)]
    CompileHook(compile_hook::CompileHookArgs),
}

/// Does what `cli` asks for.
///
/// Fails with what [`CliError`] lists; its exit code and hint are for the caller to give.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args),
        Command::Token(args) => token::run(&args),
        Command::Openapi(args) => openapi::run(&args),
        Command::Wal(command) => wal::run(&command),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::CompileHook(args) => compile_hook::run(&args),
        Command::Config(command) => block_on(config::run(&command)),
        Command::Healthcheck(args) => block_on(healthcheck::run(&args)),
        Command::Enqueue(args) => block_on(enqueue::run(&args)),
        Command::Dequeue(args) => block_on(dequeue::run(&args)),
        Command::Ack(args) => block_on(settle::ack(&args)),
        Command::Nack(args) => block_on(settle::nack(&args)),
        Command::Extend(args) => block_on(settle::extend(&args)),
        Command::Release(args) => block_on(settle::release(&args)),
        Command::Reject(args) => block_on(settle::reject(&args)),
        Command::Peek(args) => block_on(peek::run(&args)),
        Command::Explain(args) => block_on(explain::run(&args)),
        Command::Stats(args) => block_on(stats::run(&args)),
        Command::Pause(args) => block_on(topic::pause(&args)),
        Command::Resume(args) => block_on(topic::resume(&args)),
        Command::Purge(args) => block_on(topic::purge(&args)),
        Command::Dead(command) => block_on(dead::run(&command)),
        Command::Shards(args) => block_on(shards::run(&args)),
        Command::Nodes(args) => block_on(nodes::run(&args)),
        Command::Operations(command) => block_on(operations::run(&command)),
        Command::Hooks(command) => block_on(hooks::run(&command)),
    }
}

/// Runs a client's few requests on this thread.
fn block_on(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| CliError::failed("cannot start", error))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("mqueue").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_and_takes_the_same_flags() {
        for line in ["--listen 127.0.0.1:0", "serve --listen 127.0.0.1:0"] {
            let cli = parse(line).unwrap();
            let Command::Serve(args) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
                panic!("{line} does not serve");
            };
            assert_eq!(args.assignments().unwrap()[0].value, "127.0.0.1:0");
        }
    }

    #[test]
    fn a_bad_flag_names_the_nearest_known_one() {
        let error = parse("serve --lisen 127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
        assert!(error.to_string().contains("--listen"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn commands_parse() {
        for line in [
            "token --namespace a --namespace b --scope enqueue --ttl 1h",
            "config show --output json --set wal.dir=/tmp/w",
            "config show --server --url http://127.0.0.1:1",
            "config reload",
            "enqueue orders hello --priority -5 --delay 1m --header a=b",
            "enqueue orders --lines -",
            "dequeue orders bills --max 5 --wait 20s --ack",
            "nack L1 L2 --delay 5s --error boom",
            "peek orders --state dead --limit 3",
            "stats --watch",
            "purge orders --yes",
            "dead redrive orders --to bills --dry-run --hook repair@2",
            "explain orders 7",
            "operations list --state running",
            "operations order cancel orders --older-than 1h --priority-min -5 --header a=b --yes --wait",
            "operations cancel 3",
            "bench e2e --rate 1000 --duration 5s --server-pid 1",
            "completions bash",
            "wal inspect --dir x --frames",
            "hooks new first --lang rust --side dequeue",
            "hooks push --hook first --secret key=value",
            "hooks bind first --topic orders* --side dequeue --on-failure open",
            "hooks activate first --version 2 --canary 5",
            "hooks dry-run first --topic orders --last 20",
            "hooks logs first -f",
            "shards",
            "shards move --from 0 --to 1 --slots 10 --dry-run",
            "shards balance --wait",
            "nodes forget 3 --yes",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "enqueue",
            "enqueue a/b x",
            "dequeue",
            "bench nothing",
            "bench --rate 0",
            "nack",
            "operations order nothing orders",
            "token --scope all",
            "hooks new a/b",
            "shards move --from 0 --to 1",
            "shards balance --wait --dry-run",
            "hooks activate first --version 2 --canary 100",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
