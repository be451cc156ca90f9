//! Looking through the folder: nothing outside it is read, and never more than a bound.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::description::{Description, FolderHook};
use crate::model::{HookName, Namespace};

/// Folders that are no namespaces.
const RESERVED: [&str; 8] = [
    "artefacts",
    "build",
    "examples",
    "fixtures",
    "sdk",
    "target",
    "templates",
    "wit",
];
/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// Hooks taken from the whole folder.
const HOOKS_MAX: usize = 1_000;
/// Largest `hook.toml`, in bytes.
const DESCRIPTION_BYTES_MAX: u64 = 256 << 10;
/// Largest `tests.json`, in bytes.
const TESTS_BYTES_MAX: u64 = 256 << 10;
/// Largest module, in bytes.
const MODULE_BYTES_MAX: u64 = 32 << 20;

/// A namespace and a hook in it.
pub(super) type Place = (Namespace, HookName);

/// What lies in a hook's folder.
#[derive(Debug)]
pub(super) struct Found {
    /// Of everything that was read, and of why it was refused.
    pub(super) hash: blake3::Hash,
    /// The hook, or what to change.
    pub(super) hook: Result<FolderHook, String>,
}

/// What a look through the folder showed.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every folder two levels below the root that has a `hook.toml`.
    pub(super) found: BTreeMap<Place, Found>,
    /// Namespaces that may have more than what was found, and why.
    pub(super) unseen: BTreeMap<Namespace, String>,
    /// Whether there is nothing at all, as where a volume is not mounted.
    pub(super) is_empty: bool,
}

/// Looks through `root`. What is not found is not there, but for what is in `unseen`.
///
/// # Errors
/// When `root` cannot be read: whatever is in it may still be there.
pub(super) fn scan(root: &Path) -> io::Result<Scan> {
    let namespaces = entries(root)?;
    if namespaces.len() >= ENTRIES_MAX {
        return Err(io::Error::other(format!(
            "it has {ENTRIES_MAX} entries or more, which is more than are looked at"
        )));
    }
    let mut scan = Scan {
        is_empty: namespaces.is_empty(),
        ..Scan::default()
    };
    for folder in namespaces {
        let Some(namespace) = name_of::<Namespace>(&folder) else {
            continue;
        };
        if RESERVED.contains(&namespace.as_str()) {
            continue;
        }
        if let Err(error) = scan_namespace(&folder, &namespace, &mut scan.found) {
            scan.unseen.insert(namespace, error.to_string());
        }
    }
    // What was not found may only have gone with all the rest.
    std::fs::read_dir(root)?;
    Ok(scan)
}

fn scan_namespace(
    folder: &Path,
    namespace: &Namespace,
    found: &mut BTreeMap<Place, Found>,
) -> io::Result<()> {
    if !is_folder(folder)? {
        return Ok(());
    }
    let folders = if_there(entries(folder))?.unwrap_or_default();
    let is_cut = folders.len() >= ENTRIES_MAX;
    for folder in folders {
        let Some(hook) = name_of::<HookName>(&folder) else {
            continue;
        };
        let toml = std::fs::symlink_metadata(folder.join("hook.toml"));
        if !is_folder(&folder)? || if_there(toml)?.is_none() {
            continue;
        }
        if found.len() == HOOKS_MAX {
            return Err(io::Error::other(format!(
                "the plugins folder holds more than {HOOKS_MAX} hooks"
            )));
        }
        let mut hasher = blake3::Hasher::new();
        let read = read_hook(&folder, &hook, &mut hasher);
        if let Err(reason) = &read {
            hasher.update(reason.as_bytes());
        }
        let hash = hasher.finalize();
        found.insert((namespace.clone(), hook), Found { hash, hook: read });
    }
    match is_cut {
        true => Err(io::Error::other(format!(
            "it has {ENTRIES_MAX} entries or more, which is more than are looked at"
        ))),
        false => Ok(()),
    }
}

/// Nothing where there is no such thing; other errors say nothing about what is there.
fn if_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether `path` is a folder and not a link to one.
fn is_folder(path: &Path) -> io::Result<bool> {
    let found = if_there(std::fs::symlink_metadata(path))?;
    Ok(found.is_some_and(|found| found.is_dir()))
}

fn read_hook(folder: &Path, hook: &HookName, hasher: &mut blake3::Hasher) -> Result<FolderHook, String> {
    let text = read_text(&folder.join("hook.toml"), DESCRIPTION_BYTES_MAX, hasher)?;
    let description = Description::parse(&text)?;
    let module = module_of(folder, description.module.as_deref())?;
    let module = read(&module, MODULE_BYTES_MAX, hasher)?;
    let tests = folder.join("tests.json");
    let tests = match std::fs::symlink_metadata(&tests) {
        Ok(_) => Some(read_text(&tests, TESTS_BYTES_MAX, hasher)?),
        Err(_) => None,
    };
    description.complete(hook, module, tests)
}

/// The file that is named; else `hook.wat` or `hook.wasm`; else the only module there.
fn module_of(folder: &Path, named: Option<&str>) -> Result<PathBuf, String> {
    if let Some(name) = named {
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(format!(
                "hook.toml: module: `{name}` is not the name of a file beside it"
            ));
        }
        return Ok(folder.join(name));
    }
    let is_module = |path: &PathBuf| path.extension().is_some_and(|end| end == "wasm" || end == "wat");
    let modules = entries(folder).map_err(|error| format!("the folder cannot be read: {error}"))?;
    let modules: Vec<PathBuf> = modules.into_iter().filter(is_module).collect();
    for usual in ["hook.wat", "hook.wasm"] {
        let usual = folder.join(usual);
        if modules.contains(&usual) {
            return Ok(usual);
        }
    }
    match <[PathBuf; 1]>::try_from(modules) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => Err("there is no .wasm or .wat file beside hook.toml".to_owned()),
        Err(_) => Err("there are several modules; name one in hook.toml: module = \"…\"".to_owned()),
    }
}

/// The paths in a folder, in order.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.take(ENTRIES_MAX);
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

fn name_of<T: std::str::FromStr>(path: &Path) -> Option<T> {
    let name = path.file_name()?.to_str()?;
    // What is hidden is somebody's tool's: an editor's, a version control's, a mounted volume's.
    if name.starts_with('.') {
        None
    } else {
        name.parse().ok()
    }
}

fn read_text(path: &Path, limit: u64, hasher: &mut blake3::Hasher) -> Result<String, String> {
    let bytes = read(path, limit, hasher)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", shown(path)))
}

/// Reads a plain file of the folder: no link, which could lead out of it, and no pipe, which could block.
fn read(path: &Path, limit: u64, hasher: &mut blake3::Hasher) -> Result<Vec<u8>, String> {
    let name = shown(path);
    let failed = |error: io::Error| format!("{name} cannot be read: {error}");
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(format!("{name} is not a plain file; links are not followed"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name} is larger than {limit} bytes"));
    }
    // The length keeps one file's end from being taken for the next one's beginning.
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(&bytes);
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
