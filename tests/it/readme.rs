//! The commands of README.md and the documents, run as a reader would type them.
//!
//! `tests/it/typed.rs` holds that no document has commands that no test runs.
//!
//! Every block fenced as `sh` runs, in order, in one bash, so that variables carry over, in a folder of its
//! own with a node of its own. A block fenced as `json` or `text` right after it is what it must print: white
//! space is free and `…` stands for anything. Blocks fenced otherwise are for reading.
//!
//! Three things differ from the reader's machine. `cargo run --release`, which must be a block by itself,
//! starts the binary under test instead of building one; `./target/release/mqueue` is a link to the same; and
//! port 8080 is replaced by the free port that the node took.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use mqueue::clock::Stopwatch;
use mqueue::telemetry::catalogue::METRICS;
use tempfile::TempDir;

use crate::documents::{document, root};

/// What starts the node.
const START: &str = "cargo run --release";
/// Where the documents say the node is.
const ADDRESS: &str = "127.0.0.1:8080";
const BINARY: &str = env!("CARGO_BIN_EXE_mqueue");

/// A block of commands and what it must print.
struct Step {
    commands: String,
    shown: Option<String>,
}

/// A node in a folder of its own, started by the documents' own command.
pub struct Node {
    pub dir: TempDir,
    child: Child,
    pub address: String,
}

/// A fenced block: what it is fenced as, its text, and whether only blank lines stand before it since the
/// block before.
pub struct Block<'a> {
    pub kind: &'a str,
    pub text: String,
    follows: bool,
}

pub fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    let mut follows = false;
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                kind,
                text: text.join("\n"),
                follows,
            });
            follows = true;
        } else if !line.is_empty() {
            follows = false;
        }
    }
    blocks
}

/// The blocks to run, each with what it must print.
fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut before_is_step = false;
    for block in blocks(document) {
        match block.kind {
            "sh" => steps.push(Step {
                commands: block.text,
                shown: None,
            }),
            "json" | "text" if block.follows && before_is_step => {
                if let Some(step) = steps.last_mut() {
                    step.shown = Some(block.text);
                }
            }
            _ => {}
        }
        before_is_step = block.kind == "sh";
    }
    steps
}

/// Whether `printed` is what the document shows.
pub fn is_as_shown(shown: &str, printed: &str) -> bool {
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let (shown, printed) = (bare(shown), bare(printed));
    let mut rest = printed.as_str();
    let mut parts = shown.split('…').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        rest = match (is_first, is_last) {
            (true, true) => return rest == part,
            (true, false) => match rest.strip_prefix(part) {
                Some(rest) => rest,
                None => return false,
            },
            (false, true) => return rest.ends_with(part),
            (false, false) => match rest.find(part) {
                Some(at) => &rest[at + part.len()..],
                None => return false,
            },
        };
        is_first = false;
    }
    true
}

/// A command for bash in `dir`, where `bin` has what it finds first: `cargo` is the binary under test and nothing else is inherited.
pub fn bash(dir: &Path, script: &str) -> Command {
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(script)
        .current_dir(dir)
        .env_clear()
        .env("PATH", format!("{}:{path}", dir.join("bin").display()))
        .env("MQUEUE_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    command
}

impl Node {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cargo = dir.path().join("bin/cargo");
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        fs::create_dir_all(dir.path().join("target/release")).unwrap();
        symlink(BINARY, dir.path().join("target/release/mqueue")).unwrap();
        symlink(root().join("plugins"), dir.path().join("plugins")).unwrap();
        let script = format!("#!/bin/sh\n[ \"cargo $*\" = '{START}' ] || exit 64\nexec '{BINARY}'\n");
        fs::write(&cargo, script).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = bash(dir.path(), &format!("exec {START}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the node ended: {said}");
            let at = line
                .split("\"address\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            if let Some(address) = at {
                break address.to_owned();
            }
            said.push_str(&line);
        };
        // A full pipe would stop the node.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { dir, child, address }
    }

    /// Runs the steps in one bash and holds that each succeeds and prints what it shows.
    fn run(&self, name: &str, steps: &[Step]) {
        let mut script = String::from("set -euo pipefail\n");
        for step in steps {
            script.push_str(&step.commands.replace(ADDRESS, &self.address));
            script.push_str("\nprintf '\\n\\036\\n'\n");
        }
        let output = bash(self.dir.path(), &script)
            .env("MQUEUE_URL", format!("http://{}", self.address))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let printed: Vec<&str> = printed.split("\n\u{1e}\n").collect();
        for (step, printed) in steps.iter().zip(&printed) {
            if let Some(shown) = &step.shown {
                let commands = &step.commands;
                assert!(
                    is_as_shown(shown, printed),
                    "{name}:\n{commands}\nshows\n{shown}\nbut printed\n{printed}\n{errors}"
                );
            }
        }
        let done = printed.len() - 1;
        let failed = steps
            .get(done)
            .map(|step| step.commands.as_str())
            .unwrap_or_default();
        assert!(
            output.status.success() && done == steps.len(),
            "{name}: failed\n{failed}\n{errors}"
        );
    }

    /// What the node answers to `GET path`.
    fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        let output = bash(self.dir.path(), &format!("curl -fsS {url}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a document on a fresh node; at least `least` of its blocks are commands.
fn run_document(name: &str, least: usize) {
    let mut steps = steps(&document(name));
    let all = steps.len();
    steps.retain(|step| step.commands.trim() != START);
    assert!(steps.len() >= least, "{name} has {} blocks to run", steps.len());
    if name == "README.md" {
        assert_eq!(all - steps.len(), 1, "{name} starts the node once, by `{START}`");
    }
    Node::start().run(name, &steps);
}

/// A test for each document whose blocks fenced as `sh` all run, and the list of these documents.
macro_rules! typed {
    ($($test:ident: $name:literal, $least:literal;)*) => {
        pub const TYPED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { run_document($name, $least); })*
    };
}

typed! {
    the_readme_works_as_typed: "README.md", 6;
    the_api_by_example_works_as_typed: "docs/API.md", 20;
    the_command_line_by_example_works_as_typed: "docs/CLI.md", 5;
    the_tutorial_of_hooks_works_as_typed: "docs/HOOKS.md", 6;
    the_operations_guide_works_as_typed: "docs/OPERATIONS.md", 2;
}

/// What it shows takes minutes and says nothing on a busy machine: each command of the load generator runs as it is
/// typed, but for a moment, and what else is named is there.
#[test]
fn the_performance_pages_commands_are_there_and_run() {
    let page = document("docs/PERFORMANCE.md");
    let of_bash = blocks(&page).into_iter().filter(|block| block.kind == "bash");
    let text: Vec<String> = of_bash.map(|block| block.text).collect();
    let text = text.join("\n");
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim)
        .collect();
    let node = Node::start();
    let is_bench = |line: &&&str| line.starts_with("./target/release/mqueue bench");
    let mut ran = 0;
    for command in commands.iter().filter(is_bench) {
        let brief = command.replace("/tmp/bench", "data");
        let script = format!("{brief} -d 200ms --connections 2 --output json");
        let output = bash(node.dir.path(), &script)
            .env("MQUEUE_URL", format!("http://{}", node.address))
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(said["items_per_s"].as_f64().unwrap() > 0.0, "{script}: {said}");
        ran += 1;
    }
    assert!(ran >= 4, "{ran} commands of the load generator");
    let after = |word: &str| -> Vec<String> {
        let words = page
            .split(|c: char| c.is_whitespace() || c == '`')
            .collect::<Vec<_>>();
        let named = words.windows(2).filter(|pair| pair[0] == word);
        named.map(|pair| pair[1].to_owned()).collect()
    };
    let scripts = after("python3").into_iter();
    let examples = after("--example")
        .into_iter()
        .map(|name| format!("examples/{name}.rs"));
    let benches = after("--bench")
        .into_iter()
        .map(|name| format!("benches/{name}.rs"));
    let named: Vec<String> = scripts.chain(examples).chain(benches).collect();
    assert!(named.len() >= 4, "{named:?}");
    for file in named {
        assert!(root().join(&file).is_file(), "docs/PERFORMANCE.md names {file}");
    }
}

#[test]
fn every_metric_is_listed_and_says_what_it_is() {
    let node = Node::start();
    let token = bash(node.dir.path(), "./target/release/mqueue token")
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let url = format!("http://{}/v1/namespaces/default/topics/t/enqueue", node.address);
    // What hooks did is shown of hooks that there are.
    let hook = format!(
        "export MQUEUE_URL=http://{} && ./target/release/mqueue hooks push plugins/examples/size && \
         ./target/release/mqueue hooks bind size --topic '*'",
        node.address
    );
    let bound = bash(node.dir.path(), &hook).output().unwrap();
    assert!(
        bound.status.success(),
        "{}",
        String::from_utf8_lossy(&bound.stderr)
    );
    let enqueue = format!(
        "curl -fsS -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{{\"items\":[{{\"text\":\"x\"}}]}}' {url}",
        token.trim()
    );
    assert!(bash(node.dir.path(), &enqueue).output().unwrap().status.success());
    // Quotas are shown of namespaces that have one of their own.
    let quota = format!(
        "curl -fsS -X PUT -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{{\"leases\":9}}' \
         http://{}/v1/namespaces/default/quota",
        token.trim(),
        node.address
    );
    assert!(bash(node.dir.path(), &quota).output().unwrap().status.success());
    let metrics = node.get("/metrics");
    let shown = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: BTreeSet<&str> = shown.filter_map(|line| line.split(' ').next()).collect();
    let listed: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(
        shown, listed,
        "src/telemetry/catalogue.rs lists what /metrics shows"
    );
    for name in shown {
        let help = format!("# HELP {name} ");
        let help = metrics.lines().find_map(|line| line.strip_prefix(&help));
        assert!(help.is_some_and(|help| !help.is_empty()), "{name} says nothing");
    }
    // The first call is a sample, which is taken behind the request's back.
    let is_sampled = |metrics: &str| {
        let of = |name: &str| {
            metrics
                .lines()
                .find(|line| line.starts_with(&format!("{name}{{")))
        };
        let count = |line: &str| {
            line.rsplit(' ')
                .next()
                .and_then(|count| count.parse::<f64>().ok())
        };
        let names = ["mqueue_hook_fuel_samples_total", "mqueue_hook_fuel_sampled_total"];
        names.iter().all(|name| of(name).and_then(count) > Some(0.0))
    };
    let begun = Stopwatch::start();
    while !is_sampled(&node.get("/metrics")) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            node.get("/metrics")
        );
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn documents_are_read_right() {
    let text = "a\n```sh\none\n```\n\n```json\n{\"a\": …}\n```\n\n```text\nfree\n```\n```sh\ntwo\n```\nsee\n```text\nx\n```\n";
    let steps = steps(text);
    let read: Vec<_> = steps
        .iter()
        .map(|step| (step.commands.as_str(), step.shown.as_deref()))
        .collect();
    assert_eq!(read, [("one", Some("{\"a\": …}")), ("two", None)]);
    assert!(is_as_shown("{\"a\": …, \"b\": 1}", "{\"a\":5,\"b\":1}\n"));
    for (shown, printed) in [("a…c", "abd"), ("a", "ab"), ("a…b…c", "axc"), ("b…", "ab")] {
        assert!(!is_as_shown(shown, printed), "{shown} {printed}");
    }
}
