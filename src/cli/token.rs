//! `mqueue token`: mints tokens with the secret at hand.

use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::settings::ConfigArgs;
use super::{CliError, output};
use crate::clock::Clock;
use crate::config::{Config, JwtSecret};
use crate::model::Namespace;
use crate::tenant::{MintClaims, Scope, mint};

/// How long a token that a client command mints for itself lasts.
const OWN_TTL: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Namespace the token is for; may be repeated, `*` is all of them
    #[arg(long, short, value_name = "NAME", default_value = "*")]
    namespace: Vec<String>,
    /// What it allows: enqueue, dequeue, admin, hooks; may be repeated [default: all]
    #[arg(long, short, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// Who holds it
    #[arg(long, value_name = "NAME", default_value = "cli")]
    subject: String,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    ttl: Duration,
}

/// Prints a token and nothing else, so that `$(mqueue token)` works.
pub(super) fn run(args: &TokenArgs) -> Result<(), CliError> {
    if args.ttl < Duration::from_secs(1) {
        return Err(CliError::Usage("--ttl must be at least 1s".to_owned()));
    }
    let config = args.config.load(Vec::new())?;
    let secret = JwtSecret::obtain(&config)?;
    let scopes = if args.scope.is_empty() {
        Scope::ALL.to_vec()
    } else {
        args.scope.clone()
    };
    let claims = MintClaims {
        subject: args.subject.clone(),
        namespaces: namespaces(&args.namespace)?,
        scopes,
        audience: config.live.auth.audience.clone(),
        issuer: config.live.auth.issuer.clone(),
    };
    output::line(&sign(&secret, &claims, args.ttl)?)
}

/// A short-lived token for a client command, when the secret is at hand: configured here, or generated
/// into the data directory.
pub(super) fn for_own_use(config: &Config) -> Result<Option<SecretString>, CliError> {
    let Some(secret) = JwtSecret::find(config)? else {
        return Ok(None);
    };
    let claims = MintClaims {
        subject: "cli".to_owned(),
        namespaces: None,
        scopes: Scope::ALL.to_vec(),
        audience: config.live.auth.audience.clone(),
        issuer: config.live.auth.issuer.clone(),
    };
    sign(&secret, &claims, OWN_TTL).map(|token| Some(token.into()))
}

fn sign(secret: &JwtSecret, claims: &MintClaims, ttl: Duration) -> Result<String, CliError> {
    let token = mint(secret.bytes(), claims, Clock::system().now(), ttl);
    token.map_err(|error| CliError::failed("cannot mint a token", error))
}

fn namespaces(names: &[String]) -> Result<Option<Vec<Namespace>>, CliError> {
    if names.iter().any(|name| name == "*") {
        return Ok(None);
    }
    let parse = |name: &String| {
        name.parse()
            .map_err(|error| CliError::Usage(format!("--namespace {name}: {error}")))
    };
    names.iter().map(parse).collect::<Result<_, _>>().map(Some)
}
