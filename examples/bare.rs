//! A server that parses enqueue requests and does nothing with them: what HTTP, JSON and base64 alone
//! cost, for `mqueue bench --target bare` to compare a node with.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Response, Route, Server, handler, http::StatusCode, post};
use serde::Deserialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Enqueue<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    priority: i32,
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[handler]
fn enqueue(body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Enqueue<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into();
    };
    let mut parsed = 0;
    for item in &request.items {
        let payload = base64_simd::STANDARD.decode_to_vec(item.payload.as_bytes());
        // Kept from the optimiser, which would otherwise see that nobody reads the payload.
        parsed += usize::from(std::hint::black_box((payload.is_ok(), item.priority)).0);
    }
    Response::builder()
        .content_type("application/json")
        .body(format!(r#"{{"parsed":{parsed}}}"#))
}

fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let acceptor = TcpListener::bind(address).into_acceptor().await?;
        for address in acceptor.local_addr() {
            if let Some(address) = address.as_socket_addr() {
                println!("{address}");
            }
        }
        let path = "/v1/namespaces/:namespace/topics/:topic/enqueue";
        Server::new_with_acceptor(acceptor)
            .run(Route::new().at(path, post(enqueue)))
            .await
    })
}
