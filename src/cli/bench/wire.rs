//! The least of HTTP/1.1 that a load generator needs: one request, one answer of known length.
//!
//! A full client costs the generator several times what the exchange itself does, and it shares the
//! processor with the server it measures.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scan::find;

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 20;

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// No connection could be made.
    #[error("cannot connect")]
    Connect,
    /// The connection broke.
    #[error("connection lost")]
    Lost,
    /// The answer is not HTTP/1.1 with a known length.
    #[error("malformed answer")]
    Malformed,
}

/// One connection; it is made when it is first needed, and again after it broke.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            buffer: vec![0; 16 << 10],
        }
    }

    /// Sends `request` and reads the answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, WireError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address).await?,
        };
        stream.write_all(request).await.map_err(|_| WireError::Lost)?;
        let mut filled = 0;
        let head = loop {
            filled += read(&mut stream, &mut self.buffer, filled).await?;
            if let Some(head) = Head::parse(&self.buffer[..filled])? {
                break head;
            }
            if filled > HEAD_BYTES_MAX {
                return Err(WireError::Malformed);
            }
        };
        let end = head.bytes + head.body_bytes;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += read(&mut stream, &mut self.buffer, filled).await?;
        }
        if head.keep_alive {
            self.stream = Some(stream);
        }
        Ok(Answer {
            status: head.status,
            body: &self.buffer[head.bytes..end],
        })
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, WireError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|_| WireError::Connect)?;
    stream.set_nodelay(true).map_err(|_| WireError::Connect)?;
    Ok(stream)
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, filled: usize) -> Result<usize, WireError> {
    if filled == buffer.len() {
        buffer.resize(buffer.len() * 2, 0);
    }
    match stream.read(&mut buffer[filled..]).await {
        Ok(0) | Err(_) => Err(WireError::Lost),
        Ok(read) => Ok(read),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
    keep_alive: bool,
}

impl Head {
    /// The head that `bytes` begin with, when they hold all of it.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| WireError::Malformed)?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or(WireError::Malformed)?;
        let mut body_bytes = None;
        let mut keep_alive = true;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(WireError::Malformed)?;
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                keep_alive = !value.trim().eq_ignore_ascii_case("close");
            }
        }
        let body_bytes = if matches!(status, 204 | 304) {
            Some(0)
        } else {
            body_bytes
        };
        match body_bytes {
            Some(body_bytes) if body_bytes <= BODY_BYTES_MAX => Ok(Some(Self {
                status,
                bytes: end + 4,
                body_bytes,
                keep_alive,
            })),
            _ => Err(WireError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn heads_are_read() {
        let head =
            Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
        let expected = Head {
            status: 200,
            bytes: 57,
            body_bytes: 2,
            keep_alive: false,
        };
        assert_eq!(head, Some(expected));
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
        for malformed in [
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(),
            b"SSH-2.0 hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        ] {
            assert_eq!(Head::parse(malformed), Err(WireError::Malformed));
        }
    }

    #[tokio::test]
    async fn answers_in_pieces_are_put_together_and_a_closed_connection_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = Connection::new(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            for close in ["keep-alive", "close", "keep-alive"] {
                // The first and second request come over one connection.
                let (mut stream, _) = listener.accept().await.unwrap();
                for close in if close == "keep-alive" {
                    vec![close, "close"]
                } else {
                    vec![close]
                } {
                    let mut request = [0; 4];
                    stream.read_exact(&mut request).await.unwrap();
                    let head =
                        format!("HTTP/1.1 429 No\r\nconnection: {close}\r\ncontent-length: 40000\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    stream.write_all(&[b'x'; 10_000]).await.unwrap();
                    stream.write_all(&[b'y'; 30_000]).await.unwrap();
                }
            }
        });
        for _ in 0..4 {
            let answer = connection.exchange(b"ping").await.unwrap();
            assert_eq!(
                (answer.status, answer.body.len(), answer.body[39_999]),
                (429, 40_000, b'y')
            );
        }
        drop(connection);
        server.abort();
    }
}
