//! Which batch a `request_id` was answered with, so that a retried dequeue leaks no leases.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::request::DequeueRequest;
use crate::clock::Timestamp;
use crate::model::{LeaseRef, Namespace};

/// Most requests remembered; the oldest go first.
const REMEMBERED: usize = 10_000;
/// Most leases remembered, of all requests together.
const LEASES_REMEMBERED: usize = 200_000;

/// Whose request it is: namespace, consumer and `request_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ReceiptKey(Namespace, Arc<str>, Box<str>);

impl ReceiptKey {
    /// The key of a request that has a `request_id`.
    pub(super) fn of(request: &DequeueRequest) -> Option<Self> {
        let (topic, _) = request.topics.first()?;
        Some(Self(
            topic.namespace().clone(),
            request.consumer.subject.clone(),
            request.request_id.clone()?,
        ))
    }
}

#[derive(Debug)]
enum Receipt {
    Open(Arc<Notify>),
    Done {
        leases: Arc<[LeaseRef]>,
        until: Timestamp,
    },
}

impl Receipt {
    fn leases(&self) -> usize {
        match self {
            Self::Open(_) => 0,
            Self::Done { leases, .. } => leases.len(),
        }
    }
}

/// The remembered answers: the leases, not the items, which would stay in memory long after their ack.
///
/// They live in memory: after a restart a retried `request_id` is a new request, and the first batch comes
/// back when its leases end.
#[derive(Debug, Default, Clone)]
pub(super) struct Receipts(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    receipts: HashMap<ReceiptKey, (u64, Receipt)>,
    /// Receipts by age. A number that is not the receipt's any more is stale.
    order: VecDeque<(u64, ReceiptKey)>,
    numbered: u64,
    leases: usize,
}

impl Inner {
    fn insert(&mut self, key: &ReceiptKey, receipt: Receipt) -> u64 {
        self.remove(key);
        self.numbered += 1;
        self.leases += receipt.leases();
        self.receipts.insert(key.clone(), (self.numbered, receipt));
        self.order.push_back((self.numbered, key.clone()));
        while self.receipts.len() > REMEMBERED || self.leases > LEASES_REMEMBERED {
            let Some((number, oldest)) = self.order.pop_front() else {
                break;
            };
            if self.is_current(number, &oldest) {
                self.remove(&oldest);
            }
        }
        if self.order.len() > 2 * REMEMBERED {
            let receipts = &self.receipts;
            self.order
                .retain(|(number, key)| receipts.get(key).is_some_and(|(current, _)| current == number));
        }
        self.numbered
    }

    fn is_current(&self, number: u64, key: &ReceiptKey) -> bool {
        self.receipts
            .get(key)
            .is_some_and(|(current, _)| *current == number)
    }

    fn remove(&mut self, key: &ReceiptKey) {
        let Some((_, receipt)) = self.receipts.remove(key) else {
            return;
        };
        self.leases -= receipt.leases();
        if let Receipt::Open(decided) = receipt {
            decided.notify_waiters();
        }
    }
}

/// What [`Receipts::claim`] found.
pub(super) enum Claim {
    /// Nobody asked this before: the caller does, and settles it.
    Mine(OpenReceipt),
    /// The same request is under way.
    Theirs(Arc<Notify>),
    /// The same request was answered with these leases.
    Done(Arc<[LeaseRef]>),
}

impl Receipts {
    /// Claims `key` at `now`.
    pub(super) fn claim(&self, key: &ReceiptKey, now: Timestamp) -> Claim {
        let mut inner = self.0.lock();
        match inner.receipts.get(key) {
            Some((_, Receipt::Open(decided))) => return Claim::Theirs(decided.clone()),
            Some((_, Receipt::Done { leases, until })) if *until > now => {
                return Claim::Done(leases.clone());
            }
            _ => {}
        }
        let number = inner.insert(key, Receipt::Open(Arc::default()));
        Claim::Mine(OpenReceipt {
            receipts: self.clone(),
            key: key.clone(),
            number,
        })
    }

    /// Forgets an answer that means nothing any more.
    pub(super) fn forget(&self, key: &ReceiptKey) {
        let mut inner = self.0.lock();
        if matches!(inner.receipts.get(key), Some((_, Receipt::Done { .. }))) {
            inner.remove(key);
        }
    }
}

/// A claim that its holder settles; dropped unsettled, the request counts as never made.
pub(super) struct OpenReceipt {
    receipts: Receipts,
    key: ReceiptKey,
    number: u64,
}

impl OpenReceipt {
    /// Remembers the answer until its longest lease ends; an empty answer is not worth repeating.
    pub(super) fn settle(self, leases: Vec<LeaseRef>, until: Timestamp) {
        if !leases.is_empty() {
            let leases = leases.into();
            let mut inner = self.receipts.0.lock();
            inner.insert(&self.key, Receipt::Done { leases, until });
        }
    }
}

impl Drop for OpenReceipt {
    fn drop(&mut self) {
        let mut inner = self.receipts.0.lock();
        if inner.is_current(self.number, &self.key) {
            inner.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ItemId, TopicKey};

    const NOW: Timestamp = Timestamp::from_ms(1_000);

    fn key(n: usize) -> ReceiptKey {
        ReceiptKey("a".parse().unwrap(), "c".into(), n.to_string().into())
    }

    fn leases(count: usize) -> Vec<LeaseRef> {
        let topic = TopicKey::parse("a", "t").unwrap();
        (0..count as u64)
            .map(|id| LeaseRef {
                topic: topic.clone(),
                id: ItemId(id),
                generation: 1,
            })
            .collect()
    }

    fn claimed(receipts: &Receipts, key: &ReceiptKey) -> OpenReceipt {
        match receipts.claim(key, NOW) {
            Claim::Mine(claim) => claim,
            _ => panic!("the request is known already"),
        }
    }

    #[test]
    fn a_settled_request_is_answered_again_until_its_leases_end() {
        let receipts = Receipts::default();
        claimed(&receipts, &key(1)).settle(leases(2), NOW.plus_ms(10));
        assert!(matches!(receipts.claim(&key(1), NOW), Claim::Done(leases) if leases.len() == 2));
        let late = receipts.claim(&key(1), NOW.plus_ms(10));
        assert!(matches!(late, Claim::Mine(_)));
    }

    #[test]
    fn a_dropped_claim_was_never_made() {
        let receipts = Receipts::default();
        let claim = claimed(&receipts, &key(1));
        assert!(matches!(receipts.claim(&key(1), NOW), Claim::Theirs(_)));
        drop(claim);
        claimed(&receipts, &key(1)).settle(Vec::new(), NOW);
        claimed(&receipts, &key(1));
    }

    #[test]
    fn what_is_remembered_is_bounded_in_requests_and_in_leases() {
        let receipts = Receipts::default();
        let open = claimed(&receipts, &key(0));
        for n in 1..3 * REMEMBERED {
            claimed(&receipts, &key(n)).settle(leases(1), NOW.plus_ms(1));
        }
        // Its place was taken meanwhile; settled late, it takes one like any other.
        open.settle(leases(1), NOW.plus_ms(1));
        for n in 0..500 {
            claimed(&receipts, &key(1_000_000 + n)).settle(leases(1_000), NOW.plus_ms(1));
        }
        let inner = receipts.0.lock();
        assert!(inner.receipts.len() <= REMEMBERED && inner.order.len() <= 2 * REMEMBERED + 1);
        assert!(inner.leases <= LEASES_REMEMBERED);
        let counted: usize = inner.receipts.values().map(|(_, receipt)| receipt.leases()).sum();
        assert_eq!(counted, inner.leases);
    }
}
