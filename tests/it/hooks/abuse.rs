//! Uploads that are no hooks, floods, and callers who may not.

use mqueue::tenant::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Hooks, keeping, upper};
use crate::server::{Server, token};

#[tokio::test]
async fn what_is_no_hook_is_refused_with_a_reason() {
    let server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    let cut = &keeping()[..200];
    for module in [
        b"".to_vec(),
        b"hello".to_vec(),
        b"\0asm".to_vec(),
        b"\0asm\x01\0\0\0".to_vec(),
        b"\0asm\x0d\0\x01\0\xff\xff\xff\xff".to_vec(),
        b"(module)".to_vec(),
        b"(module (func (export \"x\")))".to_vec(),
        cut.as_bytes().to_vec(),
        keeping()
            .replace("hooks/enqueue@0.1.0", "hooks/enqueue@9.9.9")
            .into_bytes(),
        vec![0xff; 100_000],
    ] {
        let reply = hooks.upload("bad", module).await;
        let problem = reply.problem(422, "hook_refused");
        assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
    }
    server
        .client()
        .get(&hooks.at("hooks/bad"))
        .await
        .problem(404, "unknown_hook");
    hooks.uploaded("good", keeping()).await;
}

#[tokio::test]
async fn a_flood_of_uploads_is_held_back_and_harms_nobody_else() {
    let server = Server::start().await;
    let hooks = Hooks::of(server.client(), "flood");
    let module = |n: usize| format!("{};; {n}\n", upper());
    let flood = futures_util::future::join_all((0..40).map(|n| hooks.upload("h", module(n))));
    let other = async {
        let topic = server.client().topic("quiet");
        for _ in 0..20 {
            topic.enqueue(json!([{"text": "x"}])).await;
        }
        topic.counts().await
    };
    let (replies, counts) = tokio::join!(flood, other);
    assert_eq!(counts, [20, 0, 0, 0]);
    let taken = replies.iter().filter(|reply| reply.status < 300).count();
    assert!(taken >= 1);
    for reply in replies.iter().filter(|reply| reply.status >= 300) {
        reply.problem(429, "hooks_busy");
    }
    assert!(taken < 40, "nothing was held back");
}

#[tokio::test]
async fn only_the_tenant_with_the_scope_comes_near_its_hooks() {
    let server = Server::start().await;
    let owner = Hooks::of(server.client(), "a");
    owner.uploaded("h", keeping()).await;
    owner.bind("b", "h", "t").await;
    let stranger = server.client_with(Some(token(Some(&["b"]), &Scope::ALL)));
    let producer = server.client_with(Some(token(Some(&["a"]), &[Scope::Enqueue, Scope::Dequeue])));
    let writer = server.client_with(Some(token(Some(&["a"]), &[Scope::Hooks])));
    for path in [
        "hooks",
        "hooks/h",
        "hooks/h/versions/1/module",
        "hooks/h/logs",
        "bindings/b",
        "audit",
    ] {
        let path = owner.at(path);
        stranger.get(&path).await.problem(403, "forbidden");
        producer.get(&path).await.problem(403, "insufficient_scope");
        assert_eq!(writer.get(&path).await.status, 200, "{path}");
    }
    let forced = Hooks::of(writer, "a");
    let force = json!({"version": 1, "force": true});
    forced
        .activate("b", "*", force)
        .await
        .problem(403, "insufficient_scope");
    let blind = server.client().request(Method::DELETE, &owner.at("bindings/b"));
    server
        .client()
        .send(blind)
        .await
        .problem(428, "precondition_required");
    let stale = owner
        .change(Method::DELETE, "bindings/b", ("if-match", "\"999\""), Value::Null)
        .await;
    stale.problem(412, "precondition_failed");
    // Another tenant's hook of the same name is another hook.
    let other = Hooks::of(stranger, "b");
    other
        .client
        .get(&other.at("hooks/h"))
        .await
        .problem(404, "unknown_hook");
}
