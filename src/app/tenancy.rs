//! What the configuration says of tenants, as the parts that decide about them take it.

use crate::config::{AuthConfig, JwtSecret, QuotasConfig};
use crate::tenant::{AuthPolicy, KeySet, QuotaTable};

use super::StartError;

/// The keys that tokens are verified with.
pub(super) fn keys(auth: &AuthConfig, secret: &JwtSecret) -> Result<KeySet, StartError> {
    let setting = |key, detail: String| StartError::Setting { key, detail };
    let mut keys = KeySet::default();
    // With public keys configured and no secret, the generated one only authenticates lease ids.
    let has_secret = secret.generated.is_none() || auth.jwks_file.is_none();
    let secrets = secret.all().skip(usize::from(!has_secret));
    for secret in secrets {
        keys = keys
            .with_secret(secret)
            .map_err(|error| setting("auth.jwt_secret", error.to_string()))?;
    }
    if let Some(text) = &auth.jwks {
        keys = keys
            .with_jwks(text)
            .map_err(|error| setting("auth.jwks_file", error.to_string()))?;
    }
    Ok(keys)
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
