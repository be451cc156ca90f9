//! `mqueue hooks push`: uploads a hook as its next version, with its tests.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::client::{Client, ClientArgs};
use super::super::output::{self, OutputArgs, cell, entries};
use super::folder::{Folder, test_name};
use super::hook_path;
use crate::model::HookName;

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// The hook's folder, or a module: a component, a core module, or WebAssembly text
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The hook [default: the folder's name]
    #[arg(long)]
    hook: Option<HookName>,
    /// A secret that the hook reads; without any, those of the version before are kept. May be repeated
    #[arg(long = "secret", value_name = "NAME=VALUE", value_parser = secret)]
    secrets: Vec<(String, String)>,
    /// A word on why
    #[arg(long)]
    note: Option<String>,
    /// Leave the hook's stored tests as they are
    #[arg(long)]
    no_tests: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn secret(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE"),
    }
}

pub(super) async fn run(args: &PushArgs) -> Result<(), CliError> {
    let folder = Folder::open(&args.path)?;
    let hook = match &args.hook {
        Some(hook) => hook.clone(),
        None => folder.name()?,
    };
    // All that can be wrong here is wrong before anything is sent.
    let (module, file) = (folder.module()?, folder.file()?);
    let cases = match args.no_tests {
        true => Vec::new(),
        false => folder.cases(None)?,
    };
    let mut upload = json!({
        "module": base64_simd::STANDARD.encode_to_string(module),
        "manifest": file.manifest,
        "config": file.config,
    });
    let mut secrets = file.secrets;
    secrets.extend(args.secrets.iter().cloned());
    if !secrets.is_empty() {
        upload["secrets"] = json!(secrets);
    }
    if let Some(note) = args.note.as_ref().or(file.note.as_ref()) {
        upload["note"] = json!(note);
    }
    let client = Client::new(&args.client)?;
    let path = hook_path(&args.client, &hook, "/versions");
    let answer = client.post(&path, &upload).await?;
    for (at, case) in cases.iter().enumerate() {
        let path = hook_path(
            &args.client,
            &hook,
            &format!("/tests/{}", test_name(&case.name, at + 1)),
        );
        client.put(&path, &json!(case)).await?;
    }
    if args.output.is_json() {
        return output::json(&answer);
    }
    report(&hook, &answer, cases.len())
}

fn report(hook: &HookName, answer: &Value, tests: usize) -> Result<(), CliError> {
    for warning in entries(answer, "warnings").iter().filter_map(Value::as_str) {
        eprintln!("note: {}", output::escaped(warning));
    }
    let sides: Vec<_> = entries(answer, "exports")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let done = match answer["created"].as_bool() {
        Some(false) => "is there already, just like this",
        _ => "pushed",
    };
    output::line(&format!(
        "{hook}@{} {done}: {}, {} bytes, compiled in {} ms, {tests} tests",
        cell(answer, "version"),
        sides.join(" and "),
        cell(answer, "module_bytes"),
        cell(answer, "compile_ms"),
    ))
}
