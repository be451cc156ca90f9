use std::collections::VecDeque;
use std::net::TcpListener;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::requests::Shape;
use super::*;

/// A server that keeps payloads in memory: just enough of a queue for the generator to talk to.
#[derive(Default)]
struct Fake {
    waiting: Mutex<VecDeque<Value>>,
    refuse_acks: bool,
}

impl Fake {
    /// Serves on a thread of its own for as long as the test runs.
    fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let fake = Arc::new(self);
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(Arc::clone(&fake), stream));
                }
            });
        });
        address
    }

    fn answer(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut waiting = self.waiting.lock();
        if path.ends_with("/enqueue") {
            let items = body["items"].as_array().unwrap();
            waiting.extend(items.iter().map(|item| item["payload"].clone()));
            let results: Vec<_> = items
                .iter()
                .map(|_| json!({"id": "1", "status": "accepted"}))
                .collect();
            return (200, json!({ "results": results }));
        }
        if path.ends_with("/dequeue") {
            let most = waiting.len().min(body["max"].as_u64().unwrap() as usize);
            let items: Vec<_> = waiting
                .drain(..most)
                .map(|payload| json!({"lease_id": "L", "payload": payload}))
                .collect();
            return (200, json!({ "items": items }));
        }
        if self.refuse_acks {
            return (503, json!({"code": "shutting_down"}));
        }
        let leases = body["leases"].as_array().unwrap();
        let results: Vec<_> = leases.iter().map(|_| json!({"status": "ok"})).collect();
        (200, json!({ "results": results }))
    }
}

async fn serve(fake: Arc<Fake>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = crate::cli::bench::scan::find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let path = text.split(' ').nth(1).unwrap().to_owned();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        let end = head + length.parse::<usize>().unwrap();
        while bytes.len() < end {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        let body = serde_json::from_slice(&bytes[head..end]).unwrap();
        bytes.drain(..end);
        let (status, answer) = fake.answer(&path, &body);
        let answer = answer.to_string();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn run(fake: Fake, mode: Mode, connections: u32, batch: u32, rate: Option<f64>, count: Option<u64>) -> Tally {
    let address = fake.start();
    let epoch = Instant::now();
    let pace = Pace::new(
        epoch,
        epoch + Duration::from_millis(100),
        rate,
        count.map(|items| (items, batch)),
    );
    let pace = Arc::new(pace);
    let requests = Arc::new(Requests::render(&Shape {
        host: address.to_string(),
        token: None,
        paths: vec!["/a".into(), "/b".into()],
        batch: batch as usize,
        payload_bytes: 30,
        priorities: 2,
    }));
    let progress = Arc::new(Progress::default());
    let worker = |index| Worker {
        index,
        mode,
        consumes_only: rate.is_some() && mode == Mode::E2e && index % 2 == 1,
        batch: batch as usize,
        address,
        epoch,
        measured_from: epoch,
        requests: Arc::clone(&requests),
        pace: Arc::clone(&pace),
        progress: Arc::clone(&progress),
        counts_only: false,
    };
    let pacer = Arc::clone(&pace);
    let pacer = std::thread::spawn(move || pacer.release_turns());
    let tally = run_all((0..connections).map(worker).collect()).unwrap();
    pacer.join().unwrap();
    assert_eq!(pace.unsent(), 0);
    assert_eq!(progress.items.load(Ordering::Relaxed), tally.items);
    tally
}

#[test]
fn every_item_goes_round_in_a_closed_loop() {
    let tally = run(Fake::default(), Mode::E2e, 3, 10, None, Some(200));
    assert_eq!((tally.items, tally.rejected, tally.foreign), (200, 0, 0));
    assert_eq!(tally.latencies_us[&Step::Enqueue].len(), 20);
    assert_eq!(tally.latencies_us[&Step::Delivery].len(), 200);
    assert!(tally.errors.is_empty(), "{:?}", tally.errors);
}

#[test]
fn every_item_goes_round_at_an_offered_rate() {
    let tally = run(Fake::default(), Mode::E2e, 4, 1, Some(1_000.0), None);
    assert_eq!(tally.items, 100);
    assert_eq!(tally.latencies_us[&Step::Delivery].len(), 100);
}

#[test]
fn a_drain_ends_when_nothing_is_left_and_enqueues_count_what_was_accepted() {
    let fake = Fake::default();
    fake.waiting
        .lock()
        .extend((0..25).map(|_| json!("bGVmdCBiZWhpbmQgYnkgYW5vdGhlciBydW4=")));
    let tally = run(fake, Mode::Dequeue, 2, 10, None, Some(u64::MAX / 2));
    assert_eq!(tally.items, 25);
    let tally = run(Fake::default(), Mode::Enqueue, 2, 10, None, Some(95));
    assert_eq!((tally.items, tally.requests), (100, 10), "whole batches");
}

#[test]
fn failures_are_counted_by_code_and_end_a_drain() {
    let fake = Fake {
        refuse_acks: true,
        ..Fake::default()
    };
    fake.waiting.lock().extend((0..3).map(|_| json!("x")));
    let tally = run(fake, Mode::Dequeue, 1, 1, None, Some(u64::MAX / 2));
    assert_eq!(tally.items, 0);
    assert_eq!(tally.errors["503 shutting_down"], 3);
}

#[test]
fn problems_are_named_by_status_and_code() {
    assert_eq!(
        problem(429, br#"{"title":"x","code":"quota_exceeded"}"#),
        "429 quota_exceeded"
    );
    assert_eq!(problem(502, b"<html>"), "502");
}
