//! The accept loop: connections with bounds on their number, their silence and their headers.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port, with or without TLS. Every socket gets
//! `TCP_NODELAY`: without it small answers over HTTP/2 stall for 40 ms.

mod activity;
mod connection;
mod refusal;
mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poem::{Endpoint, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use refusal::Refusal;

/// Connections the kernel holds for the accept loop.
const BACKLOG: u32 = 4_096;
/// Pause after a failed accept: usually there are no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Why the node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

/// How connections are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// With a certificate chain and its key from PEM files.
    Files {
        /// The certificate chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// With a certificate made now, for `localhost` and the address that is listened on.
    SelfSigned,
}

/// Where and how to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// The address; port 0 takes any free one.
    pub address: SocketAddr,
    /// How connections are encrypted.
    pub tls: Tls,
    /// Most open connections.
    pub max_connections: usize,
    /// Most open connections from one address.
    pub max_connections_per_ip: usize,
    /// Longest time for a request's head, and for a TLS handshake.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
}

impl ListenOptions {
    /// The defaults on `address`, without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: Tls::Off,
            max_connections: 10_000,
            max_connections_per_ip: 256,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// How a server is told to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// It will end soon: answers ask clients to close their connections.
    pub announced: CancellationToken,
    /// It takes no more connections and requests.
    pub now: CancellationToken,
}

/// A bound socket, not yet served.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    options: ListenOptions,
    refused: Refused,
}

/// Is told of what is refused.
type Refused = Arc<dyn Fn(Refusal) + Send + Sync>;

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

/// Binds the address of `options`. Connections wait in the kernel until [`Server::serve`] is called.
///
/// # Errors
/// When the address is taken or not this machine's, or the certificate cannot be used.
pub async fn bind(options: ListenOptions) -> Result<Server, ListenError> {
    let tls = tls::acceptor(&options.tls, options.address.ip())?;
    let address = options.address;
    let failed = |error| ListenError::Bind { address, error };
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }
    .map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Server {
        listener,
        address,
        tls,
        options,
        refused: Arc::new(|_| {}),
    })
}

/// What every connection of a server shares.
struct Shared<E> {
    endpoint: E,
    tls: Option<TlsAcceptor>,
    local: SocketAddr,
    header_timeout: Duration,
    idle_timeout: Duration,
    stop: Stop,
    /// Drop what is left.
    abort: CancellationToken,
    /// Everything that must have ended before the server has.
    tasks: TaskTracker,
    refused: Refused,
}

impl Server {
    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same server, which tells `refused` of every connection and request that no route sees.
    #[must_use]
    pub fn telling(mut self, refused: impl Fn(Refusal) + Send + Sync + 'static) -> Self {
        self.refused = Arc::new(refused);
        self
    }

    /// Serves `endpoint` until it is told to stop now, then lets requests in flight finish for at most
    /// `drain` and returns once no connection is left.
    pub async fn serve<E>(self, endpoint: E, stop: Stop, drain: Duration)
    where
        E: Endpoint<Output = Response> + 'static,
    {
        let connections = TaskTracker::new();
        let shared = Arc::new(Shared {
            endpoint,
            tls: self.tls,
            local: self.address,
            header_timeout: self.options.header_timeout,
            idle_timeout: self.options.idle_timeout,
            stop: stop.clone(),
            abort: CancellationToken::new(),
            tasks: connections.clone(),
            refused: self.refused,
        });
        let doors = Doors::new(&self.options);
        loop {
            let accepted = tokio::select! {
                () = stop.now.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => match doors.admit(peer.ip()) {
                    Ok(seat) => {
                        connections.spawn(run(shared.clone(), socket, peer, seat));
                    }
                    // Over its bounds a connection is closed unheard: an answer would cost what is short.
                    Err(refusal) => (shared.refused)(refusal),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!(
                open = connections.len(),
                "connections are cut: their time to finish is over"
            );
            shared.abort.cancel();
            connections.wait().await;
        }
    }
}

async fn run<E>(shared: Arc<Shared<E>>, socket: TcpStream, peer: SocketAddr, _seat: Seat)
where
    E: Endpoint<Output = Response> + 'static,
{
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let abort = shared.abort.clone();
    tokio::select! {
        () = abort.cancelled() => {}
        () = connection::serve(shared, socket, peer) => {}
    }
}

/// Counts open connections.
struct Doors {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_ip_max: usize,
}

/// One admitted connection; dropping it makes room for another.
struct Seat {
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Doors {
    fn new(options: &ListenOptions) -> Self {
        Self {
            all: Arc::new(Semaphore::new(options.max_connections)),
            by_address: Arc::default(),
            per_ip_max: options.max_connections_per_ip,
        }
    }

    fn admit(&self, address: IpAddr) -> Result<Seat, Refusal> {
        let permit = self.all.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::Full)?;
        let address = address.to_canonical();
        let mut by_address = self.by_address.lock();
        let open = by_address.entry(address).or_default();
        if *open >= self.per_ip_max {
            return Err(Refusal::FullForAddress);
        }
        *open += 1;
        Ok(Seat {
            address,
            by_address: self.by_address.clone(),
            _permit: permit,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock();
        if let Some(open) = by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
