//! Slots on their way, and what is in them.

use std::time::Duration;

use super::{Fixture, dead, item, on_both, topic};
use crate::clock::Timestamp;
use crate::model::{ItemId, NodeId};
use crate::shard::{Catalog, Claim, DedupRow, MoveState, Shard, SlotMap, SlotMove};

on_both!(
    a_topic_is_copied_whole_and_removed_whole,
    steps_are_taken_in_order_and_by_one_node,
    no_slot_changes_over_before_every_node_agrees,
    moves_are_planned_from_where_slots_are,
);

async fn a_topic_is_copied_whole_and_removed_whole(fixture: &Fixture) {
    let (t, other) = (topic("ns", "t"), topic("ns", "other"));
    let key = |hash: u128| DedupRow {
        topic: t.clone(),
        key_hash: hash,
        body_hash: 7,
        id: ItemId(1),
        expires_at: Timestamp::from_ms(10_000),
    };
    let keys: Vec<_> = [0, 1, u128::MAX >> 1, u128::MAX].map(key).to_vec();
    let items = [item(1, 5), item(2, 1), dead(3, 1, 2_000)].map(|item| (t.clone(), item));
    fixture.shard.store_copies(&items, &keys).await.unwrap();
    fixture.store(&other, [item(9, 1)]).await;
    // Copied again, it is what it was.
    fixture.shard.store_copies(&items, &keys).await.unwrap();
    assert_eq!(
        (fixture.live(&t).await, fixture.dead(&t).await),
        (vec![2, 1], vec![3])
    );
    let mut read = Vec::new();
    let mut after = None;
    loop {
        let page = fixture.shard.keys_after(&t, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key_hash);
        read.extend(page);
    }
    assert_eq!(read, keys);
    fixture.shard.remove_topic(&t).await.unwrap();
    assert!(fixture.live(&t).await.is_empty() && fixture.dead(&t).await.is_empty());
    assert_eq!(fixture.shard.keys_after(&t, None, 9).await.unwrap(), []);
    assert_eq!(fixture.live(&other).await, [9]);
}

fn claim(node: u16, incarnation: u64) -> Claim {
    Claim {
        node: NodeId::new(node).unwrap(),
        holder: node.into(),
        incarnation,
    }
}

async fn start(catalog: &Catalog, claim: Claim) {
    let long = Duration::from_secs(600);
    assert_eq!(catalog.claim_node(claim, "here", long).await.unwrap(), None);
}

fn step(slot: u16) -> SlotMove {
    SlotMove {
        slot,
        source: 0,
        target: 1,
        state: MoveState::Planned,
    }
}

/// A catalog with two shards, and two slots on their way from the first to the second.
async fn planned(fixture: &Fixture) -> (Catalog, Vec<SlotMove>) {
    let catalog = fixture.shard.catalog();
    let map = SlotMap::initial(2).unwrap();
    catalog.put_slots(map.owners()).await.unwrap();
    let moves = vec![step(5), step(6)];
    assert!(catalog.plan_moves(&moves).await.unwrap());
    (catalog, moves)
}

async fn steps_are_taken_in_order_and_by_one_node(fixture: &Fixture) {
    let (catalog, moves) = planned(fixture).await;
    let (one, two) = (claim(1, 11), claim(2, u64::MAX));
    start(&catalog, one).await;
    start(&catalog, two).await;
    assert!(catalog.lead_moves(two).await.unwrap());
    assert!(!catalog.lead_moves(one).await.unwrap());
    let epoch = catalog.slots().await.unwrap().epoch;
    assert!(
        !catalog
            .step_moves(one, epoch, &moves, MoveState::Frozen)
            .await
            .unwrap()
    );
    assert!(
        catalog
            .step_moves(two, epoch, &moves, MoveState::Frozen)
            .await
            .unwrap()
    );
    // Prepared under a number that has passed.
    assert!(
        !catalog
            .step_moves(two, epoch, &moves, MoveState::Flipped)
            .await
            .unwrap()
    );
    catalog.release_node(two).await.unwrap();
    assert!(catalog.lead_moves(one).await.unwrap());
    assert_eq!(catalog.slots().await.unwrap().moves[0].state, MoveState::Frozen);
}

async fn no_slot_changes_over_before_every_node_agrees(fixture: &Fixture) {
    let (catalog, moves) = planned(fixture).await;
    let (one, two) = (claim(1, 11), claim(2, 22));
    start(&catalog, one).await;
    start(&catalog, two).await;
    assert!(catalog.lead_moves(one).await.unwrap());
    let flip = async || {
        let epoch = catalog.slots().await.unwrap().epoch;
        catalog
            .step_moves(one, epoch, &moves, MoveState::Flipped)
            .await
            .unwrap()
    };
    let agree = async |claim| {
        let epoch = catalog.slots().await.unwrap().epoch;
        catalog.see_slots(claim, epoch).await.unwrap();
        epoch
    };
    let epoch = agree(one).await;
    let unaware = catalog.unaware_of(epoch).await.unwrap();
    assert_eq!(unaware.iter().map(|row| row.claim).collect::<Vec<_>>(), [two]);
    assert!(!flip().await);
    agree(two).await;
    // One of them starts again: what it agreed to is forgotten.
    start(&catalog, claim(2, 23)).await;
    agree(one).await;
    assert!(!flip().await);
    agree(two).await;
    assert!(!flip().await, "another process agreed for it");
    // Who has given its number back has nothing to store.
    catalog.release_node(claim(2, 23)).await.unwrap();
    assert!(flip().await);
    let contents = catalog.slots().await.unwrap();
    assert_eq!(contents.owners[4..8], [0, 1, 1, 0]);
    let epoch = contents.epoch;
    assert!(catalog.finish_moves(one, epoch, &moves).await.unwrap());
    assert_eq!(catalog.slots().await.unwrap().moves, []);
}

async fn moves_are_planned_from_where_slots_are(fixture: &Fixture) {
    let (catalog, _) = planned(fixture).await;
    assert!(
        !catalog.plan_moves(&[step(7)]).await.unwrap(),
        "others are under way"
    );
    let contents = catalog.slots().await.unwrap();
    assert_eq!(contents.moves, [step(5), step(6)]);
    let me = claim(1, 11);
    start(&catalog, me).await;
    assert!(catalog.lead_moves(me).await.unwrap());
    let epoch = catalog.slots().await.unwrap().epoch;
    assert!(catalog.finish_moves(me, epoch, &contents.moves).await.unwrap());
    // Slot 3000 is in the second shard.
    assert!(!catalog.plan_moves(&[step(7), step(3_000)]).await.unwrap());
    assert_eq!(catalog.slots().await.unwrap().moves, []);
}
