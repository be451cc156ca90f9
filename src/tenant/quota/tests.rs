use std::num::NonZeroU32;

use async_trait::async_trait;
use futures_util::future::FutureExt as _;

use super::*;
use crate::clock::Timestamp;
use crate::model::SharedGrant;

fn rate(per_minute: u32, burst: u32) -> QuotaPatch {
    QuotaPatch {
        per_minute: Some(per_minute),
        burst: Some(burst),
        ..QuotaPatch::default()
    }
}

fn quotas(rates: &[(&str, QuotaPatch)]) -> (Quotas, Clock) {
    let clock = Clock::manual(Timestamp::ZERO);
    (Quotas::new(table(rates), clock.clone()), clock)
}

fn table(rates: &[(&str, QuotaPatch)]) -> QuotaTable {
    QuotaTable {
        default: Quota::default(),
        namespaces: rates.iter().map(|(n, r)| (n.parse().unwrap(), *r)).collect(),
    }
}

fn ns(name: &str) -> Namespace {
    name.parse().unwrap()
}

async fn granted(quotas: &Quotas, name: &str, wanted: usize) -> usize {
    quotas.take(&ns(name), wanted).await.granted
}

#[tokio::test]
async fn a_batch_over_quota_is_granted_its_first_items() {
    let (quotas, clock) = quotas(&[("a", rate(60, 10))]);
    assert_eq!(granted(&quotas, "a", 4).await, 4);
    let grant = quotas.take(&ns("a"), 9).await;
    assert_eq!(grant.granted, 6);
    assert_eq!(grant.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(grant.usage.unwrap().remaining, 0);
    assert_eq!(granted(&quotas, "a", 1).await, 0);
    clock.advance(2_000);
    assert_eq!(granted(&quotas, "a", 5).await, 2);
    assert_eq!(granted(&quotas, "b", 1_000).await, 1_000);
}

#[tokio::test]
async fn more_than_the_burst_is_never_granted_at_once() {
    let (quotas, _) = quotas(&[("a", rate(6_000, 10))]);
    assert_eq!(granted(&quotas, "a", 1_000).await, 10);
}

#[tokio::test]
async fn a_change_of_quotas_gives_nothing_back() {
    let (quotas, clock) = quotas(&[("a", rate(60, 10)), ("b", rate(60, 10)), ("c", rate(60, 10))]);
    for name in ["a", "b", "c"] {
        assert_eq!(granted(&quotas, name, 8).await, 8);
    }
    quotas.configure(table(&[
        ("a", rate(60, 10)),
        ("b", rate(60, 20)),
        ("c", rate(60, 5)),
    ]));
    assert_eq!(granted(&quotas, "a", 10).await, 2);
    assert_eq!(quotas.usage(&ns("b")).unwrap().remaining, 12);
    assert_eq!(granted(&quotas, "b", 20).await, 12);
    assert_eq!(granted(&quotas, "c", 5).await, 0);
    // Not even by way of having no quota for a moment.
    quotas.configure(QuotaTable::default());
    assert_eq!(granted(&quotas, "a", 500).await, 500);
    quotas.configure(table(&[("a", rate(60, 10))]));
    assert_eq!(granted(&quotas, "a", 10).await, 0);
    clock.advance(3_000);
    assert_eq!(granted(&quotas, "a", 10).await, 3);
}

#[tokio::test]
async fn what_is_stored_goes_over_the_configuration_and_survives_its_reload() {
    let (quotas, _) = quotas(&[("a", rate(60, 10))]);
    let more = QuotaPatch {
        leases: Some(5),
        ..rate(60, 30)
    };
    quotas.set_stored([(ns("a"), more)].into());
    assert_eq!(
        (quotas.of(&ns("a")).leases, quotas.stored(&ns("a"))),
        (Some(5), Some(more))
    );
    quotas.configure(table(&[("a", rate(60, 1)), ("b", rate(1, 1))]));
    assert_eq!(granted(&quotas, "a", 50).await, 30);
    let mut named = quotas.named();
    named.sort();
    assert_eq!(named, [ns("a"), ns("b")]);
    quotas.set_stored(StoredQuotas::new());
    assert_eq!(quotas.usage(&ns("a")).unwrap().rate.at_once().get(), 1);
}

#[tokio::test]
async fn use_is_readable_without_using_and_idle_namespaces_are_forgotten() {
    let (quotas, clock) = quotas(&[("a", rate(60, 10))]);
    assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 10);
    assert_eq!(granted(&quotas, "a", 10).await, 10);
    assert_eq!(quotas.usage(&ns("a")).unwrap().reset, Duration::from_secs(10));
    clock.advance(4_000);
    assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 4);
    quotas.evict_idle();
    assert_eq!(quotas.tracked(), 1);
    clock.advance(10_000);
    quotas.evict_idle();
    assert_eq!(quotas.tracked(), 0);
    assert!(quotas.usage(&ns("other")).is_none());
}

/// Items that are granted within a minute in which five times `per_minute` are asked for, in batches of
/// `batch`, spread evenly.
async fn granted_in_a_minute(quotas: &Quotas, clock: &Clock, per_minute: usize, batch: usize) -> usize {
    let asks = 5 * per_minute / batch;
    let mut accepted = 0;
    let mut passed_ms = 0;
    for ask in 1..=asks {
        accepted += granted(quotas, "a", batch).await;
        let until_ms = (60_000 * ask / asks) as i64;
        clock.advance(until_ms - passed_ms);
        passed_ms = until_ms;
    }
    accepted
}

#[tokio::test]
async fn at_five_times_the_limit_a_minute_brings_the_quota() {
    for (per_minute, batch) in [(500_usize, 1), (1_000, 1), (1_000, 50), (60_000, 1_000)] {
        // Of a burst that is a whole quota nothing is left when the minute begins.
        let (quotas, clock) = quotas(&[("a", rate(per_minute as u32, per_minute as u32))]);
        granted(&quotas, "a", per_minute).await;
        let accepted = granted_in_a_minute(&quotas, &clock, per_minute, batch).await;
        let share = accepted as f64 / per_minute as f64;
        assert!(
            (0.95..=1.01).contains(&share),
            "{per_minute} by {batch}: {accepted}"
        );
    }
    // With a small burst the first minute is as good as any.
    let (quotas, clock) = quotas(&[("a", rate(1_000, 10))]);
    let accepted = granted_in_a_minute(&quotas, &clock, 1_000, 1).await;
    assert!((950..=1_010).contains(&accepted), "{accepted}");
}

fn minute(per_minute: u32) -> QuotaPatch {
    QuotaPatch {
        per_minute: Some(per_minute),
        ..QuotaPatch::default()
    }
}

#[tokio::test]
async fn without_a_burst_every_minute_brings_the_quota_and_no_more() {
    for (per_minute, batch) in [(500_usize, 1), (1_000, 1), (1_000, 50), (60_000, 1_000)] {
        let (quotas, clock) = quotas(&[("a", minute(per_minute as u32))]);
        // A batch is taken whole by a tenant that was idle.
        assert_eq!(granted(&quotas, "a", per_minute / 10).await, per_minute / 10);
        clock.advance(120_000);
        // The first minute is as good as any.
        for nth in 1..=3 {
            let accepted = granted_in_a_minute(&quotas, &clock, per_minute, batch).await;
            let share = accepted as f64 / per_minute as f64;
            assert!(
                (0.95..=1.0).contains(&share),
                "minute {nth} of {per_minute} by {batch}: {accepted}"
            );
        }
    }
}

#[tokio::test]
async fn a_minute_tells_when_there_is_more_and_goes_on_when_its_quota_changes() {
    let (quotas, clock) = quotas(&[("a", minute(60))]);
    assert_eq!(granted(&quotas, "a", 50).await, 50);
    clock.advance(30_000);
    let grant = quotas.take(&ns("a"), 20).await;
    assert_eq!(
        (grant.granted, grant.retry_after),
        (10, Some(Duration::from_millis(30_250)))
    );
    let usage = grant.usage.unwrap();
    assert_eq!((usage.remaining, usage.reset), (0, Duration::from_millis(60_250)));
    // Neither a reload nor another rate, of whichever kind, refills it.
    quotas.configure(table(&[("a", minute(100))]));
    assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 40);
    quotas.configure(table(&[("a", rate(60, 100))]));
    assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 40);
    assert_eq!(granted(&quotas, "a", 39).await, 39);
    quotas.configure(table(&[("a", minute(100))]));
    assert_eq!(granted(&quotas, "a", 10).await, 1);
    quotas.evict_idle();
    assert_eq!(quotas.tracked(), 1);
    clock.advance(60_250);
    assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 100);
    quotas.evict_idle();
    assert_eq!(quotas.tracked(), 0);
}

#[tokio::test]
async fn what_came_to_nothing_is_there_again() {
    for (of, whole) in [(rate(60, 10), 10), (minute(10), 10)] {
        let (quotas, clock) = quotas(&[("a", of)]);
        let grant = quotas.take(&ns("a"), 8).await;
        quotas.give_back(&ns("a"), 5, grant.receipt).await;
        assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 7);
        quotas.configure(table(&[("a", of)]));
        assert_eq!(granted(&quotas, "a", 9).await, 7);
        // Never more than there may be, however late it comes.
        clock.advance(120_000);
        quotas.give_back(&ns("a"), 7, grant.receipt).await;
        assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, whole);
        assert_eq!(granted(&quotas, "a", 50).await as u32, whole);
        assert_eq!(granted(&quotas, "a", 1).await, 0);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever is asked for when, and however often the configuration is read again in between.
    #[test]
    fn no_window_brings_more_than_its_rate_and_a_burst(
        per_minute in 60_u32..60_000,
        burst in 1_u32..2_000,
        steps in proptest::collection::vec((0_i64..2_000, 0_usize..1_500, 0_usize..300), 1..80),
    ) {
        let (quotas, clock) = quotas(&[("a", rate(per_minute, burst))]);
        let mut grants: Vec<(i64, u64)> = Vec::new();
        let mut now_ms = 0;
        for (wait_ms, wanted, nothing) in steps {
            clock.advance(wait_ms);
            now_ms += wait_ms;
            quotas.configure(table(&[("a", rate(per_minute, burst))]));
            let grant = quotas.take(&ns("a"), wanted).now_or_never().unwrap();
            // Of some nothing comes.
            let nothing = nothing.min(grant.granted);
            quotas.give_back(&ns("a"), nothing, grant.receipt).now_or_never().unwrap();
            grants.push((now_ms, (grant.granted - nothing) as u64));
        }
        for (first, (from_ms, _)) in grants.iter().enumerate() {
            let mut sum = 0;
            for (at_ms, granted) in &grants[first..] {
                sum += granted;
                let comes_back = (at_ms - from_ms) as f64 * f64::from(per_minute) / 60_000.0;
                let most = f64::from(burst) + comes_back * 1.01 + 1.0;
                proptest::prop_assert!(sum as f64 <= most, "{sum} within {} ms", at_ms - from_ms);
            }
        }
    }
}

/// One bucket for all nodes, as a Redis would keep it; it can be out of reach.
struct Common {
    quotas: Quotas,
    out_of_reach: bool,
}

#[async_trait]
impl SharedBuckets for Common {
    async fn take(&self, namespace: &Namespace, _: Rate, wanted: u32) -> Option<SharedGrant> {
        let grant = self.quotas.take(namespace, wanted as usize).await;
        let usage = grant.usage?;
        (!self.out_of_reach).then_some(SharedGrant {
            granted: grant.granted as u32,
            remaining: usage.remaining,
            retry_after: grant.retry_after,
            reset: usage.reset,
            at: grant.receipt.own_ms,
        })
    }

    async fn give_back(&self, namespace: &Namespace, _: Rate, count: u32, at: u64) {
        let receipt = Receipt {
            own_ms: at,
            shared: None,
        };
        self.quotas.give_back(namespace, count as usize, receipt).await;
    }
}

fn cluster(out_of_reach: bool) -> ([Quotas; 3], Clock) {
    cluster_of(rate(600, 600), out_of_reach)
}

fn cluster_of(rate: QuotaPatch, out_of_reach: bool) -> ([Quotas; 3], Clock) {
    let clock = Clock::manual(Timestamp::ZERO);
    let rules = || table(&[("a", rate)]);
    let common: Arc<dyn SharedBuckets> = Arc::new(Common {
        quotas: Quotas::new(rules(), clock.clone()),
        out_of_reach,
    });
    let node = |_| {
        let quotas = Quotas::new(rules(), clock.clone());
        quotas.share(common.clone());
        quotas
    };
    ([0, 1, 2].map(node), clock)
}

#[tokio::test]
async fn a_shared_rate_holds_for_all_nodes_together() {
    let (nodes, clock) = cluster(false);
    let mut accepted = 0;
    for node in &nodes {
        accepted += granted(node, "a", 400).await;
    }
    assert_eq!(accepted, 600);
    let refused = nodes[2].take(&ns("a"), 1).await;
    assert_eq!(refused.granted, 0);
    assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
    for _ in 0..300 {
        clock.advance(200);
        for node in &nodes {
            accepted += granted(node, "a", 4).await;
        }
    }
    assert!((1_200 - 6..=1_206).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn a_node_shows_what_the_others_left() {
    let (nodes, clock) = cluster(false);
    assert_eq!(granted(&nodes[0], "a", 590).await, 590);
    let grant = nodes[1].take(&ns("a"), 4).await;
    assert_eq!((grant.granted, grant.usage.unwrap().remaining), (4, 6));
    let seen = nodes[1].usage(&ns("a")).unwrap();
    assert_eq!((seen.remaining, seen.reset), (6, Duration::from_millis(59_400)));
    let refused = nodes[1].take(&ns("a"), 10).await;
    assert_eq!((refused.granted, refused.usage.unwrap().remaining), (6, 0));
    // What comes back comes back for all.
    clock.advance(500);
    assert_eq!(nodes[1].usage(&ns("a")).unwrap().remaining, 5);
    // The rate was changed: this node's own share, of which four items did not come back yet, is as it was.
    nodes[1].configure(table(&[("a", rate(600, 700))]));
    assert_eq!(nodes[1].usage(&ns("a")).unwrap().remaining, 700 - 5);
}

#[tokio::test]
async fn a_minute_and_what_came_to_nothing_of_it_are_shared() {
    let (nodes, clock) = cluster_of(minute(100), false);
    let grant = nodes[0].take(&ns("a"), 70).await;
    assert_eq!((grant.granted, granted(&nodes[1], "a", 70).await), (70, 30));
    // Known to be used up, it is not asked for again at once.
    let refused = nodes[1].take(&ns("a"), 5).await;
    assert_eq!(
        (refused.granted, refused.retry_after),
        (0, Some(Duration::from_millis(60_250)))
    );
    nodes[0].give_back(&ns("a"), 20, grant.receipt).await;
    assert_eq!(nodes[0].usage(&ns("a")).unwrap().remaining, 50);
    clock.advance(1_000);
    // What the other node had too little of is not spent there.
    assert_eq!(granted(&nodes[1], "a", 70).await, 20);
    assert_eq!(granted(&nodes[0], "a", 1).await, 0);
    clock.advance(60_250);
    for (node, most) in [(2, 60), (0, 40)] {
        assert_eq!(granted(&nodes[node], "a", 60).await, most);
    }
}

#[tokio::test]
async fn nodes_that_cannot_reach_the_shared_rate_enforce_their_own() {
    let (nodes, _) = cluster(true);
    assert_eq!(granted(&nodes[0], "a", 1_000).await, 600);
    assert_eq!(granted(&nodes[1], "a", 1_000).await, 600);
}

#[test]
fn a_rate_tells_its_window() {
    let rate = Rate {
        per_minute: NonZeroU32::new(60).unwrap(),
        burst: NonZeroU32::new(10),
    };
    assert_eq!((rate.window_s(), rate.interval()), (10, Duration::from_secs(1)));
    let whole = Rate { burst: None, ..rate };
    assert_eq!((whole.window_s(), whole.at_once().get()), (60, 60));
}
