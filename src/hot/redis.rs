//! The hot tier in a Redis that several nodes share.
//!
//! A topic lives wholly on one server, under keys with one hash tag, and every change of it is one call of a
//! library that runs inside Redis (`lua/`): a whole batch, atomic, one round trip. The library is the memory tier
//! once more, over sets instead of queues. Leases run on the nodes' wall clocks, which must agree as well as the
//! shortest lease needs.
//!
//! Redis may lose its memory and nothing else is lost: see `slots.rs`. Redis may be away for a while: what a
//! durable record says is then applied when it is back, and everything else fails at once.

mod cell;
mod claims;
mod cold;
mod contract;
mod flush;
mod keys;
mod library;
mod link;
mod open;
mod rates;
mod reply;
mod settle;
mod slots;
mod stand_in;
mod state;
mod terms;
mod tickets;
mod tier;
mod wakes;

pub use open::{RedisError, RedisOptions};
pub use tier::RedisTier;
