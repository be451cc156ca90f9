//! Connections: where a shard's address leads, and how long it is waited for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mqueue_migrations::migrate;
use parking_lot::Mutex;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr,
    IsolationLevel, QueryResult, SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector,
    TransactionOptions, TransactionTrait, Value,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::ShardError;
use super::dialect::{Dialect, ROWS_MAX};
use super::error::{is_of_another_server, unavailable};

/// How a shard is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOptions {
    /// Most connections to a PostgreSQL shard; at least 1.
    pub postgres_connections: u32,
    /// Most reading connections to an SQLite shard, beside the one that writes; at least 1.
    pub sqlite_readers: u32,
    /// How long one statement may take. Purges, and forgetting keys, may take ten times as long.
    pub statement_timeout: Duration,
    /// How long connecting may take, and waiting for a free connection.
    pub connect_timeout: Duration,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            postgres_connections: 8,
            sqlite_readers: 4,
            statement_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// What is waited for a database to report its own time-out, which says more than ours.
const GRACE: Duration = Duration::from_secs(1);
/// How many times longer a statement may take whose work has no bound.
const PATIENCE: u32 = 10;

/// An open database. Clones share its connections.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) dialect: Dialect,
    /// On SQLite one connection: a second writer could only wait inside SQLite, unfairly.
    pub(super) writer: DatabaseConnection,
    /// On SQLite connections of their own, which see the last commit and wait for no writer.
    pub(super) reader: DatabaseConnection,
    statement_timeout: Duration,
    renewal: Renewal,
}

/// When connections are not trusted that are older.
#[derive(Debug, Clone, Default)]
struct Renewal(Arc<Mutex<Option<Instant>>>);

impl Renewal {
    /// Connections of before now are closed when they are next needed.
    fn now(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    fn trusts(&self, age: Duration) -> bool {
        let since = *self.0.lock();
        since.is_none_or(|since| age < since.elapsed())
    }
}

impl Database {
    /// Connects to `url` and brings the schema up to date.
    pub(super) async fn open(url: &SecretString, options: &ShardOptions) -> Result<Self, ShardError> {
        let url = url.expose_secret();
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Self::open_sqlite(url, options).await,
            Some("postgres" | "postgresql") => Self::open_postgres(url, options).await,
            _ => Err(ShardError::Address(
                "it must begin with sqlite: or postgres:".to_owned(),
            )),
        }
    }

    async fn open_sqlite(url: &str, options: &ShardOptions) -> Result<Self, ShardError> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(ShardError::Address(
                "a shard in memory would lose its backlog".to_owned(),
            ));
        }
        let connect = |role| {
            let connect = SqlxSqliteConnector::connect(sqlite_options(url, options, role));
            within(options.connect_timeout, connect)
        };
        let writer = connect(Role::Writer).await?;
        let database = Self {
            dialect: Dialect::Sqlite,
            // Readers may only look, so the schema comes first.
            reader: writer.clone(),
            writer,
            statement_timeout: options.statement_timeout,
            renewal: Renewal::default(),
        };
        database.migrate(None).await?;
        let reader = connect(Role::Reader).await?;
        Ok(Self { reader, ..database })
    }

    async fn open_postgres(url: &str, options: &ShardOptions) -> Result<Self, ShardError> {
        let (url, schema) = split_schema(url)?;
        let renewal = Renewal::default();
        let connect = postgres_options(&url, schema.as_deref(), options, renewal.clone());
        let connect = SqlxPostgresConnector::connect(connect);
        let pool = within(options.connect_timeout, connect).await?;
        let database = Self {
            dialect: Dialect::Postgres,
            writer: pool.clone(),
            reader: pool,
            statement_timeout: options.statement_timeout,
            renewal,
        };
        database.migrate(schema.as_deref()).await?;
        Ok(database)
    }

    /// Brings the schema up to date, in one transaction. Several nodes may start on one database at once:
    /// the first one migrates, the others wait for it and find nothing to do.
    async fn migrate(&self, schema: Option<&str>) -> Result<(), ShardError> {
        let limit = self.statement_timeout * PATIENCE;
        let transaction = self.begin_write().await?;
        if self.dialect == Dialect::Postgres {
            self.set_statement_timeout(&transaction, limit).await?;
            within(limit, prepare_schema(&transaction, schema)).await?;
        }
        within(limit, migrate(&transaction)).await?;
        self.commit(transaction).await
    }

    /// Proves that the database answers and takes writes. A server that was replaced by another one still
    /// answers, and refuses only what would change something.
    pub(super) async fn ping(&self) -> Result<(), ShardError> {
        if self.dialect == Dialect::Sqlite {
            self.row(&self.reader, "SELECT 1", []).await?;
            return Ok(());
        }
        let sql = "SELECT 1 WHERE current_setting('transaction_read_only') = 'off'";
        match self.row(&self.reader, sql, []).await? {
            Some(_) => Ok(()),
            None => {
                self.renewal.now();
                Err(unavailable("the database is read-only"))
            }
        }
    }

    /// Closes the connections; every call after it fails.
    pub(super) async fn close(&self) -> Result<(), ShardError> {
        within(self.statement_timeout, self.reader.close_by_ref()).await?;
        within(self.statement_timeout, self.writer.close_by_ref()).await
    }

    /// Runs one database call, for as long as a statement may take.
    pub(super) async fn timed<T>(
        &self,
        call: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, ShardError> {
        let answer = async {
            let answer = call.await;
            if answer.as_ref().is_err_and(is_of_another_server) {
                self.renewal.now();
            }
            answer
        };
        within(self.statement_timeout + GRACE, answer).await
    }

    /// The rows `sql` yields.
    pub(super) async fn rows(
        &self,
        on: &impl ConnectionTrait,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, ShardError> {
        self.timed(on.query_all_raw(self.dialect.statement(sql, values)))
            .await
    }

    /// The first row `sql` yields.
    pub(super) async fn row(
        &self,
        on: &impl ConnectionTrait,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<QueryResult>, ShardError> {
        self.timed(on.query_one_raw(self.dialect.statement(sql, values)))
            .await
    }

    /// Runs a statement whose work has no bound; returns how many rows it touched.
    pub(super) async fn patiently(
        &self,
        transaction: &DatabaseTransaction,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, ShardError> {
        let limit = self.statement_timeout * PATIENCE;
        if self.dialect == Dialect::Postgres {
            self.set_statement_timeout(transaction, limit).await?;
        }
        let done = within(
            limit + GRACE,
            transaction.execute_raw(self.dialect.statement(sql, values)),
        )
        .await?;
        if self.dialect == Dialect::Postgres {
            self.set_statement_timeout(transaction, self.statement_timeout)
                .await?;
        }
        Ok(done.rows_affected())
    }

    /// The rows of a question about all there is.
    pub(super) async fn rows_patiently(
        &self,
        sql: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, ShardError> {
        let limit = self.statement_timeout * PATIENCE;
        let transaction = self.begin_read().await?;
        if self.dialect == Dialect::Postgres {
            self.set_statement_timeout(&transaction, limit).await?;
        }
        let rows = transaction.query_all_raw(self.dialect.statement(sql, values));
        let rows = within(limit + GRACE, rows).await?;
        self.commit(transaction).await?;
        Ok(rows)
    }

    async fn set_statement_timeout(
        &self,
        transaction: &DatabaseTransaction,
        limit: Duration,
    ) -> Result<(), ShardError> {
        let sql = format!("SET LOCAL statement_timeout = {}", limit.as_millis());
        self.timed(transaction.execute_unprepared(&sql)).await?;
        Ok(())
    }

    /// A transaction that writes; dropped without a commit, it leaves nothing.
    pub(super) async fn begin_write(&self) -> Result<DatabaseTransaction, ShardError> {
        self.timed(self.writer.begin_with_options(TransactionOptions {
            // Taking the lock first is what busy_timeout works for; a later upgrade fails at once.
            sqlite_transaction_mode:
                (self.dialect == Dialect::Sqlite).then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        }))
        .await
    }

    /// A transaction whose statements all see the same instant.
    pub(super) async fn begin_read(&self) -> Result<DatabaseTransaction, ShardError> {
        // SQLite's transactions are that anyway, and sea-orm warns when told to.
        let postgres = self.dialect == Dialect::Postgres;
        self.timed(self.reader.begin_with_config(
            postgres.then_some(IsolationLevel::RepeatableRead),
            postgres.then_some(AccessMode::ReadOnly),
        ))
        .await
    }

    /// Commits. After an error it is not known whether the transaction was committed.
    pub(super) async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), ShardError> {
        self.timed(transaction.commit()).await
    }
}

async fn within<T, E>(limit: Duration, call: impl Future<Output = Result<T, E>>) -> Result<T, ShardError>
where
    ShardError: From<E>,
{
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(unavailable("the database did not answer in time")),
    }
}

enum Role {
    Writer,
    Reader,
}

fn sqlite_options(url: &str, options: &ShardOptions, role: Role) -> ConnectOptions {
    let writes = matches!(role, Role::Writer);
    let busy_timeout = options.statement_timeout;
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(if writes { 1 } else { options.sqlite_readers.max(1) })
        .min_connections(1)
        .acquire_timeout(options.connect_timeout)
        // There is no server that could drop a connection, and reopening loses the page cache.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .journal_mode(SqliteJournalMode::Wal)
                // A checkpoint lets log segments go, so it must be on the disk when it is reported.
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(busy_timeout)
                .foreign_keys(true)
                .row_buffer_size(ROWS_MAX)
                .pragma("query_only", if writes { "OFF" } else { "ON" })
                .pragma("temp_store", "MEMORY")
                // A mapped file counts as the process's memory, which is promised to stay near the items'
                // budget; the kernel caches the file anyway.
                .pragma("mmap_size", "0")
                // KiB, negative by SQLite's convention: 32 MiB to write with, 4 MiB for each reader.
                .pragma("cache_size", if writes { "-32768" } else { "-4096" })
                // 64 MiB of pages between two copies into the database: with many topics the same index
                // pages are written by one checkpoint after the other. The log is cut back to 128 MiB.
                .pragma("wal_autocheckpoint", "16384")
                .pragma("journal_size_limit", "134217728")
        });
    connect
}

fn postgres_options(
    url: &str,
    schema: Option<&str>,
    options: &ShardOptions,
    renewal: Renewal,
) -> ConnectOptions {
    let schema = schema.map(str::to_owned);
    let limit_ms = options.statement_timeout.as_millis().to_string();
    let mut connect = ConnectOptions::new(url);
    connect
        .max_connections(options.postgres_connections.max(1))
        .acquire_timeout(options.connect_timeout)
        .test_before_acquire_if_idle_for(Duration::from_secs(5))
        .map_sqlx_postgres_before_acquire(move |_, connection| {
            let trusted = renewal.trusts(connection.age);
            Box::pin(async move { Ok(trusted) })
        })
        .sqlx_logging(false)
        .set_application_name("mqueue")
        .statement_timeout(options.statement_timeout)
        .map_sqlx_postgres_opts(move |mut postgres| {
            postgres = postgres.options([
                ("lock_timeout", &*limit_ms),
                // A node that was stopped in the middle of a transaction holds no lock for ever.
                ("idle_in_transaction_session_timeout", &*limit_ms),
                // The driver asks the log about each notice in a way that makes it drop its next line.
                ("client_min_messages", "warning"),
            ]);
            if let Some(schema) = &schema {
                postgres = postgres.options([("search_path", schema)]);
            }
            postgres
        });
    connect
}

/// Cuts the parameter `schema` out of `url`: it is ours, the driver does not know it.
fn split_schema(url: &str) -> Result<(String, Option<String>), ShardError> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| pair.starts_with("schema="));
    let schema = ours.last().map(|pair| pair["schema=".len()..].to_owned());
    let fits = |name: &String| {
        (1..=63).contains(&name.len())
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if schema.as_ref().is_some_and(|name| !fits(name)) {
        return Err(ShardError::Address(
            "a schema's name is made of lower-case letters, digits and '_'".to_owned(),
        ));
    }
    match theirs.is_empty() {
        true => Ok((base.to_owned(), schema)),
        false => Ok((format!("{base}?{}", theirs.join("&")), schema)),
    }
}

/// Takes the lock that migrations run under, until the transaction ends, and makes `schema` if it is missing.
async fn prepare_schema(transaction: &DatabaseTransaction, schema: Option<&str>) -> Result<(), DbErr> {
    // Locks span the whole database, so the lock's name has the schema in it.
    let name = format!("mqueue migrations {}", schema.unwrap_or_default());
    let lock = Dialect::Postgres.statement("SELECT pg_advisory_xact_lock(hashtext($1))", [name.into()]);
    transaction.execute_raw(lock).await?;
    let Some(schema) = schema else { return Ok(()) };
    let find = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let find = Dialect::Postgres.statement(find, [schema.into()]);
    // Creating one takes rights on the database that using one does not.
    if transaction.query_one_raw(find).await?.is_none() {
        let create = format!("CREATE SCHEMA {schema}");
        transaction.execute_unprepared(&create).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_cut_out_of_the_address() {
        for (url, base, schema) in [
            ("postgres://h/d", "postgres://h/d", None),
            ("postgres://h/d?schema=one", "postgres://h/d", Some("one")),
            (
                "postgres://h/d?sslmode=disable&schema=one&user=u",
                "postgres://h/d?sslmode=disable&user=u",
                Some("one"),
            ),
        ] {
            assert_eq!(
                split_schema(url).unwrap(),
                (base.to_owned(), schema.map(str::to_owned))
            );
        }
        for bad in ["a\"b", "", "1a", "A"] {
            assert!(matches!(
                split_schema(&format!("postgres://h/d?schema={bad}")),
                Err(ShardError::Address(_))
            ));
        }
    }

    #[tokio::test]
    async fn addresses_that_lead_nowhere_are_named_without_their_secrets() {
        for url in [
            "mysql://u:hunter2@h/d",
            "hunter2",
            "sqlite::memory:",
            "sqlite://x?mode=memory",
        ] {
            let error = Database::open(&url.into(), &ShardOptions::default())
                .await
                .unwrap_err();
            assert!(matches!(error, ShardError::Address(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let options = ShardOptions {
            connect_timeout: Duration::from_secs(1),
            ..ShardOptions::default()
        };
        let refused = "postgres://u:hunter2@127.0.0.1:1/d";
        let error = Database::open(&refused.into(), &options).await.unwrap_err();
        assert!(matches!(error, ShardError::Unavailable(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
