//! Every command of the binary against a running server: what it prints and how it exits.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::server::{SECRET, Server, command};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// The one JSON value that was printed.
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// The JSON values that were printed, one a line.
    fn lines(self) -> Vec<Value> {
        let out = self.ok();
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Fails with `code` and says `part`.
    fn fails(self, code: i32, part: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(part), "no {part:?} in {}", self.err);
    }
}

fn run(mut command: Command) -> Ran {
    Ran::of(command.output().unwrap())
}

impl Server {
    /// Runs a command line, words parted by blanks.
    fn run(&self, line: &str) -> Ran {
        run(self.command(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// The same with `input` on standard input.
    fn run_with(&self, line: &str, input: &str) -> Ran {
        use std::io::Write;
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_go_in_and_come_out() {
    let server = Server::start().await;
    let enqueued = server
        .run("enqueue orders hello --priority -5 --key k --header a=b --output json")
        .json();
    assert_eq!(enqueued["status"], "accepted");
    assert!(
        server
            .run("enqueue orders hello --priority -5 --key k --header a=b")
            .ok()
            .contains("duplicate")
    );
    let lines = server
        .run_with("enqueue orders --lines --output json", "one\n\ntwo\n")
        .lines();
    assert_eq!(lines.len(), 2);
    server
        .run_with("enqueue orders --json --stored", "{\"n\":1}")
        .ok();
    server
        .run("enqueue orders later --delay 1h --ttl 2h --lease 5s --max-attempts 2")
        .ok();
    assert_eq!(server.run("peek orders --limit 2 --output json").lines().len(), 2);
    assert!(server.run("peek orders").ok().contains("hello"));
    assert_eq!(
        server.run("peek orders --state scheduled --output json").lines()[0]["text"],
        "later"
    );

    let item = &server.run("dequeue orders --lease 1m --output json").lines()[0];
    assert_eq!(
        (&item["text"], &item["headers"]),
        (&json!("hello"), &json!({"a": "b"}))
    );
    let stats = server.run("stats orders --output json").json();
    assert_eq!(
        (&stats["topics"][0]["ready"], &stats["topics"][0]["leased"]),
        (&json!(3), &json!(1))
    );
    assert!(server.run("stats").ok().contains("orders"));
    let lease = item["lease_id"].as_str().unwrap();
    assert!(
        server
            .run(&format!("extend {lease} --lease 2m"))
            .ok()
            .contains("ok")
    );
    let acked = server
        .run_with("ack - --output json", &format!("{lease}\n"))
        .json();
    assert_eq!(acked[0]["status"], "ok");
    assert!(server.run(&format!("ack {lease}")).ok().contains("already_done"));
    server.run("ack forged").fails(1, "lost");

    let rest = server
        .run("dequeue none orders --max 10 --wait 5s --ack --output json")
        .lines();
    assert_eq!(rest.len(), 3);
    assert_eq!(server.client().topic("orders").counts().await, [0, 1, 0, 0]);
    assert_eq!(server.run("dequeue orders").ok(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_become_dead_letters_and_come_back() {
    let server = Server::start().await;
    server.run_with("enqueue jobs --lines", "a\nb\nc\n").ok();
    let held = server.run("dequeue jobs --max 3 --output json").lines();
    let lease = |n: usize| held[n]["lease_id"].as_str().unwrap();
    server
        .run(&format!("reject {} {} --error broken", lease(0), lease(1)))
        .ok();
    server
        .run(&format!("nack {} --delay 0s --error again", lease(2)))
        .ok();
    let again = &server.run("dequeue jobs --output json").lines()[0];
    assert_eq!(
        (&again["attempt"], &again["last_error"]),
        (&json!(2), &json!("again"))
    );
    server
        .run(&format!(
            "release {} --delay 0s",
            again["lease_id"].as_str().unwrap()
        ))
        .ok();

    let dead = server.run("dead list jobs --output json").lines();
    assert_eq!((dead.len(), &dead[0]["last_error"]), (2, &json!("broken")));
    assert!(server.run("dead list jobs").ok().contains("broken"));
    let id = dead[0]["id"].as_str().unwrap();
    let dry = server
        .run(&format!("dead redrive jobs --id {id} --dry-run --output json"))
        .json();
    assert_eq!((&dry["count"], &dry["dry_run"]), (&json!(1), &json!(true)));
    let redriven = server
        .run(&format!(
            "dead redrive jobs --id {id} --reason rejected --output json"
        ))
        .json();
    assert_eq!(redriven["count"], 1);
    server.run("dead discard jobs").fails(2, "--yes");
    assert_eq!(
        server.run("dead discard jobs --yes --output json").json(),
        json!({"count": 1})
    );
    assert_eq!(server.client().topic("jobs").counts().await, [2, 0, 0, 0]);

    assert_eq!(server.run("pause jobs --output json").json()["paused"], true);
    assert_eq!(server.run("dequeue jobs").ok(), "");
    server.run("resume jobs").ok();
    server.run("purge jobs").fails(2, "--yes");
    assert_eq!(
        server.run("purge jobs --yes --output json").json(),
        json!({"count": 2})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_their_exit_codes() {
    let server = Server::start().await;
    server.run("stats none").fails(1, "unknown_topic");
    server.run("enqueue a/b x").fails(2, "a/b");
    server.run("enqueue").fails(2, "Usage");
    server.run("enqueue t x --prioritty 1").fails(2, "--priority");
    server.run("dequeue t --wait 21s").fails(2, "20s");
    server.run("nonsense").fails(2, "nonsense");
    server
        .run("stats --url http://127.0.0.1:1")
        .fails(69, "mqueue serve");
    server
        .run("healthcheck --url http://127.0.0.1:1")
        .fails(1, "not ready");
    server.run("healthcheck").ok();
    server.run("stats --token garbage").fails(1, "unauthorized");
    server.run_with("enqueue t --json", "{").fails(2, "not JSON");
    let mut denied = server.command(&["stats"]);
    let minted = server
        .run("token --namespace other --scope enqueue --ttl 1m")
        .ok();
    denied.env("MQUEUE_TOKEN", minted.trim());
    run(denied).fails(1, "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_the_servers_machine_needs_no_token() {
    let server = Server::start().await;
    let mut own = server.command(&["enqueue", "t", "x"]);
    own.env_remove("MQUEUE_TOKEN");
    run(own).ok();
    let mut stranger = server.command(&["enqueue", "t", "x"]);
    stranger.env_remove("MQUEUE_TOKEN").env_remove("JWT_SECRET");
    run(stranger).fails(1, "mqueue token");
}

#[tokio::test]
async fn configuration_is_checked_and_shown_without_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mqueue = |line: &str| {
        let mut command = command(dir.path());
        command.args(line.split_whitespace());
        run(command)
    };
    assert!(mqueue("config check").ok().contains("valid"));
    for line in ["config show", "config show --output json"] {
        let shown = mqueue(line).ok();
        assert!(
            shown.contains("wal.segment_bytes") && !shown.contains(SECRET),
            "{shown}"
        );
    }
    let entries: Value = serde_json::from_str(&mqueue("config show --output json").ok()).unwrap();
    assert!(entries.as_array().unwrap().len() > 20);
    for line in ["config check", "serve", "token"] {
        mqueue(&format!("{line} --set wal.segment_byte=1MiB")).fails(78, "segment_bytes");
    }
    std::fs::write(
        dir.path().join("mqueue.toml"),
        "[wal]\nsegment_bytes = \"huge\"\n",
    )
    .unwrap();
    mqueue("config check").fails(78, "wal.segment_bytes");
}

#[tokio::test]
async fn keys_that_no_token_could_be_verified_with_are_found_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let check = |keys: &str| {
        std::fs::write(dir.path().join("jwks.json"), keys).unwrap();
        let mut command = command(dir.path());
        command.args(["config", "check", "--set", "auth.jwks_file=jwks.json"]);
        run(command)
    };
    let good = r#"{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let strange = r#"{"kty":"OKP","crv":"X25519","kid":"b","use":"enc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    for (keys, says) in [
        ("no JSON".to_owned(), "not a JSON web key set"),
        (r#"{"keys": {}}"#.to_owned(), "not a JSON web key set"),
        (format!(r#"{{"keys": [{strange}]}}"#), "key 0 of the set"),
        (
            format!(r#"{{"keys": [{good}, {good}]}}"#),
            "two keys have the kid",
        ),
    ] {
        check(&keys).fails(78, &format!("auth.jwks_file: {says}"));
    }
    // One that is for something else is passed over, which is said.
    let warned = check(&format!(r#"{{"keys": [{good}, {strange}]}}"#));
    assert!(warned.err.contains("passed over: key 1"), "{}", warned.err);
    assert!(warned.ok().contains("valid"));
}

#[tokio::test]
async fn the_log_is_inspected_verified_and_repaired() {
    let mut server = Server::start().await;
    let items: Vec<Value> = (0..50).map(|n| json!({"text": format!("item {n}")})).collect();
    server.client().topic("t").enqueue(json!(items)).await;
    server
        .client()
        .topic("t")
        .enqueue(json!([{"text": "last"}]))
        .await;
    server.kill().await;
    let dir = server.dir().to_owned();
    let mqueue = |line: &str| {
        let mut command = command(&dir);
        command.args(line.split_whitespace());
        run(command)
    };
    let shown = mqueue("wal inspect --frames --output json").json();
    let counted: u64 = shown["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["records"]["items"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 51);
    assert!(mqueue("wal inspect").ok().contains("sound"));
    assert_eq!(mqueue("wal verify --output json").json()["sound"], true);
    mqueue("wal inspect --dir /nowhere").fails(1, "there is no log");

    let (file, offset) = first_items(&shown, &server.wal_dir());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[offset + 60] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    mqueue("wal verify").fails(1, "mqueue wal repair");
    mqueue("serve --listen 127.0.0.1:0").fails(78, "mqueue wal repair");
    mqueue("wal repair").ok();
    mqueue("wal verify").ok();
    server.start_again().await;
    assert_eq!(server.client().topic("t").take(99).await, ["last"]);
}

#[tokio::test]
async fn a_node_starts_on_a_damaged_log_when_it_is_told_to_leave_out_what_is_lost() {
    let mut server = Server::start().await;
    let topic = server.client().topic("t");
    let lost: Vec<Value> = (0..50).map(|n| json!({"text": format!("item {n}")})).collect();
    topic.enqueue(json!(lost)).await;
    topic.enqueue(json!([{"text": "kept"}])).await;
    server.kill().await;
    let mut inspect = command(server.dir());
    inspect.args(["wal", "inspect", "--frames", "--output", "json"]);
    let (file, offset) = first_items(&run(inspect).json(), &server.wal_dir());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[offset + 60] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let mut refused = command(server.dir());
    refused.args(["serve", "--listen", "127.0.0.1:0"]);
    let place = format!("{} at byte {offset}", file.file_name().unwrap().to_str().unwrap());
    run(refused).fails(78, &place);

    server.set("wal.quarantine", "true");
    server.start_again().await;
    assert_eq!(server.client().topic("t").take(99).await, ["kept"]);
    let told = |line: &Value| {
        let damaged = line["message"].as_str()?.contains("the log was damaged");
        damaged.then(|| line.clone())
    };
    let line = server.log().wait_for(told).await;
    assert!(line["problem"].as_str().unwrap().contains(&place), "{line}");
    let backup = server.wal_dir().join(line["kept_in"].as_str().unwrap());
    assert_eq!(
        std::fs::read(backup.join(file.file_name().unwrap())).unwrap(),
        bytes
    );
}

/// The file and the place in it of the frame with the 50 items.
fn first_items(shown: &Value, wal: &std::path::Path) -> (std::path::PathBuf, usize) {
    let frames = shown["frames"].as_array().unwrap();
    let frame = frames
        .iter()
        .find(|frame| frame["records"]["items"] == 50)
        .unwrap();
    let segments = shown["log"]["segments"].as_array().unwrap();
    let segment = segments
        .iter()
        .find(|segment| segment["number"] == frame["segment"])
        .unwrap();
    let offset = frame["offset"].as_u64().unwrap();
    (
        wal.join(segment["file"].as_str().unwrap()),
        usize::try_from(offset).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start().await;
    server.run("serve --listen 127.0.0.1:0").fails(78, "in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_generator_measures() {
    let server = Server::start().await;
    for mode in ["enqueue", "e2e", "dequeue"] {
        let line =
            format!("bench {mode} --connections 4 --batch 10 --count 200 --duration 20s --output json");
        let report = server.run(&line).json();
        assert!(report.is_object(), "{report}");
    }
    let left = server.client().topic("bench-0").counts().await;
    assert_eq!(left, [0, 0, 0, 0], "what a benchmark put in it takes out");
}

#[tokio::test]
async fn commands_explain_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mqueue = |words: &[&str]| {
        let mut command = command(dir.path());
        command.args(words);
        run(command)
    };
    let help = mqueue(&["--help"]).ok();
    for part in ["Exit codes:", "Commands:", "enqueue", "bench"] {
        assert!(help.contains(part), "{help}");
    }
    // Each command that the help lists has a help of its own.
    let (_, listed) = help.split_once("Commands:").unwrap();
    let commands = listed.lines().skip(1).take_while(|line| !line.trim().is_empty());
    let commands: Vec<_> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for name in commands.iter().filter(|name| **name != "help") {
        assert!(mqueue(&[name, "--help"]).ok().contains("Usage:"), "{name}");
    }
    assert!(mqueue(&["--version"]).ok().starts_with("mqueue "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(mqueue(&["completions", shell]).ok().contains("mqueue"));
    }
    let token = mqueue(&["token", "--namespace", "a", "--scope", "enqueue,dequeue"]).ok();
    assert_eq!(token.trim().split('.').count(), 3);
    assert_eq!(token.lines().count(), 1, "nothing but the token is printed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_keeps_what_is_not_said_and_stored_tests_follow_their_file() {
    let server = Server::start().await;
    let folder = server.dir().join("first");
    let path = folder.display().to_string();
    server
        .run(&format!("hooks new first --lang wat --dir {path}"))
        .ok();
    server.run(&format!("hooks push {path}")).ok();
    let bind = |more: &str| server.run(&format!("hooks bind first --topic orders {more} --output json"));
    server
        .run("hooks activate first")
        .fails(1, "mqueue hooks bind NAME --topic");
    let made = bind("--auto-rollback --position 7").json();
    assert_eq!(
        (&made["version"], &made["auto_rollback"]),
        (&json!(1), &json!(true))
    );

    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    edit("hook.wat", "the payload is empty", "there is no payload!");
    edit("tests.json", "an empty payload does not", "nothing does not");
    server.run(&format!("hooks push {path}")).ok();
    let tests = server
        .client()
        .get("/v1/namespaces/default/hooks/first/tests")
        .await;
    let names: Vec<_> = crate::client::list(&tests.ok()["tests"])
        .iter()
        .map(|test| test["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a-payload-passes", "nothing-does-not"]);

    // Another word about it puts no other version in force, and nothing else is forgotten.
    let shadowed = bind("--shadow 2").json();
    for (field, value) in [
        ("version", json!(1)),
        ("shadow", json!(2)),
        ("auto_rollback", json!(true)),
        ("position", json!(7)),
        ("enabled", json!(true)),
    ] {
        assert_eq!(shadowed[field], value, "{shadowed}");
    }
    assert_eq!(bind("--disabled").json()["enabled"], false);
    let kept = bind("--no-shadow --no-auto-rollback").json();
    assert_eq!(
        (&kept["enabled"], &kept["auto_rollback"]),
        (&json!(false), &json!(false))
    );
    assert!(kept["shadow"].is_null(), "{kept}");
    let newest = bind("--version 2 --enabled").json();
    assert_eq!(
        (&newest["version"], &newest["enabled"]),
        (&json!(2), &json!(true))
    );
}
