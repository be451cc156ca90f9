//! One connection from its handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use http::uri::Scheme;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::activity::{Activity, InFlight, Tracked};
use super::refusal::head_too_large;
use super::{Refusal, Shared};
use crate::api::fast::outlives_its_caller;

/// Largest read buffer, and so largest head over HTTP/1, in bytes; a token alone may have 8 KiB.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Most headers.
const HEADERS_MAX: usize = 100;
/// Largest head over HTTP/2, as that counts it: 32 bytes for each field beside its own.
const HEADER_LIST_BYTES_MAX: usize = 16 << 10;
/// What hyper reads of one, so that somebody is there to say what is wrong with it. Of a larger one it says 431, and
/// nothing else.
const HEADER_LIST_BYTES_READ: u32 = 64 << 10;
/// Most requests in flight over one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Most streams a peer may open and reset before its connection is closed.
const RESETS_MAX: usize = 20;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// Serves one connection; returns when it is closed.
pub(super) async fn serve<E>(shared: Arc<Shared<E>>, socket: TcpStream, peer: SocketAddr)
where
    E: Endpoint<Output = Response> + 'static,
{
    match &shared.tls {
        None => requests(shared, socket, peer, Scheme::HTTP).await,
        Some(tls) => {
            // Here, off the accept path: one slow handshake holds up nobody.
            let handshake = tokio::time::timeout(shared.header_timeout, tls.accept(socket)).await;
            match handshake {
                Ok(Ok(stream)) => requests(shared, stream, peer, Scheme::HTTPS).await,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    (shared.refused)(Refusal::Tls);
                }
                Err(_) => {
                    tracing::debug!(%peer, "TLS handshake took too long");
                    (shared.refused)(Refusal::Tls);
                }
            }
        }
    }
}

async fn requests<E, S>(shared: Arc<Shared<E>>, stream: S, peer: SocketAddr, scheme: Scheme)
where
    E: Endpoint<Output = Response> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let io = TokioIo::new(Tracked::new(stream, activity.clone(), shared.refused.clone()));
    let service = {
        let (shared, activity) = (shared.clone(), activity.clone());
        service_fn(move |request: http::Request<Incoming>| {
            let mark = activity.request(request.version() == http::Version::HTTP_2);
            let local = LocalAddr(Addr::SocketAddr(shared.local));
            let remote = RemoteAddr(Addr::SocketAddr(peer));
            let request = Request::from((request, local, remote, scheme.clone()));
            let shared = shared.clone();
            let answered = if outlives_its_caller(request.method(), request.uri().path()) {
                Either::Left(answer_to_the_end(shared, request, mark))
            } else {
                Either::Right(async move { answer(&shared, request, mark).await })
            };
            answered.map(Ok::<_, Infallible>)
        })
    };
    let builder = builder();
    let connection = builder.serve_connection_with_upgrades(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "connection ended");
                    if let Some(refusal) = Refusal::of(&*error).filter(|_| !activity.is_refused()) {
                        (shared.refused)(refusal);
                    }
                }
                return;
            }
            () = activity.silence(shared.header_timeout, shared.idle_timeout) => {
                tracing::debug!(%peer, "connection closed: silent for too long");
                if !activity.is_idle() && !activity.is_refused() {
                    (shared.refused)(Refusal::Silent);
                }
                return;
            }
            () = shared.stop.now.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Its clock also runs between requests; `Activity` tells the two apart.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_READ)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// As [`answer`], to its end though the peer hangs up: a change would be made by half, and nobody told of it.
///
/// It begins here and not when it is first polled, which a peer that has left already would prevent.
fn answer_to_the_end<E>(
    shared: Arc<Shared<E>>,
    request: Request,
    mark: InFlight,
) -> impl Future<Output = http::Response<Guarded>> + Send
where
    E: Endpoint<Output = Response> + 'static,
{
    let (tasks, abort) = (shared.tasks.clone(), shared.abort.clone());
    let work = tasks.spawn(async move {
        tokio::select! {
            response = answer(&shared, request, mark) => Some(response),
            () = abort.cancelled() => None,
        }
    });
    async move {
        match work.await {
            Ok(Some(response)) => response,
            // The connection is cut as well.
            Ok(None) => std::future::pending().await,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }
}

async fn answer<E>(shared: &Shared<E>, request: Request, mark: InFlight) -> http::Response<Guarded>
where
    E: Endpoint<Output = Response>,
{
    let version = request.version();
    let mut response = if version == http::Version::HTTP_2 && is_too_large(&request) {
        (shared.refused)(Refusal::TooLarge);
        head_too_large(request.headers())
    } else {
        match shared.endpoint.call(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    };
    // HTTP/2 has no such header: its connections are told when the time has come.
    if version < http::Version::HTTP_2 && shared.stop.announced.is_cancelled() {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(http::header::CONNECTION, close);
    }
    let response: http::Response<BoxBody<Bytes, std::io::Error>> = response.into();
    response.map(|body| Guarded { body, _mark: mark })
}

/// Whether the head of a request over HTTP/2 is larger than it may be; over HTTP/1 hyper looks.
fn is_too_large(request: &Request) -> bool {
    /// What HTTP/2 counts for each field beside its name and value.
    const FIELD_BYTES: usize = 32;
    let target = request.original_uri();
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    let path = target.path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers();
    let fields = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    headers.len() > HEADERS_MAX || authority + path + fields.sum::<usize>() > HEADER_LIST_BYTES_MAX
}

/// A body whose request stays in flight until the last of it has left.
struct Guarded {
    body: BoxBody<Bytes, std::io::Error>,
    _mark: InFlight,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
