//! `mqueue hooks push`: uploads a hook as its next version, with its tests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::client::{Client, ClientArgs};
use super::super::output::{self, OutputArgs, cell, entries};
use super::folder::{Folder, test_name};
use super::hook_path;
use crate::hooks::rehearse::TestCase;
use crate::model::{HookName, some};

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
    /// Leave the hook's stored tests as they are; without it they become those of tests.json, if it is there
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
    let tests = match args.no_tests || !folder.has_cases() {
        true => None,
        false => Some(named(folder.cases(None)?)?),
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
    if let Some(tests) = &tests {
        store(&client, &hook_path(&args.client, &hook, "/tests"), tests).await?;
    }
    if args.output.is_json() {
        return output::json(&answer);
    }
    report(&hook, &answer, tests.map_or(0, |tests| tests.len()))
}

/// The cases by the names that they are stored under.
fn named(cases: Vec<TestCase>) -> Result<BTreeMap<String, TestCase>, CliError> {
    let mut named: BTreeMap<String, TestCase> = BTreeMap::new();
    for (at, case) in cases.into_iter().enumerate() {
        let name = test_name(&case.name, at + 1);
        if let Some(other) = named.get(&name) {
            return Err(CliError::Usage(format!(
                "the tests `{}` and `{}` would both be stored as {name}; rename one",
                output::escaped(&other.name),
                output::escaped(&case.name)
            )));
        }
        named.insert(name, case);
    }
    Ok(named)
}

/// Makes `tests` all that are stored: one that was renamed must not stand in the way of activations for ever.
async fn store(client: &Client, path: &str, tests: &BTreeMap<String, TestCase>) -> Result<(), CliError> {
    let stored = client.get(path).await?;
    let stored = entries(&stored, "tests").iter().map(|test| cell(test, "name"));
    for gone in stored.filter(|name| !tests.contains_key(name)) {
        client.delete(&format!("{path}/{gone}")).await?;
    }
    for (name, case) in tests {
        client.put(&format!("{path}/{name}"), &json!(case)).await?;
    }
    Ok(())
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
        "{hook}@{} {done}: {}, {} bytes, compiled in {} ms, {}",
        cell(answer, "version"),
        sides.join(" and "),
        cell(answer, "module_bytes"),
        cell(answer, "compile_ms"),
        some(tests, "test"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_that_would_be_stored_under_one_name_are_told() {
        let cases = |names: [&str; 2]| {
            let cases = names.map(
                |name| json!({"name": name, "side": "enqueue", "item": {}, "expect": {"verdict": "keep"}}),
            );
            crate::hooks::rehearse::parse_cases(&json!(cases).to_string()).unwrap()
        };
        let names: Vec<_> = named(cases(["a b", "a c"])).unwrap().into_keys().collect();
        assert_eq!(names, ["a-b", "a-c"]);
        let told = named(cases(["a b", "A b!"])).unwrap_err().to_string();
        assert!(told.contains("`A b!`") && told.contains("a-b"), "{told}");
    }
}
