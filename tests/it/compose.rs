//! `docker-compose.yml`, the image and what is provisioned beside them, read as the engine would: there is none
//! here to ask. What Compose says of the file is in `tests/compose.sh`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_yaml::Value;

use crate::documents::{document, root};

fn yaml(name: &str) -> Value {
    let mut value: Value = serde_yaml::from_str(&document(name)).unwrap();
    // What is merged may merge something itself.
    value.apply_merge().unwrap();
    value.apply_merge().unwrap();
    value
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_mapping().unwrap();
    services
        .iter()
        .map(|(name, service)| (name.as_str().unwrap(), service))
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_sequence()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn profile(service: &Value) -> Option<&str> {
    texts(&service["profiles"]).first().copied()
}

#[test]
fn every_service_is_checked_restarted_and_published_on_loopback_only() {
    let compose = yaml("docker-compose.yml");
    let names: BTreeSet<&str> = services(&compose).map(|(name, _)| name).collect();
    let expected = [
        "mqueue",
        "node-1",
        "node-2",
        "shard-0",
        "shard-1",
        "redis",
        "prometheus",
        "grafana",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    let volumes = compose["volumes"].as_mapping().unwrap();
    for (name, service) in services(&compose) {
        assert!(
            service["healthcheck"]["test"].is_sequence(),
            "{name} has no health check"
        );
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().unwrap();
            match source.strip_prefix("./") {
                Some(path) => assert!(
                    mount.ends_with(":ro") && is_provided(path),
                    "{name} mounts {mount}"
                ),
                None => assert!(volumes.contains_key(source), "{name} mounts {mount}"),
            }
        }
        for needed in service["depends_on"].as_mapping().into_iter().flatten() {
            let (other, how) = needed;
            let other = &compose["services"][other];
            assert_eq!(how["condition"], "service_healthy", "{name}");
            assert_eq!(
                profile(other),
                profile(service),
                "{name} needs what it is not started with"
            );
        }
    }
}

/// Whether the folder is there, or will be: dashboards are a part of their own.
fn is_provided(path: &str) -> bool {
    root().join(path).is_dir() || path == "deploy/grafana/dashboards"
}

#[test]
fn nodes_have_no_rights_and_numbers_of_their_own() {
    let compose = yaml("docker-compose.yml");
    let mut numbers = BTreeSet::new();
    let mut disks = BTreeSet::new();
    for name in ["mqueue", "node-1", "node-2"] {
        let node = &compose["services"][name];
        assert_eq!(node["read_only"], true, "{name}");
        assert_eq!(texts(&node["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&node["security_opt"]), ["no-new-privileges:true"], "{name}");
        let secret = node["environment"]["JWT_SECRET"].as_str().unwrap();
        assert!(secret.starts_with("${JWT_SECRET:?"), "{name}: {secret}");
        assert!(disks.insert(texts(&node["volumes"])[0]), "{name} shares its log");
        let grace = node["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
        assert!(
            grace.parse::<u64>().unwrap() > 25,
            "{name} is not given the time to stop"
        );
        if profile(node) == Some("cluster") {
            let environment = &node["environment"];
            assert!(
                numbers.insert(environment["MQUEUE_NODE_ID"].as_str().unwrap()),
                "{name}"
            );
            let urls: Vec<_> = environment["DATABASE_URLS"]
                .as_str()
                .unwrap()
                .split(',')
                .collect();
            let hosts = urls.iter().map(|url| url.split(['@', '/']).nth(3).unwrap());
            assert_eq!(hosts.collect::<Vec<_>>(), ["shard-0", "shard-1"], "{name}");
            assert_eq!(environment["REDIS_ADDRS"], "redis:6379");
        }
    }
    assert_eq!(numbers, BTreeSet::from(["1", "2"]));
}

#[test]
fn no_password_is_written_down() {
    for name in [
        "docker-compose.yml",
        "Dockerfile",
        "deploy/prometheus/prometheus.yml",
    ] {
        for line in document(name).lines() {
            let line = line.trim_start();
            let Some((key, value)) = line.split_once(": ") else {
                continue;
            };
            let is_secret = ["PASSWORD", "SECRET", "TOKEN"]
                .iter()
                .any(|word| key.ends_with(word));
            if is_secret && !line.starts_with('#') {
                let comes_from_outside = value.starts_with("${") || value.chars().all(char::is_uppercase);
                assert!(comes_from_outside, "{name}: {line}");
            }
        }
    }
}

#[test]
fn redis_refuses_rather_than_evicts() {
    let compose = yaml("docker-compose.yml");
    let command = texts(&compose["services"]["redis"]["command"]).join(" ");
    assert!(command.contains("--maxmemory-policy noeviction"), "{command}");
}

#[test]
fn prometheus_scrapes_every_node_and_grafana_asks_prometheus() {
    let compose = yaml("docker-compose.yml");
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let job = &prometheus["scrape_configs"][0];
    let targets = texts(&job["static_configs"][0]["targets"]);
    for target in &targets {
        let host = target.strip_suffix(":8080").unwrap();
        assert!(
            compose["services"][host]["healthcheck"].is_mapping(),
            "{host} is no service"
        );
    }
    assert_eq!(targets.len(), 3);
    assert_eq!(texts(&prometheus["rule_files"]), ["alerts.yml"]);
    let file = job["authorization"]["credentials_file"].as_str().unwrap();
    let secret = Path::new(file).file_name().unwrap().to_str().unwrap();
    assert!(compose["secrets"][secret].is_mapping(), "{file}");
    let source = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let dashboards = yaml("deploy/grafana/provisioning/dashboards/mqueue.yml");
    let path = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = texts(&compose["services"]["grafana"]["volumes"]);
    assert!(
        mounts.iter().any(|mount| mount.contains(path)),
        "{path} is not mounted"
    );
}

#[test]
fn the_image_is_small_and_runs_without_rights() {
    let text = document("Dockerfile");
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("debian:") && last.contains("-slim"), "{last}");
    let line = |start: &str| {
        last.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    let user = line("USER ").trim_start_matches("USER ");
    assert!(
        user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    assert!(line("HEALTHCHECK ").contains("[\"mqueue\", \"healthcheck\"]"));
    // What the build copies must pass the list of what stays out.
    let ignored = document(".dockerignore");
    for folder in ["src", "migrations", "plugins", "web/dist"] {
        assert!(
            ignored.lines().any(|line| line == format!("!{folder}")),
            "{folder} stays out"
        );
    }
}
