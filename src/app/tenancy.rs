//! What the configuration says of tenants, as the parts that decide about them take it.

use crate::config::{AuthConfig, Config, JwtSecret, QuotasConfig};
use crate::tenant::{AuthPolicy, KeySet, QuotaTable};

use super::StartError;

/// The keys that tokens are verified with.
pub(super) fn keys(auth: &AuthConfig, secret: &JwtSecret) -> Result<KeySet, StartError> {
    let mut keys = KeySet::default();
    // With public keys configured and no secret, the generated one only authenticates lease ids.
    let has_secret = secret.generated.is_none() || auth.jwks_file.is_none();
    let secrets = secret.all().skip(usize::from(!has_secret));
    for secret in secrets {
        keys = keys.with_secret(secret).map_err(|error| StartError::Setting {
            key: "auth.jwt_secret",
            detail: error.to_string(),
        })?;
    }
    if let Some(text) = &auth.jwks {
        keys = with_jwks(keys, text)?;
    }
    Ok(keys)
}

/// Says which keys of the file are passed over.
pub(super) fn tell_of_ignored(keys: &KeySet) {
    for warning in warnings(keys) {
        tracing::warn!("{warning}");
    }
}

/// Checks the keys that a node would verify tokens with under `config`, making none; returns what is worth a
/// warning.
///
/// # Errors
/// When the node would not start because of them.
pub fn check_keys(config: &Config) -> Result<Vec<String>, StartError> {
    let Some(secret) = JwtSecret::find(config)? else {
        // One is made at the start, which is fine in itself.
        let nothing = KeySet::default();
        let keys = match &config.live.auth.jwks {
            Some(text) => with_jwks(nothing, text)?,
            None => nothing,
        };
        return Ok(warnings(&keys));
    };
    Ok(warnings(&keys(&config.live.auth, &secret)?))
}

fn warnings(keys: &KeySet) -> Vec<String> {
    let warning =
        |reason: &crate::tenant::KeyError| format!("auth.jwks_file: a key is passed over: {reason}");
    keys.ignored().iter().map(warning).collect()
}

fn with_jwks(keys: KeySet, text: &str) -> Result<KeySet, StartError> {
    keys.with_jwks(text).map_err(|error| StartError::Setting {
        key: "auth.jwks_file",
        detail: error.to_string(),
    })
}

/// What tokens must say.
pub(super) fn policy(auth: &AuthConfig) -> AuthPolicy {
    AuthPolicy {
        audience: auth.audience.clone(),
        issuer: auth.issuer.clone(),
        leeway: auth.leeway,
    }
}

/// The configuration's quotas.
pub(super) fn quota_table(quotas: &QuotasConfig) -> QuotaTable {
    QuotaTable {
        default: quotas.default,
        namespaces: quotas.namespaces.clone().into_iter().collect(),
    }
}
