//! Stories over HTTP: what producers, consumers and operators do with a running server.

mod audit;
mod classic;
mod consuming;
mod dead;
mod events;
mod explain;
mod namespaces;
mod operating;
mod operations;
mod producing;
mod repair;
mod topics;
