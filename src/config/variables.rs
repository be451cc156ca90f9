//! Which environment variable sets which key.

/// The seed's variables and the short ones beside them.
const ALIASES: [(&str, &str); 13] = [
    ("DATABASE_URLS", "storage.database_urls"),
    ("REDIS_ADDRS", "redis.addrs"),
    ("REDIS_PASSWORD", "redis.password"),
    ("WAL_DIR", "wal.dir"),
    ("LOG_LEVEL", "log.level"),
    ("LOG_ENCODING", "log.encoding"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("JWT_SECRET_PREVIOUS", "auth.jwt_secret_previous"),
    ("NAMESPACE_QUOTAS", "quotas.namespaces"),
    ("BUFFER_TTL", "hot.buffer_ttl"),
    ("MQUEUE_LISTEN", "server.listen"),
    ("MQUEUE_DATA_DIR", "storage.data_dir"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "tracing.otlp_endpoint"),
];

/// Variables of the command line's clients, which are no configuration of the server.
const CLIENT: [&str; 4] = ["MQUEUE_URL", "MQUEUE_TOKEN", "MQUEUE_NAMESPACE", "MQUEUE_CONFIG"];

/// Keys whose value can be read from a file that `<VARIABLE>_FILE` names.
const SECRETS: [&str; 4] = [
    "auth.jwt_secret",
    "auth.jwt_secret_previous",
    "redis.password",
    "storage.database_urls",
];

/// Sections and keys that may change while the process runs.
const LIVE: [&str; 15] = [
    "auth.",
    "topics.",
    "limits.",
    "quotas.",
    "log.level",
    "hooks.cpu_per_second",
    "hooks.cpu_burst",
    "hooks.item_time",
    "hooks.batch_time",
    "hooks.output",
    "hooks.host_calls",
    "hooks.log_lines",
    "hooks.log_line",
    "hooks.split_items",
    "hooks.hops",
];

/// What a variable means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Its value is the value of the key.
    Value(&'a str),
    /// Its value names a file that holds the value of the key.
    File(&'a str),
    /// Nothing to the server.
    Foreign,
    /// It has our prefix and means nothing: the nearest variable that does.
    Unknown(Option<String>),
}

/// Whether the key's value must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// Whether a change of the key counts while the process runs.
pub(super) fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| match live.strip_suffix('.') {
        Some(_) => key.starts_with(live),
        None => key == *live,
    })
}

/// The systematic variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("MQUEUE_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// What `variable` means, given every known key.
pub(super) fn meaning<'a>(variable: &str, keys: &'a [String]) -> Meaning<'a> {
    if let Some(key) = key_of(variable, keys) {
        return Meaning::Value(key);
    }
    let file_key = variable.strip_suffix("_FILE").and_then(|stem| key_of(stem, keys));
    if let Some(key) = file_key.filter(|key| is_secret(key)) {
        return Meaning::File(key);
    }
    if !variable.starts_with("MQUEUE_") || CLIENT.contains(&variable) {
        return Meaning::Foreign;
    }
    let systematic: Vec<_> = keys.iter().map(|key| variable_of(key)).collect();
    let known = ALIASES
        .iter()
        .map(|(alias, _)| *alias)
        .chain(CLIENT)
        .chain(systematic.iter().map(String::as_str));
    Meaning::Unknown(nearest(variable, known).map(str::to_owned))
}

fn key_of<'a>(variable: &str, keys: &'a [String]) -> Option<&'a str> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == variable);
    let key = keys.iter().find(|key| match alias {
        Some((_, aliased)) => aliased == key,
        None => variable_of(key) == variable,
    });
    key.map(String::as_str)
}

/// The known name most like `name`, when one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<String> {
        [
            "auth.jwt_secret",
            "server.listen",
            "server.idle_timeout",
            "node.id",
            "wal.dir",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn variables_find_their_keys() {
        let keys = keys();
        let of = |variable| meaning(variable, &keys);
        assert_eq!(of("JWT_SECRET"), Meaning::Value("auth.jwt_secret"));
        assert_eq!(of("MQUEUE_AUTH_JWT_SECRET"), Meaning::Value("auth.jwt_secret"));
        assert_eq!(of("JWT_SECRET_FILE"), Meaning::File("auth.jwt_secret"));
        assert_eq!(of("MQUEUE_NODE_ID"), Meaning::Value("node.id"));
        assert_eq!(
            of("MQUEUE_SERVER_IDLE_TIMEOUT"),
            Meaning::Value("server.idle_timeout")
        );
        assert_eq!(of("PATH"), Meaning::Foreign);
        assert_eq!(of("MQUEUE_TOKEN"), Meaning::Foreign);
    }

    #[test]
    fn an_unknown_variable_names_the_nearest_known_one() {
        let nearest = |text: &str| Meaning::Unknown(Some(text.to_owned()));
        assert_eq!(meaning("MQUEUE_LISTN", &keys()), nearest("MQUEUE_LISTEN"));
        assert_eq!(
            meaning("MQUEUE_SERVER_IDLE_TIMOUT", &keys()),
            nearest("MQUEUE_SERVER_IDLE_TIMEOUT")
        );
        // Only secrets have a file variant.
        assert!(matches!(
            meaning("MQUEUE_LISTEN_FILE", &keys()),
            Meaning::Unknown(_)
        ));
    }
}
