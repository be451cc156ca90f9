//! The loops behind the pipeline: each does one `tick` at a time, and a panic in one costs one tick.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::core::{Core, Queue};

/// How long a loop rests after a panic.
const REST: Duration = Duration::from_secs(1);

impl Queue {
    /// Starts every loop.
    pub(super) fn start_loops(&self) {
        // Each shard has loops of its own, so that one that hangs holds up no other.
        for shard in 0..self.core.shards.len() as u16 {
            self.supervise("flusher", move |core| async move { core.flush_tick(shard).await });
            self.supervise("prefetcher", move |core| async move {
                core.prefetch_tick(shard).await;
            });
            self.supervise("housekeeper", move |core| async move {
                core.housekeeping_tick(shard).await;
            });
            self.supervise("shard watcher", move |core| async move {
                core.watch_tick(shard).await;
            });
        }
        if self.core.hot.outlives_the_node() {
            self.supervise("restorer", |core| async move { core.restore_tick().await });
        }
        self.supervise("reaper", |core| async move { core.reap_tick().await });
        self.supervise("operator", |core| async move { core.operate_tick().await });
        self.supervise("mover", |core| async move { core.mover_tick().await });
        self.supervise("tenure", |core| async move { core.tenure_tick().await });
        self.supervise("sampler", |core| async move { core.sample_tick().await });
    }

    /// Runs `tick` again and again until the loops are stopped. A tick waits by itself for its next turn.
    fn supervise<F, T>(&self, name: &'static str, tick: F)
    where
        F: Fn(Arc<Core>) -> T + Send + 'static,
        T: Future<Output = ()> + Send,
    {
        let core = self.core.clone();
        let stop = core.stop_loops.clone();
        self.core.loops.spawn(async move {
            while !stop.is_cancelled() {
                let turn = AssertUnwindSafe(tick(core.clone())).catch_unwind();
                tokio::select! {
                    () = stop.cancelled() => return,
                    result = turn => {
                        if result.is_err() {
                            tracing::error!(name, "a background loop panicked and goes on");
                            tokio::time::sleep(REST).await;
                        }
                    }
                }
            }
        });
    }
}
