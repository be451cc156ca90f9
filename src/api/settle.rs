//! Ack, nack, extend, release and reject: what consumers say of the items they hold.

use poem::Response;
use serde::Deserialize;

use super::ApiState;
use super::body::{Incoming, parse};
use super::caller::{Caller, requester};
use super::items::{count, hand_out, lease, wait};
use super::problem::{Code, Problem};
use super::read_items::Text;
use super::reply::json_bytes;
use super::write_items;
use crate::model::{Namespace, TopicName, limits};
use crate::queue::{DequeueRequest, LeaseAction, SettleResult, Verb};
use crate::tenant::{Principal, Scope};

/// Which of the five routes was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settle {
    /// `POST /v1/ack`.
    Ack,
    /// `POST /v1/nack`.
    Nack,
    /// `POST /v1/extend`.
    Extend,
    /// `POST /v1/release`.
    Release,
    /// `POST /v1/reject`.
    Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleBody<'a> {
    #[serde(borrow)]
    leases: Vec<LeaseIn<'a>>,
    #[serde(default)]
    then_dequeue: Option<ThenDequeue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseIn<'a> {
    #[serde(borrow)]
    lease_id: Text<'a>,
    #[serde(default)]
    delay_ms: Option<i64>,
    #[serde(default, borrow)]
    error: Option<Text<'a>>,
    #[serde(default)]
    lease_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThenDequeue {
    namespace: Namespace,
    topic: TopicName,
    #[serde(default)]
    max: Option<u32>,
    #[serde(default)]
    wait_ms: u32,
    #[serde(default)]
    lease_ms: Option<u32>,
}

/// The handler of all five routes.
///
/// A lease id that was forged, or belongs to a namespace the token does not open, is answered as one
/// that was lost: the caller learns nothing of it, and the rest of the batch is done.
pub(crate) async fn settle(
    state: &ApiState,
    caller: &Caller,
    route: Settle,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let principal = caller.principal(state)?;
    principal.require(Scope::Dequeue)?;
    let bytes = incoming.json(state.limits.small()).await?;
    let body: SettleBody<'_> = parse(&bytes)?;
    let then = match (body.then_dequeue, route) {
        (None, _) => None,
        (Some(then), Settle::Ack) => Some(next_request(&principal, then)?),
        (Some(_), _) => {
            let detail = "only ack takes it; dequeue with a call of its own";
            return Err(Problem::field(Code::InvalidField, "then_dequeue", detail));
        }
    };
    let least = usize::from(then.is_none());
    if !(least..=limits::BATCH_ITEMS_MAX).contains(&body.leases.len()) {
        let detail = format!("must hold {least} to {} leases", limits::BATCH_ITEMS_MAX);
        return Err(Problem::field(Code::InvalidField, "leases", detail));
    }
    let results = settle_leases(state, &principal, route, &body.leases).await?;
    let handed_out = match then {
        None => None,
        // The acks are done whatever comes now: a failed dequeue must not make them look undone.
        Some((namespace, request)) => Some(hand_out(state, &namespace, request).await.unwrap_or_default()),
    };
    Ok(json_bytes(write_items::settled(&results, handed_out.as_ref())))
}

async fn settle_leases(
    state: &ApiState,
    principal: &Principal,
    route: Settle,
    leases: &[LeaseIn<'_>],
) -> Result<Vec<Option<SettleResult>>, Problem> {
    let mut actions: Vec<LeaseAction> = Vec::with_capacity(leases.len());
    let mut places = Vec::with_capacity(leases.len());
    for (index, given) in leases.iter().enumerate() {
        let verb = route.verb(index, given)?;
        let near = actions.last().map(|action| &action.lease.topic);
        let opened = state.queue.open_lease_like(&given.lease_id.0, near);
        if let Some(lease) = opened
            && principal.opens(lease.topic.namespace())
        {
            actions.push(LeaseAction { lease, verb });
            places.push(index);
        }
    }
    let mut results = vec![None; leases.len()];
    if !actions.is_empty() {
        let settled = state.queue.settle(actions).await?;
        for (place, result) in places.into_iter().zip(settled) {
            results[place] = Some(result);
        }
    }
    Ok(results)
}

fn next_request(principal: &Principal, then: ThenDequeue) -> Result<(Namespace, DequeueRequest), Problem> {
    let authorised = principal.authorise(&then.namespace, Scope::Dequeue)?;
    let max = count("then_dequeue.max", then.max)?;
    let request = DequeueRequest {
        topics: vec![(authorised.topic(then.topic), max)],
        max_total: max,
        wait_ms: wait(then.wait_ms)?,
        lease_ms: lease("then_dequeue.lease_ms", then.lease_ms)?,
        request_id: None,
        consumer: requester(&authorised),
    };
    Ok((authorised.namespace().clone(), request))
}

impl Settle {
    fn verb(self, index: usize, given: &LeaseIn<'_>) -> Result<Verb, Problem> {
        let refuse = |field: &str, detail: String| {
            Err(Problem::field(
                Code::InvalidField,
                format!("leases[{index}].{field}"),
                detail,
            ))
        };
        let takes_delay = matches!(self, Self::Nack | Self::Release);
        let takes_error = matches!(self, Self::Nack | Self::Reject);
        if given.delay_ms.is_some() && !takes_delay {
            return refuse("delay_ms", "only nack and release take it".to_owned());
        }
        if given.error.is_some() && !takes_error {
            return refuse("error", "only nack and reject take it".to_owned());
        }
        if given.lease_ms.is_some() && self != Self::Extend {
            return refuse("lease_ms", "only extend takes it".to_owned());
        }
        if given
            .delay_ms
            .is_some_and(|ms| !(0..=limits::DURATION_MS_MAX).contains(&ms))
        {
            return refuse(
                "delay_ms",
                format!("must be between 0 and {}", limits::DURATION_MS_MAX),
            );
        }
        let error = given.error.as_ref().map(|text| cut(&text.0).into());
        Ok(match self {
            Self::Ack => Verb::Ack,
            Self::Nack => Verb::Nack {
                delay_ms: given.delay_ms,
                error,
            },
            Self::Extend => Verb::Extend {
                lease_ms: lease(&format!("leases[{index}].lease_ms"), given.lease_ms)?,
            },
            Self::Release => Verb::Release {
                delay_ms: given.delay_ms,
            },
            Self::Reject => Verb::Reject { error },
        })
    }
}

/// An error text no longer than is kept of one, cut between characters.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= limits::ERROR_BYTES_MAX {
        return text;
    }
    let end = (0..=limits::ERROR_BYTES_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(route: Settle, lease: &str) -> Result<Verb, String> {
        let body = format!("{{\"leases\":[{lease}]}}");
        let body: SettleBody<'_> = parse(body.as_bytes()).map_err(|p| p.to_string())?;
        route.verb(0, &body.leases[0]).map_err(|p| p.to_string())
    }

    #[test]
    fn each_verb_takes_its_own_fields_only() {
        let nack = verb(Settle::Nack, r#"{"lease_id":"x","delay_ms":5,"error":"e"}"#).unwrap();
        assert_eq!(
            nack,
            Verb::Nack {
                delay_ms: Some(5),
                error: Some("e".into())
            }
        );
        assert_eq!(verb(Settle::Ack, r#"{"lease_id":"x"}"#), Ok(Verb::Ack));
        for (route, lease, start) in [
            (
                Settle::Ack,
                r#"{"lease_id":"x","delay_ms":5}"#,
                "invalid_field: leases[0].delay_ms",
            ),
            (
                Settle::Extend,
                r#"{"lease_id":"x","error":"e"}"#,
                "invalid_field: leases[0].error",
            ),
            (
                Settle::Nack,
                r#"{"lease_id":"x","lease_ms":5000}"#,
                "invalid_field: leases[0].lease_ms",
            ),
            (
                Settle::Extend,
                r#"{"lease_id":"x","lease_ms":5}"#,
                "invalid_field: leases[0].lease_ms: must be",
            ),
            (
                Settle::Nack,
                r#"{"lease_id":"x","delay_ms":-1}"#,
                "invalid_field: leases[0].delay_ms: must be",
            ),
            (Settle::Ack, r#"{"lease":"x"}"#, "malformed_body: "),
            (Settle::Ack, r#"{}"#, "malformed_body: "),
        ] {
            let error = verb(route, lease).unwrap_err();
            assert!(error.starts_with(start), "{lease} gave {error}");
        }
    }

    #[test]
    fn long_errors_are_cut_between_characters() {
        let long = "é".repeat(limits::ERROR_BYTES_MAX);
        assert_eq!(cut(&long).len(), limits::ERROR_BYTES_MAX);
        let odd = format!("a{long}");
        assert_eq!(cut(&odd).len(), limits::ERROR_BYTES_MAX - 1);
        assert_eq!(cut("short"), "short");
    }
}
