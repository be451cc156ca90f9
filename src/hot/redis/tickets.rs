//! What becomes of items that Redis handed to a take whose reply never came, or held for somebody who did not hear.
//!
//! A connection may break, or a consumer hang up, after the library ran and before its reply was read: the items are
//! leased then, and nobody has them. So every take has a number, and so has every hold of what no lease is for. Redis
//! keeps what it took under that number until this node says that it heard of it. What was not heard of is given back,
//! and a take or a hold that arrives after that is refused.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::cell::Cell;
use super::terms::put_all;
use super::tier::RedisTier;

/// Numbers told to Redis with one take.
const TOLD_AT_ONCE: usize = 64;
/// Lost takes of a topic that are given back; of more at once the leases end by themselves.
const LOST_MAX: usize = 1_024;

/// A take or a hold as Redis knows it: the process, then its number, which goes up.
pub(super) type TicketBytes = [u8; 16];

/// The takes and holds of one topic that this node made.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Their replies came, which Redis does not know yet.
    heard: Vec<TicketBytes>,
    /// Their replies did not come.
    lost: Vec<TicketBytes>,
    /// Somebody is giving the lost ones back.
    is_giving_back: bool,
}

impl Tickets {
    /// Some of those whose replies came.
    pub(super) fn heard(&self) -> Vec<TicketBytes> {
        let inner = self.0.lock();
        inner.heard[..inner.heard.len().min(TOLD_AT_ONCE)].to_vec()
    }

    /// Redis knows of these now.
    pub(super) fn told(&self, heard: &[TicketBytes]) {
        if !heard.is_empty() {
            self.0.lock().heard.retain(|ticket| !heard.contains(ticket));
        }
    }

    fn lose(&self, ticket: TicketBytes) -> bool {
        let mut inner = self.0.lock();
        if inner.lost.len() < LOST_MAX {
            inner.lost.push(ticket);
        }
        !std::mem::replace(&mut inner.is_giving_back, true)
    }

    /// Those to be given back; when there are none, nobody gives any back from now on.
    fn lost(&self) -> Vec<TicketBytes> {
        let mut inner = self.0.lock();
        inner.is_giving_back = !inner.lost.is_empty();
        inner.lost.clone()
    }

    fn given_back(&self, tickets: &[TicketBytes]) {
        self.0.lock().lost.retain(|ticket| !tickets.contains(ticket));
    }
}

/// A take or a hold under way. Dropped unheard, what it took is given back.
pub(super) struct Ticket {
    tier: Weak<RedisTier>,
    cell: Arc<Cell>,
    pub(super) bytes: TicketBytes,
    is_heard: bool,
}

impl Ticket {
    /// The reply is here. Redis has to be told only when something was taken.
    pub(super) fn heard(mut self, has_items: bool) {
        self.is_heard = true;
        if has_items {
            self.cell.tickets.0.lock().heard.push(self.bytes);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_heard || !self.cell.tickets.lose(self.bytes) {
            return;
        }
        if let (Some(tier), Ok(runtime)) = (self.tier.upgrade(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(tier.give_back(self.cell.clone()));
        }
    }
}

impl RedisTier {
    pub(super) fn ticket(&self, cell: &Arc<Cell>) -> Ticket {
        let number = self.takes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.instance);
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Ticket {
            tier: self.me.clone(),
            cell: cell.clone(),
            bytes,
            is_heard: false,
        }
    }

    async fn give_back(self: Arc<Self>, cell: Arc<Cell>) {
        loop {
            let lost = cell.tickets.lost();
            if lost.is_empty() {
                return;
            }
            let fill = |call: &mut redis::Cmd| put_all(call, &lost);
            if self.surely_changed(&cell, "give_back", fill).await.is_none() {
                return;
            }
            cell.tickets.given_back(&lost);
            cell.wake();
        }
    }
}
