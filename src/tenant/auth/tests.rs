mod keys;

use std::time::Duration;

use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;
use crate::tenant::keys::{MintClaims, mint};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: i64 = 1_800_000_000;

fn clock() -> Clock {
    Clock::manual(Timestamp::from_ms(NOW_S * 1_000))
}

fn authenticator(policy: AuthPolicy) -> (Authenticator, Clock) {
    let clock = clock();
    let keys = KeySet::default().with_secret(SECRET).unwrap();
    (Authenticator::new(keys, policy, clock.clone()), clock)
}

fn encode(part: &Value) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(part.to_string().as_bytes())
}

/// A token with any header and claims, signed as HS256 with `secret`.
fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret);
    let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{mac}")
}

fn claims() -> Value {
    json!({"sub": "tester", "namespaces": ["a", "b"], "scope": "enqueue dequeue other:word", "exp": NOW_S + 600})
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

fn without(field: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(field);
    claims
}

#[test]
fn every_word_of_the_scope_is_kept_within_bounds() {
    let (auth, _) = authenticator(AuthPolicy::default());
    let words = |scope: Value| -> Vec<String> {
        let token = signed(&hs256(), &with("scope", scope), SECRET);
        let principal = auth.verify(&token).unwrap();
        principal.words.iter().map(ToString::to_string).collect()
    };
    assert_eq!(words(json!("enqueue see:all")), ["enqueue", "see:all"]);
    assert_eq!(words(json!("w ".repeat(65))).len(), WORDS_MAX);
    let long = "w".repeat(1_500);
    assert_eq!(words(json!([long, long, "x"])), [long]);
}

fn hs256() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

fn header_with(field: &str, value: Value) -> Value {
    let mut header = hs256();
    header[field] = value;
    header
}

#[test]
fn a_sound_token_opens_its_namespaces_with_its_scopes() {
    let (auth, _) = authenticator(AuthPolicy::default());
    let token = signed(&hs256(), &claims(), SECRET);
    for _ in 0..2 {
        let header = format!("Bearer {token}");
        let principal = auth.authenticate(Some(header.as_bytes())).unwrap();
        assert_eq!(&*principal.subject, "tester");
        let a = "a".parse().unwrap();
        assert_eq!(principal.authorise(&a, Scope::Enqueue).unwrap().namespace(), &a);
        assert_eq!(
            principal.authorise(&a, Scope::Admin).unwrap_err(),
            Denied::Scope("admin")
        );
        let foreign = "c".parse().unwrap();
        assert_eq!(
            principal.authorise(&foreign, Scope::Admin).unwrap_err(),
            Denied::Namespace
        );
        assert!(!principal.opens_everything());
    }
    let many = signed(&hs256(), &with("scope", json!(["admin", "hooks"])), SECRET);
    assert!(auth.verify(&many).unwrap().has(Scope::Hooks));
    let star = signed(&hs256(), &with("namespaces", json!(["*"])), SECRET);
    assert!(auth.verify(&star).unwrap().opens_everything());
}

#[test]
fn hostile_tokens_are_refused() {
    let (auth, _) = authenticator(AuthPolicy::default());
    let good = signed(&hs256(), &claims(), SECRET);
    let parts: Vec<&str> = good.split('.').collect();
    let refused: Vec<(&str, String, AuthError)> = vec![
        ("empty", String::new(), AuthError::Malformed),
        ("one part", "abc".into(), AuthError::Malformed),
        (
            "two parts",
            format!("{}.{}", parts[0], parts[1]),
            AuthError::Malformed,
        ),
        ("four parts", format!("{good}.x"), AuthError::Malformed),
        (
            "no signature",
            format!("{}.{}.", parts[0], parts[1]),
            AuthError::Malformed,
        ),
        (
            "no claims",
            format!("{}..{}", parts[0], parts[2]),
            AuthError::Malformed,
        ),
        (
            "over 8 KiB",
            format!("{good}{}", "A".repeat(8 << 10)),
            AuthError::Malformed,
        ),
        (
            "header no base64",
            format!("!!.{}.{}", parts[1], parts[2]),
            AuthError::Malformed,
        ),
        (
            "header no JSON",
            format!("YWJj.{}.{}", parts[1], parts[2]),
            AuthError::Malformed,
        ),
        (
            "alg none",
            signed(&json!({"alg": "none"}), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "alg NoNe",
            signed(&json!({"alg": "NoNe"}), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "alg missing",
            signed(&json!({"typ": "JWT"}), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "alg lower case",
            signed(&json!({"alg": "hs256"}), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "alg RS256",
            signed(&json!({"alg": "RS256"}), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "alg HS512",
            signed(&json!({"alg": "HS512"}), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "alg HS384",
            signed(&json!({"alg": "HS384"}), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "alg EdDSA",
            signed(&json!({"alg": "EdDSA"}), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "crit",
            signed(&header_with("crit", json!(["x"])), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "zip",
            signed(&header_with("zip", json!("DEF")), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "typ JWE",
            signed(&header_with("typ", json!("JWE")), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "kid path",
            signed(&header_with("kid", json!("../../dev/null")), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "kid SQL",
            signed(&header_with("kid", json!("' or 1=1 --")), &claims(), SECRET),
            AuthError::Untrusted,
        ),
        (
            "kid number",
            signed(&header_with("kid", json!(7)), &claims(), SECRET),
            AuthError::Malformed,
        ),
        (
            "other secret",
            signed(&hs256(), &claims(), &[1; 32]),
            AuthError::Untrusted,
        ),
        (
            "empty secret",
            signed(&hs256(), &claims(), b""),
            AuthError::Untrusted,
        ),
        (
            "jku with a key of its own",
            signed(
                &header_with("jku", json!("http://127.0.0.1/")),
                &claims(),
                &[1; 32],
            ),
            AuthError::Untrusted,
        ),
        (
            "jwk with a key of its own",
            signed(
                &header_with("jwk", json!({"kty": "oct", "k": "AQEB"})),
                &claims(),
                &[1; 32],
            ),
            AuthError::Untrusted,
        ),
        (
            "signature cut",
            good[..good.len() - 1].into(),
            AuthError::Untrusted,
        ),
        (
            "claims swapped",
            format!(
                "{}.{}.{}",
                parts[0],
                encode(&with("namespaces", json!(["*"]))),
                parts[2]
            ),
            AuthError::Untrusted,
        ),
        (
            "no exp",
            signed(&hs256(), &without("exp"), SECRET),
            AuthError::Claims,
        ),
        (
            "exp text",
            signed(&hs256(), &with("exp", json!("never")), SECRET),
            AuthError::Claims,
        ),
        (
            "exp negative",
            signed(&hs256(), &with("exp", json!(-1)), SECRET),
            AuthError::Claims,
        ),
        (
            "exp huge",
            signed(&hs256(), &with("exp", json!(1e300)), SECRET),
            AuthError::Claims,
        ),
        (
            "expired",
            signed(&hs256(), &with("exp", json!(NOW_S - 31)), SECRET),
            AuthError::Expired,
        ),
        (
            "not yet",
            signed(&hs256(), &with("nbf", json!(NOW_S + 31)), SECRET),
            AuthError::NotYetValid,
        ),
        (
            "no namespaces",
            signed(&hs256(), &without("namespaces"), SECRET),
            AuthError::Claims,
        ),
        (
            "namespaces text",
            signed(&hs256(), &with("namespaces", json!("a")), SECRET),
            AuthError::Claims,
        ),
        (
            "namespace no name",
            signed(&hs256(), &with("namespaces", json!(["a/../b"])), SECRET),
            AuthError::Claims,
        ),
        (
            "claims no object",
            signed(&hs256(), &json!([1]), SECRET),
            AuthError::Claims,
        ),
    ];
    assert!(refused.len() >= 25);
    for (name, token, error) in refused {
        assert_eq!(auth.verify(&token), Err(error), "{name}");
        // Asking again must not be answered from the cache either.
        assert_eq!(auth.verify(&token), Err(error), "{name} again");
    }
}

#[test]
fn only_bearer_headers_are_read() {
    let (auth, _) = authenticator(AuthPolicy::default());
    let token = signed(&hs256(), &claims(), SECRET);
    assert_eq!(auth.authenticate(None), Err(AuthError::Missing));
    for header in ["", "Basic abc", &token, "Bearer"] {
        assert_eq!(
            auth.authenticate(Some(header.as_bytes())),
            Err(AuthError::Missing),
            "{header}"
        );
    }
    assert_eq!(
        auth.authenticate(Some(b"Bearer \xff\xfe")),
        Err(AuthError::Malformed)
    );
    assert!(
        auth.authenticate(Some(format!("bearer {token}").as_bytes()))
            .is_ok()
    );
}

#[test]
fn a_cached_token_still_expires_and_a_reload_forgets_it() {
    let (auth, clock) = authenticator(AuthPolicy::default());
    let token = signed(&hs256(), &with("exp", json!(NOW_S + 10)), SECRET);
    assert!(auth.verify(&token).is_ok());
    clock.advance(39_000);
    assert!(auth.verify(&token).is_ok());
    clock.advance(1_000);
    assert_eq!(auth.verify(&token), Err(AuthError::Expired));

    let token = signed(&hs256(), &claims(), SECRET);
    assert!(auth.verify(&token).is_ok());
    let both = KeySet::default()
        .with_secret(&[9; 32])
        .unwrap()
        .with_secret(SECRET)
        .unwrap();
    auth.reload(both, AuthPolicy::default());
    assert!(auth.verify(&token).is_ok());
    auth.reload(
        KeySet::default().with_secret(&[9; 32]).unwrap(),
        AuthPolicy::default(),
    );
    assert_eq!(auth.verify(&token), Err(AuthError::Untrusted));
}

#[test]
fn audience_and_issuer_are_asked_for_when_configured() {
    let (auth, _) = authenticator(AuthPolicy {
        audience: Some("mqueue".into()),
        issuer: Some("us".into()),
        ..AuthPolicy::default()
    });
    for (aud, iss, fits) in [
        (json!("mqueue"), json!("us"), true),
        (json!(["x", "mqueue"]), json!("us"), true),
        (json!("mqueue x"), json!("us"), false),
        (json!(null), json!("us"), false),
        (json!("mqueue"), json!("them"), false),
        (json!("mqueue"), json!(null), false),
    ] {
        let mut claims = with("aud", aud.clone());
        claims["iss"] = iss.clone();
        let verdict = auth.verify(&signed(&hs256(), &claims, SECRET));
        assert_eq!(verdict.is_ok(), fits, "{aud} {iss}");
    }
}

#[test]
fn the_cache_is_bounded() {
    let (auth, _) = authenticator(AuthPolicy::default());
    for n in 0..CACHE_ENTRIES_MAX as i64 + 10 {
        auth.verify(&signed(&hs256(), &with("iat", json!(n)), SECRET))
            .unwrap();
    }
    assert!(auth.cache.read().len() <= CACHE_ENTRIES_MAX);
}

#[test]
fn minted_tokens_are_accepted() {
    let (auth, clock) = authenticator(AuthPolicy::default());
    let minted = MintClaims {
        subject: "dev".into(),
        namespaces: None,
        scopes: Scope::ALL.to_vec(),
        audience: None,
        issuer: None,
    };
    let token = mint(SECRET, &minted, clock.now(), Duration::from_secs(60)).unwrap();
    let principal = auth.verify(&token).unwrap();
    assert_eq!(*principal, Principal::trusted("dev", None, &Scope::ALL));
}

#[test]
fn a_public_key_token_is_verified_by_its_key_id() {
    // The example key and signature of RFC 8037, appendix A.
    let jwks = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"rfc","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let keys = KeySet::default()
        .with_jwks(jwks)
        .unwrap()
        .with_secret(SECRET)
        .unwrap();
    let auth = Authenticator::new(keys, AuthPolicy::default(), clock());
    // An HMAC made with the public key's own text must not pass as its signature.
    let confused = signed(
        &header_with("kid", json!("rfc")),
        &claims(),
        b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    );
    assert_eq!(auth.verify(&confused), Err(AuthError::Untrusted));
    let document = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = base64_simd::URL_SAFE_NO_PAD.encode_to_string(document.public_key_raw());
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"new","x":"{x}"}}]}}"#);
    auth.reload(KeySet::default().with_jwks(&jwks).unwrap(), AuthPolicy::default());
    let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
    header.kid = Some("new".into());
    let key = EncodingKey::from_ed_pem(document.serialize_pem().as_bytes()).unwrap();
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert_eq!(&*auth.verify(&token).unwrap().subject, "tester");
}
