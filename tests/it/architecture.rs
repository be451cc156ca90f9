//! The direction of imports, the places where foreign crates may be named, and the shape of files.
//!
//! Sources are read as text. What only tests compile is left out: tests may reach for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::documents::root;

/// What each top-level module may import of this crate. ARCHITECTURE.md shows this very table.
const IMPORTS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "api",
            "tenant",
            "hooks",
            "wal",
            "telemetry",
            "config",
            "model",
            "clock",
        ],
    ),
    (
        "app",
        &[
            "api",
            "console",
            "queue",
            "tenant",
            "hooks",
            "hot",
            "shard",
            "wal",
            "telemetry",
            "config",
            "model",
            "clock",
        ],
    ),
    (
        "api",
        &["queue", "tenant", "hooks", "wal", "telemetry", "model", "clock"],
    ),
    ("console", &[]),
    (
        "queue",
        &["tenant", "hooks", "hot", "shard", "wal", "model", "clock"],
    ),
    ("hooks", &["shard", "model", "clock"]),
    ("hot", &["shard", "wal", "model", "clock"]),
    ("shard", &["wal", "model", "clock"]),
    ("wal", &["model", "clock"]),
    ("tenant", &["model", "clock"]),
    ("telemetry", &["config"]),
    ("config", &["model"]),
    ("model", &["clock"]),
    ("clock", &[]),
];

/// Crates, and the parts of the standard library, that only these files or folders below `src` may name.
const PLACES: &[(&str, &[&str])] = &[
    // The shards' databases.
    ("sea_orm", &["shard"]),
    ("mqueue_migrations", &["shard"]),
    // HTTP. The composition root mounts what is beside the API.
    ("poem", &["api", "app/serve", "console"]),
    ("poem_openapi", &["api"]),
    ("http", &["api", "telemetry"]),
    ("http_body_util", &["api"]),
    ("hyper", &["api"]),
    ("hyper_util", &["api"]),
    ("tokio_rustls", &["api"]),
    ("rustls", &["api", "main"]),
    ("rcgen", &["api"]),
    ("socket2", &["api"]),
    ("itoa", &["api", "shard"]),
    ("rust_embed", &["console"]),
    // Who may do what, and how much of it.
    ("governor", &["tenant"]),
    ("jsonwebtoken", &["tenant"]),
    // The log.
    ("crc32c", &["wal"]),
    (
        "rustix",
        &["clock", "wal/disk", "cli/bench", "hooks/engine/child"],
    ),
    (
        "std::fs",
        &[
            "wal/disk/real",
            "app",
            "cli",
            "config",
            "hooks/engine/cache",
            "hooks/folder",
        ],
    ),
    // The command line.
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("comfy_table", &["cli"]),
    ("hdrhistogram", &["cli"]),
    ("humantime", &["cli", "config"]),
    ("indicatif", &["cli"]),
    ("reqwest", &["cli"]),
    // Configuration is read once, in one place.
    ("dotenvy", &["config"]),
    ("figment", &["config"]),
    ("strsim", &["config"]),
    ("toml", &["cli/hooks", "config", "hooks"]),
    ("std::env", &["config", "cli/hooks", "app/serve"]),
    ("secrecy", &["app", "cli", "config", "hot/redis", "shard"]),
    // The hot tier that nodes share. The configuration has a section of that name.
    ("redis", &["app/assemble", "config", "hot"]),
    // What is observed.
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_prometheus", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("prometheus", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    (
        "tracing",
        &[
            "api",
            "app",
            "cli",
            "hooks",
            "hot/redis",
            "queue",
            "telemetry",
            "wal",
        ],
    ),
    // The core is pure: no runtime below the queue but where waiting is the job.
    (
        "tokio",
        &["api", "app", "cli", "hooks", "queue", "hot", "shard", "wal"],
    ),
    ("tokio_util", &["api", "app", "hooks", "queue"]),
    ("futures_util", &["api", "hooks", "hot/redis", "queue", "shard"]),
    (
        "async_trait",
        &["app/rates", "cli/hooks", "hooks", "hot", "shard", "tenant"],
    ),
    ("arc_swap", &["hooks", "queue", "tenant"]),
    (
        "parking_lot",
        &[
            "api",
            "app/reload",
            "cli",
            "hooks",
            "hot",
            "model",
            "queue",
            "shard",
            "telemetry",
            "tenant",
            "wal",
        ],
    ),
    (
        "serde_json",
        &["api", "cli", "hooks", "model", "shard", "telemetry", "tenant"],
    ),
    // Tenants' code.
    ("wasmtime", &["hooks"]),
    ("wasmparser", &["hooks"]),
    ("wit_component", &["hooks"]),
    ("wit_parser", &["hooks"]),
    ("wat", &["cli/hooks", "hooks"]),
    ("sled", &["hooks"]),
    ("smallvec", &["hooks", "queue"]),
    ("sha2", &["hooks"]),
    ("json_patch", &["hooks"]),
    ("notify", &["config", "hooks"]),
    ("notify_debouncer_full", &["config", "hooks"]),
    // Time.
    ("jiff", &["clock"]),
    // Hashes and numbers that outlive a process.
    ("blake3", &["hooks", "hot/redis", "model", "queue", "tenant"]),
    (
        "rand",
        &[
            "api",
            "app/nodes",
            "cli",
            "config",
            "hooks",
            "hot/redis",
            "queue",
            "wal",
        ],
    ),
    // The process.
    ("mimalloc", &["main"]),
];

/// Crates that say nothing about what a module does: anyone may use them.
const ANYWHERE: &[&str] = &[
    "base64_simd",
    "bytes",
    "foldhash",
    "hashbrown",
    "serde",
    "thiserror",
];

/// Types that implement a contract, and who may name them beside their own module.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("MemoryTier", &["app", "hot"]),
    ("MemoryOptions", &["app", "hot"]),
    ("RedisTier", &["app", "hot"]),
    ("RedisOptions", &["app", "hot"]),
    ("SeaShard", &["app", "shard"]),
    ("ShardOptions", &["app", "shard"]),
    ("Breaker", &["app", "hooks", "shard"]),
    ("BreakerOptions", &["app", "shard"]),
    ("RealDisk", &["app", "cli", "wal"]),
];

/// Files over [`LINES_MAX`], with what they may have and why they are not cut.
const LONG: &[(&str, usize, &str)] = &[
    ("src/api/dto.rs", 950, "one list of documented bodies, no code"),
    (
        "src/api/hooks/routes.rs",
        600,
        "one table of routes: a method each, one call long",
    ),
    (
        "src/api/hooks/tests.rs",
        600,
        "one pretended engine and what the routes of hooks promise over it",
    ),
    (
        "src/api/problem.rs",
        560,
        "one list of problems: each with its status, its title and what it means",
    ),
    (
        "src/api/routes.rs",
        800,
        "one table of routes: a method each, one call long",
    ),
    (
        "src/api/tests.rs",
        950,
        "one fixture and what the whole API promises through it",
    ),
    (
        "src/api/write_items.rs",
        520,
        "one writer: the answers of the hot routes, byte by byte",
    ),
    (
        "src/hot/memory/tier.rs",
        600,
        "one implementation: every call of the hot tier's contract",
    ),
    (
        "src/wal/commit.rs",
        540,
        "one face of the log: what every caller sees of it",
    ),
    (
        "src/queue/dequeue.rs",
        540,
        "one protocol: from the wait for an item to the answer that hands it out",
    ),
    (
        "src/queue/recovery.rs",
        560,
        "one way back from the log, at a start and after the hot tier forgot",
    ),
    (
        "src/queue/tests/property.rs",
        550,
        "one model of the queue, and the steps it is compared by",
    ),
    (
        "src/tenant/auth.rs",
        550,
        "verifying, caching and minting share one claim format",
    ),
    (
        "tests/it/hook_abuse.rs",
        550,
        "one table of hostile hooks and what becomes of them",
    ),
    (
        "src/hooks/engine.rs",
        580,
        "one facade: everything the engine is asked for",
    ),
    (
        "tests/it/architecture.rs",
        650,
        "the tables are the architecture, and are read side by side",
    ),
    (
        "src/wal/disk/sim.rs",
        550,
        "one simulated disk: a fault is a state of the whole",
    ),
];

/// Lines a file may have without a reason.
const LINES_MAX: usize = 500;

/// One source file.
struct Source {
    /// From the root of the project, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// `queue/enqueue` of `src/queue/enqueue.rs`.
    fn place(&self) -> &str {
        self.path.trim_start_matches("src/").trim_end_matches(".rs")
    }

    /// `queue` of `src/queue/enqueue.rs`.
    fn module(&self) -> &str {
        self.place().split('/').next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        self.place()
            .split('/')
            .any(|part| matches!(part, "tests" | "conformance") || part.ends_with("_tests"))
    }

    /// The text without comments and without what only tests compile.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                let indent = line.len() - line.trim_start().len();
                let ends = |line: &str| {
                    let body = line.trim_start();
                    line.len() - body.len() == indent && (body.starts_with('}') || body.ends_with(';'))
                };
                let _ = lines.by_ref().find(|line| ends(line));
            } else if !line.trim_start().starts_with("//") {
                code.push_str(line);
                code.push('\n');
            }
        }
        code
    }
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort();
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/"),
    };
    files.into_iter().map(read).collect()
}

fn code_of_src() -> Vec<(Source, String)> {
    let product = sources("src").into_iter().filter(|source| !source.is_test());
    product
        .map(|source| {
            let code = source.code();
            (source, code)
        })
        .collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name after each `crate::`; `crate::{a, b}` is not read, so it must not be written.
fn imports(code: &str) -> BTreeSet<&str> {
    let after = code.split("crate::").skip(1);
    after
        .map(|rest| {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

/// Whether `code` names `path` at the beginning of a path: `hyper::`, not `poem::hyper::` or `my_hyper::`.
fn names(code: &str, path: &str) -> bool {
    let needle = format!("{path}::");
    let ends_path = format!("{path};");
    let is_start = |at: usize| {
        let before = &code[..at];
        !before.ends_with(is_word) && (!before.ends_with("::") || before.ends_with(" ::"))
    };
    let mut found = code.match_indices(&needle).chain(code.match_indices(&ends_path));
    found.any(|(at, _)| is_start(at))
}

fn is_within(place: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|allowed| {
        place
            .strip_prefix(allowed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The table of imports as ARCHITECTURE.md shows it.
fn drawn() -> String {
    let row = |(module, allowed): &(&str, &[&str])| match allowed {
        [] => format!("{module:<10}→ nothing"),
        allowed => format!("{module:<10}→ {}", allowed.join(", ")),
    };
    IMPORTS.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_run_one_way() {
    let table: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (source, code) in code_of_src() {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        let Some(allowed) = table.get(module) else {
            wrong.push(format!(
                "{}: the module is not in the table of imports",
                source.path
            ));
            continue;
        };
        // The binary imports the library by its name.
        let prefix = if module == "main" { "mqueue::" } else { "crate::" };
        for import in imports(&code.replace(prefix, "crate::")) {
            if import != module && !allowed.contains(&import) {
                wrong.push(format!("{}: {module} must not import {import:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_imports_has_no_cycle() {
    for (at, (module, allowed)) in IMPORTS.iter().enumerate() {
        for import in *allowed {
            let place = IMPORTS.iter().position(|(name, _)| name == import);
            assert!(
                place.is_some_and(|place| place > at),
                "{module} imports {import}, which stands above it"
            );
        }
    }
}

#[test]
fn the_architecture_document_shows_the_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = drawn();
    assert!(
        text.contains(&table),
        "ARCHITECTURE.md must show this table of imports:\n{table}"
    );
}

#[test]
fn crates_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (source, code) in code_of_src() {
        for (name, allowed) in PLACES {
            if names(&code, name) && !is_within(source.place(), allowed) {
                wrong.push(format!(
                    "{}: {name} may be named only in {}",
                    source.path,
                    allowed.join(", ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_has_a_place() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let dependency = |line: &str| {
        let name = line.split(['=', '.', ' ']).next()?;
        (!name.is_empty() && !name.starts_with('#')).then(|| name.replace('-', "_"))
    };
    let dependencies: BTreeSet<String> = section.lines().filter_map(dependency).collect();
    assert!(dependencies.len() > 30, "{dependencies:?}");
    let placed: BTreeSet<String> = PLACES
        .iter()
        .map(|(name, _)| *name)
        .chain(ANYWHERE.iter().copied())
        .filter(|name| !name.contains("::"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        dependencies, placed,
        "dependencies on the left, places on the right"
    );
}

#[test]
fn only_the_composition_root_sees_adapters() {
    let mut wrong = Vec::new();
    for (source, code) in code_of_src() {
        let words: BTreeSet<&str> = code.split(|c| !is_word(c)).collect();
        for (adapter, allowed) in ADAPTERS {
            if words.contains(adapter) && !allowed.contains(&source.module()) {
                wrong.push(format!("{} names {adapter}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in ["src", "tests", "benches", "examples", "migrations/src"]
        .iter()
        .flat_map(|f| sources(f))
    {
        let mut lines = source.text.lines().skip_while(|line| line.starts_with("#!["));
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        // A module of nothing but tests says so by its name.
        let is_said = first.starts_with("//! ") || source.path.ends_with("tests.rs");
        assert!(
            is_said,
            "{} begins with no `//!` that says what it is for",
            source.path
        );
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let all: Vec<Source> = ["src", "tests", "migrations/src"]
        .iter()
        .flat_map(|f| sources(f))
        .collect();
    for source in &all {
        let lines = source.text.lines().count();
        let excused = LONG.iter().find(|(path, ..)| *path == source.path);
        let most = excused.map_or(LINES_MAX, |(_, most, _)| *most);
        assert!(
            lines <= most,
            "{} has {lines} lines; cut it, or give a reason in LONG",
            source.path
        );
        if let Some((path, _, reason)) = excused {
            assert!(
                lines > LINES_MAX,
                "{path} needs no excuse any more ({reason}): take it out of LONG"
            );
        }
    }
    for (path, ..) in LONG {
        assert!(
            all.iter().any(|source| source.path == *path),
            "{path} is excused and not there"
        );
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let markers = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    for source in ["src", "tests", "benches", "examples", "migrations"]
        .iter()
        .flat_map(|f| sources(f))
    {
        for marker in &markers {
            assert!(!source.text.contains(marker), "{} has {marker}", source.path);
        }
    }
}

#[test]
fn sources_are_read_right() {
    let text = "//! x\nuse crate::a::B;\n#[cfg(test)]\nmod tests;\nuse crate::b;\n// crate::c\n#[cfg(test)]\n\
                mod inner {\n    use crate::d;\n}\n    #[cfg(test)]\n    fn e() {\n        crate::e();\n    }\n\
                use poem::hyper::x; // my_http::y\nuse ::toml::z;\n";
    let source = Source {
        path: "src/queue/enqueue.rs".into(),
        text: text.into(),
    };
    let code = source.code();
    assert_eq!(imports(&code), BTreeSet::from(["a", "b"]));
    assert_eq!(
        (source.place(), source.module(), source.is_test()),
        ("queue/enqueue", "queue", false)
    );
    assert!(names(&code, "poem") && names(&code, "toml"));
    assert!(!names(&code, "hyper") && !names(&code, "http"));
    assert!(is_within("wal/disk/real", &["wal/disk"]) && !is_within("wal/disks", &["wal/disk"]));
}
