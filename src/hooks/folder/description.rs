//! `hook.toml`: what lies beside a module in the plugins folder.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hooks::registry::{BindingDraft, NewVersion};
use crate::model::{HookConfig, HookName, Manifest, Policies, SHADOW_PERCENT, Side, TopicPattern};

/// The name under which the cases of `tests.json` are kept.
pub(super) const TESTS_NAME: &str = "folder";

/// A hook in the folder, complete.
#[derive(Debug, Clone)]
pub(crate) struct FolderHook {
    /// What becomes a version.
    pub(crate) version: NewVersion,
    /// Its test cases, and under which name they are kept.
    pub(crate) tests: Option<(HookName, String)>,
    /// What it is bound to; the version is filled in once it has a number.
    pub(crate) bindings: Vec<BindingDraft>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// The module's file, in the same folder.
    pub(super) module: Option<String>,
    note: Option<String>,
    #[serde(default)]
    manifest: Manifest,
    #[serde(default)]
    config: BTreeMap<Box<str>, toml::Value>,
    #[serde(default)]
    secrets: BTreeMap<Box<str>, Box<str>>,
    #[serde(default)]
    bindings: Vec<BoundTo>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundTo {
    /// The hook's name, or for all but the first `<hook>-<number>`, when absent.
    id: Option<HookName>,
    topic: TopicPattern,
    side: Side,
    #[serde(default = "default_position")]
    position: u16,
    #[serde(default)]
    policies: Policies,
    #[serde(default = "yes")]
    auto_rollback: bool,
    #[serde(default = "yes")]
    enabled: bool,
}

const fn default_position() -> u16 {
    100
}

const fn yes() -> bool {
    true
}

impl Description {
    /// Reads the text of a `hook.toml`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            // The parser's own rendering repeats the line, which may hold a secret.
            format!("hook.toml, line {line}: {}", error.message())
        })
    }

    /// The whole hook, given what lies beside the file.
    pub(super) fn complete(
        self,
        hook: &HookName,
        module: Vec<u8>,
        tests: Option<String>,
    ) -> Result<FolderHook, String> {
        let mut config = HookConfig::new();
        for (key, value) in self.config {
            let text =
                serde_json::to_string(&value).map_err(|error| format!("hook.toml: config.{key}: {error}"))?;
            config.insert(key, text.into());
        }
        let mut bindings = Vec::with_capacity(self.bindings.len());
        for (number, bound) in (1..).zip(self.bindings) {
            let id = match bound.id {
                Some(id) => id,
                None if number == 1 => hook.clone(),
                None => format!("{hook}-{number}")
                    .parse()
                    .map_err(|error| format!("hook.toml: bindings: the name made of the hook's: {error}"))?,
            };
            bindings.push(BindingDraft {
                id,
                topic: bound.topic,
                side: bound.side,
                position: bound.position,
                hook: hook.clone(),
                version: 0,
                canary: None,
                shadow: None,
                shadow_percent: SHADOW_PERCENT,
                policies: bound.policies,
                auto_rollback: bound.auto_rollback,
                enabled: bound.enabled,
            });
        }
        let name = TESTS_NAME
            .parse()
            .map_err(|error| format!("tests.json: {error}"))?;
        Ok(FolderHook {
            version: NewVersion {
                module,
                manifest: self.manifest,
                config,
                secrets: self.secrets,
                note: self.note,
            },
            tests: tests.map(|case| (name, case)),
            bindings,
        })
    }
}
