//! End-to-end tests: one binary, so that it is linked once.

mod client;
mod history;
mod node;
mod server;

mod authorisation;
mod bad_input;
mod bad_sockets;
mod command_line;
mod crash;
mod delivery;
mod disk;
mod durability;
mod http;
mod lifecycle;
mod shutdown;
