//! Section `[server]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, text_of};

/// Where and how the node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Certificate and key for TLS.
    pub tls: Option<TlsFiles>,
    /// TLS with a certificate made at start-up.
    pub tls_self_signed: bool,
    /// Most open connections.
    pub max_connections: usize,
    /// Most open connections from one address.
    pub max_connections_per_ip: usize,
    /// Longest time for a request's headers to arrive.
    pub header_timeout: Duration,
    /// Longest time for a request's body to arrive.
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a stopping node, no longer ready, still takes requests.
    pub shutdown_grace: Duration,
    /// How long stopping may take in all: the grace, requests in flight and the buffers.
    pub shutdown_deadline: Duration,
    /// Plain HTTP beyond loopback is meant.
    pub insecure_listen: bool,
}

/// PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl ServerConfig {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some() || self.tls_self_signed
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let placeholder = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = reader.value("server.listen", placeholder, |value| {
            let syntax = "not an address with its port, such as 127.0.0.1:8080 or [::]:8080";
            text_of(value).trim().parse().map_err(|_| syntax.to_owned())
        });
        let timeout = Duration::from_millis(100)..=Duration::from_secs(3_600);
        let tls = tls_files(reader);
        let config = Self {
            listen,
            tls,
            tls_self_signed: reader.flag("server.tls_self_signed"),
            max_connections: reader.integer("server.max_connections", 1..=1_000_000),
            max_connections_per_ip: reader.integer("server.max_connections_per_ip", 1..=1_000_000),
            header_timeout: reader.duration("server.header_timeout", timeout.clone()),
            body_timeout: reader.duration("server.body_timeout", timeout.clone()),
            idle_timeout: reader.duration("server.idle_timeout", timeout.clone()),
            shutdown_grace: reader.duration(
                "server.shutdown_grace",
                Duration::ZERO..=Duration::from_secs(3_600),
            ),
            shutdown_deadline: reader.duration("server.shutdown_deadline", timeout),
            insecure_listen: reader.flag("server.insecure_listen"),
        };
        if config.tls.is_some() && config.tls_self_signed {
            reader.problem(
                "server.tls_self_signed",
                "a certificate is configured too; keep one of the two",
            );
        }
        if config.shutdown_grace >= config.shutdown_deadline {
            reader.problem(
                "server.shutdown_grace",
                "must be shorter than server.shutdown_deadline, which it is a part of",
            );
        }
        config
    }
}

fn tls_files(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let cert = reader.path("server.tls_cert");
    let key = reader.path("server.tls_key");
    for (name, path) in [("server.tls_cert", &cert), ("server.tls_key", &key)] {
        if let Some(Err(error)) = path.as_ref().map(std::fs::File::open) {
            reader.problem(name, format!("cannot be read: {error}"));
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (Some(_), None) => {
            reader.problem("server.tls_key", "must be given together with server.tls_cert");
            None
        }
        (None, Some(_)) => {
            reader.problem("server.tls_cert", "must be given together with server.tls_key");
            None
        }
        (None, None) => None,
    }
}
