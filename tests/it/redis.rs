//! A Redis of a test's own, which may be stopped, flushed and killed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqueue::queue::Queue;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server process on a free port. It is gone when this is dropped.
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with these arguments, too.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            child: None,
            port,
            dir: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
        server.start_again().await;
        server
    }

    /// Starts it, with nothing in it.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need redis-server on the PATH");
        self.child = Some(child);
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(self.addr()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not listen");
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was stopped");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Ends it; what it held is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.take().unwrap().wait().unwrap();
    }

    /// Runs a command in it and returns what it says.
    pub(crate) async fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(format!("redis://{}", self.addr())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails when it ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until the queue's hot tier works as it should.
pub(crate) async fn until_whole(queue: &Queue) {
    for _ in 0..2_000 {
        let health = queue.health();
        if health.parts.iter().any(|part| part.part == "redis" && part.ok) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the hot tier does not come back: {:?}", queue.health().parts);
}
