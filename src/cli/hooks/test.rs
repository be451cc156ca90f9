//! `mqueue hooks test`: runs a hook on its test cases, without a server.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::output::{self, OutputArgs};
use super::folder::Folder;
use super::offline::Offline;
use crate::hooks::rehearse::{CaseResult, run_cases};
use crate::model::{HookName, HookRef, Namespace, some};

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// The hook's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The module [default: hook.wasm or hook.wat in the folder]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// The test cases [default: tests.json in the folder]
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
    /// The namespace, as the hook sees it
    #[arg(long, short, default_value = "default")]
    namespace: Namespace,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &TestArgs) -> Result<(), CliError> {
    let folder = Folder::open_with(&args.folder, args.module.as_deref())?;
    let cases = folder.cases(args.tests.as_deref())?;
    if cases.is_empty() {
        let shown = args.folder.display();
        return Err(CliError::Usage(format!(
            "{shown} has no test cases; write them to tests.json"
        )));
    }
    let (module, file) = (folder.module()?, folder.file()?);
    let offline = Offline::start(&args.namespace)?;
    let prepared = offline.prepare(&module).await?;
    let hook: HookName = folder.name()?;
    let version = offline.version(HookRef { hook, version: 1 }, prepared.digest, file);
    let results = run_cases(&offline, &version, &cases).await;
    let failed = results.iter().filter(|result| !result.passed()).count();
    if args.output.is_json() {
        output::json(&json!({
            "passed": results.len() - failed,
            "failed": failed,
            "results": results.iter().map(shown).collect::<Vec<_>>(),
        }))?;
    } else {
        let header = ["test", "", "verdict", "run µs", "memory KiB"];
        output::line(&output::table(&header, results.iter().map(row)))?;
        for result in &results {
            explain(result)?;
        }
        output::line(&format!("{} passed, {failed} failed", results.len() - failed))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(CliError::Partly(format!(
            "{failed} of {} failed",
            some(results.len(), "test")
        ))),
    }
}

fn row(result: &CaseResult) -> Vec<String> {
    let verdict = if result.passed() { "passed" } else { "failed" };
    let rehearsal = result.rehearsal.as_ref();
    let shown = |text: Option<String>| text.unwrap_or_default();
    vec![
        result.name.to_string(),
        verdict.to_owned(),
        shown(rehearsal.map(|rehearsal| rehearsal.outcome.verdict.to_string())),
        shown(rehearsal.map(|rehearsal| rehearsal.usage.run.as_micros().to_string())),
        shown(rehearsal.map(|rehearsal| rehearsal.usage.memory_bytes.div_ceil(1024).to_string())),
    ]
}

/// Why a test failed, and what its hook logged.
fn explain(result: &CaseResult) -> Result<(), CliError> {
    let Some(mismatch) = &result.mismatch else {
        return Ok(());
    };
    output::line(&output::escaped(&format!("{}: {mismatch}", result.name)))?;
    let log = result.rehearsal.iter().flat_map(|rehearsal| &rehearsal.log);
    for line in log {
        output::line(&output::escaped(&format!("  log: {}", line.message)))?;
    }
    Ok(())
}

fn shown(result: &CaseResult) -> Value {
    let rehearsal = result.rehearsal.as_ref();
    let log = rehearsal.iter().flat_map(|rehearsal| &rehearsal.log);
    json!({
        "name": result.name,
        "passed": result.passed(),
        "mismatch": result.mismatch,
        "verdict": rehearsal.map(|rehearsal| rehearsal.outcome.verdict.as_str()),
        "run_us": rehearsal.map(|rehearsal| u64::try_from(rehearsal.usage.run.as_micros()).unwrap_or(u64::MAX)),
        "memory_bytes": rehearsal.map(|rehearsal| rehearsal.usage.memory_bytes),
        "log": log.map(|line| json!({ "level": line.level, "message": line.message })).collect::<Vec<_>>(),
    })
}
