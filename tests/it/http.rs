//! Stories over HTTP: what producers, consumers and operators do with a running server.

mod classic;
mod consuming;
mod dead;
mod events;
mod operating;
mod producing;
mod topics;
