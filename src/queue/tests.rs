//! The queue against a model of it, and the faults that reading and running it have found.
//!
//! All of this runs without the queue's loops: a test decides when each does a turn. The log is on a
//! simulated disk and the shards are maps, so that a shard can fail whenever a test wants it to.

mod hooks;
mod model;
mod moves;
mod node;
mod operations;
mod property;
mod races;
mod script;
mod seed_faults;
mod shard;
