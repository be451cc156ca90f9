//! A JSON client that knows what every answer must look like.

use std::net::IpAddr;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// Speaks to one server with one token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// The request, for messages.
    what: String,
}

impl Client {
    /// A client of `url`; `from` is the loopback address to speak from.
    pub(crate) fn new(url: &str, token: Option<String>, from: Option<IpAddr>) -> Self {
        let http = reqwest::Client::builder().no_proxy().local_address(from);
        Self {
            http: http.build().unwrap(),
            url: url.to_owned(),
            token,
        }
    }

    /// A request with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends `request`, failing when there is no answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Reply {
        self.try_send(request).await.unwrap()
    }

    /// Sends `request`.
    pub(crate) async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        let request = request.build()?;
        let what = format!("{} {}", request.method(), request.url().path());
        let response = self.http.execute(request).await?;
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
            what,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    /// A change under a condition, a header and its value.
    pub(crate) async fn put_if(&self, path: &str, (header, value): (&str, &str), body: Value) -> Reply {
        let request = self.request(Method::PUT, path).header(header, value);
        self.send(request.json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A topic of the namespace `default`.
    pub(crate) fn topic(&self, name: &str) -> Topic {
        Topic {
            client: self.clone(),
            path: format!("/v1/namespaces/default/topics/{name}"),
        }
    }
}

/// What tests do with one topic.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) client: Client,
    pub(crate) path: String,
}

impl Topic {
    /// The path of something of the topic's.
    pub(crate) fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.path)
    }

    /// Enqueues items and returns their ids.
    pub(crate) async fn enqueue(&self, items: Value) -> Vec<String> {
        let answer = self
            .client
            .post(&self.at("enqueue"), json!({ "items": items }))
            .await
            .ok();
        let id = |result: &Value| {
            assert_eq!(result["status"], "accepted", "{result}");
            result["id"].as_str().unwrap().to_owned()
        };
        list(&answer["results"]).iter().map(id).collect()
    }

    /// Dequeues up to `max` items.
    pub(crate) async fn dequeue(&self, max: usize) -> Vec<Value> {
        self.dequeue_as(json!({ "max": max })).await
    }

    /// Dequeues as `body` says.
    pub(crate) async fn dequeue_as(&self, body: Value) -> Vec<Value> {
        let answer = self.client.post(&self.at("dequeue"), body).await.ok();
        list(&answer["items"]).to_vec()
    }

    /// The texts of the next items.
    pub(crate) async fn take(&self, max: usize) -> Vec<String> {
        self.dequeue(max).await.iter().map(text).collect()
    }

    /// Acks, nacks and the like: the status of each lease.
    pub(crate) async fn settle(&self, verb: &str, leases: &[Value]) -> Vec<String> {
        let answer = self
            .client
            .post(&format!("/v1/{verb}"), json!({ "leases": leases }))
            .await
            .ok();
        let status = |result: &Value| result["status"].as_str().unwrap().to_owned();
        list(&answer["results"]).iter().map(status).collect()
    }

    /// Acks deliveries.
    pub(crate) async fn ack(&self, deliveries: &[Value]) -> Vec<String> {
        let leases: Vec<_> = deliveries.iter().map(lease).collect();
        self.settle("ack", &leases).await
    }

    /// Ready, scheduled, leased, dead.
    pub(crate) async fn counts(&self) -> [u64; 4] {
        let stats = self.client.get(&self.at("stats")).await.ok();
        ["ready", "scheduled", "leased", "dead"].map(|name| stats[name].as_u64().unwrap())
    }
}

/// The elements of a JSON list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// The text of an item.
pub(crate) fn text(item: &Value) -> String {
    item["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text: {item}"))
        .to_owned()
}

/// What settles a delivery.
pub(crate) fn lease(delivery: &Value) -> Value {
    json!({ "lease_id": delivery["lease_id"] })
}

impl Reply {
    /// The JSON of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{} answered {}", self.what, self.text);
        self.json()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{}: {e}: {}", self.what, self.text))
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem this must be; see [`Reply::any_problem`].
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.any_problem();
        assert_eq!(
            (self.status, problem["code"].as_str().unwrap()),
            (status, code),
            "{} answered {problem}",
            self.what
        );
        problem
    }

    /// The problem this must be, with every member there and fit to be shown.
    pub(crate) fn any_problem(&self) -> Value {
        let (status, what, text) = (self.status, &self.what, &self.text);
        assert!(status >= 400, "{what} answered {status}: {text}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{what}: {text}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], status, "{what}: {text}");
        for member in ["type", "title", "detail", "code", "request_id"] {
            let value = problem[member].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "{what}: no {member} in {text}");
            assert!(!value.chars().any(char::is_control), "{what}: {member} of {text}");
        }
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{what}");
        assert!(
            self.text.len() < 64 << 10,
            "{what}: a problem of {} bytes",
            text.len()
        );
        let waits = matches!(status, 429 | 503);
        assert_eq!(waits, self.headers.contains_key("retry-after"), "{what}: {text}");
        assert_eq!(
            status == 401,
            self.headers.contains_key("www-authenticate"),
            "{what}: {text}"
        );
        problem
    }
}
