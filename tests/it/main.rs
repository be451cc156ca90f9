//! End-to-end tests: one binary, so that it is linked once.
#![expect(unreachable_pub, reason = "tests are read, not linked to")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod node;

mod architecture;
mod delivery;
mod documents;
mod durability;
mod lifecycle;
mod readme;
