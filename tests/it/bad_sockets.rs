//! Bytes that are no proper HTTP, or come too slowly, or not at all.

use std::time::Duration;

use mqueue::tenant::Scope;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::server::{Server, token};

/// Longer than any of the server's own limits here.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back on a connection until the server closed it.
struct Heard {
    text: String,
}

impl Heard {
    async fn until_closed(socket: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A reset is an end like any other: the server may close while bytes are still on their way.
        let end = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
        assert!(end.is_ok(), "the server neither answered nor closed");
        Self {
            text: String::from_utf8(bytes).unwrap(),
        }
    }

    /// The status of the one answer there is; none when there is none.
    fn status(&self) -> Option<u16> {
        assert!(
            self.text.matches("HTTP/1.1 ").count() <= 1,
            "more than one answer: {}",
            self.text
        );
        self.text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    fn problem(&self) -> Value {
        let (head, body) = self
            .text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {:?}", self.text));
        assert!(head.contains("application/problem+json"), "{}", self.text);
        // A body in chunks would need unwrapping; problems have a length.
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
    }
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// Sends `bytes` and hears what the server makes of it.
async fn exchange(server: &Server, bytes: &[u8]) -> Heard {
    let mut socket = connect(server).await;
    // The server may refuse and close before it has all of it.
    let _ = socket.write_all(bytes).await;
    Heard::until_closed(&mut socket).await
}

/// Sends `bytes`, says that no more come, and hears what the server makes of it.
async fn break_off(server: &Server, bytes: &[u8]) -> Heard {
    let mut socket = connect(server).await;
    socket.write_all(bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    Heard::until_closed(&mut socket).await
}

fn head(more: &str) -> String {
    let token = token(None, &Scope::ALL);
    format!(
        "POST /v1/namespaces/default/topics/t/enqueue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nConnection: close\r\n{more}\r\n"
    )
}

const BODY: &str = r#"{"items":[{"text":"x"}]}"#;

async fn accepted(server: &Server) -> u64 {
    let client = server.client();
    let stats = client.get("/v1/namespaces/default/topics/t/stats").await;
    if stats.status == 404 {
        0
    } else {
        stats.ok()["enqueued_total"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused() {
    let server = Server::start().await;
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let cases = [
        format!(
            "{}{BODY}",
            head(&format!("Content-Length: {length}\r\nContent-Length: 5\r\n"))
        ),
        format!("{}{BODY}", head("Content-Length: -1\r\n")),
        format!("{}{BODY}", head("Content-Length: 0x18\r\n")),
        format!("{}{BODY}", head("Content-Length: 99999999999999999999\r\n")),
        format!("{}{chunked}", head("Transfer-Encoding: chunked, identity\r\n")),
        format!("{}{chunked}", head("Transfer-Encoding : chunked\r\n")),
        format!(
            "{}zz\r\n{BODY}\r\n0\r\n\r\n",
            head("Transfer-Encoding: chunked\r\n")
        ),
        format!(
            "{}{BODY}",
            head(&format!("Content-Length: {length}\r\n folded: x\r\n"))
        ),
        "GET /health HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "GET /hea lth HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: x\r\nX: a\u{0}b\r\n\r\n".to_owned(),
    ];
    for request in &cases {
        let heard = exchange(&server, request.as_bytes()).await;
        let refused = matches!(heard.status(), Some(400 | 413 | 415));
        assert!(refused, "{request:?} was answered {}", heard.text);
        assert_eq!(
            heard.problem()["status"],
            heard.status().unwrap(),
            "{}",
            heard.text
        );
    }
    assert_eq!(accepted(&server).await, 0, "a request that was refused was done");
    let fine = exchange(
        &server,
        format!("{}{chunked}", head("Transfer-Encoding: chunked\r\n")).as_bytes(),
    )
    .await;
    assert_eq!(fine.status(), Some(200), "{}", fine.text);
    assert_eq!(accepted(&server).await, 1);
}

#[tokio::test]
async fn of_two_lengths_the_chunks_count_and_nothing_is_smuggled() {
    let server = Server::start().await;
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    // Whoever goes by the length takes the second request for a part of the first one's body.
    let second = format!("{}{chunked}", head("Transfer-Encoding: chunked\r\n"));
    let both = chunked.len() + second.len();
    for lengths in [
        format!("Content-Length: {both}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {both}\r\n"),
    ] {
        let before = accepted(&server).await;
        let heard = exchange(&server, format!("{}{chunked}{second}", head(&lengths)).as_bytes()).await;
        let done = u64::from(heard.status() == Some(200));
        assert_eq!(accepted(&server).await - before, done, "{}", heard.text);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_done() {
    let server = Server::start().await;
    let lying = format!("{}{BODY}", head("Content-Length: 5000\r\n"));
    let heard = break_off(&server, lying.as_bytes()).await;
    if heard.status().is_some() {
        assert_eq!(heard.problem()["code"], "bad_request");
    }
    let cut = format!(
        "{}{:x}\r\n{}",
        head("Transfer-Encoding: chunked\r\n"),
        BODY.len(),
        &BODY[..5]
    );
    let heard = break_off(&server, cut.as_bytes()).await;
    assert!(
        heard.status().is_none_or(|status| status == 400),
        "{}",
        heard.text
    );
    assert_eq!(accepted(&server).await, 0);
}

#[tokio::test]
async fn a_body_that_is_shorter_than_it_says_ends_where_it_says() {
    let server = Server::start().await;
    let short = format!(
        "{}{BODY}",
        head(&format!("Content-Length: {}\r\n", BODY.len() - 1))
    );
    let heard = exchange(&server, short.as_bytes()).await;
    assert_eq!(heard.problem()["code"], "malformed_body");
    assert_eq!(accepted(&server).await, 0);
}

#[tokio::test]
async fn oversized_bodies_are_refused_before_they_are_read() {
    let server = Server::start().await;
    let said = head("Content-Length: 9000000\r\n");
    let mut socket = connect(&server).await;
    socket.write_all(said.as_bytes()).await.unwrap();
    // Not a byte of the body is sent: the answer comes all the same.
    let heard = Heard::until_closed(&mut socket).await;
    assert_eq!(
        (heard.status(), &heard.problem()["code"]),
        (Some(413), &json!("body_too_large"))
    );

    let mut socket = connect(&server).await;
    socket
        .write_all(head("Transfer-Encoding: chunked\r\n").as_bytes())
        .await
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let mut sent = 0;
    for _ in 0..1_000 {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
        sent += chunk.len();
    }
    assert!(
        sent < 32 << 20,
        "{sent} bytes of a body that may have 8 MiB were taken"
    );
    assert_eq!(accepted(&server).await, 0);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = Server::start().await;
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(100_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    for request in [head(&many), head(&long), path] {
        let heard = exchange(&server, request.as_bytes()).await;
        assert_eq!(
            heard.status(),
            Some(431),
            "{} was answered {}",
            &request[..40],
            heard.text
        );
        assert_eq!(heard.problem()["code"], "headers_too_large");
    }
    assert_eq!(server.client_with(None).get("/health").await.text, "OK");
    refused(&server, "too_large", 3).await;
}

/// Waits until so many refusals for `reason` are counted.
async fn refused(server: &Server, reason: &str, count: u64) {
    let line = format!("mqueue_connections_refused_total{{reason=\"{reason}\"}} {count}");
    let mut text = String::new();
    for _ in 0..600 {
        text = server.client().get("/metrics").await.text;
        if text.lines().any(|shown| shown == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{line} is missing in\n{text}");
}

#[tokio::test]
async fn what_is_no_http_is_answered_whole_behind_another_answer_too() {
    let server = Server::start().await;
    let mut socket = connect(&server).await;
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = Vec::new();
    while !first.ends_with(b"live") {
        let mut bytes = [0; 512];
        let read = timeout(PATIENCE, socket.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&first));
        first.extend(&bytes[..read]);
    }
    socket.write_all(b"nonsense\r\n\r\n").await.unwrap();
    let heard = Heard::until_closed(&mut socket).await;
    assert_eq!(heard.status(), Some(400), "{}", heard.text);
    let problem = heard.problem();
    assert_eq!(
        (&problem["code"], &problem["status"]),
        (&json!("bad_request"), &json!(400))
    );
    assert!(heard.text.contains(problem["request_id"].as_str().unwrap()));
    refused(&server, "parse", 1).await;
}

#[tokio::test]
async fn a_head_that_drips_is_given_up() {
    let server = Server::setup().set("server.header_timeout", "1s").start().await;
    let began = Instant::now();
    let (reader, mut writer) = connect(&server).await.into_split();
    let mut reader = reader;
    let mut sink = Vec::new();
    let drip = async {
        for byte in head("").bytes().cycle() {
            if writer.write_all(&[byte.max(b'a')]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = drip => {}
        _ = reader.read_to_end(&mut sink) => {}
    }
    let closed_after = began.elapsed();
    assert!(
        closed_after < Duration::from_secs(10),
        "closed after {closed_after:?}"
    );
    let silent = timeout(PATIENCE, Heard::until_closed(&mut connect(&server).await))
        .await
        .unwrap();
    assert!(
        silent.status().is_none_or(|status| status == 408),
        "{}",
        silent.text
    );
    refused(&server, "silent", 2).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let server = Server::setup().set("server.body_timeout", "500ms").start().await;
    let mut socket = connect(&server).await;
    socket
        .write_all(head("Content-Length: 500\r\n").as_bytes())
        .await
        .unwrap();
    let heard = Heard::until_closed(&mut socket).await;
    assert_eq!(
        (heard.status(), &heard.problem()["code"]),
        (Some(408), &json!("request_timeout"))
    );
    assert_eq!(accepted(&server).await, 0);
}

#[tokio::test]
async fn a_half_closed_connection_is_taken_for_gone() {
    let server = Server::start().await;
    let topic = server.client().topic("half");
    topic.enqueue(json!([{"text": "before"}])).await;
    topic.dequeue(1).await;
    let poll = dequeue("half", r#"{"wait_ms":20000}"#);
    let began = Instant::now();
    let heard = break_off(&server, poll.as_bytes()).await;
    assert_eq!(heard.text, "");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "it was waited for: {:?}",
        began.elapsed()
    );
    topic.enqueue(json!([{"text": "after"}])).await;
    let items = topic.dequeue(1).await;
    assert_eq!(
        (&items[0]["text"], &items[0]["attempt"]),
        (&json!("after"), &json!(1))
    );
}

/// The bytes of a dequeue.
fn dequeue(topic: &str, body: &str) -> String {
    let head = head(&format!("Content-Length: {}\r\n", body.len()));
    let head = head.replace("topics/t/enqueue", &format!("topics/{topic}/dequeue"));
    format!("{head}{body}")
}

#[tokio::test]
async fn dots_are_no_name() {
    let server = Server::start().await;
    let token = token(None, &Scope::ALL);
    // Clients tidy such paths up by themselves, attackers do not.
    for name in ["%2e%2e", ".."] {
        let request = format!(
            "GET /v1/namespaces/default/topics/{name}/stats HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let heard = exchange(&server, request.as_bytes()).await;
        assert_eq!(
            (heard.status(), &heard.problem()["code"]),
            (Some(400), &json!("invalid_name")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_consumer_that_went_away_loses_no_item() {
    let server = Server::start().await;
    let topic = server.client().topic("gone");
    let mut socket = connect(&server).await;
    let poll = dequeue("gone", r#"{"wait_ms":20000,"lease_ms":1000}"#);
    socket.write_all(poll.as_bytes()).await.unwrap();
    drop(socket);
    topic.enqueue(json!([{"text": "x"}])).await;
    // It may have been handed to the one that left; then it comes back when that lease ends.
    let items = topic.dequeue_as(json!({"wait_ms": 20_000})).await;
    assert_eq!(items[0]["text"], "x");
    assert_eq!(topic.ack(&items).await, ["ok"]);
}
