//! The root endpoint: matches the hot routes itself and hands every other request on.
//!
//! Routing through poem-openapi costs about a third of a small request. Both ways call the same handlers;
//! a test holds that they answer alike.

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{Endpoint, Request, Response};

use super::ApiState;
use super::body::Incoming;
use super::caller::Caller;
use super::problem::Problem;
use super::settle::Settle;
use super::{items, settle};

/// Serves hot routes, and all others through the documented routes.
pub(crate) struct Root {
    state: Arc<ApiState>,
    slow: BoxEndpoint<'static, Response>,
}

impl Root {
    /// A root over the documented routes `slow`.
    pub(crate) fn new(state: Arc<ApiState>, slow: BoxEndpoint<'static, Response>) -> Self {
        Self { state, slow }
    }
}

/// A hot route and the names in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hot<'a> {
    /// Enqueue to a topic.
    Enqueue(&'a str, &'a str),
    /// Dequeue from a topic.
    Dequeue(&'a str, &'a str),
    /// Dequeue from several topics.
    DequeueMany(&'a str),
    /// Settle leases.
    Settle(Settle),
}

impl<'a> Hot<'a> {
    /// The hot route that `POST path` is, if it is one.
    pub(crate) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        if let Some(settle) = Settle::of(rest) {
            return Some(Self::Settle(settle));
        }
        let mut parts = rest.strip_prefix("namespaces/")?.split('/');
        let namespace = parts.next()?;
        let route = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("topics", Some(topic), Some("enqueue"), None) => Self::Enqueue(namespace, topic),
            ("topics", Some(topic), Some("dequeue"), None) => Self::Dequeue(namespace, topic),
            ("dequeue", None, None, None) => Self::DequeueMany(namespace),
            _ => return None,
        };
        // Escapes are left to the router, which undoes them.
        (!path.contains('%') && !path.contains("//")).then_some(route)
    }
}

/// Whether a request is carried to its end though its caller hangs up: it changes how topics and tenants are kept.
/// What hands items in or out is not: a waiting consumer that went away gets nothing.
pub(crate) fn outlives_its_caller(method: &Method, path: &str) -> bool {
    let word = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match *method {
        Method::PUT | Method::DELETE => true,
        Method::POST => Settle::of(word).is_none() && !matches!(word, "enqueue" | "dequeue"),
        _ => false,
    }
}

impl Settle {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "ack" => Self::Ack,
            "nack" => Self::Nack,
            "extend" => Self::Extend,
            "release" => Self::Release,
            "reject" => Self::Reject,
            _ => return None,
        })
    }
}

impl Endpoint for Root {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        if request.method() == Method::POST && Hot::of(request.uri().path()).is_some() {
            let caller = Caller::of(&request);
            let body = request.take_body();
            let incoming = Incoming::new(request.headers(), body);
            return Ok(self.answer(request.uri().path(), caller, incoming).await?);
        }
        self.slow.call(request).await
    }
}

impl Root {
    async fn answer(&self, path: &str, caller: Caller, incoming: Incoming) -> Result<Response, Problem> {
        let state = &*self.state;
        match Hot::of(path) {
            Some(Hot::Enqueue(ns, topic)) => items::enqueue(state, &caller, (ns, topic), incoming).await,
            Some(Hot::Dequeue(ns, topic)) => items::dequeue(state, &caller, (ns, topic), incoming).await,
            Some(Hot::DequeueMany(ns)) => items::dequeue_many(state, &caller, ns, incoming).await,
            Some(Hot::Settle(route)) => settle::settle(state, &caller, route, incoming).await,
            None => Err(Problem::internal("a hot route vanished between two looks")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_told_from_what_may_be_cut() {
        let path = "/v1/namespaces/a/topics/b";
        for (method, rest) in [
            (Method::PUT, ""),
            (Method::DELETE, "/dead"),
            (Method::POST, "/pause"),
            (Method::POST, "/dead/redrive"),
        ] {
            assert!(outlives_its_caller(&method, &format!("{path}{rest}")), "{rest}");
        }
        for path in [
            "/v1/namespaces/a%2e/topics/b/dequeue/",
            "/v1/namespaces/a/dequeue",
            "/v1/ack",
            "/enqueue",
        ] {
            assert!(!outlives_its_caller(&Method::POST, path), "{path}");
        }
        assert!(!outlives_its_caller(&Method::GET, path));
    }

    #[test]
    fn hot_paths_are_told_from_others() {
        let enqueue = "/v1/namespaces/a/topics/b/enqueue";
        assert_eq!(Hot::of(enqueue), Some(Hot::Enqueue("a", "b")));
        assert_eq!(Hot::of("/v1/namespaces/a/dequeue"), Some(Hot::DequeueMany("a")));
        assert_eq!(Hot::of("/v1/nack"), Some(Hot::Settle(Settle::Nack)));
        for other in [
            "/v1/namespaces/a/topics/b/enqueue/",
            "/v1/namespaces/a/topics/b/pause",
            "/v1/namespaces/a%2fb/topics/b/enqueue",
            "/v1/namespaces//topics/b/enqueue",
            "/v1/acks",
            "/ack",
            "/",
        ] {
            assert_eq!(Hot::of(other), None, "{other}");
        }
    }
}
