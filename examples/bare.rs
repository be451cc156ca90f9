//! A server that parses enqueue requests and does nothing with them: what HTTP, JSON and base64 alone
//! cost, for `mqueue bench --target bare` to compare a node with. Given a folder after its address, it also writes
//! the items to a log there, waits until they are on the disk and answers with an id for each: what any queue that
//! loses nothing has to do, and nothing else. It keeps no item.

use std::borrow::Cow;
use std::io;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mqueue::clock::Timestamp;
use mqueue::model::{ItemId, NodeId, PayloadKind, TopicKey};
use mqueue::wal::disk::RealDisk;
use mqueue::wal::{FrameBuilder, Wal, WalOptions};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::web::Data;
use poem::{EndpointExt, Response, Route, Server, handler, http::StatusCode, post};
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

/// A log that frees what it wrote at once.
struct Log {
    wal: Wal,
    topic: TopicKey,
    ids: AtomicU64,
}

#[handler]
async fn enqueue(log: Data<&Option<Arc<Log>>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Enqueue<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into();
    };
    let payload = |item: &Item<'_>| base64_simd::STANDARD.decode_to_vec(item.payload.as_bytes());
    let answer = match log.0 {
        Some(log) => {
            log.write(
                request
                    .items
                    .iter()
                    .filter_map(|item| Some((item.priority, payload(item).ok()?))),
            )
            .await
        }
        None => {
            let mut parsed = 0;
            for item in &request.items {
                // Kept from the optimiser, which would otherwise see that nobody reads the payload.
                parsed += usize::from(std::hint::black_box((payload(item).is_ok(), item.priority)).0);
            }
            Some(format!(r#"{{"parsed":{parsed}}}"#))
        }
    };
    match answer {
        Some(answer) => Response::builder().content_type("application/json").body(answer),
        None => StatusCode::SERVICE_UNAVAILABLE.into(),
    }
}

impl Log {
    fn open(folder: &Path) -> io::Result<Self> {
        let node = NodeId::new(1).ok_or_else(|| io::Error::other("1 is no node"))?;
        let options = WalOptions::new(folder, node);
        let wal = Wal::open(options, Arc::new(RealDisk::new()), Arc::default(), &mut |_, _| {});
        Ok(Self {
            wal: wal.map_err(io::Error::other)?,
            topic: TopicKey::parse("bare", "log").map_err(io::Error::other)?,
            ids: AtomicU64::new(1),
        })
    }

    /// Writes items of a priority and a payload each; returns the answer once they are on the disk.
    async fn write(&self, items: impl Iterator<Item = (i32, Vec<u8>)>) -> Option<String> {
        let mut answer = r#"{"durability":"logged","results":["#.to_owned();
        let now = Timestamp::from_ms(0);
        let items: Vec<_> = items
            .map(|(priority, payload)| mqueue::model::Item {
                id: ItemId(self.ids.fetch_add(1, Ordering::Relaxed)),
                priority,
                lease_ms: 30_000,
                max_attempts: 10,
                kind: PayloadKind::Bytes,
                enqueued_at: now,
                deliver_after: now,
                expires_at: None,
                payload: payload.into(),
                extra: None,
            })
            .collect();
        for (at, item) in items.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(answer, r#"{comma}{{"id":"{}","status":"accepted"}}"#, item.id.0).ok()?;
        }
        answer.push_str("]}");
        let mut frame = FrameBuilder::new();
        frame.enqueue(&self.topic, items.iter());
        let pending = self.wal.append(frame).ok()?;
        drop(pending.durable().await.ok()?);
        if self.wal.oldest_segment_end().is_some() {
            self.wal.free_up_to(self.wal.applied_lsn());
        }
        Some(answer)
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let log = match arguments.next() {
        Some(folder) => Some(Arc::new(Log::open(Path::new(&folder))?)),
        None => None,
    };
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
            .run(Route::new().at(path, post(enqueue)).data(log))
            .await
    })
}
