//! What happens to hooks when the files beneath them are damaged, against a real server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::text;
use crate::guests::{Guest, UPPER};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

const SHOUT: Guest<'_> = Guest {
    imports: "",
    fields: "",
    body: "",
    item: UPPER,
};

/// What becomes of `word` on its way through the topic.
async fn passed(hooks: &Hooks, word: &str) -> String {
    hooks.enqueue("t", json!([{ "text": word }])).await.ok();
    text(&hooks.dequeue("t").await[0]).to_owned()
}

/// The regular files below `folder`, the largest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

#[tokio::test]
async fn a_damaged_cache_of_compiled_hooks_costs_a_compilation_and_nothing_else() {
    let mut server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks.put("shout", Side::Enqueue, SHOUT, json!({})).await;
    assert_eq!(passed(&hooks, "one").await, "ONE");
    let cache = server.dir().join("data/hooks-cache");
    let half = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let flipped = |path: &Path| {
        let bytes: Vec<u8> = fs::read(path).unwrap().iter().map(|byte| !byte).collect();
        fs::write(path, bytes).unwrap();
    };
    let damages: [&dyn Fn(&Path); 2] = [&half, &flipped];
    for (round, damage) in damages.into_iter().enumerate() {
        assert!(server.terminate().await.success());
        let found = files(&cache);
        assert!(!found.is_empty());
        found.iter().for_each(|path| damage(path));
        server.start_again().await;
        let hooks = Hooks::of(&server.client(), "default");
        // Until the hook is compiled again its calls are refused, and the refusal says to come again.
        let mut tries = 0;
        loop {
            let reply = hooks.enqueue("t", json!([{"text": "two"}])).await;
            if reply.status == 200 {
                break;
            }
            assert_eq!(reply.status, 503, "{}", reply.text);
            tries += 1;
            assert!(tries < 600, "round {round}: the hook does not come back");
            hooks
                .client
                .topic("idle")
                .dequeue_as(json!({"wait_ms": 100}))
                .await;
        }
        assert_eq!(text(&hooks.dequeue("t").await[0]), "TWO", "round {round}");
    }
}

/// Waits until the server's view of a hook is as wanted.
async fn becomes(hooks: &Hooks, hook: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..300 {
        let reply = hooks.client.get(&hooks.at(&format!("hooks/{hook}"))).await;
        if reply.status == 200 && wanted(&reply.json()) {
            return reply.json();
        }
        hooks
            .client
            .topic("idle")
            .dequeue_as(json!({"wait_ms": 100}))
            .await;
    }
    panic!(
        "{hook} is not as wanted: {}",
        hooks.client.get(&hooks.at(&format!("hooks/{hook}"))).await.text
    );
}

#[tokio::test]
async fn nothing_in_the_plugins_folder_breaks_what_is_in_force() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    const BOUND: &str = "[[bindings]]\ntopic = \"t\"\nside = \"enqueue\"\n";
    write("default/shout/hook.toml", BOUND);
    write("default/shout/hook.wat", &SHOUT.enqueue());
    let folder = root.path().to_str().unwrap();
    let server = Server::setup().set("hooks.folder", folder).start().await;
    let hooks = Hooks::of(&server.client(), "default");
    becomes(&hooks, "shout", |hook| hook["bindings"] != json!([])).await;
    assert_eq!(passed(&hooks, "one").await, "ONE");

    // Half of a file, as an interrupted copy leaves it.
    let whole = SHOUT.enqueue();
    write("default/shout/hook.wat", &whole[..whole.len() / 2]);
    let refused = becomes(&hooks, "shout", |hook| hook["rejected"].is_string()).await;
    assert!(refused["rejected"].as_str().unwrap().len() > 10, "{refused}");
    assert_eq!(passed(&hooks, "two").await, "TWO");

    // Links, strange names and a crowd of folders: none of it is a hook, none of it is read.
    symlink("/etc/passwd", root.path().join("default/passwd")).unwrap();
    fs::create_dir_all(root.path().join("default/link")).unwrap();
    write("default/link/hook.toml", BOUND);
    symlink("/etc/passwd", root.path().join("default/link/hook.wat")).unwrap();
    write("default/..hidden/hook.toml", BOUND);
    write("default/a b/hook.toml", BOUND);
    for number in 0..10_000 {
        write(&format!("crowd/n{number}"), "");
    }
    write("default/shout/hook.wat", &whole);
    becomes(&hooks, "shout", |hook| hook["rejected"].is_null()).await;
    let link = becomes(&hooks, "link", |hook| hook["rejected"].is_string()).await;
    assert!(!link.to_string().contains("root:"), "{link}");
    let listed = hooks.client.get(&hooks.at("hooks")).await.ok();
    assert!(
        !listed.to_string().contains("hidden") && !listed.to_string().contains("a b"),
        "{listed}"
    );
    assert_eq!(passed(&hooks, "three").await, "THREE");

    // A file that goes while it is compiled, which takes this one some time.
    let many =
        "(func (param i64) (result i64) (i64.mul (local.get 0) (i64.rotl (local.get 0) (i64.const 7))))";
    let large = Guest {
        fields: &many.repeat(5_000),
        ..SHOUT
    };
    write("default/shout/hook.wat", &large.enqueue());
    hooks
        .client
        .topic("idle")
        .dequeue_as(json!({"wait_ms": 400}))
        .await;
    fs::remove_file(root.path().join("default/shout/hook.wat")).unwrap();
    becomes(&hooks, "shout", |hook| hook["rejected"].is_string()).await;
    assert_eq!(passed(&hooks, "still").await, "STILL");
    write("default/shout/hook.wat", &whole);
    becomes(&hooks, "shout", |hook| hook["rejected"].is_null()).await;

    // What is taken away is in force no more.
    fs::remove_dir_all(root.path().join("default/shout")).unwrap();
    becomes(&hooks, "shout", |hook| hook["bindings"] == json!([])).await;
    assert_eq!(passed(&hooks, "four").await, "four");
}

#[tokio::test]
async fn a_plugins_folder_that_is_made_late_is_found_and_its_loss_takes_nothing_away() {
    let aside = tempfile::tempdir().unwrap();
    let root = aside.path().join("plugins");
    let server = Server::setup()
        .set("hooks.folder", root.to_str().unwrap())
        .start()
        .await;
    let hooks = Hooks::of(&server.client(), "default");
    assert_eq!(passed(&hooks, "one").await, "one");
    let folder = root.join("default/shout");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hook.wat"), SHOUT.enqueue()).unwrap();
    let bound = "[[bindings]]\ntopic = \"t\"\nside = \"enqueue\"\n";
    fs::write(folder.join("hook.toml"), bound).unwrap();
    becomes(&hooks, "shout", |hook| hook["bindings"] != json!([])).await;
    assert_eq!(passed(&hooks, "two").await, "TWO");
    // As when a volume is not mounted any more; it is looked through every two seconds.
    fs::rename(&root, aside.path().join("away")).unwrap();
    for _ in 0..30 {
        hooks
            .client
            .topic("idle")
            .dequeue_as(json!({"wait_ms": 100}))
            .await;
    }
    assert_eq!(passed(&hooks, "three").await, "THREE");
}
