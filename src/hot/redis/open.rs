//! Which Redis, and whether it can be used.

use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates, cmd};
use secrecy::{ExposeSecret, SecretString};

use super::link::Link;
use super::reply::Reply;
use crate::clock::Clock;
use crate::hot::HotError;
use crate::model::{NodeId, Slot};
use crate::wal::Lsn;

/// How the Redis tier is set up.
pub struct RedisOptions {
    /// The servers, each as `host:port`, `redis://host:port` or, for TLS, `rediss://host:port`. Several are
    /// the nodes of one cluster, or else each holds a part of the topics by its place in this list.
    pub addrs: Vec<String>,
    /// The user, where Redis has more than one.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// The authority that signed the servers' certificates, as PEM; the system's authorities when there is none.
    pub ca: Option<Vec<u8>>,
    /// What every key and channel begins with.
    pub prefix: String,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long a request waits for the rate of all nodes before its own node's decides alone.
    pub rate_timeout: Duration,
    /// The time.
    pub clock: Clock,
    /// This node.
    pub node: NodeId,
    /// After so long without a word a node is taken to be away, and the others store what it left in Redis.
    pub silence: Duration,
    /// Which shard a slot belongs to.
    pub shard_of: Box<dyn Fn(Slot) -> u16 + Send + Sync>,
    /// Ready items a topic keeps in Redis before anybody asks, while more are cold.
    pub prefetch_items: u64,
    /// Up to where every frame of this node's log is durable and applied.
    pub applied: Box<dyn Fn() -> Lsn + Send + Sync>,
}

impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("addrs", &self.addrs)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl RedisOptions {
    /// Those of a test's node in the Redis of `MQUEUE_TEST_REDIS`, else of this machine; patient, with one shard.
    pub(in crate::hot) fn of_test(node: u16, prefix: &str, clock: Clock) -> Self {
        let patience = Duration::from_secs(30);
        Self {
            addrs: vec![std::env::var("MQUEUE_TEST_REDIS").unwrap_or_else(|_| "127.0.0.1:6379".into())],
            username: None,
            password: None,
            ca: None,
            prefix: prefix.to_owned(),
            timeout: patience,
            rate_timeout: patience,
            clock,
            node: NodeId::new(node).unwrap(),
            silence: patience,
            shard_of: Box::new(|_| 0),
            prefetch_items: 10,
            applied: Box::new(|| Lsn(0)),
        }
    }
}

/// Why a Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// An address cannot be read, or the server is not set up for this: the text says what to change.
    #[error("{0}")]
    Setting(String),
    /// It does not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl From<HotError> for RedisError {
    fn from(error: HotError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A connection on which nobody confirms for so long what was sent is given up.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The oldest major version with what the library needs.
const VERSION_MIN: u32 = 7;

/// The links to all servers, checked.
pub(super) async fn links(options: &RedisOptions) -> Result<(Vec<Link>, Vec<Client>), RedisError> {
    let mut infos = Vec::with_capacity(options.addrs.len());
    let mut clients = Vec::with_capacity(options.addrs.len());
    for addr in &options.addrs {
        let info = connection_info(addr, options)?;
        clients.push(client(info.clone(), options).map_err(|error| bad_address(addr, &error))?);
        infos.push(info);
    }
    let mut links = Vec::with_capacity(clients.len());
    for (addr, client) in options.addrs.iter().zip(&clients) {
        links.push(Link::to_server(shown(addr), client.clone(), options.timeout));
    }
    let mut clustered = 0;
    for link in &links {
        clustered += usize::from(check(link).await?);
    }
    if clustered == 0 {
        return Ok((links, clients));
    }
    if clustered < links.len() {
        let text = "some of these servers are nodes of a cluster and some are not; list the nodes of one cluster, \
                    or servers that are in none";
        return Err(RedisError::Setting(text.into()));
    }
    let cluster = cluster(infos, options).map_err(|error| bad_address(&options.addrs.join(", "), &error))?;
    let name = format!("cluster of {}", shown(&options.addrs[0]));
    let link = Link::to_cluster(name, cluster, options.timeout);
    Ok((vec![link], clients))
}

/// The address without what may be secret in it.
fn shown(addr: &str) -> String {
    let rest = addr.split_once("://").map_or(addr, |(_, rest)| rest);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
}

fn bad_address(addr: &str, error: &redis::RedisError) -> RedisError {
    let why = error.detail().unwrap_or_else(|| error.category());
    RedisError::Setting(format!(
        "{} is not an address of Redis ({why}); write host:port, redis://host:port or rediss://host:port",
        shown(addr)
    ))
}

fn connection_info(addr: &str, options: &RedisOptions) -> Result<ConnectionInfo, RedisError> {
    let url = if addr.contains("://") {
        addr.to_owned()
    } else {
        format!("redis://{addr}")
    };
    let info = url
        .as_str()
        .into_connection_info()
        .map_err(|error| bad_address(addr, &error))?;
    let mut settings = info.redis_settings().clone();
    if let Some(username) = &options.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password.expose_secret());
    }
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

/// A server whose machine is gone says nothing, and the system would wait for it for a quarter of an hour.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(GIVE_UP).with_interval(GIVE_UP);
    let settings = TcpSettings::default().set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(GIVE_UP);
    settings
}

fn certificates(options: &RedisOptions) -> Option<TlsCertificates> {
    options.ca.as_ref().map(|ca| TlsCertificates {
        client_tls: None,
        root_cert: Some(ca.clone()),
    })
}

fn client(info: ConnectionInfo, options: &RedisOptions) -> redis::RedisResult<Client> {
    match certificates(options) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn cluster(infos: Vec<ConnectionInfo>, options: &RedisOptions) -> redis::RedisResult<ClusterClient> {
    let mut builder = ClusterClient::builder(infos)
        .connection_timeout(options.timeout)
        .response_timeout(options.timeout)
        .tcp_settings(tcp_settings())
        .retries(2);
    if let Some(certificates) = certificates(options) {
        builder = builder.certs(certificates);
    }
    builder.build()
}

/// Refuses a server that is too old or throws keys away; tells whether it is in a cluster.
async fn check(link: &Link) -> Result<bool, RedisError> {
    let value = link.send(cmd("INFO").arg("server")).await?;
    let text = Reply::of(redis::Value::Array(vec![value]))?.bytes()?;
    let text = String::from_utf8_lossy(&text);
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let version = field("redis_version").unwrap_or_default();
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < VERSION_MIN) {
        let text = format!(
            "{} runs Redis {version}; it must be {VERSION_MIN}.0 or later",
            link.name
        );
        return Err(RedisError::Setting(text));
    }
    if let Err(error) = link.send(&cmd("TIME")).await {
        return Err(match error {
            HotError::Unavailable(why) if why.contains("permission") => RedisError::Setting(format!(
                "{} does not tell its user the time, on which leases run; grant it +time",
                link.name
            )),
            error => error.into(),
        });
    }
    let setting = async |name: &str| match link.send(cmd("CONFIG").arg("GET").arg(name)).await {
        Ok(value) => {
            let mut pair = Reply::of(value)?;
            let _name = pair.bytes()?;
            Ok(String::from_utf8_lossy(&pair.bytes()?).into_owned())
        }
        Err(HotError::Unavailable(why)) if why.contains("permission") || why.contains("unknown command") => {
            tracing::warn!(redis = %link.name, setting = name, "the setting may not be read and is not checked");
            Ok(String::new())
        }
        Err(error) => Err(RedisError::from(error)),
    };
    let bytes_max = setting("maxmemory").await?;
    let policy = setting("maxmemory-policy").await?;
    if !policy.is_empty() && policy != "noeviction" && bytes_max != "0" {
        let text = format!(
            "{} has maxmemory-policy {policy}, which throws items away when memory is short; set \
             maxmemory-policy to noeviction",
            link.name
        );
        return Err(RedisError::Setting(text));
    }
    Ok(field("redis_mode") == Some("cluster"))
}
