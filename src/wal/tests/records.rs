//! Every record comes back as it went in.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{DeadReason, Death, Extra, Standing};
use crate::wal::codec::Decoder;
use crate::wal::frame::FRAME_HEADER_BYTES;
use crate::wal::{DeliverEntry, KeyEntry, PatchEntry};

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,200}".prop_map(Into::into)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_ms)
}

fn topics() -> impl Strategy<Value = TopicKey> {
    ("[A-Za-z0-9_-]{1,128}", "[A-Za-z0-9_-]{1,128}")
        .prop_map(|(ns, topic)| TopicKey::parse(&ns, &topic).unwrap())
}

fn extras() -> impl Strategy<Value = Extra> {
    (
        option::of(text()),
        vec((text(), text()), 0..5),
        option::of(text()),
        option::of(text()),
    )
        .prop_map(|(content_type, headers, idempotency_key, hook_version)| Extra {
            content_type,
            headers,
            idempotency_key,
            hook_version,
        })
}

prop_compose! {
    fn items()(
        numbers in (any::<u64>(), any::<i32>(), any::<u32>(), any::<u32>(), 0_u8..3),
        times in (time(), time(), option::of(time())),
        payload in vec(any::<u8>(), 0..500),
        extra in option::of(extras()),
    ) -> Item {
        Item {
            id: ItemId(numbers.0),
            priority: numbers.1,
            lease_ms: numbers.2,
            max_attempts: numbers.3,
            kind: PayloadKind::from_code(numbers.4).unwrap(),
            enqueued_at: times.0,
            deliver_after: times.1,
            expires_at: times.2,
            payload: payload.into(),
            extra: extra.map(Box::new),
        }
    }
}

prop_compose! {
    fn deliveries()(id: u64, generation: u32, attempt: u32, lease in time()) -> DeliverEntry {
        DeliverEntry { id: ItemId(id), generation, attempt, lease_expires_at: lease }
    }
}

prop_compose! {
    fn keys()(key_hash: u128, body_hash: u64, id: u64, expires_at in time()) -> KeyEntry {
        KeyEntry { key_hash, body_hash, id: ItemId(id), expires_at }
    }
}

prop_compose! {
    fn patches()(
        entry in deliveries(),
        due in time(),
        last_error in option::of(text()),
        dead in option::of((0_u8..4, time())),
        lease_expires_at in option::of(time()),
    ) -> PatchEntry {
        let dead = dead.map(|(code, at)| Death { reason: DeadReason::from_code(code).unwrap(), at });
        let (generation, attempt) = (entry.generation, entry.attempt);
        let standing = Standing { generation, attempt, lease_expires_at, last_error, dead, ..Standing::new(due) };
        PatchEntry { id: entry.id, standing }
    }
}

fn records() -> impl Strategy<Value = Record> {
    prop_oneof![
        (topics(), vec(items(), 0..8)).prop_map(|(topic, items)| Record::Enqueue { topic, items }),
        (topics(), vec(deliveries(), 0..8))
            .prop_map(|(topic, deliveries)| Record::Deliver { topic, deliveries }),
        (topics(), vec(patches(), 0..8)).prop_map(|(topic, patches)| Record::Patch { topic, patches }),
        (topics(), 0_u8..5, vec(any::<u64>().prop_map(ItemId), 0..200)).prop_map(|(topic, cause, ids)| {
            Record::Settle {
                topic,
                cause: SettleCause::from_code(cause).unwrap(),
                ids,
            }
        }),
        (topics(), vec(keys(), 0..8)).prop_map(|(topic, keys)| Record::Keys { topic, keys }),
        (topics(), any::<bool>(), any::<u64>()).prop_map(|(topic, dead, id)| Record::Purge {
            topic,
            dead,
            up_to: ItemId(id)
        }),
    ]
}

pub(super) fn encode(records: &[Record]) -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    for record in records {
        match record {
            Record::Enqueue { topic, items } => frame.enqueue(topic, items.iter()),
            Record::Deliver { topic, deliveries } => frame.deliver(topic, deliveries),
            Record::Patch { topic, patches } => frame.patch(topic, patches),
            Record::Settle { topic, cause, ids } => frame.settle(topic, *cause, ids),
            Record::Keys { topic, keys } => frame.keys(topic, keys),
            Record::Purge { topic, dead, up_to } => frame.purge(topic, *dead, *up_to),
        }
    }
    frame
}

fn decode(body: &[u8]) -> Option<Vec<Record>> {
    let mut decoded = Vec::new();
    Decoder::default()
        .records(body, &mut |record| decoded.push(record))
        .ok()
        .map(|()| decoded)
}

proptest! {
    #[test]
    fn records_survive_their_encoding(records in vec(records(), 0..6)) {
        let body = encode(&records).finish().split_off(FRAME_HEADER_BYTES);
        prop_assert_eq!(decode(&body), Some(records));
    }

    #[test]
    fn a_cut_body_decodes_to_nothing_or_to_fewer_records(records in vec(records(), 1..4), cut: proptest::sample::Index) {
        let body = encode(&records).finish().split_off(FRAME_HEADER_BYTES);
        let at = cut.index(body.len());
        if let Some(fewer) = decode(&body[..at]) {
            prop_assert!(fewer.len() < records.len());
            prop_assert_eq!(&fewer[..], &records[..fewer.len()]);
        }
    }

    #[test]
    fn bytes_that_are_not_records_do_no_harm(body in vec(any::<u8>(), 0..300)) {
        // Whatever it says, it must say it without panicking or allocating what the bytes cannot hold.
        let decoded = decode(&body);
        prop_assert!(decoded.is_none_or(|records| records.len() <= body.len()));
    }
}
