//! What changed in the catalog since a node last looked. Every change is announced in the transaction that
//! makes it, under a number of its own; nodes ask for the last number, and read what came after theirs.

use sea_orm::{DatabaseTransaction, QueryResult};

use super::Catalog;
use super::hooks::{column, name};
use super::{decode_settings, name_of_topic};
use crate::model::{Namespace, NamespaceSettings, TopicKey};
use crate::shard::error::corrupt;
use crate::shard::{CatalogContents, ShardError, TopicRow};

/// How many changes are kept; who missed more reads everything.
const KEPT: i64 = 10_000;

/// The numbers of the last changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generations {
    /// Of topics and namespaces.
    pub catalog: u64,
    /// Of moving slots.
    pub slots: u64,
    /// Of hooks.
    pub hooks: u64,
}

/// What is announced to other nodes.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) enum Changed<'a> {
    /// A topic appeared, went, or is set differently.
    Topic(&'a TopicKey),
    /// A namespace is set differently.
    Namespace(&'a Namespace),
    /// Too much to tell apart.
    Everything,
}

/// What came after a change that a node knows.
#[derive(Debug, Default)]
pub struct CatalogChanges {
    /// The number of the last change that is in here.
    pub generation: u64,
    /// Topics as they are now; none for one that is gone.
    pub topics: Vec<(TopicKey, Option<TopicRow>)>,
    /// Namespaces as they are now; none for one that is gone.
    pub namespaces: Vec<(Namespace, Option<NamespaceSettings>)>,
    /// All there is, when the changes cannot be told apart any more: then the lists are empty.
    pub everything: Option<CatalogContents>,
}

impl Catalog {
    /// The numbers of the last changes, by one statement.
    pub async fn generations(&self) -> Result<Generations, ShardError> {
        let sql = "SELECT name, value FROM counters WHERE name IN ('catalog', 'slots', 'hooks')";
        let mut generations = Generations::default();
        for row in self.database.rows(&self.database.reader, sql, []).await? {
            let value = column::<i64>(&row, "value")?.cast_unsigned();
            match column::<String>(&row, "name")?.as_str() {
                "catalog" => generations.catalog = value,
                "slots" => generations.slots = value,
                _ => generations.hooks = value,
            }
        }
        Ok(generations)
    }

    /// Announces a change within the `transaction` that makes it. The counter's row stays locked until that
    /// ends, so that the numbers are in the order of the commits.
    pub(in crate::shard) async fn announce(
        &self,
        transaction: &DatabaseTransaction,
        changed: Changed<'_>,
    ) -> Result<(), ShardError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = 'catalog' RETURNING value";
        let Some(row) = self.database.row(transaction, sql, []).await? else {
            return Err(corrupt("the catalog has lost count of its changes"));
        };
        let number: i64 = column(&row, "value")?;
        let (namespace, topic) = match changed {
            Changed::Topic(key) => (key.namespace().as_str(), key.topic().as_str()),
            Changed::Namespace(namespace) => (namespace.as_str(), ""),
            Changed::Everything => ("", ""),
        };
        let sql = "INSERT INTO changes (id, namespace, topic) VALUES ($1, $2, $3)";
        let values = [number.into(), namespace.into(), topic.into()];
        self.run(transaction, sql, values).await?;
        let sql = "DELETE FROM changes WHERE id <= $1";
        self.run(transaction, sql, [(number - KEPT).into()]).await?;
        Ok(())
    }

    /// What came after change number `seen`, as of one instant.
    pub async fn changes(&self, seen: u64) -> Result<CatalogChanges, ShardError> {
        let read = self.database.begin_read().await?;
        let after = || [seen.cast_signed().into()];
        let sql = "SELECT (SELECT value FROM counters WHERE name = 'catalog') AS generation,
                COUNT(*) AS told, COUNT(CASE WHEN namespace = '' THEN 1 END) AS untold
            FROM changes WHERE id > $1";
        let Some(row) = self.database.row(&read, sql, after()).await? else {
            return Err(corrupt("the catalog has lost count of its changes"));
        };
        let generation = column::<i64>(&row, "generation")?.cast_unsigned();
        let told = column::<i64>(&row, "told")?.cast_unsigned();
        let mut changes = CatalogChanges {
            generation,
            ..CatalogChanges::default()
        };
        // A catalog that was restored from a backup may have gone back.
        let is_whole = generation.checked_sub(seen) == Some(told) && column::<i64>(&row, "untold")? == 0;
        if is_whole {
            let sql = "SELECT c.namespace, c.topic, t.settings, t.paused
                FROM (SELECT DISTINCT namespace, topic FROM changes WHERE id > $1 AND topic <> '') AS c
                LEFT JOIN topics t ON t.namespace = c.namespace AND t.topic = c.topic";
            for row in self.database.rows(&read, sql, after()).await? {
                changes.topics.push(decode_topic(&row)?);
            }
            let sql = "SELECT c.namespace, n.settings
                FROM (SELECT DISTINCT namespace FROM changes WHERE id > $1 AND topic = '') AS c
                LEFT JOIN namespaces n ON n.namespace = c.namespace";
            for row in self.database.rows(&read, sql, after()).await? {
                let namespace: Namespace = name(&row, "namespace")?;
                let settings = column::<Option<String>>(&row, "settings")?;
                let settings = settings
                    .map(|settings| decode_settings(&settings, &namespace))
                    .transpose()?;
                changes.namespaces.push((namespace, settings));
            }
        } else {
            changes.everything = Some(self.load_on(&read).await?);
        }
        self.database.commit(read).await?;
        Ok(changes)
    }
}

fn decode_topic(row: &QueryResult) -> Result<(TopicKey, Option<TopicRow>), ShardError> {
    let (namespace, topic): (String, String) = (column(row, "namespace")?, column(row, "topic")?);
    let key = name_of_topic(&namespace, &topic)?;
    let row = match column::<Option<String>>(row, "settings")? {
        Some(settings) => Some(TopicRow {
            settings: decode_settings(&settings, &key)?,
            paused: column::<Option<bool>>(row, "paused")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok((key, row))
}
