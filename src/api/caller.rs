//! Who sent a request: its token and its address, before anything else of it is looked at.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use poem::http::{HeaderValue, header};
use poem::web::RemoteAddr;
use poem::{Addr, Request};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::ApiState;
use super::layers::REQUEST_ID;
use super::problem::{Code, Problem};
use crate::model::{Author, Namespace, TopicKey, TopicName};
use crate::queue::Requester;
use crate::telemetry::traces::TraceContext;
use crate::tenant::{Authorised, Denied, Principal, Scope};

/// The name of the security scheme in the OpenAPI document.
const SCHEME: &str = "bearer";

/// Where a request came from and the token it carries, unverified.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    authorization: Option<HeaderValue>,
    peer: IpAddr,
    forwarded: bool,
    trace: Option<TraceContext>,
    request_id: Option<HeaderValue>,
}

impl Caller {
    /// The sender of `request`.
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            authorization: request.headers().get(header::AUTHORIZATION).cloned(),
            peer: peer(request.remote_addr()),
            request_id: request.headers().get(REQUEST_ID).cloned(),
            forwarded: request.headers().contains_key(header::FORWARDED)
                || request.headers().contains_key("x-forwarded-for"),
            trace: request.extensions().get::<TraceContext>().cloned(),
        }
    }

    /// Whether the request was made on this machine, and not passed on by a proxy on it.
    pub(crate) fn is_local(&self) -> bool {
        self.peer.to_canonical().is_loopback() && !self.forwarded
    }

    /// Who acts, as the log of changes tells it.
    pub(crate) fn author(&self, authorised: &Authorised) -> Author {
        self.author_of(authorised.subject())
    }

    /// The same for a token's `subject`.
    pub(crate) fn author_of(&self, subject: &Arc<str>) -> Author {
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        Author {
            subject: subject.clone(),
            request_id: id.map(Into::into),
            peer: Some(self.peer.to_canonical().to_string().into()),
        }
    }

    /// Whether there is a token to look at.
    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// The trace that what the request brings belongs to: below this node's own span where there is one.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        TraceContext::current().or_else(|| self.trace.clone())
    }

    /// Who the token speaks for.
    ///
    /// # Errors
    /// 401, or 429 once too many tokens from this address were refused.
    pub(crate) fn principal(&self, state: &ApiState) -> Result<Arc<Principal>, Problem> {
        let header = self.authorization.as_ref().map(HeaderValue::as_bytes);
        state.auth.authenticate(header).map_err(|error| {
            state.metrics.auth_failure();
            match state.failures.count(self.peer) {
                Ok(()) => error.into(),
                Err(wait) => Problem::new(
                    Code::TooManyFailures,
                    "too many tokens from this address were refused; wait, then send a valid one",
                )
                .retry_after(wait),
            }
        })
    }

    /// Who runs the servers: an administrator of every namespace.
    ///
    /// # Errors
    /// As [`Caller::principal`]; 403 when the token lacks `admin` or does not open every namespace.
    pub(crate) fn operator(&self, state: &ApiState) -> Result<Arc<Principal>, Problem> {
        let principal = self.principal(state)?;
        principal.require(Scope::Admin)?;
        if !principal.opens_everything() {
            return Err(Denied::Everything.into());
        }
        Ok(principal)
    }

    /// The right to act with `scope` in the namespace named `namespace`.
    ///
    /// # Errors
    /// As [`Caller::principal`]; 400 for a text that is no name, 403 when the token does not reach it.
    pub(crate) fn enter(
        &self,
        state: &ApiState,
        namespace: &str,
        scope: Scope,
    ) -> Result<Authorised, Problem> {
        let principal = self.principal(state)?;
        Ok(principal.authorise(&namespace_name(namespace)?, scope)?)
    }

    /// The key of a topic in which the token allows `scope`.
    ///
    /// # Errors
    /// As [`Caller::enter`].
    pub(crate) fn topic(
        &self,
        state: &ApiState,
        (namespace, topic): (&str, &str),
        scope: Scope,
    ) -> Result<(Authorised, TopicKey), Problem> {
        let authorised = self.enter(state, namespace, scope)?;
        let key = authorised.topic(topic_name(topic)?);
        Ok((authorised, key))
    }

    /// The right to look at the namespace named `namespace`.
    ///
    /// # Errors
    /// As [`Caller::enter`].
    pub(crate) fn look(&self, state: &ApiState, namespace: &str) -> Result<Authorised, Problem> {
        let principal = self.principal(state)?;
        Ok(principal.authorise_reading(&namespace_name(namespace)?)?)
    }

    /// The key of a topic the token may look at.
    ///
    /// # Errors
    /// As [`Caller::enter`].
    pub(crate) fn look_at(
        &self,
        state: &ApiState,
        namespace: &str,
        topic: &str,
    ) -> Result<TopicKey, Problem> {
        let authorised = self.look(state, namespace)?;
        Ok(authorised.topic(topic_name(topic)?))
    }
}

fn peer(remote: &RemoteAddr) -> IpAddr {
    match &remote.0 {
        Addr::SocketAddr(address) => address.ip(),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// `text` as a namespace's name.
///
/// # Errors
/// 400 when it is none.
pub(crate) fn namespace_name(text: &str) -> Result<Namespace, Problem> {
    text.parse()
        .map_err(|e: crate::model::NameError| Problem::field(Code::InvalidName, "namespace", e.to_string()))
}

/// Who acts, as hooks are told.
pub(crate) fn requester(authorised: &Authorised) -> Requester {
    Requester {
        subject: authorised.subject().clone(),
        scopes: authorised.words().clone(),
    }
}

/// `text` as a topic's name.
///
/// # Errors
/// 400 when it is none.
pub(crate) fn topic_name(text: &str) -> Result<TopicName, Problem> {
    text.parse()
        .map_err(|e: crate::model::NameError| Problem::field(Code::InvalidName, "topic", e.to_string()))
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JWT with exp, namespaces (a list of names, or *) and scope (enqueue, dequeue, admin, hooks).",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut poem::RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request))
    }
}
