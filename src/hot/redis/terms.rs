//! What the library takes and tells, in its terms.

use redis::Cmd;

use super::reply::Reply;
use super::state::{id_bytes, key_bytes, read_entry, read_view, state_bytes, stored_item};
use crate::clock::Timestamp;
use crate::hot::{HotError, HotView, Overdue, OverdueWhy, TakenItem, Term};
use crate::model::QueuedItem;
use crate::shard::DedupRow;

pub(super) type Entry = ([u8; 8], Vec<u8>, Vec<u8>);

pub(super) fn put_entries(call: &mut Cmd, entries: &[Entry]) {
    for (id, state, item) in entries {
        call.arg(id).arg(state).arg(item);
    }
}

pub(super) fn entries_of(items: &[QueuedItem]) -> Vec<Entry> {
    let entry = |queued: &QueuedItem| {
        (
            id_bytes(queued.item.id),
            state_bytes(queued),
            stored_item(&queued.item),
        )
    };
    items.iter().map(entry).collect()
}

pub(super) fn put_all(call: &mut Cmd, args: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    for arg in args {
        call.arg(arg.as_ref());
    }
}

pub(super) fn read_overdue(list: &mut Reply) -> Result<Vec<Overdue>, HotError> {
    let mut overdue = Vec::with_capacity(list.len() / 4);
    while !list.is_empty() {
        let _id = list.bytes()?;
        let queued = read_entry(&list.bytes()?, &list.bytes()?)?;
        let why = match list.letter()? {
            b'a' => OverdueWhy::AttemptsExhausted,
            _ => OverdueWhy::Expired,
        };
        overdue.push(Overdue { queued, why });
    }
    Ok(overdue)
}

pub(super) fn read_taken(mut list: Reply) -> Result<Vec<TakenItem>, HotError> {
    let mut items = Vec::with_capacity(list.len() / 5);
    while !list.is_empty() {
        let _id = list.bytes()?;
        let queued = read_entry(&list.bytes()?, &list.bytes()?)?;
        let mark = list.number()? == 1;
        let lapsed_ms = u64::try_from(list.number()?).ok();
        items.push(TakenItem {
            queued,
            mark,
            lapsed_ms,
        });
    }
    Ok(items)
}

/// Milliseconds, -1 for each item's own, -2 for what its taker only looks at.
pub(super) fn term_number(term: Term) -> i64 {
    match term {
        Term::Own => -1,
        Term::Undecided => -2,
        Term::Ms(ms) => ms.into(),
    }
}

pub(super) fn read_views(mut list: Reply) -> Result<Vec<HotView>, HotError> {
    let mut views = Vec::with_capacity(list.len() / 3);
    while !list.is_empty() {
        let _id = list.bytes()?;
        views.push(read_view(&list.bytes()?, &list.bytes()?)?);
    }
    Ok(views)
}

pub(super) fn milliseconds(at: Option<Timestamp>) -> i64 {
    at.map_or(-1, Timestamp::ms)
}

pub(super) fn put_keys(call: &mut Cmd, rows: &[DedupRow]) {
    for row in rows {
        call.arg(&row.key_hash.to_be_bytes()).arg(&key_bytes(row));
    }
}
