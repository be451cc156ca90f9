//! Operations, claimed by one node at a time, and how long changes are kept.

use super::{Fixture, on_both};
use crate::clock::Timestamp;
use crate::model::{ItemFilter, Namespace, NodeId, OperationState, Outcome, Progress, Work};
use crate::shard::{AuditQuery, AuditRow, Catalog, Claimed, Ending, OperationOrder, OperationRow, Told};

on_both!(
    operations_are_ordered_listed_and_forgotten,
    one_node_at_a_time_has_an_operation,
    a_node_that_was_taken_for_dead_is_not_heard,
    a_namespace_has_one_running_and_others_do_not_wait,
    what_waits_ends_at_once_and_what_runs_is_told,
    the_newest_changes_of_each_namespace_are_kept,
);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn ns(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn order(namespace: &str) -> OperationOrder {
    OperationOrder {
        namespace: ns(namespace),
        work: Work::Redrive {
            topic: "t".parse().unwrap(),
            filter: ItemFilter::default(),
            to_topic: None,
            limit: Some(5),
            rate_per_s: None,
            hook: None,
        },
        dry_run: false,
        created_by: "ada".to_owned(),
        created_at: at(9),
    }
}

fn noted(namespace: &str, target: &str) -> AuditRow {
    AuditRow {
        at: at(9),
        namespace: Some(ns(namespace)),
        actor: "ada".to_owned(),
        action: "operation.order",
        target: target.to_owned(),
        before: None,
        after: None,
        request_id: None,
        peer: None,
    }
}

async fn ordered(catalog: &Catalog, namespace: &str) -> OperationRow {
    let rows = [noted(namespace, "x")];
    catalog.order(&order(namespace), &rows).await.unwrap().unwrap()
}

async fn claim(catalog: &Catalog, by: u16, now: i64) -> Option<Claimed> {
    let claimed = catalog.claim_operation(node(by), at(now), at(now + 100));
    claimed.await.unwrap()
}

fn ending(state: OperationState) -> Ending {
    Ending {
        state,
        progress: Progress {
            total: 3,
            looked: 2,
            done: 1,
        },
        error: Some("no".to_owned()),
        outcome: Some(Outcome {
            count: 1,
            ..Outcome::default()
        }),
    }
}

async fn operations_are_ordered_listed_and_forgotten(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    for _ in 0..16 {
        ordered(&catalog, "a").await;
    }
    assert_eq!(catalog.order(&order("a"), &[]).await.unwrap(), None);
    let first = ordered(&catalog, "b").await;
    assert_eq!(
        catalog.operation(&ns("b"), first.id).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(catalog.operation(&ns("a"), first.id).await.unwrap(), None);
    let page = catalog.operations(&ns("a"), None, None, 10).await.unwrap();
    assert!(page.len() == 10 && page[0].id > page[9].id);
    let rest = catalog.operations(&ns("a"), None, Some(page[9].id), 10).await;
    assert_eq!(rest.unwrap().len(), 6);
    let running = Some(OperationState::Running);
    assert!(
        catalog
            .operations(&ns("a"), running, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    // The last of 501 ended ones goes with the next order.
    fixture
        .execute("UPDATE operations SET state = 'failed', id = id + 100000 WHERE namespace = 'a'")
        .await;
    for _ in 0..500 {
        let row = ordered(&catalog, "b").await;
        let ended = catalog.cancel_operation(&ns("b"), row.id, at(1), &[]).await;
        assert_eq!(ended.unwrap().unwrap().state, OperationState::Cancelled);
    }
    catalog
        .cancel_operation(&ns("b"), first.id, at(1), &[])
        .await
        .unwrap();
    ordered(&catalog, "b").await;
    assert_eq!(catalog.operation(&ns("b"), first.id).await.unwrap(), None);
    let left = catalog.operations(&ns("b"), None, None, 1_000).await.unwrap();
    assert_eq!(left.len(), 501);
    assert_eq!(
        catalog.operations(&ns("a"), None, None, 100).await.unwrap().len(),
        16
    );
}

async fn one_node_at_a_time_has_an_operation(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let row = ordered(&catalog, "a").await;
    let (one, two) = tokio::join!(claim(&catalog, 1, 1_000), claim(&catalog, 2, 1_000));
    let claimed: Vec<_> = [one, two].into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    let claimed = &claimed[0];
    assert_eq!((claimed.row.id, claimed.fence), (row.id, 1));
    assert_eq!(claimed.row.order, order("a"));
    let held = (row.id, claimed.fence);
    let progress = Progress {
        total: 9,
        looked: 3,
        done: 2,
    };
    let told = catalog.report_operation(held, progress, at(1_200)).await.unwrap();
    assert_eq!(told, Told::GoOn);
    assert_eq!(claim(&catalog, 2, 1_150).await, None);
    let seen = catalog.operation(&ns("a"), row.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.state, seen.progress, seen.started_at),
        (OperationState::Running, progress, Some(at(1_000)))
    );
    let end = ending(OperationState::Failed);
    assert!(catalog.end_operation(held, &end, at(1_190)).await.unwrap());
    assert!(!catalog.end_operation(held, &end, at(1_191)).await.unwrap());
    let seen = catalog.operation(&ns("a"), row.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.state, seen.ended_at, seen.error.as_deref(), seen.outcome),
        (OperationState::Failed, Some(at(1_190)), Some("no"), end.outcome)
    );
    assert_eq!(claim(&catalog, 2, 9_000).await, None);
}

async fn a_node_that_was_taken_for_dead_is_not_heard(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let row = ordered(&catalog, "a").await;
    let old = claim(&catalog, 1, 1_000).await.unwrap();
    let new = claim(&catalog, 2, 1_101).await.unwrap();
    assert_eq!((new.row.id, new.fence), (row.id, 2));
    assert_eq!(new.row.started_at, Some(at(1_000)));
    let told = catalog.report_operation((row.id, old.fence), Progress::default(), at(9_000));
    assert_eq!(told.await.unwrap(), Told::Lost);
    let end = ending(OperationState::Succeeded);
    let said = catalog.end_operation((row.id, old.fence), &end, at(2)).await;
    assert!(!said.unwrap());
    // A node that begins anew lets go of what it had, and of nothing else.
    catalog.release_operations(node(1)).await.unwrap();
    assert_eq!(claim(&catalog, 3, 1_150).await, None);
    catalog.release_operations(node(2)).await.unwrap();
    assert_eq!(claim(&catalog, 3, 1_150).await.unwrap().fence, 3);
}

async fn a_namespace_has_one_running_and_others_do_not_wait(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let first = ordered(&catalog, "a").await;
    let second = ordered(&catalog, "a").await;
    let other = ordered(&catalog, "b").await;
    let claimed = claim(&catalog, 1, 1_000).await.unwrap();
    assert_eq!(claimed.row.id, first.id);
    assert_eq!(claim(&catalog, 2, 1_001).await.unwrap().row.id, other.id);
    assert_eq!(claim(&catalog, 2, 1_002).await, None);
    let held = (first.id, claimed.fence);
    let end = ending(OperationState::Succeeded);
    assert!(catalog.end_operation(held, &end, at(3)).await.unwrap());
    assert_eq!(claim(&catalog, 2, 1_004).await.unwrap().row.id, second.id);
}

async fn what_waits_ends_at_once_and_what_runs_is_told(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let running = ordered(&catalog, "a").await;
    let waiting = ordered(&catalog, "a").await;
    let claimed = claim(&catalog, 1, 1_000).await.unwrap();
    let cancel = async |id: u64| {
        let rows = [noted("a", "cancelled")];
        let row = catalog.cancel_operation(&ns("a"), id, at(5), &rows).await;
        row.unwrap()
    };
    let ended = cancel(waiting.id).await.unwrap();
    assert_eq!(
        (ended.state, ended.ended_at),
        (OperationState::Cancelled, Some(at(5)))
    );
    let told = cancel(running.id).await.unwrap();
    assert_eq!((told.state, told.cancelling), (OperationState::Running, true));
    let held = (running.id, claimed.fence);
    let told = catalog
        .report_operation(held, Progress::default(), at(1_100))
        .await;
    assert_eq!(told.unwrap(), Told::Cancel);
    assert_eq!(cancel(77).await, None);
    let query = AuditQuery {
        namespace: Some(ns("a")),
        target: Some("cancelled".to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    assert_eq!(catalog.audit(&query).await.unwrap().len(), 2);
}

async fn the_newest_changes_of_each_namespace_are_kept(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let mut rows = vec![noted("quiet", "first")];
    rows.extend((0..10_010).map(|n| noted("loud", &n.to_string())));
    let mut of_node = noted("quiet", "reload");
    of_node.namespace = None;
    rows.push(of_node);
    catalog.record(&rows).await.unwrap();
    let query = |namespace: Option<&str>, newest_first| AuditQuery {
        namespace: namespace.map(ns),
        newest_first,
        limit: 20_000,
        ..AuditQuery::default()
    };
    let loud = catalog.audit(&query(Some("loud"), false)).await.unwrap();
    assert_eq!((loud.len(), loud[0].target.as_str()), (10_000, "10"));
    let quiet = catalog.audit(&query(Some("quiet"), false)).await.unwrap();
    assert_eq!((quiet.len(), quiet[0].target.as_str()), (1, "first"));
    let all = catalog.audit(&query(None, true)).await.unwrap();
    assert_eq!(
        (all.len(), all[0].namespace.as_ref(), all[0].target.as_str()),
        (10_002, None, "reload")
    );
}
