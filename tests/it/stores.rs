//! Where the nodes of a test keep what they hold: the hot tier in memory or in Redis, the shard in SQLite or in PostgreSQL.
//!
//! A test says nothing of it and runs on any combination. `MQUEUE_TEST_STORES` names the one for a whole run, as
//! `redis+postgres`; `tests/every_store.sh` runs the suite on all four. Without it, tests run on memory and SQLite, and
//! those of `on_postgres` and `on_redis`, which are the same stories once more, on what these are named after. Tests that
//! are about stores name their own.

use std::collections::BTreeSet;
use std::fs;

use crate::documents::{document, root};
use crate::postgres::Postgres;

/// The variable that names the combination for a run.
const VARIABLE: &str = "MQUEUE_TEST_STORES";
/// The settings that name stores.
const NAMES: &[&str] = &["storage.database_urls", "redis.addrs"];

/// A combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stores {
    pub(crate) redis: bool,
    pub(crate) postgres: bool,
}

/// What a node is told of its stores, and what must outlive it.
pub(crate) struct Given {
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) shards: Option<Postgres>,
}

impl Stores {
    /// Those of the test that asks. Tests run on threads of their name.
    pub(crate) fn of_this_test() -> Self {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if name.starts_with("on_redis::") {
            return Self::named("redis+postgres").unwrap();
        }
        if name.starts_with("on_postgres::") {
            return Self::named("memory+postgres").unwrap();
        }
        let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "memory+sqlite".to_owned());
        Self::named(&wanted).unwrap_or_else(|| panic!("{VARIABLE}={wanted} names no combination"))
    }

    fn named(text: &str) -> Option<Self> {
        let (hot, shard) = text.split_once('+')?;
        let which = |text: &str, no: &str, yes: &str| (text == no || text == yes).then_some(text == yes);
        Some(Self {
            redis: which(hot, "memory", "redis")?,
            postgres: which(shard, "sqlite", "postgres")?,
        })
    }

    /// New, empty stores for a node that is told the settings `told`: none if it names its own.
    pub(crate) fn give<'a>(self, told: impl IntoIterator<Item = &'a str>) -> Given {
        let mut given = Given {
            settings: Vec::new(),
            shards: None,
        };
        if told.into_iter().any(|key| NAMES.contains(&key)) {
            return given;
        }
        if self.redis {
            given.settings.push(("redis.addrs", redis_addr()));
            given.settings.push(("redis.prefix", redis_prefix()));
        }
        if self.postgres {
            let shards = Postgres::bare(1);
            given.settings.push(("storage.database_urls", shards.urls()));
            given
                .settings
                .push(("storage.pool_connections_max", "4".to_owned()));
            given.shards = Some(shards);
        }
        given
    }
}

/// The Redis for tests; nobody may flush it.
pub(crate) fn redis_addr() -> String {
    std::env::var("MQUEUE_TEST_REDIS").unwrap_or_else(|_| "127.0.0.1:6379".into())
}

/// What the keys of one test begin with.
pub(crate) fn redis_prefix() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}

#[test]
fn a_combination_is_what_its_name_says() {
    let named = |redis, postgres| Some(Stores { redis, postgres });
    assert_eq!(Stores::named("memory+sqlite"), named(false, false));
    assert_eq!(Stores::named("memory+postgres"), named(false, true));
    assert_eq!(Stores::named("redis+sqlite"), named(true, false));
    assert_eq!(Stores::named("redis+postgres"), named(true, true));
    for wrong in [
        "",
        "redis",
        "postgres+redis",
        "redis+",
        "redis+postgres+",
        "Redis+sqlite",
    ] {
        assert_eq!(Stores::named(wrong), None, "{wrong}");
    }
}

/// What names its own stores is the same on every combination, and runs once.
#[test]
fn every_store_leaves_out_what_names_its_own_and_says_why() {
    let script = document("tests/every_store.sh");
    let (_, list) = script.split_once("once=(\n").unwrap();
    let (list, _) = list.split_once("\n)").unwrap();
    let reasoned = |line: &str| {
        let (module, reason) = line.split_once('#').unwrap();
        assert!(reason.len() > 10, "why is it left out: {line}");
        module.trim().to_owned()
    };
    let listed: BTreeSet<String> = list.lines().map(reasoned).collect();
    let mut left = listed.clone();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        left.remove(&module);
        if path.is_dir() || ["stores", "documents"].contains(&&*module) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let names = text.contains("#[tokio::test") && NAMES.iter().any(|name| text.contains(name));
        assert!(
            !names || listed.contains(&module),
            "{module} names its own stores: list it in tests/every_store.sh with the reason"
        );
    }
    assert!(left.is_empty(), "listed and not there: {left:?}");
}
