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
mod server;

mod architecture;
mod authorisation;
mod bad_input;
mod bad_sockets;
mod command_line;
mod crash;
mod delivery;
mod disk;
mod documents;
mod durability;
mod engine;
mod hook_abuse;
mod hook_verdicts;
mod hooks;
mod hostile_tenant;
mod http;
mod lifecycle;
mod live_config;
mod plugins;
mod quotas;
mod readme;
mod shutdown;
