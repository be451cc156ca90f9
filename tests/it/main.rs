//! End-to-end tests: one binary, so that it is linked once.
#![expect(unreachable_pub, reason = "tests are read, not linked to")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod client;
mod guests;
mod history;
mod hook_client;
mod node;
mod postgres;
mod proxy;
mod server;

mod architecture;
mod authorisation;
mod bad_input;
mod bad_sockets;
mod command_line;
mod compose;
mod crash;
mod delivery;
mod disk;
mod documents;
mod durability;
mod engine;
mod follow;
mod growth;
mod hook_abuse;
mod hook_verdicts;
mod hooks;
mod http;
mod lifecycle;
mod nodes;
mod plugins;
mod readme;
mod shards;
mod shutdown;
