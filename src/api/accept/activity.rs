//! What a connection is doing, and when it has been silent for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Refused;
use super::refusal::instead_of;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Least silence allowed while a request is in flight: longer than the longest poll.
const BUSY_SILENCE_MIN: Duration = Duration::from_secs(60);
/// Most bytes that are read after a refusal, and dropped.
const UNREAD_BYTES_MAX: usize = 1 << 20;
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
    refused: AtomicBool,
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
            refused: AtomicBool::new(false),
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

    /// Whether what came was refused, and that was counted.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether it is between requests, with nothing under way.
    pub(super) fn is_idle(&self) -> bool {
        let reads_head = self.reading_since.load(Ordering::Relaxed) != NOT_READING;
        self.requests.load(Ordering::Relaxed) > 0
            && self.in_flight.load(Ordering::Relaxed) == 0
            && (!reads_head || self.http2.load(Ordering::Relaxed))
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

/// A stream that notes when bytes move, and says in full what hyper only hints at.
pub(super) struct Tracked<S> {
    stream: S,
    activity: Arc<Activity>,
    refused: Refused,
    refusal: Option<FullRefusal>,
}

/// The problem that is sent in place of hyper's own answer, which is the last of its connection.
struct FullRefusal {
    text: Vec<u8>,
    written: usize,
    /// What is still read of the rest: a connection closed over unread bytes is reset, and the answer lost.
    unread: usize,
}

impl<S> Tracked<S> {
    /// Notes the bytes of `stream` in `activity`, and tells `refused` of heads that hyper cannot read.
    pub(super) fn new(stream: S, activity: Arc<Activity>, refused: Refused) -> Self {
        Self {
            stream,
            activity,
            refused,
            refusal: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Tracked<S> {
    /// Writes the problem in place of hyper's `answer`, when that is one; else nothing.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, answer: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none()
            && self.activity.in_flight.load(Ordering::Relaxed) == 0
            && let Some((refusal, text)) = instead_of(answer)
        {
            self.activity.refused.store(true, Ordering::Relaxed);
            (self.refused)(refusal);
            self.refusal = Some(FullRefusal {
                text,
                written: 0,
                unread: UNREAD_BYTES_MAX,
            });
        }
        let refusal = self.refusal.as_mut()?;
        while refusal.written < refusal.text.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &refusal.text[refusal.written..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => refusal.written += count,
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Ok(answer.len())))
    }
}

impl<S: AsyncRead + Unpin> Tracked<S> {
    /// Reads on after a refusal, until the peer has closed too or sent more than anybody reads.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(refusal) = self.refusal.as_mut() else {
            return Poll::Ready(());
        };
        let mut sink = [0; 4_096];
        while refusal.unread > 0 {
            let mut buf = ReadBuf::new(&mut sink);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    refusal.unread = refusal.unread.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tracked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(polled) = this.poll_refusal(cx, buf) {
            return polled;
        }
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
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => this.poll_drain(cx).map(Ok),
            other => other,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.first().map_or(&[][..], |first| first);
        if let Some(polled) = this.poll_refusal(cx, first) {
            return polled;
        }
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
