//! Every command that a document shows is run by a test, or is in a list here with why it cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::documents::{document, root};
use crate::readme::{Node, TYPED, bash, blocks, is_as_shown};

const BINARY: &str = env!("CARGO_BIN_EXE_mqueue");

/// What blocks of commands are fenced as.
const SHELLS: &[&str] = &["sh", "bash", "console"];
/// What other blocks are fenced as.
const OTHERS: &[&str] = &["go", "json", "python", "rust", "text", "toml", "typescript"];

/// Documents, and kinds of their blocks, that other tests run.
const RUN_ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    // Document, kind, the test, and what shows that it is about the document.
    (
        "docs/CLIENTS.md",
        "sh",
        "tests/clients/recipes.test.mjs",
        "docs/CLIENTS.md",
    ),
    (
        "docs/PERFORMANCE.md",
        "bash",
        "tests/it/readme.rs",
        "docs/PERFORMANCE.md",
    ),
    (
        "docs/OPERATIONS.md",
        "bash",
        "tests/it/typed.rs",
        "fn a_secret_made_as_shown",
    ),
    (
        "docs/HOOKS.md",
        "console",
        "tests/it/typed.rs",
        "fn a_hook_begins_in_every_language",
    ),
    (
        "plugins/templates/README.md",
        "sh",
        "tests/it/typed.rs",
        "fn the_readme_of_a_new_hook",
    ),
    (
        "plugins/examples/maintenance/README.md",
        "sh",
        "tests/it/typed.rs",
        "fn the_examples_in_text",
    ),
    (
        "plugins/examples/size/README.md",
        "sh",
        "tests/it/typed.rs",
        "fn the_examples_in_text",
    ),
];

/// A block that no test runs as it stands.
struct Unrun {
    document: &'static str,
    /// How it begins.
    begins: &'static str,
    /// Why it is not run.
    why: &'static str,
    /// Files that show that what it names is there, each with a part of its text.
    rests_on: &'static [(&'static str, &'static str)],
}

const RUST_GUEST: &str = "needs Rust's target for WebAssembly: plugins/build runs the same, and what it built passes in plugins.rs";

const UNRUN: &[Unrun] = &[
    Unrun {
        document: "ARCHITECTURE.md",
        begins: "MQUEUE_CLUSTER_ROUNDS=5000",
        why: "takes hours; ./test runs the same tests with fewer rounds",
        rests_on: &[
            ("tests/it/cluster.rs", "\"MQUEUE_CLUSTER_ROUNDS\""),
            ("tests/it/crash.rs", "\"MQUEUE_CRASH_ROUNDS\""),
        ],
    },
    Unrun {
        document: "ARCHITECTURE.md",
        begins: "tests/every_store.sh",
        why: "takes four times as long as ./test; a test holds that its list is right",
        rests_on: &[("tests/every_store.sh", "redis+sqlite")],
    },
    Unrun {
        document: "docs/PERFORMANCE.md",
        begins: "cargo nextest run --no-capture",
        why: "is a part of ./test, which runs it",
        rests_on: &[
            ("tests/it/main.rs", "mod hook_abuse;"),
            ("tests/it/main.rs", "mod hook_siege;"),
        ],
    },
    Unrun {
        document: "docs/CLIENTS.md",
        begins: "pip install openapi-python-client",
        why: "installs what the tests of clients install by their own lists",
        rests_on: &[("tests/clients/requirements.txt", "openapi-python-client==")],
    },
    Unrun {
        document: "docs/CLIENTS.md",
        begins: "npm install openapi-fetch",
        why: "installs what the tests of clients install by their own lists",
        rests_on: &[
            ("tests/clients/package.json", "\"openapi-fetch\""),
            ("tests/clients/package.json", "\"openapi-typescript\""),
            ("tests/clients/package.json", "\"typescript\""),
            ("tests/clients/package.json", "\"@types/node\""),
        ],
    },
    Unrun {
        document: "docs/CLIENTS.md",
        begins: "pip install openapi-generator-cli",
        why: "installs what the tests of clients install by their own lists",
        rests_on: &[("tests/clients/requirements.txt", "openapi-generator-cli==")],
    },
    Unrun {
        document: "plugins/examples/redact/README.md",
        begins: "cargo test",
        why: RUST_GUEST,
        rests_on: &[("plugins/artefacts/manifest.json", "\"redact\"")],
    },
    Unrun {
        document: "plugins/examples/split/README.md",
        begins: "cargo test",
        why: RUST_GUEST,
        rests_on: &[("plugins/artefacts/manifest.json", "\"split\"")],
    },
    Unrun {
        document: "plugins/examples/validate/README.md",
        begins: "cargo test",
        why: RUST_GUEST,
        rests_on: &[("plugins/artefacts/manifest.json", "\"validate\"")],
    },
    Unrun {
        document: "plugins/examples/triage/README.md",
        begins: "mqueue hooks build",
        why: "installs componentize-js; plugins/build runs the same",
        rests_on: &[("plugins/toolchains/js/package.json", "componentize-js")],
    },
    Unrun {
        document: "plugins/examples/upgrade/README.md",
        begins: "mqueue hooks build",
        why: "installs componentize-py; plugins/build runs the same",
        rests_on: &[("plugins/toolchains/python/requirements.txt", "componentize-py")],
    },
];

/// Every document below the root, by its path from there.
fn documents() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().unwrap().is_dir() {
                let is_made = matches!(&*name, "target" | "node_modules" | "data") || name.starts_with('.');
                if !is_made {
                    walk(&path, found);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    let names = found.iter().map(|path| path.strip_prefix(root()).unwrap());
    let mut names: Vec<String> = names.map(|path| path.to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let names = documents();
    assert!(names.len() >= 18, "{names:?}");
    let mut listed = BTreeSet::new();
    let mut count = 0;
    for name in &names {
        let text = document(name);
        let hidden = text
            .lines()
            .find(|line| line.starts_with(' ') && line.trim_start().starts_with("```"));
        assert_eq!(hidden, None, "{name}: an indented block is not looked at");
        for block in blocks(&text) {
            let kind = block.kind.split(' ').next().unwrap();
            let begins = block.text.lines().next().unwrap_or_default();
            if !SHELLS.contains(&kind) {
                assert!(
                    OTHERS.contains(&kind),
                    "{name}: what is `{kind}`, fenced around {begins:?}?"
                );
                continue;
            }
            count += 1;
            let is_typed = kind == "sh" && TYPED.contains(&name.as_str());
            let elsewhere = |(of, of_kind, ..): &&(&str, &str, &str, &str)| of == name && *of_kind == kind;
            let unrun = |entry: &&Unrun| entry.document == name && begins.starts_with(entry.begins);
            let unrun = UNRUN.iter().find(unrun);
            if let Some(entry) = unrun {
                listed.insert((entry.document, entry.begins));
                is_right(name, &block.text);
            } else if let Some((.., test, shows)) = RUN_ELSEWHERE.iter().find(elsewhere) {
                assert!(document(test).contains(shows), "{test} says nothing of {name}");
            } else {
                assert!(
                    is_typed,
                    "{name}: no test runs\n{}\nand UNRUN does not say why",
                    block.text
                );
            }
        }
    }
    assert!(count >= 85, "{count} blocks");
    for Unrun {
        document: name,
        begins,
        why,
        rests_on,
    } in UNRUN
    {
        assert!(
            listed.contains(&(*name, *begins)),
            "{name} has no block {begins:?}: {why}"
        );
        for (file, part) in *rests_on {
            assert!(document(file).contains(part), "{name}: {file} has no {part}");
        }
    }
}

/// As far as can be told without running it: bash reads it, and the program knows the commands and flags.
fn is_right(name: &str, commands: &str) {
    let output = Command::new("bash")
        .args(["-n", "-c", commands])
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {commands}\n{output:?}");
    let mut known = Known::default();
    for line in commands.lines() {
        let line = line.split(" #").next().unwrap();
        for command in line.split("&&").map(str::trim) {
            if let Some(words) = command.strip_prefix("mqueue ") {
                known.hold(name, words);
            }
        }
    }
}

/// Helps of commands, by the words that lead to them.
#[derive(Default)]
struct Known(BTreeMap<String, String>);

impl Known {
    /// Holds that the program has the command that `words` call and the flags among them.
    fn hold(&mut self, place: &str, words: &str) {
        // `help` leads to the help of what follows.
        let words = words.strip_prefix("help ").unwrap_or(words);
        let words: Vec<&str> = words.split_whitespace().collect();
        let is_word =
            |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
        let path: Vec<&str> = words.iter().take_while(is_word).copied().collect();
        let help = self.0.entry(path.join(" ")).or_insert_with(|| {
            let output = Command::new(BINARY).args(&path).arg("--help").output().unwrap();
            assert!(output.status.success(), "{place}: mqueue {path:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        });
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            let is_there = help
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                .any(|word| word == flag);
            assert!(is_there, "{place}: mqueue {path:?} has no {flag}\n{help}");
        }
    }
}

#[test]
fn every_command_named_in_a_sentence_is_there() {
    let mut known = Known::default();
    let mut count = 0;
    for name in documents() {
        let text = document(&name);
        // What stands between fences is looked at elsewhere.
        let parts = text.split("```").step_by(2);
        let spans: Vec<&str> = parts
            .flat_map(|part| part.split('`').skip(1).step_by(2))
            .collect();
        for span in spans {
            let words = span.strip_prefix("./target/release/").unwrap_or(span);
            if let Some(words) = words.strip_prefix("mqueue ") {
                known.hold(&name, words);
                count += 1;
            }
        }
    }
    assert!(count >= 60, "{count} commands");
}

/// A folder with `mqueue` to be found, and what is run there.
fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("bin")).unwrap();
    symlink(BINARY, dir.path().join("bin/mqueue")).unwrap();
    dir
}

fn succeeds(what: &str, output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}\n{printed}\n{errors}");
    printed
}

fn shell_blocks(name: &str, kind: &str) -> Vec<String> {
    let text = document(name);
    let of_kind = blocks(&text).into_iter().filter(|block| block.kind == kind);
    of_kind.map(|block| block.text).collect()
}

#[test]
fn the_examples_in_text_are_tested_as_their_readmes_say() {
    for example in ["maintenance", "size"] {
        let dir = workshop();
        let from = root().join("plugins/examples").join(example);
        for entry in fs::read_dir(&from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let [commands] = &shell_blocks(&format!("plugins/examples/{example}/README.md"), "sh")[..] else {
            panic!("one block in the README of {example}");
        };
        let printed = succeeds(commands, &bash(dir.path(), commands).output().unwrap());
        assert!(printed.contains(" passed, 0 failed"), "{printed}");
    }
}

/// What `hooks new` makes says how to go on: the commands of that README run from top to bottom, but for following
/// the log, which has no end.
#[test]
fn the_readme_of_a_new_hook_works_as_typed() {
    const FOLLOW: &str = "mqueue hooks logs first --follow";
    let node = Node::start();
    let url = format!("http://{}", node.address);
    symlink(BINARY, node.dir.path().join("bin/mqueue")).unwrap();
    let in_folder = |folder: &str, script: &str| {
        let script = format!("set -euo pipefail\ncd {folder}\n{script}");
        let output = bash(node.dir.path(), &script).env("MQUEUE_URL", &url).output();
        succeeds(&script, &output.unwrap())
    };
    in_folder(".", "mqueue hooks new first");
    let readme = fs::read_to_string(node.dir.path().join("first/README.md")).unwrap();
    let [block] = &blocks(&readme)[..] else {
        panic!("one block in {readme}");
    };
    let ends = format!("timeout 2 {FOLLOW} || [ $? = 124 ]");
    let commands = block.text.replace(FOLLOW, &ends);
    assert_ne!(commands, block.text, "the README follows the log");
    // There are items to look at, and a server elsewhere would want a token.
    in_folder(".", "mqueue enqueue orders hello");
    let printed = in_folder(
        "first",
        &format!(
            "export MQUEUE_DATA_DIR={}/data\n{commands}",
            node.dir.path().display()
        ),
    );
    assert!(printed.contains(" passed, 0 failed"), "{printed}");
    let refused = in_folder(".", "mqueue enqueue orders '' 2>&1 || echo refused");
    assert!(refused.contains("refused"), "{refused}");
}

/// The folder for each language is there and has what the commands after it need.
#[test]
fn a_hook_begins_in_every_language_as_the_tutorial_shows() {
    let block = shell_blocks("docs/HOOKS.md", "console").join("\n");
    let (news, rest): (Vec<&str>, Vec<&str>) = block
        .lines()
        .partition(|line| line.starts_with("mqueue hooks new "));
    assert_eq!((news.len(), rest.len()), (3, 1), "{block}");
    for new in news {
        let dir = workshop();
        succeeds(new, &bash(dir.path(), new).output().unwrap());
        let there = fs::read_dir(dir.path().join("filter")).unwrap().count();
        assert!(there >= 5, "{new} made {there} files");
        is_right("docs/HOOKS.md", rest[0]);
    }
}

/// Without an engine for containers: what `docker` would run in the node's is run here instead.
#[test]
fn a_secret_made_as_shown_is_one_that_a_node_takes() {
    let dir = workshop();
    let docker = dir.path().join("bin/docker");
    let script = "#!/bin/sh\ncase \"$*\" in\n'compose up --build -d') exec mqueue config check ;;\n\
                  'compose exec mqueue mqueue '*) shift 3; exec \"$@\" ;;\n*) exit 64 ;;\nesac\n";
    fs::write(&docker, script).unwrap();
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        document("docker-compose.yml").contains("\n  mqueue:\n"),
        "a service of that name"
    );
    let [commands] = &shell_blocks("docs/OPERATIONS.md", "bash")[..] else {
        panic!("one block fenced as bash");
    };
    let script = format!("set -euo pipefail\n{commands}\necho \"$TOKEN\"");
    let printed = succeeds(commands, &bash(dir.path(), &script).output().unwrap());
    assert!(is_as_shown("…eyJ….….…", &printed), "{printed}");
}
