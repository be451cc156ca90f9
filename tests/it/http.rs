//! Stories over HTTP: what producers, consumers and operators do with a running server.

mod classic;
mod consuming;
mod dead;
mod operating;
mod producing;
mod topics;
