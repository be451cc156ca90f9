//! Operations: ordering work that goes on after the request, looking at it, cancelling it. Who does the work
//! is in [`operate`](super::operate).

use super::audit::Act;
use super::core::Queue;
use super::error::QueueError;
use super::request::Page;
use crate::model::{Author, Namespace, OperationState, TopicKey, Work};
use crate::shard::{OperationOrder, OperationRow};

impl Queue {
    /// Orders `work` in `namespace`; with `dry_run` nothing is changed, and its outcome tells what would be.
    ///
    /// # Errors
    /// [`QueueError::UnknownTopic`] when it is about a topic that does not exist, and
    /// [`QueueError::TooManyOperations`].
    pub async fn order(
        &self,
        namespace: &Namespace,
        work: Work,
        dry_run: bool,
        by: &Author,
    ) -> Result<OperationRow, QueueError> {
        self.core.check_running()?;
        let topic = match work.topic() {
            Some(topic) => Some(
                self.core
                    .topic(&TopicKey::new(namespace.clone(), topic.clone()))?,
            ),
            None => None,
        };
        // What ends with the work is told of as a deletion at once tells it.
        let before = match (&work, topic) {
            (Work::DeleteTopic { .. }, Some(topic)) => Some(topic.row().settings.text()),
            (Work::DeleteNamespace, _) => Some(self.core.topics.namespace(namespace).text()),
            _ => None,
        };
        let order = OperationOrder {
            namespace: namespace.clone(),
            created_by: by.subject.to_string(),
            created_at: self.core.clock.now(),
            dry_run,
            work,
        };
        let act = |target: String| Act {
            namespace: Some(namespace.clone()),
            by: by.clone(),
            action: "operation.order",
            target,
            before: before.clone(),
            after: Some(order.text()),
        };
        let target = match order.work.topic() {
            Some(topic) => format!("{} {topic}", order.work.kind()),
            None => order.work.kind().to_owned(),
        };
        let row = self.core.catalog.order(&order, &[self.row(act(target))]).await?;
        self.core.operations.ordered();
        row.ok_or(QueueError::TooManyOperations)
    }

    /// Up to `limit` operations of a namespace, the newest first, those in `state` alone where one is given.
    pub async fn operations(
        &self,
        namespace: &Namespace,
        state: Option<OperationState>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page<OperationRow, u64>, QueueError> {
        let catalog = &self.core.catalog;
        let mut entries = catalog.operations(namespace, state, before, limit + 1).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|row| row.id);
        Ok(Page { entries, next })
    }

    /// One operation.
    pub async fn operation(&self, namespace: &Namespace, id: u64) -> Result<OperationRow, QueueError> {
        let found = self.core.catalog.operation(namespace, id).await?;
        found.ok_or(QueueError::UnknownOperation)
    }

    /// Cancels an operation: at once when it waits, after the step under way when it runs. What it did stays
    /// done.
    ///
    /// # Errors
    /// [`QueueError::Conflict`] when it has ended.
    pub async fn cancel_operation(
        &self,
        namespace: &Namespace,
        id: u64,
        by: &Author,
    ) -> Result<OperationRow, QueueError> {
        let before = self.operation(namespace, id).await?;
        if before.state.is_end() {
            return Err(ended(before.state));
        }
        let act = Act {
            namespace: Some(namespace.clone()),
            by: by.clone(),
            action: "operation.cancel",
            target: id.to_string(),
            before: None,
            after: None,
        };
        let (catalog, now) = (&self.core.catalog, self.core.clock.now());
        let row = catalog
            .cancel_operation(namespace, id, now, &[self.row(act)])
            .await?
            .ok_or(QueueError::UnknownOperation)?;
        match row.state {
            OperationState::Running | OperationState::Cancelled => Ok(row),
            state => Err(ended(state)),
        }
    }
}

fn ended(state: OperationState) -> QueueError {
    QueueError::Conflict(format!("the operation has ended: it is {state}"))
}
