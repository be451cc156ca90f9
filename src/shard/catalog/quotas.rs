//! Quotas of namespaces that are set while the servers run.

use super::audit::AuditRow;
use super::hooks::{column, name};
use super::{Catalog, decode_settings, encode_settings};
use crate::clock::Timestamp;
use crate::model::{Author, Namespace, QuotaPatch};
use crate::shard::ShardError;

impl Catalog {
    /// Every stored quota.
    pub async fn quotas(&self) -> Result<Vec<(Namespace, QuotaPatch)>, ShardError> {
        let sql = "SELECT namespace, quota FROM quotas";
        let rows = self.database.rows(&self.database.reader, sql, []).await?;
        rows.iter()
            .map(|row| {
                let namespace: Namespace = name(row, "namespace")?;
                let quota = decode_settings(&column::<String>(row, "quota")?, &namespace)?;
                Ok((namespace, quota))
            })
            .collect()
    }

    /// Stores the quota of `namespace` in place of `before`, or forgets it, and notes that `by` did so at `at`.
    pub async fn put_quota(
        &self,
        namespace: &Namespace,
        (before, quota): (Option<QuotaPatch>, Option<QuotaPatch>),
        by: &Author,
        at: Timestamp,
    ) -> Result<(), ShardError> {
        let text = |quota: Option<QuotaPatch>| quota.map(|quota| encode_settings(&quota)).transpose();
        let audit = AuditRow {
            at,
            namespace: Some(namespace.clone()),
            actor: by.subject.to_string(),
            action: if quota.is_some() {
                "quota.put"
            } else {
                "quota.delete"
            },
            target: namespace.to_string(),
            before: text(before)?,
            after: text(quota)?,
            request_id: by.request_id.as_deref().map(str::to_owned),
            peer: by.peer.as_deref().map(str::to_owned),
        };
        let transaction = self.database.begin_write().await?;
        match quota {
            Some(quota) => {
                let sql = "INSERT INTO quotas (namespace, quota) VALUES ($1, $2)
                    ON CONFLICT (namespace) DO UPDATE SET quota = excluded.quota";
                let values = [namespace.as_str().into(), encode_settings(&quota)?.into()];
                self.run(&transaction, sql, values).await?;
            }
            None => {
                let sql = "DELETE FROM quotas WHERE namespace = $1";
                self.run(&transaction, sql, [namespace.as_str().into()]).await?;
            }
        }
        self.note(&transaction, &[audit]).await?;
        self.database.commit(transaction).await
    }
}
