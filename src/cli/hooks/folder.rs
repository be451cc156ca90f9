//! A hook's folder as the command line reads it: `hook.toml`, the module, `tests.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::super::CliError;
use super::template::Language;
use crate::hooks::rehearse::{TestCase, parse_cases};
use crate::model::{HookName, Manifest};

/// What source is built to.
const BUILT: &str = "hook.wasm";
/// The hook's test cases.
const TESTS: &str = "tests.json";

/// `hook.toml`, which the server's plugins folder knows too.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HookFile {
    /// The module's file, when it is not one of the usual ones.
    module: Option<String>,
    /// A word on why the version is there.
    pub(super) note: Option<String>,
    /// How the hook wants to be run.
    pub(super) manifest: Manifest,
    /// What it reads as its configuration.
    pub(super) config: BTreeMap<String, Value>,
    /// What only it reads.
    pub(super) secrets: BTreeMap<String, String>,
    /// For the server that watches the folder; over HTTP, `mqueue hooks bind` does it.
    #[serde(rename = "bindings")]
    _bindings: IgnoredAny,
}

/// A folder with a hook, or a module by itself.
#[derive(Debug)]
pub(super) struct Folder {
    /// The folder, or the one that the module is in.
    path: PathBuf,
    module: PathBuf,
}

impl Folder {
    /// The hook at `path`, a folder or a module.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        if path.is_dir() {
            let module = match read_file(path)?.module {
                Some(module) => path.join(module),
                None => module_of(path)?,
            };
            return Ok(Self {
                path: path.to_owned(),
                module,
            });
        }
        if !path.exists() {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(failed(path, error));
        }
        // Of a module in the present folder the parent is empty, and an empty path is no folder.
        let module = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            path: module.parent().unwrap_or(Path::new("/")).to_owned(),
            module,
        })
    }

    /// The hook in the folder at `path`, with another module when one is given.
    pub(super) fn open_with(path: &Path, module: Option<&Path>) -> Result<Self, CliError> {
        match module {
            None => Self::open(path),
            Some(module) => Ok(Self {
                path: path.to_owned(),
                module: module.to_owned(),
            }),
        }
    }

    /// The folder's own name, which is the hook's when nothing else is said.
    pub(super) fn name(&self) -> Result<HookName, CliError> {
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = absolute
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.parse().map_err(|error| {
            CliError::Usage(format!(
                "{name} is no name for a hook ({error}); give one with --hook"
            ))
        })
    }

    /// The module: a component, a core module, or the text of either.
    pub(super) fn module(&self) -> Result<Vec<u8>, CliError> {
        fs::read(&self.module).map_err(|error| failed(&self.module, error))
    }

    /// `hook.toml`; all defaults when it is not there.
    pub(super) fn file(&self) -> Result<HookFile, CliError> {
        read_file(&self.path)
    }

    /// Whether there is a `tests.json`.
    pub(super) fn has_cases(&self) -> bool {
        self.path.join(TESTS).exists()
    }

    /// The cases of a file of tests; those of `tests.json` when no file is named, if it is there.
    pub(super) fn cases(&self, file: Option<&Path>) -> Result<Vec<TestCase>, CliError> {
        let default = self.path.join(TESTS);
        let path = match file {
            Some(file) => file,
            None if !default.exists() => return Ok(Vec::new()),
            None => &default,
        };
        let text = fs::read_to_string(path).map_err(|error| failed(path, error))?;
        parse_cases(&text).map_err(|error| CliError::failed(path.display().to_string(), error))
    }
}

fn read_file(folder: &Path) -> Result<HookFile, CliError> {
    let path = folder.join("hook.toml");
    match fs::read_to_string(&path) {
        Ok(text) => {
            toml::from_str(&text).map_err(|error| CliError::failed(path.display().to_string(), error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HookFile::default()),
        Err(error) => Err(failed(&path, error)),
    }
}

fn module_of(folder: &Path) -> Result<PathBuf, CliError> {
    let language = Language::of(|file| folder.join(file).is_file());
    if language == Some(Language::Wat) {
        return Ok(folder.join(Language::Wat.source()));
    }
    let built = folder.join(BUILT);
    if built.is_file() {
        return Ok(built);
    }
    let shown = folder.display();
    Err(CliError::Usage(match language {
        Some(_) => format!("{shown} has no {BUILT} yet; make it with: mqueue hooks build {shown}"),
        None => format!("{shown} has neither {BUILT} nor hook.wat; name the module's file instead"),
    }))
}

fn failed(path: &Path, error: std::io::Error) -> CliError {
    CliError::failed(format!("cannot read {}", path.display()), error)
}

/// A case's name as one that a stored test can have.
pub(super) fn test_name(case: &str, number: usize) -> String {
    let mut name = String::new();
    for c in case.chars().take(60) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            'A'..='Z' => name.push(c.to_ascii_lowercase()),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_end_matches('-');
    match name {
        "" => format!("case-{number}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_stored_under_names_made_of_theirs() {
        assert_eq!(test_name("A payload, by day!", 1), "a-payload-by-day");
        assert_eq!(test_name("…", 3), "case-3");
        assert!(test_name(&"x".repeat(300), 1).parse::<HookName>().is_ok());
    }
}
