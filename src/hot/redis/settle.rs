//! How items are held for a settlement, settled and purged.

use redis::Cmd;

use super::reply::unreadable;
use super::state::{id_bytes, read_entry, read_lease, standing_bytes};
use super::terms::put_all;
use super::tier::RedisTier;
use crate::hot::{Finish, Held, HoldRequest, HotError, Landing};
use crate::model::{ItemId, TopicKey};
use crate::wal::Lsn;

impl RedisTier {
    pub(super) async fn hold_in(
        &self,
        topic: &TopicKey,
        requests: &[HoldRequest],
    ) -> Result<Vec<Held>, HotError> {
        let cell = self.cell(topic);
        // Who settles a lease and does not hear asks again, and its hold is short. Others would wait for a minute.
        let has_ticket = requests.iter().any(|request| request.generation.is_none());
        let (ticket, mut list) = loop {
            let ticket = has_ticket.then(|| self.ticket(&cell));
            let heard = if has_ticket {
                cell.tickets.heard()
            } else {
                Vec::new()
            };
            let fill = |call: &mut Cmd| {
                let number = ticket.as_ref().map_or(&[][..], |ticket| &ticket.bytes[..]);
                call.arg(number).arg(heard.len());
                put_all(call, &heard);
                for request in requests {
                    call.arg(&id_bytes(request.id))
                        .arg(request.generation.map_or(-1, i64::from));
                }
            };
            let list = self.call_with(&cell, "hold", fill).await?.list()?;
            cell.tickets.told(&heard);
            match ticket {
                // Others that came after it were given up: once more.
                Some(ticket) if list.is_empty() => ticket.heard(false),
                ticket => break (ticket, list),
            }
        };
        let mut all = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = list.letter()?;
            let (state, item) = (list.bytes()?, list.bytes()?);
            all.push(match (answer, request.generation) {
                (b'Y', None) => Held::Yes(read_entry(&state, &item)?),
                (b'Y', Some(_)) => Held::Leased(read_lease(request.id, &state)?),
                (b'D', _) => Held::AlreadyDone,
                (b'B', _) => Held::Busy(cell.let_go.clone()),
                (b'L', _) => Held::Lost,
                _ => Held::Unknown,
            });
        }
        if !list.is_empty() {
            return Err(unreadable());
        }
        if let Some(ticket) = ticket {
            ticket.heard(all.iter().any(|held| matches!(held, Held::Yes(_))));
        }
        Ok(all)
    }

    pub(super) async fn unhold_in(&self, topic: &TopicKey, ids: &[ItemId]) {
        let cell = self.cell(topic);
        if !ids.is_empty() {
            let fill = |call: &mut Cmd| put_all(call, ids.iter().map(|id| id_bytes(*id)));
            // Not for ever: a hold ends by itself.
            let _ = self.call_with(&cell, "unhold", fill).await;
        }
        cell.let_go.notify_waiters();
        cell.wake();
    }

    pub(super) async fn purge_in(&self, topic: &TopicKey, lsn: Lsn, dead: bool, up_to: ItemId) -> u64 {
        let cell = self.cell(topic);
        let (mut cursor, mut removed) = (Vec::new(), 0);
        loop {
            let fill = |call: &mut Cmd| {
                call.arg(&cursor)
                    .arg(lsn.0)
                    .arg(u8::from(dead))
                    .arg(&id_bytes(up_to));
            };
            let Some(mut reply) = self.surely_changed(&cell, "purge", fill).await else {
                return removed;
            };
            match (reply.bytes(), reply.number()) {
                (Ok(next), Ok(count)) => {
                    removed += count.cast_unsigned();
                    cursor = next;
                }
                _ => return removed,
            }
            if cursor == b"0" {
                return removed;
            }
        }
    }

    /// Sends items to where the record at `lsn` says; `again` when it is read back.
    pub(super) async fn settle_in(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>, again: bool) {
        let cell = self.cell(topic);
        let comes_back = finishes
            .iter()
            .any(|finish| matches!(finish.to, Landing::Standing(_)));
        let landings: Vec<_> = finishes
            .iter()
            .map(|finish| {
                let to = match &finish.to {
                    Landing::Gone(_) => Vec::new(),
                    Landing::Standing(standing) => standing_bytes(standing),
                };
                (id_bytes(finish.id), to)
            })
            .collect();
        self.surely_changed(&cell, "finish", |call| {
            call.arg(lsn.0).arg(u8::from(again));
            for (id, to) in &landings {
                call.arg(id).arg(to);
            }
        })
        .await;
        cell.let_go.notify_waiters();
        if comes_back {
            cell.wake();
        }
    }
}
