//! What tests do with the hooks of a namespace, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::guests::Guest;

/// Which way a hook stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Enqueue,
    Dequeue,
}

impl Side {
    /// The text of `guest` on this side.
    pub(crate) fn wat(self, guest: &Guest<'_>) -> String {
        match self {
            Self::Enqueue => guest.enqueue(),
            Self::Dequeue => guest.dequeue(),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
        }
    }
}

/// The hooks of one namespace.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Hooks {
    pub(crate) fn of(client: &Client, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
        }
    }

    /// The path of something of the namespace's.
    pub(crate) fn at(&self, rest: &str) -> String {
        format!("/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// Uploads a module's text.
    pub(crate) async fn upload(&self, hook: &str, wat: String) -> Reply {
        let path = self.at(&format!("hooks/{hook}/versions"));
        let request = self.client.request(Method::POST, &path);
        self.client
            .send(request.header("content-type", "text/wat").body(wat))
            .await
    }

    /// Uploads a module that must be taken; returns its version.
    pub(crate) async fn push(&self, hook: &str, wat: String) -> u64 {
        let reply = self.upload(hook, wat).await;
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
        reply.json()["version"].as_u64().unwrap()
    }

    /// Binds a version under the hook's name.
    pub(crate) async fn bind(&self, hook: &str, version: u64, side: Side, more: Value) -> Value {
        let mut body = json!({"topic": "*", "side": side.word(), "hook": hook, "version": version});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let path = self.at(&format!("bindings/{hook}"));
        let request = self.client.request(Method::PUT, &path).json(&body);
        let current = self.client.get(&path).await;
        let request = match current.status {
            200 => request.header("if-match", current.header("etag")),
            _ => request.header("if-none-match", "*"),
        };
        let reply = self.client.send(request).await;
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
        reply.json()
    }

    /// Uploads and binds in one go.
    pub(crate) async fn put(&self, hook: &str, side: Side, guest: Guest<'_>, more: Value) {
        let version = self.push(hook, side.wat(&guest)).await;
        self.bind(hook, version, side, more).await;
    }

    /// Enqueues `items` into `topic`; the whole answer.
    pub(crate) async fn enqueue(&self, topic: &str, items: Value) -> Reply {
        let path = self.at(&format!("topics/{topic}/enqueue"));
        self.client.post(&path, json!({ "items": items })).await
    }

    /// Dequeues up to 100 items of `topic`.
    pub(crate) async fn dequeue(&self, topic: &str) -> Vec<Value> {
        let path = self.at(&format!("topics/{topic}/dequeue"));
        let reply = self.client.post(&path, json!({"max": 100})).await;
        reply.ok()["items"].as_array().unwrap().clone()
    }
}
