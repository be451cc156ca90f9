//! `mqueue hooks bind`, `unbind`, `activate`, `promote`, `rollback`: what is in force where.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::client::{Client, ClientArgs};
use super::super::output::{self, OutputArgs, cell};
use super::hook_path;
use super::new::SideArg;
use crate::model::{HookName, Policies, Policy, Side, TopicPattern};

/// What becomes of items that a hook fails on.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PolicyArg {
    /// They do not pass
    Closed,
    /// They pass as they are
    Open,
    /// They become dead letters
    DeadLetter,
    /// The version before runs instead
    RetryPrevious,
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Closed => Self::Closed,
            PolicyArg::Open => Self::Open,
            PolicyArg::DeadLetter => Self::DeadLetter,
            PolicyArg::RetryPrevious => Self::RetryPrevious,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BindArgs {
    /// The hook
    hook: HookName,
    /// The topics: a name, or the beginning of names and *
    #[arg(long)]
    topic: TopicPattern,
    /// Which way it stands in [default: as it was, or else the one it exports]
    #[arg(long, value_enum)]
    side: Option<SideArg>,
    /// The version [default: the one in force, or the newest where none is]
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// The binding's name [default: the hook's]
    #[arg(long)]
    id: Option<HookName>,
    /// Where it stands among the hooks of a topic: smaller runs first
    #[arg(long, value_name = "N")]
    position: Option<u16>,
    /// What becomes of items the hook fails on [default: closed]
    #[arg(long, value_enum, value_name = "POLICY")]
    on_failure: Option<PolicyArg>,
    /// A version that runs on copies, so that what it says can be compared
    #[arg(long, value_name = "N")]
    shadow: Option<u32>,
    /// The share of the items that it runs on [default: as it was, or else 1]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    shadow_percent: Option<u8>,
    /// No version runs on copies any more
    #[arg(long, conflicts_with = "shadow")]
    no_shadow: bool,
    /// Bring the version before back when failures follow an activation
    #[arg(long)]
    auto_rollback: bool,
    /// Do so no more
    #[arg(long, conflicts_with = "auto_rollback")]
    no_auto_rollback: bool,
    /// Make it, but let it do nothing yet
    #[arg(long)]
    disabled: bool,
    /// Let it do its work again
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BindingArgs {
    /// The binding; its name is the hook's unless it was given another
    binding: HookName,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ActivateArgs {
    #[command(flatten)]
    binding: BindingArgs,
    /// The version [default: the hook's newest]
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// Only this share of the items, in percent, until it is promoted or rolled back
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    canary: Option<u8>,
    /// Although its stored tests fail; needs the scope admin
    #[arg(long)]
    force: bool,
}

pub(super) async fn bind(args: &BindArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let hook = client.get(&hook_path(&args.client, &args.hook, "")).await?;
    let id = args.id.as_ref().unwrap_or(&args.hook);
    let path = binding_path(&args.client, id, "");
    let current = found(client.get(&path).await)?;
    let mut wanted = args.said();
    let mut kept = vec!["position", "policies"];
    if let Some(current) = &current
        && current["hook"] == wanted["hook"]
    {
        kept.extend(["version", "side", "auto_rollback", "enabled", "canary"]);
        if !args.no_shadow {
            kept.extend(["shadow", "shadow_percent"]);
        }
    }
    for field in kept {
        if wanted.get(field).is_none()
            && let Some(value) = current.as_ref().and_then(|current| current.get(field))
        {
            wanted[field] = value.clone();
        }
    }
    if wanted.get("version").is_none() {
        wanted["version"] = json!(newest(&hook)?);
    }
    if wanted.get("side").is_none() {
        wanted["side"] = json!(only_side(&hook)?);
    }
    let revision = current.as_ref().and_then(|current| current["revision"].as_u64());
    let answer = client.change(Method::PUT, &path, Some(&wanted), revision).await?;
    report(&answer, &args.output)
}

impl BindArgs {
    /// What is said of the binding; the rest stays as it was.
    fn said(&self) -> Value {
        let mut said = json!({ "topic": self.topic, "hook": self.hook });
        let mut say = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                said[field] = value;
            }
        };
        say("side", self.side.map(|side| json!(Side::from(side))));
        say("version", self.version.map(|version| json!(version)));
        say("position", self.position.map(|position| json!(position)));
        say("shadow", self.shadow.map(|shadow| json!(shadow)));
        say(
            "shadow_percent",
            self.shadow_percent.map(|percent| json!(percent)),
        );
        let policies = self.on_failure.map(|policy| Policies::all(policy.into()));
        say("policies", policies.map(|policies| json!(policies)));
        let flag = |yes: bool, no: bool| (yes || no).then(|| json!(yes));
        say("auto_rollback", flag(self.auto_rollback, self.no_auto_rollback));
        say("enabled", flag(self.enabled, self.disabled));
        said
    }
}

/// The only side the hook's newest version has.
fn only_side(hook: &Value) -> Result<Side, CliError> {
    let exports: Vec<Side> = serde_json::from_value(hook["exports"].clone()).unwrap_or_default();
    match exports[..] {
        [side] => Ok(side),
        _ => Err(CliError::Usage(
            "the hook exports both sides: say --side enqueue or --side dequeue".to_owned(),
        )),
    }
}

pub(super) async fn unbind(args: &BindingArgs) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let path = binding_path(&args.client, &args.binding, "");
    let current = client.get(&path).await?;
    let revision = current["revision"].as_u64();
    let answer = client.change(Method::DELETE, &path, None, revision).await?;
    match args.output.is_json() {
        true => output::json(&answer),
        false => output::line(&format!("{} unbound", args.binding)),
    }
}

pub(super) async fn activate(args: &ActivateArgs) -> Result<(), CliError> {
    let (client, binding) = (Client::new(&args.binding.client)?, &args.binding);
    let current = client
        .get(&binding_path(&binding.client, &binding.binding, ""))
        .await?;
    let version = match args.version {
        Some(version) => version,
        None => {
            let hook: HookName = serde_json::from_value(current["hook"].clone())
                .map_err(|error| CliError::failed("the answer is not MQueue's", error))?;
            newest(&client.get(&hook_path(&binding.client, &hook, "")).await?)?
        }
    };
    let mut body = json!({ "version": version, "force": args.force });
    if let Some(percent) = args.canary {
        body["canary_percent"] = json!(percent);
    }
    post(&client, binding, "/activate", &body, &current).await
}

/// Promotes or rolls back.
pub(super) async fn step(args: &BindingArgs, verb: &str) -> Result<(), CliError> {
    let client = Client::new(&args.client)?;
    let current = client.get(&binding_path(&args.client, &args.binding, "")).await?;
    post(&client, args, &format!("/{verb}"), &json!({}), &current).await
}

async fn post(
    client: &Client,
    args: &BindingArgs,
    verb: &str,
    body: &Value,
    current: &Value,
) -> Result<(), CliError> {
    let path = binding_path(&args.client, &args.binding, verb);
    let revision = current["revision"].as_u64();
    let answer = client.change(Method::POST, &path, Some(body), revision).await?;
    report(&answer, &args.output)
}

fn binding_path(client: &ClientArgs, binding: &HookName, rest: &str) -> String {
    format!("/v1/namespaces/{}/bindings/{binding}{rest}", client.namespace)
}

/// Nothing where the server says that there is no such thing.
fn found(answer: Result<Value, CliError>) -> Result<Option<Value>, CliError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(CliError::Problem(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn newest(hook: &Value) -> Result<u32, CliError> {
    let latest = hook["latest"]
        .as_u64()
        .and_then(|latest| u32::try_from(latest).ok());
    latest.ok_or_else(|| CliError::Usage("the hook has no version yet; push one".to_owned()))
}

fn report(binding: &Value, output: &OutputArgs) -> Result<(), CliError> {
    if output.is_json() {
        return output::json(binding);
    }
    output::line(&output::escaped(&summary(binding)))
}

/// A binding in one line.
pub(super) fn summary(binding: &Value) -> String {
    let mut text = format!(
        "{}: {}@{} on {} of {}",
        cell(binding, "id"),
        cell(binding, "hook"),
        cell(binding, "version"),
        cell(binding, "side"),
        cell(binding, "topic"),
    );
    if let Some(canary) = binding.get("canary").filter(|canary| canary.is_object()) {
        let (version, percent) = (cell(canary, "version"), cell(canary, "percent"));
        text.push_str(&format!(", {percent} % of the items to version {version}"));
    }
    if let Some(shadow) = binding["shadow"].as_u64() {
        let percent = cell(binding, "shadow_percent");
        text.push_str(&format!(", version {shadow} as the shadow of {percent} %"));
    }
    if binding["enabled"] == false {
        text.push_str(", off");
    }
    text
}
