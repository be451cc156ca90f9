//! Connections to Redis: made when they are needed, given up when they fail, and never waited for long.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};

use super::library::LIBRARY;
use crate::clock::Stopwatch;
use crate::hot::HotError;

/// After a connection could not be made, nobody tries again for so long: calls fail at once.
const REST: Duration = Duration::from_millis(200);
/// How long a call takes at most on top of Redis's own time: for making the connection.
const MARGIN: Duration = Duration::from_millis(500);

/// One server, or one cluster.
#[derive(Debug)]
pub(super) struct Link {
    /// For messages: host and port.
    pub(super) name: String,
    kind: Kind,
    timeout: Duration,
    state: Mutex<State>,
    /// Held by whoever makes the connection.
    connecting: tokio::sync::Mutex<()>,
}

enum Kind {
    Server(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Counts connections that were given up, so that a late failure of an old one leaves the new one alone, and a late
    /// call changes nothing.
    number: u64,
    failure: Option<(Stopwatch, String)>,
    /// Since it answered last.
    answered: Option<Stopwatch>,
    /// Redis said that it is out of memory, then.
    full: Option<Stopwatch>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("number", &self.number)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn to_server(name: String, client: Client, timeout: Duration) -> Self {
        Self::new(name, Kind::Server(Box::new(client)), timeout)
    }

    pub(super) fn to_cluster(name: String, client: ClusterClient, timeout: Duration) -> Self {
        Self::new(name, Kind::Cluster(Box::new(client)), timeout)
    }

    fn new(name: String, kind: Kind, timeout: Duration) -> Self {
        Self {
            name,
            kind,
            timeout,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Why the last call failed, if Redis did not answer since.
    pub(super) fn failure(&self) -> Option<String> {
        self.state.lock().failure.as_ref().map(|(_, text)| text.clone())
    }

    /// Whether calls should not even be tried: the last one failed this moment.
    pub(super) fn is_resting(&self) -> bool {
        let state = self.state.lock();
        state
            .failure
            .as_ref()
            .is_some_and(|(since, _)| since.elapsed() < REST)
    }

    /// Whether Redis refused items for lack of memory a moment ago.
    pub(super) fn is_full(&self) -> bool {
        let full = self.state.lock().full;
        full.is_some_and(|since| since.elapsed() < 5 * REST)
    }

    /// The number of the connection that calls are sent on from now on. It goes up when one is given up: what was sent on
    /// that may arrive yet, after what is sent on the next one.
    pub(super) fn connection_number(&self) -> u64 {
        self.state.lock().number
    }

    /// Sends a command and waits for its reply, within the time-out. A library that Redis lost with its memory
    /// is brought back.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, HotError> {
        let number = self.connection_number();
        match tokio::time::timeout(self.timeout + MARGIN, self.send_patiently(command)).await {
            Ok(result) => result,
            Err(_) => Err(self.failed(Some(number), true, "it did not answer in time")),
        }
    }

    async fn send_patiently(&self, command: &Cmd) -> Result<Value, HotError> {
        let (mut connection, number) = self.connection().await?;
        let mut result = connection.send(command).await;
        if result.as_ref().is_err_and(is_without_library) {
            connection
                .load_library()
                .await
                .map_err(|error| self.broke(number, &error))?;
            result = connection.send(command).await;
        }
        match result {
            Ok(value) => {
                let mut state = self.state.lock();
                state.answered = Some(Stopwatch::start());
                if state.failure.take().is_some() {
                    tracing::info!(redis = %self.name, "Redis answers again");
                }
                Ok(value)
            }
            Err(error) if error.code() == Some("OOM") => {
                self.state.lock().full = Some(Stopwatch::start());
                Err(HotError::Full)
            }
            Err(error) => Err(self.broke(number, &error)),
        }
    }

    async fn connection(&self) -> Result<(Connection, u64), HotError> {
        let found = || {
            let state = self.state.lock();
            state
                .connection
                .clone()
                .map(|connection| (connection, state.number))
        };
        if let Some(found) = found() {
            return Ok(found);
        }
        if self.is_resting() {
            let text = self.failure().unwrap_or_default();
            return Err(HotError::Unavailable(text));
        }
        let _connecting = self.connecting.lock().await;
        if let Some(found) = found() {
            return Ok(found);
        }
        match self.connect().await {
            Ok(connection) => {
                let mut state = self.state.lock();
                state.connection = Some(connection.clone());
                Ok((connection, state.number))
            }
            Err(error) => Err(self.failed(None, false, &error.to_string())),
        }
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        match &self.kind {
            Kind::Server(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.timeout))
                    .set_response_timeout(Some(self.timeout));
                let connection = client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?;
                Ok(Connection::Server(connection))
            }
            Kind::Cluster(client) => Ok(Connection::Cluster(client.get_async_connection().await?)),
        }
    }

    /// Notes that a call on connection `number` failed.
    fn broke(&self, number: u64, error: &RedisError) -> HotError {
        let is_slow = error.is_timeout();
        let is_gone = is_slow || error.is_io_error() || error.is_unrecoverable_error();
        self.failed(is_gone.then_some(number), is_slow, &error.to_string())
    }

    /// Gives connection `number` up, unless another one took its place. A cluster's has a connection to each node and
    /// mends those itself: it is only counted, so that what is late on one of them is overtaken all the same.
    pub(super) fn give_up(&self, number: u64) {
        let mut state = self.state.lock();
        if number == state.number {
            state.number += 1;
            if !self.is_cluster() {
                state.connection = None;
            }
        }
    }

    /// Notes a failure, of which the connection `gone` is given up. Those whose calls on it are under way hear of them.
    fn failed(&self, gone: Option<u64>, is_slow: bool, text: &str) -> HotError {
        if let Some(number) = gone {
            self.give_up(number);
        }
        let mut state = self.state.lock();
        let answers = state.answered.is_some_and(|since| since.elapsed() < self.timeout);
        if (is_slow || gone.is_none()) && answers {
            // One slow call is no reason to refuse the others.
            return HotError::Unavailable(format!("{}: {text}", self.name));
        }
        if state.failure.is_none() {
            tracing::warn!(redis = %self.name, error = text, "Redis does not answer");
        }
        let text = format!("{}: {text}", self.name);
        state.failure = Some((Stopwatch::start(), text.clone()));
        HotError::Unavailable(text)
    }

    /// A connection of its own for messages of a channel.
    pub(super) async fn pubsub(client: &Client, timeout: Duration) -> Option<redis::aio::PubSub> {
        tokio::time::timeout(timeout, client.get_async_pubsub())
            .await
            .ok()?
            .ok()
    }
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let reply = match self {
            Self::Server(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        reply.and_then(Value::extract_error)
    }

    async fn load_library(&mut self) -> Result<(), RedisError> {
        let mut load = cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(&LIBRARY.code);
        match self {
            Self::Server(connection) => connection.req_packed_command(&load).await?.extract_error()?,
            Self::Cluster(connection) => {
                let masters = MultipleNodeRoutingInfo::AllMasters;
                let routing = RoutingInfo::MultiNode((masters, Some(ResponsePolicy::AllSucceeded)));
                connection.route_command(load, routing).await?
            }
        };
        Ok(())
    }
}

fn is_without_library(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
        && error
            .detail()
            .is_some_and(|detail| detail.contains("unction not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody waits for any more may arrive yet, through whichever connection: what is called from then on overtakes it.
    #[test]
    fn every_kind_of_link_counts_what_it_gave_up() {
        let (address, timeout) = ("redis://127.0.0.1:1", Duration::from_secs(1));
        let server = Link::to_server("server".into(), Client::open(address).unwrap(), timeout);
        let cluster = ClusterClient::new(vec![address]).unwrap();
        for link in [server, Link::to_cluster("cluster".into(), cluster, timeout)] {
            let number = link.connection_number();
            link.give_up(number);
            link.give_up(number);
            assert_eq!(link.connection_number(), number + 1, "{}", link.name);
        }
    }
}
