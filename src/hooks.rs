//! Hooks: tenants' WebAssembly between the API and the queue.
//!
//! Three contracts hold the module together. The queue sees [`Hooks`]: chains of bound hooks that turn items
//! into outcomes. A chain sees a [`Runner`], which makes one call of one version within its limits, and an
//! [`Observer`], which is told of every call. Only the runner behind it knows WebAssembly.

mod call;
mod chain;
mod contract;
pub mod engine;
pub mod folder;
pub mod registry;
pub mod rehearse;

pub use call::{
    Bound, Call, Comparison, DequeueVerdict, Edit, EnqueueVerdict, Failure, LogLevel, LogLine, Observer,
    Report, Runner, ShadowOutcome, Usage, Verdicts, Version,
};
pub use chain::{BreakerState, Chains, Versions};
pub use contract::{
    Chain, Decided, DequeueOutcome, EnqueueOutcome, HookContext, HookItem, Hooks, Reason, Room, Shaped,
};

pub use registry::{Preparer, Registry};

/// The contract that guests are written against, as text.
pub const WIT: &str = include_str!("../plugins/wit/hooks.wit");
