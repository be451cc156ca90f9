//! The real binary as a process of its own, on a free port and in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mqueue::clock::Clock;
use mqueue::tenant::{MintClaims, Scope, mint};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::client::Client;
use crate::postgres::Postgres;
use crate::stores::Stores;

/// What tokens of test servers are signed with. Like every canary it must never be seen in a log.
pub(crate) const SECRET: &str = "canary-secret-4f1c9e27-never-in-a-log";
/// Text for payloads, keys and headers that must never be seen in a log.
pub(crate) const CANARY: &str = "canary-payload-8d02b7";
/// Longer than anything here takes on a busy machine: a test that meets it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server to be started.
pub(crate) struct Setup {
    arguments: Vec<String>,
    /// The text of `mqueue.toml` in its folder, if there is one.
    file: Option<String>,
    /// Its secret is in its environment.
    secret_given: bool,
    /// Its data folder is in its environment.
    data_dir_given: bool,
}

/// A server process. At its end the process is gone, and its log is free of panics, secrets and raw
/// control characters.
pub(crate) struct Server {
    process: Option<Process>,
    arguments: Vec<String>,
    secret_given: bool,
    data_dir_given: bool,
    dir: TempDir,
    _postgres: Option<Postgres>,
    /// The log of every process this was so far.
    logs: Vec<Arc<Log>>,
}

struct Process {
    child: Child,
    url: String,
}

/// The lines a process wrote to standard error.
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    grown: watch::Sender<bool>,
}

impl Setup {
    /// The same with a configuration key set.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.push("--set".to_owned());
        self.arguments.push(format!("{key}={value}"));
        self
    }

    /// The same with a configuration file in its folder.
    pub(crate) fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    /// The same without a secret in its environment, which goes before files.
    pub(crate) fn without_secret(mut self) -> Self {
        self.secret_given = false;
        self
    }

    /// The same without a data folder in its environment, which goes before files.
    pub(crate) fn without_data_dir(mut self) -> Self {
        self.data_dir_given = false;
        self
    }

    /// The keys it was told to set.
    fn keys(&self) -> impl Iterator<Item = &str> {
        let set = self
            .arguments
            .iter()
            .filter_map(|argument| argument.split_once('='));
        set.map(|(key, _)| key)
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(mut self) -> Server {
        let given = Stores::of_this_test().give(self.keys());
        for (key, value) in &given.settings {
            self = self.set(key, value);
        }
        let mut server = Server {
            process: None,
            arguments: self.arguments,
            secret_given: self.secret_given,
            data_dir_given: self.data_dir_given,
            dir: tempfile::tempdir().unwrap(),
            _postgres: given.shards,
            logs: Vec::new(),
        };
        if let Some(text) = self.file {
            std::fs::write(server.dir().join("mqueue.toml"), text).unwrap();
        }
        server.spawn().await;
        server
    }
}

impl Server {
    /// A server with a small log, so that many fit on one disk.
    pub(crate) fn setup() -> Setup {
        let setup = Setup {
            arguments: vec!["serve".into(), "--listen".into(), "127.0.0.1:0".into()],
            file: None,
            secret_given: true,
            data_dir_given: true,
        };
        setup
            .set("wal.segment_bytes", "4MiB")
            .set("wal.spare_segments", "1")
            .set("wal.disk_free_bytes_min", "16MiB")
    }

    /// A running server.
    pub(crate) async fn start() -> Self {
        Self::setup().start().await
    }

    /// Another node, number `id`, over the same shards and the same hot tier if that is shared.
    pub(crate) fn peer(&self, id: &str) -> Setup {
        let setup = Setup {
            arguments: self.arguments.clone(),
            file: None,
            secret_given: self.secret_given,
            data_dir_given: self.data_dir_given,
        };
        let setup = setup.set("node.id", id);
        if setup.keys().any(|key| key == "storage.database_urls") {
            return setup;
        }
        let shard = self.dir().join("data/shard-0.db");
        setup.set("storage.database_urls", &format!("sqlite://{}", shard.display()))
    }

    async fn spawn(&mut self) {
        let mut child = self
            .local_command()
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        self.logs.push(log.clone());
        // Held before anything is awaited, so that a start that fails leaves no process behind.
        self.process = Some(Process {
            child,
            url: String::new(),
        });
        let line = log.wait_for(|line| {
            line["message"]
                .as_str()?
                .contains("listening on")
                .then(|| line.clone())
        });
        let line = line.await;
        let url = format!("http://{}", line["address"].as_str().unwrap());
        self.process.as_mut().unwrap().url = url;
    }

    /// Sets a configuration key for the processes to come.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.arguments.push("--set".to_owned());
        self.arguments.push(format!("{key}={value}"));
    }

    /// Starts it again on the same data; the process of before must have ended.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it is still running");
        self.spawn().await;
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the server was stopped")
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.running().url
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url().trim_start_matches("http://")
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// The folder that holds the data folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of its log.
    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.dir.path().join("data/wal")
    }

    /// A client whose token opens everything.
    pub(crate) fn client(&self) -> Client {
        self.client_with(Some(token(None, &Scope::ALL)))
    }

    /// A client with this token, or none.
    pub(crate) fn client_with(&self, token: Option<String>) -> Client {
        Client::new(self.url(), token, None)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.running().child);
        kill_process(pid, signal).unwrap();
    }

    /// Ends the process as a power cut would, as far as a process can tell.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server was stopped");
        self.log().wait_for_end().await;
        process.child.wait().unwrap()
    }

    /// The present process's log.
    pub(crate) fn log(&self) -> Arc<Log> {
        self.logs.last().unwrap().clone()
    }

    /// The binary in the server's folder, with the server's environment.
    pub(crate) fn local_command(&self) -> Command {
        let mut command = command(self.dir.path());
        if !self.secret_given {
            command.env_remove("JWT_SECRET");
        }
        if !self.data_dir_given {
            command.env_remove("MQUEUE_DATA_DIR");
        }
        command
    }

    /// A client command of the binary against this server, with a token that opens everything.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.dir.path());
        command
            .args(arguments)
            .env("MQUEUE_URL", self.url())
            .env("MQUEUE_TOKEN", token(None, &Scope::ALL))
            .stdin(Stdio::null());
        command
    }
}

/// The binary in the folder `dir`, with nothing of this process's environment but what it needs.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqueue"));
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("MQUEUE_DATA_DIR", dir.join("data"))
        .env("JWT_SECRET", SECRET);
    command
}

/// A token for these namespaces, or for all, that is valid for an hour.
pub(crate) fn token(namespaces: Option<&[&str]>, scopes: &[Scope]) -> String {
    let names = namespaces.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    let claims = MintClaims {
        subject: "tester".into(),
        namespaces: names,
        scopes: scopes.to_vec(),
        audience: None,
        issuer: None,
    };
    let now = Clock::system().now();
    mint(SECRET.as_bytes(), &claims, now, Duration::from_secs(3_600)).unwrap()
}

impl Log {
    fn follow(from: impl std::io::Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self {
            lines: Mutex::default(),
            grown: watch::Sender::new(false),
        });
        let written = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                written.lines.lock().push(line);
                written.grown.send_replace(false);
            }
            written.grown.send_replace(true);
        });
        log
    }

    /// Waits for the first line from which `find` finds something.
    pub(crate) async fn wait_for<T>(&self, find: impl Fn(&Value) -> Option<T>) -> T {
        let mut grown = self.grown.subscribe();
        let mut seen = 0;
        let search = async {
            loop {
                let ended = *grown.borrow_and_update();
                let new: Vec<String> = self.lines.lock()[seen..].to_vec();
                seen += new.len();
                let lines = new.iter().filter_map(|line| serde_json::from_str(line).ok());
                if let Some(found) = lines.into_iter().find_map(|line: Value| find(&line)) {
                    return Some(found);
                }
                if ended || grown.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the process ended without that line:\n{}", self.text()),
            Err(_) => panic!("no such line in time:\n{}", self.text()),
        }
    }

    async fn wait_for_end(&self) {
        let mut grown = self.grown.subscribe();
        let ended = tokio::time::timeout(PATIENCE, grown.wait_for(|ended| *ended)).await;
        assert!(ended.is_ok(), "the process goes on:\n{}", self.text());
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    fn check(&self) {
        for line in self.lines.lock().iter() {
            let parsed = serde_json::from_str::<Value>(line);
            // What ended the process is told to whoever started it.
            let is_last_word = line.starts_with("mqueue: ");
            assert!(
                parsed.is_ok() || is_last_word,
                "a line of the log is no JSON object: {line:?}"
            );
            assert!(!line.contains("panic"), "{line}");
            assert!(
                !line.contains("canary") && !line.contains("eyJ"),
                "a secret is in the log: {line}"
            );
            assert!(
                !line.chars().any(char::is_control),
                "a control character is in the log: {line:?}"
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails when the process ended by itself, and then waiting is all there is to do.
            let _ = process.child.kill();
            process.child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log().text());
            return;
        }
        for log in &self.logs {
            log.check();
        }
    }
}
