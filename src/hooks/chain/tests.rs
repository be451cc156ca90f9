//! Chains over a scripted runner.

mod breakers;
mod canary;
mod kept;
mod shadows;
mod splits;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};
use crate::hooks::{
    Bound, Call, Chain, Chains, Comparison, DequeueOutcome, DequeueVerdict, Edit, EnqueueOutcome,
    EnqueueVerdict, Failure, HookContext, HookItem, Hooks, Observer, Reason, Report, Room, Runner, Usage,
    Verdicts, Version,
};
use crate::model::{
    Binding, Canary, Digest, HookLimits, HookRef, Item, ItemId, Manifest, Namespace, PayloadKind, Policies,
    Policy, Side, TopicKey,
};

/// A version that a scripted runner knows by its name.
pub(super) fn version(hook: &str, number: u32) -> Arc<Version> {
    Arc::new(Version {
        namespace: "default".parse().unwrap(),
        hook: HookRef {
            hook: hook.parse().unwrap(),
            version: number,
        },
        digest: Digest([0; 32]),
        manifest: Manifest::default(),
        limits: HookLimits::default(),
        config: Arc::default(),
        secrets: Arc::default(),
        quarantined: false,
    })
}

fn bound(hook: &str, side: Side, policies: Policies) -> Bound {
    Bound {
        namespace: "default".parse().unwrap(),
        binding: Binding {
            id: hook.parse().unwrap(),
            topic: "t*".parse().unwrap(),
            side,
            position: 0,
            hook: hook.parse().unwrap(),
            version: 1,
            previous: None,
            canary: None,
            shadow: None,
            shadow_percent: 100,
            policies,
            auto_rollback: false,
            enabled: true,
            activated_at: Timestamp::ZERO,
            revision: 1,
        },
        active: version(hook, 1),
        canary: None,
        shadow: None,
        previous: None,
    }
}

/// Does what the payloads say, or what the hook's name says, and notes the size of each call.
#[derive(Default)]
struct Scripted(Mutex<Vec<(String, usize)>>);

#[async_trait]
impl Runner for Scripted {
    async fn call(&self, call: Call) -> Report {
        let name = call.version.hook.to_string();
        self.0.lock().push((name.clone(), call.items().len()));
        let has = |word: &str| call.items().iter().any(|asked| text(&asked.item) == word);
        let outcome = if has("trap") && name != "h@9" {
            Err(Failure::Trap("deep inside".into()))
        } else if has("slow") {
            Err(Failure::Timeout(Duration::from_millis(20)))
        } else if has("busy") {
            let (detail, retry_after) = ("no thread is free".into(), Duration::from_millis(70));
            Err(Failure::Overload { detail, retry_after })
        } else if call.side == Side::Enqueue {
            let said: Vec<_> = call.items().iter().map(|asked| inward(&name, asked)).collect();
            Ok(match said.iter().all(|said| *said == Ok(EnqueueVerdict::Keep)) {
                true => Verdicts::Kept(call.side, said.len()),
                false => Verdicts::Enqueue(said),
            })
        } else {
            let said: Vec<_> = call.items().iter().map(outward).collect();
            Ok(
                match said.iter().all(|said| *said == Ok(DequeueVerdict::Deliver)) {
                    true => Verdicts::Kept(call.side, said.len()),
                    false => Verdicts::Dequeue(said),
                },
            )
        };
        Report {
            outcome,
            usage: Usage::default(),
            log: Vec::new(),
        }
    }
}

fn reason(code: &str) -> Reason {
    Reason {
        code: code.into(),
        message: "be\ncause".into(),
    }
}

fn inward(hook: &str, asked: &HookItem) -> Result<EnqueueVerdict, String> {
    let edit = |edit| Ok(EnqueueVerdict::Edit(edit));
    match &*text(&asked.item) {
        "err" => Err("not mine".into()),
        "drop" => Ok(EnqueueVerdict::Drop(reason("spam"))),
        "bad code" => Ok(EnqueueVerdict::Drop(reason("Spam!"))),
        "reject" => Ok(EnqueueVerdict::Reject(reason("schema"))),
        "bury" => Ok(EnqueueVerdict::DeadLetter(reason("poison"))),
        "large" => Ok(EnqueueVerdict::Replace(vec![0; 2_000].into())),
        "own" => edit(Edit {
            headers: Some(vec![("MQ-Trace".into(), "x".into())]),
            ..Edit::default()
        }),
        "inject" => edit(Edit {
            headers: Some(vec![("a".into(), "b\r\nc: d".into())]),
            ..Edit::default()
        }),
        "route" => edit(Edit {
            topic: Some("other".into()),
            ..Edit::default()
        }),
        "nowhere" => edit(Edit {
            topic: Some("../x".into()),
            ..Edit::default()
        }),
        "late" => edit(Edit {
            deliver_after: Some(u64::MAX),
            ..Edit::default()
        }),
        "split" => {
            let part = |payload: &str| Edit {
                payload: Some(payload.as_bytes().into()),
                ..Edit::default()
            };
            Ok(EnqueueVerdict::Split(vec![part("p"), part("drop"), part("q")]))
        }
        text if text.starts_with("fan") => Ok(EnqueueVerdict::Split(vec![Edit::default(); 16])),
        "part" if hook != "a@1" => Ok(EnqueueVerdict::DeadLetter(reason("poison"))),
        "halve" => {
            let part = |payload: &str| Edit {
                payload: Some(payload.as_bytes().into()),
                ..Edit::default()
            };
            Ok(EnqueueVerdict::Split(vec![part("keep"), part("part")]))
        }
        "empty split" => Ok(EnqueueVerdict::Split(Vec::new())),
        "keep" => Ok(EnqueueVerdict::Keep),
        other => Ok(EnqueueVerdict::Replace(
            format!("{other}+{hook}").into_bytes().into(),
        )),
    }
}

fn outward(asked: &HookItem) -> Result<DequeueVerdict, String> {
    match &*text(&asked.item) {
        "err" => Err("not mine".into()),
        "keep" => Ok(DequeueVerdict::Deliver),
        "defer" => Ok(DequeueVerdict::Defer(7)),
        "later" => Ok(DequeueVerdict::DeliverEdited(Edit {
            priority: Some(1),
            ..Edit::default()
        })),
        other => Ok(DequeueVerdict::DeliverAs(format!("{other}+").into_bytes().into())),
    }
}

/// What was observed, in words.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn note(&self, word: String) {
        self.0.lock().push(word);
    }

    fn of(&self, kind: &str) -> Vec<String> {
        let words = self.0.lock();
        words
            .iter()
            .filter(|word| word.starts_with(kind))
            .cloned()
            .collect()
    }
}

impl Observer for Seen {
    fn called(&self, call: &Call, _: &Report) {
        self.note(format!("called {} {}", call.version.hook, call.items().len()));
    }

    fn failed(&self, call: &Call, items: &[HookItem], detail: &str) {
        self.note(format!("failed {} {} {detail}", call.version.hook, items.len()));
    }

    fn skipped(&self, _: &Bound, version: &Version, items: usize) {
        self.note(format!("skipped {} {items}", version.hook));
    }

    fn compared(&self, _: &Bound, compared: &Comparison<'_>) {
        let words = compared
            .said
            .as_ref()
            .map_or_else(String::new, |[counted, shadow]| {
                format!(" {} {}", counted.verdict, shadow.verdict)
            });
        self.note(format!("compared {:?}{words}", compared.outcome));
    }

    fn breaker(&self, _: &Arc<Bound>, version: &Arc<Version>, open: bool) {
        self.note(format!("breaker {} {open}", version.hook));
    }

    fn breaker_gone(&self, _: &Namespace, hook: &HookRef) {
        self.note(format!("breaker {hook} gone"));
    }
}

struct Bench {
    chains: Arc<Chains>,
    runner: Arc<Scripted>,
    seen: Arc<Seen>,
    clock: Clock,
}

impl Bench {
    fn new(bindings: Vec<Bound>) -> Self {
        let (runner, seen) = (Arc::new(Scripted::default()), Arc::new(Seen::default()));
        let clock = Clock::manual(Timestamp::ZERO);
        let chains = Chains::new(runner.clone(), seen.clone(), clock.clone(), 1_000);
        chains.replace(
            &"default".parse().unwrap(),
            bindings.into_iter().map(Arc::new).collect(),
        );
        Self {
            chains,
            runner,
            seen,
            clock,
        }
    }

    async fn enqueue(&self, payloads: &[&str]) -> Vec<EnqueueOutcome> {
        let chain = self.chains.chain(&topic(), Side::Enqueue).unwrap();
        on_enqueue(&self.chains, &chain, items(payloads)).await
    }

    async fn dequeue(&self, payloads: &[&str]) -> Vec<DequeueOutcome> {
        let chain = self.chains.chain(&topic(), Side::Dequeue).unwrap();
        let items: Arc<[HookItem]> = items(payloads).into();
        let said = self.chains.on_dequeue(&chain, context(), items.clone()).await;
        said.one_each(&items, DequeueOutcome::Deliver)
    }
}

/// Runs `items` with room for 1,000 items and 1 MiB.
async fn on_enqueue(chains: &Chains, chain: &Chain, items: Vec<HookItem>) -> Vec<EnqueueOutcome> {
    let room = Room::beside(1_000, 1 << 20, items.iter().map(|asked| &*asked.item));
    let items: Arc<[HookItem]> = items.into();
    let said = chains.on_enqueue(chain, context(), items.clone(), &room).await;
    said.one_each(&items, EnqueueOutcome::kept)
}

fn topic() -> TopicKey {
    TopicKey::parse("default", "t").unwrap()
}

fn context() -> HookContext {
    HookContext {
        topic: topic(),
        now: Timestamp::ZERO,
        principal: "p".into(),
        scopes: [].into(),
    }
}

fn items(payloads: &[&str]) -> Vec<HookItem> {
    let item = |(at, payload): (usize, &&str)| HookItem {
        item: Arc::new(Item {
            id: ItemId(at as u64 + 1),
            priority: 0,
            lease_ms: 1,
            max_attempts: 1,
            kind: PayloadKind::Text,
            enqueued_at: Timestamp::ZERO,
            deliver_after: Timestamp::ZERO,
            expires_at: None,
            payload: payload.as_bytes().into(),
            extra: None,
        }),
        attempt: 0,
        hops: 0,
    };
    payloads.iter().enumerate().map(item).collect()
}

fn text(item: &Item) -> String {
    String::from_utf8(item.payload.to_vec()).unwrap()
}

/// An outcome in words.
fn words(outcome: &EnqueueOutcome) -> String {
    match outcome {
        EnqueueOutcome::Store(shaped) => match &shaped.route {
            Some(route) => format!("store {} in {route}", text(&shaped.item)),
            None => format!("store {}", text(&shaped.item)),
        },
        EnqueueOutcome::Split(_, parts) => {
            let parts: Vec<_> = parts.iter().map(|part| text(&part.item)).collect();
            format!("split {}", parts.join(" "))
        }
        EnqueueOutcome::Filtered(by, why) => format!("filtered {by} {} {}", why.code, why.message),
        EnqueueOutcome::Rejected(by, why) => format!("rejected {by} {}", why.code),
        EnqueueOutcome::NoRoom => "no room".to_owned(),
        EnqueueOutcome::DeadLetter(item, by, why) => format!("dead {} {by} {}", text(item), why.code),
        EnqueueOutcome::Failed {
            by, retry_after_ms, ..
        } => format!("failed {by} {retry_after_ms:?}"),
    }
}

fn all(outcomes: &[EnqueueOutcome]) -> Vec<String> {
    outcomes.iter().map(words).collect()
}

#[tokio::test]
async fn each_hook_gets_what_the_one_before_made_and_an_end_ends_it() {
    let mut second = bound("b", Side::Enqueue, Policies::default());
    second.binding.position = 1;
    let bench = Bench::new(vec![second, bound("a", Side::Enqueue, Policies::default())]);
    let outcomes = bench
        .enqueue(&["x", "keep", "drop", "reject", "bury", "route", "split"])
        .await;
    assert_eq!(
        all(&outcomes),
        [
            "store x+a@1+b@1",
            "store keep",
            "filtered a@1 spam be cause",
            "rejected a@1 schema",
            "dead bury a@1 poison",
            "store route in other",
            "split p+b@1 q+b@1",
        ]
    );
    let EnqueueOutcome::Store(shaped) = &outcomes[0] else {
        panic!("{outcomes:?}");
    };
    let extra = shaped.item.extra.as_deref().unwrap();
    assert_eq!(extra.hook_version.as_deref(), Some("b@1"));
    assert!(bench.chains.chain(&topic(), Side::Dequeue).is_none());
}

#[tokio::test]
async fn edits_keep_the_limits_of_items() {
    let bench = Bench::new(vec![bound("h", Side::Enqueue, Policies::default())]);
    let bad = [
        "large",
        "own",
        "inject",
        "nowhere",
        "late",
        "empty split",
        "bad code",
        "err",
    ];
    let outcomes = bench.enqueue(&bad).await;
    assert_eq!(all(&outcomes), ["failed h@1 None"; 8]);
    let told = bench.seen.of("failed");
    for (told, what) in told.iter().zip([
        "payload", "mq-", "control", "topic", "9999", "split", "code", "not mine",
    ]) {
        assert!(told.contains(what), "{told}");
    }
    let most = HookLimits::default().hops;
    let mut routed = items(&["route"]);
    routed[0].hops = most;
    let chain = bench.chains.chain(&topic(), Side::Enqueue).unwrap();
    let outcomes = on_enqueue(&bench.chains, &chain, routed).await;
    assert_eq!(all(&outcomes), ["dead route h@1 too_many_hops"]);
}

#[tokio::test]
async fn a_batch_is_halved_until_what_fails_is_alone() {
    let bench = Bench::new(vec![bound("h", Side::Enqueue, Policies::default())]);
    let mut payloads = ["keep"; 64];
    (payloads[5], payloads[40]) = ("trap", "slow");
    let outcomes = bench.enqueue(&payloads).await;
    for (at, outcome) in all(&outcomes).iter().enumerate() {
        let expected = if at == 5 || at == 40 {
            "failed h@1 None"
        } else {
            "store keep"
        };
        assert_eq!(outcome, expected, "{at}");
    }
    assert_eq!(bench.seen.of("failed").len(), 2);
    assert!(bench.runner.0.lock().len() <= 2 * 2 * 6 + 1);
    // However many fail, the search ends.
    let bench = Bench::new(vec![bound("h", Side::Enqueue, Policies::default())]);
    let outcomes = all(&bench.enqueue(&["trap"; 1_000]).await);
    assert_eq!(outcomes.len(), 1_000);
    assert!(outcomes.iter().all(|word| word.starts_with("failed h@1")));
    assert!(bench.runner.0.lock().len() <= 64);
}

#[tokio::test]
async fn policies_are_kept_for_each_kind_of_failure() {
    let policies = Policies {
        error: Policy::Open,
        trap: Policy::DeadLetter,
        timeout: Policy::RetryPrevious,
        overload: Policy::Closed,
    };
    let inward = Bench::new(vec![bound("h", Side::Enqueue, policies)]);
    let outcomes = inward.enqueue(&["err", "trap", "slow"]).await;
    assert_eq!(
        all(&outcomes),
        ["store err", "dead trap h@1 hook_trap", "failed h@1 None"]
    );
    let EnqueueOutcome::Store(shaped) = &outcomes[0] else {
        panic!("{outcomes:?}");
    };
    let headers = &shaped.item.extra.as_deref().unwrap().headers;
    assert_eq!(headers[..], [("mq-hook-skipped".into(), "h@1".into())]);
    assert_eq!(all(&inward.enqueue(&["busy"]).await), ["failed h@1 Some(70)"]);

    let outward = Bench::new(vec![bound("h", Side::Dequeue, policies)]);
    let outcomes = outward
        .dequeue(&["err", "trap", "slow", "x", "defer", "later"])
        .await;
    assert!(matches!(&outcomes[0], DequeueOutcome::Deliver(item) if item.extra.is_some()));
    assert!(matches!(&outcomes[1], DequeueOutcome::DeadLetter(_, why) if &*why.code == "hook_trap"));
    assert!(matches!(
        &outcomes[2],
        DequeueOutcome::Failed {
            overloaded: false,
            ..
        }
    ));
    assert!(matches!(&outcomes[3], DequeueOutcome::Deliver(item) if text(item) == "x+"));
    assert!(matches!(&outcomes[4], DequeueOutcome::Defer(_, 7)));
    assert!(matches!(&outcomes[5], DequeueOutcome::Deliver(item) if text(item) == "later"));
}

#[tokio::test]
async fn the_version_before_gets_one_chance() {
    let mut tried = bound("h", Side::Enqueue, Policies::all(Policy::RetryPrevious));
    tried.previous = Some(version("h", 9));
    let bench = Bench::new(vec![tried]);
    let outcomes = bench.enqueue(&["trap", "slow", "x"]).await;
    assert_eq!(
        all(&outcomes),
        ["store trap+h@9", "failed h@9 None", "store x+h@1"]
    );
}

#[tokio::test]
async fn what_is_bound_is_found_by_topic_and_side_and_replaced_as_a_whole() {
    let namespace = "default".parse().unwrap();
    let mut off = bound("off", Side::Enqueue, Policies::default());
    off.binding.enabled = false;
    let bench = Bench::new(vec![off, bound("h", Side::Enqueue, Policies::default())]);
    let chain = bench.chains.chain(&topic(), Side::Enqueue).unwrap();
    assert_eq!((chain.0.len(), bench.chains.bound(&namespace).len()), (1, 2));
    let elsewhere = TopicKey::parse("default", "other").unwrap();
    assert!(bench.chains.chain(&elsewhere, Side::Enqueue).is_none());
    let foreign = TopicKey::parse("foreign", "t").unwrap();
    assert!(bench.chains.chain(&foreign, Side::Enqueue).is_none());
    bench.chains.replace(&namespace, Vec::new());
    assert!(bench.chains.chain(&topic(), Side::Enqueue).is_none());
    // A run that began before ends on what it began with.
    let outcomes = on_enqueue(&bench.chains, &chain, items(&["x"])).await;
    assert_eq!(all(&outcomes), ["store x+h@1"]);
}
