//! The HTTP client of the commands that talk to a server.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::error::ProblemAnswer;
use super::settings::ConfigArgs;
use super::{CliError, token};
use crate::model::{Namespace, TopicName};

/// Longer than any long poll.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than the server keeps a stream of events open.
const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest answer that is read, in bytes: a full batch of the largest items.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Flags of every command that talks to a server.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// The server
    #[arg(long, env = "MQUEUE_URL", default_value = "http://127.0.0.1:8080")]
    pub(super) url: Url,
    /// Bearer token [default: minted from the data directory when the server is on this machine]
    #[arg(long, env = "MQUEUE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<SecretString>,
    /// The namespace
    #[arg(long, short, env = "MQUEUE_NAMESPACE", default_value = "default")]
    pub(super) namespace: Namespace,
    /// Accept any certificate, as for --tls-self-signed
    #[arg(long)]
    pub(super) insecure: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

impl ClientArgs {
    /// The path of a topic's resource: `/v1/namespaces/{ns}/topics/{topic}{rest}`. Names need no
    /// escaping in paths.
    pub(super) fn topic_path(&self, topic: &TopicName, rest: &str) -> String {
        format!("/v1/namespaces/{}/topics/{topic}{rest}", self.namespace)
    }

    /// The token to use: the given one, else one minted for this machine.
    pub(super) fn bearer(&self) -> Result<Option<SecretString>, CliError> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        // A token that opens the server here has no business anywhere else.
        if !is_local(&self.url) {
            return Ok(None);
        }
        match self.config.load(Vec::new()) {
            Ok(config) => token::for_own_use(&config),
            Err(CliError::Config(error)) => {
                eprintln!("note: going without a token, the configuration here is wrong: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Sends requests and turns problem answers into errors.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

impl Client {
    pub(super) fn new(args: &ClientArgs) -> Result<Self, CliError> {
        Ok(Self {
            http: http(&args.url, args.insecure, TIMEOUT)?,
            base: args.url.clone(),
            token: args.bearer()?,
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::GET, path)?).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::POST, path)?.json(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(self.request(Method::PUT, path)?.json(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.send(self.request(Method::DELETE, path)?).await
    }

    /// Changes something that is as it was at `revision`, or that is not there yet.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        revision: Option<u64>,
    ) -> Result<Value, CliError> {
        let request = self.request(method, path)?;
        let mut request = match revision {
            Some(revision) => request.header(header::IF_MATCH, format!("\"{revision}\"")),
            None => request.header(header::IF_NONE_MATCH, "*"),
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// Reads server-sent events until the server ends the stream, and gives the data of each to `take`.
    pub(super) async fn follow(
        &self,
        path: &str,
        mut take: impl FnMut(&str) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let request = self.request(Method::GET, path)?.timeout(STREAM_TIMEOUT);
        let mut answer = self.opened(request).await?;
        let mut text = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| unreachable(&self.base, &error))?
        {
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(data) = line.strip_prefix("data:") {
                    take(data.trim())?;
                }
            }
            if text.len() > ANSWER_BYTES_MAX {
                return Err(CliError::failed("the answer", "is too large"));
            }
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CliError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| CliError::failed("the URL is wrong", error))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let bytes = self.read(self.opened(request).await?).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| CliError::failed("the answer is not MQueue's", error))
    }

    /// The answer to a request, unless it is a problem.
    async fn opened(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(&self.base, &error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = self.read(answer).await?;
        let mut problem: ProblemAnswer = serde_json::from_slice(&bytes).unwrap_or_default();
        problem.status = status.as_u16();
        if problem.title.is_empty() {
            problem.title = status.canonical_reason().unwrap_or("problem").to_owned();
        }
        Err(CliError::Problem(problem))
    }

    async fn read(&self, mut answer: Response) -> Result<Vec<u8>, CliError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| unreachable(&self.base, &error))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CliError::failed("the answer", "is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// An HTTP client for `url`.
pub(super) fn http(url: &Url, insecure: bool, timeout: Duration) -> Result<reqwest::Client, CliError> {
    let mut builder = reqwest::Client::builder()
        .timeout(timeout)
        .tls_danger_accept_invalid_certs(insecure)
        // A redirect would carry the token to wherever it points.
        .redirect(reqwest::redirect::Policy::none());
    if is_local(url) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| CliError::failed("cannot make an HTTP client", error))
}

/// The error for a server that did not answer, with the innermost cause, which names the reason.
pub(super) fn unreachable(url: &Url, error: &reqwest::Error) -> CliError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    CliError::Unreachable {
        url: url.to_string(),
        reason: if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            cause.to_string()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tokens_are_minted_for_this_machine_only() {
        for (url, local) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:1", true),
            ("https://localhost", true),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1:8080", false),
        ] {
            assert_eq!(is_local(&url.parse().unwrap()), local, "{url}");
        }
    }
}
