//! Shards on the PostgreSQL of this machine, each a schema of its own, and reached through a proxy where a test breaks them.

use std::sync::atomic::{AtomicU32, Ordering};

use mqueue::model::TopicKey;
use mqueue::shard::SlotMap;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DbBackend, SqlxPostgresConnector, Statement,
};

use crate::proxy::Proxy;

/// Empty shards. They are gone when this is.
pub(crate) struct Postgres {
    base: String,
    pub(crate) schemas: Vec<String>,
    /// One in front of each shard; none in front of bare ones.
    pub(crate) proxies: Vec<Proxy>,
}

impl Postgres {
    /// So many shards.
    pub(crate) async fn shards(count: usize) -> Self {
        let mut made = Self::bare(count);
        for _ in 0..count {
            made.proxies.push(Proxy::start(&made.server()).await);
        }
        made
    }

    /// So many shards that are reached without a proxy.
    pub(crate) fn bare(count: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = |_| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            format!("mqueue_it_{}_{number}", std::process::id())
        };
        Self {
            base: std::env::var("MQUEUE_TEST_POSTGRES")
                .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned()),
            schemas: (0..count).map(name).collect(),
            proxies: Vec::new(),
        }
    }

    /// `host:port` of the server.
    fn server(&self) -> String {
        let rest = self.base.split_once('@').map_or(&*self.base, |(_, rest)| rest);
        rest.split('/').next().unwrap().to_owned()
    }

    /// Where shard `number` is reached, through its proxy if it has one.
    pub(crate) fn url(&self, number: usize) -> String {
        let base = match self.proxies.get(number) {
            Some(proxy) => self.base.replace(&self.server(), &proxy.address()),
            None => self.base.clone(),
        };
        format!("{base}?schema={}", self.schemas[number])
    }

    /// All of them, as `DATABASE_URLS` has them.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<_> = (0..self.schemas.len()).map(|number| self.url(number)).collect();
        urls.join(",")
    }

    /// A connection that goes round the proxy, for looking into shard `number`.
    pub(crate) async fn connect(&self, number: usize) -> DatabaseConnection {
        let connection = connect(&self.base).await;
        let path = format!("SET search_path TO {}", self.schemas[number]);
        connection.execute_unprepared(&path).await.unwrap();
        connection
    }

    /// What the one number is that `sql` asks shard `number` for.
    pub(crate) async fn number(&self, number: usize, sql: &str) -> i64 {
        let connection = self.connect(number).await;
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    /// The name of a topic of the namespace `default` that shard `number` holds, the `nth` of such.
    pub(crate) fn topic_in(&self, number: usize, nth: usize) -> String {
        let map = SlotMap::initial(self.schemas.len()).unwrap();
        let names = (0..).map(|n| format!("topic-{n}"));
        let held = |name: &String| {
            let key = TopicKey::parse("default", name).unwrap();
            map.shard_of(key.slot()) == number
        };
        names.filter(held).nth(nth).unwrap()
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    SqlxPostgresConnector::connect(options)
        .await
        .expect("these tests need a PostgreSQL; set MQUEUE_TEST_POSTGRES")
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (base, schemas) = (self.base.clone(), std::mem::take(&mut self.schemas));
        // The test's own runtime may be ending this moment.
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = connect(&base).await;
                for schema in schemas {
                    let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                    server.execute_unprepared(&drop).await.unwrap();
                }
            });
        };
        let _ = std::thread::spawn(clean).join();
    }
}
