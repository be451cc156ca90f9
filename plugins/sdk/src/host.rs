//! What the server offers a hook; natively, what a test has set.

#[cfg(target_arch = "wasm32")]
pub(crate) mod imports {
    use crate::bindings::imports::mqueue::hooks as host;

    pub(crate) use host::clock::now;
    pub(crate) use host::config::{get, secret};
    pub(crate) use host::log::log;
    pub(crate) use host::random::next;
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::imports;

/// The time of the call, in milliseconds since the Unix epoch; the same for all of its items.
pub fn now() -> u64 {
    imports::now()
}

/// A random number, seeded by the items and the module: the same call gives the same numbers.
pub fn random() -> u64 {
    imports::next()
}

/// A secret of the version.
pub fn secret(name: &str) -> Option<String> {
    imports::secret(name)
}
