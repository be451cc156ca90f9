//! `mqueue hooks check`: whether a module is a hook, and what it is like.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::output::{self, OutputArgs};
use super::folder::Folder;
use super::offline::Offline;
use crate::clock::Clock;
use crate::hooks::HookContext;
use crate::hooks::rehearse::{Rehearsal, TestItem, rehearse_item};
use crate::model::{HookName, HookRef, ItemId, Namespace, Side, TopicKey};

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// A module (a component, a core module, or WebAssembly text), or a hook's folder
    #[arg(default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &CheckArgs) -> Result<(), CliError> {
    let folder = Folder::open(&args.path)?;
    let (module, file) = (folder.module()?, folder.file()?);
    let namespace: Namespace = named("default")?;
    let offline = Offline::start(&namespace)?;
    let prepared = offline.prepare(&module).await?;
    let hook = HookRef {
        hook: named::<HookName>("checked")?,
        version: 1,
    };
    let version = offline.version(hook, prepared.digest, file);
    let now = Clock::system().now();
    let mut calls = Vec::new();
    for side in &prepared.exports {
        let context = Arc::new(HookContext {
            topic: TopicKey::new(namespace.clone(), named("test")?),
            now,
            principal: "check".into(),
            scopes: Arc::default(),
        });
        let item = TestItem {
            text: Some("hello".into()),
            ..TestItem::default()
        };
        let item = item
            .hook_item(*side, now, ItemId(1))
            .map_err(|error| CliError::failed("cannot make an item", error))?;
        calls.push((
            *side,
            rehearse_item(&offline, &version, *side, context, item).await,
        ));
    }
    let exports: Vec<_> = prepared.exports.iter().map(|side| side.as_str()).collect();
    if args.output.is_json() {
        return output::json(&json!({
            "digest": prepared.digest,
            "component_bytes": prepared.component.len(),
            "exports": exports,
            "imports": prepared.imports,
            "compile_ms": prepared.compile_ms,
            "warnings": prepared.warnings,
            "calls": calls.iter().map(|(side, call)| shown(*side, call)).collect::<Vec<_>>(),
        }));
    }
    let imports = match prepared.imports.is_empty() {
        true => "nothing".to_owned(),
        false => prepared.imports.join(", "),
    };
    output::line(&format!("exports   {}", exports.join(", ")))?;
    output::line(&output::escaped(&format!("imports   {imports}")))?;
    output::line(&format!(
        "component {} bytes, sha256 {}",
        prepared.component.len(),
        prepared.digest
    ))?;
    output::line(&format!("compiled  in {} ms", prepared.compile_ms))?;
    for (side, call) in &calls {
        let usage = &call.usage;
        let outcome = &call.outcome;
        let detail = outcome
            .failure
            .as_deref()
            .map_or(String::new(), |failure| format!(" ({failure})"));
        output::line(&output::escaped(&format!(
            "{side}   {}{detail} for an item with the payload `hello`: {} µs, {} KiB of memory",
            outcome.verdict,
            usage.run.as_micros(),
            usage.memory_bytes.div_ceil(1024),
        )))?;
    }
    for warning in &prepared.warnings {
        output::line(&output::escaped(&format!("note      {warning}")))?;
    }
    Ok(())
}

fn shown(side: Side, call: &Rehearsal) -> Value {
    json!({
        "side": side,
        "verdict": call.outcome.verdict.as_str(),
        "failure": call.outcome.failure,
        "run_us": u64::try_from(call.usage.run.as_micros()).unwrap_or(u64::MAX),
        "memory_bytes": call.usage.memory_bytes,
    })
}

fn named<T: std::str::FromStr>(name: &str) -> Result<T, CliError>
where
    T::Err: std::fmt::Display,
{
    name.parse()
        .map_err(|error: T::Err| CliError::failed(name, error))
}
