//! Node numbers, and who makes checkpoints.

use std::time::Duration;

use super::fixture::empty;
use super::{Fixture, item, on_both, topic};
use crate::clock::Timestamp;
use crate::model::NodeId;
use crate::shard::{Checkpoint, Claim, Shard, ShardError};
use crate::wal::Lsn;

on_both!(
    a_number_is_one_nodes_at_a_time,
    a_claim_that_ended_is_anybodys,
    whoever_was_the_node_before_stores_nothing,
);

const LONG: Duration = Duration::from_secs(600);

fn claim(holder: u64, incarnation: u64) -> Claim {
    Claim {
        node: NodeId::new(5).unwrap(),
        holder,
        incarnation,
    }
}

async fn a_number_is_one_nodes_at_a_time(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let (first, second) = (claim(u64::MAX, 1), claim(2, u64::MAX));
    assert_eq!(catalog.claim_node(first, "one:1", LONG).await.unwrap(), None);
    let held = catalog.claim_node(second, "two:2", LONG).await.unwrap().unwrap();
    assert_eq!(
        (held.claim, held.address.as_str(), held.is_held()),
        (first, "one:1", true)
    );
    // The next process on the same data takes over, and the one before knows.
    let next = claim(u64::MAX, 3);
    assert_eq!(catalog.claim_node(next, "one:1", LONG).await.unwrap(), None);
    assert!(!catalog.renew_node(first, LONG).await.unwrap());
    assert!(catalog.renew_node(next, LONG).await.unwrap());
    catalog.release_node(first).await.unwrap();
    assert!(catalog.nodes().await.unwrap()[0].is_held());
    catalog.release_node(next).await.unwrap();
    let rows = catalog.nodes().await.unwrap();
    assert_eq!((rows.len(), rows[0].expires_at), (1, Timestamp::ZERO));
    assert_eq!(catalog.claim_node(second, "two:2", LONG).await.unwrap(), None);
}

async fn a_claim_that_ended_is_anybodys(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    catalog
        .claim_node(claim(1, 1), "one:1", Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        catalog.claim_node(claim(2, 2), "two:2", LONG).await.unwrap(),
        None
    );
    assert!(!catalog.renew_node(claim(1, 1), LONG).await.unwrap());
}

async fn whoever_was_the_node_before_stores_nothing(fixture: &Fixture) {
    let t = topic("ns", "t");
    let checkpoint = |id, lsn| Checkpoint {
        upserts: vec![(t.clone(), item(id, 1))],
        progress: (NodeId::new(1).unwrap(), Lsn(lsn)),
        ..empty()
    };
    let node = NodeId::new(1).unwrap();
    assert_eq!(fixture.shard.take_over(node, 7).await.unwrap(), Lsn(0));
    fixture.shard.checkpoint(&checkpoint(1, 10)).await.unwrap();
    let next = fixture.reopen().await;
    assert_eq!(next.take_over(node, u64::MAX).await.unwrap(), Lsn(10));
    let error = fixture.shard.checkpoint(&checkpoint(2, 20)).await.unwrap_err();
    assert!(matches!(error, ShardError::Fenced), "{error}");
    assert_eq!(fixture.live(&t).await, [1]);
    next.checkpoint(&checkpoint(3, 11)).await.unwrap();
    assert_eq!(next.progress(node).await.unwrap(), Lsn(11));
    assert_eq!(fixture.live(&t).await, [1, 3]);
    next.close().await.unwrap();
}
