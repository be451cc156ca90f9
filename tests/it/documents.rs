//! What is written beside the code and generated from it, or checked against it.
//!
//! With `WRITE_DOCS=1` in the environment the generated documents are rewritten instead of compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mqueue::api::{openapi, problem::Code};
use mqueue::telemetry::catalogue::{Kind, METRICS};

/// The root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a document.
pub fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Holds that the document `name` is `current`, or makes it so.
fn is_current(name: &str, current: &str, rewrite: &str) {
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(root().join(name), current).unwrap();
        return;
    }
    let found = fs::read_to_string(root().join(name)).unwrap_or_default();
    assert!(found == current, "{name} is out of date; `{rewrite}` rewrites it");
}

/// docs/ERRORS.md.
fn errors() -> String {
    let mut text = String::from(
        "# Problems\n\nEvery answer that is not a success is an RFC 9457 problem, `application/problem+json`, \
         with these members: `type` (where the problem is explained on the server itself, as here: \
         `/problems/<code>`, which is `#<code>` on this page), \
         `title`, `status`, `detail` (what to change this time), `code` (stable, for programs), `request_id` \
         (also in the `X-Request-Id` header and in the server's log), `errors` (the fields that are wrong) and, \
         when a whole batch was refused, `results` (one per item). 429 and 503 carry `Retry-After`. One answer is none: \
         over HTTP/2 a head above 64 KiB is refused by the protocol's own layer, with 431 and no body.\n\n\
         This page is generated from the table in `src/api/problem.rs`.\n\n\
         | status | code | title | what it means, and what to do |\n|---|---|---|---|\n",
    );
    let mut codes: Vec<Code> = Code::ALL.to_vec();
    codes.sort_by_key(|code| (code.status().as_u16(), code.as_str()));
    for code in codes {
        let (status, title, meaning) = (code.status().as_u16(), code.title(), code.meaning());
        let code = code.as_str();
        writeln!(
            text,
            "| {status} | <a id=\"{code}\"></a>`{code}` | {title} | {meaning} |"
        )
        .unwrap();
    }
    text
}

/// docs/METRICS.md.
fn metrics() -> String {
    let mut text = String::from(
        "# Metrics\n\n`/metrics` has these, in the Prometheus text format. It is open to the node's own machine; \
         from elsewhere it needs a token that opens every namespace. Counters and histograms begin at 0 when the \
         node starts. Times are in seconds. Labels are bounded: the 200 largest topics and the 200 busiest \
         versions of hooks have labels of their own, the others are summed as `_other`; of quotas the first 200 \
         namespaces by name are shown.\n\n\
         Each node tells what itself did and holds. Nodes that share a Redis hold the same items, and each tells \
         of all: of `mqueue_items`, `mqueue_oldest_ready_age_seconds`, `mqueue_topic_paused`, \
         `mqueue_shard_items`, `mqueue_quota_limit`, `mqueue_quota_used` (`stored_bytes` and `leases`) and \
         `mqueue_deliveries_failed_total` (`lease_ended`) take the largest over the nodes, and not the sum.\n\n\
         Fuel of hooks is not counted: calls are stopped by epochs, which cost them next to nothing, at the end of \
         their time, and not after so many instructions. What they use is `mqueue_hook_run_seconds_total`; a dry \
         run counts the instructions of its calls.\n\n\
         [`deploy/grafana/dashboards/mqueue.json`](../deploy/grafana/dashboards/mqueue.json) is a dashboard of them, \
         [`deploy/prometheus/alerts.yml`](../deploy/prometheus/alerts.yml) has alerts.\n\n\
         This page is generated from `src/telemetry/catalogue.rs`.\n\n\
         | metric | kind | labels | what it says | watch for |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, name) = (labels.join(", "), metric.name);
        writeln!(
            text,
            "| `{name}` | {kind} | {labels} | {} | {} |",
            metric.help, metric.watch
        )
        .unwrap();
    }
    text
}

#[test]
fn the_page_of_metrics_is_current() {
    let rewrite = "WRITE_DOCS=1 cargo test --release --test it the_page_of_metrics";
    is_current("docs/METRICS.md", &metrics(), rewrite);
}

/// The names of metrics in a text, without what a histogram appends.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("mqueue_"));
    let histogram = |name: &str| {
        let stem = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        stem.filter(|stem| {
            METRICS
                .iter()
                .any(|metric| metric.name == *stem && metric.kind == Kind::Histogram)
        })
        .unwrap_or(name)
        .to_owned()
    };
    names.map(histogram).collect()
}

#[test]
fn the_dashboard_and_the_alerts_know_only_metrics_that_are_there() {
    let page = document("docs/METRICS.md");
    for name in [
        "deploy/grafana/dashboards/mqueue.json",
        "deploy/prometheus/alerts.yml",
    ] {
        let used = metrics_in(&document(name));
        assert!(used.len() > 8, "{name}: {used:?}");
        for metric in used {
            assert!(
                page.contains(&format!("| `{metric}` |")),
                "{name} uses {metric}, which docs/METRICS.md does not list"
            );
        }
    }
}

#[test]
fn the_committed_openapi_document_is_current() {
    is_current(
        "openapi/mqueue.json",
        &openapi::document(),
        "cargo run --release -- openapi --write openapi/mqueue.json",
    );
}

#[test]
fn the_page_of_problems_is_current() {
    let rewrite = "WRITE_DOCS=1 cargo test --release --test it the_page_of_problems";
    is_current("docs/ERRORS.md", &errors(), rewrite);
}

/// The cells of the table whose first column is headed `first`.
fn table(text: &str, first: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

/// What `mqueue config show` says with `variables` set.
fn show_configuration(variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_mqueue"))
        .args(["config", "show", "--output", "json"])
        .current_dir(dir.path())
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Every key with its value, with `variables` set.
fn configuration(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let output = show_configuration(variables);
    assert!(output.status.success(), "{variables:?}: {output:?}");
    let keys: Vec<BTreeMap<String, String>> = serde_json::from_slice(&output.stdout).unwrap();
    keys.into_iter()
        .map(|mut key| (key.remove("key").unwrap(), key.remove("value").unwrap()))
        .collect()
}

#[test]
fn the_configuration_table_tells_variables_keys_and_defaults() {
    let rows = table(&document("README.md"), "Variable");
    assert!(rows.len() >= 12, "{rows:?}");
    let defaults = configuration(&[]);
    for row in &rows {
        let [variable, key, default, _meaning] = row.as_slice() else {
            panic!("a row of four cells: {row:?}");
        };
        let shown = defaults
            .get(key)
            .unwrap_or_else(|| panic!("there is no key {key}"));
        let default = if default == "none" { "" } else { default };
        assert_eq!(shown, default, "the default of {key}");
        // A value that differs from every default and suits the key.
        let sample = match key.as_str() {
            "server.listen" => "127.0.0.1:9999",
            "node.id" => "7",
            "redis.addrs" => "127.0.0.1:6379",
            "log.level" => "debug",
            "log.encoding" => "console",
            "hot.buffer_ttl" => "2m",
            "quotas.namespaces" => "tenant-a:1000",
            "auth.jwt_secret" | "auth.jwt_secret_previous" => {
                "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
            }
            "storage.database_urls" => "sqlite://one.db",
            "tracing.otlp_endpoint" => "http://127.0.0.1:4318",
            _ => "elsewhere",
        };
        let with = configuration(&[(variable, sample)]);
        assert_ne!(with.get(key), defaults.get(key), "{variable} sets {key}");
    }
}

#[test]
fn the_documents_lead_somewhere() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/API.md",
        "docs/CLI.md",
        "docs/CLIENTS.md",
        "docs/ERRORS.md",
        "docs/HOOKS.md",
        "docs/METRICS.md",
        "docs/OPERATIONS.md",
        "docs/PERFORMANCE.md",
        "plugins/README.md",
    ];
    for name in documents {
        let text = document(name);
        let folder = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            let is_outside = target.is_empty() || target.contains("://");
            assert!(
                is_outside || folder.join(target).exists(),
                "{name} links to {target}, which is not there"
            );
        }
    }
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let text = document("ARCHITECTURE.md");
    let named: BTreeSet<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.ends_with(".rs") && !code.contains(' '))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for path in named {
        assert!(
            root().join(path).exists(),
            "ARCHITECTURE.md names {path}, which is not there"
        );
    }
}

#[test]
fn every_command_is_described() {
    let help = Command::new(env!("CARGO_BIN_EXE_mqueue"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let text = document("docs/CLI.md");
    // A line of the list begins with two spaces and the name; continuations are indented further.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next());
    let mut count = 0;
    for name in names.filter(|name| *name != "help") {
        count += 1;
        assert!(
            text.contains(&format!("`mqueue {name}")),
            "docs/CLI.md does not describe `mqueue {name}`"
        );
    }
    assert!(count > 15, "{help}");
}
