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

/// Most links that are followed from one file; as many as systems follow.
const LINKS_MAX: usize = 40;

/// The folders in which a change of one of `files` shows: each file's own, that of the file a link leads to, and
/// those of the links on the way to it, folders as well as files.
pub fn folders_of(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for file in files {
        folders.insert(folder_of(file));
        if let Ok(target) = file.canonicalize() {
            folders.insert(folder_of(&target));
        }
        add_links(file, &mut LINKS_MAX.clone(), &mut folders);
    }
    folders
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn add_links(path: &Path, left: &mut usize, folders: &mut BTreeSet<PathBuf>) {
    let mut walked = PathBuf::new();
    for component in path.components() {
        let from = walked.clone();
        walked.push(component);
        if *left > 0
            && let Ok(target) = std::fs::read_link(&walked)
        {
            *left -= 1;
            folders.insert(folder_of(&walked));
            add_links(&from.join(target), left, folders);
        }
    }
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
    fn a_link_to_a_folder_shows_where_the_link_is() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["etc", "releases", "releases/one"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("releases/one/mqueue.toml"), "").unwrap();
        symlink(at("releases/one"), at("releases/latest")).unwrap();
        symlink("../releases/latest", at("etc/current")).unwrap();
        let folders = folders_of(&[at("etc/current/mqueue.toml")]);
        let real = dir.path().canonicalize().unwrap();
        for folder in [at("etc"), at("etc/current"), real.join("releases/one")] {
            assert!(folders.contains(&folder), "{} in {folders:?}", folder.display());
        }
        let in_releases =
            |folder: &PathBuf| folder.canonicalize().is_ok_and(|at| at == real.join("releases"));
        assert!(folders.iter().any(in_releases), "{folders:?}");
        // Links that lead nowhere end somewhere.
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(folders_of(&[at("a/mqueue.toml")]).contains(dir.path()));
    }

    #[test]
    fn a_file_without_a_folder_is_in_the_working_folder() {
        let folders = folders_of(&["no-such.toml".into(), "/nowhere/x.toml".into()]);
        assert_eq!(folders, BTreeSet::from([".".into(), "/nowhere".into()]));
    }
}
