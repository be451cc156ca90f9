//! Certificates: from PEM files, or made at start-up.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::{ListenError, Tls};

/// The acceptor for `tls`, nothing when connections are not encrypted.
///
/// # Errors
/// When the certificate or its key cannot be read or do not belong together.
pub(super) fn acceptor(tls: &Tls, address: IpAddr) -> Result<Option<TlsAcceptor>, ListenError> {
    let (chain, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key } => {
            let unreadable = |path: &std::path::Path, error: rustls::pki_types::pem::Error| {
                ListenError::Tls(format!("{}: {error}", path.display()))
            };
            let chain: Result<Vec<CertificateDer<'static>>, _> =
                CertificateDer::pem_file_iter(cert).and_then(|certificates| certificates.collect());
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
            (chain.map_err(|error| unreadable(cert, error))?, key_der)
        }
        Tls::SelfSigned => self_signed(address)?,
    };
    let failed = |error: rustls::Error| ListenError::Tls(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(failed)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(address: IpAddr) -> Result<Credentials, ListenError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let own = address.to_string();
    if !address.is_unspecified() && !names.contains(&own) {
        names.push(own);
    }
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|error| ListenError::Tls(error.to_string()))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}
