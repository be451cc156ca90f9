//! A client in a page: it hands in an order, waits for work, and settles what it gets.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};

/// Where the node is, and what opens it.
struct Queue {
    client: Client,
    url: String,
    token: String,
}

impl Queue {
    /// Sends `body`, again where that may help. Gives the answer, or the problem of the last attempt.
    async fn post(&self, path: &str, body: &Value) -> Result<Result<Value, Value>, reqwest::Error> {
        for attempt in 0.. {
            let request = self.client.post(format!("{}{path}", self.url));
            let response = request.bearer_auth(&self.token).json(body).send().await;
            let response = match response {
                Err(_) if attempt < 4 => {
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                    continue;
                }
                response => response?,
            };
            let status = response.status();
            let may_pass = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if may_pass && attempt < 4 {
                let after = response.headers().get(header::RETRY_AFTER);
                let seconds = after.and_then(|after| after.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1))).await;
                continue;
            }
            let body = response.json().await?;
            return Ok(if status.is_success() { Ok(body) } else { Err(body) });
        }
        unreachable!("the last attempt returns")
    }

    /// As [`Queue::post`], where a problem is an error.
    async fn must(&self, path: &str, body: Value) -> Result<Value, Box<dyn Error>> {
        let answer = self.post(path, &body).await?;
        answer.map_err(|problem| format!("{}: {}", problem["code"], problem["detail"]).into())
    }
}

/// The work itself; an error brings the item back later.
fn handle(item: &Value) -> Result<(), String> {
    let order = item["json"]["order"].as_u64().ok_or("there is no order")?;
    println!("order {order} attempt {}", item["attempt"]);
    Ok(())
}

/// The whole story against the node at `url`.
pub async fn story(url: &str, token: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().timeout(Duration::from_secs(30)).build()?;
    let queue = Queue {
        client,
        url: url.to_owned(),
        token: token.to_owned(),
    };
    let topic = "/v1/namespaces/shop/topics/rust";
    let order = json!({"items": [{"json": {"order": 5}, "idempotency_key": "order-5"}]});
    queue.must(&format!("{topic}/enqueue"), order).await?;
    loop {
        let poll = json!({"max": 10, "wait_ms": 1_000});
        let taken = queue.must(&format!("{topic}/dequeue"), poll).await?;
        let items = taken["items"].as_array().map_or(&[][..], Vec::as_slice);
        // A worker that goes on for ever polls again; this one ends when nothing came for a second.
        if items.is_empty() {
            break;
        }
        for item in items {
            let lease = &item["lease_id"];
            match handle(item) {
                Ok(()) => {
                    queue
                        .must("/v1/ack", json!({"leases": [{"lease_id": lease}]}))
                        .await?
                }
                Err(error) => {
                    let failed = json!({"leases": [{"lease_id": lease, "error": error}]});
                    queue.must("/v1/nack", failed).await?
                }
            };
        }
    }
    let bad = json!({"items": [{"text": "a", "lease_ms": 5}]});
    if let Err(problem) = queue.post(&format!("{topic}/enqueue"), &bad).await? {
        println!("{}", problem["code"]);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    story(&std::env::var("MQUEUE_URL")?, &std::env::var("MQUEUE_TOKEN")?).await
}
