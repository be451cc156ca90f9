//! A TCP proxy that can cut, swallow and delay what goes through it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to what goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// It passes.
    Up,
    /// Connections are closed, and new ones too.
    Cut,
    /// Connections stay, and nothing arrives.
    Blackhole,
    /// It arrives later.
    Slow(Duration),
    /// It passes, but for what a client sends from this word on.
    UpTo(&'static str),
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    port: u16,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `server`, on a free port.
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let link = watch::Sender::new(Link::Up);
        let (server, state) = (server.to_owned(), link.subscribe());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), state.clone()));
            }
        });
        Self {
            port,
            link,
            accepting,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Changes the link, for what is connected and for what will be.
    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until one side closes it or the link is cut.
async fn carry(client: TcpStream, server: String, mut link: watch::Receiver<Link>) {
    if *link.borrow() == Link::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, link.clone(), true) => {}
        () = pump(from_server, to_client, link.clone(), false) => {}
        _ = link.wait_for(|link| *link == Link::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    is_of_client: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let now = *link.borrow_and_update();
        match now {
            Link::Slow(by) => tokio::time::sleep(by).await,
            Link::Blackhole => {
                let _ = link.wait_for(|link| *link != Link::Blackhole).await;
            }
            Link::UpTo(word) if is_of_client => {
                let mut places = buffer[..count].windows(word.len());
                if places.any(|place| place == word.as_bytes()) {
                    let _ = link.wait_for(|link| *link != now).await;
                }
            }
            Link::Up | Link::UpTo(_) | Link::Cut => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
