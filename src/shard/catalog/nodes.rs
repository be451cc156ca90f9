//! Who holds which node number. A number is one process's at a time: ids are made of it.

use std::time::Duration;

use sea_orm::{QueryResult, Value};

use super::Catalog;
use super::hooks::column;
use crate::clock::Timestamp;
use crate::model::NodeId;
use crate::shard::ShardError;
use crate::shard::dialect::Dialect;
use crate::shard::error::corrupt;

/// How long the row of a node that gave its number back is kept, in milliseconds.
const KEEP_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// A node that does not renew its claim for so many of its times is away. It is as long until others store what it left.
const AWAITED_CLAIMS: i64 = 3;

/// A process's claim on a node number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number.
    pub node: NodeId,
    /// The data the process works on: whoever is started on it next may take the number over at once.
    pub holder: u64,
    /// The process; different at each start.
    pub incarnation: u64,
}

/// A node as the catalog knows it. Instants are by the clock of the catalog's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number and who holds it.
    pub claim: Claim,
    /// Where it listens, as it is configured.
    pub address: String,
    /// The version it runs.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heard_at: Timestamp,
    /// When its claim ends unless it is renewed; zero when it was given back.
    pub expires_at: Timestamp,
    /// The last step of moving slots that it does as.
    pub slots_seen: u64,
    /// The instant of this answer.
    pub now: Timestamp,
}

impl NodeRow {
    /// Whether the number is held.
    pub fn is_held(&self) -> bool {
        self.expires_at > self.now
    }

    /// Whether others count on it: it did not give its number back, and was heard of in the last three of its claims.
    pub fn is_awaited(&self) -> bool {
        let claim_ms = self.expires_at.since_ms(self.heard_at);
        !self.gave_up() && self.now.since_ms(self.heard_at) <= claim_ms.saturating_mul(AWAITED_CLAIMS)
    }

    /// Whether it gave its number back, having stored all that its log says.
    pub fn gave_up(&self) -> bool {
        self.expires_at == Timestamp::ZERO
    }
}

impl Catalog {
    /// Takes the number unless a node on other data holds it: then its row, and nothing is changed.
    pub async fn claim_node(
        &self,
        claim: Claim,
        address: &str,
        ttl: Duration,
    ) -> Result<Option<NodeRow>, ShardError> {
        let now = self.now_sql();
        let sql = format!(
            "INSERT INTO nodes (id, holder, incarnation, address, version, started_at, heard_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, {now}, {now}, {now} + $6)
            ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, incarnation = excluded.incarnation,
                address = excluded.address, version = excluded.version, started_at = excluded.started_at,
                heard_at = excluded.heard_at, expires_at = excluded.expires_at, slots_seen = 0
            WHERE nodes.expires_at <= {now} OR nodes.holder = excluded.holder"
        );
        let [id, holder, incarnation] = values(claim);
        let version = env!("CARGO_PKG_VERSION");
        let values = [id, holder, incarnation, address.into(), version.into(), ms(ttl)];
        let transaction = self.database.begin_write().await?;
        // What was prepared for moving slots did not count on this node.
        self.next_epoch(&transaction).await?;
        let claimed = self.run(&transaction, &sql, values).await? == 1;
        if claimed {
            let sql = format!("DELETE FROM nodes WHERE expires_at = 0 AND heard_at < {now} - $1");
            self.run(&transaction, &sql, [KEEP_MS.into()]).await?;
            self.database.commit(transaction).await?;
            return Ok(None);
        }
        drop(transaction);
        let nodes = self.nodes().await?;
        let holder = nodes.into_iter().find(|row| row.claim.node == claim.node);
        // It may have been given back this moment; then the next try gets it.
        holder.map_or_else(|| Err(corrupt("a node's claim is gone")), |row| Ok(Some(row)))
    }

    /// Makes the claim last for `ttl` from now; false when another process took the number.
    pub async fn renew_node(&self, claim: Claim, ttl: Duration) -> Result<bool, ShardError> {
        let now = self.now_sql();
        let sql = format!(
            "UPDATE nodes SET heard_at = {now}, expires_at = {now} + $3 WHERE id = $1 AND incarnation = $2"
        );
        let [id, _, incarnation] = values(claim);
        self.write(&sql, [id, incarnation, ms(ttl)]).await
    }

    /// Forgets a node that does not run; false when it does, or is not known.
    pub async fn forget_node(&self, node: NodeId) -> Result<bool, ShardError> {
        let sql = format!(
            "DELETE FROM nodes WHERE id = $1 AND expires_at <= {}",
            self.now_sql()
        );
        self.write(&sql, [i64::from(node.number()).into()]).await
    }

    /// Gives the number back, so that any node may take it: all that the node's log says is stored.
    pub async fn release_node(&self, claim: Claim) -> Result<(), ShardError> {
        let [id, _, incarnation] = values(claim);
        let sql = "UPDATE nodes SET expires_at = 0 WHERE id = $1 AND incarnation = $2";
        self.write(sql, [id, incarnation]).await?;
        Ok(())
    }

    /// Every node, by number; not those that gave their number back more than a week ago.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, ShardError> {
        let now = self.now_sql();
        let sql = format!(
            "SELECT id, holder, incarnation, address, version, started_at, heard_at, expires_at,
                slots_seen, {now} AS now
            FROM nodes ORDER BY id"
        );
        let rows = self.database.rows(&self.database.reader, sql, []).await?;
        rows.iter().map(decode).collect()
    }

    /// One statement that changes at most a row; whether it did.
    async fn write(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<bool, ShardError> {
        use sea_orm::ConnectionTrait;
        let statement = self.database.dialect.statement(sql, values);
        let done = self
            .database
            .timed(self.database.writer.execute_raw(statement))
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The database's clock, in milliseconds.
    pub(super) fn now_sql(&self) -> &'static str {
        match self.database.dialect {
            Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

fn values(claim: Claim) -> [Value; 3] {
    [
        i64::from(claim.node.number()).into(),
        claim.holder.cast_signed().into(),
        claim.incarnation.cast_signed().into(),
    ]
}

fn ms(time: Duration) -> Value {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).into()
}

fn decode(row: &QueryResult) -> Result<NodeRow, ShardError> {
    let number = u16::try_from(column::<i64>(row, "id")?).ok();
    let instant = |of| column::<i64>(row, of).map(Timestamp::from_ms);
    Ok(NodeRow {
        claim: Claim {
            node: number
                .and_then(NodeId::new)
                .ok_or_else(|| corrupt("a node has an impossible number"))?,
            holder: column::<i64>(row, "holder")?.cast_unsigned(),
            incarnation: column::<i64>(row, "incarnation")?.cast_unsigned(),
        },
        address: column(row, "address")?,
        version: column(row, "version")?,
        started_at: instant("started_at")?,
        heard_at: instant("heard_at")?,
        expires_at: instant("expires_at")?,
        slots_seen: column::<i64>(row, "slots_seen")?.cast_unsigned(),
        now: instant("now")?,
    })
}
