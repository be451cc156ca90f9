//! Section `[auth]`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// Which tokens are accepted.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Secret of HS256 tokens, when one is configured; see [`super::JwtSecret`] for when none is.
    pub jwt_secret: Option<SecretString>,
    /// File with public keys of RS256, ES256 and EdDSA tokens.
    pub jwks_file: Option<PathBuf>,
    /// Required `aud`.
    pub audience: Option<String>,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Tolerated difference between clocks.
    pub leeway: Duration,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            jwt_secret: reader.secret("auth.jwt_secret"),
            jwks_file: reader.path("auth.jwks_file"),
            audience: reader.text("auth.audience"),
            issuer: reader.text("auth.issuer"),
            leeway: reader.duration("auth.leeway", Duration::ZERO..=Duration::from_secs(30)),
        };
        if let Some(Err(error)) = config.jwks_file.as_ref().map(std::fs::File::open) {
            reader.problem("auth.jwks_file", format!("cannot be read: {error}"));
        }
        config
    }
}
