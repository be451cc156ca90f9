//! What every hot tier must do, written against the contract alone and run on each implementation.

mod delivery;
mod fixture;
mod flush;
mod keys;
mod purge;
mod refill;
mod settle;

use fixture::{Fixture, item, lasting, patched, sized, urgent};

/// Runs each case, an `async fn(Fixture)`, on every tier.
macro_rules! on_every_tier {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::memory()).await;
            })+
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::redis().await).await;
            })+
        }
    };
}
use on_every_tier;
