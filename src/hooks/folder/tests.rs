//! The folder, with everything that may go wrong in it.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::hooks::registry::tests::{Fixture, ada, name, ns};
use crate::hooks::registry::{Expected, NewVersion, Owner, RegistryError};

const BOUND: &str = "[manifest]\ndescription = \"d\"\n[config]\nlimit = 3\n[[bindings]]\ntopic = \"orders\"\nside = \"enqueue\"\n";

struct Bench {
    f: Fixture,
    root: TempDir,
    folder: HookFolder,
}

async fn bench() -> Bench {
    let f = Fixture::new().await;
    let root = TempDir::new().unwrap();
    let folder = HookFolder::new(root.path().to_owned(), f.registry.clone());
    Bench { f, root, folder }
}

impl Bench {
    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The version in force, and why the folder is refused.
    fn state(&self) -> (Option<u32>, Option<String>) {
        let hooks = self.f.registry.list(&ns());
        let rejected = hooks.into_iter().find_map(|hook| hook.rejected);
        (
            self.f.in_force().first().map(|bound| bound.active.hook.version),
            rejected,
        )
    }
}

#[tokio::test]
async fn a_hook_in_the_folder_is_in_force_and_follows_its_files() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    assert_eq!(b.state(), (Some(1), None));
    let view = b.f.registry.hook(&ns(), &name("tag")).unwrap();
    assert_eq!(
        (view.summary.owner, &*view.summary.description),
        (Owner::Folder, "d")
    );
    assert_eq!(&*view.versions[0].config["limit"], "3");
    b.folder.look().await;
    assert_eq!(view.versions.len(), 1);
    b.write("acme/tag/hook.wat", "two");
    b.folder.look().await;
    assert_eq!(b.state(), (Some(2), None));
    fs::remove_dir_all(b.root.path().join("acme/tag")).unwrap();
    b.folder.look().await;
    assert_eq!(b.state(), (None, None));
    // What is left is the API's.
    b.f.registry
        .delete_version(&ns(), &name("tag"), 1, &ada())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_cannot_be_taken_over_leaves_the_old_version_in_force_and_says_why() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    for (path, text, reason) in [
        ("acme/tag/hook.wat", "bad", "it is bad"),
        ("acme/tag/hook.toml", "[manifest]\nnonsense = 1\n", "line 2"),
        (
            "acme/tag/hook.toml",
            "module = \"../x.wasm\"\n",
            "not the name of a file",
        ),
        (
            "acme/tag/hook.toml",
            "module = \"gone.wasm\"\n",
            "gone.wasm cannot be read",
        ),
    ] {
        b.write(path, text);
        b.folder.look().await;
        let (version, rejected) = b.state();
        assert_eq!(version, Some(1), "{path}: {text}");
        let rejected = rejected.unwrap();
        assert!(rejected.contains(reason), "{rejected}");
        let log = b.f.registry.log(&ns(), &name("tag"), 0, 100);
        assert!(log.last().unwrap().message.contains(reason));
    }
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    assert_eq!(b.state(), (Some(1), None));
}

#[tokio::test]
async fn failed_tests_beside_it_keep_a_version_out() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "reject everything");
    b.write(
        "acme/tag/tests.json",
        r#"[{"name":"passes","side":"enqueue","item":{"text":"x"},"expect":{"verdict":"keep"}}]"#,
    );
    b.folder.look().await;
    let (version, rejected) = b.state();
    assert_eq!(version, None);
    assert!(rejected.unwrap().contains("passes"));
}

#[tokio::test]
async fn links_and_other_folders_are_passed_over() {
    let mut b = bench().await;
    let outside = TempDir::new().unwrap();
    fs::create_dir(outside.path().join("h")).unwrap();
    fs::write(outside.path().join("h/hook.toml"), BOUND).unwrap();
    fs::write(outside.path().join("h/hook.wat"), "one").unwrap();
    symlink(outside.path(), b.root.path().join("linked")).unwrap();
    fs::create_dir(b.root.path().join("acme")).unwrap();
    symlink(outside.path().join("h"), b.root.path().join("acme/linked")).unwrap();
    for folder in ["examples/tag", "sdk/tag", "a b/tag", "acme/no toml"] {
        b.write(&format!("{folder}/hook.wat"), "one");
    }
    b.write("examples/tag/hook.toml", BOUND);
    b.folder.look().await;
    assert_eq!(b.state(), (None, None));
    assert!(b.f.registry.list(&"linked".parse().unwrap()).is_empty());
    assert!(b.f.registry.list(&"examples".parse().unwrap()).is_empty());
    b.write("acme/tag/hook.toml", BOUND);
    symlink("/etc/passwd", b.root.path().join("acme/tag/hook.wat")).unwrap();
    b.folder.look().await;
    assert!(b.state().1.unwrap().contains("links are not followed"));
}

#[tokio::test]
async fn the_folder_and_the_api_keep_out_of_each_others_hooks() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.f.add("mine", "one").await;
    b.write("acme/mine/hook.toml", BOUND);
    b.write("acme/mine/hook.wat", "two");
    b.folder.look().await;
    let registry = &b.f.registry;
    let rejected = registry.hook(&ns(), &name("mine")).unwrap().summary.rejected;
    assert!(rejected.unwrap().contains("made over the API"));
    let module = b"three".to_vec();
    let version = NewVersion {
        module,
        ..NewVersion::default()
    };
    let any = Expected::Anything;
    let refused = [
        registry
            .add_version(&ns(), &name("tag"), version, &ada())
            .await
            .map(drop),
        registry.delete_version(&ns(), &name("tag"), 1, &ada()).await,
        registry.delete_binding(&ns(), &name("tag"), any, &ada()).await,
        registry
            .rollback(&ns(), &name("tag"), any, &ada())
            .await
            .map(drop),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(RegistryError::OwnedByFolder)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_looked_through_takes_no_hook_out_of_force() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    assert_eq!(b.state(), (Some(1), None));
    // The whole folder is away, as when a volume is not mounted.
    let aside = b.root.path().with_extension("aside");
    fs::rename(b.root.path(), &aside).unwrap();
    b.folder.look().await;
    assert_eq!(b.state(), (Some(1), None));
    let mut after = HookFolder::new(b.root.path().to_owned(), b.f.registry.clone());
    after.look().await;
    assert_eq!(b.state(), (Some(1), None), "after a restart neither");
    // It is back, with a hook less.
    fs::rename(&aside, b.root.path()).unwrap();
    fs::remove_dir_all(b.root.path().join("acme/tag")).unwrap();
    b.folder.look().await;
    assert_eq!(b.state(), (None, None));
}

#[tokio::test]
async fn a_hook_that_left_the_folder_while_the_node_was_down_is_unbound() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    fs::remove_dir_all(b.root.path().join("acme/tag")).unwrap();
    let after = b.f.again().await;
    assert_eq!(after.in_force().len(), 1);
    HookFolder::new(b.root.path().to_owned(), after.registry.clone())
        .look()
        .await;
    assert!(after.in_force().is_empty());
}

#[tokio::test]
async fn an_empty_folder_takes_no_hook_out_of_force() {
    let mut b = bench().await;
    b.write("acme/tag/hook.toml", BOUND);
    b.write("acme/tag/hook.wat", "one");
    b.folder.look().await;
    // A mount point without its volume.
    let aside = TempDir::new().unwrap();
    fs::rename(b.root.path().join("acme"), aside.path().join("acme")).unwrap();
    b.folder.look().await;
    assert_eq!(b.state(), (Some(1), None));
    HookFolder::new(b.root.path().to_owned(), b.f.registry.clone())
        .look()
        .await;
    assert_eq!(b.state(), (Some(1), None), "after a restart neither");
    // Whoever means it leaves the namespace's folder.
    fs::create_dir(b.root.path().join("acme")).unwrap();
    b.folder.look().await;
    assert_eq!(b.state(), (None, None));
}

#[tokio::test]
async fn one_namespaces_folder_that_cannot_be_read_whole_holds_up_no_other() {
    let mut b = bench().await;
    for namespace in ["acme", "crowd"] {
        b.write(&format!("{namespace}/tag/hook.toml"), BOUND);
        b.write(&format!("{namespace}/tag/hook.wat"), "one");
    }
    b.folder.look().await;
    let crowd = "crowd".parse().unwrap();
    let bound = |b: &Bench| b.f.registry.bindings(&crowd).len();
    assert_eq!((b.state().0, bound(&b)), (Some(1), 1));
    // More than is looked at; what is beyond may be the hook.
    for number in 0..10_000 {
        b.write(&format!("crowd/n{number}"), "");
    }
    fs::remove_dir_all(b.root.path().join("crowd/tag")).unwrap();
    b.write("acme/tag/hook.wat", "two");
    b.folder.look().await;
    assert_eq!((b.state().0, bound(&b)), (Some(2), 1));
    fs::remove_dir_all(b.root.path().join("crowd")).unwrap();
    b.folder.look().await;
    assert_eq!((b.state().0, bound(&b)), (Some(2), 0));
}
