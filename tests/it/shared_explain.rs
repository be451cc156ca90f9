//! Why an item is not delivered, asked of a node that had nothing to do with it.

use serde_json::json;

use crate::client::{Topic, lease};
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::shared::Pair;
use crate::stores::redis_addr;

#[tokio::test]
async fn what_one_node_handed_out_or_put_off_another_explains() {
    let pair = Pair::start(&redis_addr(), &["explained"]).await;
    let hooks = Hooks::of(&pair.one.client(), "default");
    let [one, two] = pair.topic("explained");
    let ids = one
        .enqueue(json!([{"text": "a", "lease_ms": 600_000}, {"text": "b"}]))
        .await;
    let held = one.dequeue(1).await;
    // Verdict 3 of the dequeue side: not now, but after so many milliseconds.
    let guest = Guest {
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
            (i32.store offset=16 (local.get $verdict) (i32.const 600000))",
        ..Guest::default()
    };
    hooks.put("later", Side::Dequeue, guest, json!({})).await;
    assert!(one.dequeue(1).await.is_empty());
    let explained = async |topic: &Topic, id: &str| {
        let path = topic.at(&format!("items/{id}/explain"));
        topic.client.get(&path).await.ok()["reasons"].clone()
    };
    for node in [&one, &two] {
        let leased = explained(node, &ids[0]).await;
        assert_eq!(
            (&leased[0]["code"], &leased[0]["consumer"], &leased[0]["until"]),
            (&json!("leased"), &json!("tester"), &held[0]["lease_expires_at"])
        );
        let deferred = explained(node, &ids[1]).await;
        assert_eq!(
            (&deferred[0]["code"], &deferred[0]["hook"]),
            (&json!("hook_deferred"), &json!("later@1"))
        );
    }
    // An extended lease is still its consumer's, wherever it was extended; who gave the item back has it no more.
    let mut longer = lease(&held[0]);
    longer["lease_ms"] = json!(3_600_000);
    assert_eq!(two.settle("extend", &[longer]).await, ["ok"]);
    let leased = explained(&one, &ids[0]).await;
    assert_eq!(leased[0]["consumer"], "tester");
    assert_ne!(leased[0]["until"], held[0]["lease_expires_at"]);
    assert_eq!(two.settle("release", &[lease(&held[0])]).await, ["ok"]);
    assert_eq!(explained(&one, &ids[0]).await[0]["code"], "waiting");
}
