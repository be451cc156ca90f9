//! Uploads that are made to break the compiler or the parser, at full size, against a real server: each is refused
//! with a reason or harmless, never a fault of the server's, and nobody else waits.

use std::fmt::Write as _;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::guests::Guest;
use crate::hook_abuse::{report, waits};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

const MEMORY: &str = "(memory (export \"memory\") 1)";

/// A sound hook with something put beside its memory.
fn beside(field: &str) -> String {
    let wat = Guest::default().enqueue();
    assert!(wat.contains(MEMORY));
    wat.replace(MEMORY, &format!("{MEMORY} {field}"))
}

fn numbered(count: usize, field: impl Fn(&mut String, usize)) -> String {
    let mut text = String::new();
    for number in 0..count {
        field(&mut text, number);
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_and_c3_bombs_for_the_compiler_at_full_size_are_refused_and_nobody_else_waits() {
    let server = Server::start().await;
    let client = server.client();
    let quiet = waits(&client, 100).await;
    let bombs = [
        (
            "C1 a branch table of 10^6",
            beside(&format!(
                "(func (br_table {}(i32.const 0)))",
                "0 ".repeat(1_000_000)
            )),
        ),
        ("C1 10^6 empty functions", beside(&"(func)".repeat(1_000_000))),
        (
            "C1 10^5 types",
            beside(&numbered(100_000, |text, number| {
                let params = format!("{number:b}").replace('0', "i32 ").replace('1', "i64 ");
                let _ = write!(text, "(type (func (param {params})))");
            })),
        ),
        (
            "C3 10^6 exports",
            beside(&format!(
                "(func $e) {}",
                numbered(1_000_000, |text, number| {
                    let _ = write!(text, "(export \"{number:x}\"(func $e))");
                })
            )),
        ),
    ];
    let uploads = bombs.into_iter().enumerate().map(|(number, (name, wat))| {
        let hooks = Hooks::of(&client, &format!("bomber-{number}"));
        async move {
            hooks.upload("h", wat).await.problem(422, "hook_refused");
            assert_eq!(hooks.client.get(&hooks.at("hooks/h")).await.status, 404, "{name}");
        }
    });
    let (_, meanwhile) = tokio::join!(futures_util::future::join_all(uploads), waits(&client, 50));
    report("C1 and C3 at full size", meanwhile, quiet);
}

#[tokio::test]
async fn c2_what_becomes_of_a_good_module_by_chance_is_refused_or_runs() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks
        .put("good", Side::Enqueue, Guest::default(), json!({}))
        .await;
    let path = hooks.at("hooks/good/versions/1/module");
    let request = hooks.client.request(reqwest::Method::GET, &path);
    let good = request.send().await.unwrap().bytes().await.unwrap().to_vec();
    assert!(good.starts_with(b"\0asm"));
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut chance = SmallRng::seed_from_u64(seed);
    for round in 0..150 {
        let mut bytes = good.clone();
        match round % 5 {
            0 => bytes.truncate(chance.random_range(0..bytes.len())),
            1 => {
                // A number that has no end.
                let at = chance.random_range(8..bytes.len());
                bytes.splice(at..at, [0xff; 12]);
            }
            2 => bytes.extend_from_slice(&good[..chance.random_range(1..64)]),
            _ => {
                for _ in 0..chance.random_range(1..8) {
                    let at = chance.random_range(0..bytes.len());
                    bytes[at] ^= 1 << chance.random_range(0..8);
                }
            }
        }
        let path = hooks.at("hooks/bad/versions");
        let request = hooks.client.request(reqwest::Method::POST, &path);
        let request = request.header("content-type", "application/wasm").body(bytes);
        let reply = hooks.client.send(request).await;
        if !matches!(reply.status, 200 | 201) {
            let problem = reply.problem(422, "hook_refused");
            assert!(
                problem["detail"].as_str().is_some_and(|why| why.len() > 10),
                "{problem}"
            );
        }
    }
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
}
