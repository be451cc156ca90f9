//! End-to-end tests: one binary, so that it is linked once.
#![expect(missing_docs, unreachable_pub, reason = "tests are read, not linked to")]

mod node;

mod architecture;
mod delivery;
mod documents;
mod durability;
mod lifecycle;
mod readme;
