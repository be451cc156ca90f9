//! Which batch a `request_id` was answered with, so that a retried dequeue leaks no leases.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::request::{Delivered, DequeueRequest};
use crate::clock::Timestamp;
use crate::model::Namespace;

/// Most answers remembered; the oldest go first.
const REMEMBERED: usize = 10_000;

/// Whose request it is: namespace, consumer and `request_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ReceiptKey(Namespace, Box<str>, Box<str>);

impl ReceiptKey {
    /// The key of a request that has a `request_id`.
    pub(super) fn of(request: &DequeueRequest) -> Option<Self> {
        let (topic, _) = request.topics.first()?;
        Some(Self(
            topic.namespace().clone(),
            request.consumer.clone(),
            request.request_id.clone()?,
        ))
    }
}

#[derive(Debug)]
enum Receipt {
    Open(Arc<Notify>),
    Done {
        delivered: Vec<Delivered>,
        until: Timestamp,
    },
}

/// The remembered answers. They live in memory: after a restart a retried `request_id` is a new request,
/// and the first batch comes back when its leases end.
#[derive(Debug, Default, Clone)]
pub(super) struct Receipts(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    receipts: HashMap<ReceiptKey, Receipt>,
    order: VecDeque<ReceiptKey>,
}

/// What [`Receipts::claim`] found.
pub(super) enum Claim {
    /// Nobody asked this before: the caller does, and settles it.
    Mine(OpenReceipt),
    /// The same request is under way.
    Theirs(Arc<Notify>),
    /// The same request was answered with this.
    Done(Vec<Delivered>),
}

impl Receipts {
    /// Claims `key` at `now`.
    pub(super) fn claim(&self, key: &ReceiptKey, now: Timestamp) -> Claim {
        let mut inner = self.0.lock();
        match inner.receipts.get(key) {
            Some(Receipt::Open(decided)) => return Claim::Theirs(decided.clone()),
            Some(Receipt::Done { delivered, until }) if *until > now => {
                return Claim::Done(delivered.clone());
            }
            _ => {}
        }
        if inner
            .receipts
            .insert(key.clone(), Receipt::Open(Arc::default()))
            .is_none()
        {
            inner.order.push_back(key.clone());
        }
        if inner.order.len() > REMEMBERED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.receipts.remove(&oldest);
        }
        Claim::Mine(OpenReceipt {
            receipts: self.clone(),
            key: key.clone(),
            settled: false,
        })
    }

    /// Forgets an answer that means nothing any more.
    pub(super) fn forget(&self, key: &ReceiptKey) {
        let mut inner = self.0.lock();
        if matches!(inner.receipts.get(key), Some(Receipt::Done { .. })) {
            inner.receipts.remove(key);
            inner.order.retain(|other| other != key);
        }
    }

    fn close(&self, key: &ReceiptKey, receipt: Option<Receipt>) {
        let mut inner = self.0.lock();
        let open = match receipt {
            Some(receipt) => inner.receipts.insert(key.clone(), receipt),
            None => {
                inner.order.retain(|other| other != key);
                inner.receipts.remove(key)
            }
        };
        if let Some(Receipt::Open(decided)) = open {
            decided.notify_waiters();
        }
    }
}

/// A claim that its holder settles; dropped unsettled, the request counts as never made.
pub(super) struct OpenReceipt {
    receipts: Receipts,
    key: ReceiptKey,
    settled: bool,
}

impl OpenReceipt {
    /// Remembers the answer while its longest lease lives; an empty answer is not worth repeating.
    pub(super) fn settle(mut self, delivered: &[Delivered], now: Timestamp) {
        let ends = delivered
            .iter()
            .filter_map(|d| d.lease.as_ref().map(|lease| lease.expires_at));
        if let Some(until) = ends.max().filter(|until| *until > now) {
            self.receipts.close(
                &self.key,
                Some(Receipt::Done {
                    delivered: delivered.to_vec(),
                    until,
                }),
            );
            self.settled = true;
        }
    }
}

impl Drop for OpenReceipt {
    fn drop(&mut self) {
        if !self.settled {
            self.receipts.close(&self.key, None);
        }
    }
}
