use poem::endpoint::make;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

fn options() -> ListenOptions {
    ListenOptions::plain(SocketAddr::from(([127, 0, 0, 1], 0)))
}

struct Running {
    address: SocketAddr,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

async fn start<E: Endpoint<Output = Response> + 'static>(options: ListenOptions, endpoint: E) -> Running {
    let server = bind(options).await.unwrap();
    let (address, stop) = (server.address(), Stop::default());
    let task = tokio::spawn(server.serve(endpoint, stop.clone(), Duration::from_secs(10)));
    Running { address, stop, task }
}

fn hello() -> impl Endpoint<Output = Response> + 'static {
    poem::EndpointExt::map_to_response(make(|_| async { "hello" }))
}

async fn read_all(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_in_flight_and_takes_no_more() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let endpoint = {
        let (entered, release) = (entered.clone(), release.clone());
        poem::EndpointExt::map_to_response(make(move |_| {
            let (entered, release) = (entered.clone(), release.clone());
            async move {
                entered.notify_one();
                release.notified().await;
                "done"
            }
        }))
    };
    let running = start(options(), endpoint).await;
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    running.stop.now.cancel();
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    let text = read_all(&mut socket).await;
    assert!(
        text.contains("connection: close") && text.ends_with("done"),
        "{text}"
    );
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_no_head_is_dropped_and_a_quiet_one_is_not() {
    let mut options = options();
    options.header_timeout = Duration::from_millis(50);
    let running = start(options, hello()).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut dripping = TcpStream::connect(running.address).await.unwrap();
    dripping.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut kept = TcpStream::connect(running.address).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    assert!(!read_all(&mut dripping).await.contains("hello"));
    // The head deadline of the other two has passed: this one is between requests and still served.
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_all(&mut kept).await.matches("hello").count(), 2);
    running.stop.now.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_client_that_drips_its_second_head_is_dropped() {
    let mut options = options();
    options.header_timeout = Duration::from_millis(50);
    let running = start(options, hello()).await;
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![];
    while !answer.ends_with(b"hello") {
        answer.push(socket.read_u8().await.unwrap());
    }
    socket.write_all(b"GET / HT").await.unwrap();
    assert!(!read_all(&mut socket).await.contains("hello"));
    running.stop.now.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let mut options = options();
    options.max_connections_per_ip = 1;
    let running = start(options, hello()).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    let _ = second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(read_all(&mut second).await, "");
    running.stop.now.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn self_signed_tls_is_served_over_both_versions() {
    let mut options = options();
    options.tls = Tls::SelfSigned;
    let running = start(options, hello()).await;
    let client = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/", running.address.port());
    assert_eq!(
        client.get(&url).send().await.unwrap().text().await.unwrap(),
        "hello"
    );
    running.stop.now.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_named() {
    let taken = bind(options()).await.unwrap();
    let again = bind(ListenOptions::plain(taken.address())).await.unwrap_err();
    assert!(
        again
            .to_string()
            .starts_with(&format!("cannot listen on {}", taken.address())),
        "{again}"
    );
    let mut missing = options();
    missing.tls = Tls::Files {
        cert: "/nowhere/cert.pem".into(),
        key: "/nowhere/key.pem".into(),
    };
    assert!(matches!(bind(missing).await, Err(ListenError::Tls(_))));
}

#[tokio::test]
async fn a_head_over_http_2_that_is_too_large_is_told_and_counted() {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let server = bind(options()).await.unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server = server.telling(move |refusal| {
        let _ = told.send(refusal);
    });
    let (address, stop) = (server.address(), Stop::default());
    let task = tokio::spawn(server.serve(hello(), stop.clone(), Duration::from_secs(10)));
    let socket = TcpStream::connect(address).await.unwrap();
    let connection = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = connection.await.unwrap();
    let connection = tokio::spawn(connection);
    // The last one is more than is read at all: hyper says so by itself, and nobody is told.
    for (bytes, status) in [(10 << 10, 200), (20 << 10, 431), (10, 200), (80 << 10, 431)] {
        let request = http::Request::get("http://a/")
            .header("x-long", "y".repeat(bytes))
            .body(Empty::<bytes::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{bytes}");
        if bytes == 20 << 10 {
            assert_eq!(heard.recv().await, Some(Refusal::TooLarge));
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(response.headers().contains_key("x-request-id"));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["code"], "headers_too_large");
        }
    }
    let many = (0..=100).fold(http::Request::get("http://a/"), |request, n| {
        request.header(format!("x-{n}"), "y")
    });
    let request = many.body(Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 431);
    assert_eq!(heard.recv().await, Some(Refusal::TooLarge));
    drop(sender);
    connection.abort();
    stop.now.cancel();
    task.await.unwrap();
}
