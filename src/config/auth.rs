//! Section `[auth]`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// Which tokens are accepted.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Secret that signs HS256 tokens, when one is configured; see [`super::JwtSecret`] for when none is.
    pub jwt_secret: Option<SecretString>,
    /// Secrets of before: tokens signed with them are still accepted. The newest comes first.
    pub jwt_secret_previous: Vec<SecretString>,
    /// File with public keys of RS256, ES256 and EdDSA tokens.
    pub jwks_file: Option<PathBuf>,
    /// Its text.
    pub jwks: Option<String>,
    /// Required `aud`.
    pub audience: Option<String>,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Tolerated difference between clocks.
    pub leeway: Duration,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut config = Self {
            jwt_secret: reader.secret("auth.jwt_secret"),
            jwt_secret_previous: reader.secrets("auth.jwt_secret_previous"),
            jwks_file: reader.path("auth.jwks_file"),
            jwks: None,
            audience: reader.text("auth.audience"),
            issuer: reader.text("auth.issuer"),
            leeway: reader.duration("auth.leeway", Duration::ZERO..=Duration::from_secs(30)),
        };
        match config.jwks_file.as_ref().map(std::fs::read_to_string) {
            Some(Ok(text)) => config.jwks = Some(text),
            Some(Err(error)) => reader.problem("auth.jwks_file", format!("cannot be read: {error}")),
            None => {}
        }
        config
    }

    /// Every configured secret, the newest first.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        self.jwt_secret.iter().chain(&self.jwt_secret_previous)
    }
}
