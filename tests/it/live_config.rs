//! Configuration that changes while a server runs: by file, by signal, on request; and what happens when it is wrong.

use std::path::Path;
use std::time::Duration;

use mqueue::clock::Stopwatch;
use rcgen::{KeyPair, PKCS_ED25519};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, list};
use crate::server::Server;

/// Replaces a file as an editor does: another one is written and renamed over it.
fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

async fn reloads(client: &Client) -> Value {
    client.get("/v1/config").await.ok()["reloads"].clone()
}

/// Waits until the reloads look as they should; a test that waits for long hangs.
async fn until(client: &Client, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        let seen = reloads(client).await;
        if fits(&seen) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} does not happen: {}", reloads(client).await);
}

/// The changes of the configuration in the log of changes, the oldest first, once there are `count` of them.
async fn changes(client: &Client, count: usize) -> Vec<Value> {
    for _ in 0..600 {
        let log = client.get("/v1/audit?action=config.reload").await.ok();
        let entries = list(&log["entries"]);
        if entries.len() >= count {
            return entries.to_vec();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{count} changes are not noted");
}

async fn part(client: &Client) -> Value {
    let ready = client.get("/readyz?verbose").await.ok();
    let part = list(&ready["parts"])
        .iter()
        .find(|part| part["part"] == "configuration");
    part.unwrap().clone()
}

#[tokio::test]
async fn a_changed_file_is_in_force_and_a_wrong_one_changes_nothing() {
    let server = Server::setup()
        .file("[quotas.namespaces]\ndefault = 100\n")
        .start()
        .await;
    let (client, file) = (server.client(), server.dir().join("mqueue.toml"));
    let per_minute = async || client.get("/v1/namespaces/default/quota").await.ok()["per_minute"].clone();
    assert_eq!(per_minute().await, 100);
    replace(
        &file,
        "[quotas.namespaces]\ndefault = 200\n[hot]\nflush_chunk = 7\n[topics]\nlease = '77s'\n[limits]\nbatch_items_max = 3\n[hooks]\nhost_calls = 9\n",
    );
    let seen = until(&client, "the reload", |seen| seen["succeeded"] == 1).await;
    assert_eq!(per_minute().await, 200);
    assert_eq!(
        seen["last"]["changed"],
        json!([
            "hooks.host_calls",
            "limits.batch_items_max",
            "quotas.namespaces",
            "topics.lease"
        ])
    );
    let of_calls = client.get("/v1/hooks/limits").await.ok();
    assert_eq!(of_calls["call"]["host_calls"], 9, "{of_calls}");
    assert_eq!(seen["restart_needed"], json!(["hot.flush_chunk"]));
    let namespace = client.get("/v1/namespaces/default").await.ok();
    assert_eq!(namespace["effective"]["lease_ms"], 77_000);
    let four = json!({"items": vec![json!({"text": "x"}); 4]});
    client
        .post("/v1/namespaces/default/topics/t/enqueue", four)
        .await
        .problem(422, "invalid_field");
    assert!(
        part(&client).await["detail"]
            .as_str()
            .unwrap()
            .contains("hot.flush_chunk")
    );
    // What is in force is shown, not what the file would have.
    let config = client.get("/v1/config").await.ok();
    let entry = |key: &str| {
        list(&config["entries"])
            .iter()
            .find(|entry| entry["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (
            &entry("hot.flush_chunk")["value"],
            &entry("hot.flush_chunk")["reloadable"]
        ),
        (&json!("1000"), &json!(false))
    );
    assert_eq!(entry("topics.lease")["value"], "77s");
    assert_eq!(entry("auth.jwt_secret")["value"], "****");

    replace(
        &file,
        "[quotas.namespaces]\ndefault = 'many'\n[log]\nlevel = 'loud'\n",
    );
    let seen = until(&client, "the failure", |seen| seen["failed"] == 1).await;
    assert_eq!(list(&seen["last"]["faults"]).len(), 2, "{seen}");
    assert_eq!(per_minute().await, 200);
    let ill = part(&client).await;
    assert_eq!(ill["ok"], false);
    assert!(
        ill["detail"].as_str().unwrap().contains("enqueues per minute"),
        "{ill}"
    );
    let problem = client
        .post("/v1/config/reload", json!({}))
        .await
        .problem(422, "config_invalid");
    assert_eq!(problem["errors"][0]["field"], "quotas.namespaces");
    std::fs::write(&file, "[quotas").unwrap();
    until(&client, "the second failure", |seen| {
        seen["last"]["faults"][0]["key"].is_null()
    })
    .await;

    replace(&file, "[quotas.namespaces]\ndefault = 300\n");
    until(&client, "the repair", |seen| seen["last"]["ok"] == true).await;
    assert_eq!(per_minute().await, 300);
    assert_eq!(part(&client).await["ok"], true);
    let numbers = client.get("/metrics").await.text;
    assert!(
        numbers
            .lines()
            .any(|line| line == "mqueue_config_reloads_succeeded_total 2"),
        "{numbers}"
    );
    assert!(
        numbers
            .lines()
            .any(|line| line == "mqueue_config_last_reload_ok 1"),
        "{numbers}"
    );
}

#[tokio::test]
async fn a_swapped_link_an_editor_and_a_signal_reach_the_server() {
    use std::os::unix::fs::symlink;
    let server = Server::setup().set("quotas.default_leases", "9").start().await;
    let (client, dir) = (server.client(), server.dir().to_owned());
    // As a mounted volume: the file is a link into a folder that is itself a link, which is swapped.
    for (version, per_minute) in [("..1", 10), ("..2", 20)] {
        std::fs::create_dir(dir.join(version)).unwrap();
        let text = format!("[quotas]\ndefault_per_minute = {per_minute}\n");
        std::fs::write(dir.join(version).join("mqueue.toml"), text).unwrap();
    }
    let swap = |version: &str| {
        symlink(version, dir.join("..next")).unwrap();
        std::fs::rename(dir.join("..next"), dir.join("..data")).unwrap();
    };
    let per_minute = async || client.get("/v1/namespaces/default/quota").await.ok()["per_minute"].clone();
    swap("..1");
    symlink("..data/mqueue.toml", dir.join("mqueue.toml")).unwrap();
    until(&client, "the mount", |seen| seen["succeeded"] == 1).await;
    assert_eq!(per_minute().await, 10);
    swap("..2");
    until(&client, "the swap", |seen| seen["succeeded"] == 2).await;
    assert_eq!(per_minute().await, 20);
    // A flag goes before the file.
    std::fs::write(
        dir.join(".env"),
        "MQUEUE_QUOTAS_DEFAULT_PER_MINUTE=30\nMQUEUE_QUOTAS_DEFAULT_LEASES=1\n",
    )
    .unwrap();
    until(&client, "the variables", |seen| seen["succeeded"] == 3).await;
    assert_eq!(per_minute().await, 30);
    assert_eq!(
        client.get("/v1/namespaces/default/quota").await.ok()["leases_max"],
        9
    );

    server.signal(Signal::HUP);
    let seen = until(&client, "the signal", |seen| seen["succeeded"] == 4).await;
    assert_eq!(
        (&seen["last"]["trigger"], &seen["last"]["changed"]),
        (&json!("signal"), &json!([]))
    );
    let shown = server.command(&["config", "show", "--server"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(".env MQUEUE_QUOTAS_DEFAULT_PER_MINUTE"), "{shown}");
    let reload = server.command(&["config", "reload"]).output().unwrap();
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(reloads(&client).await["succeeded"], 5);
}

#[tokio::test]
async fn the_level_of_the_log_changes_while_it_is_written() {
    let server = Server::setup().file("[log]\nlevel = 'info'\n").start().await;
    let client = server.client();
    for (count, level) in [(1, "error"), (2, "info")] {
        let text = format!("[log]\nlevel = '{level}'\n");
        replace(&server.dir().join("mqueue.toml"), &text);
        until(&client, "the reload", |seen| seen["succeeded"] == count).await;
    }
    let log = server.log();
    let line = log.wait_for(|line| {
        line["message"]
            .as_str()?
            .contains("was read again")
            .then(|| line.clone())
    });
    assert_eq!(line.await["changed"], "log.level");
    let told = log.text().matches("was read again").count();
    assert_eq!(told, 1, "what an error level leaves out was written all the same");
}

/// An Ed25519 key with its public half as a JSON web key named `kid`.
fn key(kid: &str) -> (KeyPair, Value) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key_raw());
    (pair, json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}))
}

fn signed(pair: &KeyPair, kid: &str) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.kid = Some(kid.into());
    let claims =
        json!({"sub": kid, "namespaces": ["*"], "scope": "enqueue", "exp": 9_000_000_000_u64, "aud": "q"});
    let key = jsonwebtoken::EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[tokio::test]
async fn keys_and_secrets_rotate_without_a_refused_request() {
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("keys.json");
    let ((one, one_jwk), (two, two_jwk)) = (key("one"), key("two"));
    std::fs::write(&jwks, json!({"keys": [one_jwk]}).to_string()).unwrap();
    let server = Server::setup()
        .set("auth.jwks_file", jwks.to_str().unwrap())
        .start()
        .await;
    let admin = server.client();
    let who = |token: String| server.client_with(Some(token));
    let (one, two) = (who(signed(&one, "one")), who(signed(&two, "two")));
    let looks = async |client: &Client| client.get("/v1/namespaces/default").await.status;
    assert_eq!((looks(&one).await, looks(&two).await), (200, 401));
    // Both for a while, then the new one alone; a broken file in between takes nobody's key away.
    replace(&jwks, &json!({"keys": [one_jwk, two_jwk]}).to_string());
    until(&admin, "both keys", |seen| seen["succeeded"] == 1).await;
    assert_eq!((looks(&one).await, looks(&two).await), (200, 200));
    replace(&jwks, "{\"keys\": [");
    until(&admin, "the broken file", |seen| seen["failed"] == 1).await;
    assert_eq!((looks(&one).await, looks(&two).await), (200, 200));
    replace(&jwks, &json!({"keys": [two_jwk]}).to_string());
    let seen = until(&admin, "the new key", |seen| seen["succeeded"] == 2).await;
    assert_eq!(seen["last"]["changed"], json!(["auth.jwks_file"]));
    let noted = changes(&admin, 2).await;
    let ids = |change: &Value, side: &str| change[side]["auth.key_ids"].as_str().unwrap().to_owned();
    assert!(ids(&noted[0], "before").contains("one") && !ids(&noted[0], "before").contains("two"));
    assert_eq!(ids(&noted[0], "after"), ids(&noted[1], "before"));
    assert!(ids(&noted[1], "after").contains("two") && !ids(&noted[1], "after").contains("one"));
    assert_eq!(noted[0]["actor"], "mqueue");
    assert_eq!((looks(&one).await, looks(&two).await), (401, 200));
}

#[tokio::test]
async fn a_new_secret_signs_and_the_old_one_is_still_heard() {
    let (old, new) = (
        "old-canary-secret-0123456789-abcdef",
        "new-canary-secret-0123456789-abcdef",
    );
    let first = format!("[auth]\njwt_secret = '{old}'\n");
    let server = Server::setup().without_secret().file(&first).start().await;
    let file = |text: &str| replace(&server.dir().join("mqueue.toml"), text);
    let mint = || {
        let output = server.local_command().arg("token").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let before = server.client_with(Some(mint()));
    let topic = before.topic("t");
    topic.enqueue(json!([{"text": "x"}])).await;
    let held = topic.dequeue(1).await;
    file(&format!(
        "[auth]\njwt_secret = '{new}'\njwt_secret_previous = ['{old}']\n"
    ));
    let after = server.client_with(Some(mint()));
    until(&before, "the rotation", |seen| seen["succeeded"] == 1).await;
    until(&after, "the new secret", |seen| seen["succeeded"] == 1).await;
    // Leases outlive the secret they were made under.
    assert_eq!(after.topic("t").ack(&held).await, ["ok"]);
    file(&format!("[auth]\njwt_secret = '{new}'\n"));
    until(&after, "the end of the old secret", |seen| seen["succeeded"] == 2).await;
    before.get("/v1/config").await.problem(401, "unauthorized");
    let noted = changes(&after, 2).await;
    for change in &noted {
        assert_ne!(change["before"]["auth.key_ids"], change["after"]["auth.key_ids"]);
        assert_eq!(
            change["after"]["auth.jwt_secret_previous"],
            if *change == noted[0] { "****" } else { "" }
        );
        assert!(!change.to_string().contains("canary"), "{change}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_lifts_no_quota() {
    let text = "[quotas.namespaces]\ndefault = 100\n";
    let server = Server::setup().file(text).start().await;
    let (client, file) = (server.client(), server.dir().join("mqueue.toml"));
    let limited = async || client.get("/v1/namespaces/default/quota").await.ok()["limited"].clone();
    std::fs::remove_file(&file).unwrap();
    let seen = until(&client, "the fault", |seen| seen["failed"] == 1).await;
    let fault = seen["last"]["faults"][0]["detail"].as_str().unwrap();
    assert!(fault.contains("mqueue.toml is gone"), "{fault}");
    client
        .post("/v1/config/reload", json!({}))
        .await
        .problem(422, "config_invalid");
    assert_eq!(
        (limited().await, &part(&client).await["ok"]),
        (json!(true), &json!(false))
    );
    // What was asked for is noted though it changed nothing.
    let noted = changes(&client, 1).await;
    assert_eq!(noted[0]["actor"], "tester");
    assert!(
        noted[0]["after"]["faults"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("gone")
    );
    // An empty one says that nothing is limited.
    replace(&file, "");
    until(&client, "the repair", |seen| seen["last"]["ok"] == true).await;
    assert_eq!(limited().await, false);
}

#[tokio::test]
async fn another_data_folder_counts_at_the_next_start_and_brings_no_other_secret_before() {
    let server = Server::setup()
        .without_secret()
        .without_data_dir()
        .file("[storage]\ndata_dir = 'data'\n")
        .start()
        .await;
    let minted = server.local_command().arg("token").output().unwrap();
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let client = server.client_with(Some(token));
    replace(
        &server.dir().join("mqueue.toml"),
        "[storage]\ndata_dir = 'elsewhere'\n[auth]\nleeway = '7s'\n",
    );
    let seen = until(&client, "the reload", |seen| seen["succeeded"] == 1).await;
    assert_eq!(seen["last"]["changed"], json!(["auth.leeway"]));
    assert_eq!(seen["restart_needed"], json!(["storage.data_dir"]));
    assert!(!server.dir().join("elsewhere").exists());
}

#[tokio::test]
async fn a_thousand_reloads_under_load_fail_no_request() {
    const RELOADS: u32 = 1_000;
    let server = Server::setup()
        .file("[quotas.namespaces]\ndefault = 4000000000\n")
        .start()
        .await;
    let (client, file) = (server.client(), server.dir().join("mqueue.toml"));
    let stop = tokio_util::sync::CancellationToken::new();
    let load = (0..4).map(|n| {
        let (topic, stop) = (client.topic(&format!("t{n}")), stop.clone());
        tokio::spawn(async move {
            let mut rounds = 0_u64;
            while !stop.is_cancelled() {
                topic.enqueue(json!([{"text": "x"}, {"text": "y"}])).await;
                let held = topic.dequeue(2).await;
                assert_eq!(topic.ack(&held).await, ["ok", "ok"]);
                rounds += 1;
            }
            rounds
        })
    });
    let load: Vec<_> = load.collect();
    let mut longest = Duration::ZERO;
    for n in 0..RELOADS {
        let is_wrong = n % 2 == 1;
        let rate = 4_000_000_000_u32 - n;
        let text = match n % 4 {
            1 => "[quotas.namespaces]\ndefault = 'none'\n".to_owned(),
            3 => "[quotas.names".to_owned(),
            _ => format!(
                "[quotas.namespaces]\ndefault = {rate}\n[topics]\nlease = '{}s'\n",
                30 + n % 60
            ),
        };
        replace(&file, &text);
        let began = Stopwatch::start();
        let reply = client.post("/v1/config/reload", json!({})).await;
        longest = longest.max(began.elapsed());
        if is_wrong {
            reply.problem(422, "config_invalid");
        } else {
            reply.ok();
            let quota = client.get("/v1/namespaces/default/quota").await.ok();
            assert_eq!(quota["per_minute"], rate);
        }
    }
    stop.cancel();
    let mut rounds = 0;
    for worker in load {
        rounds += worker.await.unwrap();
    }
    println!("{RELOADS} reloads beside {rounds} rounds of requests; the longest took {longest:?}");
    let seen = reloads(&client).await;
    assert!(
        seen["succeeded"].as_u64().unwrap() >= u64::from(RELOADS / 2),
        "{seen}"
    );
    assert!(rounds > 0);
}
