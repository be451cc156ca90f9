use std::collections::BTreeSet;

use secrecy::ExposeSecret;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn with_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(&Inputs {
        environment: variables(pairs),
        ..Inputs::default()
    })
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    load(&Inputs {
        file: Some(("my.toml".into(), text.to_owned())),
        ..Inputs::default()
    })
}

fn problems(result: Result<Config, ConfigError>) -> String {
    result.expect_err("the configuration is refused").to_string()
}

#[test]
fn every_documented_key_is_read_and_every_read_key_is_documented() {
    let documented: BTreeSet<_> = leaf_keys(&toml::from_str(DEFAULTS).unwrap())
        .into_iter()
        .collect();
    let config = load(&Inputs::default()).unwrap();
    let read: BTreeSet<_> = config.entries.iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(documented, read);
    assert_eq!(read.len(), config.entries.len(), "a key is read twice");
}

#[test]
fn every_key_has_a_comment() {
    // A key is explained by the comment above it, or above the keys it stands directly beneath.
    let mut explained = false;
    for line in DEFAULTS.lines() {
        match line.chars().next() {
            Some('#') => explained = true,
            None | Some('[') => explained = false,
            Some(_) => assert!(explained, "{line} has no comment"),
        }
    }
}

#[test]
fn the_defaults_need_nothing_and_warn_of_nothing() {
    let config = load(&Inputs::default()).unwrap();
    assert_eq!(config.start.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.start.node.id.number(), 1);
    assert_eq!(
        config.start.wal.folder(&config.start.storage),
        Path::new("./data/wal")
    );
    assert!(config.warnings.is_empty());
    assert!(config.entries.iter().all(|entry| entry.source == "default"));
}

#[test]
fn flags_beat_environment_beats_dotenv_beats_file_beats_defaults() {
    let mut inputs = Inputs::default();
    let level = |inputs: &Inputs| {
        let config = load(inputs).unwrap();
        let entry = config
            .entries
            .iter()
            .find(|entry| entry.key == "log.level")
            .unwrap();
        (config.live.log_level.to_string(), entry.source.clone())
    };
    let is = |level: &str, source: &str| (level.to_owned(), source.to_owned());
    assert_eq!(level(&inputs), is("info", "default"));
    inputs.file = Some(("my.toml".into(), "[log]\nlevel = 'error'".to_owned()));
    assert_eq!(level(&inputs), is("error", "file my.toml"));
    inputs.dotenv = variables(&[("LOG_LEVEL", "warn")]);
    assert_eq!(level(&inputs), is("warn", ".env LOG_LEVEL"));
    inputs.environment = variables(&[("MQUEUE_LOG_LEVEL", "debug")]);
    assert_eq!(level(&inputs), is("debug", "environment MQUEUE_LOG_LEVEL"));
    inputs.flags = vec![Assignment {
        key: "log.level".into(),
        value: "trace".into(),
        flag: "--log-level".into(),
    }];
    assert_eq!(level(&inputs), is("trace", "flag --log-level"));
}

#[test]
fn the_seeds_variables_keep_their_meaning() {
    let config = with_environment(&[
        (
            "DATABASE_URLS",
            "postgres://u:hunter2@db1/q, postgres://u:hunter2@db2/q",
        ),
        ("WAL_DIR", "/var/wal"),
        ("MQUEUE_NODE_ID", "7"),
        ("LOG_LEVEL", "warn"),
        ("LOG_ENCODING", "console"),
        ("JWT_SECRET", "12345678901234567890123456789012"),
        ("NAMESPACE_QUOTAS", "tenant-a:1000,tenant-b:500"),
        ("BUFFER_TTL", "1h"),
        ("REDIS_ADDRS", ""),
        ("REDIS_PASSWORD", "hunter2"),
    ])
    .unwrap();
    assert_eq!(config.start.storage.database_urls.len(), 2);
    assert_eq!(
        config.start.wal.folder(&config.start.storage),
        Path::new("/var/wal")
    );
    assert_eq!(config.start.node.id.number(), 7);
    assert_eq!(config.start.log_encoding, LogEncoding::Console);
    assert_eq!(config.live.quotas.namespaces.len(), 2);
    assert_eq!(config.start.hot.buffer_ttl.as_secs(), 3_600);
    // A secret of digits is a text, not a number.
    let secret = config.live.auth.jwt_secret.as_ref().unwrap();
    assert_eq!(secret.expose_secret(), "12345678901234567890123456789012");
}

#[test]
fn secrets_are_shown_nowhere() {
    let config = with_environment(&[
        ("DATABASE_URLS", "postgres://u:hunter2@db1/q?password=hunter2"),
        ("JWT_SECRET", "hunter2,hunter2,hunter2,hunter2,hunter2"),
        ("REDIS_PASSWORD", "hunter2"),
    ])
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let of = |key: &str| {
        config
            .entries
            .iter()
            .find(|entry| entry.key == key)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(of("storage.database_urls"), "postgres://****@db1/q");
    assert_eq!(of("auth.jwt_secret"), "****");
    let odd = with_environment(&[("JWT_SECRET", "a://hunter2hunter2hunter2hunter2hunter2")]).unwrap();
    assert!(!format!("{:?}", odd.entries).contains("hunter2"));
    // Nor in the message about a wrong one.
    let text = problems(with_environment(&[("DATABASE_URLS", "mysql://u:hunter2@db1/q")]));
    assert!(
        text.contains("must begin with postgres://") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn unknown_names_name_the_nearest_known_one() {
    for (result, says) in [
        (
            with_file("[sever]\nlisten = '127.0.0.1:1'"),
            "did you mean server.listen?",
        ),
        (with_file("listen = '127.0.0.1:1'"), "did you mean server.listen?"),
        (
            with_file("[wal]\nsegment_byte = 1"),
            "did you mean wal.segment_bytes?",
        ),
        (
            with_environment(&[("MQUEUE_NODEID", "1")]),
            "did you mean MQUEUE_NODE_ID?",
        ),
        (
            with_environment(&[("MQUEUE_WAL_BYTE_MAX", "1")]),
            "did you mean MQUEUE_WAL_BYTES_MAX?",
        ),
    ] {
        let text = problems(result);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn wrong_values_name_key_value_source_and_range_and_all_at_once() {
    let text = problems(with_environment(&[
        ("MQUEUE_NODE_ID", "1024"),
        ("BUFFER_TTL", "60"),
        ("MQUEUE_LIMITS_PAYLOAD_BYTES_MAX", "2MiB"),
        ("MQUEUE_LISTEN", "localhost"),
        ("LOG_LEVEL", "loud"),
    ]));
    for line in [
        r#"node.id = "1024" (environment MQUEUE_NODE_ID): must be between 0 and 1023"#,
        r#"hot.buffer_ttl = "60" (environment BUFFER_TTL): not a duration with its unit"#,
        r#"limits.payload_bytes_max = "2MiB" (environment MQUEUE_LIMITS_PAYLOAD_BYTES_MAX): must be between 1 and 1MiB"#,
        r#"server.listen = "localhost" (environment MQUEUE_LISTEN): not an address"#,
        r#"log.level = "loud" (environment LOG_LEVEL): must be trace, debug"#,
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (file, says) in [
        (
            "[server]\ntls_cert = 'Cargo.toml'",
            "together with server.tls_cert",
        ),
        ("[wal]\nbytes_max = '64MiB'", "twice wal.segment_bytes"),
        ("[hot]\nlow_water = 0.85", "below hot.high_water"),
        ("[redis]\nprefix = 'a{b}'", "letters, digits, dots"),
        (
            "[quotas.namespaces]\na = { per_min = 5 }",
            "no such field per_min",
        ),
        (
            "[server]\ntls_cert = '/nowhere'\ntls_key = '/nowhere'",
            "cannot be read",
        ),
    ] {
        let text = problems(with_file(file));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn secrets_can_be_read_from_files() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef0123456789abcdef\n").unwrap();
    let path = file.path().to_str().unwrap();
    let config = with_environment(&[("JWT_SECRET_FILE", path)]).unwrap();
    assert_eq!(
        config.live.auth.jwt_secret.unwrap().expose_secret(),
        "0123456789abcdef0123456789abcdef"
    );
    let text = problems(with_environment(&[("JWT_SECRET_FILE", "/nowhere")]));
    assert!(text.contains("cannot read /nowhere"), "{text}");
    let text = problems(with_environment(&[
        ("JWT_SECRET_FILE", path),
        ("JWT_SECRET", "other"),
    ]));
    assert!(
        text.contains("keep one of the two") && !text.contains("other\""),
        "{text}"
    );
}

#[test]
fn only_a_strong_configured_secret_is_heard_beyond_loopback() {
    let on = |listen, secret| with_environment(&[("MQUEUE_LISTEN", listen), ("JWT_SECRET", secret)]);
    let strong = "5ab0cd04a2f44b17a0f2b4aa9eb4c7d1";
    let text = problems(on("0.0.0.0:8080", ""));
    assert!(text.contains("set JWT_SECRET"), "{text}");
    let repeated = "x".repeat(64);
    for weak in [&repeated, "A-string-secret-at-least-256-bits-long"] {
        let text = problems(on("[::]:8080", weak));
        assert!(text.contains("openssl rand") && !text.contains(weak), "{text}");
        assert_eq!(on("127.0.0.1:8080", weak).unwrap().warnings.len(), 1, "{weak}");
    }
    for listen in ["[::]:8080", "127.0.0.1:8080"] {
        let text = problems(on(listen, "your-256-bit-secret"));
        assert!(
            text.contains("openssl rand") && !text.contains("256-bit"),
            "{text}"
        );
    }
    // Plain HTTP is warned of unless it is said to be meant.
    assert_eq!(on("0.0.0.0:8080", strong).unwrap().warnings.len(), 1);
    let meant = with_environment(&[
        ("MQUEUE_LISTEN", "0.0.0.0:8080"),
        ("JWT_SECRET", strong),
        ("MQUEUE_SERVER_INSECURE_LISTEN", "true"),
    ]);
    assert!(meant.unwrap().warnings.is_empty());
}

#[test]
fn the_default_file_is_itself_a_valid_file() {
    let config = with_file(DEFAULTS).unwrap();
    assert!(config.entries.iter().all(|entry| entry.source == "file my.toml"));
    assert!(matches!(with_file("listen ="), Err(ConfigError::Syntax { .. })));
}

#[test]
fn dotenv_is_parsed_and_foreign_variables_are_left_alone() {
    let dotenv = parse_dotenv(Path::new(".env"), "# mine\nLOG_LEVEL=\"debug\"\nexport OTHER=1\n").unwrap();
    let config = load(&Inputs {
        dotenv,
        ..Inputs::default()
    });
    assert_eq!(config.unwrap().live.log_level, LogLevel::Debug);
}

#[test]
fn what_cannot_be_parsed_is_named_by_line_and_not_repeated() {
    let text = problems(with_file("[auth]\njwt_secret = hunter2"));
    assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
    let error = parse_dotenv(Path::new(".env"), "A=1\nJWT_SECRET=hunter2 hunter2\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
}
