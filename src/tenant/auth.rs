//! Bearer tokens: from the text of a JWT to a [`Principal`], and from there to [`Authorised`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use jsonwebtoken::{Algorithm, Validation};
use parking_lot::RwLock;
use serde::Deserialize;

use super::keys::KeySet;
use crate::clock::Clock;
use crate::model::{Namespace, TopicKey, TopicName};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Largest difference between the clocks of issuer and server that may be tolerated.
pub const LEEWAY_MAX: Duration = Duration::from_secs(30);
/// How long a verified token is believed without looking again, in milliseconds.
const CACHE_MS: i64 = 60_000;
const CACHE_ENTRIES_MAX: usize = 10_000;
/// Longer tokens are verified each time, so that the cache stays within 20 MB.
const CACHE_TOKEN_BYTES_MAX: usize = 2 << 10;

/// Most words of a token's scope that hooks are told.
const WORDS_MAX: usize = 64;
/// Most bytes of them; what comes after is left out.
const WORDS_BYTES_MAX: usize = 2 << 10;

/// Why a token is not accepted. The public text says no more than a holder needs to get a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no bearer token.
    #[error("send a token in the Authorization header: Bearer <token>")]
    Missing,
    /// The text is no token this server reads.
    #[error("the token is malformed")]
    Malformed,
    /// No key in force made the signature with its own algorithm.
    #[error("the token's signature, algorithm or key id is not accepted")]
    Untrusted,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` or `iss` is not what this server asks for.
    #[error("the token is for another audience or by another issuer")]
    WrongParty,
    /// A required claim is missing or not of its type.
    #[error("the token must carry exp (seconds), namespaces (a list of names) and scope")]
    Claims,
}

/// A token is valid but does not reach this far. Unknown and foreign namespaces look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token does not open the namespace.
    #[error("the token does not open this namespace")]
    Namespace,
    /// The token does not open every namespace.
    #[error("this takes a token that opens every namespace")]
    Everything,
    /// The token lacks the scope.
    #[error("the token lacks the scope {0}")]
    Scope(&'static str),
}

/// What a token allows in its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Handing items in.
    Enqueue,
    /// Taking items out and settling them.
    Dequeue,
    /// Settings, pausing, purging, cancelling, redriving.
    Admin,
    /// Uploading and binding hooks.
    Hooks,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Enqueue, Self::Dequeue, Self::Admin, Self::Hooks];

    /// The scope's word in the claim `scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Admin => "admin",
            Self::Hooks => "hooks",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl std::str::FromStr for Scope {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or_else(|| format!("no scope {word:?}; the scopes are enqueue, dequeue, admin and hooks"))
    }
}

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The claim `sub`; empty when the token has none.
    pub subject: Arc<str>,
    /// Every word of the claim `scope`, those of other services included: hooks decide by them.
    pub words: Arc<[Box<str>]>,
    namespaces: Reach,
    scopes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    All,
    Listed(Vec<Namespace>),
}

/// Proof that a principal may act in a namespace: the only way from a request to a topic's key.
#[derive(Debug, Clone)]
pub struct Authorised {
    subject: Arc<str>,
    words: Arc<[Box<str>]>,
    namespace: Namespace,
}

impl Authorised {
    /// The namespace that is open.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Who acts.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// The words of the actor's scope.
    pub fn words(&self) -> &Arc<[Box<str>]> {
        &self.words
    }

    /// The key of `topic` in the open namespace.
    pub fn topic(&self, topic: TopicName) -> TopicKey {
        TopicKey::new(self.namespace.clone(), topic)
    }
}

impl Principal {
    /// A principal that never came from a token, for tests and offline tools.
    pub fn trusted(subject: &str, namespaces: Option<Vec<Namespace>>, scopes: &[Scope]) -> Self {
        Self {
            subject: subject.into(),
            words: scopes.iter().map(|scope| scope.as_str().into()).collect(),
            namespaces: namespaces.map_or(Reach::All, Reach::Listed),
            scopes: scopes.iter().fold(0, |bits, scope| bits | scope.bit()),
        }
    }

    /// Whether the token has `scope`.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes & scope.bit() != 0
    }

    /// Whether the token opens every namespace.
    pub fn opens_everything(&self) -> bool {
        self.namespaces == Reach::All
    }

    /// The namespaces the token lists; nothing when it opens every one.
    pub fn listed(&self) -> Option<&[Namespace]> {
        match &self.namespaces {
            Reach::All => None,
            Reach::Listed(list) => Some(list),
        }
    }

    /// Whether the token opens `namespace`, whatever it allows there.
    pub fn opens(&self, namespace: &Namespace) -> bool {
        match &self.namespaces {
            Reach::All => true,
            Reach::Listed(list) => list.contains(namespace),
        }
    }

    /// The right to act with `scope` in `namespace`.
    ///
    /// # Errors
    /// When the token does not open the namespace, whether or not it exists, or lacks the scope.
    pub fn authorise(&self, namespace: &Namespace, scope: Scope) -> Result<Authorised, Denied> {
        let authorised = self.enter(namespace)?;
        self.require(scope)?;
        Ok(authorised)
    }

    /// The right to look at `namespace`: any of `enqueue`, `dequeue` and `admin` gives it.
    ///
    /// # Errors
    /// When the token does not open the namespace, or has none of these scopes.
    pub fn authorise_reading(&self, namespace: &Namespace) -> Result<Authorised, Denied> {
        let authorised = self.enter(namespace)?;
        let reading = Scope::Enqueue.bit() | Scope::Dequeue.bit() | Scope::Admin.bit();
        if self.scopes & reading == 0 {
            return Err(Denied::Scope("enqueue, dequeue or admin"));
        }
        Ok(authorised)
    }

    /// Checks for a scope where the namespaces come later, as with leases.
    ///
    /// # Errors
    /// When the token lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.has(scope) {
            Ok(())
        } else {
            Err(Denied::Scope(scope.as_str()))
        }
    }

    fn enter(&self, namespace: &Namespace) -> Result<Authorised, Denied> {
        if !self.opens(namespace) {
            return Err(Denied::Namespace);
        }
        Ok(Authorised {
            subject: self.subject.clone(),
            words: self.words.clone(),
            namespace: namespace.clone(),
        })
    }
}

/// What a token must say beside being signed and current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthPolicy {
    /// The audience that `aud` must contain.
    pub audience: Option<String>,
    /// The issuer that `iss` must be.
    pub issuer: Option<String>,
    /// How far the clocks of issuer and server may differ; counts up to [`LEEWAY_MAX`].
    pub leeway: Duration,
}

impl Default for AuthPolicy {
    fn default() -> Self {
        Self {
            audience: None,
            issuer: None,
            leeway: LEEWAY_MAX,
        }
    }
}

impl AuthPolicy {
    fn leeway_s(&self) -> i64 {
        self.leeway.min(LEEWAY_MAX).as_secs() as i64
    }
}

/// Verifies tokens against the keys in force and remembers the verified ones for a while.
pub struct Authenticator {
    rules: ArcSwap<Rules>,
    epoch: AtomicU64,
    cache: RwLock<HashMap<Box<str>, Verified, foldhash::fast::RandomState>>,
    clock: Clock,
}

struct Rules {
    keys: KeySet,
    policy: AuthPolicy,
    epoch: u64,
}

struct Verified {
    principal: Arc<Principal>,
    until_ms: i64,
    epoch: u64,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authenticator({:?})", self.rules.load().keys)
    }
}

impl Authenticator {
    /// An authenticator for `keys`.
    pub fn new(keys: KeySet, policy: AuthPolicy, clock: Clock) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules {
                keys,
                policy,
                epoch: 0,
            }),
            epoch: AtomicU64::new(0),
            cache: RwLock::default(),
            clock,
        }
    }

    /// Puts other keys in force; every token is looked at anew.
    pub fn reload(&self, keys: KeySet, policy: AuthPolicy) {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        self.rules.store(Arc::new(Rules { keys, policy, epoch }));
        self.cache.write().clear();
    }

    /// The ids of the keys in force that have one, in order; they tell nothing of secrets.
    pub fn key_ids(&self) -> Vec<String> {
        self.rules.load().keys.ids()
    }

    /// Who the value of an `Authorization` header speaks for.
    ///
    /// # Errors
    /// Why the header carries no valid token.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Result<Arc<Principal>, AuthError> {
        let header = authorization.ok_or(AuthError::Missing)?;
        let (scheme, token) = header.split_at_checked(7).ok_or(AuthError::Missing)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(AuthError::Missing);
        }
        let token = std::str::from_utf8(token).map_err(|_| AuthError::Malformed)?;
        self.verify(token.trim_ascii())
    }

    /// Who `token` speaks for.
    ///
    /// # Errors
    /// Why the token is not valid now.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Malformed);
        }
        let now_ms = self.clock.now().ms();
        let rules = self.rules.load();
        if let Some(known) = self.cache.read().get(token)
            && known.epoch == rules.epoch
            && now_ms < known.until_ms
        {
            return Ok(known.principal.clone());
        }
        let claims = rules.check(token, now_ms / 1_000)?;
        let expires_ms = claims
            .exp
            .saturating_add(rules.policy.leeway_s())
            .saturating_mul(1_000);
        let principal = Arc::new(claims.into_principal()?);
        if token.len() <= CACHE_TOKEN_BYTES_MAX {
            self.remember(
                token,
                Verified {
                    principal: principal.clone(),
                    until_ms: expires_ms.min(now_ms + CACHE_MS),
                    epoch: rules.epoch,
                },
                now_ms,
            );
        }
        Ok(principal)
    }

    fn remember(&self, token: &str, verified: Verified, now_ms: i64) {
        let mut cache = self.cache.write();
        if cache.len() >= CACHE_ENTRIES_MAX {
            cache.retain(|_, known| now_ms < known.until_ms && known.epoch == verified.epoch);
            if cache.len() >= CACHE_ENTRIES_MAX {
                cache.clear();
            }
        }
        cache.insert(token.into(), verified);
    }
}

/// The header fields that decide; others, `jku`, `x5u` and `jwk` among them, are never looked at.
#[derive(Deserialize)]
struct TokenHeader {
    alg: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
    zip: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(deserialize_with = "numeric_date")]
    exp: i64,
    #[serde(default, deserialize_with = "optional_numeric_date")]
    nbf: Option<i64>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    aud: Option<OneOrMany>,
    #[serde(default)]
    iss: Option<String>,
    namespaces: Vec<String>,
    #[serde(default)]
    scope: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::One(text) => Box::new(text.split_ascii_whitespace()),
            Self::Many(list) => Box::new(list.iter().map(String::as_str)),
        }
    }
}

/// RFC 7519 allows fractions of a second.
fn numeric_date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds.is_finite() && (0.0..9e12).contains(&seconds) {
        Ok(seconds as i64)
    } else {
        Err(serde::de::Error::custom("not a date"))
    }
}

fn optional_numeric_date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    numeric_date(deserializer).map(Some)
}

impl Rules {
    fn check(&self, token: &str, now_s: i64) -> Result<Claims, AuthError> {
        let header = read_header(token)?;
        let keys = self.keys.candidates(header.kid.as_deref());
        let mut fitting = keys.iter().filter(|key| key.algorithm == header.alg).peekable();
        if fitting.peek().is_none() {
            return Err(AuthError::Untrusted);
        }
        let mut validation = Validation::new(header.alg);
        // Times, audience and issuer are judged below, by this server's own clock and rules.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims: Claims = fitting
            .find_map(|key| match jsonwebtoken::decode(token, &key.key, &validation) {
                Ok(data) => Some(Ok(data.claims)),
                Err(error) => match error.kind() {
                    jsonwebtoken::errors::ErrorKind::Json(_) => Some(Err(AuthError::Claims)),
                    _ => None,
                },
            })
            .unwrap_or(Err(AuthError::Untrusted))?;
        self.judge(&claims, now_s)?;
        Ok(claims)
    }

    fn judge(&self, claims: &Claims, now_s: i64) -> Result<(), AuthError> {
        if now_s >= claims.exp.saturating_add(self.policy.leeway_s()) {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now_s + self.policy.leeway_s()) {
            return Err(AuthError::NotYetValid);
        }
        if let Some(audience) = &self.policy.audience {
            let named = |aud: &OneOrMany| match aud {
                OneOrMany::One(one) => one == audience,
                OneOrMany::Many(many) => many.contains(audience),
            };
            if !claims.aud.as_ref().is_some_and(named) {
                return Err(AuthError::WrongParty);
            }
        }
        if self.policy.issuer.is_some() && claims.iss != self.policy.issuer {
            return Err(AuthError::WrongParty);
        }
        Ok(())
    }
}

/// Reads the header without touching the signature, so that nonsense costs nearly nothing.
fn read_header(token: &str) -> Result<TokenHeader, AuthError> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AuthError::Malformed);
    };
    if claims.is_empty() || signature.is_empty() || header.len() > 1_024 {
        return Err(AuthError::Malformed);
    }
    let json = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(header)
        .map_err(|_| AuthError::Malformed)?;
    let header: TokenHeader = serde_json::from_slice(&json).map_err(|_| AuthError::Malformed)?;
    let jwt = |typ: &String| typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt");
    if header.crit.is_some() || header.zip.is_some() || !header.typ.as_ref().is_none_or(jwt) {
        return Err(AuthError::Malformed);
    }
    Ok(header)
}

impl Claims {
    fn into_principal(self) -> Result<Principal, AuthError> {
        let namespaces = if self.namespaces.iter().any(|name| name == "*") {
            Reach::All
        } else {
            let names: Result<_, _> = self.namespaces.iter().map(|name| name.parse()).collect();
            Reach::Listed(names.map_err(|_| AuthError::Claims)?)
        };
        // Words of other services' scopes may stand beside ours.
        let all = || self.scope.iter().flat_map(OneOrMany::words);
        let scopes = all().filter_map(|word| word.parse::<Scope>().ok());
        let mut room = WORDS_BYTES_MAX;
        let words = all().take(WORDS_MAX).map_while(|word| {
            room = room.checked_sub(word.len())?;
            Some(word.into())
        });
        Ok(Principal {
            words: words.collect(),
            subject: self.sub.unwrap_or_default().into(),
            namespaces,
            scopes: scopes.fold(0, |bits, scope| bits | scope.bit()),
        })
    }
}

#[cfg(test)]
mod tests;
