//! End-to-end tests: one binary, so that it is linked once.
#![expect(unreachable_pub, reason = "tests are read, not linked to")]
#![expect(clippy::duplicate_mod, reason = "the same stories are told on several tiers")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod client;
mod guests;
mod history;
mod hook_changes;
mod hook_classic;
mod hook_client;
mod hook_faults;
mod node;
mod order;
mod postgres;
mod proxy;
mod redis;
mod server;

mod actors;
mod architecture;
mod authorisation;
mod bad_input;
mod bad_sockets;
mod clients;
mod cluster;
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
mod hook_quarantine;
mod hook_reach;
mod hook_siege;
mod hook_uploads;
mod hook_verdicts;
mod hooks;
mod hostile_tenant;
mod http;
mod lifecycle;
mod live_config;
mod lost_keys;
mod nodes;
mod on_postgres;
mod on_redis;
mod orphans;
mod plugins;
mod quotas;
mod readme;
mod redis_kinds;
mod redis_terms;
mod shards;
mod shared;
mod shared_explain;
mod shared_quotas;
mod shutdown;
mod stores;
mod traces;
mod typed;
