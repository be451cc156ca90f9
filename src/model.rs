//! The nouns everything else speaks of: names, ids, items, their order and their states. No I/O.

mod durations;
mod header;
mod hook;
mod id;
mod item;
mod lease;
pub mod limits;
mod name;
mod operation;
mod order;
mod quota;
mod settings;
mod some;

pub use durations::{DURATION_BOUNDS_US, DurationCounts, Durations};
pub use header::{has_control, header_problem, is_own_header};
pub use hook::{
    Binding, Canary, Digest, HookConfig, HookLimits, HookLimitsPatch, HookRef, InputMode, InstanceMode,
    Manifest, Policies, Policy, Side, TopicPattern,
};
pub use id::{IdGenerator, IdHasher, IdHashing, IdParseError, ItemId, NodeId};
pub use item::{
    DeadReason, Death, Extra, ITEM_BYTES, Item, ItemState, PayloadKind, QueuedItem, SettleCause, Standing,
    header_bytes,
};
pub use lease::{LeaseId, LeaseKey, LeaseRef};
pub use name::{HookName, NameError, Namespace, SLOT_COUNT, Slot, TopicKey, TopicName};
pub use operation::{
    Author, HeaderMatch, ItemFilter, OperationState, Outcome, OutcomeExample, Progress, Work,
};
pub use order::OrderKey;
pub use quota::{CpuRate, HOOK_CPU_MS_MAX, Quota, QuotaPatch, Rate, SharedGrant};
pub use settings::{Backoff, Delivery, ExpiryAction, NamespaceSettings, Settings, SettingsPatch};
pub use some::some;
