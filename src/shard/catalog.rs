//! The catalog: small, read whole at start-up and written row by row.

mod audit;
mod changes;
mod hooks;
mod moves;
mod nodes;
mod operations;
mod quotas;

use sea_orm::sea_query::{OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, Set};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Database;
use super::entity::{namespaces, slots, topics};
use super::error::corrupt;
use super::{CatalogContents, ShardError, TopicRow};
use crate::model::{Namespace, NamespaceSettings, SettingsPatch, TopicKey};

use changes::Changed;

pub use audit::{AuditQuery, AuditRecord, AuditRow};
pub use changes::{CatalogChanges, Generations};
pub use hooks::{HookChange, HookContents, HookVersionRow};
pub use moves::{MoveState, SlotContents, SlotMove};
pub use nodes::{Claim, NodeRow};
pub use operations::{Claimed, Ending, OperationOrder, OperationRow, Told};

/// Most rows in one insert, well below the values SQLite allows in a statement.
const ROWS_MAX: usize = 4_096;

/// What became of settings that were to replace others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// They are stored.
    Yes,
    /// Nothing changed: those that are stored are of another revision than was expected.
    No {
        /// That revision; of a row that is not there, the one of empty settings.
        current: u64,
    },
}

/// Topics, namespaces, slots, hooks, operations and the log of changes in the first shard's database.
/// Every call about the first four may be repeated.
#[derive(Debug, Clone)]
pub struct Catalog {
    database: Database,
}

impl Catalog {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Everything in the catalog, as of one instant.
    pub async fn load(&self) -> Result<CatalogContents, ShardError> {
        let read = self.database.begin_read().await?;
        let contents = self.load_on(&read).await?;
        self.database.commit(read).await?;
        Ok(contents)
    }

    async fn load_on(&self, read: &DatabaseTransaction) -> Result<CatalogContents, ShardError> {
        let sql = "SELECT value FROM counters WHERE name = 'catalog'";
        let Some(counter) = self.database.row(read, sql, []).await? else {
            return Err(corrupt("the catalog has lost count of its changes"));
        };
        let topics = self.database.timed(topics::Entity::find().all(read)).await?;
        let namespaces = self.database.timed(namespaces::Entity::find().all(read)).await?;
        let slots = self.owners_on(read).await?;
        Ok(CatalogContents {
            generation: hooks::column::<i64>(&counter, "value")?.cast_unsigned(),
            topics: topics.into_iter().map(decode_topic).collect::<Result<_, _>>()?,
            namespaces: namespaces
                .into_iter()
                .map(decode_namespace)
                .collect::<Result<_, _>>()?,
            slots,
        })
    }

    /// Every slot's shard, in slot order.
    async fn owners_on(&self, read: &DatabaseTransaction) -> Result<Vec<u16>, ShardError> {
        let slots = slots::Entity::find().order_by_asc(slots::Column::Slot);
        decode_slots(&self.database.timed(slots.all(read)).await?)
    }

    /// Stores a topic's own settings, whether it is new or not, in place of those of the revision `expected`, where
    /// one is. Whether it is paused stays as it is.
    pub async fn put_settings(
        &self,
        topic: &TopicKey,
        settings: &SettingsPatch,
        expected: Option<u64>,
    ) -> Result<Replaced, ShardError> {
        let row = TopicRow {
            settings: settings.clone(),
            paused: false,
        };
        self.put_topic(topic, &row, topics::Column::Settings, expected)
            .await
    }

    /// Stores whether a topic is paused; its settings stay as they are.
    pub async fn put_paused(&self, topic: &TopicKey, paused: bool) -> Result<(), ShardError> {
        let row = TopicRow {
            settings: SettingsPatch::default(),
            paused,
        };
        self.put_topic(topic, &row, topics::Column::Paused, None).await?;
        Ok(())
    }

    async fn put_topic(
        &self,
        topic: &TopicKey,
        row: &TopicRow,
        overwritten: topics::Column,
        expected: Option<u64>,
    ) -> Result<Replaced, ShardError> {
        use topics::{Column, Entity};
        let overwrite = OnConflict::columns([Column::Namespace, Column::Topic])
            .update_column(overwritten)
            .to_owned();
        let insert = Entity::insert(encode_topic(topic, row)?).on_conflict(overwrite);
        let transaction = self.database.begin_write().await?;
        // Announced first: from here on no other node changes the catalog, and what is compared stays so.
        self.announce(&transaction, Changed::Topic(topic)).await?;
        if let Some(expected) = expected {
            let id = (topic.namespace().to_string(), topic.topic().to_string());
            let found = self
                .database
                .timed(Entity::find_by_id(id).one(&transaction))
                .await?;
            let settings = found.map(|row| decode_topic(row).map(|(_, row)| row.settings));
            let current = settings.transpose()?.unwrap_or_default().revision();
            if current != expected {
                return Ok(Replaced::No { current });
            }
        }
        self.database
            .timed(insert.exec_without_returning(&transaction))
            .await?;
        self.database.commit(transaction).await?;
        Ok(Replaced::Yes)
    }

    /// Adds those of `topics` that are missing, with no settings of their own.
    pub async fn ensure_topics(&self, topics: &[TopicKey]) -> Result<(), ShardError> {
        use topics::{Column, Entity};
        for topics in topics.chunks(ROWS_MAX) {
            let rows = topics
                .iter()
                .map(|topic| encode_topic(topic, &TopicRow::default()))
                .collect::<Result<Vec<_>, _>>()?;
            let keep = OnConflict::columns([Column::Namespace, Column::Topic])
                .do_nothing()
                .to_owned();
            let insert = Entity::insert_many(rows).on_conflict(keep);
            let transaction = self.database.begin_write().await?;
            let added = self
                .database
                .timed(insert.exec_without_returning(&transaction))
                .await?;
            match (topics, added) {
                (_, 0) => {}
                ([topic], _) => self.announce(&transaction, Changed::Topic(topic)).await?,
                _ => self.announce(&transaction, Changed::Everything).await?,
            }
            self.database.commit(transaction).await?;
        }
        Ok(())
    }

    /// Adds `topic` with no settings of its own, unless it is there already. Its namespace has at most `most` topics
    /// then, whichever nodes make some at the same moment; false, and nothing is added, when it has as many.
    pub async fn make_topic(&self, topic: &TopicKey, most: usize) -> Result<bool, ShardError> {
        use topics::{Column, Entity};
        let id = (topic.namespace().to_string(), topic.topic().to_string());
        let count = Entity::find().filter(Column::Namespace.eq(topic.namespace().as_str()));
        let transaction = self.database.begin_write().await?;
        // Announced first: from here on no other node changes the catalog, and what is counted stays so.
        self.announce(&transaction, Changed::Topic(topic)).await?;
        let found = self
            .database
            .timed(Entity::find_by_id(id).one(&transaction))
            .await?;
        if found.is_some() {
            return Ok(true);
        }
        let there = self.database.timed(count.count(&transaction)).await?;
        if there >= most as u64 {
            return Ok(false);
        }
        let insert = Entity::insert(encode_topic(topic, &TopicRow::default())?);
        self.database
            .timed(insert.exec_without_returning(&transaction))
            .await?;
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// Forgets a topic's row.
    pub async fn delete_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        let key = (topic.namespace().to_string(), topic.topic().to_string());
        let delete = topics::Entity::delete_by_id(key);
        let transaction = self.database.begin_write().await?;
        self.database.timed(delete.exec(&transaction)).await?;
        self.announce(&transaction, Changed::Topic(topic)).await?;
        self.database.commit(transaction).await
    }

    /// Stores a namespace's settings, whether it is new or not.
    pub async fn put_namespace(
        &self,
        namespace: &Namespace,
        settings: &NamespaceSettings,
        expected: Option<u64>,
    ) -> Result<Replaced, ShardError> {
        use namespaces::{ActiveModel, Column, Entity};
        let row = ActiveModel {
            namespace: Set(namespace.to_string()),
            settings: Set(encode_settings(settings)?),
        };
        let overwrite = OnConflict::column(Column::Namespace)
            .update_column(Column::Settings)
            .to_owned();
        let insert = Entity::insert(row).on_conflict(overwrite);
        let transaction = self.database.begin_write().await?;
        self.announce(&transaction, Changed::Namespace(namespace)).await?;
        if let Some(expected) = expected {
            let find = Entity::find_by_id(namespace.to_string());
            let found = self.database.timed(find.one(&transaction)).await?;
            let settings = found.map(|row| decode_namespace(row).map(|(_, settings)| settings));
            let current = settings.transpose()?.unwrap_or_default().revision();
            if current != expected {
                return Ok(Replaced::No { current });
            }
        }
        self.database
            .timed(insert.exec_without_returning(&transaction))
            .await?;
        self.database.commit(transaction).await?;
        Ok(Replaced::Yes)
    }

    /// Forgets a namespace's settings.
    pub async fn delete_namespace(&self, namespace: &Namespace) -> Result<(), ShardError> {
        let delete = namespaces::Entity::delete_by_id(namespace.to_string());
        let transaction = self.database.begin_write().await?;
        self.database.timed(delete.exec(&transaction)).await?;
        self.announce(&transaction, Changed::Namespace(namespace)).await?;
        self.database.commit(transaction).await
    }

    /// Stores which shard each slot is assigned to, all slots at once.
    pub async fn put_slots(&self, owners: &[u16]) -> Result<(), ShardError> {
        use slots::{ActiveModel, Column, Entity};
        let rows: Vec<_> = (0..)
            .zip(owners)
            .map(|(slot, &shard)| ActiveModel {
                slot: Set(slot),
                shard: Set(i32::from(shard)),
            })
            .collect();
        let transaction = self.database.begin_write().await?;
        let beyond = SimpleExpr::from(Column::Slot.gte(rows.len() as i64));
        let delete = Entity::delete_many().filter(beyond);
        self.database.timed(delete.exec(&transaction)).await?;
        for rows in rows.chunks(ROWS_MAX) {
            let overwrite = OnConflict::column(Column::Slot)
                .update_column(Column::Shard)
                .to_owned();
            let insert = Entity::insert_many(rows.to_vec()).on_conflict(overwrite);
            self.database
                .timed(insert.exec_without_returning(&transaction))
                .await?;
        }
        self.database.commit(transaction).await
    }
}

fn encode_topic(topic: &TopicKey, row: &TopicRow) -> Result<topics::ActiveModel, ShardError> {
    Ok(topics::ActiveModel {
        namespace: Set(topic.namespace().to_string()),
        topic: Set(topic.topic().to_string()),
        settings: Set(encode_settings(&row.settings)?),
        paused: Set(row.paused),
    })
}

fn decode_topic(row: topics::Model) -> Result<(TopicKey, TopicRow), ShardError> {
    let topic = name_of_topic(&row.namespace, &row.topic)?;
    let settings = decode_settings(&row.settings, &topic)?;
    let paused = row.paused;
    Ok((topic, TopicRow { settings, paused }))
}

fn name_of_topic(namespace: &str, topic: &str) -> Result<TopicKey, ShardError> {
    TopicKey::parse(namespace, topic).map_err(|_| corrupt("a topic in the catalog has an impossible name"))
}

fn decode_namespace(row: namespaces::Model) -> Result<(Namespace, NamespaceSettings), ShardError> {
    let namespace: Namespace = row
        .namespace
        .parse()
        .map_err(|_| corrupt("a namespace in the catalog has an impossible name"))?;
    let settings = decode_settings(&row.settings, &namespace)?;
    Ok((namespace, settings))
}

fn decode_slots(rows: &[slots::Model]) -> Result<Vec<u16>, ShardError> {
    (0..)
        .zip(rows)
        .map(|(slot, row)| {
            let shard = u16::try_from(row.shard).ok();
            shard
                .filter(|_| row.slot == slot)
                .ok_or_else(|| corrupt(format!("slot {slot} is not assigned to a shard")))
        })
        .collect()
}

fn encode_settings(settings: &impl Serialize) -> Result<String, ShardError> {
    serde_json::to_string(settings).map_err(|_| corrupt("settings have a number JSON cannot write"))
}

fn decode_settings<T: DeserializeOwned>(json: &str, of: &impl std::fmt::Display) -> Result<T, ShardError> {
    serde_json::from_str(json).map_err(|_| corrupt(format!("the settings of {of} are not readable")))
}
