//! What a connection is doing, and when it has been silent for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Least silence allowed while a request is in flight: longer than the longest poll.
const BUSY_SILENCE_MIN: Duration = Duration::from_secs(60);
/// Stands for "no head is being read".
const NOT_READING: u64 = u64::MAX;

/// What a connection did and when; times in milliseconds since it was accepted.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    last_io: AtomicU64,
    last_done: AtomicU64,
    reading_since: AtomicU64,
    in_flight: AtomicUsize,
    requests: AtomicUsize,
    http2: AtomicBool,
}

impl Activity {
    /// A connection accepted now.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            last_io: AtomicU64::new(0),
            last_done: AtomicU64::new(0),
            reading_since: AtomicU64::new(NOT_READING),
            in_flight: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
        })
    }

    /// A request's head has come; it is in flight until the returned mark is dropped.
    pub(super) fn request(self: &Arc<Self>, http2: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.reading_since.store(NOT_READING, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NOT_READING - 1)
    }

    fn moved(&self, read: bool) {
        let now = self.now();
        self.last_io.store(now, Ordering::Relaxed);
        if read && self.in_flight.load(Ordering::Relaxed) == 0 {
            let _ =
                self.reading_since
                    .compare_exchange(NOT_READING, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The instant, in milliseconds since the connection was accepted, at which it has been silent too
    /// long as things stand.
    fn deadline(&self, header: Duration, idle: Duration) -> u64 {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(NOT_READING / 2);
        let reading_since = self.reading_since.load(Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            self.last_io.load(Ordering::Relaxed) + ms(idle.max(BUSY_SILENCE_MIN))
        } else if self.requests.load(Ordering::Relaxed) == 0 {
            ms(header)
        } else if reading_since != NOT_READING && !self.http2.load(Ordering::Relaxed) {
            // Over HTTP/2 pings and window updates come between requests: only HTTP/1 reads heads alone.
            reading_since + ms(header)
        } else {
            self.last_done.load(Ordering::Relaxed) + ms(idle)
        }
    }

    /// Returns once the connection has been silent for too long: `header` for a head that began or never
    /// came, `idle` between requests.
    pub(super) async fn silence(&self, header: Duration, idle: Duration) {
        loop {
            let left = self.deadline(header, idle).saturating_sub(self.now());
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
        }
    }
}

/// A request in flight, until its answer has left whole.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.last_done.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes when bytes move.
pub(super) struct Tracked<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Tracked<S> {
    /// Notes the bytes of `stream` in `activity`.
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tracked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.activity.moved(true);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tracked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        if polled.is_ready() {
            this.activity.moved(false);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        if polled.is_ready() {
            this.activity.moved(false);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
