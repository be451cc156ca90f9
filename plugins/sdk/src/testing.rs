//! The imports of a native build: set what a hook will see, read what it logged. Each thread, and so each test, has its own.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;
use crate::{Context, Item};

#[derive(Default)]
struct Host {
    now: u64,
    random: u64,
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    log: Vec<(Level, String)>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

fn with<T>(work: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(work)
}

/// Sets the time, in milliseconds since the Unix epoch.
pub fn set_now(now: u64) {
    with(|host| host.now = now);
}

/// Sets the configuration, an object.
///
/// # Panics
/// When it is no object.
pub fn set_config(config: serde_json::Value) {
    let serde_json::Value::Object(config) = config else {
        panic!("a configuration is an object");
    };
    let config = config.into_iter().map(|(key, value)| (key, value.to_string()));
    with(|host| host.config = config.collect());
}

/// Sets a secret.
pub fn set_secret(name: &str, secret: &str) {
    with(|host| host.secrets.insert(name.to_owned(), secret.to_owned()));
}

/// Takes the lines logged so far.
pub fn take_log() -> Vec<(Level, String)> {
    with(|host| std::mem::take(&mut host.log))
}

/// A context for tests: namespace `default`, topic `test`, no scopes.
pub fn context() -> Context {
    Context {
        namespace: "default".to_owned(),
        topic: "test".to_owned(),
        now: with(|host| host.now),
        principal: "test".to_owned(),
        scopes: Vec::new(),
    }
}

/// An item for tests: id 1, priority 100, a first delivery, this payload.
pub fn item(payload: impl Into<Vec<u8>>) -> Item {
    let payload = payload.into();
    Item {
        id: 1,
        priority: 100,
        enqueued_at: 0,
        deliver_after: 0,
        attempt: 1,
        hops: 0,
        content_type: None,
        headers: Vec::new(),
        payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        payload,
    }
}

/// The fakes behind the imports.
pub(crate) mod imports {
    use super::{Level, with};

    pub(crate) fn now() -> u64 {
        with(|host| host.now)
    }

    pub(crate) fn next() -> u64 {
        // SplitMix64: a hook sees numbers that differ, a test always the same ones.
        with(|host| {
            host.random = host.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (host.random ^ (host.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    pub(crate) fn get(key: &str) -> Option<String> {
        with(|host| host.config.get(key).cloned())
    }

    pub(crate) fn secret(name: &str) -> Option<String> {
        with(|host| host.secrets.get(name).cloned())
    }

    pub(crate) fn log(level: Level, message: &str) {
        with(|host| host.log.push((level, message.to_owned())));
    }
}
