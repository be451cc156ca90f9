//! Keys: their rotation, one algorithm each, and texts that could be read in two ways.

use super::*;

#[test]
fn secrets_rotate_without_a_gap() {
    let (old, new) = (SECRET, &[9; 32][..]);
    let keys = |secrets: &[&[u8]]| {
        let add = |keys: KeySet, secret: &&[u8]| keys.with_secret(secret).unwrap();
        secrets.iter().fold(KeySet::default(), add)
    };
    let auth = Authenticator::new(keys(&[old]), AuthPolicy::default(), clock());
    let minted = |secret: &[u8]| {
        let claims = MintClaims {
            subject: "dev".into(),
            namespaces: None,
            scopes: vec![Scope::Enqueue],
            audience: None,
            issuer: None,
        };
        mint(
            secret,
            &claims,
            Timestamp::from_ms(NOW_S * 1_000),
            Duration::from_secs(600),
        )
        .unwrap()
    };
    let (before, after, nameless) = (minted(old), minted(new), signed(&hs256(), &claims(), old));
    let accepted =
        |auth: &Authenticator| [&before, &after, &nameless].map(|token| auth.verify(token).is_ok());
    assert_eq!(accepted(&auth), [true, false, true]);
    auth.reload(keys(&[new, old]), AuthPolicy::default());
    assert_eq!(accepted(&auth), [true, true, true]);
    auth.reload(keys(&[new]), AuthPolicy::default());
    assert_eq!(accepted(&auth), [false, true, false]);
    // The key id picks the key: with another one's, a good signature counts for nothing.
    let kid = |token: &str| {
        let head = base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(token.split('.').next().unwrap())
            .unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["kid"].clone()
    };
    auth.reload(keys(&[new, old]), AuthPolicy::default());
    assert_ne!(kid(&before), kid(&after));
    let swapped = signed(&header_with("kid", kid(&after)), &claims(), old);
    assert_eq!(auth.verify(&swapped), Err(AuthError::Untrusted));
}

/// A token whose header and claims are these very texts, signed as HS256 with the good secret.
fn signed_text(header: &str, claims: &str) -> String {
    let part = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text.as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET);
    let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{mac}")
}

#[test]
fn parts_that_could_be_read_in_two_ways_are_refused() {
    let (auth, _) = authenticator(AuthPolicy::default());
    let (header, claims) = (hs256().to_string(), claims().to_string());
    assert!(auth.verify(&signed_text(&header, &claims)).is_ok());
    let twice = |field: &str, first: &str, json: &str| format!("{{\"{field}\":{first},{}", &json[1..]);
    for (name, token, error) in [
        (
            "alg twice",
            signed_text(&twice("alg", "\"none\"", &header), &claims),
            AuthError::Malformed,
        ),
        (
            "exp twice",
            signed_text(&header, &twice("exp", "9000000000", &claims)),
            AuthError::Claims,
        ),
        (
            "namespaces twice",
            signed_text(&header, &twice("namespaces", "[\"*\"]", &claims)),
            AuthError::Claims,
        ),
        (
            "scope twice",
            signed_text(&header, &twice("scope", "\"admin\"", &claims)),
            AuthError::Claims,
        ),
        (
            "text behind the header",
            signed_text(&format!("{header}{{}}"), &claims),
            AuthError::Malformed,
        ),
        (
            "text behind the claims",
            signed_text(&header, &format!("{claims} {{}}")),
            AuthError::Claims,
        ),
        (
            "a header of 2 KiB",
            signed_text(
                &twice("x", &format!("\"{}\"", "x".repeat(2_048)), &header),
                &claims,
            ),
            AuthError::Malformed,
        ),
    ] {
        assert_eq!(auth.verify(&token), Err(error), "{name}");
    }
    // What says where else a key might be found is passed over, whoever asks for it.
    for (field, value) in [
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/keys")),
        ("jwk", json!({"kty": "oct", "k": "AQEB"})),
        ("x5c", json!(["AQEB"])),
    ] {
        let token = signed(&header_with(field, value), &super::claims(), SECRET);
        assert!(auth.verify(&token).is_ok(), "{field}");
    }
}

/// A key pair with its public half as a JSON web key.
fn pair(algorithm: Algorithm, kid: &str) -> (EncodingKey, Value) {
    let url = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    match algorithm {
        Algorithm::ES256 => {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            // An uncompressed point: 4, then both coordinates.
            let point = pair.public_key_raw();
            let (x, y) = (url(&point[1..33]), url(&point[33..]));
            let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y, "alg": "ES256"});
            (
                EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
                jwk,
            )
        }
        Algorithm::RS256 => {
            let pair =
                rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
            let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
            let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
            let mut jwk = serde_json::to_value(jwk).unwrap();
            jwk["kid"] = kid.into();
            (key, jwk)
        }
        _ => {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": url(pair.public_key_raw())});
            (
                EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap(),
                jwk,
            )
        }
    }
}

fn signed_as(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    let mut header = jsonwebtoken::Header::new(algorithm);
    header.kid = Some(kid.into());
    jsonwebtoken::encode(&header, &claims(), key).unwrap()
}

#[test]
fn every_public_key_verifies_its_own_algorithm_and_no_other() {
    let kinds = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let pairs = kinds.map(|kind| (kind, pair(kind, &format!("{kind:?}"))));
    let public: Vec<_> = pairs.iter().map(|(_, (_, jwk))| jwk.clone()).collect();
    let keys = KeySet::default()
        .with_jwks(&json!({ "keys": public }).to_string())
        .unwrap();
    let auth = Authenticator::new(keys.with_secret(SECRET).unwrap(), AuthPolicy::default(), clock());
    for (kind, (key, _)) in &pairs {
        assert!(
            auth.verify(&signed_as(*kind, &format!("{kind:?}"), key)).is_ok(),
            "{kind:?}"
        );
        for other in kinds.into_iter().filter(|other| other != kind) {
            let stolen = signed_as(*kind, &format!("{other:?}"), key);
            assert_eq!(
                auth.verify(&stolen),
                Err(AuthError::Untrusted),
                "{kind:?} as {other:?}"
            );
        }
        let nameless = jsonwebtoken::encode(&jsonwebtoken::Header::new(*kind), &claims(), key).unwrap();
        assert_eq!(
            auth.verify(&nameless),
            Err(AuthError::Untrusted),
            "{kind:?} without a kid"
        );
        // A MAC made with what everyone may know of the key.
        for (_, jwk) in pairs.iter().map(|(_, pair)| pair) {
            let known = jwk.to_string();
            let forged = signed(
                &header_with("kid", jwk["kid"].clone()),
                &claims(),
                known.as_bytes(),
            );
            assert_eq!(auth.verify(&forged), Err(AuthError::Untrusted));
        }
    }
    // The file changes: who signed with a key that left it is out.
    let one = json!({ "keys": [public[1]] }).to_string();
    auth.reload(KeySet::default().with_jwks(&one).unwrap(), AuthPolicy::default());
    let valid = pairs
        .each_ref()
        .map(|(kind, (key, _))| auth.verify(&signed_as(*kind, &format!("{kind:?}"), key)).is_ok());
    assert_eq!(valid, [false, true, false]);
}
