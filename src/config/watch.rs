//! Notices changes of the files that a configuration is made of.
//!
//! Folders are watched, not files: an editor, `mv`, and the swapped links of a mounted volume all put another
//! file under the old name, and a watch on the file itself would stay with the one that is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};

/// How long files must have been left alone: whoever writes two of them, or one in parts, is waited for.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Why changes cannot be noticed.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {folder}: {reason}")]
pub struct WatchError {
    folder: String,
    reason: String,
}

/// Watches folders for as long as it is there.
pub struct FolderWatch {
    _debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
}

impl std::fmt::Debug for FolderWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FolderWatch")
    }
}

impl FolderWatch {
    /// Calls `changed`, on a thread of its own, shortly after something in one of `folders` changed.
    ///
    /// # Errors
    /// When the system refuses a watch; folders that are not there are passed over.
    pub fn start(
        folders: &BTreeSet<PathBuf>,
        changed: impl Fn() + Send + 'static,
    ) -> Result<Self, WatchError> {
        let failed = |folder: &Path, error: notify::Error| WatchError {
            folder: folder.display().to_string(),
            reason: error.to_string(),
        };
        let notice = move |result: DebounceEventResult| {
            // Reading the files is no change of them.
            let is_change = match &result {
                Ok(events) => events.iter().any(|event| !event.kind.is_access()),
                Err(_) => true,
            };
            if is_change {
                changed();
            }
        };
        let mut debouncer =
            new_debouncer(DEBOUNCE, None, notice).map_err(|error| failed(Path::new("anything"), error))?;
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            debouncer
                .watch(folder, RecursiveMode::NonRecursive)
                .map_err(|error| failed(folder, error))?;
        }
        Ok(Self {
            _debouncer: debouncer,
        })
    }
}

/// The folders in which a change of one of `files` shows: each file's own, and that of the file a link leads to.
pub fn folders_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut folders = BTreeSet::new();
    for file in files {
        folders.insert(folder(file));
        if let Ok(target) = file.canonicalize() {
            folders.insert(folder(&target));
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_way_to_replace_a_file_is_noticed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["..one", "..two"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("mqueue.toml"), version).unwrap();
        }
        symlink("..one", at("..data")).unwrap();
        symlink("..data/mqueue.toml", at("mqueue.toml")).unwrap();
        let (noticed, notices) = mpsc::channel();
        let folders = folders_of(&[at("mqueue.toml")]);
        let _watch = FolderWatch::start(&folders, move || noticed.send(()).unwrap()).unwrap();
        let wait = || notices.recv_timeout(Duration::from_secs(30)).unwrap();

        // As a mounted volume does it: a new link is made and renamed over the old one.
        symlink("..two", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        wait();
        assert_eq!(std::fs::read_to_string(at("mqueue.toml")).unwrap(), "..two");
        // As editors do it: another file is written and renamed over the old one.
        std::fs::write(at("mqueue.toml~"), "three").unwrap();
        std::fs::rename(at("mqueue.toml~"), at("mqueue.toml")).unwrap();
        wait();
        // In place.
        std::fs::write(at("mqueue.toml"), "four").unwrap();
        wait();
    }

    #[test]
    fn a_file_without_a_folder_is_in_the_working_folder() {
        let folders = folders_of(&["no-such.toml".into(), "/nowhere/x.toml".into()]);
        assert_eq!(folders, BTreeSet::from([".".into(), "/nowhere".into()]));
    }
}
