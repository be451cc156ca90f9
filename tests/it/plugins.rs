//! The examples in `plugins`: what is committed is made of the sources beside it, and does what its tests say.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::documents::root;

#[derive(Deserialize)]
struct Manifest {
    hooks: BTreeMap<String, Artefact>,
}

#[derive(Deserialize)]
struct Artefact {
    sha256: String,
    inputs: BTreeMap<String, String>,
}

fn sha256(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs an example on its `tests.json`, as its author would.
fn passes(example: &str, module: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_mqueue"))
        .current_dir(root())
        .args([
            "hooks",
            "test",
            &format!("plugins/examples/{example}"),
            "--module",
            module,
        ])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {printed}{errors}");
    assert!(printed.contains(" passed, 0 failed"), "{example}: {printed}");
}

#[test]
fn the_artefacts_are_made_of_their_sources_and_work() {
    let text = fs::read_to_string(root().join("plugins/artefacts/manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = manifest.hooks.keys().map(String::as_str).collect();
    assert_eq!(names, ["redact", "split", "validate"]);
    for (name, artefact) in &manifest.hooks {
        let module = format!("plugins/artefacts/{name}.wasm");
        assert_eq!(
            sha256(&module),
            artefact.sha256,
            "{module} changed: run plugins/build"
        );
        assert!(artefact.inputs.contains_key("plugins/wit/hooks.wit"));
        for (path, hash) in &artefact.inputs {
            assert_eq!(
                &sha256(path),
                hash,
                "{path} changed since {module} was built: run plugins/build"
            );
        }
        passes(name, &module);
    }
}

#[test]
fn the_examples_in_text_work() {
    for name in ["maintenance", "size"] {
        passes(name, &format!("plugins/examples/{name}/hook.wat"));
    }
}

#[test]
fn a_new_hook_passes_its_tests() {
    let dir = tempfile::tempdir().unwrap();
    for side in ["enqueue", "dequeue"] {
        let mqueue = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mqueue"));
            let output = command.current_dir(dir.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        };
        mqueue(&["hooks", "new", side, "--side", side]);
        mqueue(&["hooks", "test", side]);
        // A test that cannot fail would show nothing.
        let wat = dir.path().join(side).join("hook.wat");
        let text = fs::read_to_string(&wat).unwrap().replace(
            "(i32.eqz (i32.load offset=68",
            "(i32.ne (i32.const 0) (i32.load offset=68",
        );
        fs::write(&wat, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqueue"));
        let output = command
            .current_dir(dir.path())
            .args(["hooks", "test", side])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}
