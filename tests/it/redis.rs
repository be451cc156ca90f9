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
        let mut server = Self {
            child: None,
            port: 0,
            dir: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        };
        for _ in 0..20 {
            server.port = free_port();
            if server.spawn().await {
                return server;
            }
        }
        panic!("redis-server finds no port");
    }

    /// Starts it, with nothing in it.
    pub(crate) async fn start_again(&mut self) {
        // There is none unless it was saved.
        let _ = std::fs::remove_file(self.dir.path().join("dump.rdb"));
        self.start_from_snapshot().await;
    }

    /// Starts it as it was when it was told to save.
    pub(crate) async fn start_from_snapshot(&mut self) {
        assert!(self.spawn().await, "redis-server ends at once");
    }

    /// Starts the process and waits until it answers; false when it ends, as without its port.
    async fn spawn(&mut self) -> bool {
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
        let pid = child.id();
        self.child = Some(child);
        for _ in 0..1_200 {
            if self.answers_as(pid).await {
                return true;
            }
            if self
                .child
                .as_mut()
                .is_some_and(|child| child.try_wait().unwrap().is_some())
            {
                self.child = None;
                return false;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not listen");
    }

    /// Whether the process on its port is this one.
    async fn answers_as(&self, pid: u32) -> bool {
        let client = redis::Client::open(format!("redis://{}", self.addr())).unwrap();
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        let told: redis::RedisResult<String> = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await;
        told.is_ok_and(|told| told.contains(&format!("process_id:{pid}\r\n")))
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

/// A port that nobody listens on, out of reach of those that the system gives to connections and to servers that do not
/// care; ten thousand above it, where a cluster talks to itself, as well.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
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
