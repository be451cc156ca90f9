//! What every shard must do, run on SQLite files and on a real PostgreSQL.
//!
//! PostgreSQL is looked for at `MQUEUE_TEST_POSTGRES`, or on this machine as the user `postgres`; each test
//! makes a schema of its own and drops it. Without a PostgreSQL these tests fail: a skipped test would say
//! that both dialects agree when only one was asked.

mod catalog;
mod checkpoints;
mod fixture;
mod hooks;
mod keys;
mod lifetime;
mod moves;
mod nodes;
mod operations;
mod postgres;
mod questions;

use fixture::{Fixture, dead, item, item_due, topic};

/// Runs each case, an `async fn(&Fixture)`, on both dialects.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let fixture = super::Fixture::sqlite().await;
                fixture.run(super::$case(&fixture)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                let fixture = super::Fixture::postgres().await;
                fixture.run(super::$case(&fixture)).await;
            })+
        }
    };
}
use on_both;
