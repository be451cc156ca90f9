//! The catalog: small, read whole at start-up and written row by row.

mod audit;
mod hooks;
mod operations;

use sea_orm::sea_query::{OnConflict, SimpleExpr};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Database;
use super::entity::{namespaces, slots, topics};
use super::error::corrupt;
use super::{CatalogContents, ShardError, TopicRow};
use crate::model::{Namespace, NamespaceSettings, TopicKey};

pub use audit::{AuditQuery, AuditRecord, AuditRow};
pub use hooks::{HookChange, HookContents, HookVersionRow};
pub use operations::{Claimed, Ending, OperationOrder, OperationRow, Told};

/// Most rows in one insert, well below the values SQLite allows in a statement.
const ROWS_MAX: usize = 4_096;

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

    /// Everything in the catalog.
    pub async fn load(&self) -> Result<CatalogContents, ShardError> {
        let reader = &self.database.reader;
        let topics = self.database.timed(topics::Entity::find().all(reader)).await?;
        let namespaces = self
            .database
            .timed(namespaces::Entity::find().all(reader))
            .await?;
        let slots = slots::Entity::find().order_by_asc(slots::Column::Slot);
        let slots = self.database.timed(slots.all(reader)).await?;
        Ok(CatalogContents {
            topics: topics.into_iter().map(decode_topic).collect::<Result<_, _>>()?,
            namespaces: namespaces
                .into_iter()
                .map(decode_namespace)
                .collect::<Result<_, _>>()?,
            slots: decode_slots(&slots)?,
        })
    }

    /// Stores a topic's row, whether it is new or not.
    pub async fn put_topic(&self, topic: &TopicKey, row: &TopicRow) -> Result<(), ShardError> {
        use topics::{Column, Entity};
        let overwrite = OnConflict::columns([Column::Namespace, Column::Topic])
            .update_columns([Column::Settings, Column::Paused])
            .to_owned();
        let insert = Entity::insert(encode_topic(topic, row)?).on_conflict(overwrite);
        self.database
            .timed(insert.exec_without_returning(&self.database.writer))
            .await?;
        Ok(())
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
            self.database
                .timed(insert.exec_without_returning(&self.database.writer))
                .await?;
        }
        Ok(())
    }

    /// Forgets a topic's row.
    pub async fn delete_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        let key = (topic.namespace().to_string(), topic.topic().to_string());
        let delete = topics::Entity::delete_by_id(key);
        self.database.timed(delete.exec(&self.database.writer)).await?;
        Ok(())
    }

    /// Stores a namespace's settings, whether it is new or not.
    pub async fn put_namespace(
        &self,
        namespace: &Namespace,
        settings: &NamespaceSettings,
    ) -> Result<(), ShardError> {
        use namespaces::{ActiveModel, Column, Entity};
        let row = ActiveModel {
            namespace: Set(namespace.to_string()),
            settings: Set(encode_settings(settings)?),
        };
        let overwrite = OnConflict::column(Column::Namespace)
            .update_column(Column::Settings)
            .to_owned();
        let insert = Entity::insert(row).on_conflict(overwrite);
        self.database
            .timed(insert.exec_without_returning(&self.database.writer))
            .await?;
        Ok(())
    }

    /// Forgets a namespace's settings.
    pub async fn delete_namespace(&self, namespace: &Namespace) -> Result<(), ShardError> {
        let delete = namespaces::Entity::delete_by_id(namespace.to_string());
        self.database.timed(delete.exec(&self.database.writer)).await?;
        Ok(())
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
    let topic = TopicKey::parse(&row.namespace, &row.topic)
        .map_err(|_| corrupt("a topic in the catalog has an impossible name"))?;
    let settings = decode_settings(&row.settings, &topic)?;
    let paused = row.paused;
    Ok((topic, TopicRow { settings, paused }))
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
