//! What may not be reachable from other machines.

use secrecy::ExposeSecret;

use super::reader::Reader;
use super::{LiveConfig, ServerConfig, StartConfig};

/// The shortest HS256 secret that cannot be guessed offline, in bytes: the hash's own length.
const SECRET_BYTES_MIN: usize = 32;

/// Secrets that stand in examples everywhere, in lower case.
const SAMPLES: [&str; 8] = [
    "secret",
    "changeme",
    "change-me",
    "your-secret",
    "your-256-bit-secret",
    "your-super-secret-jwt-key-change-in-production",
    "a-string-secret-at-least-256-bits-long",
    "super-secret-key-that-should-be-changed",
];

/// Notes problems when the node would listen beyond loopback with tokens that others could forge; returns
/// warnings for what is allowed.
pub(super) fn check(reader: &mut Reader<'_>, start: &StartConfig, live: &LiveConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let server = &start.server;
    let local = server.is_loopback();
    let newest = live
        .auth
        .jwt_secret
        .iter()
        .map(|secret| ("auth.jwt_secret", secret));
    let previous = live.auth.jwt_secret_previous.iter();
    let previous = previous.map(|secret| ("auth.jwt_secret_previous", secret));
    for (key, secret) in newest.chain(previous) {
        warnings.extend(check_secret(reader, server, key, secret.expose_secret()));
    }
    if live.auth.jwt_secret.is_none() && live.auth.jwks_file.is_none() && !local {
        reader.problem(
            "server.listen",
            "the server listens beyond this machine only with a configured token secret; set JWT_SECRET (or \
             JWT_SECRET_FILE, or auth.jwks_file), or listen on 127.0.0.1",
        );
    }
    if !local && !server.has_tls() && !server.insecure_listen {
        warnings.push(format!(
            "tokens and items travel unencrypted on {}; configure server.tls_cert and server.tls_key, or set \
             server.insecure_listen when a proxy ends TLS",
            server.listen
        ));
    }
    warnings
}

/// Notes a problem when others could guess `secret`; a warning when only this machine could try.
fn check_secret(reader: &mut Reader<'_>, server: &ServerConfig, key: &str, secret: &str) -> Option<String> {
    if secret.len() < SECRET_BYTES_MIN {
        reader.problem(
            key,
            format!(
                "has fewer than {SECRET_BYTES_MIN} bytes and could be guessed; set it to at least \
                 {SECRET_BYTES_MIN} random bytes, such as the output of `openssl rand -base64 48`, or leave it \
                 unset"
            ),
        );
        return None;
    }
    let weakness = weakness(secret)?;
    if server.is_loopback() {
        return Some(format!(
            "{key} {weakness}: fit for trying out on this machine only"
        ));
    }
    reader.problem(
        key,
        format!(
            "{weakness}, and the server would listen beyond this machine on {}; set it to at least \
             {SECRET_BYTES_MIN} random bytes, such as the output of `openssl rand -base64 48`",
            server.listen
        ),
    );
    None
}

fn weakness(secret: &str) -> Option<String> {
    if SAMPLES.contains(&secret.to_ascii_lowercase().as_str()) {
        return Some("is a well-known sample".to_owned());
    }
    let mut bytes = secret.bytes();
    if let Some(first) = bytes.next()
        && bytes.all(|byte| byte == first)
    {
        return Some("is one character repeated".to_owned());
    }
    None
}
