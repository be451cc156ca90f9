//! The Rust client of docs/CLIENTS.md, against a real server. The other clients are in `tests/clients`.

use mqueue::tenant::Scope;
use serde_json::json;

use crate::documents::document;
use crate::server::{Server, token};

#[path = "../../examples/worker.rs"]
#[expect(dead_code, reason = "its main function is the example's")]
mod worker;

#[tokio::test]
async fn the_rust_client_hands_in_and_settles() {
    let server = Server::start().await;
    worker::story(server.url(), &token(None, &Scope::ALL))
        .await
        .unwrap();
    let stats = server
        .client()
        .get("/v1/namespaces/shop/topics/rust/stats")
        .await
        .json();
    assert_eq!([&stats["acked_total"], &stats["ready"]], [&json!(1), &json!(0)]);
}

#[test]
fn the_page_shows_the_rust_client() {
    let shown = format!("```rust\n{}```\n", document("examples/worker.rs"));
    assert!(
        document("docs/CLIENTS.md").contains(&shown),
        "copy examples/worker.rs into docs/CLIENTS.md"
    );
}
