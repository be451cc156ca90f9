//! Keeps this node's view of the catalog up with what other nodes change: one question twice a second, and who
//! is concerned reads on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::hooks::Registry;
use crate::queue::Queue;
use crate::shard::{Catalog, Generations};

/// How often the catalog is asked whether something changed.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Follows `catalog` for as long as the process runs, when other nodes may use it, too.
pub(super) fn follow(catalog: Catalog, queue: Queue, registry: Arc<Registry>) {
    if !catalog.is_shared() {
        return;
    }
    let (news, seen) = watch::channel(Generations::default());
    tokio::spawn(ask(catalog, news));
    tokio::spawn(follow_topics(queue.clone(), seen.clone()));
    tokio::spawn(follow_slots(queue, seen.clone()));
    // Hooks are compiled before they are in force, which takes its time.
    tokio::spawn(follow_hooks(registry, seen));
}

async fn ask(catalog: Catalog, news: watch::Sender<Generations>) {
    let mut fails = false;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        match catalog.generations().await {
            Ok(generations) => {
                fails = false;
                // Also when nothing is new: what could not be read the last time is tried again.
                news.send_replace(generations);
            }
            Err(error) if !fails => {
                fails = true;
                tracing::warn!(%error, "what other nodes change is not seen; what is in force stays");
            }
            Err(_) => {}
        }
    }
}

async fn follow_topics(queue: Queue, mut seen: watch::Receiver<Generations>) {
    while seen.changed().await.is_ok() {
        let generation = seen.borrow_and_update().catalog;
        if let Err(error) = queue.catch_up(generation).await {
            tracing::warn!(%error, "topics could not be brought up to date");
        }
    }
}

async fn follow_slots(queue: Queue, mut seen: watch::Receiver<Generations>) {
    let mut done = None;
    while seen.changed().await.is_ok() {
        let epoch = seen.borrow_and_update().slots;
        if done == Some(epoch) {
            continue;
        }
        match queue.follow_slots().await {
            Ok(()) => done = Some(epoch),
            Err(error) => tracing::warn!(%error, "where slots are is not up to date"),
        }
    }
}

async fn follow_hooks(registry: Arc<Registry>, mut seen: watch::Receiver<Generations>) {
    while seen.changed().await.is_ok() {
        let generation = seen.borrow_and_update().hooks;
        if generation != registry.generation()
            && let Err(error) = registry.catch_up().await
        {
            tracing::warn!(%error, "hooks could not be brought up to date");
        }
    }
}
