//! Hooks over HTTP, on the real binary, with guests made of text.

// By their paths, so that the file can be a module in several places.
#[path = "hooks/abuse.rs"]
mod abuse;
#[path = "hooks/life.rs"]
mod life;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::guests::{Guest, LOG, UPPER};

/// Gives every payload back in capitals.
fn upper() -> String {
    Guest {
        item: UPPER,
        ..Guest::default()
    }
    .enqueue()
}

/// Keeps every item and logs a line a call.
fn chatty() -> String {
    Guest {
        imports: LOG,
        fields: r#"(data (i32.const 64) "a line")"#,
        body: "(call $log (i32.const 2) (i32.const 64) (i32.const 6))",
        ..Guest::default()
    }
    .enqueue()
}

/// Refuses every item with the code `no-email`.
fn rejecting() -> String {
    Guest {
        fields: r#"(data (i32.const 64) "no-email")"#,
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 5))
               (i32.store offset=16 (local.get $verdict) (i32.const 64))
               (i32.store offset=20 (local.get $verdict) (i32.const 8))
               (i32.store offset=24 (local.get $verdict) (i32.const 64))
               (i32.store offset=28 (local.get $verdict) (i32.const 8))",
        ..Guest::default()
    }
    .enqueue()
}

/// Keeps every item.
fn keeping() -> String {
    Guest::default().enqueue()
}

/// What tests do with the hooks of one namespace.
struct Hooks {
    client: Client,
    namespace: String,
}

impl Hooks {
    fn of(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: format!("/v1/namespaces/{namespace}"),
        }
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.namespace)
    }

    async fn upload(&self, hook: &str, module: impl Into<reqwest::Body>) -> Reply {
        let request = self
            .client
            .request(Method::POST, &self.at(&format!("hooks/{hook}/versions")))
            .header("content-type", "application/wasm")
            .body(module);
        self.client.send(request).await
    }

    /// The number of a new version.
    async fn uploaded(&self, hook: &str, module: String) -> u64 {
        let reply = self.upload(hook, module).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["version"].as_u64().unwrap()
    }

    /// Sends with a condition.
    async fn change(&self, method: Method, rest: &str, condition: (&str, &str), body: Value) -> Reply {
        let request = self
            .client
            .request(method, &self.at(rest))
            .header(condition.0, condition.1);
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        self.client.send(request).await
    }

    /// Makes the binding `id` of version 1 of a hook for `topic` and returns its ETag.
    async fn bind(&self, id: &str, hook: &str, topic: &str) -> String {
        let draft = json!({"topic": topic, "side": "enqueue", "hook": hook, "version": 1});
        let path = format!("bindings/{id}");
        let made = self
            .change(Method::PUT, &path, ("if-none-match", "*"), draft)
            .await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.header("etag").to_owned()
    }

    async fn activate(&self, id: &str, etag: &str, body: Value) -> Reply {
        let path = format!("bindings/{id}/activate");
        self.change(Method::POST, &path, ("if-match", etag), body).await
    }
}
