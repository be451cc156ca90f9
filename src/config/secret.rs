//! The secret that tokens are checked with when none is configured: made once, kept in the data
//! directory.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;
use secrecy::{ExposeSecret, SecretString};

use super::{Config, ConfigError};

const FILE: &str = "jwt_secret";
const RANDOM_BYTES: usize = 48;

/// The node's own secret: tokens by HS256 are signed with it, lease ids are derived from it.
#[derive(Debug, Clone)]
pub struct JwtSecret {
    /// The secret.
    pub secret: SecretString,
    /// Secrets of before that are still accepted, the newest first.
    pub previous: Vec<SecretString>,
    /// The file it was generated into; none when it is configured.
    pub generated: Option<PathBuf>,
}

impl JwtSecret {
    /// The configured secret, else the one in the data directory, which is made when it is not there yet.
    ///
    /// Fails when the data directory cannot be read or written.
    pub fn obtain(config: &Config) -> Result<Self, ConfigError> {
        if let Some(found) = Self::find(config)? {
            return Ok(found);
        }
        let path = path(config);
        create(&path).map_err(|error| failure(&path, &error))?;
        // Another process may have been first: what is in the file now is the secret of both.
        Self::find(config)?.ok_or_else(|| failure(&path, &io::ErrorKind::NotFound.into()))
    }

    /// The configured secret, else the one in the data directory when there is one.
    pub fn find(config: &Config) -> Result<Option<Self>, ConfigError> {
        if let Some(secret) = &config.live.auth.jwt_secret {
            return Ok(Some(Self {
                secret: secret.clone(),
                previous: config.live.auth.jwt_secret_previous.clone(),
                generated: None,
            }));
        }
        let path = path(config);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= RANDOM_BYTES => Ok(Some(Self {
                secret: text.trim().into(),
                previous: config.live.auth.jwt_secret_previous.clone(),
                generated: Some(path),
            })),
            Ok(_) => Err(ConfigError::Secret {
                path,
                reason: "the file is too short to be one; remove it to have a new one made".to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure(&path, &error)),
        }
    }

    /// The newest secret's bytes, for signing.
    pub fn bytes(&self) -> &[u8] {
        self.secret.expose_secret().as_bytes()
    }

    /// The oldest secret's bytes, for deriving: what was made before a secret was replaced stays good for as
    /// long as the old one is accepted.
    pub fn oldest(&self) -> &[u8] {
        let oldest = self.previous.last().unwrap_or(&self.secret);
        oldest.expose_secret().as_bytes()
    }

    /// Every secret's bytes, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        let secrets = std::iter::once(&self.secret).chain(&self.previous);
        secrets.map(|secret| secret.expose_secret().as_bytes())
    }
}

fn path(config: &Config) -> PathBuf {
    config.start.storage.data_dir.join(FILE)
}

fn failure(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::Secret {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

/// Writes a new secret under another name and links it into place, so that nobody reads half of it and
/// the first of two processes wins.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut random = [0; RANDOM_BYTES];
    rand::rng().fill_bytes(&mut random);
    let text = base64_simd::URL_SAFE_NO_PAD.encode_to_string(random);
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Inputs, load};

    fn config_in(folder: &Path, more: &[(&str, &str)]) -> Config {
        let own = [("MQUEUE_DATA_DIR", folder.to_str().unwrap())];
        let environment = own
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).into(), (*value).into()));
        load(&Inputs {
            environment: environment.collect(),
            ..Inputs::default()
        })
        .unwrap()
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(&folder.path().join("data"), &[]);
        assert!(JwtSecret::find(&config).unwrap().is_none());
        let first = JwtSecret::obtain(&config).unwrap();
        let again = JwtSecret::obtain(&config).unwrap();
        assert_eq!(first.bytes(), again.bytes());
        assert_eq!(first.bytes().len(), 64);
        let file = first.generated.unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_configured_secret_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(
            folder.path(),
            &[("JWT_SECRET", "0123456789abcdef0123456789abcdef")],
        );
        let secret = JwtSecret::obtain(&config).unwrap();
        assert_eq!(secret.bytes(), b"0123456789abcdef0123456789abcdef");
        assert_eq!(secret.generated, None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cut_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "short").unwrap();
        assert!(JwtSecret::obtain(&config_in(folder.path(), &[])).is_err());
    }
}
