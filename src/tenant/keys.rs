//! Keys that verify tokens, each pinned to one algorithm, and the minting of development tokens.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::auth::Scope;
use crate::clock::Timestamp;
use crate::model::Namespace;

/// Shortest HMAC secret, in bytes: as long as the hash it feeds.
pub const SECRET_BYTES_MIN: usize = 32;
/// Bytes of a secret's key id before they are written as text.
const KID_BYTES: usize = 9;
/// Most keys without a key id: each of them is tried on a token that names none.
pub const NAMELESS_KEYS_MAX: usize = 8;

/// Why keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An HMAC secret is too short to resist guessing.
    #[error("a token secret must be at least {SECRET_BYTES_MIN} bytes long, this one has {0}")]
    SecretTooShort(usize),
    /// There are too many keys without a key id.
    #[error("at most {NAMELESS_KEYS_MAX} keys may lack a kid; each is tried on every token without one")]
    TooManyNamelessKeys,
    /// Two keys carry the same key id.
    #[error("two keys have the kid {0:?}")]
    DuplicateKid(String),
    /// The text is not a JSON web key set.
    #[error("not a JSON web key set: {0}")]
    Syntax(String),
    /// A key in the set is of a kind that is not supported.
    #[error("key {index} of the set is not an HS256, RS256, ES256 or EdDSA verification key: {detail}")]
    Unsupported {
        /// The key's place in the set, from 0.
        index: usize,
        /// What is wrong with it.
        detail: String,
    },
    /// The signing of a new token failed.
    #[error("the token could not be signed")]
    Signing,
}

/// One verification key and the one algorithm it is for.
pub(super) struct PinnedKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The keys in force; swapped as a whole on reload.
#[derive(Default)]
pub struct KeySet {
    named: HashMap<String, PinnedKey>,
    nameless: Vec<PinnedKey>,
    ignored: Vec<KeyError>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KeySet({} named, {} nameless)",
            self.named.len(),
            self.nameless.len()
        )
    }
}

impl KeySet {
    /// Adds an HS256 secret, for tokens that name it and for those that name no key. Several may be in force at
    /// once, so that a secret can be rotated.
    ///
    /// # Errors
    /// When the secret is shorter than [`SECRET_BYTES_MIN`] or there are too many keys without an id.
    pub fn with_secret(mut self, secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        for kid in [None, Some(kid_of(secret))] {
            self.add(
                kid,
                PinnedKey {
                    algorithm: Algorithm::HS256,
                    key: DecodingKey::from_secret(secret),
                },
            )?;
        }
        Ok(self)
    }

    /// Adds the keys of a JSON web key set (RFC 7517), given as its text. Those that cannot verify tokens here are
    /// passed over, as its section 5 has it: sets are often shared with other uses.
    ///
    /// # Errors
    /// When the text is no key set, no key in it can be used, or two have one name.
    pub fn with_jwks(mut self, text: &str) -> Result<Self, KeyError> {
        let set: Set = serde_json::from_str(text).map_err(|e| KeyError::Syntax(e.to_string()))?;
        let mut ignored = Vec::new();
        let mut used = 0;
        for (index, jwk) in set.keys.into_iter().enumerate() {
            match usable(index, jwk) {
                Ok((name, key)) => {
                    self.add(name, key)?;
                    used += 1;
                }
                Err(error) => ignored.push(error),
            }
        }
        if used == 0 && !ignored.is_empty() {
            return Err(ignored.swap_remove(0));
        }
        self.ignored.extend(ignored);
        Ok(self)
    }

    /// Why keys of the set were passed over.
    pub fn ignored(&self) -> &[KeyError] {
        &self.ignored
    }

    /// Whether no key is in force, so that no token can be valid.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.nameless.is_empty()
    }

    /// The ids of the keys that have one, in order. They tell nothing of secrets.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.named.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// The keys to try on a token: the one it names, or all that have no name.
    pub(super) fn candidates(&self, kid: Option<&str>) -> &[PinnedKey] {
        match kid {
            Some(kid) => self.named.get(kid).map_or(&[], std::slice::from_ref),
            None => &self.nameless,
        }
    }

    fn add(&mut self, kid: Option<String>, key: PinnedKey) -> Result<(), KeyError> {
        match kid {
            Some(kid) if self.named.contains_key(&kid) => return Err(KeyError::DuplicateKid(kid)),
            Some(kid) => {
                self.named.insert(kid, key);
            }
            None if self.nameless.len() >= NAMELESS_KEYS_MAX => return Err(KeyError::TooManyNamelessKeys),
            None => self.nameless.push(key),
        }
        Ok(())
    }
}

/// A JSON web key set whose keys may be of kinds that nobody here knows.
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The key at `index` of a set, with its name where it has one.
fn usable(index: usize, jwk: serde_json::Value) -> Result<(Option<String>, PinnedKey), KeyError> {
    let unsupported = |detail: &str| KeyError::Unsupported {
        index,
        detail: detail.to_owned(),
    };
    // What serde says of a field may repeat it, and a symmetric key is a secret.
    let jwk: Jwk =
        serde_json::from_value(jwk).map_err(|_| unsupported("its type is unknown or a member missing"))?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err(unsupported("its use is not \"sig\""));
    }
    let algorithm = pinned_algorithm(&jwk).map_err(unsupported)?;
    if algorithm == Algorithm::HS256 {
        check_oct(&jwk)?;
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| unsupported("its numbers are not readable"))?;
    Ok((jwk.common.key_id, PinnedKey { algorithm, key }))
}

/// The key id of tokens that are signed with `secret`. It tells secrets apart and nothing about them.
fn kid_of(secret: &[u8]) -> String {
    let id = blake3::derive_key("mqueue 2026 key id of a token secret", secret);
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(&id[..KID_BYTES])
}

fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    if secret.len() < SECRET_BYTES_MIN {
        Err(KeyError::SecretTooShort(secret.len()))
    } else {
        Ok(())
    }
}

fn check_oct(jwk: &Jwk) -> Result<(), KeyError> {
    let AlgorithmParameters::OctetKey(oct) = &jwk.algorithm else {
        return Ok(());
    };
    let secret = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(&oct.value)
        .map_err(|_| KeyError::Syntax("an oct key is not base64url".to_owned()))?;
    check_secret(&secret)
}

/// The one algorithm a key is for: by its type, and its own `alg` must agree.
fn pinned_algorithm(jwk: &Jwk) -> Result<Algorithm, &'static str> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return Err("its type or curve is unknown"),
    };
    match jwk.common.key_algorithm {
        None => Ok(algorithm),
        Some(alg) if alg == named => Ok(algorithm),
        Some(_) => Err("its alg does not fit its type"),
    }
}

/// What a minted token says.
#[derive(Debug, Clone)]
pub struct MintClaims {
    /// Who holds the token.
    pub subject: String,
    /// Namespaces it opens; none stands for all of them (`*`).
    pub namespaces: Option<Vec<Namespace>>,
    /// What it allows there.
    pub scopes: Vec<Scope>,
    /// The audience, when the server asks for one.
    pub audience: Option<String>,
    /// The issuer, when the server asks for one.
    pub issuer: Option<String>,
}

#[derive(Serialize)]
struct WireClaims<'a> {
    sub: &'a str,
    namespaces: Vec<&'a str>,
    scope: String,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

/// An HS256 token with the secret's key id that is valid from `now` for `ttl`.
///
/// # Errors
/// When the secret is shorter than [`SECRET_BYTES_MIN`].
pub fn mint(secret: &[u8], claims: &MintClaims, now: Timestamp, ttl: Duration) -> Result<String, KeyError> {
    check_secret(secret)?;
    let issued = now.ms() / 1_000;
    let scopes: Vec<&str> = claims.scopes.iter().map(|scope| scope.as_str()).collect();
    let wire = WireClaims {
        sub: &claims.subject,
        namespaces: match &claims.namespaces {
            None => vec!["*"],
            Some(list) => list.iter().map(Namespace::as_str).collect(),
        },
        scope: scopes.join(" "),
        iat: issued,
        exp: issued.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        aud: claims.audience.as_deref(),
        iss: claims.issuer.as_deref(),
    };
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid_of(secret));
    jsonwebtoken::encode(&header, &wire, &EncodingKey::from_secret(secret)).map_err(|_| KeyError::Signing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secrets_are_refused_everywhere() {
        let error = KeyError::SecretTooShort(31);
        assert_eq!(KeySet::default().with_secret(&[7; 31]).unwrap_err(), error);
        let oct = base64_simd::URL_SAFE_NO_PAD.encode_to_string([7; 31]);
        let jwks = format!(r#"{{"keys":[{{"kty":"oct","k":"{oct}","alg":"HS256"}}]}}"#);
        assert_eq!(KeySet::default().with_jwks(&jwks).unwrap_err(), error);
        assert!(KeySet::default().with_secret(&[7; 32]).is_ok());
    }

    #[test]
    fn a_key_set_pins_one_algorithm_per_key() {
        let ed =
            r#"{"kty":"OKP","crv":"Ed25519","kid":"e","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let keys = KeySet::default()
            .with_jwks(&format!(r#"{{"keys":[{ed}]}}"#))
            .unwrap();
        assert_eq!(keys.candidates(Some("e"))[0].algorithm, Algorithm::EdDSA);
        assert!(keys.candidates(None).is_empty());
        // What is of no use here is passed over, as long as something is left.
        let shared = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"enc","x":"AA"}},{{"kty":"AKP","alg":"ML-DSA-44"}},{ed}]}}"#
        );
        let keys = KeySet::default().with_jwks(&shared).unwrap();
        assert_eq!((keys.ids(), keys.ignored().len()), (vec!["e".to_owned()], 2));
        let twice = KeySet::default().with_jwks(&format!(r#"{{"keys":[{ed},{ed}]}}"#));
        assert_eq!(twice.unwrap_err(), KeyError::DuplicateKid("e".into()));
    }

    #[test]
    fn a_key_whose_alg_does_not_fit_its_type_is_refused() {
        let confused = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"HS256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let error = KeySet::default().with_jwks(confused).unwrap_err();
        assert!(matches!(error, KeyError::Unsupported { index: 0, .. }), "{error}");
        assert!(matches!(
            KeySet::default().with_jwks("[]"),
            Err(KeyError::Syntax(_))
        ));
    }
}
