//! Who may do what: every documented operation against every kind of token.
//!
//! The operations come from `/openapi.json`: a new one is tested without being listed here, and fails here
//! until [`body`] and [`needs`] know it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mqueue::clock::Clock;
use mqueue::tenant::{MintClaims, Scope, mint};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::client::{Client, Reply, lease};
use crate::server::{SECRET, Server, token};

/// One documented operation.
struct Operation {
    id: String,
    method: Method,
    path: String,
    secured: bool,
    has_body: bool,
    query: String,
}

/// What an operation asks of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// Any scope in the namespace.
    Looking,
    /// This scope in the namespace.
    In(Scope),
    /// This scope, whatever the namespace.
    Anywhere(Scope),
    /// Every namespace.
    Everything,
    /// `admin` in every namespace.
    Operating,
    /// A valid token, whatever it opens.
    Token,
    /// `hooks` or `admin` in the namespace.
    Audit,
}

fn needs(operation: &Operation) -> Needs {
    match operation.id.as_str() {
        "health" | "livez" | "readyz" | "get_problem" => Needs::Nothing,
        "metrics" => Needs::Everything,
        "list_nodes" | "forget_node" | "list_shards" | "move_slots" => Needs::Operating,
        "enqueue" | "classic_enqueue" => Needs::In(Scope::Enqueue),
        "dequeue" | "dequeue_many" | "classic_dequeue" | "classic_ack" | "classic_nack" => {
            Needs::In(Scope::Dequeue)
        }
        "ack" | "nack" | "extend" | "release" | "reject" => Needs::Anywhere(Scope::Dequeue),
        "events" | "get_hook_limits" | "get_hook_wit" | "list_namespaces" => Needs::Token,
        "get_all_audit" => Needs::Everything,
        "get_audit" => Needs::Audit,
        "put_quota" | "delete_quota" | "get_config" | "reload_config" => Needs::Operating,
        id if of_hooks(id) => Needs::In(Scope::Hooks),
        _ if operation.method == Method::GET => Needs::Looking,
        _ => Needs::In(Scope::Admin),
    }
}

fn of_hooks(id: &str) -> bool {
    id.contains("hook") || id.contains("binding")
}

fn body(operation: &Operation, namespace: &str) -> Value {
    match operation.id.as_str() {
        "enqueue" => json!({"items": [{"text": "x"}]}),
        "dequeue" | "put_topic" | "put_namespace" | "redrive_dead" | "put_quota" => json!({}),
        "dequeue_many" => json!({"topics": [{"topic": "t"}]}),
        "ack" | "nack" | "extend" | "release" | "reject" => json!({"leases": [{"lease_id": "none"}]}),
        "classic_enqueue" => json!([{"namespace": namespace, "topic": "t"}]),
        "classic_ack" | "classic_nack" => json!({"id": "1", "namespace": namespace, "topic": "t"}),
        "order_operation" => json!({"kind": "purge", "topic": "t"}),
        "put_binding" => json!({"topic": "*", "side": "enqueue", "hook": "h", "version": 1}),
        "move_slots" => json!({"balance": true, "dry_run": true}),
        "activate_binding" => json!({"version": 1}),
        "add_hook_version" | "put_hook_version" => json!({"module": "AA=="}),
        "dry_run_hook" => json!({"items": [{"text": "x"}]}),
        "put_hook_test" => json!({"side": "enqueue", "item": {"text": "x"}, "expect": {"verdict": "keep"}}),
        other => panic!("say here which body the new operation {other} takes"),
    }
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let parameters = described["parameters"].as_array().into_iter().flatten();
            let required = parameters.filter(|p| p["in"] == "query" && p["required"] == true);
            let query: Vec<_> = required
                .map(|p| format!("{0}={{{0}}}", p["name"].as_str().unwrap()))
                .collect();
            found.push(Operation {
                id: described["operationId"].as_str().unwrap().to_owned(),
                method: Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap(),
                path: path.clone(),
                secured: described["security"]
                    .as_array()
                    .is_some_and(|list| !list.is_empty()),
                has_body: described.get("requestBody").is_some(),
                query: query.join("&"),
            });
        }
    }
    found
}

impl Operation {
    /// The request in `namespace`.
    fn request(&self, client: &Client, namespace: &str) -> RequestBuilder {
        let fill = |template: &str| {
            let filled = template
                .replace("{ns}", namespace)
                .replace("{namespace}", namespace);
            let filled = filled
                .replace("{topic}", "t")
                .replace("{id}", "1")
                .replace("{hook}", "h")
                .replace("{version}", "1")
                .replace("{binding}", "h")
                .replace("{node}", "9")
                .replace("{test}", "t")
                .replace("{code}", "unauthorized");
            assert!(!filled.contains('{'), "say here what {template} takes");
            filled
        };
        let request = client.request(
            self.method.clone(),
            &format!("{}?{}", fill(&self.path), fill(&self.query)),
        );
        // So that metrics do not take this machine for their reader.
        let request = request.header("x-forwarded-for", "192.0.2.1");
        if self.has_body {
            request.json(&body(self, namespace))
        } else {
            request
        }
    }

    /// Whether the request says in which namespace it acts.
    fn names_a_namespace(&self) -> bool {
        matches!(needs(self), Needs::Looking | Needs::In(_) | Needs::Audit)
    }
}

fn expired() -> String {
    let claims = MintClaims {
        subject: "late".into(),
        namespaces: None,
        scopes: Scope::ALL.to_vec(),
        audience: None,
        issuer: None,
    };
    let then = Clock::system().now().plus_ms(-3_600_000);
    mint(SECRET.as_bytes(), &claims, then, Duration::from_secs(60)).unwrap()
}

/// A server with a topic `t` in the namespaces `mine` and `theirs`.
async fn furnished() -> (Server, Vec<Operation>) {
    let server = Server::start().await;
    let client = server.client();
    for namespace in ["mine", "theirs"] {
        let path = format!("/v1/namespaces/{namespace}/topics/t/enqueue");
        client.post(&path, json!({"items": [{"text": "x"}]})).await.ok();
    }
    let operations = operations(&client.get("/openapi.json").await.ok());
    assert!(
        operations.len() > 30,
        "only {} operations are documented",
        operations.len()
    );
    (server, operations)
}

/// A client with an address of its own: refused tokens are counted by address, and too many get 429.
fn visitor(server: &Server, index: usize, token: Option<String>) -> Client {
    let address = Ipv4Addr::new(127, 0, 1, u8::try_from(index + 1).unwrap());
    Client::new(server.url(), token, Some(IpAddr::V4(address)))
}

#[tokio::test]
async fn no_operation_opens_without_a_valid_token() {
    let (server, operations) = furnished().await;
    for (index, operation) in operations.iter().enumerate() {
        let tokens = [
            None,
            Some("garbage".to_owned()),
            Some(expired()),
            Some(tampered()),
        ];
        for token in tokens {
            let client = visitor(&server, index, token.clone());
            let reply = client.send(operation.request(&client, "mine")).await;
            let id = &operation.id;
            if needs(operation) == Needs::Nothing {
                assert!(!operation.secured, "{id} is documented as secured");
                assert_eq!(reply.status, 200, "{id} with {token:?}");
            } else {
                assert!(operation.secured, "{id} is documented as open");
                reply.problem(401, "unauthorized");
            }
        }
    }
}

/// A token whose claims were changed after it was signed.
fn tampered() -> String {
    let mine = token(Some(&["mine"]), &Scope::ALL);
    let all = token(None, &Scope::ALL);
    let (head, claims) = (all.split('.').next().unwrap(), all.split('.').nth(1).unwrap());
    format!("{head}.{claims}.{}", mine.split('.').nth(2).unwrap())
}

#[tokio::test]
async fn every_operation_asks_for_its_scope() {
    let (server, operations) = furnished().await;
    for (index, operation) in operations.iter().enumerate() {
        let wrong: Vec<Scope> = match needs(operation) {
            Needs::In(scope) | Needs::Anywhere(scope) => Scope::ALL
                .iter()
                .copied()
                .filter(|other| *other != scope)
                .collect(),
            Needs::Looking => vec![Scope::Hooks],
            Needs::Audit => vec![Scope::Enqueue, Scope::Dequeue],
            Needs::Nothing | Needs::Everything | Needs::Operating | Needs::Token => continue,
        };
        let client = visitor(&server, index, Some(token(Some(&["mine"]), &wrong)));
        let problem = client
            .send(operation.request(&client, "mine"))
            .await
            .problem(403, "insufficient_scope");
        let scope = match needs(operation) {
            Needs::In(Scope::Enqueue) => "enqueue",
            Needs::In(Scope::Admin) => "admin",
            Needs::In(Scope::Hooks) | Needs::Audit => "hooks",
            _ => "dequeue",
        };
        assert!(
            problem["detail"].as_str().unwrap().contains(scope),
            "{}: {problem}",
            operation.id
        );
    }
}

#[tokio::test]
async fn a_foreign_namespace_looks_like_one_that_does_not_exist() {
    let (server, operations) = furnished().await;
    let mut named = 0;
    for (index, operation) in operations.iter().enumerate() {
        if !operation.names_a_namespace() {
            continue;
        }
        named += 1;
        let client = visitor(&server, index, Some(token(Some(&["mine"]), &Scope::ALL)));
        let answered = async |namespace: &str| {
            let reply = client.send(operation.request(&client, namespace)).await;
            let mut problem = reply.problem(403, "forbidden");
            problem["request_id"] = Value::Null;
            problem
        };
        assert_eq!(
            answered("theirs").await,
            answered("nobody").await,
            "{}",
            operation.id
        );
    }
    assert!(named > 20, "only {named} operations name a namespace");
    let theirs = server
        .client()
        .get("/v1/namespaces/theirs/topics/t/stats")
        .await
        .ok();
    assert_eq!(
        (&theirs["ready"], &theirs["delivered_total"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn the_right_token_opens_every_operation() {
    let (server, operations) = furnished().await;
    for (index, operation) in operations.iter().enumerate() {
        let (namespaces, scopes): (_, &[Scope]) = match needs(operation) {
            Needs::In(scope) | Needs::Anywhere(scope) => (Some(&["mine"][..]), &[scope]),
            Needs::Everything | Needs::Operating => (None, &[Scope::Admin]),
            Needs::Audit => (Some(&["mine"][..]), &[Scope::Hooks]),
            // Any scope is enough to look.
            Needs::Looking | Needs::Nothing | Needs::Token => (Some(&["mine"][..]), &[Scope::Dequeue]),
        };
        let client = visitor(&server, index, Some(token(namespaces, scopes)));
        if operation.id == "events" {
            // It has no end, and tests of its own.
            continue;
        }
        let reply = client.send(operation.request(&client, "mine")).await;
        // Operations come in the document's order: the topic may be gone, the item 1 never was.
        let fits = match operation.id.as_str() {
            "get_item" | "cancel_item" | "explain_item" => {
                is(&reply, 404, "unknown_item") || is(&reply, 404, "unknown_topic")
            }
            "classic_ack" | "classic_nack" => is(&reply, 409, "not_leased"),
            "forget_node" => is(&reply, 409, "conflict"),
            "delete_topic" | "delete_namespace" => is(&reply, 400, "confirmation_required"),
            "order_operation" => reply.status == 202,
            "get_operation" | "cancel_operation" => {
                reply.status == 200 || reply.status == 409 || reply.status == 404
            }
            // There is no hook, and no condition says what is expected.
            id if of_hooks(id) => [200, 404, 422, 428].contains(&reply.status),
            _ => reply.status == 200 || is(&reply, 404, "unknown_topic"),
        };
        assert!(fits, "{} answered {} {}", operation.id, reply.status, reply.text);
    }
}

#[tokio::test]
async fn who_runs_the_servers_is_an_administrator_of_every_namespace() {
    let (server, operations) = furnished().await;
    let operating = operations
        .iter()
        .filter(|operation| needs(operation) == Needs::Operating);
    let mut count = 0;
    for (index, operation) in operating.enumerate() {
        count += 1;
        let with = |namespaces: Option<&[&str]>, scopes: &[Scope]| {
            visitor(&server, index, Some(token(namespaces, scopes)))
        };
        let tenant = with(Some(&["mine"]), &Scope::ALL);
        tenant
            .send(operation.request(&tenant, "mine"))
            .await
            .problem(403, "forbidden");
        let worker = with(None, &[Scope::Enqueue, Scope::Dequeue, Scope::Hooks]);
        let refused = worker.send(operation.request(&worker, "mine")).await;
        refused.problem(403, "insufficient_scope");
    }
    assert!(count > 4, "{count}");
}

fn is(reply: &Reply, status: u16, code: &str) -> bool {
    reply.status == status && reply.json()["code"] == code
}

#[tokio::test]
async fn a_foreign_lease_is_as_good_as_a_forged_one() {
    let server = Server::start().await;
    let owner = server.client().topic("t");
    owner.enqueue(json!([{"text": "x"}])).await;
    let held = owner.dequeue(1).await;
    let thief = server.client_with(Some(token(Some(&["mine"]), &Scope::ALL)));
    for verb in ["ack", "nack", "extend", "release", "reject"] {
        let answer = async |lease: Value| {
            thief
                .post(&format!("/v1/{verb}"), json!({"leases": [lease]}))
                .await
                .ok()
        };
        let stolen = answer(lease(&held[0])).await;
        assert_eq!(stolen, answer(json!({"lease_id": "forged"})).await, "{verb}");
        assert_eq!(stolen, json!({"results": [{"status": "lease_lost"}]}), "{verb}");
    }
    let then = json!({"leases": [], "then_dequeue": {"namespace": "default", "topic": "t"}});
    thief.post("/v1/ack", then).await.problem(403, "forbidden");
    assert_eq!(owner.counts().await, [0, 0, 1, 0]);
    assert_eq!(owner.ack(&held).await, ["ok"]);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_slowed_and_a_good_one_is_not() {
    let server = Server::start().await;
    let bad = server.client_with(Some("garbage".into()));
    let mut slowed = None;
    for _ in 0..100 {
        let reply = bad.get("/v1/namespaces/default").await;
        if reply.status == 429 {
            slowed = Some(reply);
            break;
        }
        reply.problem(401, "unauthorized");
    }
    slowed
        .expect("no brake after 100 bad tokens")
        .problem(429, "too_many_failures");
    server.client().get("/v1/namespaces/default").await.ok();
}

#[tokio::test]
async fn only_administrators_of_everything_rule() {
    let (server, operations) = furnished().await;
    let ruling: Vec<_> = operations
        .iter()
        .filter(|operation| needs(operation) == Needs::Operating)
        .collect();
    assert!(!ruling.is_empty());
    for operation in ruling {
        let of_one = server.client_with(Some(token(Some(&["mine"]), &[Scope::Admin])));
        let reply = of_one.send(operation.request(&of_one, "mine")).await;
        reply.problem(403, "forbidden");
        let others = [Scope::Enqueue, Scope::Dequeue, Scope::Hooks];
        let of_all = server.client_with(Some(token(None, &others)));
        let reply = of_all.send(operation.request(&of_all, "mine")).await;
        reply.problem(403, "insufficient_scope");
    }
}
